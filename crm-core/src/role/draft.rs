//! What a role may look like, judged before anything is written.

mod condition;
mod lists;

use std::collections::HashMap;

use uuid::Uuid;

use super::{Role, RoleChange};
use crate::error::{Error, FieldError, Result};
use crate::id::RoleId;
use crate::policy::{Effect, Permission, PermissionInput, RowScope, TenantRules, line};
use crate::scope::Scope;

/// Most characters of a name.
const NAME_MAX: usize = 100;
/// Most characters of a description.
const DESCRIPTION_MAX: usize = 1_000;
/// Most permissions of one role.
const PERMISSIONS_MAX: usize = 500;
/// Most permissions of one role that have a condition.
const CONDITIONS_MAX: usize = 50;
/// Most roles of one tenant, whose policy is read and compiled as a whole.
const ROLES_MAX: usize = 500;

/// Checked changes of a role.
pub(super) struct Draft {
    name: Option<String>,
    description: Option<String>,
    parent_id: Option<Option<RoleId>>,
    permissions: Option<Vec<Permission>>,
}

impl Draft {
    /// Checks every value, and answers every broken rule at once. `stated` is what the role states
    /// already.
    pub(super) fn check(scope: &Scope, change: RoleChange, stated: &[Permission]) -> Result<Self> {
        let mut errors = Vec::new();
        let name = change.name.map(|name| name.trim().to_owned());
        let description = change.description.map(|text| text.trim().to_owned());
        if let Some(name) = &name {
            errors.extend(refuse_name(name));
        }
        if let Some(description) = &description {
            errors.extend(refuse_description(description));
        }
        let permissions = change
            .permissions
            .map(|inputs| read_permissions(scope, &inputs, stated, &mut errors));
        if !errors.is_empty() {
            return Err(Error::Invalid(errors));
        }
        Ok(Self {
            name,
            description,
            parent_id: change.parent_id,
            permissions,
        })
    }

    /// The role with these changes.
    pub(super) fn apply(self, old: Role) -> Role {
        Role {
            name: self.name.unwrap_or(old.name),
            description: self.description.unwrap_or(old.description),
            parent_id: self.parent_id.unwrap_or(old.parent_id),
            permissions: self.permissions.unwrap_or(old.permissions),
            ..old
        }
    }
}

fn refuse_name(name: &str) -> Option<FieldError> {
    let (code, message) = if name.is_empty() {
        ("required", "Give the role a name.")
    } else if name.chars().count() > NAME_MAX {
        ("too_long", "A role's name has at most 100 characters.")
    } else if name.chars().any(char::is_control) {
        (
            "invalid_character",
            "A role's name holds no control characters.",
        )
    } else if name.parse::<Uuid>().is_ok() {
        ("invalid", "A role's name must not look like an id.")
    } else {
        return None;
    };
    Some(FieldError::new("name", code, message))
}

fn refuse_description(text: &str) -> Option<FieldError> {
    let (code, message) = if text.chars().count() > DESCRIPTION_MAX {
        (
            "too_long",
            "A role's description has at most 1,000 characters.",
        )
    } else if text.chars().any(|c| c.is_control() && c != '\n') {
        (
            "invalid_character",
            "A role's description holds no control characters but line feeds.",
        )
    } else {
        return None;
    };
    Some(FieldError::new("description", code, message))
}

fn read_permissions(
    scope: &Scope,
    inputs: &[PermissionInput],
    stated: &[Permission],
    errors: &mut Vec<FieldError>,
) -> Vec<Permission> {
    if inputs.len() > PERMISSIONS_MAX {
        let message = "A role has at most 500 permissions; use * for a whole segment.";
        errors.push(FieldError::new("permissions", "too_many", message));
        return Vec::new();
    }
    if inputs
        .iter()
        .filter(|input| {
            input.condition.is_some() || input.fields.is_some() || input.except.is_some()
        })
        .count()
        > CONDITIONS_MAX
    {
        let message = "A role has at most 50 permissions with a condition or a list of fields.";
        errors.push(FieldError::new("permissions", "too_many", message));
        return Vec::new();
    }
    let mut permissions = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        match read_permission(scope, input, stated) {
            Ok(permission) => permissions.push(permission),
            Err(refused) => {
                let place = format!("/permissions/{index}");
                errors.extend(refused.into_iter().map(|refused| refused.under(&place)));
            }
        }
    }
    permissions.sort_unstable();
    permissions.dedup();
    permissions
}

fn read_permission(
    scope: &Scope,
    input: &PermissionInput,
    stated: &[Permission],
) -> Result<Permission, Vec<FieldError>> {
    let refuse = |place: &str, code, message: String| {
        let pointer = place.to_owned();
        Err(vec![FieldError {
            pointer,
            code,
            message,
        }])
    };
    let permission = match input.permission.parse::<Permission>() {
        Ok(permission) => permission,
        Err(error) => return refuse("", "invalid_permission", format!("{error}.")),
    };
    if !scope.catalogue().knows(&permission) {
        let message = format!("There is no module and action called {permission}.");
        return refuse("", "unknown_permission", message);
    }
    let whole = permission.rows() == RowScope::All || stated.contains(&permission);
    if !whole && scope.catalogue().administers(permission.module()) {
        let message = format!(
            "Nobody owns rows of {}: a permission there is for all of them; leave :{} out.",
            permission.module(),
            permission.rows().as_str()
        );
        return refuse("", "not_allowed", message);
    }
    let permission = lists::limited(scope, permission, input)?;
    let Some(condition) = &input.condition else {
        return Ok(permission);
    };
    if permission.effect() == Effect::Deny {
        let message = "A denial holds for all rows; leave the condition out.";
        return refuse("/where", "not_allowed", message.to_owned());
    }
    condition::checked(scope, permission, condition, stated)
}

/// Refuses one role too many.
pub(super) fn check_room(tenant: &TenantRules) -> Result<()> {
    if tenant.roles.len() < ROLES_MAX {
        return Ok(());
    }
    Err(Error::conflict(
        "too_many_roles",
        "a tenant has at most 500 roles; delete one first",
    ))
}

/// Refuses a parent that does not exist, or that inherits from the role itself.
pub(super) fn check_parent(tenant: &TenantRules, role: &Role) -> Result<()> {
    let Some(parent) = role.parent_id else {
        return Ok(());
    };
    let parents: HashMap<RoleId, RoleId> = tenant
        .roles
        .iter()
        .filter_map(|node| Some((node.id, node.parent?)))
        .collect();
    if parent == role.id || line(parent, &parents).any(|id| id == role.id) {
        let message = "A role cannot inherit from itself, directly or through others.";
        return Err(Error::invalid("parent_id", "role_cycle", message));
    }
    if tenant.roles.iter().any(|node| node.id == parent) {
        return Ok(());
    }
    Err(Error::invalid(
        "parent_id",
        "unknown_role",
        "There is no such role in this tenant.",
    ))
}
