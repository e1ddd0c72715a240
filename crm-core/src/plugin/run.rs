//! The record of a run: one row for each plugin and event, which also keeps a repeated delivery
//! from running the plugin again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{OBJECT, Plugin, Plugins, opt_in_hex};
use crate::db::{ColumnType, Db, Row, Sql};
use crate::error::{Error, Result};
use crate::hook::{LogLine, Outcome};
use crate::id::{EventId, PluginId, RecordId, RunId, TenantId};
use crate::scope::{Permit, Read};

/// How often to look for runs of other processes while somebody follows.
const LOOK: Duration = Duration::from_millis(500);
/// The longest that somebody waits for a run.
const LONGEST_WAIT: Duration = Duration::from_secs(25);

/// What became of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Its id; grows with the time at which it ended.
    pub id: RunId,
    /// The plugin.
    pub plugin_id: PluginId,
    /// SHA-256 of the component that ran; absent for runs of an earlier release.
    #[serde(serialize_with = "opt_in_hex")]
    pub sha256: Option<[u8; 32]>,
    /// The event or the message that woke it.
    pub event_id: Option<EventId>,
    /// What woke it: an event's kind such as `contact.created`, or `before contact.create`,
    /// `cron nightly`, `job later`, `webhook payments`, `action rescore`.
    pub trigger: String,
    /// Who caused it, as in the audit log: `user:<id>`, `api_key:<id>`, `plugin:<id>` or
    /// `operator`; `clock` for a cron trigger, `webhook` for a signed message. A job is caused by
    /// whose act had the plugin schedule it, or else by the plugin itself. Absent for runs of an
    /// earlier release.
    pub caused_by: Option<String>,
    /// Who acted in their name, where somebody else did.
    pub impersonator: Option<String>,
    /// The module of the record, or of the records, that it is about.
    pub module: Option<String>,
    /// The record that it is about, where that is one.
    pub record_id: Option<RecordId>,
    /// How it ended.
    pub outcome: Outcome,
    /// A sentence on what went wrong; absent when the run succeeded.
    pub error: Option<String>,
    /// Fuel used: about one unit per instruction.
    pub fuel: i64,
    /// Wall time in microseconds.
    pub duration_us: i64,
    /// The most bytes of memory at any time.
    pub memory: i64,
    /// Calls of host functions.
    pub host_calls: i64,
    /// Records read.
    pub rows_read: i64,
    /// Records written.
    pub rows_written: i64,
    /// Requests sent.
    pub requests: i64,
    /// Bytes sent and received with them.
    pub request_bytes: i64,
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

/// Which runs: by default a full page of the last ones.
#[derive(Debug, Clone, PartialEq)]
pub struct RunQuery {
    /// Older than this one.
    pub before: Option<RunId>,
    /// Most runs of the page, 1 to [`Plugins::MAX_RUNS`].
    pub limit: u32,
    /// With this outcome.
    pub outcome: Option<Outcome>,
    /// With this trigger, such as `contact.created`, `before contact.create`, `cron nightly`, `job
    /// later`, `webhook payments` or `action rescore`.
    pub trigger: Option<String>,
    /// That ended at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// About a record, or records, of this module, by its plural name.
    pub module: Option<String>,
    /// About this record.
    pub record_id: Option<RecordId>,
}

impl Default for RunQuery {
    fn default() -> Self {
        Self {
            before: None,
            limit: Plugins::MAX_RUNS,
            outcome: None,
            trigger: None,
            since: None,
            module: None,
            record_id: None,
        }
    }
}

macro_rules! columns {
    () => {
        "id, plugin_id, sha256, event_id, trigger, caused_by, impersonator, module, record_id, \
         outcome, error, fuel, duration_us, memory, host_calls, rows_read, rows_written, requests, \
         request_bytes, logs, started_at"
    };
}

const COLUMNS: &[ColumnType] = &[
    ColumnType::Uuid,
    ColumnType::Uuid,
    ColumnType::Bytes,
    ColumnType::Uuid,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Uuid,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Int,
    ColumnType::Int,
    ColumnType::Int,
    ColumnType::Int,
    ColumnType::Int,
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
        let hash = |bytes: Vec<u8>| bytes.try_into().map_err(|_| broken("sha256"));
        Ok(Self {
            id: row.uuid()?,
            plugin_id: row.uuid()?,
            sha256: row.opt_bytes()?.map(hash).transpose()?,
            event_id: row.opt_uuid()?,
            trigger: row.text()?,
            caused_by: row.opt_text()?,
            impersonator: row.opt_text()?,
            module: row.opt_text()?,
            record_id: row.opt_uuid()?,
            outcome: Outcome::parse(&row.text::<String>()?).ok_or_else(|| broken("outcome"))?,
            error: row.opt_text()?,
            fuel: row.int()?,
            duration_us: row.int()?,
            memory: row.int()?,
            host_calls: row.int()?,
            rows_read: row.int()?,
            rows_written: row.int()?,
            requests: row.int()?,
            request_bytes: row.int()?,
            logs: serde_json::from_value(row.json()?).map_err(|_| broken("logs"))?,
            started_at: row.instant()?,
        })
    }
}

impl Plugins {
    /// Most runs of a page.
    pub const MAX_RUNS: u32 = 100;

