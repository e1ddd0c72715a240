//! What writes and conditional reads add to the document.

use crm_core::module::CompiledModule;
use crm_core::record::MAX_WRITES;
use serde_json::{Value, json};

pub(super) fn if_none_match() -> Value {
    json!({
        "name": "If-None-Match", "in": "header", "required": false,
        "description": "Answers that the client has, as the `ETag` of a read: where what would be \
            answered is one of them, down to the fields that the caller may read, it is not sent \
            again (304).",
        "schema": {"type": "string"}, "example": "\"3-9f86d081884c7d65\"",
    })
}

pub(super) fn unchanged() -> Value {
    json!({
        "description": "The client has this answer already.",
        "headers": {
            "ETag": {"description": "The tag of the answer, in quotes.", "schema": {"type": "string"}},
        },
    })
}

fn unique(module: &CompiledModule) -> Vec<&str> {
    let fields = module.fields().iter().filter(|field| field.is_key());
    fields.map(|field| field.name.as_str()).collect()
}

/// The key of an upsert; a module without unique fields has none.
fn key(module: &CompiledModule) -> Value {
    let names = unique(module);
    let mut schema = json!({"type": "string"});
    if !names.is_empty() {
        schema["enum"] = json!(names);
    }
    schema
}

pub(super) fn by(module: &CompiledModule) -> Value {
    json!({
        "name": "by", "in": "query", "required": true,
        "description": "The unique field that the record is known by.", "schema": key(module),
    })
}

pub(super) fn batch(module: &CompiledModule, singular: &str) -> Value {
    let words =
        format!("The body of the {singular}: that of a create or an update; absent for a delete.");
    json!({
        "type": "object",
        "description": "Several writes.",
        "required": ["atomic", "operations"],
        "properties": {
            "atomic": {
                "type": "boolean",
                "description": "Whether all operations are done or none (true), or each that can be.",
            },
            "operations": {
                "type": "array", "minItems": 1, "maxItems": MAX_WRITES,
                "items": {
                    "type": "object",
                    "required": ["op"],
                    "properties": {
                        "op": {
                            "type": "string", "enum": ["create", "update", "delete", "upsert"],
                            "description": "What to do.",
                        },
                        "id": {
                            "type": "string", "format": "uuid",
                            "description": "The record to update or delete.",
                        },
                        "version": {
                            "type": "integer", "format": "int64",
                            "description": "The version that an update or delete is meant for.",
                        },
                        "by": key(module),
                        "values": {
                            "type": "object", "description": words, "additionalProperties": true,
                        },
                    },
                    "additionalProperties": false,
                },
            },
        },
        "additionalProperties": false,
    })
}

pub(super) fn batch_result(record: Value) -> Value {
    json!({
        "type": "object",
        "description": "What became of the operations of a batch.",
        "required": ["results"],
        "properties": {
            "results": {
                "type": "array",
                "items": {
                    "type": "object",
                    "description": "A record, nothing for a deleted one, or what went wrong.",
                    "required": ["status"],
                    "properties": {
                        "status": {
                            "type": "integer", "format": "int32",
                            "description": "The status that the operation alone would answer.",
                        },
                        "record": record,
                        "code": {"type": "string", "description": "As in a problem."},
                        "detail": {"type": "string", "description": "As in a problem."},
                        "errors": {
                            "type": "array",
                            "description": "Pointers begin at the operation.",
                            "items": {"$ref": "#/components/schemas/ProblemField"},
                        },
                    },
                    "additionalProperties": false,
                },
            },
        },
        "additionalProperties": false,
    })
}

pub(super) fn idempotency_key() -> Value {
    json!({
        "name": "Idempotency-Key", "in": "header", "required": false,
        "description": "A key of the caller's choice, new for each request. The same request sent \
            again with it within 24 hours is not done again but answered as before; another one is \
            refused as `idempotency_key_reused`. Refused requests leave their key free.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    })
}

/// Declares the header of repeated answers on all that an operation answers so far.
pub(super) fn replayed(operation: &mut Value) {
    let answers = operation["responses"].as_object_mut();
    for (status, answer) in answers.into_iter().flatten() {
        if status.starts_with('2') {
            answer["headers"]["Idempotency-Replayed"] = json!({
                "description": "`true` on an answer that was given before.",
                "schema": {"type": "string", "enum": ["true"]},
            });
        }
    }
}
