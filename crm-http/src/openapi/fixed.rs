//! The document of the fixed resources as poem-openapi writes it, made to say what is so.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::for_each_operation;

/// Mends what poem-openapi cannot express: that replies carry every member, that bodies take no
/// other, and overrides beside a reference written once.
pub(super) fn mend(document: &mut Value) {
    let mut bodies = HashSet::new();
    for_each_operation(document, |_, _, operation| {
        collect_references(operation.get("requestBody"), &mut bodies);
        mend_answers(operation);
    });
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else {
        return;
    };
    // What stands inside a body is part of it.
    let mut known = 0;
    while known < bodies.len() {
        known = bodies.len();
        let inside: Vec<_> = bodies.iter().filter_map(|name| schemas.get(name)).collect();
        let mut found = HashSet::new();
        inside
            .into_iter()
            .for_each(|schema| collect_references(Some(schema), &mut found));
        bodies.extend(found);
    }
    for (name, schema) in schemas {
        if schema.get("anyOf").is_some()
            && let Some(members) = schema.as_object_mut()
        {
            // Its alternatives say what type they are of.
            members.remove("type");
        }
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.values_mut().for_each(write_overrides_once);
            let all: Vec<String> = properties.keys().cloned().collect();
            if bodies.contains(name.as_str()) {
                schema["additionalProperties"] = json!(false);
            } else {
                schema["required"] = json!(all);
            }
        }
    }
}

/// `allOf: [reference, overrides]` beside the same overrides: the reference is enough.
fn write_overrides_once(property: &mut Value) {
    if let Some(parts) = property.get_mut("allOf").and_then(Value::as_array_mut) {
        parts.retain(|part| part.get("$ref").is_some());
    }
}

fn collect_references(value: Option<&Value>, names: &mut HashSet<String>) {
    match value {
        Some(Value::Object(members)) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                names.extend(reference.rsplit('/').next().map(str::to_owned));
            }
            members
                .values()
                .for_each(|member| collect_references(Some(member), names));
        }
        Some(Value::Array(items)) => {
            items
                .iter()
                .for_each(|item| collect_references(Some(item), names));
        }
        _ => {}
    }
}

/// JSON has no charset parameter (RFC 8259 §11), and every answer has words.
fn mend_answers(operation: &mut Map<String, Value>) {
    let answers = operation
        .get_mut("responses")
        .and_then(Value::as_object_mut);
    for answer in answers.into_iter().flatten().map(|(_, answer)| answer) {
        if answer["description"] == "" {
            answer["description"] = json!("Done.");
        }
        if let Some(content) = answer.get_mut("content").and_then(Value::as_object_mut)
            && let Some(json) = content.remove("application/json; charset=utf-8")
        {
            content.insert("application/json".into(), json);
        }
    }
}
