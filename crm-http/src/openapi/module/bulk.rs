//! What bulk writes add to the document.

use crm_core::module::CompiledModule;
use crm_core::record::MAX_MATCHES;
use serde_json::{Map, Value, json};

use super::{Words, answer, body};
use crate::modules::BASE;
use crate::openapi::field::reference;
use crate::openapi::write;

pub(super) fn paths(words: &Words<'_>) -> Map<String, Value> {
    let path = format!("{BASE}{}", words.plural);
    let operation = |verb: &str, name: &str| {
        let id = format!("bulk_{verb}_{}", words.plural);
        let summary = format!("{name} all {} that match", words.plural);
        let notes = format!(
            "All of them in one transaction, each with its version step, audit row and event: the \
            first refusal names its record and undoes the rest. Whoever may {verb} own records only \
            reaches those. More than {MAX_MATCHES} matches are refused as `too_many_matches`, \
            another number than expected as `count_mismatch`. Also needs `{}.read`. ",
            words.plural
        );
        let mut operation = words.operation(verb, id, summary, &notes);
        operation["parameters"] = json!([write::idempotency_key()]);
        operation["requestBody"] = body(&format!("{}Bulk{name}", words.record()));
        operation["responses"] = json!({
            "200": answer("How many matched, and how many changed.", &result_name(words)),
        });
        write::replayed(&mut operation);
        json!({"post": operation})
    };
    Map::from_iter([
        (format!("{path}/bulk-update"), operation("update", "Update")),
        (format!("{path}/bulk-delete"), operation("delete", "Delete")),
    ])
}

fn result_name(words: &Words<'_>) -> String {
    format!("{}BulkResult", words.record())
}

pub(super) fn schemas(words: &Words<'_>, module: &CompiledModule) -> Map<String, Value> {
    let record = words.record();
    let filter = reference(&format!("{record}Filter"));
    let expected = json!({
        "type": "integer", "format": "int64", "minimum": 0,
        "description": "How many records match; nothing is done when it is another number.",
    });
    // The records of a time before all records: an example that changes nothing.
    let none = json!({"created_at": {"lt": "2000-01-01T00:00:00Z"}});
    let mut update = json!({
        "type": "object",
        "description": "A change of all records that match.",
        "required": ["filter", "set"],
        "properties": {
            "filter": filter,
            "set": reference(&format!("{record}Update")),
            "expected_count": expected,
        },
        "additionalProperties": false,
    });
    let first = module.fields().iter().find(|field| !field.required);
    if let Some(field) = first {
        update["example"] = json!({"filter": none, "set": {field.name.as_str(): null}});
    }
    let delete = json!({
        "type": "object",
        "description": "The removal of all records that match.",
        "required": ["filter"],
        "properties": {"filter": filter, "expected_count": expected},
        "additionalProperties": false,
        "example": {"filter": none, "expected_count": 0},
    });
    let count = |words: &str| json!({"type": "integer", "format": "int64", "description": words});
    let result = json!({
        "type": "object",
        "description": "What a bulk write did.",
        "required": ["matched", "changed"],
        "properties": {
            "matched": count("Records that match and that the caller may write."),
            "changed": count("Those of them that are different now, or gone."),
        },
        "additionalProperties": false,
    });
    Map::from_iter([
        (format!("{record}BulkUpdate"), update),
        (format!("{record}BulkDelete"), delete),
        (result_name(words), result),
    ])
}
