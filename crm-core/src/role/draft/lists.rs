//! The fields that a permission of a role is limited to, judged before anything is written.

use crate::error::FieldError;
use crate::module::CompiledModule;
use crate::policy::{Effect, Fields, Permission, PermissionInput};
use crate::scope::{Action, Create, Read, Scope, Update};

/// The actions that are about fields.
const ACTIONS: [&str; 3] = [Read::NAME, Create::NAME, Update::NAME];

/// The permission with the list of fields that its input states, if any.
pub(super) fn limited(
    scope: &Scope,
    permission: Permission,
    input: &PermissionInput,
) -> Result<Permission, Vec<FieldError>> {
    let refuse = |pointer: String, code, message: String| FieldError {
        pointer,
        code,
        message,
    };
    let (key, names) = match (&input.fields, &input.except) {
        (None, None) => return Ok(permission),
        (Some(_), Some(_)) => {
            let message = "Name the fields, or those that are left out; not both.".to_owned();
            return Err(vec![refuse("/except".into(), "not_allowed", message)]);
        }
        (Some(names), None) => ("fields", names),
        (None, Some(names)) => ("except", names),
    };
    let whole = |code, message: &str| Err(vec![refuse(format!("/{key}"), code, message.into())]);
    if permission.effect() == Effect::Deny {
        return whole(
            "not_allowed",
            "A denial holds for all fields; leave them out.",
        );
    }
    if !ACTIONS.contains(&permission.action()) {
        return whole(
            "not_allowed",
            "Reading, creating and updating may be limited to fields: name one of these actions.",
        );
    }
    let Some(module) = scope.module(permission.module()) else {
        return whole("not_allowed", "Fields are those of one module: name it.");
    };
    if names.is_empty() {
        return whole("required", "Name at least one field.");
    }
    let unknown = names.iter().enumerate();
    let unknown = unknown.filter(|(_, name)| !has(module, name));
    let refused: Vec<_> = unknown
        .map(|(at, name)| {
            let message = format!("{} has no field {name} to be listed.", module.name());
            refuse(format!("/{key}/{at}"), "unknown_field", message)
        })
        .collect();
    if !refused.is_empty() {
        return Err(refused);
    }
    Ok(permission.limited(match key {
        "fields" => Fields::only(names),
        _ => Fields::except(names),
    }))
}

/// Whether lists may name it: everybody who sees a record sees its id, version and times.
fn has(module: &CompiledModule, name: &str) -> bool {
    name == "owner_id" || module.has_field(name)
}
