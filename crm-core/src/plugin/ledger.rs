//! What a run leaves behind, in one transaction: its record, what it was given and exchanged, and
//! what it adds to the tenant's usage of the day. Who keeps failing is parked; a canary that does
//! is ended, and its failures count for nothing but itself.

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use super::budget::Reserved;
use super::kept::KeptInput;
use super::occasion::Occasion;
use super::perform::Performed;
use super::transcript::Transcript;
use super::{OBJECT, Plugin, PluginStatus, Plugins, notice, rest, run, store, timer, usage};
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::hook::{Input, LogLevel, LogLine, Outcome, Report};
use crate::id::{EventId, RunId, TenantId};
use crate::journal::{self, Author};
use crate::mail::MailKind;
use crate::scope::{Actor, RequestContext};

/// So many failures in a row park a plugin.
const FAILURES: u64 = 20;
/// So many in a row of a canary end it.
const CANARY_FAILURES: u64 = 5;

/// A run that is over.
pub(super) struct Ended {
    pub(super) event_id: Option<EventId>,
    pub(super) trigger: String,
    occasion: Occasion,
    pub(super) seed: [u8; 32],
    pub(super) started_at: DateTime<Utc>,
    /// What it was given; absent where it never began.
    pub(super) input: Option<Input>,
    pub(super) transcript: Transcript,
    pub(super) report: Report,
    /// The fuel that was set aside for it.
    pub(super) reserved: Option<Reserved>,
    /// Whether it tells something of the plugin.
    counts: bool,
}

impl Ended {
    /// One that is about to begin, and may not get that far.
    pub(super) fn new(
        core: &Core,
        (trigger, event_id): (String, Option<EventId>),
        occasion: Occasion,
    ) -> Self {
        Self {
            event_id,
            trigger,
            occasion,
            seed: core.clock.random(),
            started_at: core.clock.now(),
            input: None,
            transcript: Transcript::default(),
            report: Report::refused(""),
            reserved: None,
            counts: true,
        }
    }

    /// With what became of it on the host.
    pub(super) fn performed(&mut self, performed: Performed, input: Input) {
        self.report = performed.report;
        self.counts &= !performed.excused;
        self.transcript = performed.transcript;
        self.reserved = performed.reserved;
        self.input = Some(input).filter(|_| self.report.outcome != Outcome::Refused);
    }

    /// The same, of what others ask for by themselves. However that ends, it neither parks the
    /// plugin nor has it rest: they would stop it for everybody by asking for what it fails on.
    pub(super) fn asked_for(self) -> Self {
        Self {
            counts: false,
            ..self
        }
    }
}

impl Plugins {
    /// Keeps what is left of a run, unless there is one for this plugin and event already or the
    /// plugin has been deleted meanwhile. Answers the run's id; ids of a tenant's runs grow in the order in
    /// which they are committed, but for those around midnight in UTC.
    pub(super) async fn keep(&self, plugin: &Plugin, mut ended: Ended) -> Result<RunId> {
        let counts = ended.counts;
        let failed = counts && ended.report.outcome.is_failure();
        let clock = self.0.core.clock.clone();
        let (now, of) = (clock.now(), plugin.clone());
        let details = Details::of(&ended)?;
        let bytes = details.as_ref().map_or(0, Details::bytes);
        let job = self.0.core.db.write(move |tx| {
            Box::pin(async move {
                let usage = ended.report.usage;
                let outcome = ended.report.outcome;
                let tenant = of.tenant_id;
                let logs = ended.report.logs.iter();
                let logged = logs.map(|line| line.message.len()).sum();
                // It has used what it used, whether or not there is a record of it.
                let used = usage::add(tenant, now, (outcome, &usage), logged);
                let kept = tx.number(used).await?;
                if logged > 0 && kept > usage::DAILY_BYTES {
                    ended.report.logs = not_kept();
                }
                // Other runs of the tenant wait for the day's row until this one is committed, so whoever
                // follows by their ids misses none, however the clocks of processes differ.
                let newest = tx.fetch_optional(run::newest(tenant)).await?;
                let newest = newest.map(|mut row| row.uuid()).transpose()?;
                let id = RunId(behind(newest, clock.new_id()));
                if let Some(reserved) = &ended.reserved {
                    tx.execute(reserved.settle()).await?;
                }
                if tx.fetch_optional(run(id, &of, &ended)?).await?.is_none() {
                    return Ok((id, 0, false));
                }
                if let Some(details) = details {
                    tx.execute(details.insert(tenant, id)).await?;
                }
                let rests = counts && rest::note(tx, &of, outcome, now).await?;
                Ok((id, bytes, rests))
            })
        });
        let (id, bytes, rests) = job.await?;
        if rests {
            self.forget(plugin.tenant_id).await;
        }
        // What is kept is kept: the next run makes room, or parks.
        let tidied = async {
            self.make_room(plugin.tenant_id, bytes).await?;
            match failed {
                true => self.after_failure(plugin).await,
                false => Ok(()),
            }
        };
        if let Err(error) = tidied.await {
            let (plugin, error) = (plugin.id, &error as &dyn std::error::Error);
            tracing::warn!(%plugin, error, "what follows a run of a plugin was left to the next");
        }
        Ok(id)
    }

