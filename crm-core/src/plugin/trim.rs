//! Bounds what is kept of a tenant's runs: the oldest transcripts go first, and the runs themselves
//! stay until they are too old. The usage of days goes after more than a year.

use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, TimeDelta, Utc};

use super::Plugins;
use crate::db::{ColumnType, Db, Sql};
use crate::error::Result;
use crate::id::{RunId, TenantId};

/// Most bytes of all transcripts of a tenant, with what the runs were given.
const MOST: i64 = 64 * 1024 * 1024;
/// So many bytes more, and it is looked whether they are too many.
const STEP: usize = 4 * 1024 * 1024;
/// How long the usage of a day is kept.
const USAGE: TimeDelta = TimeDelta::days(400);

impl Plugins {
    /// Takes note of bytes that are kept from now on, and now and then makes room for them.
    pub(super) async fn make_room(&self, tenant: TenantId, bytes: usize) -> Result<()> {
        let kept = self
            .0
            .kept
            .get_with(tenant, async { AtomicUsize::new(0).into() });
        let kept = kept.await;
        if kept.fetch_add(bytes, Ordering::Relaxed) + bytes < STEP {
            return Ok(());
        }
        kept.store(0, Ordering::Relaxed);
        trim(&self.0.core.db, tenant).await
    }
}

/// Removes the oldest transcripts of a tenant that has too many bytes of them.
pub(crate) async fn trim(db: &Db, tenant: TenantId) -> Result<()> {
    trim_to(db, tenant, MOST).await
}

/// As [`trim`], to so many bytes.
pub(super) async fn trim_to(db: &Db, tenant: TenantId, most: i64) -> Result<()> {
    let first = Sql::new(
        "SELECT run_id FROM (SELECT run_id, sum(length(input) + length(transcript)) \
         OVER (ORDER BY run_id DESC) AS total FROM plugin_run_details WHERE tenant_id = $1) AS kept \
         WHERE total > $2 ORDER BY run_id DESC LIMIT 1",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(most, ColumnType::Int)
    .returns(&[ColumnType::Uuid]);
    let Some(mut row) = db.fetch_optional(first).await? else {
        return Ok(());
    };
    let last: RunId = row.uuid()?;
    let delete = Sql::new("DELETE FROM plugin_run_details WHERE tenant_id = $1 AND run_id <= $2")
        .bind(tenant, ColumnType::Uuid)
        .bind(last, ColumnType::Uuid);
    db.execute(delete).await?;
    Ok(())
}

/// Removes what tenants used long ago.
pub(crate) async fn forget_usage(db: &Db, now: DateTime<Utc>) -> Result<()> {
    let before = (now - USAGE).date_naive();
    let delete = Sql::new("DELETE FROM plugin_usage WHERE day < $1").bind(before, ColumnType::Date);
    db.execute(delete).await?;
    Ok(())
}
