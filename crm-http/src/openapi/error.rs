//! The error answers of every operation, derived from what the operation declares.

use serde_json::{Map, Value, json};

use crate::problem::MEDIA_TYPE;

/// Adds the error answers an operation can give.
pub(super) fn declare(path: &str, method: &str, operation: &mut Map<String, Value>) {
    let declares = |key: &str| operation.contains_key(key);
    let parameters = operation.get("parameters").and_then(Value::as_array);
    let has_parameter = |key: &str, value: &str| {
        parameters
            .into_iter()
            .flatten()
            .any(|parameter| parameter[key] == value)
    };
    let takes_body = declares("requestBody");
    let makes_session = path.contains("/auth/");
    let bad_request = match takes_body || has_parameter("name", "Idempotency-Key") {
        true => {
            "The body is not JSON, or names a member twice, or a rule of the application refuses it; or \
             the query string is not UTF-8."
        }
        false => "The query string is not UTF-8.",
    };
    let applies = [
        ("400", true, bad_request),
        (
            "401",
            declares("security") || makes_session,
            "The credential is missing or not valid.",
        ),
        (
            "403",
            declares("security"),
            "The caller lacks the permission.",
        ),
        (
            "403",
            path.contains("/auth/register"),
            "Nobody registers here by themselves.",
        ),
        (
            "403",
            path.ends_with("/auth/login"),
            "Somebody else set the password: log in with a `new_password`.",
        ),
        (
            "404",
            has_parameter("in", "path")
                || path.ends_with("/access/explain")
                || declares("x-platform-permission"),
            "There is no such thing, or none the caller may see.",
        ),
        (
            "409",
            method != "get",
            "The state of the data does not allow it.",
        ),
        (
            "412",
            has_parameter("name", "If-Match"),
            "It has another version than `If-Match` says.",
        ),
        ("413", takes_body, "The body is larger than allowed."),
        (
            "415",
            takes_body,
            "The body has another media type than the operation reads.",
        ),
        ("422", true, "The input breaks a rule; see `errors`."),
        (
            "429",
            declares("security") || makes_session,
            "Too many requests; wait as `Retry-After` says.",
        ),
        ("500", true, "The server failed."),
        (
            "503",
            true,
            "The server is busy, or its database away; wait as `Retry-After` says.",
        ),
    ];
    let responses = operation
        .get_mut("responses")
        .and_then(Value::as_object_mut);
    let Some(responses) = responses else { return };
    for (status, _, description) in applies.iter().filter(|(_, applies, _)| *applies) {
        responses
            .entry(*status)
            .or_insert_with(|| response(description));
    }
}

pub(super) fn response(description: &str) -> Value {
    let mut response = json!({
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    });
    if description.contains("`Retry-After`") {
        let header =
            |words: &str, kind: &str| json!({"description": words, "schema": {"type": kind}});
        response["headers"] = json!({
            "Retry-After": header("Seconds to wait.", "integer"),
            "RateLimit": header("What is left of a limit, or of the one that refused: `r` requests, all of it in `t` s.", "string"),
            "RateLimit-Policy": header("The limit: `q` requests in `w` s.", "string"),
        });
    }
    response
}

/// The schemas of error bodies.
pub(super) fn schemas() -> Map<String, Value> {
    Map::from_iter([
        (
            "Problem".to_owned(),
            json!({
                "type": "object",
                "description": "What went wrong, after RFC 9457.",
                "required": ["type", "title", "status", "detail", "code", "request_id"],
                "properties": {
                    "type": {"type": "string", "description": "Always `about:blank`: see `code`."},
                    "title": {"type": "string", "description": "The HTTP status in words."},
                    "status": {"type": "integer", "format": "int32", "description": "The HTTP status."},
                    "detail": {"type": "string", "description": "What to do about it, for people."},
                    "code": {"type": "string", "description": "What went wrong, for programs; stable."},
                    "request_id": {"type": "string", "description": "The request, for the log."},
                    "mfa_token": {
                        "type": "string",
                        "description": "With the code `second_factor_required`: what finishes the login.",
                    },
                    "mfa_enrolled": {
                        "type": "boolean",
                        "description": "With it: whether there is a second factor; if not, set one up now.",
                    },
                    "mfa_passkey": {
                        "type": "boolean",
                        "description": "With it: whether a passkey of the user's will do.",
                    },
                    "password_score": {
                        "type": "integer", "minimum": 0, "maximum": 4,
                        "description": "With it: the strength of the password, as zxcvbn estimates it, where one was set.",
                    },
                    "run_id": {
                        "type": "string", "format": "uuid",
                        "description": "The run of a plugin that it is about, where it is about one.",
                    },
                    "errors": {
                        "type": "array",
                        "description": "Each refused field of the input, or its refused part.",
                        "items": {"$ref": "#/components/schemas/ProblemField"},
                    },
                },
                "example": {
                    "type": "about:blank", "title": "Unprocessable Entity", "status": 422,
                    "detail": "the input is not valid; see errors", "code": "validation_failed",
                    "request_id": "0193f0aa7b6c7c0d8f1e2d3c4b5a6978",
                    "errors": [{"pointer": "/email", "code": "invalid_email",
                        "detail": "must be an e-mail address such as ada@example.com"}],
                },
            }),
        ),
        (
            "ProblemField".to_owned(),
            json!({
                "type": "object",
                "description": "A refused field of the input.",
                "required": ["pointer", "code", "detail"],
                "properties": {
                    "pointer": {
                        "type": "string",
                        "description": "JSON Pointer (RFC 6901) into the body, or `/` and the name of a \
                            query parameter; empty for the whole body.",
                    },
                    "code": {"type": "string", "description": "Which rule, for programs; stable."},
                    "detail": {"type": "string", "description": "What to do about it, for people."},
                },
            }),
        ),
    ])
}
