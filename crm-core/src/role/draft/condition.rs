//! The condition of a permission, judged before anything is written: who writes one learns from
//! what it covers, so that it is about fields that its author reads, in rows in which they read
//! them.

use serde_json::{Map, Value as Json};

use crate::error::FieldError;
use crate::policy::{Permission, Rows};
use crate::record::Filter;
use crate::scope::{Read, Scope};

/// The permission under its condition. What the role states already stays, whoever wrote it.
pub(super) fn checked(
    scope: &Scope,
    permission: Permission,
    condition: &Map<String, Json>,
    stated: &[Permission],
) -> Result<Permission, Vec<FieldError>> {
    let refuse = |message: String| {
        Err(vec![FieldError {
            pointer: "/where".to_owned(),
            code: "not_allowed",
            message,
        }])
    };
    let Some(module) = scope.module(permission.module()) else {
        return refuse("A condition is about the fields of one module: name it.".to_owned());
    };
    let within = |refused: Vec<FieldError>| -> Vec<FieldError> {
        let refused = refused.into_iter();
        refused.map(|refused| refused.under("/where")).collect()
    };
    let permission = permission.under(condition);
    if stated.contains(&permission) {
        Filter::from_json(module, condition).map_err(within)?;
        return Ok(permission);
    }
    let read = scope.permit::<Read>(module.name().as_str());
    let Ok((read, seen)) = read.and_then(|read| Ok((read.clone(), read.asked()?))) else {
        let message = format!(
            "A condition is about fields that you read: it takes the permission {}.read.",
            module.name()
        );
        return refuse(message);
    };
    let filter = Filter::from_json(&seen, condition).map_err(within)?;
    let rows = Rows::of(&permission);
    match read.to_ask(filter.fields()) {
        Ok(asked) if asked.rows().include(&rows) => Ok(permission),
        _ => refuse(
            "A condition is about fields that you read: in some of these rows you do not read them."
                .to_owned(),
        ),
    }
}
