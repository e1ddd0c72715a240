//! Suspending a tenant and letting it go on: its members, keys, plugins and jobs are refused from
//! the next request on, on every node within a second. Its data stays.

use serde_json::json;

use super::{COLUMNS, Tenant, Tenants, read, tell};
use crate::db::{ColumnType, Sql};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::platform::PLATFORM;
use crate::scope::RequestContext;

/// Whether members and keys are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Active,
    Suspended,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::Active => "tenants.resume",
            Self::Suspended => "tenants.suspend",
        }
    }
}

impl Tenants {
    /// One tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, id: TenantId) -> Result<Tenant> {
        let row = self.core.db.fetch_optional(by_id(id)).await?;
        let row = row.filter(|_| id != PLATFORM);
        read(row.ok_or(Error::NotFound)?)
    }

    /// Lets nobody of the tenant in until it is [resumed](Self::resume): logins, refreshes, API
    /// keys and open sessions are refused, its plugins do not run, its jobs wait. Suspending it
    /// again changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn suspend(&self, id: TenantId, request: RequestContext) -> Result<Tenant> {
        self.set_status(id, Status::Suspended, request).await
    }

    /// Lets the tenant's members and keys in again.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] `being_erased` for one whose erasure has begun.
    pub async fn resume(&self, id: TenantId, request: RequestContext) -> Result<Tenant> {
        self.set_status(id, Status::Active, request).await
    }

    pub(super) async fn set_status(
        &self,
        id: TenantId,
        status: Status,
        request: RequestContext,
    ) -> Result<Tenant> {
        let (clock, actor) = (self.core.clock.clone(), self.actor);
        if id == PLATFORM {
            return Err(Error::NotFound);
        }
        let change = self.core.policy.write(id, move |tx| {
            Box::pin(async move {
                let row = tx.fetch_optional(by_id(id)).await?;
                let before = read(row.ok_or(Error::NotFound)?)?;
                let after = Tenant {
                    is_active: status == Status::Active,
                    ..before.clone()
                };
                if after == before {
                    return Ok(after);
                }
                if status == Status::Active {
                    let buried = Sql::new("SELECT 1 FROM erased_tenants WHERE id = $1");
                    let buried = buried.bind(id, ColumnType::Uuid);
                    if tx.fetch_optional(buried).await?.is_some() {
                        return Err(Error::conflict(
                            "being_erased",
                            "the tenant's erasure has begun; finish it with `crm tenant erase`",
                        ));
                    }
                }
                let update = Sql::new("UPDATE tenants SET status = $1 WHERE id = $2")
                    .bind(status.as_str(), ColumnType::Text)
                    .bind(id, ColumnType::Uuid);
                tx.execute(update).await?;
                let state = |tenant: &Tenant| Some(json!({"is_active": tenant.is_active}));
                let (was, is) = (state(&before), state(&after));
                let by = (&clock, actor, &request);
                tell(tx, by, id, status.action(), (was, is)).await?;
                Ok(after)
            })
        });
        change.await
    }
}

fn by_id(id: TenantId) -> Sql {
    Sql::new("SELECT id, name, status, created_at FROM tenants WHERE id = $1")
        .bind(id, ColumnType::Uuid)
        .returns(COLUMNS)
}
