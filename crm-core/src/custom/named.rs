//! The rules of roles that name a field or a module of the tenant. They name by name alone, so that
//! none may be without effect because its field is gone, nor begin to be about another one.

use crate::db::Tx;
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::module::Ident;
use crate::policy::{Effect, Permission};
use crate::role;

/// Most roles that a refusal names.
const MAX_NAMED: usize = 10;

/// Refuses the removal of a field while a condition is about it: the rule would give nothing.
pub(super) async fn refuse_asked(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    module: &Ident,
    field: &Ident,
) -> Result<()> {
    let asks = |rule: &Permission| is_on(rule, module) && rule.asks_of(field.as_str());
    let roles = naming(tx, tenant, asks).await?;
    refuse(&roles, |roles| {
        format!(
            "{module}.{field} is in conditions of the {roles}; change these permissions first, or \
             they would give nothing"
        )
    })
}

/// Refuses a new field by a name that a rule has of one that is gone.
pub(super) async fn refuse_field(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    module: &Ident,
    field: &Ident,
) -> Result<()> {
    let names = |rule: &Permission| {
        is_on(rule, module) && (rule.asks_of(field.as_str()) || rule.lists(field.as_str()))
    };
    let roles = naming(tx, tenant, names).await?;
    refuse(&roles, |roles| {
        format!(
            "a field {field} of {module} that is gone is still named by the {roles}; change these \
             permissions first, or they would be about the new one"
        )
    })
}

/// Refuses the end of a module while a rule denies something on it; what a rule allows ends with it.
pub(super) async fn refuse_denied(tx: &mut Tx<'_>, tenant: TenantId, module: &Ident) -> Result<()> {
    let denies = |rule: &Permission| is_on(rule, module) && rule.effect() == Effect::Deny;
    let roles = naming(tx, tenant, denies).await?;
    refuse(&roles, |roles| {
        format!(
            "{module} is in denials of the {roles}; change these permissions first, or another \
             module of this name would be without them"
        )
    })
}

/// Refuses a new module by a name that a rule has of one that is gone.
pub(super) async fn refuse_module(tx: &mut Tx<'_>, tenant: TenantId, module: &Ident) -> Result<()> {
    let roles = naming(tx, tenant, |rule| is_on(rule, module)).await?;
    refuse(&roles, |roles| {
        format!(
            "a module {module} that is gone is still named by the {roles}; change these \
             permissions first, or they would be about the new one"
        )
    })
}

fn is_on(rule: &Permission, module: &Ident) -> bool {
    rule.module() == module.as_str()
}

/// The names of the roles that state such a rule, in order. The transaction holds the lock on the
/// tenant's policy, so that none is added meanwhile.
async fn naming(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    such: impl Fn(&Permission) -> bool,
) -> Result<Vec<String>> {
    let roles = role::parse(tx.fetch_all(role::select(tenant, None)).await?)?;
    let roles = roles.into_iter();
    let naming = roles.filter(|role| role.permissions.iter().any(&such));
    let mut names: Vec<String> = naming.map(|role| role.name).collect();
    names.sort_unstable();
    Ok(names)
}

/// Refuses with the roles to change, if there are any.
fn refuse(roles: &[String], message: impl Fn(&str) -> String) -> Result<()> {
    if roles.is_empty() {
        return Ok(());
    }
    let word = if roles.len() == 1 { "role" } else { "roles" };
    let named = roles.iter().take(MAX_NAMED).map(String::as_str);
    let mut named = format!("{word} {}", named.collect::<Vec<_>>().join(", "));
    if let more @ 1.. = roles.len().saturating_sub(MAX_NAMED) {
        named.push_str(&format!(" and {more} more"));
    }
    Err(Error::conflict("named_by_roles", message(&named)))
}
