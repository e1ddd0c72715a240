//! What duplicates and merging add to the document.

use crm_core::module::CompiledModule;
use crm_core::record::{MAX_MERGED, Query};
use serde_json::{Map, Value, json};

use super::{Words, answer, body, id_parameter, if_match, versioned};
use crate::modules::BASE;
use crate::openapi::field::reference;
use crate::openapi::write;

pub(super) fn paths(words: &Words<'_>, module: &CompiledModule) -> Map<String, Value> {
    let path = format!("{BASE}{}", words.plural);
    let mut paths = Map::from_iter([(
        format!("{path}/{{id}}/merge"),
        json!({"post": merge(words)}),
    )]);
    if !module.spec().duplicates.is_empty() {
        paths.extend([
            (
                format!("{path}/duplicates"),
                json!({"get": list(words, module)}),
            ),
            (
                format!("{path}/{{id}}/duplicates"),
                json!({"get": of(words)}),
            ),
        ]);
    }
    paths
}

fn list(words: &Words<'_>, module: &CompiledModule) -> Value {
    let keys = module.spec().duplicates.iter().map(|key| {
        let names: Vec<&str> = key.iter().map(|name| name.as_str()).collect();
        names.join(" + ")
    });
    let keys: Vec<String> = keys.collect();
    let id = format!("list_duplicate_{}", words.plural);
    let summary = format!("List groups of duplicate {}", words.plural);
    let notes = format!(
        "Records that agree in all fields of a key, texts without regard to case: {}. ",
        keys.join("; ")
    );
    let mut operation = words.operation("read", id, summary, &notes);
    operation["parameters"] = json!([
        {
            "name": "limit", "in": "query", "required": false,
            "description": "Most groups of the page.",
            "schema": {
                "type": "integer", "format": "int32",
                "minimum": 1, "maximum": 100, "default": Query::DEFAULT_LIMIT,
            },
        },
        {
            "name": "cursor", "in": "query", "required": false,
            "description": "The `next_cursor` of the page before.", "schema": {"type": "string"},
        },
    ]);
    let schema = format!("{}DuplicatesList", words.record());
    operation["responses"] = json!({"200": answer("A page of groups.", &schema)});
    operation
}

fn of(words: &Words<'_>) -> Value {
    let id = format!("list_duplicates_of_{}", words.singular);
    let summary = format!("List the duplicates of a {}", words.singular);
    let notes = "A group for each key by which there are others, without the record itself. ";
    let mut operation = words.operation("read", id, summary, notes);
    operation["parameters"] = json!([id_parameter()]);
    let schema = format!("{}DuplicatesOf", words.record());
    operation["responses"] = json!({"200": answer("The groups.", &schema)});
    operation
}

fn merge(words: &Words<'_>) -> Value {
    let id = format!("merge_{}", words.plural);
    let summary = format!("Merge {} into one", words.plural);
    let notes = format!(
        "The record takes the values it lacks from the others, in their order, and their tags and lists of references; \
        `take` names the record that a field is taken from instead. Every reference to the others \
        points to it afterwards, and they are deleted, all in one transaction. Also needs \
        `{0}.delete` and `{0}.read`. ",
        words.plural
    );
    let mut operation = words.operation("update", id, summary, &notes);
    let mut version = if_match();
    if let Some(version) = version.as_object_mut() {
        version.remove("example");
    }
    operation["parameters"] = json!([id_parameter(), version, write::idempotency_key()]);
    operation["requestBody"] = body(&format!("{}Merge", words.record()));
    operation["responses"] = json!({
        "200": versioned("The record as it is now.", &words.record()),
    });
    write::replayed(&mut operation);
    operation
}

pub(super) fn schemas(words: &Words<'_>, module: &CompiledModule) -> Map<String, Value> {
    let record = words.record();
    let merge = json!({
        "type": "object",
        "description": "What is merged into a record.",
        "required": ["from"],
        "properties": {
            "from": {
                "type": "array", "minItems": 1, "maxItems": MAX_MERGED,
                "description": "The records that become part of it.",
                "items": {"type": "string", "format": "uuid"},
            },
            "take": {
                "type": "object",
                "description": "Fields, each with the id of the record that its value is taken from.",
                "additionalProperties": {"type": "string", "format": "uuid"},
            },
            "versions": {
                "type": "object",
                "description": "Ids of `from`, each with the version it must have.",
                "additionalProperties": {"type": "integer", "format": "int64"},
            },
        },
        "additionalProperties": false,
    });
    let mut schemas = Map::from_iter([(format!("{record}Merge"), merge)]);
    if module.spec().duplicates.is_empty() {
        return schemas;
    }
    let group = json!({
        "type": "object",
        "description": "Records that share the values of a key.",
        "required": ["key", "count", "records"],
        "properties": {
            "key": {
                "type": "object", "additionalProperties": true,
                "description": "The shared values, as they compare.",
            },
            "count": {
                "type": "integer", "format": "int64", "description": "How many share them.",
            },
            "records": {
                "type": "array", "maxItems": 20, "items": reference(&record),
                "description": "The oldest of them.",
            },
        },
        "additionalProperties": false,
    });
    let groups = json!({"type": "array", "items": reference(&format!("{record}Duplicates"))});
    let list = json!({
        "type": "object",
        "description": "A page of groups of duplicates.",
        "required": ["data", "next_cursor"],
        "properties": {
            "data": groups,
            "next_cursor": {
                "type": "string", "nullable": true,
                "description": "The `cursor` of the next page; null at the end.",
            },
        },
        "additionalProperties": false,
    });
    let of = json!({
        "type": "object",
        "description": "The duplicates of a record.",
        "required": ["data"],
        "properties": {"data": groups},
        "additionalProperties": false,
    });
    schemas.extend([
        (format!("{record}Duplicates"), group),
        (format!("{record}DuplicatesList"), list),
        (format!("{record}DuplicatesOf"), of),
    ]);
    schemas
}
