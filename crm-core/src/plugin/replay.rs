//! Runs that are played again from what is kept of them: the same component, input, clock and
//! randomness, and the answers of then. Nothing is read or written but secrets, which are not kept.

use std::sync::Arc;

use futures::FutureExt;
use serde::Serialize;
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use super::budget::Reserved;
use super::door::TenantDoor;
use super::kept::{KeptEnd, KeptInput};
use super::standing::Standing;
use super::story::reads_all;
use super::transcript::{Divergence, Replayer, Transcript};
use super::version::UNSIGNED;
use super::{Plugin, Plugins, Run, ledger, run, secret, store, version};
use crate::db::{ColumnType, Sql};
use crate::error::{Error, Result};
use crate::hook::{Call, Door, Input, LogLine, Outcome, Report};
use crate::id::{PluginId, RunId};
use crate::scope::{Origin, Permit, Scope, Update};

/// What came of a replay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replay {
    /// Whether it asked, logged, used, answered and ended as its run did.
    pub identical: bool,
    /// Where it first asked something else.
    pub divergence: Option<Divergence>,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong.
    pub error: Option<String>,
    /// The fuel it used.
    pub fuel: u64,
    /// What it logged.
    pub logs: Vec<LogLine>,
    /// What it answered, in the form of [`Plugins::run_answer`].
    pub answer: Option<Json>,
}

/// What is known of the run that is played again.
struct Before {
    recorded: Run,
    end: Option<KeptEnd>,
    /// The fuel that it used, as far as its last call of the host where it was interrupted.
    fuel: u64,
    /// Whether it was stopped while it computed, at no place that its component knows.
    interrupted: bool,
}

impl Before {
    /// How the replay compares; it shows what was asked of the host, and values that it answered,
    /// only where they may be `shown`.
    fn compared(self, mut report: Report, door: &Replayer, shown: bool) -> Result<Replay> {
        let Self { recorded, .. } = &self;
        if report.outcome == Outcome::Refused && recorded.outcome != Outcome::Refused {
            return Err(Error::unavailable(report.error.unwrap_or_default()));
        }
        let unlogged = recorded.logs == ledger::not_kept();
        let stopped = door.was_stopped();
        if stopped {
            // It ends where its run was stopped; what stopped that was no part of it.
            (report.outcome, report.error) = (recorded.outcome, recorded.error.clone());
        }
        let (mut divergence, mut end) = door.finish(&mut report);
        let came_there = self.interrupted
            && report.usage.fuel >= self.fuel
            && divergence.as_ref().is_none_or(Divergence::is_beyond)
            && (unlogged || report.logs.starts_with(&recorded.logs));
        if came_there {
            // Fuel ends a run at its next turn: what it does up to there, its run may not have done.
            (report.outcome, report.error) = (recorded.outcome, recorded.error.clone());
            if !unlogged {
                report.logs.truncate(recorded.logs.len());
            }
            (divergence, end) = (None, KeptEnd::stopped(&report));
        } else if divergence.is_none() && !stopped {
            match report.outcome {
                Outcome::Cancelled => {
                    let message = "the plugin was switched on or off meanwhile; play it again";
                    return Err(Error::unavailable(message));
                }
                Outcome::TimedOut => report.error = Some(too_slow(report.usage.fuel, self.fuel)),
                _ => {}
            }
        }
        let ended_so = match &self.end {
            Some(kept) => *kept == end,
            None => report.outcome == recorded.outcome,
        };
        let same = divergence.is_none()
            && ended_so
            && report.usage.fuel == self.fuel
            && (unlogged || report.logs == recorded.logs);
        if same {
            // What became of its answer afterwards, such as of an amendment that was refused.
            (report.outcome, report.error) = (recorded.outcome, recorded.error.clone());
        }
        Ok(Replay {
            identical: same,
            divergence: divergence.map(|one| if shown { one } else { one.untold() }),
            outcome: report.outcome,
            error: report.error,
            fuel: report.usage.fuel,
            logs: report.logs,
            answer: end.answer.map(|answer| answer.shown(shown)),
        })
    }
}

impl Plugins {
    /// Plays a run again; it takes its part of the day's fuel, where that is bounded, and leaves no other
    /// trace. It has the fuel that the run had, and ends in the call in which that was stopped. A run
    /// that the clock or somebody stopped while it computed had used so much fuel by its last call: its
    /// replay has that and no more. Where the replay's own time is up before, its `error` says so.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when too many trials of the tenant are under way, the fuel that is left of
    /// the day does not suffice, or the plugin is switched meanwhile; [`Error::NotFound`];
    /// [`Error::Conflict`] `not_replayable` for a run that never began, exchanged more than is kept, took
    /// more fuel than this host gives, whose transcript had to make room for newer ones, or whose version
    /// is gone.
    pub async fn replay(
        &self,
        permit: &Permit<Update>,
        id: PluginId,
        run: RunId,
    ) -> Result<Replay> {
        let scope = permit.on(super::OBJECT)?.clone();
        let play =
            move |plugins: Self| async move { plugins.play_again(&scope, id, run).await }.boxed();
        self.apart(play).await
    }

