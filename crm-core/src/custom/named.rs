//! What names a field or a module of the tenant: rules of roles, permissions of API keys, grants
//! and triggers of plugins. They name by name alone, so that no rule may be without effect because
//! its field is gone, nor anything begin to be about another one.

use crate::db::Tx;
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::identity;
use crate::module::{CompiledModule, Ident};
use crate::plugin::{self, Manifest};
use crate::policy::{Effect, Permission};
use crate::role;
use crate::scope::Scope;

/// Most roles, most keys and most plugins that a refusal names.
const MAX_NAMED: usize = 10;

/// Refuses the removal of a field while a condition is about it: the rule would give nothing.
pub(super) async fn refuse_asked(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    module: &Ident,
    field: &Ident,
) -> Result<()> {
    let asks = |rule: &Permission| is_on(rule, module) && rule.asks_of(field.as_str());
    let roles = roles(tx, tenant, asks).await?;
    refuse(&[roles], |first| {
        format!("{module}.{field} is in conditions: {first}, or the rules would give nothing")
    })
}

/// Refuses a new field by a name that something has of one that is gone.
pub(super) async fn refuse_field(
    tx: &mut Tx<'_>,
    scope: &Scope,
    module: &Ident,
    field: &Ident,
) -> Result<()> {
    let rule = |rule: &Permission| {
        is_on(rule, module) && (rule.asks_of(field.as_str()) || rule.lists(field.as_str()))
    };
    let of = scope.module(module.as_str()).ok_or(Error::NotFound)?;
    let naming = |manifest: &Manifest| manifest.names_field(of, field);
    let roles = roles(tx, scope.tenant(), rule).await?;
    let plugins = plugins(tx, scope.tenant(), naming).await?;
    refuse(&[roles, plugins], |first| {
        format!(
            "a field {field} of {module} that is gone is still named: {first}, or what names it \
             would be about the new one"
        )
    })
}

/// Refuses the end of a module while a rule denies something on it; what a rule allows ends with
/// it.
pub(super) async fn refuse_denied(tx: &mut Tx<'_>, tenant: TenantId, module: &Ident) -> Result<()> {
    let denies = |rule: &Permission| is_on(rule, module) && rule.effect() == Effect::Deny;
    let roles = roles(tx, tenant, denies).await?;
    refuse(&[roles], |first| {
        format!("{module} is in denials: {first}, or another module of this name would be without")
    })
}

/// Refuses a new module by a name that something has of one that is gone.
pub(super) async fn refuse_module(
    tx: &mut Tx<'_>,
    scope: &Scope,
    new: &CompiledModule,
) -> Result<()> {
    let (tenant, module) = (scope.tenant(), new.name());
    let roles = roles(tx, tenant, |rule| is_on(rule, module)).await?;
    let keys = identity::keys_naming(tx, scope, module).await?;
    let keys = Holders::new(["revoke the API key", "revoke the API keys"], keys);
    let plugins = plugins(tx, tenant, |manifest| manifest.names(new)).await?;
    refuse(&[roles, keys, plugins], |first| {
        format!(
            "a module {module} that is gone is still named: {first}, or what names it would be \
             about the new one"
        )
    })
}

fn is_on(rule: &Permission, module: &Ident) -> bool {
    rule.module() == module.as_str()
}

/// Who names something, and what to do about one of them and about several.
struct Holders {
    remedy: [&'static str; 2],
    names: Vec<String>,
}

impl Holders {
    fn new(remedy: [&'static str; 2], mut names: Vec<String>) -> Self {
        names.sort_unstable();
        names.dedup();
        Self { remedy, names }
    }

    /// What is to be done first; nothing where nobody names it.
    fn told(&self) -> Option<String> {
        let [one, several] = self.remedy;
        let remedy = match self.names.len() {
            0 => return None,
            1 => one,
            _ => several,
        };
        let named: Vec<_> = self
            .names
            .iter()
            .take(MAX_NAMED)
            .map(String::as_str)
            .collect();
        let mut told = format!("{remedy} {}", named.join(", "));
        if let more @ 1.. = self.names.len().saturating_sub(MAX_NAMED) {
            told.push_str(&format!(" and {more} more"));
        }
        Some(told)
    }
}

/// The roles that state such a rule. The transaction holds the lock on the tenant's policy, so that
/// none is added meanwhile, and no key either.
async fn roles(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    such: impl Fn(&Permission) -> bool,
) -> Result<Holders> {
    let roles = role::parse(tx.fetch_all(role::select(tenant, None)).await?)?;
    let roles = roles.into_iter();
    let naming = roles.filter(|role| role.permissions.iter().any(&such));
    let names = naming.map(|role| role.name).collect();
    let remedy = [
        "change the permissions of the role",
        "change the permissions of the roles",
    ];
    Ok(Holders::new(remedy, names))
}

/// The plugins that have such a manifest. Whoever enables one meanwhile consents to the new one.
async fn plugins(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    such: impl Fn(&Manifest) -> bool,
) -> Result<Holders> {
    let names = plugin::granted(tx, tenant, such).await?;
    let remedy = ["disable the plugin", "disable the plugins"];
    Ok(Holders::new(remedy, names))
}

/// Refuses with what is to be done first, if there is anything.
fn refuse(holders: &[Holders], message: impl Fn(&str) -> String) -> Result<()> {
    let told: Vec<String> = holders.iter().filter_map(Holders::told).collect();
    if told.is_empty() {
        return Ok(());
    }
    let first = format!("{} first", told.join("; "));
    Err(Error::conflict("still_named", message(&first)))
}

#[cfg(test)]
mod tests;
