//! The operations that answer figures about records.

use crm_core::module::{CompiledModule, FieldSpec, FieldType, MoneyCurrency};
use crm_core::record::{Aggregate, Function, GroupKey};
use serde_json::{Value, json};

use super::super::field::{filters, operators_of};
use super::super::{figures, through};
use super::list::search_parameter;
use super::{Words, answer, system_fields};
use crate::openapi::Modules;

pub(super) fn aggregate(modules: Modules<'_>, words: &Words<'_>, module: &CompiledModule) -> Value {
    let id = format!("aggregate_{}", words.plural);
    let notes = "Counts, exact sums and averages (as text), extremes, by group, of the records that \
        a list with the same conditions shows; the parts of the calendar are those of UTC. ";
    let beside = |field: &FieldSpec| {
        let FieldType::Money { currency, .. } = &field.kind else {
            return false;
        };
        matches!(currency, MoneyCurrency::Field(_))
    };
    let currencies = match module.fields().iter().any(beside) {
        true => "Figures about amounts are of one currency: group by it, or filter by one. ",
        false => "",
    };
    let notes = &format!("{notes}{currencies}{}", through::words(modules, module));
    let summary = format!("Figures about {}", words.plural);
    let mut operation = words.operation("read", id, summary, notes);
    let several =
        |name: &str, required: bool, most: usize, description: &str, values: Vec<String>| {
            json!({
                "name": name, "in": "query", "required": required, "description": description,
                "style": "form", "explode": false,
                "schema": {
                    "type": "array", "minItems": 1, "maxItems": most,
                    "items": {"type": "string", "enum": values},
                },
            })
        };
    let fields = [system_fields(), module.readable().cloned().collect()].concat();
    let mut keys = Vec::new();
    let mut metrics = vec![Function::Count.to_string()];
    for FieldSpec { name, kind, .. } in &fields {
        if matches!(kind, FieldType::Instant(_) | FieldType::Date(_)) {
            keys.extend(["day", "month", "year"].map(|bucket| format!("{name}:{bucket}")));
        }
        if GroupKey::fits(kind) && !matches!(kind, FieldType::Instant(_)) {
            keys.push(name.to_string());
        }
        let fitting = Function::all().filter(|(_, function)| function.fits(kind));
        metrics.extend(fitting.map(|(word, _)| format!("{word}:{name}")));
    }
    let mut parameters = vec![
        several(
            "metrics",
            true,
            Aggregate::MAX_METRICS,
            "The figures.",
            metrics,
        ),
        several(
            "group_by",
            false,
            Aggregate::MAX_KEYS,
            "What makes a group.",
            keys,
        ),
        search_parameter(),
        figures::max_age(module),
    ];
    for field in system_fields().iter().chain(module.comparable()) {
        parameters.extend(filters(words.singular, field, operators_of(field)));
    }
    parameters.extend(through::parameters(modules, module));
    operation["parameters"] = Value::Array(parameters);
    let schema = format!("{}Aggregate", words.record());
    let mut groups = answer("The groups, in the order of their keys.", &schema);
    figures::x_cache(&mut groups);
    operation["responses"] = json!({"200": groups});
    operation
}

pub(super) fn funnel(modules: Modules<'_>, words: &Words<'_>, module: &CompiledModule) -> Value {
    let id = format!("funnel_{}", words.plural);
    let notes = "How many records are in each state, how many came so far, and what share goes on; \
        of the records that a list with the same conditions shows. ";
    let notes = &format!("{notes}{}", through::words(modules, module));
    let summary = format!("The funnel of {}", words.plural);
    let mut operation = words.operation("read", id, summary, notes);
    let mut parameters = figures::funnel_parameters(module);
    parameters.push(search_parameter());
    for field in system_fields().iter().chain(module.comparable()) {
        parameters.extend(filters(words.singular, field, operators_of(field)));
    }
    parameters.extend(through::parameters(modules, module));
    operation["parameters"] = Value::Array(parameters);
    let schema = format!("{}Funnel", words.record());
    let mut steps = answer("The steps, in the order of the field's values.", &schema);
    figures::x_cache(&mut steps);
    operation["responses"] = json!({"200": steps});
    operation
}

pub(super) fn groups() -> Value {
    json!({
        "type": "object",
        "description": "Figures by group.",
        "required": ["data", "truncated"],
        "properties": {
            "data": {
                "type": "array",
                "maxItems": Aggregate::MAX_GROUPS,
                "items": {
                    "type": "object",
                    "required": ["group", "metrics"],
                    "properties": {
                        "group": {
                            "type": "object",
                            "description": "The values of the keys, named as in `group_by`.",
                            "additionalProperties": true,
                        },
                        "metrics": {
                            "type": "object",
                            "description": "The figures, named as in `metrics`.",
                            "additionalProperties": true,
                        },
                    },
                    "additionalProperties": false,
                },
            },
            "truncated": {"type": "boolean", "description": "Whether there are more groups."},
        },
        "additionalProperties": false,
    })
}
