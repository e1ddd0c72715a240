//! How figures that may be kept, and funnels, are described.

use std::collections::BTreeSet;

use crm_core::count::told;
use crm_core::module::{CompiledModule, FieldType};
use crm_core::record::{Function, MaxAge};
use serde_json::{Value, json};

/// The parameter that lets figures be some seconds old.
pub(super) fn max_age(module: &CompiledModule) -> Value {
    let declared = module.spec().aggregate_ttl;
    let most = declared.map_or_else(String::new, |seconds| {
        let seconds = told(seconds, "second", "seconds");
        format!(" Those of this module are at most {seconds} old, however much is given.")
    });
    let mut parameter = json!({
        "name": "max_age", "in": "query", "required": false,
        "description": format!(
            "Take figures computed at most so many seconds ago, unless this server has written to \
             these records since; 0 has them computed now. `X-Cache` tells whether they were \
             kept.{most}"
        ),
        "schema": {"type": "integer", "format": "int32", "minimum": 0, "maximum": MaxAge::MOST},
    });
    if let Some(seconds) = declared {
        parameter["schema"]["default"] = json!(seconds);
    }
    parameter
}

/// The header of an answer that may have been kept.
pub(super) fn x_cache(answer: &mut Value) {
    answer["headers"] = json!({"X-Cache": {
        "description": "Whether the figures were kept from an earlier request; where they may be some \
            seconds old.",
        "schema": {"type": "string", "enum": ["HIT", "MISS"]},
    }});
}

/// The parameters that make a funnel.
pub(super) fn funnel_parameters(module: &CompiledModule) -> Vec<Value> {
    let named = |wanted: &dyn Fn(&FieldType) -> bool| -> Vec<&str> {
        let fields = module.readable().filter(|field| wanted(&field.kind));
        fields.map(|field| field.name.as_str()).collect()
    };
    let fields = named(&|kind| matches!(kind, FieldType::Enum { .. }));
    let sums = named(&|kind| Function::Sum.fits(kind));
    let values = module.readable().filter_map(|field| match &field.kind {
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
    parameters.push(max_age(module));
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
