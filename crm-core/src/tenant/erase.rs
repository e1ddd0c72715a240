//! The end of a tenant: everything it has in the database, its users who belong to no other tenant,
//! and its audit log. What stays is a tombstone: its id, when and by which request, and the number
//! and hash that its audit chain ended with, which an export made before can be held against.
//!
//! Rows go some at a time. An erasure that is interrupted is finished by another call.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;

use super::{Status, Tenant, Tenants, tell};
use crate::audit::seal_up;
use crate::crm::POLICY_POLL;
use crate::db::erase::TenantTable;
use crate::db::{ColumnType, Row, Sql};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::plugin::erase_versions;
use crate::scope::{Read, RequestContext};

/// Users who go in one transaction.
const USERS: u64 = 500;

/// What is left of a tenant that was erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tombstone {
    /// The tenant's id.
    pub id: TenantId,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When its erasure began.
    pub begun_at: DateTime<Utc>,
    /// When nothing of it was left; `None` while it is being erased.
    pub erased_at: Option<DateTime<Utc>>,
    /// The request that asked for it.
    pub request_id: String,
    /// The number of the last entry of its audit log.
    pub sequence: i64,
    /// The hash that its audit chain ended with, in hexadecimal digits.
    pub hash: String,
}

impl Tenants {
    /// Erases a tenant for good, whose name is given once more: it is suspended, then every row of
    /// it goes, with the users who belong to no other tenant. Of one that is erased, what is left
    /// is answered again, whatever name is given: none is kept.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there never was such a tenant; [`Error::Conflict`] `name_differs` when
    /// `confirm` is not its name; [`Error::Unavailable`] while another process does not seal the last
    /// audit entries.
    pub async fn erase(
        &self,
        id: TenantId,
        confirm: &str,
        request: RequestContext,
    ) -> Result<Tombstone> {
        let tenant = match self.get(id).await {
            Err(Error::NotFound) => return self.tombstone(id).await?.ok_or(Error::NotFound),
            found => found?,
        };
        if tenant.name != confirm.trim() {
            return Err(Error::conflict(
                "name_differs",
                "the name given to confirm is not the tenant's; nothing was erased",
            ));
        }
        self.set_status(id, Status::Suspended, request.clone())
            .await?;
        // Until every other process has heard of it, and serves nobody of the tenant any more.
        tokio::time::sleep(POLICY_POLL * 2).await;
        if self.tombstone(id).await?.is_none() {
            self.bury(&tenant, request).await?;
        }
        self.erase_users(id).await?;
        let tables = self.core.db.tenant_tables().await?;
        // While it is known which components were the tenant's.
        let versions = self
            .core
            .db
            .write(move |tx| Box::pin(async move { erase_versions(tx, id).await }));
        versions.await?;
        self.core.db.erase(tables.clone(), id).await?;
        self.remove(id, tables).await?;
        self.core.policy.invalidate(id);
        self.tombstone(id).await?.ok_or(Error::NotFound)
    }

    /// What is left of erased tenants, the oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn erased(&self) -> Result<Vec<Tombstone>> {
        let mut all = select();
        all.push(" ORDER BY id");
        let rows = self.core.db.fetch_all(all).await?;
        rows.into_iter().map(read).collect()
    }

    async fn tombstone(&self, id: TenantId) -> Result<Option<Tombstone>> {
        let mut one = select();
        one.push(" WHERE id = ").arg(id, ColumnType::Uuid);
        let row = self.core.db.fetch_optional(one).await?;
        row.map(read).transpose()
    }

    /// Ends the audit chain with an entry on the erasure, and keeps where it ended.
    async fn bury(&self, tenant: &Tenant, request: RequestContext) -> Result<()> {
        let scope = crate::scope::Scope::operator(&self.core, tenant.id, request.clone()).await?;
        let before = json!({"name": tenant.name});
        let (clock, actor, id) = (self.core.clock.clone(), self.actor, tenant.id);
        let about = request.clone();
        let told = self.core.db.write(move |tx| {
            Box::pin(async move {
                let by = (&clock, actor, &about);
                tell(tx, by, id, "tenants.erase", (Some(before), None)).await
            })
        });
        told.await?;
        seal_up(&self.core, tenant.id).await?;
        let permit = scope.permit::<Read>("audit")?;
        let head = crate::audit::Audit::new(self.core.clone())
            .end(&permit)
            .await?;
        let (sequence, hash) = head.ok_or_else(|| Error::internal("nothing was sealed"))?;
        let insert = Sql::new(
            "INSERT INTO erased_tenants (id, created_at, begun_at, request_id, sequence, hash) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING",
        )
        .bind(tenant.id, ColumnType::Uuid)
        .bind(tenant.created_at, ColumnType::Instant)
        .bind(self.core.clock.now(), ColumnType::Instant)
        .bind(&*request.id, ColumnType::Text)
        .bind(sequence, ColumnType::Int)
        .bind(hash.to_vec(), ColumnType::Bytes);
        self.core.db.execute(insert).await.map(drop)
    }

    /// Erases the users who belong to this tenant alone.
    async fn erase_users(&self, tenant: TenantId) -> Result<()> {
        // Keys of service accounts hold on to their users.
        let keys = Sql::new("DELETE FROM api_keys WHERE tenant_id = $1");
        let keys = keys.bind(tenant, ColumnType::Uuid);
        self.core.db.execute(keys).await?;
        loop {
            let mut users = Sql::new(
                "DELETE FROM users WHERE id IN (SELECT m.user_id FROM memberships m \
                 WHERE m.tenant_id = $1 AND NOT EXISTS (SELECT 1 FROM memberships o \
                 WHERE o.user_id = m.user_id AND o.tenant_id <> $1) LIMIT ",
            )
            .bind(tenant, ColumnType::Uuid);
            users.number(USERS).push(")");
            if self.core.db.execute(users).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Removes the tenant itself, and what was written meanwhile.
    async fn remove(&self, tenant: TenantId, tables: Vec<TenantTable>) -> Result<()> {
        let now = self.core.clock.now();
        let last = self.core.db.write(move |tx| {
            Box::pin(async move {
                erase_versions(tx, tenant).await?;
                for table in tables {
                    tx.execute(table.delete(tenant, tx.dialect())).await?;
                }
                let gone = Sql::new("DELETE FROM tenants WHERE id = $1");
                tx.execute(gone.bind(tenant, ColumnType::Uuid)).await?;
                let done = Sql::new("UPDATE erased_tenants SET erased_at = $1 WHERE id = $2")
                    .bind(now, ColumnType::Instant)
                    .bind(tenant, ColumnType::Uuid);
                tx.execute(done).await.map(drop)
            })
        });
        last.await
    }
}

fn select() -> Sql {
    Sql::new(
        "SELECT id, created_at, begun_at, erased_at, request_id, sequence, hash FROM erased_tenants",
    )
    .returns(&[
        ColumnType::Uuid,
        ColumnType::Instant,
        ColumnType::Instant,
        ColumnType::Instant,
        ColumnType::Text,
        ColumnType::Int,
        ColumnType::Bytes,
    ])
}

fn read(mut row: Row) -> Result<Tombstone> {
    Ok(Tombstone {
        id: row.uuid()?,
        created_at: row.instant()?,
        begun_at: row.instant()?,
        erased_at: row.opt_instant()?,
        request_id: row.text()?,
        sequence: row.int()?,
        hash: hex::encode(row.bytes::<Vec<u8>>()?),
    })
}
