//! Rehearsals: a component runs over events of the past, with the rights it would have, and nothing
//! of what it does stays. Its writes are tried in transactions that are taken back; it sends
//! nothing, tells nothing and schedules nothing. What the application's own hooks do to a write
//! they do inside such a transaction, too: what they write there is taken back with it.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec;

use bytes::Bytes;
use futures::FutureExt;
use serde::Serialize;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::overlay::StoreOverlay;
use super::perform::BEFORE;
use super::rehearse_judge::RehearsedVerdict;
use super::scenery::Scenery;
use super::seen::Seen;
use super::standing::Standing;
use super::story::{reads_every_module, reads_granted};
use super::trigger::Trigger;
use super::{Manifest, Plugin, PluginStatus, Plugins, ask, secret, store, version};
use crate::db::{ColumnType, Db, Sql};
use crate::dispatch::{event_from_row, select_events};
use crate::error::{Error, Result};
use crate::event::{ChangeKind, Event};
use crate::hook::{Call, Input, LogLine, Mask, Outcome, Report};
use crate::id::{EventId, PluginId, RecordId, TenantId};
use crate::scope::{Create, Origin, Permit, Scope};

/// How long a rehearsal takes at most; what it did not come to it says.
const MOST: Duration = Duration::from_secs(60);
/// The same, of one that a request waits for.
const MOST_WAITED: Duration = Duration::from_secs(20);
/// Most bytes of what is told.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// Events that are read at once.
const CHUNK: u64 = 16;

/// What a component would have done.
#[derive(Debug, Clone, Serialize)]
pub struct Rehearsal {
    /// What the component says about itself.
    pub manifest: Manifest,
    /// Events that were looked at.
    pub events: usize,
    /// The runs, oldest event first.
    pub runs: Vec<RehearsedRun>,
    /// What wakes it and is no event of the past, such as `cron nightly`: it was not rehearsed.
    pub not_rehearsed: Vec<String>,
    /// Whether values that the installed plugin of its name keeps, or what other plugins told, were
    /// withheld from it, because its rehearser does not read all that may have flowed into them.
    pub withheld: bool,
    /// Whether time ran out before the last event, or there was more to tell than is told.
    pub cut_off: bool,
}

/// One run of a rehearsal.
#[derive(Debug, Clone, Serialize)]
pub struct RehearsedRun {
    /// The event that woke it.
    pub event_id: EventId,
    /// Its kind, such as `contact.created`; of a change that is judged `before contact.create`.
    pub trigger: String,
    /// The record it was about.
    pub record_id: RecordId,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong.
    pub error: Option<String>,
    /// The fuel it used.
    pub fuel: u64,
    /// What it logged.
    pub logs: Vec<LogLine>,
    /// What it said to a change that it judges.
    pub verdict: Option<RehearsedVerdict>,
    /// Why it rejects it, with its code.
    pub reason: Option<String>,
    /// The records it would have changed, in the order of its writes; of a change that it amends,
    /// the record as it was to be and as it would be instead.
    pub changes: Vec<RehearsedChange>,
    /// What else it would have done, such as `http POST https://example.com/`.
    pub withheld: Vec<String>,
}

impl RehearsedRun {
    /// Hides the plugin's secrets.
    fn hide(&mut self, mask: &Mask) {
        let logs = self.logs.iter_mut().map(|line| &mut line.message);
        let told = logs.chain(&mut self.error).chain(&mut self.reason);
        for text in told.chain(&mut self.withheld) {
            mask.hide(text);
        }
        for change in &mut self.changes {
            let states = [&mut change.before, &mut change.after];
            states
                .into_iter()
                .flatten()
                .for_each(|state| mask.hide_texts(state));
        }
    }
}

/// A record that a rehearsed run would have changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RehearsedChange {
    /// The module's plural name.
    pub module: String,
    /// The record; of a new one an id of the rehearsal alone.
    pub record_id: RecordId,
    /// What happened to it.
    pub kind: ChangeKind,
    /// As it was, as far as the plugin may read it.
    pub before: Option<Json>,
    /// As it would be.
    pub after: Option<Json>,
}

impl Plugins {
    /// Most events of a rehearsal.
    pub const MAX_REHEARSED: u32 = 1_000;

