//! The life of tenants, by operators: each act is the one of [`Tenants`], behind its permission.

use super::{Platform, PlatformPermission};
use crate::error::Result;
use crate::id::TenantId;
use crate::identity::{Invitation, NewInvitation};
use crate::tenant::{Tenant, TenantExport, TenantPage, Tenants, Tombstone};

/// A tenant to be made, and its first admin.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// Its name, 1 to 100 characters, unique in the installation.
    pub name: String,
    /// The address that the first admin's invitation is sent to.
    pub admin_email: String,
    /// The first admin's name.
    pub admin_name: String,
}

impl Platform {
    fn tenants(&self) -> Tenants {
        self.crm.tenants().by(self.actor())
    }

    /// The tenants after one, the oldest first, at most `limit` of them.
    ///
    /// # Errors
    /// [`Error::Forbidden`](crate::Error::Forbidden) without `tenants.read`;
    /// [`Error::Invalid`](crate::Error::Invalid) for a limit outside 1 to 100.
    pub async fn list_tenants(&self, after: Option<TenantId>, limit: u32) -> Result<TenantPage> {
        self.check(PlatformPermission::TenantsRead)?;
        self.tenants().page(after, limit).await
    }

    /// The tenant of this name; see [`Tenants::find_by_name`].
    ///
    /// # Errors
    /// [`Error::Forbidden`](crate::Error::Forbidden) without `tenants.read`.
    pub async fn find_tenant(&self, name: &str) -> Result<Option<Tenant>> {
        self.check(PlatformPermission::TenantsRead)?;
        self.tenants().find_by_name(name).await
    }

    /// One tenant.
    ///
    /// # Errors
    /// [`Error::Forbidden`](crate::Error::Forbidden) without `tenants.read`;
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn get_tenant(&self, id: TenantId) -> Result<Tenant> {
        self.check(PlatformPermission::TenantsRead)?;
        self.tenants().get(id).await
    }

    /// Makes a tenant with the built-in roles, and invites its first admin by mail: both or
    /// neither.
    ///
    /// # Errors
    /// [`Error::Forbidden`](crate::Error::Forbidden) without `tenants.create`;
    /// [`Error::Invalid`](crate::Error::Invalid) for values that break a rule;
    /// [`Error::Conflict`](crate::Error::Conflict) `already_exists`.
    pub async fn create_tenant(&self, input: NewTenant) -> Result<(Tenant, Invitation)> {
        self.check(PlatformPermission::TenantsCreate)?;
        let admin = NewInvitation {
            email: input.admin_email,
            name: input.admin_name,
            roles: vec![crate::role::ADMIN.to_owned()],
        };
        let request = self.scope.request().clone();
        self.tenants()
            .create_with_admin(&input.name, admin, request)
            .await
    }

    /// Lets nobody of a tenant in; see [`Tenants::suspend`].
    ///
    /// # Errors
    /// [`Error::Forbidden`](crate::Error::Forbidden) without `tenants.suspend`;
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn suspend_tenant(&self, id: TenantId) -> Result<Tenant> {
        self.check(PlatformPermission::TenantsSuspend)?;
        let request = self.scope.request().clone();
        self.tenants().suspend(id, request).await
    }

    /// Lets the members and keys of a tenant in again.
    ///
    /// # Errors
    /// [`Error::Forbidden`](crate::Error::Forbidden) without `tenants.resume`; those of
    /// [`Tenants::resume`].
    pub async fn resume_tenant(&self, id: TenantId) -> Result<Tenant> {
        self.check(PlatformPermission::TenantsResume)?;
        let request = self.scope.request().clone();
        self.tenants().resume(id, request).await
    }

    /// Begins an export of everything that a tenant has; that it began is told to its audit log.
    ///
    /// # Errors
    /// [`Error::Forbidden`](crate::Error::Forbidden) without `tenants.export`;
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn export_tenant(&self, id: TenantId) -> Result<TenantExport> {
        self.check(PlatformPermission::TenantsExport)?;
        let tenants = self.tenants();
        tenants.get(id).await?;
        let request = self.scope.request().clone();
        tenants.tell_export(id, request.clone()).await?;
        self.crm.export_tenant(id, request).await
    }

    /// Erases a tenant for good, whose name is given once more. The erasure goes on when nobody
    /// waits for it any longer; another call waits for its end.
    ///
    /// # Errors
    /// [`Error::Forbidden`](crate::Error::Forbidden) without `tenants.erase`; those of
    /// [`Tenants::erase`].
    pub async fn erase_tenant(&self, id: TenantId, confirm: &str) -> Result<Tombstone> {
        self.check(PlatformPermission::TenantsErase)?;
        let (tenants, confirm) = (self.tenants(), confirm.to_owned());
        let request = self.scope.request().clone();
        let work = async move { tenants.erase(id, &confirm, request).await };
        tokio::spawn(work).await.map_err(crate::Error::internal)?
    }

    /// What is left of erased tenants, the oldest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`](crate::Error::Forbidden) without `tenants.read`.
    pub async fn erased_tenants(&self) -> Result<Vec<Tombstone>> {
        self.check(PlatformPermission::TenantsRead)?;
        self.tenants().erased().await
    }
}
