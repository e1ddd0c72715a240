//! What writes and conditional reads add to the document.

use serde_json::{Value, json};

pub(super) fn if_none_match() -> Value {
    json!({
        "name": "If-None-Match", "in": "header", "required": false,
        "description": "Versions that the client has, as their `ETag`: one of them is answered 304, \
            unless something is expanded.",
        "schema": {"type": "string"}, "example": "\"3\"",
    })
}

pub(super) fn unchanged() -> Value {
    json!({
        "description": "The client has this version already.",
        "headers": {
            "ETag": {"description": "The version, in quotes.", "schema": {"type": "string"}},
        },
    })
}
