//! Who acts in another's name, and with which rights: those of the user, never more than their own,
//! and none to administer.

use std::sync::Arc;

use crate::crm::Core;
use crate::db::{ColumnType, Sql};
use crate::error::Result;
use crate::id::{TenantId, UserId};
use crate::platform::{self, PLATFORM, PlatformPermission};
use crate::policy::{Catalogue, Grants, Operation, Rights, RowScope, Subject};
use crate::scope::Actor;

/// What may be done in another's name: everything with records, and nothing but reading in the
/// administration. Jobs are their user's own; none is begun.
const ALLOWED: [(&str, &str); 2] = [("records", "*"), ("*", "read")];

/// Somebody who acts in another's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Impersonator {
    pub(crate) user: UserId,
    /// The tenant they are a member of, the same as the user's, or the platform.
    pub(crate) home: TenantId,
}

impl Impersonator {
    /// How they are named in audit logs.
    pub(crate) fn actor(self) -> Actor {
        match self.home == PLATFORM {
            true => Actor::PlatformOperator(self.user),
            false => Actor::User(self.user),
        }
    }

    /// Whether this is among what somebody does in another's name, who may do it.
    pub(crate) fn may(catalogue: &Catalogue, operation: Operation) -> bool {
        Grants::of(catalogue, ALLOWED).decide(operation).is_some()
    }
}

/// What somebody may do now in the name of a tenant's member; `None` once either of them is no
/// member, may not do this any more, or the tenant is suspended.
pub(crate) async fn rights(
    core: &Core,
    tenant: TenantId,
    user: Subject,
    by: Impersonator,
) -> Result<Option<Arc<Rights>>> {
    let Some(rights) = core.policy.rights_for(tenant, user).await? else {
        return Ok(None);
    };
    let allowed = Grants::of(rights.modules.catalogue(), ALLOWED);
    let rights = rights.within(&allowed);
    if by.home == PLATFORM {
        let admitted = may_operate(core, by.user).await? && admits(core, tenant).await?;
        return Ok(admitted.then(|| Arc::new(rights)));
    }
    let own = core
        .policy
        .rights_for(by.home, Subject::User(by.user))
        .await?;
    let own = own.filter(|_| by.home == tenant);
    let own = own.filter(|own| {
        let create = own.modules.catalogue().operation(OBJECT, "create");
        create.is_some_and(|create| own.grants.decide(create) == Some(RowScope::All))
    });
    // Their own rows and those of their groups are not the user's.
    Ok(own.map(|own| Arc::new(rights.within(&own.grants.without_own()))))
}

/// The object of the permissions on acting in another's name.
pub(super) const OBJECT: &str = "impersonations";

/// Whether an operator may act in the name of members.
async fn may_operate(core: &Core, operator: UserId) -> Result<bool> {
    let held = platform::permissions(&core.db, operator).await?;
    let asked = PlatformPermission::TenantsImpersonate;
    Ok(held.is_some_and(|held| held.contains(&asked)))
}

/// Whether a tenant lets operators act in the name of its members.
pub(super) async fn admits(core: &Core, tenant: TenantId) -> Result<bool> {
    let find = Sql::new("SELECT operator_impersonation FROM tenant_settings WHERE tenant_id = $1")
        .bind(tenant, ColumnType::Uuid)
        .returns(&[ColumnType::Bool]);
    let row = core.db.fetch_optional(find).await?;
    row.map_or(Ok(true), |mut row| row.bool())
}
