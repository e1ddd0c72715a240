//! What wakes plugins by the clock: cron triggers, and jobs that they schedule for themselves.
//!
//! A due time is taken by whoever moves it on first, in one statement, so that all processes
//! together run a tick once at most; ticks that nobody was there for become one, and one for which
//! there was no place is due still. One whose process was killed is not run again, and its record
//! says so. A job is taken for a while and removed behind its run, so that
//! it outlives a killed process; one that cannot run for a reason that may pass, such as that its
//! plugin is switched off, waits for some days.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::ledger::Ended;
use super::occasion::{CLOCK, Occasion};
use super::standing::{Standing, Withdrawn};
use super::turns::{self, BATCH};
use super::wait::{self, MOST_WAIT};
use super::{Plugin, PluginStatus, Plugins, run, store, usage};
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::event::Principal;
use crate::hook::{Input, Outcome, Report, Tick};
use crate::id::{EventId, PluginId, TenantId};
use crate::scope::{Actor, Cause, Origin, Scope};

/// How long a due time is taken for.
const TAKEN: TimeDelta = TimeDelta::minutes(10);
/// What is said of a tick that nobody ended.
const KILLED: &str = "the process that ran it was killed; what it had done by then stays, and it is \
    not run again";
/// The longest delay of a job.
const MOST_DELAY: u64 = 366 * 24 * 60 * 60;
/// Most bytes of what a job is given.
const MAX_PAYLOAD: usize = 32 * 1024;

/// What the clock wakes plugins for.
#[derive(Clone)]
pub(crate) struct Timer(pub(crate) Plugins);

#[derive(Clone, Copy)]
enum Kind {
    /// Of a cron trigger.
    Tick,
    /// Of a cron trigger that somebody ran who is gone.
    Lost,
    /// That a plugin scheduled.
    Job,
}

/// Something due.
#[derive(Clone)]
pub(crate) struct Due {
    kind: Kind,
    tenant: TenantId,
    plugin: PluginId,
    name: String,
    due_at: DateTime<Utc>,
}

/// A job that was taken, with what its plugin left for it.
struct TakenJob {
    /// Due when it was first due.
    due: Due,
    payload: Option<String>,
    principal: Option<String>,
    cause: Cause,
}

impl turns::Due for Due {
    fn tenant(&self) -> TenantId {
        self.tenant
    }

    fn due_at(&self) -> DateTime<Utc> {
        self.due_at
    }
}

/// What became of a due time.
struct Called {
    ended: Ended,
    /// There was no place for it.
    busy: bool,
    /// Where it was refused: whether the reason may pass.
    may_pass: bool,
}

impl turns::Source for Timer {
    type Due = Due;
    const WHAT: &str = "what was due by the clock";

    async fn waiting(&self) -> Result<Vec<Due>> {
        let mut due = self.due(Kind::Tick).await?;
        due.extend(self.due(Kind::Lost).await?);
        due.extend(self.due(Kind::Job).await?);
        Ok(due)
    }

    async fn handle(self, due: Due) -> Result<bool> {
        match due.kind {
            Kind::Tick => self.tick(due).await,
            Kind::Lost => self.lost(due).await,
            Kind::Job => self.job(due).await,
        }
    }

    async fn woken(&self) {
        self.0.0.resumed.notified().await;
    }
}

impl Timer {
    async fn due(&self, kind: Kind) -> Result<Vec<Due>> {
        let core = &self.0.0.core;
        let sql = match kind {
            Kind::Tick => {
                "SELECT tenant_id, plugin_id, name, due_at FROM (SELECT tenant_id, plugin_id, name, \
                 due_at, row_number() OVER (PARTITION BY tenant_id ORDER BY due_at) AS place \
                 FROM plugin_ticks WHERE due_at <= $1) AS due ORDER BY place, due_at LIMIT "
            }
            Kind::Lost => {
                "SELECT tenant_id, plugin_id, name, under_way FROM (SELECT tenant_id, plugin_id, \
                 name, under_way, row_number() OVER (PARTITION BY tenant_id ORDER BY lost_at) \
                 AS place FROM plugin_ticks WHERE lost_at <= $1) AS lost \
                 ORDER BY place, under_way LIMIT "
            }
            Kind::Job => {
                "SELECT tenant_id, plugin_id, name, due_at FROM (SELECT tenant_id, plugin_id, name, \
                 due_at, row_number() OVER (PARTITION BY tenant_id ORDER BY due_at) AS place \
                 FROM plugin_jobs WHERE due_at <= $1) AS due ORDER BY place, due_at LIMIT "
            }
        };
        let mut sql = Sql::new(sql)
            .bind(core.clock.now(), ColumnType::Instant)
            .returns(&[
                ColumnType::Uuid,
                ColumnType::Uuid,
                ColumnType::Text,
                ColumnType::Instant,
            ]);
        sql.number(BATCH);
        let rows = core.db.fetch_all(sql).await?;
        let rows = rows.into_iter().map(|mut row| {
            Ok(Due {
                kind,
                tenant: row.uuid()?,
                plugin: row.uuid()?,
                name: row.text()?,
                due_at: row.instant()?,
            })
        });
        rows.collect()
    }