    async fn play_again(&self, scope: &Scope, id: PluginId, run: RunId) -> Result<Replay> {
        let (core, tenant) = (&self.0.core, scope.tenant());
        let plugin = store::find(&core.db, tenant, id).await?;
        let plugin = plugin.ok_or(Error::NotFound)?;
        let recorded = run::find(&core.db, tenant, id, run).await?;
        let (seed, input, mut transcript) = self.kept(&plugin, run).await?;
        let end = transcript.end.take();
        let interrupted = recorded.outcome.is_interrupted() && !transcript.ends_unanswered();
        let before = Before {
            fuel: u64::try_from(recorded.fuel).unwrap_or(0),
            recorded,
            end,
            interrupted,
        };
        let fuel = match interrupted {
            true => Some(before.fuel),
            false => transcript.fuel,
        };
        let plugin = self.as_it_ran(plugin, &before.recorded).await?;
        let origin = Origin {
            request_id: scope.request().id.clone(),
            cause: None,
            principal: None,
        };
        let shown = reads_all(scope, &plugin.manifest, &before.recorded, Some(&input));
        let cancel = CancellationToken::new();
        let standing = Standing::new(core.clone(), plugin.clone(), origin);
        let secrets = Arc::new(TenantDoor::new(core.clone(), standing));
        let secrets = (secrets as Arc<dyn Door>, secret::mask(core, &plugin).await?);
        let door = Arc::new(Replayer::new(transcript, secrets, cancel.clone()));
        let call = Call {
            sha256: plugin.sha256,
            component: self.component(&plugin),
            input,
            seed,
            now: before.recorded.started_at,
            fuel,
            deadline: None,
            cancel,
            door: door.clone(),
        };
        let stopped = || self.is_switched(&plugin).boxed();
        let ended = self.host_run(tenant, &self.0.lanes.trying, call, stopped);
        let ended = ended.await?;
        if let Some(busy) = ended.busy {
            return Err(Error::unavailable(busy.to_string()));
        }
        let left = ended.reserved.as_ref().map(Reserved::fuel);
        self.settle_trial(ended.reserved, &ended.report.usage)
            .await?;
        if let (Some(needed), Outcome::OutOfFuel) = (fuel, ended.report.outcome) {
            if needed > self.0.capacity.fuel {
                return Err(not_replayable(
                    "it took more fuel than this host gives a run",
                ));
            }
            if left.is_some_and(|left| left < needed) {
                let message =
                    "less fuel of this day is left than the run took; play it again tomorrow";
                return Err(Error::unavailable(message));
            }
        }
        before.compared(ended.report, &door, shown)
    }

    /// The plugin in the version of this run.
    async fn as_it_ran(&self, plugin: Plugin, run: &Run) -> Result<Arc<Plugin>> {
        let (db, tenant) = (&self.0.core.db, plugin.tenant_id);
        let versions = version::list(db, tenant, plugin.id).await?;
        let mut versions = versions.into_iter();
        let version = versions.find(|version| Some(version.sha256) == run.sha256);
        let version = version.ok_or_else(|| not_replayable("its version is gone"))?;
        let plugin = Arc::new(Plugin {
            sha256: version.sha256,
            manifest: version.manifest,
            ..plugin
        });
        match self.enabled(tenant).await?.trusts(&plugin) {
            true => Ok(plugin),
            false => Err(not_replayable(UNSIGNED)),
        }
    }

    /// Whether the plugin is switched on or off meanwhile, or gone, or the tenant suspended.
    async fn is_switched(&self, plugin: &Plugin) -> bool {
        let (core, tenant) = (&self.0.core, plugin.tenant_id);
        let known = store::find(&core.db, tenant, plugin.id).await;
        let other = known.is_ok_and(|known| known.is_none_or(|one| one.status != plugin.status));
        other || matches!(core.policy.is_active(tenant).await, Ok(false))
    }

    /// The seed, the input and the transcript of a run that can be played again.
    async fn kept(&self, plugin: &Plugin, run: RunId) -> Result<Details> {
        let details = self.details(plugin, run).await?;
        let details = details.ok_or_else(|| {
            not_replayable("it never began, or what it exchanged is not kept any more")
        })?;
        match details.2.truncated {
            true => Err(not_replayable(
                "it exchanged more with the host than is kept",
            )),
            false => Ok(details),
        }
    }

    /// What is kept of a run.
    pub(super) async fn details(&self, plugin: &Plugin, run: RunId) -> Result<Option<Details>> {
        let select = Sql::new(
            "SELECT seed, input, transcript FROM plugin_run_details \
             WHERE tenant_id = $1 AND run_id = $2",
        )
        .bind(plugin.tenant_id, ColumnType::Uuid)
        .bind(run, ColumnType::Uuid)
        .returns(&[ColumnType::Bytes, ColumnType::Bytes, ColumnType::Bytes]);
        let row = self.0.core.db.fetch_optional(select).await?;
        let Some(mut row) = row else {
            return Ok(None);
        };
        let broken = |column: &'static str| Error::Inconsistent {
            table: "plugin_run_details".into(),
            column: column.into(),
        };
        let seed: Vec<u8> = row.bytes()?;
        let input: Vec<u8> = row.bytes()?;
        let transcript: Vec<u8> = row.bytes()?;
        let seed = seed.try_into().map_err(|_| broken("seed"))?;
        let input: KeptInput = serde_json::from_slice(&input).map_err(|_| broken("input"))?;
        let transcript: Transcript =
            serde_json::from_slice(&transcript).map_err(|_| broken("transcript"))?;
        Ok(Some((seed, input.into(), transcript)))
    }
}

/// The seed, the input and the transcript of a run.
pub(super) type Details = ([u8; 32], Input, Transcript);

/// What is said of a replay that the clock ended.
fn too_slow(fuel: u64, used: u64) -> String {
    format!(
        "the replay's time was up after {fuel} of the {used} units of fuel that its run used; how long \
         a run takes is not the same again"
    )
}

fn not_replayable(why: &str) -> Error {
    let message = format!("this run cannot be played again: {why}");
    Error::conflict("not_replayable", message)
}
