//! What the trash, and required versions, add to the document.

use crm_core::module::CompiledModule;
use serde_json::{Map, Value, json};

use super::list::{list_parameters, page};
use super::{Words, answer, id_parameter, if_match, versioned};
use crate::modules::BASE;
use crate::openapi::Modules;
use crate::openapi::{error, read, write};

/// The paths of a module's trash; none for modules without one.
pub(super) fn paths(
    modules: Modules<'_>,
    words: &Words<'_>,
    module: &CompiledModule,
) -> Map<String, Value> {
    if !module.spec().soft_delete {
        return Map::new();
    }
    let path = format!("{BASE}{}", words.plural);
    Map::from_iter([
        (
            format!("{path}/trash"),
            json!({"get": list(modules, words, module)}),
        ),
        (
            format!("{path}/{{id}}/restore"),
            json!({"post": restore(words)}),
        ),
        (
            format!("{path}/{{id}}/purge"),
            json!({"delete": purge(words)}),
        ),
    ])
}

/// The schemas of a module's trash.
pub(super) fn schemas(
    modules: Modules<'_>,
    words: &Words<'_>,
    module: &CompiledModule,
    stored: &Map<String, Value>,
) -> Map<String, Value> {
    if !module.spec().soft_delete {
        return Map::new();
    }
    let record = words.record();
    let mut stored = stored.clone();
    stored.insert(
        "deleted_at".to_owned(),
        json!({"type": "string", "format": "date-time", "readOnly": true,
            "description": "Since when it is in the trash."}),
    );
    let mut view = read::view_schema(modules, module, &stored);
    view["required"] = json!(["id", "version", "deleted_at"]);
    Map::from_iter([
        (
            format!("{record}TrashList"),
            page(&format!("{record}Trashed")),
        ),
        (format!("{record}Trashed"), view),
    ])
}

fn list(modules: Modules<'_>, words: &Words<'_>, module: &CompiledModule) -> Value {
    let id = format!("list_{}_trash", words.plural);
    let summary = format!("List deleted {}", words.plural);
    let notes = format!(
        "The records in the trash, with the parameters of the list. Also needs `{}.read`. ",
        words.plural
    );
    let mut operation = words.operation("delete", id, summary, &notes);
    operation["parameters"] = Value::Array(list_parameters(modules, words, module));
    operation["responses"] = json!({
        "200": answer("A page of records in the trash.", &format!("{}TrashList", words.record())),
    });
    operation
}

fn restore(words: &Words<'_>) -> Value {
    let id = format!("restore_{}", words.singular);
    let summary = format!("Restore a deleted {}", words.singular);
    let notes = "This record alone: those that went to the trash with it (`on_delete`) stay there \
        and are restored one by one, and it refers to them there meanwhile; references that its delete \
        cleared stay cleared. Refused as `already_exists` when another record took its unique value \
        meanwhile. ";
    let mut operation = words.operation("delete", id, summary, notes);
    operation["parameters"] = json!([id_parameter(), if_match(), write::idempotency_key()]);
    operation["responses"] = json!({"200": versioned("The record, live again.", &words.record())});
    write::replayed(&mut operation);
    operation
}

fn purge(words: &Words<'_>) -> Value {
    let id = format!("purge_{}", words.singular);
    let summary = format!("Remove a deleted {} for good", words.singular);
    let notes = "What refers to it follows `on_delete`: a reference is cleared, records in the trash that \
        go with it are gone for good, too. Refused as `not_in_trash` for a live record, and as \
        `has_dependents` while a live record that would go with it refers to it, or, where that \
        restricts, any. ";
    let mut operation = words.operation("purge", id, summary, notes);
    operation["parameters"] = json!([id_parameter(), if_match(), write::idempotency_key()]);
    operation["responses"] = json!({"204": {"description": "It is gone."}});
    write::replayed(&mut operation);
    operation
}

/// Says of a module that requires versions that changes must name them.
pub(super) fn require_version(module: &CompiledModule, paths: &mut Map<String, Value>) {
    if !module.spec().require_version {
        return;
    }
    let collection = format!("{BASE}{}", module.name());
    if let Some(batch) = paths.get_mut(&format!("{collection}/batch")) {
        batch["post"]["responses"]["428"] = error::response(
            "An operation of an atomic batch names no `version` (`precondition_required`).",
        );
    }
    let Some(record) = paths.get_mut(&format!("{collection}/{{id}}")) else {
        return;
    };
    for method in ["patch", "put", "delete"] {
        let operation = &mut record[method];
        for parameter in operation["parameters"].as_array_mut().into_iter().flatten() {
            if parameter["name"] == "If-Match" {
                parameter["required"] = json!(true);
            }
        }
        operation["responses"]["428"] =
            error::response("`If-Match` names no version (`precondition_required`).");
    }
}