    /// Runs a cron trigger, if nobody else does; answers whether it did.
    async fn tick(&self, due: Due) -> Result<bool> {
        let core = &self.0.0.core;
        let plugin = store::find(&core.db, due.tenant, due.plugin).await?;
        let plugin = plugin.filter(|plugin| plugin.status == PluginStatus::Enabled);
        let next = plugin.as_ref().and_then(|plugin| {
            let mut crons = plugin.manifest.crons();
            let cron = crons.find(|cron| *cron.name.as_str() == due.name)?;
            // Behind this one, also where the clock stepped back since it was found.
            cron.schedule.next(core.clock.now().max(due.due_at))
        });
        let (Some(plugin), Some(next)) = (plugin, next) else {
            let remove = Sql::new(
                "DELETE FROM plugin_ticks WHERE tenant_id = $1 AND plugin_id = $2 \
                 AND name = $3 AND due_at = $4",
            );
            self.execute(due.bound(remove, due.due_at)).await?;
            return Ok(false);
        };
        if !self.take_tick(&due, next).await? {
            return Ok(false);
        }
        let origin = Origin {
            request_id: format!("cron-{}", core.clock.new_id().simple()).into(),
            cause: Some(root(core.clock.new_id(), 0)),
            principal: None,
        };
        let called = self
            .call(Arc::new(plugin.clone()), origin, &due, None)
            .await;
        if called.as_ref().map_or(true, |called| called.busy) {
            self.give_back(&due, next).await?;
        }
        let called = called?;
        if called.busy {
            return Ok(false);
        }
        self.0.keep(&plugin, called.ended).await?;
        self.is_told(&due).await?;
        Ok(true)
    }

    /// Takes a tick, and has the `next` one be due; answers whether nobody else did.
    async fn take_tick(&self, due: &Due, next: DateTime<Utc>) -> Result<bool> {
        let take = Sql::new(
            "UPDATE plugin_ticks SET due_at = $5, under_way = due_at, lost_at = $6 \
             WHERE tenant_id = $1 AND plugin_id = $2 AND name = $3 AND due_at = $4",
        );
        let take = due.bound(take, due.due_at).bind(next, ColumnType::Instant);
        let lost = self.0.0.core.clock.now() + TAKEN;
        Ok(self.execute(take.bind(lost, ColumnType::Instant)).await? == 1)
    }

    /// Has a tick that was taken be due again, where the `next` one is not taken yet.
    async fn give_back(&self, due: &Due, next: DateTime<Utc>) -> Result<()> {
        let give_back = Sql::new(
            "UPDATE plugin_ticks SET due_at = $5, under_way = NULL, lost_at = NULL \
             WHERE tenant_id = $1 AND plugin_id = $2 AND name = $3 AND due_at = $4",
        );
        let give_back = due.bound(give_back, next);
        self.execute(give_back.bind(due.due_at, ColumnType::Instant))
            .await
            .map(drop)
    }

    /// Notes that a tick which was taken has its record.
    async fn is_told(&self, due: &Due) -> Result<()> {
        let told = Sql::new(
            "UPDATE plugin_ticks SET under_way = NULL, lost_at = NULL \
             WHERE tenant_id = $1 AND plugin_id = $2 AND name = $3 AND under_way = $4",
        );
        self.execute(due.bound(told, due.due_at)).await.map(drop)
    }