    /// Runs a component over the tenant's last events that it would have woken on, with the rights
    /// it would have if this permit's user enabled it. Nothing of it stays. What it judges it is
    /// asked about as if it were about to be done, with other records as they are now.
    ///
    /// A run sees records as they are now, its own writes among them; a list does not show the ones
    /// it made. Values are those of the tenant's plugin of this name, with what earlier runs of the
    /// rehearsal kept; a secret is the word `rehearsal`. Who does not read all rows and fields of the
    /// modules that a version of the plugin was granted begins without values, and who does not read
    /// those of every module meets no event that another plugin told.
    ///
    /// # Errors
    /// Those of [`upload`](Self::upload) for what cannot run; [`Error::Conflict`] `user_required` for
    /// whoever has no rights of a person; [`Error::Invalid`] for a number of events
    /// outside 1 to [`MAX_REHEARSED`](Self::MAX_REHEARSED).
    pub async fn rehearse(
        &self,
        permit: &Permit<Create>,
        component: Bytes,
        last: u32,
    ) -> Result<Rehearsal> {
        self.rehearse_within(permit, component, last, MOST).await
    }

    /// As [`rehearse`](Self::rehearse), of an uploaded version, in 20 seconds at most. `sha256` is
    /// that of its component, in hexadecimal.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such plugin or version; those of
    /// [`rehearse`](Self::rehearse).
    pub async fn rehearse_version(
        &self,
        permit: &Permit<Create>,
        id: PluginId,
        sha256: &str,
        last: u32,
    ) -> Result<Rehearsal> {
        let (db, tenant) = (&self.0.core.db, permit.on(super::OBJECT)?.tenant());
        let meant = sha256.to_ascii_lowercase();
        let versions = version::list(db, tenant, id).await?;
        let mut hashes = versions.iter().map(|version| version.sha256);
        let sha256 = hashes.find(|sha256| hex::encode(sha256) == meant);
        let component = store::component(db, &sha256.ok_or(Error::NotFound)?).await?;
        self.rehearse_within(permit, component, last, MOST_WAITED)
            .await
    }

    async fn rehearse_within(
        &self,
        permit: &Permit<Create>,
        component: Bytes,
        last: u32,
        most: Duration,
    ) -> Result<Rehearsal> {
        let scope = permit.on(super::OBJECT)?;
        if !scope.is_person() {
            return Err(Error::conflict(
                "user_required",
                "a plugin is rehearsed with the rights of a user; log in as one",
            ));
        }
        if !(1..=Self::MAX_REHEARSED).contains(&last) {
            let message = format!("must be between 1 and {}", Self::MAX_REHEARSED);
            return Err(Error::invalid("last", "out_of_range", message));
        }
        let manifest = {
            let _turn = self.turn_to_judge(scope.tenant()).await?;
            self.0.host.inspect(component.clone()).await?
        };
        ask::check(scope, &manifest)?;
        let (now, tenant) = (scope.clock().now(), scope.tenant());
        let behind = Behind::find(&self.0.core.db, scope, &manifest).await?;
        let plugin = Arc::new(Plugin {
            id: behind.id,
            tenant_id: tenant,
            manifest: manifest.clone(),
            sha256: Sha256::digest(&component).into(),
            status: PluginStatus::Enabled,
            installed_by: scope.actor().user(),
            created_at: now,
            enabled_at: Some(now),
            previous: None,
            canary: None,
            parked: None,
            crashes: 0,
            rests_until: None,
        });
        let begun = Instant::now();
        let (mut events, mut runs, mut cut_off) = (0, Vec::new(), false);
        let (kept, mut bytes) = (StoreOverlay::default(), 0);
        // What a version before it kept of its secrets is there.
        let mask = secret::mask(&self.0.core, &plugin).await?;
        let mut ahead = LastEvents::find(&self.0.core.db, plugin.tenant_id, last).await?;
        while let Some(event) = ahead.next(&self.0.core.db).await? {
            if begun.elapsed() > most || bytes > MOST_BYTES {
                cut_off = true;
                break;
            }
            events += 1;
            if event.told_by().is_some() && !behind.told {
                continue;
            }
            let (plugin, component) = (plugin.clone(), component.clone());
            let kept = kept.clone();
            let rehearse = |plugins: Self| {
                async move { plugins.rehearse_one(&plugin, &component, event, kept).await }.boxed()
            };
            for mut run in self.apart(rehearse).await? {
                run.hide(&mask);
                bytes += serde_json::to_vec(&run).map_err(Error::internal)?.len();
                runs.push(run);
            }
        }
        Ok(Rehearsal {
            not_rehearsed: not_rehearsed(&manifest),
            withheld: behind.withholds(&manifest),
            manifest,
            events,
            runs,
            cut_off,
        })
    }

