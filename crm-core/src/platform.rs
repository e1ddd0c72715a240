//! The platform: those who look after the tenants of an installation and belong to none of them.
//!
//! An operator is a user who is a member of the platform and of no tenant by that: their sessions
//! name no tenant, and open no tenant's data. What they may do is a closed list of permissions,
//! asked for here and nowhere else. The first operator is made by the command line, others by it or
//! by an operator who holds what they give. Into a tenant's data they come as anybody does, as a
//! member, or in a member's name for a few minutes, which the tenant sees and can forbid.
//!
//! Every act is told to the audit log of the platform, and to the tenant's that it is about.

mod operator;
mod permission;
mod tenant;

use std::collections::BTreeSet;

use crate::audit::{AuditPage, AuditQuery};
use crate::crm::Crm;
use crate::db::{ColumnType, Db, Sql};
use crate::error::{Error, Result};
use crate::id::{TenantId, UserId};
use crate::identity::{Impersonated, NewImpersonation};
use crate::scope::{Actor, Read, Scope};

pub use operator::{NewOperator, Operator, Operators};
pub use permission::PlatformPermission;
pub use tenant::NewTenant;

/// What stands for no tenant: operators are its members, and its audit log is the installation's.
pub const PLATFORM: TenantId = TenantId(uuid::Uuid::nil());

/// An operator at work, with what they may do at this moment.
#[derive(Clone)]
pub struct Platform {
    crm: Crm,
    scope: Scope,
    operator: UserId,
    permissions: BTreeSet<PlatformPermission>,
}

impl Crm {
    /// The platform, for a request of an operator's own session.
    ///
    /// # Errors
    /// [`Error::NotFound`] for everybody else.
    pub async fn platform(&self, scope: &Scope) -> Result<Platform> {
        let own = scope.tenant() == PLATFORM && scope.session().is_some();
        let operator = scope.actor().user().filter(|_| own);
        let operator = operator.ok_or(Error::NotFound)?;
        let permissions = permissions(&self.core.db, operator).await?;
        Ok(Platform {
            crm: self.clone(),
            scope: scope.clone(),
            operator,
            permissions: permissions.ok_or(Error::NotFound)?,
        })
    }

    /// The operators, for the program itself: no request may reach them.
    pub fn operators(&self) -> Operators {
        Operators::new(self.core.clone())
    }
}

impl Platform {
    /// What the operator may do.
    pub fn permissions(&self) -> &BTreeSet<PlatformPermission> {
        &self.permissions
    }

    /// Refuses what the operator may not do.
    ///
    /// # Errors
    /// [`Error::Forbidden`] naming the permission.
    pub fn check(&self, permission: PlatformPermission) -> Result<()> {
        match self.permissions.contains(&permission) {
            true => Ok(()),
            false => Err(Error::Forbidden {
                permission: permission.to_string(),
            }),
        }
    }

    /// How the operator is named in the audit logs of tenants.
    fn actor(&self) -> Actor {
        Actor::PlatformOperator(self.operator)
    }

    /// A page of the audit log of the platform: what operators did, and logins that failed for
    /// nobody of any tenant.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `audit.read`; [`Error::Invalid`] for a limit out of bounds.
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditPage> {
        self.check(PlatformPermission::AuditRead)?;
        let request = self.scope.request().clone();
        let scope = Scope::operator(&self.crm.core, PLATFORM, request).await?;
        let permit = scope.permit::<Read>("audit")?;
        self.crm.audit().list(&permit, query).await
    }

    /// Lets the operator act in a member's name for some minutes, with the member's rights on
    /// records.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `tenants.impersonate`; [`Error::NotFound`] when there is no such
    /// tenant; those of [`Impersonations::start`](crate::identity::Impersonations::start);
    /// [`Error::Refused`] `operators_excluded` where the tenant does not admit operators.
    pub async fn impersonate(
        &self,
        tenant: TenantId,
        input: NewImpersonation,
    ) -> Result<Impersonated> {
        self.check(PlatformPermission::TenantsImpersonate)?;
        let tenant = self.crm.tenants().get(tenant).await?.id;
        let impersonations = self.crm.impersonations();
        impersonations
            .start_as_operator(&self.scope, tenant, input)
            .await
    }
}

/// What an operator may do; `None` for whoever is none.
pub(crate) async fn permissions(
    db: &Db,
    user: UserId,
) -> Result<Option<BTreeSet<PlatformPermission>>> {
    let find = Sql::new("SELECT permissions FROM operators WHERE tenant_id = $1 AND user_id = $2")
        .bind(PLATFORM, ColumnType::Uuid)
        .bind(user, ColumnType::Uuid)
        .returns(&[ColumnType::Json]);
    let row = db.fetch_optional(find).await?;
    row.map(|mut row| permission::stored(row.json()?))
        .transpose()
}

impl std::fmt::Debug for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Platform")
            .field("operator", &self.operator)
            .field("permissions", &self.permissions)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