    /// Keeps a record of a tick whose process was killed; answers whether it had none.
    async fn lost(&self, due: Due) -> Result<bool> {
        let core = &self.0.0.core;
        let plugin = store::find(&core.db, due.tenant, due.plugin).await?;
        let Some(plugin) = plugin else {
            // Its ticks went with it.
            return Ok(false);
        };
        let lost = !run::exists(&core.db, &plugin, due.id()).await?;
        if lost {
            let mut ended = due.begun(core, Occasion::after(None, CLOCK));
            ended.report = Report {
                outcome: Outcome::Cancelled,
                ..Report::refused(KILLED)
            };
            self.0.keep(&plugin, ended).await?;
        }
        self.is_told(&due).await?;
        Ok(lost)
    }

    /// Runs a job that a plugin scheduled, if nobody else does; answers whether it did.
    async fn job(&self, due: Due) -> Result<bool> {
        let core = &self.0.0.core;
        let until = core.clock.now() + TAKEN;
        let Some(job) = self.take(due, until).await? else {
            return Ok(false);
        };
        let due = job.due.clone();
        let Some(plugin) = store::find(&core.db, due.tenant, due.plugin).await? else {
            // Its jobs went with it.
            return Ok(false);
        };
        let runs = !run::exists(&core.db, &plugin, due.id()).await?;
        if runs && !self.run_taken(job, plugin, until).await? {
            return Ok(false);
        }
        // One that was scheduled anew meanwhile has another time.
        let remove = Sql::new(
            "DELETE FROM plugin_jobs WHERE tenant_id = $1 AND plugin_id = $2 AND name = $3 \
             AND due_at = $4",
        );
        self.execute(due.bound(remove, until)).await?;
        Ok(runs)
    }

    /// Takes a job `until` then, unless somebody else has it.
    async fn take(&self, due: Due, until: DateTime<Utc>) -> Result<Option<TakenJob>> {
        let take = Sql::new(
            "UPDATE plugin_jobs SET due_at = $5, first_due_at = coalesce(first_due_at, due_at), \
             put_off = $6 WHERE tenant_id = $1 AND plugin_id = $2 AND name = $3 AND due_at = $4 \
             RETURNING payload, principal, root_id, depth, first_due_at",
        );
        let take = due
            .bound(take, due.due_at)
            .bind(until, ColumnType::Instant)
            .bind(false, ColumnType::Bool)
            .returns(&[
                ColumnType::Text,
                ColumnType::Text,
                ColumnType::Uuid,
                ColumnType::Int,
                ColumnType::Instant,
            ]);
        let db = &self.0.0.core.db;
        let taken = db.write(move |tx| Box::pin(tx.fetch_optional(take)));
        let Some(mut row) = taken.await? else {
            return Ok(None);
        };
        let (payload, principal) = (row.opt_text()?, row.opt_text()?);
        let (root_id, depth) = (row.uuid()?, row.int::<i64>()?);
        let due_at = row.instant()?;
        Ok(Some(TakenJob {
            due: Due { due_at, ..due },
            payload,
            principal,
            cause: root(root_id, u16::try_from(depth).unwrap_or(u16::MAX)),
        }))
    }

    /// Runs a job that was taken `until` then; answers whether it ran, and was not put off.
    async fn run_taken(&self, job: TakenJob, plugin: Plugin, until: DateTime<Utc>) -> Result<bool> {
        let (clock, due) = (&self.0.0.core.clock, job.due);
        let principal = job.principal;
        let principal = principal.map(|text| Principal::parse(&text, due.tenant));
        let origin = Origin {
            request_id: format!("job-{}", clock.new_id().simple()).into(),
            cause: Some(job.cause),
            principal: principal.transpose()?,
        };
        let called = self.call(Arc::new(plugin.clone()), origin, &due, job.payload);
        let called = called.await?;
        let refused = called.ended.report.outcome == Outcome::Refused;
        if refused && called.may_pass && clock.now() - due.due_at < MOST_WAIT {
            self.put_off(due, plugin, until).await?;
            return Ok(false);
        }
        self.0.keep(&plugin, called.ended).await?;
        Ok(true)
    }

