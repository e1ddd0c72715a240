//! One run from its beginning to its end: within the tenant's share of places and fuel, and only as
//! long as the plugin is switched on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::budget::{Budget, Reserved};
use super::door::TenantDoor;
use super::lane::{Busy, Lane};
use super::ledger::Ended;
use super::rest::Rest;
use super::standing::Standing;
use super::transcript::{Recorder, Transcript};
use super::version::UNSIGNED;
use super::{Plugin, Plugins, secret, store};
use crate::error::{Error, Result};
use crate::hook::{Call, ComponentLoader, Door, Input, Loaded, Outcome, Report};
use crate::id::TenantId;

/// How often to look whether a plugin that runs is still switched on.
const LOOK: Duration = Duration::from_millis(250);

/// The most time that judging a change takes.
pub(super) const BEFORE: Duration = Duration::from_millis(250);
/// The most time that an action takes, for which somebody waits.
const ACTION: Duration = Duration::from_secs(10);

/// What a run came to.
pub(super) struct Performed {
    pub(super) report: Report,
    pub(super) transcript: Transcript,
    /// The fuel that was set aside for it, to be settled.
    pub(super) reserved: Option<Reserved>,
    /// Why there was no place for it.
    pub(super) busy: Option<Busy>,
    /// Whether it met the bounds of whoever caused it: how it ended tells nothing of the plugin.
    pub(super) excused: bool,
}

impl Performed {
    /// What never began.
    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Self {
            report: Report::refused(reason),
            transcript: Transcript::default(),
            reserved: None,
            busy: None,
            excused: false,
        }
    }

    /// What never began and may soon.
    fn none_for_now(busy: Busy) -> Self {
        Self {
            busy: Some(busy),
            ..Self::refused(busy.to_string())
        }
    }
}

