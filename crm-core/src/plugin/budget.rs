//! The fuel of a day: what a run may use at most is set aside before it begins, in the database and
//! so for all processes, and settled for what it did use when it has ended. However many runs begin
//! at once, they never use more than the day has; what a killed process had set aside counts as
//! used.

use std::time::Duration;

use chrono::NaiveDate;

use super::Plugins;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::Result;
use crate::hook::Usage;
use crate::id::TenantId;

/// How long a run waits for the fuel that others have set aside, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(25);
const LONGEST_LOOK: Duration = Duration::from_millis(250);

/// What a run gets of the day's fuel.
pub(super) enum Budget {
    /// Nobody bounds it.
    Unbounded,
    /// So much.
    Reserved(Reserved),
    /// What is left is set aside for runs under way.
    SetAside,
    /// Nothing, for this reason.
    UsedUp(String),
}

/// Fuel that is set aside for one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reserved {
    tenant: TenantId,
    day: NaiveDate,
    fuel: i64,
}

impl Reserved {
    /// How much the run may use.
    pub(super) fn fuel(&self) -> u64 {
        u64::try_from(self.fuel).unwrap_or(0)
    }

    /// Ends it; what was used is added to the day's usage by itself.
    pub(super) fn settle(&self) -> Sql {
        Sql::new(
            "UPDATE plugin_usage SET reserved = reserved - $1 WHERE tenant_id = $2 AND day = $3",
        )
        .bind(self.fuel, ColumnType::Int)
        .bind(self.tenant, ColumnType::Uuid)
        .bind(self.day, ColumnType::Date)
    }
}

/// What a look at the day's fuel came to.
enum Left {
    Some(i64),
    /// Less than a run may take, until others that run have settled theirs.
    SetAside,
    Nothing,
}

impl Plugins {
    /// Sets the fuel of a run aside, where the tenant or the operator bounds that of a day.
    pub(super) async fn budget(&self, tenant: TenantId) -> Result<Budget> {
        let settings = self.enabled(tenant).await?.settings;
        let Some(of) = self.0.limits.fuel(settings.daily_fuel) else {
            return Ok(Budget::Unbounded);
        };
        let day = self.0.core.clock.now().date_naive();
        let most = i64::try_from(self.0.capacity.fuel).unwrap_or(i64::MAX);
        let until = tokio::time::Instant::now() + PATIENCE;
        let mut look = LOOK;
        loop {
            let last = tokio::time::Instant::now() >= until;
            let job = self.0.core.db.write(move |tx| {
                Box::pin(async move { set_aside(tx, (tenant, day), of, (most, last)).await })
            });
            match job.await? {
                Left::Some(fuel) => {
                    return Ok(Budget::Reserved(Reserved { tenant, day, fuel }));
                }
                Left::SetAside if last => return Ok(Budget::SetAside),
                Left::SetAside => {
                    tokio::time::sleep(look).await;
                    look = (look * 2).min(LONGEST_LOOK);
                }
                Left::Nothing => {
                    return Ok(Budget::UsedUp(format!(
                        "the tenant's plugins have used up the fuel of this day, {of} units; the \
                         plugin was not run"
                    )));
                }
            }
        }
    }

    /// Gives back what a run did not begin to use.
    pub(super) async fn give_back(&self, reserved: Option<Reserved>) {
        let Some(reserved) = reserved else { return };
        let job = self.0.core.db.execute(reserved.settle());
        if let Err(error) = job.await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "fuel that was set aside counts as used");
        }
    }

    /// Settles a trial, which leaves no trace but the fuel that it took of a bounded day.
    pub(super) async fn settle_trial(
        &self,
        reserved: Option<Reserved>,
        usage: &Usage,
    ) -> Result<()> {
        let Some(reserved) = reserved else {
            return Ok(());
        };
        let used = Sql::new(
            "UPDATE plugin_usage SET reserved = reserved - $1, fuel = fuel + $2 \
             WHERE tenant_id = $3 AND day = $4",
        )
        .bind(reserved.fuel, ColumnType::Int)
        .bind(
            i64::try_from(usage.fuel).unwrap_or(i64::MAX),
            ColumnType::Int,
        )
        .bind(reserved.tenant, ColumnType::Uuid)
        .bind(reserved.day, ColumnType::Date);
        self.0.core.db.execute(used).await?;
        Ok(())
    }
}

/// Sets aside as much as one run takes at most, or, with nobody else to wait for or at the last
/// look, what there is.
async fn set_aside(
    tx: &mut Tx<'_>,
    (tenant, day): (TenantId, NaiveDate),
    of: i64,
    (most, last): (i64, bool),
) -> Result<Left> {
    // Locks the day's row.
    let begin = Sql::new(
        "INSERT INTO plugin_usage (tenant_id, day, runs, failed, fuel, duration_us, rows_read, \
         rows_written, requests, request_bytes) VALUES ($1, $2, 0, 0, 0, 0, 0, 0, 0, 0) \
         ON CONFLICT (tenant_id, day) DO UPDATE SET reserved = plugin_usage.reserved \
         RETURNING fuel, reserved",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(day, ColumnType::Date)
    .returns(&[ColumnType::Int, ColumnType::Int]);
    let row = tx.fetch_optional(begin).await?;
    let (used, reserved): (i64, i64) = match row {
        Some(mut row) => (row.int()?, row.int()?),
        None => (0, 0),
    };
    let unused = of.saturating_sub(used);
    let left = unused.saturating_sub(reserved);
    if unused <= 0 {
        return Ok(Left::Nothing);
    }
    if left < most.min(unused) && (left <= 0 || !last) {
        return Ok(Left::SetAside);
    }
    let fuel = left.min(most);
    let take = Sql::new(
        "UPDATE plugin_usage SET reserved = reserved + $1 WHERE tenant_id = $2 AND day = $3",
    )
    .bind(fuel, ColumnType::Int)
    .bind(tenant, ColumnType::Uuid)
    .bind(day, ColumnType::Date);
    tx.execute(take).await?;
    Ok(Left::Some(fuel))
}
