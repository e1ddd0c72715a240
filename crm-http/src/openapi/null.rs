//! Null, as OpenAPI 3.0.3 has it: `nullable` adds it to the `type` beside it, and says nothing where there
//! is none.

use serde_json::{Map, Value, json};

/// Has every schema of a document say in that form that it takes null, and name formats as the registry of
/// OpenAPI does.
pub(super) fn mend(part: &mut Value) {
    match part {
        Value::Array(parts) => parts.iter_mut().for_each(mend),
        Value::Object(members) => {
            members.values_mut().for_each(mend);
            if members.get("format") == Some(&json!("naive-date")) {
                members.insert("format".into(), json!("date"));
            }
            if members.get("nullable") == Some(&Value::Bool(true)) && !members.contains_key("type")
            {
                mend_untyped(members);
            }
        }
        _ => {}
    }
}

/// A schema of other ones takes null as one more of them; one that says nothing takes any value anyway.
fn mend_untyped(schema: &mut Map<String, Value>) {
    schema.remove("nullable");
    if let Some(Value::Array(mut parts)) = schema.remove("allOf") {
        let whole = match parts.len() {
            1 => parts.remove(0),
            _ => json!({"allOf": parts}),
        };
        schema.insert("anyOf".into(), Value::Array(vec![whole, nothing()]));
        return;
    }
    for of in ["anyOf", "oneOf"] {
        if let Some(Value::Array(parts)) = schema.get_mut(of) {
            parts.push(nothing());
        }
    }
}

/// The schema of nothing but null.
fn nothing() -> Value {
    json!({"type": "object", "nullable": true, "enum": [null]})
}