    /// What becomes of a plugin that failed in this version.
    async fn after_failure(&self, plugin: &Plugin) -> Result<()> {
        let most = match plugin.is_canary() {
            true => CANARY_FAILURES,
            false => FAILURES,
        };
        match self.keeps_failing(plugin, most).await? {
            true if plugin.is_canary() => self.end_canary(plugin).await,
            true => self.park(plugin).await,
            false => Ok(()),
        }
    }

    /// Whether so many of the last runs of the plugin in this version all failed.
    async fn keeps_failing(&self, plugin: &Plugin, most: u64) -> Result<bool> {
        let mut last = Sql::new(
            "SELECT outcome FROM plugin_runs WHERE tenant_id = $1 AND plugin_id = $2 \
             AND started_at >= $3 AND outcome NOT IN ('refused', 'cancelled') \
             AND counts = $4 AND sha256 = $5 ORDER BY id DESC LIMIT ",
        )
        .bind(plugin.tenant_id, ColumnType::Uuid)
        .bind(plugin.id, ColumnType::Uuid)
        .bind(
            plugin.enabled_at.unwrap_or(DateTime::UNIX_EPOCH),
            ColumnType::Instant,
        )
        .bind(true, ColumnType::Bool)
        .bind(plugin.sha256.to_vec(), ColumnType::Bytes)
        .returns(&[ColumnType::Text]);
        last.number(most);
        let rows = self.0.core.db.fetch_all(last).await?;
        let mut failures = 0;
        for mut row in rows {
            let outcome = Outcome::parse(&row.text::<String>()?);
            failures += u64::from(outcome.is_some_and(Outcome::is_failure));
        }
        Ok(failures >= most)
    }

    /// Parks a plugin until an administrator has looked at it, unless another version is active by
    /// now.
    pub(super) async fn park(&self, plugin: &Plugin) -> Result<()> {
        let failed = plugin.sha256;
        let park = move |plugin: &mut Plugin| {
            let active = plugin.sha256 == failed;
            if active {
                plugin.status = PluginStatus::Parked;
                plugin.parked = Some(format!("its last {FAILURES} runs failed"));
            }
            active
        };
        let told = ("plugins.park", MailKind::PluginParked);
        self.step_in(plugin, told, park).await
    }

    /// Sends no more events to a canary.
    async fn end_canary(&self, plugin: &Plugin) -> Result<()> {
        let failed = plugin.sha256;
        let end = move |plugin: &mut Plugin| {
            let ended = plugin.canary.take_if(|canary| canary.sha256 == failed);
            ended.is_some()
        };
        let told = ("plugins.end_canary", MailKind::PluginCanaryEnded);
        self.step_in(plugin, told, end).await
    }

