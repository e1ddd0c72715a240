//! The search for the records whose vectors resemble one most.

use crm_core::module::{CompiledModule, FieldType};
use crm_core::record::Nearest;
use serde_json::{Map, Value, json};

use super::{Words, answer, body};
use crate::modules::{BASE, has_vectors};
use crate::openapi::field::reference;

/// The path of the search, for modules that have vectors.
pub(super) fn paths(words: &Words<'_>, module: &CompiledModule) -> Map<String, Value> {
    if !has_vectors(module) {
        return Map::new();
    }
    let id = format!("nearest_{}", words.plural);
    let summary = format!("Find the nearest {}", words.plural);
    let notes = "The records whose vectors point most nearly the same way, by cosine similarity, \
        the most alike first. Every vector that the condition leaves is compared. ";
    let mut operation = words.operation("read", id, summary, notes);
    operation["requestBody"] = body(&format!("{}Nearest", words.record()));
    let list = format!("{}NearestList", words.record());
    operation["responses"] = json!({"200": answer("The records with their scores.", &list)});
    let path = format!("{BASE}{}/nearest", words.plural);
    Map::from_iter([(path, json!({"post": operation}))])
}

/// The bodies of the search.
pub(super) fn schemas(words: &Words<'_>, module: &CompiledModule) -> Vec<(String, Value)> {
    let mut vectors = Vec::new();
    for field in module.fields() {
        if let FieldType::Vector { dimensions } = field.kind {
            vectors.push((field.name.as_str(), dimensions));
        }
    }
    let Some(&(first, dimensions)) = vectors.first() else {
        return Vec::new();
    };
    let names: Vec<_> = vectors.iter().map(|(name, _)| *name).collect();
    let sizes = vectors.iter().map(|(_, dimensions)| *dimensions);
    let (least, most) = (sizes.clone().min(), sizes.max());
    let record = words.record();
    let ask = json!({
        "type": "object",
        "required": ["field", "vector"],
        "properties": {
            "field": {"type": "string", "enum": names, "description": "Whose vectors are compared."},
            "vector": {
                "type": "array", "minItems": least, "maxItems": most,
                "items": {"type": "number", "format": "float"},
                "description": "As many finite numbers as the field has, not all of them zero.",
            },
            "filter": {"allOf": [reference(&format!("{record}Filter"))], "nullable": true},
            "limit": {"type": "integer", "format": "int32", "minimum": 1,
                "maximum": Nearest::MAX_LIMIT, "default": Nearest::DEFAULT_LIMIT},
            "min_score": {"type": "number", "format": "double", "minimum": -1, "maximum": 1,
                "nullable": true, "description": "The least score of an answer."},
        },
        "additionalProperties": false,
        "example": {
            "field": first,
            "vector": vec![0.5; usize::try_from(dimensions).unwrap_or_default()],
            "limit": 5,
        },
    });
    let scored = json!({
        "type": "object",
        "required": ["score", "record"],
        "properties": {
            "score": {"type": "number", "format": "double", "minimum": -1, "maximum": 1,
                "description": "The cosine of the angle between the vectors."},
            "record": reference(&record),
        },
        "additionalProperties": false,
    });
    let list = json!({
        "type": "object",
        "required": ["data"],
        "properties": {"data": {"type": "array", "maxItems": Nearest::MAX_LIMIT, "items": scored}},
        "additionalProperties": false,
    });
    vec![
        (format!("{record}Nearest"), ask),
        (format!("{record}NearestList"), list),
    ]
}