    /// The runs that the event, and the change that it tells of, would have caused.
    async fn rehearse_one(
        &self,
        plugin: &Arc<Plugin>,
        component: &Bytes,
        event: Event,
        kept: StoreOverlay,
    ) -> Result<Vec<RehearsedRun>> {
        let about = (&event, kept.clone());
        let judging = self.rehearse_judge(plugin, component, about).await?;
        let woken = self.rehearse_woken(plugin, component, (&event, kept));
        Ok(judging.into_iter().chain(woken.await?).collect())
    }

    /// The run that the event would have caused, if any.
    async fn rehearse_woken(
        &self,
        plugin: &Arc<Plugin>,
        component: &Bytes,
        (event, kept): (&Event, StoreOverlay),
    ) -> Result<Option<RehearsedRun>> {
        let core = &self.0.core;
        if plugin.manifest.triggers_for(event).next().is_none() {
            return Ok(None);
        }
        let standing = Standing::new(core.clone(), plugin.clone(), Origin::of(event));
        let scope = match standing.begin().await? {
            Ok(scope) => scope,
            Err(withdrawn) => {
                let refused = Rehearsed::refused(withdrawn.to_string());
                return Ok(Some(refused.run(event, &event.kind)));
            }
        };
        let seen = Seen::new(event, &scope).await?;
        let mut triggers = plugin.manifest.triggers_for(event);
        if !triggers.any(|trigger| seen.wakes(trigger, event, &scope)) {
            return Ok(None);
        }
        let input = Input::Event(Arc::new(seen.woken_by(event, &scope)));
        let scenery = Scenery::new(core, standing.clone()).after(event, kept);
        let rehearsed = self.rehearse_run(component, standing, scenery, input);
        Ok(Some(rehearsed.await?.run(event, &event.kind)))
    }

    /// Runs the component on its input, behind a door that lets nothing out.
    pub(super) async fn rehearse_run(
        &self,
        component: &Bytes,
        standing: Standing,
        scenery: Scenery,
        input: Input,
    ) -> Result<Rehearsed> {
        let (core, plugin) = (&self.0.core, standing.plugin());
        let scenery = Arc::new(scenery);
        let bytes = component.clone();
        let call = Call {
            sha256: plugin.sha256,
            component: self.in_turn(plugin.tenant_id, async { Ok(bytes) }),
            deadline: matches!(input, Input::Before(_)).then_some(BEFORE),
            input,
            seed: core.clock.random(),
            now: core.clock.now(),
            fuel: None,
            cancel: CancellationToken::new(),
            door: scenery.clone(),
        };
        let (lane, stopped) = (&self.0.lanes.trying, || is_deserted(&standing).boxed());
        let ended = self.host_run(plugin.tenant_id, lane, call, stopped).await?;
        self.settle_trial(ended.reserved, &ended.report.usage)
            .await?;
        let (changes, withheld) = scenery.strike();
        Ok(Rehearsed {
            changes,
            withheld,
            ..Rehearsed::new(ended.report)
        })
    }
}

/// What lies behind a rehearsal, as far as its rehearser reads what may have flowed into it.
struct Behind {
    /// The plugin whose values it reads: a new one where those of the installed one are withheld.
    id: PluginId,
    /// Whether it reads them, if there are any.
    kept: bool,
    /// Whether it is told what other plugins told, of records of any module.
    told: bool,
}

impl Behind {
    async fn find(db: &Db, scope: &Scope, manifest: &Manifest) -> Result<Self> {
        let tenant = scope.tenant();
        let (mut id, mut kept) = (PluginId(scope.clock().new_id()), true);
        if let Some(installed) = store::find_named(db, tenant, manifest.name.as_str()).await? {
            let versions = version::list(db, tenant, installed.id).await?;
            let mut versions = versions.iter();
            kept = versions.all(|version| reads_granted(scope, &version.manifest));
            if kept {
                id = installed.id;
            }
        }
        let told = reads_every_module(scope);
        Ok(Self { id, kept, told })
    }