    /// Puts a job off, taken `until` then, that the plugin, as it was seen, could not do.
    async fn put_off(&self, due: Due, seen: Plugin, until: DateTime<Utc>) -> Result<()> {
        let now = self.0.0.core.clock.now();
        let job = self.0.0.core.db.write(move |tx| {
            Box::pin(async move {
                let put_off = Sql::new(
                    "UPDATE plugin_jobs SET due_at = $5, put_off = $6 WHERE tenant_id = $1 \
                     AND plugin_id = $2 AND name = $3 AND due_at = $4",
                );
                let again = wait::again(tx, &seen, now).await?;
                let put_off = due.bound(put_off, until).bind(again, ColumnType::Instant);
                tx.execute(put_off.bind(true, ColumnType::Bool)).await
            })
        });
        job.await.map(drop)
    }

    /// Calls a plugin because the time has come. An error says that it never began.
    async fn call(
        &self,
        plugin: Arc<Plugin>,
        origin: Origin,
        due: &Due,
        payload: Option<String>,
    ) -> Result<Called> {
        let core = &self.0.0.core;
        let occasion = match due.kind {
            Kind::Tick | Kind::Lost => Occasion::after(None, CLOCK),
            Kind::Job => Occasion::after(origin.principal, Actor::Plugin(plugin.id)),
        };
        let mut called = Called {
            ended: due.begun(core, occasion),
            busy: false,
            may_pass: true,
        };
        let ended = &mut called.ended;
        if let Some(reason) = due.is_kept_from(&plugin) {
            ended.report = Report::refused(reason);
            return Ok(called);
        }
        let standing = Standing::new(core.clone(), plugin, origin);
        if let Err(withdrawn) = standing.begin().await? {
            called.may_pass = !matches!(withdrawn, Withdrawn::Principal(_));
            ended.report = Report::refused(withdrawn.to_string());
            return Ok(called);
        }
        let tick = Tick {
            name: due.name.clone(),
            due_at: due.due_at,
            payload,
        };
        let input = Input::Tick(Arc::new(tick));
        called.busy = self.0.perform(standing, input, ended).await?.is_some();
        Ok(called)
    }

    async fn execute(&self, sql: Sql) -> Result<u64> {
        self.0.0.core.db.execute(sql).await
    }
}

impl Due {
    /// Its run, which is about to begin.
    fn begun(&self, core: &Core, occasion: Occasion) -> Ended {
        let what = match self.kind {
            Kind::Tick | Kind::Lost => "cron",
            Kind::Job => "job",
        };
        let woken_by = (format!("{what} {}", self.name), Some(self.id()));
        Ended::new(core, woken_by, occasion)
    }

