//! Bodies that can be sent as they stand: one for each schema of a module's writes, made from it.

use crm_core::module::{CompiledModule, FieldType};
use serde_json::{Map, Value, json};

/// Adds the examples of a module's writes to its schemas.
pub(super) fn add(record: &str, module: &CompiledModule, schemas: &mut Map<String, Value>) {
    let values = values(record, module, schemas);
    let may_change = |name: &str| module.field(name).is_some_and(|field| !field.immutable);
    let Some(first) = values.iter().find(|(name, _)| may_change(name)) else {
        return;
    };
    let change = Map::from_iter([(first.0.clone(), first.1.clone())]);
    let batch = json!({
        "atomic": true,
        "operations": [{"op": "create", "values": values}],
    });
    for (name, example) in [
        ("Create", Value::Object(values)),
        ("Update", Value::Object(change)),
        ("Batch", batch),
    ] {
        if let Some(schema) = schemas.get_mut(&format!("{record}{name}")) {
            schema["example"] = example;
        }
    }
}

/// A value for each field that a client sets, but for references to records that may not be there.
fn values(
    record: &str,
    module: &CompiledModule,
    schemas: &Map<String, Value>,
) -> Map<String, Value> {
    let create = schemas.get(&format!("{record}Create"));
    let fields = module.fields().iter().filter_map(|field| {
        let absent = field.kind.is_reference() || matches!(field.kind, FieldType::Json { .. });
        if absent && !field.required {
            return None;
        }
        let property = create?.get("properties")?.get(field.name.as_str())?;
        let mut machines = module.spec().machines.iter();
        let machine = machines.find(|machine| machine.field == field.name);
        let initial = machine.and_then(|machine| machine.initial.first());
        let value = match (initial, &field.default) {
            (Some(state), _) => json!(state),
            (None, Some(default)) => default.clone(),
            (None, None) => value(property, schemas)?,
        };
        Some((field.name.to_string(), value))
    });
    fields.collect()
}

/// A value that fits the schema; none of one that clients only read.
fn value(schema: &Value, schemas: &Map<String, Value>) -> Option<Value> {
    if schema["readOnly"] == true {
        return None;
    }
    if let Some(part) = schema["allOf"].get(0) {
        return value(part, schemas);
    }
    if let Some(name) = schema["$ref"].as_str() {
        return value(schemas.get(name.rsplit('/').next()?)?, schemas);
    }
    if let Some(example) = schema.get("example").or_else(|| schema["enum"].get(0)) {
        return Some(example.clone());
    }
    Some(match schema["type"].as_str()? {
        "boolean" => json!(true),
        "integer" | "number" => {
            let least = schema["minimum"].as_i64().unwrap_or(1).max(1);
            json!(
                schema["maximum"]
                    .as_i64()
                    .map_or(least, |most| least.min(most))
            )
        }
        "array" => json!([value(&schema["items"], schemas)?]),
        "string" if schema["format"] == "uuid" => json!("018f4e2a-7b6c-7d3e-9a1b-2c3d4e5f6071"),
        "string" => {
            let most = schema["maxLength"].as_u64().unwrap_or(u64::MAX);
            json!(
                "Example"
                    .chars()
                    .take(usize::try_from(most).unwrap_or(7))
                    .collect::<String>()
            )
        }
        _ => return None,
    })
}