    /// Changes an enabled plugin because it failed, and tells the audit log and some people.
    async fn step_in(
        &self,
        plugin: &Plugin,
        (action, kind): (&'static str, MailKind),
        change: impl FnOnce(&mut Plugin) -> bool + Send + 'static,
    ) -> Result<()> {
        // Whom to tell is no reason not to do it.
        let readers = self.readers(plugin).await.unwrap_or_else(|error| {
            let (plugin, error) = (plugin.id, &error as &dyn std::error::Error);
            tracing::warn!(%plugin, error, action, "nobody is told what became of a plugin");
            Vec::new()
        });
        let (core, tenant, id) = (self.0.core.clone(), plugin.tenant_id, plugin.id);
        let job = self.0.core.db.write(move |tx| {
            Box::pin(async move {
                let clock = &core.clock;
                let Some(before) = store::lock(tx, tenant, id).await? else {
                    return Ok(());
                };
                if before.status != PluginStatus::Enabled {
                    return Ok(());
                }
                let mut after = before.clone();
                if !change(&mut after) {
                    return Ok(());
                }
                store::put(tx, &after).await?;
                timer::settle(tx, &after, clock.now(), Some(&before)).await?;
                notice::tell(tx, &core, &after, (kind, readers)).await?;
                let request = RequestContext {
                    id: "plugins".into(),
                    address: None,
                };
                let author = Author {
                    clock,
                    tenant,
                    actor: Actor::Plugin(id),
                    request: &request,
                };
                let json = |plugin: &Plugin| serde_json::to_value(plugin).map_err(Error::internal);
                let (before, after) = (Some(json(&before)?), Some(json(&after)?));
                let entity = (OBJECT, Some(id.to_string()));
                journal::audit_by(tx, author, action, entity, before, after).await
            })
        });
        job.await?;
        self.0.core.post.wake();
        self.forget(tenant).await;
        Ok(())
    }

    /// Notes once for each chain of causes that it was ended.
    pub(super) async fn note_end_of_chain(
        &self,
        plugin: &Plugin,
        event: &crate::event::Event,
    ) -> Result<()> {
        let (clock, tenant, id) = (self.0.core.clock.clone(), plugin.tenant_id, plugin.id);
        let (root, event) = (event.root_id, event.clone());
        let job = self.0.core.db.write(move |tx| {
            Box::pin(async move {
                // Of two ends of a chain that are met at once, the second one waits here.
                store::hold(tx, tenant).await?;
                if is_noted(tx, &event).await? {
                    return Ok(());
                }
                let request = RequestContext {
                    id: event.request_id.as_str().into(),
                    address: None,
                };
                let author = Author {
                    clock: &clock,
                    tenant,
                    actor: Actor::Plugin(id),
                    request: &request,
                };
                let after = json!({"kind": event.kind, "depth": event.depth, "event": event.id});
                let entity = (CHAIN, Some(root.to_string()));
                journal::audit_by(tx, author, "plugins.recursion", entity, None, Some(after)).await
            })
        });
        job.await
    }
}

/// What the audit log calls a chain of events.
const CHAIN: &str = "events";

async fn is_noted(tx: &mut Tx<'_>, event: &crate::event::Event) -> Result<bool> {
    let noted = Sql::new(
        "SELECT 1 FROM audit_log WHERE tenant_id = $1 AND entity = $2 AND entity_id = $3 LIMIT 1",
    )
    .bind(event.tenant_id, ColumnType::Uuid)
    .bind(CHAIN, ColumnType::Text)
    .bind(event.root_id.to_string(), ColumnType::Text);
    Ok(tx.fetch_optional(noted).await?.is_some())
}

impl Outcome {
    /// Whether the plugin itself is to blame.
    pub(super) fn is_failure(self) -> bool {
        match self {
            Self::Succeeded | Self::Cancelled | Self::Refused => false,
            Self::Failed
            | Self::Trapped
            | Self::OutOfFuel
            | Self::TimedOut
            | Self::OutOfMemory
            | Self::LimitExceeded => true,
        }
    }