    /// What it is known by: the same one is run once.
    fn id(&self) -> EventId {
        let digest = Sha256::new()
            .chain_update(self.plugin.0.as_bytes())
            .chain_update(self.name.as_bytes())
            .chain_update(self.due_at.timestamp_micros().to_be_bytes())
            .finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        EventId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// Why the plugin does not do it at this time.
    fn is_kept_from(&self, plugin: &Plugin) -> Option<String> {
        let mut jobs = plugin.manifest.jobs.iter();
        match self.kind {
            _ if plugin.status != PluginStatus::Enabled => Some(wait::switched_off()),
            Kind::Job if !jobs.any(|job| *job.as_str() == self.name) => {
                Some("the active version of the plugin has no such job".to_owned())
            }
            Kind::Job | Kind::Tick | Kind::Lost => None,
        }
    }

    /// Binds what finds its row while it is due at `due_at`.
    fn bound(&self, sql: Sql, due_at: DateTime<Utc>) -> Sql {
        sql.bind(self.tenant, ColumnType::Uuid)
            .bind(self.plugin, ColumnType::Uuid)
            .bind(&self.name, ColumnType::Text)
            .bind(due_at, ColumnType::Instant)
    }
}

/// A chain of causes that begins by the clock.
fn root(id: Uuid, depth: u16) -> Cause {
    Cause {
        root_id: EventId(id),
        depth,
    }
}

/// The delay, where the plugin may have itself called so.
pub(super) fn check(
    plugin: &Plugin,
    name: &str,
    delay: Duration,
    payload: Option<&str>,
) -> Result<TimeDelta> {
    if !plugin.manifest.jobs.iter().any(|job| job.as_str() == name) {
        return Err(Error::Forbidden {
            permission: format!("jobs.{name}"),
        });
    }
    let seconds = delay.as_secs();
    if seconds == 0 || seconds > MOST_DELAY {
        let message = format!("must be 1 to {MOST_DELAY} seconds");
        return Err(Error::invalid("delay_seconds", "out_of_range", message));
    }
    if payload.is_some_and(|payload| payload.len() > MAX_PAYLOAD) {
        let message = format!("must have at most {MAX_PAYLOAD} bytes");
        return Err(Error::invalid("payload", "too_long", message));
    }
    if payload.is_some_and(|payload| payload.contains('\0')) {
        let message = "must not contain NUL";
        return Err(Error::invalid("payload", "invalid_text", message));
    }
    TimeDelta::from_std(Duration::from_secs(seconds)).map_err(Error::internal)
}

/// Has the plugin called after a delay; a job of the same name that still waits is replaced.
pub(super) async fn schedule(
    scope: &Scope,
    plugin: &Plugin,
    name: &str,
    delay: Duration,
    payload: Option<String>,
) -> Result<()> {
    let due = scope.clock().now() + check(plugin, name, delay, payload.as_deref())?;
    let bytes = payload.as_ref().map_or(0, String::len);
    let cause = scope
        .cause()
        .unwrap_or_else(|| root(scope.clock().new_id(), 0));
    let put = Sql::new(
        "INSERT INTO plugin_jobs (tenant_id, plugin_id, name, payload, due_at, principal, root_id, \
         depth) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tenant_id, plugin_id, name) \
         DO UPDATE SET payload = excluded.payload, due_at = excluded.due_at, first_due_at = NULL, \
         put_off = excluded.put_off, principal = excluded.principal, root_id = excluded.root_id, depth = excluded.depth",
    )
    .bind(plugin.tenant_id, ColumnType::Uuid)
    .bind(plugin.id, ColumnType::Uuid)
    .bind(name, ColumnType::Text)
    .bind(payload, ColumnType::Text)
    .bind(due, ColumnType::Instant)
    .bind(scope.told_principal(), ColumnType::Text)
    .bind(cause.root_id, ColumnType::Uuid)
    .bind(cause.depth, ColumnType::Int);
    let (tenant, now) = (scope.tenant(), scope.clock().now());
    let job = scope.core().db.write(move |tx| {
        Box::pin(async move {
            usage::take_room(tx, tenant, now, bytes).await?;
            tx.execute(put).await.map(drop)
        })
    });
    job.await
}

/// Makes the plugin's due times those of its active version, while it is switched on.
pub(super) async fn settle(
    tx: &mut Tx<'_>,
    plugin: &Plugin,
    now: DateTime<Utc>,
    before: Option<&Plugin>,
) -> Result<()> {
    let of = |plugin: &Plugin| {
        let crons = plugin
            .manifest
            .crons()
            .filter(|_| plugin.status == PluginStatus::Enabled);
        let crons = crons.map(|cron| (cron.name.clone(), cron.schedule.clone()));
        crons.collect::<Vec<_>>()
    };
    let (wanted, known) = (of(plugin), before.map(of).unwrap_or_default());
    for (name, _) in known.iter().filter(|one| !wanted.contains(one)) {
        let delete = Sql::new(
            "DELETE FROM plugin_ticks WHERE tenant_id = $1 AND plugin_id = $2 AND name = $3",
        )
        .bind(plugin.tenant_id, ColumnType::Uuid)
        .bind(plugin.id, ColumnType::Uuid)
        .bind(name.as_str(), ColumnType::Text);
        tx.execute(delete).await?;
    }
    for (name, schedule) in wanted.iter().filter(|one| !known.contains(one)) {
        let Some(next) = schedule.next(now) else {
            continue;
        };
        let put = Sql::new(
            "INSERT INTO plugin_ticks (tenant_id, plugin_id, name, due_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (tenant_id, plugin_id, name) DO UPDATE SET due_at = excluded.due_at",
        )
        .bind(plugin.tenant_id, ColumnType::Uuid)
        .bind(plugin.id, ColumnType::Uuid)
        .bind(name.as_str(), ColumnType::Text)
        .bind(next, ColumnType::Instant);
        tx.execute(put).await?;
    }
    Ok(())
}
