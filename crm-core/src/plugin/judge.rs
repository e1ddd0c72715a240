//! Plugins that judge changes before they are made, in the order of their names: each sees what the
//! ones before it amended, and the first that refuses ends it. A plugin that fails refuses, for
//! what it guards would go unguarded otherwise.
//!
//! Meanwhile it reads records as far as it may and writes none: the change it judges is not yet
//! made, and may never be. What else its manifest asks for it has like any run, and that stays also
//! where the change is refused; of a change that is only tried nothing stays.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::enabled::Enabled;
use super::fields::body;
use super::ledger::Ended;
use super::occasion::Occasion;
use super::perform::BEFORE;
use super::scenery::Scenery;
use super::sight::{Sight, reaches};
use super::standing::Standing;
use super::transcript::mask_report;
use super::{PlannedChange, Plugin, Plugins, Shared, secret};
use crate::error::{Error, Refusal, Result};
use crate::event::ChangeKind;
use crate::hook::{Call, Fields, Input, Outcome, Output, Report, Verdict};
use crate::id::{RunId, TenantId};
use crate::module::{CompiledModule, input};
use crate::record::{Interest, Judge, Judgement, Proposal, Proposed, Record};
use crate::scope::{Action as _, Create, Origin, Scope, Update};
use crate::value::Value;

/// How long a change waits for one plugin, with the wait for a place to run.
const PATIENCE: Duration = Duration::from_secs(2);

/// Most bytes of the reason for a rejection.
const MOST_SAID: usize = 500;
/// Bytes of the code that a plugin refuses with.
const MOST_CODE: usize = 64;

/// The plugins as judges; they end with the handle they belong to.
struct Bench(Weak<Shared>);

impl Plugins {
    pub(crate) fn judge(&self) -> Arc<dyn Judge> {
        Arc::new(Bench(Arc::downgrade(&self.0)))
    }

    async fn ask(&self, change: &Arc<Proposed>) -> Result<Judgement> {
        let (mut new, mut amended) = (change.new.clone(), Vec::new());
        let module = new.as_ref().or(change.old.as_ref()).map(Record::module);
        let Some(module) = module.cloned() else {
            return Ok(Judgement::Accepted);
        };
        let enabled = self.enabled(change.scope.tenant()).await?;
        if let Some(refusal) = self.parked(&enabled, (&**change, new.as_ref())).await? {
            return Ok(Judgement::Refused(refusal));
        }
        for installed in &enabled.installed {
            // Never a canary: who is refused would only have to try again.
            let plugin = &installed.plugin;
            if !self.wants(plugin, (&**change, new.as_ref())).await? {
                continue;
            }
            let (plugin, module) = (plugin.clone(), module.clone());
            let (change, shown) = (change.clone(), new.clone());
            let ask = |plugins: Self| {
                let asked = async move {
                    let about = (&*change, shown.as_ref());
                    match change.proposal {
                        Proposal::Made => plugins.ask_one(&plugin, &module, about).await,
                        Proposal::Tried => plugins.ask_on_trial(&plugin, &module, about).await,
                    }
                };
                asked.boxed()
            };
            let asked = self.apart(ask);
            let judgement = tokio::time::timeout(PATIENCE, asked).await;
            let judgement = judgement.map_err(|_| busy_now())?;
            match judgement? {
                Judgement::Accepted => {}
                Judgement::Amended(fields) => {
                    for (position, value) in fields {
                        if let Some(new) = &mut new {
                            new.put(position, value.clone());
                        }
                        amended.retain(|(at, _)| *at != position);
                        amended.push((position, value));
                    }
                }
                refused @ Judgement::Refused(_) => return Ok(refused),
            }
        }
        if amended.is_empty() {
            return Ok(Judgement::Accepted);
        }
        // The amended record may be one that a parked plugin judges.
        let parked = self.parked(&enabled, (&**change, new.as_ref())).await?;
        Ok(parked.map_or(Judgement::Amended(amended), Judgement::Refused))
    }

    /// The refusal by a parked plugin that judges such a change.
    async fn parked(
        &self,
        enabled: &Enabled,
        change: (&Proposed, Option<&Record>),
    ) -> Result<Option<Refusal>> {
        for guard in &enabled.parked {
            if self.wants(guard, change).await? {
                return Ok(Some(refused_while_parked(guard)));
            }
        }
        Ok(None)
    }

