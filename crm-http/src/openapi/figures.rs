//! How figures that may be kept, and funnels, are described.

use std::collections::BTreeSet;

use crm_core::module::{CompiledModule, FieldType};
use crm_core::record::{Function, MaxAge};
use serde_json::{Value, json};

/// The parameter that lets figures be some seconds old.
pub(super) fn max_age() -> Value {
    json!({
        "name": "max_age", "in": "query", "required": false,
        "description": "Take figures computed at most so many seconds ago, unless this server has \
            written to these records since. `X-Cache` then tells whether they were kept.",
        "schema": {"type": "integer", "format": "int32", "minimum": 1, "maximum": MaxAge::MOST},
    })
}

/// The header of an answer that may have been kept.
pub(super) fn x_cache(answer: &mut Value) {
    answer["headers"] = json!({"X-Cache": {
        "description": "Whether the figures were kept from an earlier request; with `max_age` only.",
        "schema": {"type": "string", "enum": ["HIT", "MISS"]},
    }});
}

/// The parameters that make a funnel.
pub(super) fn funnel_parameters(module: &CompiledModule) -> Vec<Value> {
    let named = |wanted: &dyn Fn(&FieldType) -> bool| -> Vec<&str> {
        let fields = module.fields().iter().filter(|field| wanted(&field.kind));
        fields.map(|field| field.name.as_str()).collect()
    };
    let fields = named(&|kind| matches!(kind, FieldType::Enum { .. }));
    let sums = named(&|kind| Function::Sum.fits(kind));
    let values = module
        .fields()
        .iter()
        .filter_map(|field| match &field.kind {
            FieldType::Enum { values } => Some(values),
            _ => None,
        });
    let states: BTreeSet<&String> = values.flatten().collect();
    let mut parameters = vec![
        json!({
            "name": "field", "in": "query", "required": true,
            "description": "The field whose values, in their declared order, are the steps.",
            "schema": {"type": "string", "enum": fields},
        }),
        json!({
            "name": "without", "in": "query", "required": false, "style": "form", "explode": false,
            "description": "Values that are no step, such as `lost`, separated by commas.",
            "schema": {"type": "array", "items": {"type": "string", "enum": states}},
        }),
    ];
    if !sums.is_empty() {
        parameters.push(json!({
            "name": "sum", "in": "query", "required": false,
            "description": "A field to sum up over the records of each step.",
            "schema": {"type": "string", "enum": sums},
        }));
    }
    parameters.push(max_age());
    parameters
}

/// The answer of a funnel.
pub(super) fn funnel_schema() -> Value {
    let share = |words: &str| json!({"type": "string", "nullable": true, "description": words, "example": "0.4286"});
    let count = |words: &str| json!({"type": "integer", "format": "int64", "description": words});
    json!({
        "type": "object",
        "description": "The steps in their order.",
        "required": ["data"],
        "properties": {"data": {"type": "array", "items": {
            "type": "object",
            "required": ["state", "count", "reached", "conversion", "conversion_to_next"],
            "properties": {
                "state": {"type": "string", "description": "The field's value."},
                "count": count("Records in this state now."),
                "reached": count("Records in this state or a later one."),
                "conversion": share(
                    "The share of those in the first state or a later one; null when there is none."
                ),
                "conversion_to_next": share(
                    "Of the records that reached this state, the share that reached the next one; \
                     null for the last one, and when there is none."
                ),
                "sum": {
                    "type": "string", "nullable": true,
                    "description": "The exact sum over the records in this state, where asked for.",
                },
            },
            "additionalProperties": false,
        }}},
        "additionalProperties": false,
    })
}