    /// What became of a plugin's runs, newest first.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] for a limit outside 1 to [`Self::MAX_RUNS`].
    pub async fn runs(
        &self,
        permit: &Permit<Read>,
        id: PluginId,
        query: &RunQuery,
    ) -> Result<RunPage> {
        let plugin = self.get(permit, id).await?;
        check(query.limit)?;
        let mut sql = of(plugin.tenant_id, id);
        if let Some(before) = query.before {
            sql.push(" AND id < ").arg(before, ColumnType::Uuid);
        }
        if let Some(since) = query.since {
            let first = RunId(first_of(since));
            sql.push(" AND id >= ").arg(first, ColumnType::Uuid);
        }
        if let Some(outcome) = query.outcome {
            sql.push(" AND outcome = ")
                .arg(outcome.as_str(), ColumnType::Text);
        }
        if let Some(record) = query.record_id {
            sql.push(" AND record_id = ").arg(record, ColumnType::Uuid);
        }
        let texts = [
            ("trigger", " AND trigger = ", &query.trigger),
            ("module", " AND module = ", &query.module),
        ];
        for (name, condition, wanted) in texts {
            let Some(text) = wanted else { continue };
            if text.contains('\0') {
                let message = "must not contain NUL";
                return Err(Error::invalid(name, "invalid_text", message));
            }
            sql.push(condition).arg(text, ColumnType::Text);
        }
        sql.push(" ORDER BY id DESC LIMIT ")
            .number(u64::from(query.limit) + 1);
        let mut data = read(&self.0.core.db, sql).await?;
        let more = data.len() > query.limit as usize;
        data.truncate(query.limit as usize);
        let next_cursor = data.last().filter(|_| more).map(|run| run.id);
        Ok(RunPage { data, next_cursor })
    }

    /// The runs that ended behind this one, the oldest first; without one, those from now on. Waits
    /// for the first of them, at most 25 seconds.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] for a limit outside 1 to [`Self::MAX_RUNS`].
    pub async fn follow(
        &self,
        permit: &Permit<Read>,
        id: PluginId,
        after: Option<RunId>,
        (limit, wait): (u32, Duration),
    ) -> Result<Vec<Run>> {
        let plugin = self.get(permit, id).await?;
        check(limit)?;
        let core = &self.0.core;
        let after = match after {
            Some(after) => after,
            None => {
                let newest = core.db.fetch_optional(newest(plugin.tenant_id)).await?;
                let newest = newest.map(|mut row| row.uuid()).transpose()?;
                RunId(newest.unwrap_or_default())
            }
        };
        let mut commits = core.db.commits();
        let until = tokio::time::Instant::now() + wait.min(LONGEST_WAIT);
        loop {
            commits.borrow_and_update();
            let mut sql = of(plugin.tenant_id, id);
            sql.push(" AND id > ")
                .arg(after, ColumnType::Uuid)
                .push(" ORDER BY id LIMIT ")
                .number(u64::from(limit));
            let runs = read(&core.db, sql).await?;
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if !runs.is_empty() || left.is_zero() {
                return Ok(runs);
            }
            // Commits of other processes are not heard of.
            let _ = tokio::time::timeout(left.min(LOOK), commits.changed()).await;
        }
    }

    /// One run of a plugin.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn run(&self, permit: &Permit<Read>, id: PluginId, run: RunId) -> Result<Run> {
        let tenant = permit.on(OBJECT)?.tenant();
        find(&self.0.core.db, tenant, id, run).await
    }
}

/// The id of the tenant's newest run.
pub(super) fn newest(tenant: TenantId) -> Sql {
    Sql::new("SELECT id FROM plugin_runs WHERE tenant_id = $1 ORDER BY id DESC LIMIT 1")
        .bind(tenant, ColumnType::Uuid)
        .returns(&[ColumnType::Uuid])
}

/// One run.
pub(super) async fn find(db: &Db, tenant: TenantId, plugin: PluginId, run: RunId) -> Result<Run> {
    let mut sql = of(tenant, plugin);
    sql.push(" AND id = ").arg(run, ColumnType::Uuid);
    let row = db.fetch_optional(sql).await?;
    Run::from_row(row.ok_or(Error::NotFound)?)
}

fn of(tenant: TenantId, plugin: PluginId) -> Sql {
    let mut sql = Sql::new(concat!(
        "SELECT ",
        columns!(),
        " FROM plugin_runs WHERE tenant_id = "
    ))
    .returns(COLUMNS);
    sql.arg(tenant, ColumnType::Uuid)
        .push(" AND plugin_id = ")
        .arg(plugin, ColumnType::Uuid);
    sql
}

async fn read(db: &Db, sql: Sql) -> Result<Vec<Run>> {
    let rows = db.fetch_all(sql).await?;
    rows.into_iter().map(Run::from_row).collect()
}

fn check(limit: u32) -> Result<()> {
    if limit == 0 || limit > Plugins::MAX_RUNS {
        let message = format!("must be between 1 and {}", Plugins::MAX_RUNS);
        return Err(Error::invalid("limit", "out_of_range", message));
    }
    Ok(())
}

/// The smallest id of this millisecond: ids grow with time.
fn first_of(time: DateTime<Utc>) -> uuid::Uuid {
    let millis = u64::try_from(time.timestamp_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
}

/// Whether the plugin has handled the event, or the message, with this id.
pub(super) async fn exists(db: &Db, plugin: &Plugin, id: EventId) -> Result<bool> {
    let sql = Sql::new(
        "SELECT 1 FROM plugin_runs WHERE tenant_id = $1 AND plugin_id = $2 AND event_id = $3",
    )
    .bind(plugin.tenant_id, ColumnType::Uuid)
    .bind(plugin.id, ColumnType::Uuid)
    .bind(id, ColumnType::Uuid);
    Ok(db.fetch_optional(sql).await?.is_some())
}