    /// Asks one plugin and keeps what is left of its run.
    async fn ask_one(
        &self,
        plugin: &Arc<Plugin>,
        module: &CompiledModule,
        (change, new): (&Proposed, Option<&Record>),
    ) -> Result<Judgement> {
        let core = &self.0.core;
        let standing = Standing::new(core.clone(), plugin.clone(), Origin::within(&change.scope));
        let reading = standing.clone().reading();
        let planned = PlannedChange::of(change.kind).map_or("", PlannedChange::as_str);
        let trigger = format!("before {}.{planned}", module.singular());
        let record = change.old.as_ref().map(|old| old.id);
        let occasion = Occasion::by(&change.scope).about(module.name().as_str(), record);
        let mut ended = Ended::new(core, (trigger, None), occasion);
        let (mut judgement, mut busy) = (None, None);
        match reading.begin().await? {
            Err(withdrawn) => ended.report = Report::refused(withdrawn.to_string()),
            Ok(scope) => {
                let sight = Sight::new(&scope, module, change, new).await?;
                let input = Input::Before(Arc::new(sight.shown(module, change)));
                busy = self.perform(reading, input, &mut ended).await?;
                if ended.report.outcome == Outcome::Succeeded {
                    let said = ended.report.output.clone();
                    let said = match standing.scope().await {
                        Ok(acting) => said_of(plugin, &acting, module, (change, new), said).await,
                        Err(error) => Err(error),
                    };
                    match said {
                        Ok(said) => judgement = Some(said),
                        Err(error) => {
                            ended.report.outcome = Outcome::Failed;
                            ended.report.error = Some(refused_amendment(&error));
                        }
                    }
                }
            }
        }
        let run = self.keep(plugin, ended.asked_for()).await?;
        if busy.is_some() {
            return Err(busy_now());
        }
        Ok(judgement.unwrap_or_else(|| Judgement::Refused(failed_in(plugin, run))))
    }
}

impl Plugins {
    /// Asks one plugin about a change that is only tried: nothing stays of what it does meanwhile,
    /// and there is no record of it.
    async fn ask_on_trial(
        &self,
        plugin: &Arc<Plugin>,
        module: &CompiledModule,
        (change, new): (&Proposed, Option<&Record>),
    ) -> Result<Judgement> {
        let core = &self.0.core;
        let standing = Standing::new(core.clone(), plugin.clone(), Origin::within(&change.scope));
        let reading = standing.clone().reading();
        let trusted = self.enabled(plugin.tenant_id).await?.trusts(plugin);
        if !trusted {
            let reason = "is not signed as this tenant insists: have an administrator look at it";
            return Ok(Judgement::Refused(refusal_for(plugin, reason)));
        }
        let Ok(scope) = reading.begin().await? else {
            let reason = "has nobody behind it any more: have somebody enable it again";
            return Ok(Judgement::Refused(refusal_for(plugin, reason)));
        };
        let sight = Sight::new(&scope, module, change, new).await?;
        let call = Call {
            sha256: plugin.sha256,
            component: self.component(plugin),
            input: Input::Before(Arc::new(sight.shown(module, change))),
            seed: core.clock.random(),
            now: core.clock.now(),
            fuel: None,
            deadline: Some(BEFORE),
            cancel: CancellationToken::new(),
            door: Arc::new(Scenery::new(core, reading)),
        };
        // The trial whose write it judges may hold a place of its lane.
        let (lane, stopped) = (&self.0.lanes.answering, || {
            self.is_switched_off(plugin).boxed()
        });
        let mut ended = self.host_run(plugin.tenant_id, lane, call, stopped).await?;
        self.settle_trial(ended.reserved, &ended.report.usage)
            .await?;
        if ended.busy.is_some() {
            return Err(busy_now());
        }
        mask_report(&secret::mask(core, plugin).await?, &mut ended.report);
        if ended.report.outcome != Outcome::Succeeded {
            return Ok(Judgement::Refused(failed(plugin)));
        }
        let (said, acting) = (ended.report.output, standing.scope().await?);
        let said = said_of(plugin, &acting, module, (change, new), said).await;
        Ok(said.unwrap_or_else(|_| Judgement::Refused(failed(plugin))))
    }
}

impl Judge for Bench {
    fn interest(&self, tenant: TenantId) -> BoxFuture<'_, Result<Option<Arc<Interest>>>> {
        async move {
            let Some(shared) = self.0.upgrade() else {
                return Ok(None);
            };
            Ok(Plugins(shared).enabled(tenant).await?.interest.clone())
        }
        .boxed()
    }

    fn judge(&self, change: Arc<Proposed>) -> BoxFuture<'_, Result<Judgement>> {
        async move {
            match self.0.upgrade() {
                Some(shared) => Plugins(shared).ask(&change).await,
                None => Err(Error::unavailable("the library is closing")),
            }
        }
        .boxed()
    }
}

impl Enabled {
    /// What all versions that may run want to judge.
    pub(super) fn interest_of<'a>(
        plugins: impl Iterator<Item = &'a Plugin>,
    ) -> Option<Arc<Interest>> {
        let changes = plugins.flat_map(|plugin| plugin.manifest.planned());
        let changes = changes.map(|(subject, planned)| (subject.to_string(), planned.kind()));
        let changes: Vec<_> = changes.collect();
        (!changes.is_empty()).then(|| Arc::new(Interest::new(changes)))
    }
}

impl PlannedChange {
    /// The change by what it will have been.
    fn kind(self) -> ChangeKind {
        match self {
            Self::Create => ChangeKind::Created,
            Self::Update => ChangeKind::Updated,
            Self::Delete => ChangeKind::Deleted,
        }
    }

