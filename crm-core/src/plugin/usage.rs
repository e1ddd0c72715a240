//! What a tenant's plugins use, day by day in UTC.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;

use super::{OBJECT, Plugins};
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::hook::{Outcome, Usage};
use crate::id::TenantId;
use crate::scope::{Permit, Read};
use crate::value::Value;

/// Most days that are shown.
const DAYS: u64 = 31;
/// Most bytes that a tenant's plugins log, tell and put off on one day.
pub(super) const DAILY_BYTES: i64 = 256 * 1024 * 1024;
/// What an event that is told, or a job, takes beside its data.
const ROW: usize = 1024;

/// What all plugins of a tenant used on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DayUsage {
    /// The day, in UTC.
    pub day: NaiveDate,
    /// Runs that began.
    pub runs: i64,
    /// Those of them that failed.
    pub failed: i64,
    /// Fuel.
    pub fuel: i64,
    /// Fuel that is set aside for runs under way, and by processes that were killed.
    pub reserved: i64,
    /// Wall time in microseconds.
    pub duration_us: i64,
    /// Records read.
    pub rows_read: i64,
    /// Records written.
    pub rows_written: i64,
    /// Requests sent.
    pub requests: i64,
    /// Bytes sent and received with them.
    pub request_bytes: i64,
    /// Bytes of what was logged, told and put off.
    pub kept_bytes: i64,
}

impl Plugins {
    /// What the tenant's plugins used, the newest day first: at most 31 days with any use.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn usage(&self, permit: &Permit<Read>) -> Result<Vec<DayUsage>> {
        let tenant = permit.on(OBJECT)?.tenant();
        let mut sql = Sql::new(
            "SELECT day, runs, failed, fuel, reserved, duration_us, rows_read, rows_written, requests, \
             request_bytes, kept_bytes FROM plugin_usage WHERE tenant_id = $1 ORDER BY day DESC LIMIT ",
        )
        .bind(tenant, ColumnType::Uuid)
        .returns(&[
            ColumnType::Date,
            ColumnType::Int,
            ColumnType::Int,
            ColumnType::Int,
            ColumnType::Int,
            ColumnType::Int,
            ColumnType::Int,
            ColumnType::Int,
            ColumnType::Int,
            ColumnType::Int,
            ColumnType::Int,
        ]);
        sql.number(DAYS);
        let rows = self.0.core.db.fetch_all(sql).await?;
        rows.into_iter().map(read).collect()
    }
}

fn read(mut row: Row) -> Result<DayUsage> {
    let day = match row.next() {
        Value::Date(day) => day,
        _ => {
            return Err(Error::Inconsistent {
                table: "plugin_usage".into(),
                column: "day".into(),
            });
        }
    };
    Ok(DayUsage {
        day,
        runs: row.int()?,
        failed: row.int()?,
        fuel: row.int()?,
        reserved: row.int()?,
        duration_us: row.int()?,
        rows_read: row.int()?,
        rows_written: row.int()?,
        requests: row.int()?,
        request_bytes: row.int()?,
        kept_bytes: row.int()?,
    })
}

/// Adds a run, with the bytes of its log, to the usage of its day; answers the bytes of that day.
pub(super) fn add(
    tenant: TenantId,
    now: DateTime<Utc>,
    (outcome, usage): (Outcome, &Usage),
    log_bytes: usize,
) -> Sql {
    let large = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let duration = i64::try_from(usage.duration.as_micros()).unwrap_or(i64::MAX);
    Sql::new(
        "INSERT INTO plugin_usage (tenant_id, day, runs, failed, fuel, duration_us, rows_read, \
         rows_written, requests, request_bytes, kept_bytes) \
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 \
         WHERE EXISTS (SELECT 1 FROM tenants WHERE id = $12) ON CONFLICT (tenant_id, day) DO UPDATE SET runs = plugin_usage.runs + excluded.runs, \
         failed = plugin_usage.failed + excluded.failed, fuel = plugin_usage.fuel + excluded.fuel, \
         duration_us = plugin_usage.duration_us + excluded.duration_us, \
         rows_read = plugin_usage.rows_read + excluded.rows_read, \
         rows_written = plugin_usage.rows_written + excluded.rows_written, \
         requests = plugin_usage.requests + excluded.requests, \
         request_bytes = plugin_usage.request_bytes + excluded.request_bytes, \
         kept_bytes = plugin_usage.kept_bytes + excluded.kept_bytes RETURNING kept_bytes",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(now.date_naive(), ColumnType::Date)
    .bind(i64::from(outcome != Outcome::Refused), ColumnType::Int)
    .bind(i64::from(outcome.is_failure()), ColumnType::Int)
    .bind(large(usage.fuel), ColumnType::Int)
    .bind(duration, ColumnType::Int)
    .bind(usage.rows_read, ColumnType::Int)
    .bind(usage.rows_written, ColumnType::Int)
    .bind(usage.requests, ColumnType::Int)
    .bind(large(usage.request_bytes), ColumnType::Int)
    .bind(large(log_bytes as u64), ColumnType::Int)
    .bind(tenant, ColumnType::Uuid)
    .returns(&[ColumnType::Int])
}

/// Takes room of the day for what a plugin tells or puts off.
///
/// # Errors
/// [`Error::LimitExceeded`] `daily_bytes` where there is none.
pub(super) async fn take_room(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    now: DateTime<Utc>,
    bytes: usize,
) -> Result<()> {
    let add = Sql::new(
        "INSERT INTO plugin_usage (tenant_id, day, runs, failed, fuel, duration_us, rows_read, \
         rows_written, requests, request_bytes, kept_bytes) \
         VALUES ($1, $2, 0, 0, 0, 0, 0, 0, 0, 0, $3) ON CONFLICT (tenant_id, day) DO UPDATE SET \
         kept_bytes = plugin_usage.kept_bytes + excluded.kept_bytes \
         WHERE plugin_usage.kept_bytes + excluded.kept_bytes <= $4 RETURNING kept_bytes",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(now.date_naive(), ColumnType::Date)
    .bind(
        i64::try_from(ROW + bytes).unwrap_or(i64::MAX),
        ColumnType::Int,
    )
    .bind(DAILY_BYTES, ColumnType::Int)
    .returns(&[ColumnType::Int]);
    match tx.fetch_optional(add).await? {
        Some(_) => Ok(()),
        None => Err(Error::LimitExceeded {
            code: "daily_bytes",
            message: day_is_full().into(),
        }),
    }
}

/// What is said where a day has no room for more.
pub(super) fn day_is_full() -> String {
    format!(
        "the tenant's plugins have logged, told and put off {DAILY_BYTES} bytes on this day, in UTC, \
         and no more is kept of it"
    )
}