    /// Whether it lacks something that the component asks for.
    fn withholds(&self, manifest: &Manifest) -> bool {
        manifest.kv && !self.kept || manifest.hears_plugins() && !self.told
    }
}

/// What a rehearsed run came to.
pub(super) struct Rehearsed {
    pub(super) report: Report,
    pub(super) verdict: Option<RehearsedVerdict>,
    pub(super) reason: Option<String>,
    pub(super) changes: Vec<RehearsedChange>,
    withheld: Vec<String>,
}

impl Rehearsed {
    fn new(report: Report) -> Self {
        Self {
            report,
            verdict: None,
            reason: None,
            changes: Vec::new(),
            withheld: Vec::new(),
        }
    }

    /// What never began.
    pub(super) fn refused(reason: String) -> Self {
        Self::new(Report::refused(reason))
    }

    /// As it is told, about this event.
    pub(super) fn run(self, event: &Event, trigger: &str) -> RehearsedRun {
        let report = self.report;
        RehearsedRun {
            event_id: event.id,
            trigger: trigger.to_owned(),
            record_id: event.record_id,
            outcome: report.outcome,
            error: report.error,
            fuel: report.usage.fuel,
            logs: report.logs,
            verdict: self.verdict,
            reason: self.reason,
            changes: self.changes,
            withheld: self.withheld,
        }
    }
}

/// What wakes a plugin and is no event of the past.
fn not_rehearsed(manifest: &Manifest) -> Vec<String> {
    let others = manifest
        .triggers
        .iter()
        .filter_map(|trigger| match trigger {
            Trigger::Event(_) | Trigger::Custom(_) | Trigger::Before(_) => None,
            Trigger::Cron(on) => Some(format!("cron {}", on.name)),
            Trigger::Webhook(on) => Some(format!("webhook {}", on.name)),
            Trigger::Action(on) => Some(format!("action {}", on.name)),
        });
    let jobs = manifest.jobs.iter().map(|name| format!("job {name}"));
    others.chain(jobs).collect()
}

/// Whether nobody stands behind a run any more.
async fn is_deserted(standing: &Standing) -> bool {
    matches!(standing.begin().await, Ok(Err(_)))
}

/// The tenant's last events, oldest first, read a few at a time.
struct LastEvents {
    tenant: TenantId,
    /// The sequences that are still to be read.
    sequences: RangeInclusive<i64>,
    read: vec::IntoIter<Event>,
}

impl LastEvents {
    async fn find(db: &Db, tenant: TenantId, last: u32) -> Result<Self> {
        let mut sql = Sql::new(
            "SELECT sequence FROM outbox WHERE tenant_id = $1 ORDER BY sequence DESC LIMIT ",
        )
        .bind(tenant, ColumnType::Uuid)
        .returns(&[ColumnType::Int]);
        sql.number(u64::from(last));
        let rows = db.fetch_all(sql).await?.into_iter();
        let sequences: Vec<i64> = rows.map(|mut row| row.int()).collect::<Result<_>>()?;
        Ok(Self {
            tenant,
            sequences: match (sequences.last(), sequences.first()) {
                (Some(first), Some(last)) => *first..=*last,
                _ => RangeInclusive::new(1, 0),
            },
            read: Vec::new().into_iter(),
        })
    }

    async fn next(&mut self, db: &Db) -> Result<Option<Event>> {
        if self.read.len() == 0 && !self.sequences.is_empty() {
            let sql = select_events(|sql| {
                sql.push("tenant_id = ")
                    .arg(self.tenant, ColumnType::Uuid)
                    .push(" AND sequence >= ")
                    .arg(*self.sequences.start(), ColumnType::Int)
                    .push(" AND sequence <= ")
                    .arg(*self.sequences.end(), ColumnType::Int)
                    .push(" ORDER BY sequence LIMIT ")
                    .number(CHUNK);
            });
            let rows = db.fetch_all(sql).await?.into_iter();
            self.read = rows
                .map(event_from_row)
                .collect::<Result<Vec<_>>>()?
                .into_iter();
        }
        let next = self.read.next();
        let begin = next
            .as_ref()
            .map_or(i64::MAX, |event| event.sequence.saturating_add(1));
        self.sequences = begin..=*self.sequences.end();
        Ok(next)
    }
}