    pub(super) fn of(kind: ChangeKind) -> Option<Self> {
        let all = [Self::Create, Self::Update, Self::Delete];
        all.into_iter().find(|planned| planned.kind() == kind)
    }
}

impl Origin {
    /// What a plugin does in the course of somebody's request.
    pub(super) fn within(scope: &Scope) -> Self {
        Self {
            request_id: scope.request().id.clone(),
            cause: scope.cause(),
            principal: scope.principal(),
        }
    }
}

/// The judgement that an answer stands for.
async fn said_of(
    plugin: &Plugin,
    scope: &Scope,
    module: &CompiledModule,
    change: (&Proposed, Option<&Record>),
    said: Option<Output>,
) -> Result<Judgement> {
    let Some(Output::Verdict(verdict)) = said else {
        return Err(Error::internal("a plugin that judges answered no verdict"));
    };
    Ok(match verdict {
        Verdict::Accept => Judgement::Accepted,
        Verdict::Amend(fields) => {
            Judgement::Amended(amendment(scope, module, change, fields).await?)
        }
        Verdict::Reject {
            code,
            message,
            field,
        } => {
            let (code, message) = cut(code, message);
            let name = plugin.manifest.name.as_str();
            let refusal =
                Refusal::invalid("rejected_by_plugin", format!("{message} ({name}: {code})"));
            Judgement::Refused(match field {
                Some(field) if module.field(&field).is_some() => refusal.on(&field),
                _ => refusal,
            })
        }
    })
}

/// The code and the message of a refusal, as much as is told of them.
pub(super) fn cut(mut code: String, mut message: String) -> (String, String) {
    code.truncate(code.floor_char_boundary(MOST_CODE));
    message.truncate(message.floor_char_boundary(MOST_SAID));
    (code, message)
}

/// Why an amendment has no effect, for the run that made it.
pub(super) fn refused_amendment(error: &Error) -> String {
    match error {
        Error::Forbidden { permission } => format!(
            "its amendment is refused: that takes {permission}, which its grants, whoever enabled it or \
             whoever makes the change lacks"
        ),
        error => format!("its amendment is refused: {error}"),
    }
}

/// What an amendment changes: what a client with the plugin's rights could.
pub(super) async fn amendment(
    scope: &Scope,
    module: &CompiledModule,
    (change, new): (&Proposed, Option<&Record>),
    fields: Fields,
) -> Result<Vec<(usize, Value)>> {
    let (name, body) = (module.name().as_str(), body(fields)?);
    let named = input::named(module, &body);
    let (permission, reach) = match change.kind {
        ChangeKind::Created => {
            let permit = scope.permit::<Create>(name)?;
            (Create::NAME, permit.to_write(&named)?.reach().clone())
        }
        ChangeKind::Updated => {
            let permit = scope.permit::<Update>(name)?;
            (Update::NAME, permit.to_write(&named)?.reach().clone())
        }
        _ => {
            let message = "a deletion is accepted or rejected, there is nothing to amend";
            return Err(Error::conflict("nothing_to_amend", message));
        }
    };
    let sent = input::update(module, scope.tenant(), body)?;
    if sent.owner.is_some() {
        let message = "is not given away by an amendment";
        return Err(Error::invalid("owner_id", "read_only", message));
    }
    let mut after = new.cloned();
    if let Some(after) = &mut after {
        for (position, value) in &sent.changes {
            after.put(*position, value.clone());
        }
    }
    let (old, new) = (change.old.as_ref(), after.as_ref());
    for (record, stored) in [(old, true), (new.filter(|_| old.is_none()), false)] {
        if let Some(record) = record
            && !reaches(scope, &reach, record, stored).await?
        {
            return Err(Error::Forbidden {
                permission: format!("{name}.{permission}"),
            });
        }
    }
    Ok(sent.changes)
}

fn busy_now() -> Error {
    Error::unavailable("the tenant's plugins are busy; nothing was changed, try again")
}

/// The refusal by a plugin that failed on a trial.
fn failed(plugin: &Plugin) -> Refusal {
    refusal_for(
        plugin,
        "failed: try again, or have an administrator disable it",
    )
}

/// The refusal by a plugin that failed in this run.
fn failed_in(plugin: &Plugin, run: RunId) -> Refusal {
    let why = format!(
        "failed: its run record {run} says why. Try again, or have an administrator look at it"
    );
    refusal_for(plugin, &why)
}

fn refused_while_parked(plugin: &Plugin) -> Refusal {
    let why = "is parked, since its last runs failed: have an administrator enable or disable it";
    refusal_for(plugin, why)
}

fn refusal_for(plugin: &Plugin, why: &str) -> Refusal {
    let name = plugin.manifest.name.as_str();
    Refusal::conflict(
        "plugin_failed",
        format!("nothing was changed: the plugin {name} judges this change, and {why}"),
    )
}
