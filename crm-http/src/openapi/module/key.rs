//! Modules whose records are known by a number.

use crm_core::module::CompiledModule;
use serde_json::{Map, Value, json};

use crate::modules::BASE;

/// Says of a module with a key that its number stands for the id in the path of a record.
pub(super) fn paths(module: &CompiledModule, paths: &mut Map<String, Value>) {
    let Some(key) = &module.spec().key else {
        return;
    };
    let record = format!("{BASE}{}/{{id}}", module.name());
    let of_record = paths
        .iter_mut()
        .filter(|(path, _)| path.starts_with(&record));
    let operations = of_record.filter_map(|(_, path)| path.as_object_mut());
    for operation in operations.flat_map(Map::values_mut) {
        let parameters = operation["parameters"].as_array_mut();
        for parameter in parameters.into_iter().flatten() {
            if parameter["name"] == "id" {
                let words = format!("The record's `{key}`, a number, or its id.");
                parameter["description"] = json!(words);
                parameter["schema"] = json!({"type": "string"});
                parameter["example"] = json!("42");
            }
        }
    }
}
