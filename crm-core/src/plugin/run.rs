//! The record of a run: one row for each plugin and event, which also keeps a repeated delivery
//! from running the plugin again.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::db::{ColumnType, Db, Row, Sql};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::hook::{LogLine, Outcome, Report};
use crate::id::{EventId, PluginId, RunId, TenantId};
use crate::plugin::Plugin;

/// What became of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Its id; grows with time.
    pub id: RunId,
    /// The plugin.
    pub plugin_id: PluginId,
    /// The event that woke it.
    pub event_id: Option<EventId>,
    /// The event's kind, such as `contact.created`.
    pub trigger: String,
    /// How it ended.
    pub outcome: Outcome,
    /// A sentence on what went wrong; absent when the run succeeded.
    pub error: Option<String>,
    /// Fuel used: about one unit per instruction.
    pub fuel: i64,
    /// Wall time in microseconds.
    pub duration_us: i64,
    /// Calls of host functions.
    pub host_calls: i64,
    /// What the plugin logged.
    pub logs: Vec<LogLine>,
    /// When it began.
    pub started_at: DateTime<Utc>,
}

/// Some runs, newest first.
#[derive(Debug, Clone, Serialize)]
pub struct RunPage {
    /// The runs.
    pub data: Vec<Run>,
    /// The id to give as `before` for the next page; absent at the end.
    pub next_cursor: Option<RunId>,
}

const COLUMNS: &[ColumnType] = &[
    ColumnType::Uuid,
    ColumnType::Uuid,
    ColumnType::Uuid,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Int,
    ColumnType::Int,
    ColumnType::Int,
    ColumnType::Json,
    ColumnType::Instant,
];

impl Run {
    fn from_row(mut row: Row) -> Result<Self> {
        let broken = |column: &'static str| Error::Inconsistent {
            table: "plugin_runs".into(),
            column: column.into(),
        };
        Ok(Self {
            id: row.uuid()?,
            plugin_id: row.uuid()?,
            event_id: row.opt_uuid()?,
            trigger: row.text()?,
            outcome: Outcome::parse(&row.text::<String>()?).ok_or_else(|| broken("outcome"))?,
            error: row.opt_text()?,
            fuel: row.int()?,
            duration_us: row.int()?,
            host_calls: row.int()?,
            logs: serde_json::from_value(row.json()?).map_err(|_| broken("logs"))?,
            started_at: row.instant()?,
        })
    }
}

/// Runs of a plugin older than `before`, newest first.
pub(super) async fn list(
    db: &Db,
    tenant: TenantId,
    plugin: PluginId,
    before: Option<RunId>,
    limit: u32,
) -> Result<RunPage> {
    let mut sql = Sql::new(
        "SELECT id, plugin_id, event_id, trigger, outcome, error, fuel, duration_us, host_calls, \
         logs, started_at FROM plugin_runs WHERE tenant_id = ",
    )
    .returns(COLUMNS);
    sql.arg(tenant, ColumnType::Uuid)
        .push(" AND plugin_id = ")
        .arg(plugin, ColumnType::Uuid);
    if let Some(before) = before {
        sql.push(" AND id < ").arg(before, ColumnType::Uuid);
    }
    sql.push(" ORDER BY id DESC LIMIT ")
        .number(u64::from(limit) + 1);
    let rows = db.fetch_all(sql).await?;
    let mut data = rows
        .into_iter()
        .map(Run::from_row)
        .collect::<Result<Vec<_>>>()?;
    let more = data.len() > limit as usize;
    data.truncate(limit as usize);
    let next_cursor = data.last().filter(|_| more).map(|run| run.id);
    Ok(RunPage { data, next_cursor })
}

/// Whether the event has been handled by the plugin.
pub(super) async fn exists(db: &Db, plugin: &Plugin, event: &Event) -> Result<bool> {
    let sql = Sql::new(
        "SELECT 1 FROM plugin_runs WHERE tenant_id = $1 AND plugin_id = $2 AND event_id = $3",
    )
    .bind(event.tenant_id, ColumnType::Uuid)
    .bind(plugin.id, ColumnType::Uuid)
    .bind(event.id, ColumnType::Uuid);
    Ok(db.fetch_optional(sql).await?.is_some())
}

/// Keeps the report of a run, unless there is one for this plugin and event already or the plugin
/// has been deleted meanwhile.
pub(super) async fn insert(
    db: &Db,
    id: RunId,
    plugin: &Plugin,
    event: &Event,
    started_at: DateTime<Utc>,
    report: Report,
) -> Result<()> {
    // PostgreSQL's text holds no NUL, and a guest may write what it likes.
    let storable = |text: String| text.replace('\0', "\u{fffd}");
    let mut logs = report.logs;
    for line in &mut logs {
        line.message = storable(std::mem::take(&mut line.message));
    }
    let logs = serde_json::to_value(logs).map_err(Error::internal)?;
    let duration = i64::try_from(report.duration.as_micros()).unwrap_or(i64::MAX);
    let insert = Sql::new(
        "INSERT INTO plugin_runs (tenant_id, id, plugin_id, event_id, trigger, outcome, error, \
         fuel, duration_us, host_calls, logs, started_at) \
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 \
         WHERE EXISTS (SELECT 1 FROM plugins WHERE tenant_id = $13 AND id = $14) \
         ON CONFLICT (tenant_id, plugin_id, event_id) DO NOTHING",
    )
    .bind(event.tenant_id, ColumnType::Uuid)
    .bind(id, ColumnType::Uuid)
    .bind(plugin.id, ColumnType::Uuid)
    .bind(event.id, ColumnType::Uuid)
    .bind(&event.kind, ColumnType::Text)
    .bind(report.outcome.as_str(), ColumnType::Text)
    .bind(report.error.map(storable), ColumnType::Text)
    .bind(
        i64::try_from(report.fuel).unwrap_or(i64::MAX),
        ColumnType::Int,
    )
    .bind(duration, ColumnType::Int)
    .bind(report.host_calls, ColumnType::Int)
    .bind(logs, ColumnType::Json)
    .bind(started_at, ColumnType::Instant)
    .bind(event.tenant_id, ColumnType::Uuid)
    .bind(plugin.id, ColumnType::Uuid);
    db.write(move |tx| Box::pin(async move { tx.execute(insert).await }))
        .await?;
    Ok(())
}