impl Plugins {
    /// Has a run go on to its end and be accounted for, whoever stops waiting for it.
    pub(super) async fn apart<T: Send + 'static>(
        &self,
        run: impl FnOnce(Self) -> BoxFuture<'static, Result<T>>,
    ) -> Result<T> {
        let ended = tokio::spawn(run(self.clone())).await;
        ended.map_err(Error::internal)?
    }

    /// Runs a plugin on the host, and notes what became of it; answers why there was no place for
    /// it.
    pub(super) async fn perform(
        &self,
        standing: Standing,
        input: Input,
        ended: &mut Ended,
    ) -> Result<Option<Busy>> {
        let start = (ended.seed, ended.started_at);
        let performed = self.attempt(standing, input.clone(), start).await?;
        let busy = performed.busy;
        ended.performed(performed, input);
        Ok(busy)
    }

    async fn attempt(
        &self,
        standing: Standing,
        input: Input,
        (seed, now): ([u8; 32], DateTime<Utc>),
    ) -> Result<Performed> {
        let (core, plugin) = (&self.0.core, standing.plugin().clone());
        if !self.enabled(plugin.tenant_id).await?.trusts(&plugin) {
            return Ok(Performed::refused(UNSIGNED));
        }
        let mask = secret::mask(core, &plugin).await?;
        // What others ask for neither has a plugin rest nor finds it at rest: whoever makes it
        // crash by an event stops no change that it judges.
        let rest = match input {
            Input::Event(_) | Input::Tick(_) => self.resting(&plugin).await?,
            Input::Before(_) | Input::Webhook(_) | Input::Action(_) | Input::Describe => Rest::Over,
        };
        let trial = match rest {
            Rest::Over => None,
            Rest::Trial(until, next) => Some((until, next)),
            Rest::On(reason) => return Ok(Performed::refused(reason)),
        };
        let lane = match input {
            Input::Before(_) => &self.0.lanes.answering,
            _ => &self.0.lanes.reacting,
        };
        let behind = standing.clone();
        let door = Arc::new(TenantDoor::new(core.clone(), standing));
        let recorder = Arc::new(Recorder::new(door, mask));
        let call = Call {
            sha256: plugin.sha256,
            component: self.component(&plugin),
            seed,
            now,
            fuel: None,
            deadline: deadline(&input),
            input,
            cancel: CancellationToken::new(),
            door: recorder.clone() as Arc<dyn Door>,
        };
        let stopped = || self.is_switched_off(&plugin).boxed();
        let performed = self.host_run(plugin.tenant_id, lane, call, stopped).await;
        let refused = |performed: &Performed| performed.report.outcome == Outcome::Refused;
        if let Some(trial) = trial
            && performed.as_ref().map_or(true, refused)
        {
            self.untried(&plugin, trial).await;
        }
        let mut performed = performed?;
        // It has run: what cannot be told of it now is no error any more.
        let narrowed = behind.is_narrowed().await.unwrap_or(true);
        performed.excused = recorder.was_refused() && narrowed;
        performed.transcript = recorder.finish(&mut performed.report);
        let set_aside = performed.reserved.as_ref().map(Reserved::fuel);
        performed.transcript.fuel = Some(set_aside.unwrap_or(self.0.capacity.fuel));
        Ok(performed)
    }

    /// The one way onto the host: when there is a place, with the fuel that is left and no more
    /// than the call asks for, and only as long as it is not `stopped`. What was stopped before it
    /// began was not run.
    pub(super) async fn host_run<'s>(
        &self,
        tenant: TenantId,
        lane: &Lane,
        mut call: Call,
        stopped: impl Fn() -> BoxFuture<'s, bool>,
    ) -> Result<Performed> {
        let place = match lane.enter(tenant).await {
            Ok(place) => place,
            Err(busy) => return Ok(Performed::none_for_now(busy)),
        };
        if place.waited && stopped().await {
            return Ok(Performed::none_for_now(Busy::Stopped));
        }
        let reserved = match self.budget(tenant).await? {
            Budget::Unbounded => None,
            Budget::Reserved(reserved) => Some(reserved),
            Budget::SetAside => return Ok(Performed::none_for_now(Busy::Fuel)),
            Budget::UsedUp(reason) => return Ok(Performed::refused(reason)),
        };
        let left = reserved.as_ref().map(Reserved::fuel);
        call.fuel = call.fuel.into_iter().chain(left).min();
        let cancel = call.cancel.clone();
        let run = self.0.host.run(call);
        let stop = async {
            loop {
                tokio::time::sleep(LOOK).await;
                if stopped().await {
                    return;
                }
            }
        };
        tokio::pin!(run, stop);
        let mut is_stopped = false;
        let ended = tokio::select! {
            ended = &mut run => ended,
            () = &mut stop => {
                is_stopped = true;
                cancel.cancel();
                run.await
            }
        };
        let began = |report: &Report| report.outcome != Outcome::Refused;
        if ended.as_ref().is_ok_and(began) {
            return ended.map(|report| Performed {
                report,
                reserved,
                ..Performed::refused("")
            });
        }
        self.give_back(reserved).await;
        let report = ended?;
        Ok(match is_stopped {
            true => Performed::none_for_now(Busy::Stopped),
            false => Performed {
                report,
                ..Performed::refused("")
            },
        })
    }

    /// Fetches the bytes of the plugin's version.
    pub(super) fn component(&self, plugin: &Plugin) -> ComponentLoader {
        let (core, sha256) = (self.0.core.clone(), plugin.sha256);
        self.in_turn(plugin.tenant_id, async move {
            store::component(&core.db, &sha256).await
        })
    }

    /// Fetches a component when it is the tenant's turn to have one made ready.
    pub(super) fn in_turn(
        &self,
        tenant: TenantId,
        component: impl Future<Output = Result<Bytes>> + Send + 'static,
    ) -> ComponentLoader {
        let lane = self.0.lanes.preparing.clone();
        let in_turn = async move {
            let turn = lane.enter(tenant).await.map_err(|_| {
                Error::unavailable(
                    "too many plugins of the tenant are being compiled; try again later",
                )
            })?;
            Ok(Loaded {
                component: component.await?,
                turn: Some(Box::new(turn)),
            })
        };
        Box::new(move || in_turn.boxed())
    }

    /// Whether the plugin is switched off, here or elsewhere, or nobody trusts this version any
    /// more. Another version that became active stops no run: each ends in the version that it
    /// began with.
    pub(super) async fn is_switched_off(&self, plugin: &Plugin) -> bool {
        let enabled = self.enabled(plugin.tenant_id).await;
        // A database out of reach switches nothing off.
        enabled.is_ok_and(|enabled| !enabled.runs(plugin))
    }
}

/// The most time for what somebody waits for; otherwise the host has its own.
fn deadline(input: &Input) -> Option<Duration> {
    match input {
        Input::Before(_) => Some(BEFORE),
        Input::Action(_) => Some(ACTION),
        _ => None,
    }
}
