//! How long what piles up is kept: events that were delivered, records of plugin runs, and, only
//! where somebody says so, the audit log. Removed behind the writes by one process at a time, some
//! hundred rows in each transaction.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::crm::Core;
use crate::db::{ColumnType, Sql};
use crate::error::Result;
use crate::id::TenantId;
use crate::lease::Lease;
use crate::plugin;
use crate::scope::{Purge, RequestContext, Scope};

/// How often a round begins.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// Rows of one transaction.
const BATCH: u64 = 1_000;

/// How long what piles up is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Events, once delivered to every subscriber. 30 days unless set.
    pub events: TimeDelta,
    /// What became of plugins' runs. 90 days unless set.
    pub plugin_runs: TimeDelta,
    /// Sealed audit entries, see [`Audit::prune`]. For ever unless set.
    pub audit: Option<TimeDelta>,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            events: TimeDelta::days(30),
            plugin_runs: TimeDelta::days(90),
            audit: None,
        }
    }
}

/// What a round removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Delivered events.
    pub events: u64,
    /// Records of plugin runs.
    pub plugin_runs: u64,
    /// Audit entries.
    pub audit: u64,
}

/// Removes what is too old, every hour until `stop`.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    loop {
        let round = stop.run_until_cancelled(round(&core));
        if let Some(Err(error)) = round.await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "removing what is too old failed; the next round goes on"
            );
        }
        if stop
            .run_until_cancelled(tokio::time::sleep(EVERY))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// Removes what is too old now, unless another process does.
pub(crate) async fn round(core: &Arc<Core>) -> Result<Removed> {
    let mut round = Round {
        lease: Lease::new("retention", core.db.clone(), core.clock.clone()),
        core,
    };
    let mut removed = Removed::default();
    if !round.lease.take().await? {
        return Ok(removed);
    }
    let now = core.clock.now();
    removed.events = round.events(now - core.retention.events).await?;
    removed.plugin_runs = round.plugin_runs(now - core.retention.plugin_runs).await?;
    plugin::forget_usage(&core.db, now).await?;
    if let Some(age) = core.retention.audit {
        removed.audit = round.audit(now - age).await?;
    }
    round.lease.release().await?;
    Ok(removed)
}

struct Round<'a> {
    core: &'a Arc<Core>,
    lease: Lease,
}

impl Round<'_> {
    /// Delivered events from before this moment; the others stay, however old.
    async fn events(&mut self, before: DateTime<Utc>) -> Result<u64> {
        let (mut removed, mut behind) = (0, 0);
        while self.lease.take().await? {
            let mut page =
                Sql::new("SELECT sequence, occurred_at FROM outbox WHERE sequence > $1 ORDER BY sequence LIMIT ")
                    .bind(behind, ColumnType::Int)
                    .returns(&[ColumnType::Int, ColumnType::Instant]);
            page.number(BATCH);
            let mut last = None;
            for mut row in self.core.db.fetch_all(page).await? {
                let (sequence, at): (i64, DateTime<Utc>) = (row.int()?, row.instant()?);
                if at >= before {
                    break;
                }
                last = Some(sequence);
            }
            let Some(last) = last else { break };
            let delete = Sql::new(
                "DELETE FROM outbox WHERE sequence > $1 AND sequence <= $2 AND occurred_at < $3 \
                 AND dispatched_at IS NOT NULL",
            )
            .bind(behind, ColumnType::Int)
            .bind(last, ColumnType::Int)
            .bind(before, ColumnType::Instant);
            removed += self.core.db.execute(delete).await?;
            behind = last;
        }
        Ok(removed)
    }

    /// Records of runs from before this moment.
    async fn plugin_runs(&mut self, before: DateTime<Utc>) -> Result<u64> {
        let tenants = Sql::new("SELECT DISTINCT tenant_id FROM plugins ORDER BY tenant_id");
        let tenants = tenants.returns(&[ColumnType::Uuid]);
        // Ids grow with time.
        let millis = u64::try_from(before.timestamp_millis()).unwrap_or(0);
        let first = uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid();
        let mut removed = 0;
        for mut row in self.core.db.fetch_all(tenants).await? {
            let tenant: TenantId = row.uuid()?;
            plugin::trim(&self.core.db, tenant).await?;
            while self.lease.take().await? {
                let mut delete = Sql::new(
                    "DELETE FROM plugin_runs WHERE tenant_id = $1 AND id IN (SELECT id \
                     FROM plugin_runs WHERE tenant_id = $1 AND id < $2 ORDER BY id LIMIT ",
                )
                .bind(tenant, ColumnType::Uuid)
                .bind(first, ColumnType::Uuid);
                delete.number(BATCH).push(")");
                match self.core.db.execute(delete).await? {
                    0 => break,
                    some => removed += some,
                }
            }
        }
        Ok(removed)
    }

    /// Sealed audit entries from before this moment.
    async fn audit(&mut self, before: DateTime<Utc>) -> Result<u64> {
        let tenants = Sql::new("SELECT id FROM tenants ORDER BY id").returns(&[ColumnType::Uuid]);
        let audit = Audit::new(self.core.clone());
        let mut removed = 0;
        for mut row in self.core.db.fetch_all(tenants).await? {
            if !self.lease.take().await? {
                break;
            }
            let tenant: TenantId = row.uuid()?;
            let request = RequestContext {
                id: "retention".into(),
                address: None,
            };
            let scope = Scope::operator(self.core, tenant, request).await?;
            let pruned = audit
                .prune(&scope.permit::<Purge>("audit")?, before)
                .await?;
            removed += pruned.map_or(0, |pruned| pruned.entries.unsigned_abs());
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests;