    /// Whether the clock or somebody ended it, wherever it was: doing the same again does not end so.
    pub(super) fn is_interrupted(self) -> bool {
        matches!(self, Self::TimedOut | Self::Cancelled)
    }
}

/// What stands for the log of a run on a day that has no room for it.
pub(super) fn not_kept() -> Vec<LogLine> {
    vec![LogLine {
        level: LogLevel::Warn,
        message: format!("the log is not kept: {}", usage::day_is_full()),
    }]
}

/// This id, or the next one behind the newest where that is not behind it.
fn behind(newest: Option<Uuid>, id: Uuid) -> Uuid {
    match newest {
        Some(newest) if newest >= id => Uuid::from_u128(newest.as_u128().saturating_add(1)),
        _ => id,
    }
}

/// The row of a run; answers one where it was written.
fn run(id: RunId, plugin: &Plugin, ended: &Ended) -> Result<Sql> {
    let (report, occasion) = (&ended.report, &ended.occasion);
    let logs = serde_json::to_value(&report.logs).map_err(Error::internal)?;
    let usage = &report.usage;
    let large = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let duration = i64::try_from(usage.duration.as_micros()).unwrap_or(i64::MAX);
    Ok(Sql::new(
        "INSERT INTO plugin_runs (tenant_id, id, plugin_id, sha256, event_id, trigger, outcome, \
         error, fuel, duration_us, memory, host_calls, rows_read, rows_written, requests, \
         request_bytes, logs, started_at, counts, caused_by, impersonator, module, record_id) \
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, \
         $20, $21, $22, $23 WHERE EXISTS (SELECT 1 FROM plugins WHERE tenant_id = $24 AND id = $25) \
         ON CONFLICT (tenant_id, plugin_id, event_id) DO NOTHING RETURNING 1",
    )
    .bind(plugin.tenant_id, ColumnType::Uuid)
    .bind(id, ColumnType::Uuid)
    .bind(plugin.id, ColumnType::Uuid)
    .bind(plugin.sha256.to_vec(), ColumnType::Bytes)
    .bind(ended.event_id, ColumnType::Uuid)
    .bind(&ended.trigger, ColumnType::Text)
    .bind(report.outcome.as_str(), ColumnType::Text)
    .bind(report.error.as_deref().map(storable), ColumnType::Text)
    .bind(large(usage.fuel), ColumnType::Int)
    .bind(duration, ColumnType::Int)
    .bind(large(usage.memory), ColumnType::Int)
    .bind(usage.host_calls, ColumnType::Int)
    .bind(usage.rows_read, ColumnType::Int)
    .bind(usage.rows_written, ColumnType::Int)
    .bind(usage.requests, ColumnType::Int)
    .bind(large(usage.request_bytes), ColumnType::Int)
    .bind(logs, ColumnType::Json)
    .bind(ended.started_at, ColumnType::Instant)
    .bind(ended.counts, ColumnType::Bool)
    .bind(&occasion.caused_by, ColumnType::Text)
    .bind(occasion.impersonator.clone(), ColumnType::Text)
    .bind(occasion.module.clone(), ColumnType::Text)
    .bind(occasion.record_id, ColumnType::Uuid)
    .bind(plugin.tenant_id, ColumnType::Uuid)
    .bind(plugin.id, ColumnType::Uuid))
}

/// What a replay needs.
struct Details {
    seed: Vec<u8>,
    /// As text: PostgreSQL's own JSON holds no NUL, and guests may write some.
    input: Vec<u8>,
    transcript: Vec<u8>,
}

impl Details {
    /// Nothing of a run that never began.
    fn of(ended: &Ended) -> Result<Option<Self>> {
        let Some(input) = &ended.input else {
            return Ok(None);
        };
        let text = |text: serde_json::Result<Vec<u8>>| text.map_err(Error::internal);
        Ok(Some(Self {
            seed: ended.seed.to_vec(),
            input: text(serde_json::to_vec(&KeptInput::from(input)))?,
            transcript: text(serde_json::to_vec(&ended.transcript))?,
        }))
    }

    fn bytes(&self) -> usize {
        self.input.len() + self.transcript.len()
    }

    fn insert(self, tenant: TenantId, id: RunId) -> Sql {
        Sql::new(
            "INSERT INTO plugin_run_details (tenant_id, run_id, seed, input, transcript) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(tenant, ColumnType::Uuid)
        .bind(id, ColumnType::Uuid)
        .bind(self.seed, ColumnType::Bytes)
        .bind(self.input, ColumnType::Bytes)
        .bind(self.transcript, ColumnType::Bytes)
    }
}

/// PostgreSQL's text holds no NUL, and a guest may write what it likes.
pub(super) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
