//! How conditions on the records behind references are described.

use crm_core::module::{CompiledModule, FieldSpec, FieldType};
use crm_core::record::MAX_THROUGH;
use serde_json::{Value, json};

use super::Modules;
use super::field::{filters, operators_of};
use super::module::system_fields;
use super::read::condition;

/// The operators that are parameters of their own; the others are described by words.
const NAMED: [&str; 5] = ["eq", "contains", "gte", "lte", "has"];

/// Most fields behind the references of one module that are named one by one: what a tenant declares
/// must not make a document without bounds.
const MAX_NAMED: usize = 500;

/// The fields behind each reference: the reference, the module there, and its field.
fn behind<'r>(
    modules: Modules<'r>,
    module: &'r CompiledModule,
) -> impl Iterator<Item = (&'r FieldSpec, &'r CompiledModule, FieldSpec)> + 'r {
    let references = module
        .readable()
        .filter_map(move |field| match &field.kind {
            FieldType::Reference { module, .. } | FieldType::References { module, .. } => {
                Some((field, modules.get(module.as_str())?))
            }
            _ => None,
        });
    let all = references.flat_map(|(reference, target)| {
        let fields = system_fields().into_iter();
        let fields = fields.chain(target.comparable().cloned());
        fields.map(move |field| (reference, target, field))
    });
    all.take(MAX_NAMED)
}

/// Words about conditions that reach over a reference; none for a module without one.
pub(super) fn words(modules: Modules<'_>, module: &CompiledModule) -> String {
    match behind(modules, module).next() {
        None => String::new(),
        Some((reference, _, _)) => format!(
            "A condition on the record behind a reference names both fields \
             (`{}.created_at[gte]`), with any operator of the field there; at most {MAX_THROUGH} of \
             them. Records that the caller may not see meet none. ",
            reference.name,
        ),
    }
}

/// The query parameters: equality and the usual comparisons of each field.
pub(super) fn parameters(modules: Modules<'_>, module: &CompiledModule) -> Vec<Value> {
    let mut parameters = Vec::new();
    for (reference, target, field) in behind(modules, module) {
        let text = matches!(field.kind, FieldType::Text { .. });
        let named = operators_of(&field)
            .filter(|op| NAMED.contains(op) && !(text && matches!(*op, "gte" | "lte")));
        for mut parameter in filters(target.singular().as_str(), &field, named) {
            for (member, between) in [("name", "."), ("description", ": ")] {
                if let Some(text) = parameter[member].as_str() {
                    parameter[member] = json!(format!("{}{between}{text}", reference.name));
                }
            }
            parameters.push(parameter);
        }
    }
    parameters
}

/// The members of a JSON filter, each as a condition of the field there.
pub(super) fn members<'r>(
    modules: Modules<'r>,
    module: &'r CompiledModule,
) -> impl Iterator<Item = (String, Value)> + 'r {
    behind(modules, module).map(|(reference, target, field)| {
        let name = format!("{}.{}", reference.name, field.name);
        (name, condition(target.singular().as_str(), &field))
    })
}
