//! What the actions of a tenant's plugins add to its document.

use std::collections::HashSet;

use crm_core::module::CompiledModule;
use crm_core::plugin::{Offered, Plugins};
use serde_json::{Map, Value, json};

use super::{Words, answer, id_parameter};
use crate::modules::BASE;
use crate::openapi::error::response;
use crate::openapi::field::reference;
use crate::openapi::write;

/// The schema of what an action answers.
const RUN: &str = "PluginActionRun";

/// Adds the actions on records of these modules to the document.
pub(in crate::openapi) fn add(
    document: &mut Value,
    modules: &[&CompiledModule],
    offered: &[Offered],
) {
    let mut ids = HashSet::new();
    let mut paths = Map::new();
    for module in modules {
        let words = Words {
            plural: module.name().as_str(),
            singular: module.singular().as_str(),
        };
        let on = |offer: &&Offered| offer.action.module.as_ref() == Some(module.name());
        for offer in offered.iter().filter(on) {
            paths.extend(described(&words, offer, &mut ids));
        }
    }
    if paths.is_empty() {
        return;
    }
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.insert(RUN.into(), run());
    }
    if let Some(all) = document["paths"].as_object_mut() {
        all.extend(paths);
    }
}

fn described(words: &Words<'_>, offer: &Offered, ids: &mut HashSet<String>) -> Map<String, Value> {
    let (plugin, action) = (&offer.plugin, &offer.action);
    let path = format!("{BASE}{}", words.plural);
    let below = format!("actions/{plugin}/{}", action.name);
    let mut operation = |whose: &str, parameters: Value, body: Value| {
        // Names of plugins and actions may run into each other.
        let mut id = format!("run_{plugin}_{}_on_{whose}", action.name);
        while !ids.insert(id.clone()) {
            id.push_str("_2");
        }
        let about = match action.description.as_str() {
            "" => offer.description.as_str(),
            description => description,
        };
        let notes = format!(
            "{about}\n\nAn action of the plugin `{plugin}`, which does no more than the caller may do \
             and answers within a deadline. What it refuses is answered as `action_refused` with its \
             own words, and one that does not come to its end as `action_failed`. With an \
             `Idempotency-Key` it is run once, also when it failed: a failure is answered again \
             with the same `run_id`. Also needs `plugin_runs.create`. "
        );
        let mut operation = words.operation("read", id, action.label.clone(), notes.trim_start());
        operation["parameters"] = parameters;
        // Where no member is, the body may be left out.
        operation["requestBody"] = json!({
            "required": body.get("required").is_some() || body["properties"].get("ids").is_some(),
            "content": {"application/json": {"schema": body}},
        });
        operation["responses"] = json!({
            "200": answer("What the plugin answered.", RUN),
            "502": response("The plugin did not come to its end; see `run_id`."),
        });
        write::replayed(&mut operation);
        json!({"post": operation})
    };
    let one = operation(
        words.singular,
        json!([id_parameter(), write::idempotency_key()]),
        body_of(action.input.as_ref(), None),
    );
    let some = operation(
        words.plural,
        json!([write::idempotency_key()]),
        body_of(action.input.as_ref(), Some(words)),
    );
    Map::from_iter([
        (format!("{path}/{{id}}/{below}"), one),
        (format!("{path}/{below}"), some),
    ])
}

/// The body of an action, on some records with those it is about.
fn body_of(input: Option<&Map<String, Value>>, on: Option<&Words<'_>>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    if let Some(input) = input {
        let mut schema = input.clone();
        schema.insert("type".into(), json!("object"));
        schema.insert("additionalProperties".into(), json!(false));
        if input
            .get("required")
            .is_some_and(|names| names != &json!([]))
        {
            required.push("input");
        } else {
            schema.remove("required");
        }
        properties.insert("input".into(), schema.into());
    }
    if let Some(words) = on {
        let ids = json!({
            "type": "array", "minItems": 1, "maxItems": Plugins::MAX_TARGETS,
            "description": "The records; else `filter` says which.",
            "items": {"type": "string", "format": "uuid"},
        });
        properties.insert("ids".into(), ids);
        properties.insert(
            "filter".into(),
            reference(&format!("{}Filter", words.record())),
        );
    }
    let mut body = json!({
        "type": "object", "properties": properties, "additionalProperties": false,
    });
    if !required.is_empty() {
        body["required"] = json!(required);
    }
    body
}

fn run() -> Value {
    json!({
        "type": "object",
        "description": "What came of an action.",
        "required": ["run_id", "answer"],
        "properties": {
            "run_id": {
                "type": "string", "format": "uuid",
                "description": "The run of the plugin, for its administrators.",
            },
            "answer": {"nullable": true, "description": "What the plugin answered, any JSON value."},
        },
        "additionalProperties": false,
    })
}
