//! What an API key may do: its role's rights, narrowed by the permissions it was made with, and by
//! the rights of the service account that it acts as.

use std::sync::Arc;

use super::{api_key, impersonator};
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, FieldError, Result};
use crate::event::{Party, Principal};
use crate::id::{ApiKeyId, RoleId, TenantId, UserId};
use crate::module::Ident;
use crate::policy::{Catalogue, Effect, Grants, Permission, Rights, RowScope, Subject};
use crate::scope::{Actor, Scope};

/// Most permissions that one key lists.
const MOST_PERMISSIONS: usize = 200;

/// A key that was shown, as stored.
pub(crate) struct KeyHolder {
    pub(crate) tenant: TenantId,
    pub(crate) id: ApiKeyId,
    pub(super) role: RoleId,
    /// The service account that it acts as.
    pub(super) user: Option<UserId>,
    pub(super) permissions: Option<Vec<String>>,
}

impl KeyHolder {
    /// Who acts: a service account owns rows, a key by itself owns none.
    pub(crate) fn actor(&self) -> Actor {
        self.user.map_or(Actor::ApiKey(self.id), Actor::User)
    }
}

/// What the key may do now; `None` when the tenant is not active, or its account no member any
/// more.
pub(crate) async fn key_rights(core: &Core, key: &KeyHolder) -> Result<Option<Arc<Rights>>> {
    let policy = &core.policy;
    let Some(user) = key.user else {
        let rights = policy
            .rights_for(key.tenant, Subject::ApiKey(key.id))
            .await?;
        return Ok(rights.map(|rights| narrowed(rights, key.permissions.as_deref())));
    };
    let account = policy.rights_for(key.tenant, Subject::User(user)).await?;
    let role = policy
        .rights_for(key.tenant, Subject::Role(key.role))
        .await?;
    let (Some(account), Some(role)) = (account, role) else {
        return Ok(None);
    };
    let both = Arc::new(account.within(&role.grants));
    Ok(Some(narrowed(both, key.permissions.as_deref())))
}

/// What whoever this is may do now; `None` once they are no active member any more, their key is
/// revoked or has expired, or the tenant is suspended.
pub(crate) async fn principal_rights(
    core: &Core,
    tenant: TenantId,
    principal: Principal,
) -> Result<Option<Arc<Rights>>> {
    match principal.0 {
        Party::User(user) => core.policy.rights_for(tenant, Subject::User(user)).await,
        Party::Impersonated(user, by) => {
            impersonator::rights(core, tenant, Subject::User(user), by).await
        }
        Party::Key(key, _) => match api_key::find(core, tenant, key).await? {
            Some(holder) => key_rights(core, &holder).await,
            None => Ok(None),
        },
    }
}

fn narrowed(rights: Arc<Rights>, permissions: Option<&[String]>) -> Arc<Rights> {
    let Some(permissions) = permissions else {
        return rights;
    };
    let listed = listed(rights.modules.catalogue(), permissions);
    Arc::new(rights.within(&listed))
}

fn listed(catalogue: &Catalogue, permissions: &[String]) -> Grants {
    let pairs = permissions
        .iter()
        .filter_map(|permission| permission.split_once('.'));
    Grants::of(catalogue, pairs)
}

/// The keys of the scope's tenant that are good and name the module in permissions of their own:
/// what they are called, and the first characters of each.
pub(crate) async fn keys_naming(
    tx: &mut Tx<'_>,
    scope: &Scope,
    module: &Ident,
) -> Result<Vec<String>> {
    let good = Sql::new(
        "SELECT name, prefix, permissions FROM api_keys WHERE tenant_id = $1 \
         AND permissions IS NOT NULL AND revoked_at IS NULL \
         AND (expires_at IS NULL OR expires_at > $2)",
    )
    .bind(scope.tenant(), ColumnType::Uuid)
    .bind(scope.clock().now(), ColumnType::Instant)
    .returns(&[ColumnType::Text, ColumnType::Text, ColumnType::Json]);
    let mut naming = Vec::new();
    for mut row in tx.fetch_all(good).await? {
        let (name, prefix): (String, String) = (row.text()?, row.text()?);
        let permissions = api_key::read_permissions(row.json()?)?;
        let mut pairs = permissions.iter().filter_map(|one| one.split_once('.'));
        if pairs.any(|(named, _)| named == module.as_str()) {
            naming.push(format!("{name} ({prefix})"));
        }
    }
    Ok(naming)
}

/// The permissions of a new key, as stored.
pub(super) fn check(catalogue: &Catalogue, permissions: &[String]) -> Result<Vec<String>> {
    if permissions.len() > MOST_PERMISSIONS {
        let message = format!("List at most {MOST_PERMISSIONS} permissions.");
        return Err(Error::invalid("permissions", "too_many", message));
    }
    let mut refused = Vec::new();
    let mut accepted = Vec::new();
    for (index, text) in permissions.iter().enumerate() {
        let permission: Option<Permission> = text.parse().ok();
        let plain = permission.filter(|permission| {
            permission.effect() == Effect::Allow
                && permission.rows() == RowScope::All
                && catalogue.knows(permission)
        });
        match plain {
            Some(permission) => accepted.push(permission.to_string()),
            None => refused.push(FieldError {
                pointer: format!("/permissions/{index}"),
                code: "unknown_permission",
                message: "Name a module and an action, such as contacts.read or deals.*.".into(),
            }),
        }
    }
    if refused.is_empty() {
        return Ok(accepted);
    }
    Err(Error::Invalid(refused))
}

/// Refuses permissions that the key's role does not give: they would never hold.
pub(super) fn check_within(
    catalogue: &Catalogue,
    permissions: &[String],
    role: &Grants,
) -> Result<()> {
    for (index, permission) in permissions.iter().enumerate() {
        let one = listed(catalogue, std::slice::from_ref(permission));
        let wildcard = permission.contains('*');
        let useful = catalogue.operations().any(|(operation, ..)| {
            one.decide(operation).is_some() && role.decide(operation).is_some()
        });
        let beyond = catalogue.operations().any(|(operation, ..)| {
            one.decide(operation).is_some() && role.decide(operation).is_none()
        });
        if !useful || (beyond && !wildcard) {
            return Err(Error::Invalid(vec![FieldError {
                pointer: format!("/permissions/{index}"),
                code: "beyond_role",
                message: "The role of the key does not give this permission.".into(),
            }]));
        }
    }
    Ok(())
}
