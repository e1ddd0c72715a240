//! Rehearsals of plugins that judge: they are asked about changes of the past as if those were
//! about to be made. What they say is told and has no effect.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value as Json;

use super::judge::{amendment, cut, refused_amendment};
use super::overlay::StoreOverlay;
use super::rehearse::Rehearsed;
use super::scenery::Scenery;
use super::sight::Sight;
use super::standing::Standing;
use super::{Manifest, PlannedChange, Plugin, Plugins, RehearsedChange, RehearsedRun};
use crate::error::{Error, Result};
use crate::event::{ChangeKind, Event};
use crate::hook::{Fields, Input, Outcome, Output, Verdict};
use crate::module::CompiledModule;
use crate::record::{Proposal, Proposed, Record};
use crate::scope::{Origin, Scope};

/// What a plugin says to a change of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RehearsedVerdict {
    /// It would have been made as it was.
    Accept,
    /// It would have been made with other values.
    Amend,
    /// It would not have been made.
    Reject,
}

impl RehearsedVerdict {
    /// `accept`, `amend`, `reject`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Amend => "amend",
            Self::Reject => "reject",
        }
    }
}

impl Plugins {
    /// The run in which the plugin would have judged the change that the event tells of, if any.
    pub(super) async fn rehearse_judge(
        &self,
        plugin: &Arc<Plugin>,
        component: &Bytes,
        (event, kept): (&Event, StoreOverlay),
    ) -> Result<Option<RehearsedRun>> {
        let Some(planned) = planned(&plugin.manifest, event) else {
            return Ok(None);
        };
        let (subject, _) = event.kind.split_once('.').unwrap_or_default();
        let trigger = format!("before {subject}.{}", planned.as_str());
        let origin = Origin::of(event);
        let standing = Standing::new(self.0.core.clone(), plugin.clone(), origin);
        let reading = standing.clone().reading();
        let scope = match reading.begin().await? {
            Ok(scope) => scope,
            Err(withdrawn) => {
                let refused = Rehearsed::refused(withdrawn.to_string());
                return Ok(Some(refused.run(event, &trigger)));
            }
        };
        let called = |module: &&Arc<CompiledModule>| module.name().as_str() == event.module;
        let Some(module) = scope.modules().find(called).cloned() else {
            return Ok(None);
        };
        let Some(change) = proposed(&scope, &module, planned, event) else {
            return Ok(None);
        };
        let new = change.new.as_ref();
        let sight = Sight::new(&scope, &module, &change, new).await?;
        let wakes = |trigger| sight.wakes(trigger, planned, &scope, &module);
        if !plugin.manifest.judges(subject, planned).any(wakes) {
            return Ok(None);
        }
        let (core, by) = (&self.0.core, reading.clone());
        let scenery = Scenery::new(core, by).after(event, kept);
        let scenery = match change.kind {
            ChangeKind::Created => scenery.without(&event.module, event.record_id),
            _ => scenery.having(&event.module, event.record_id, sight.was()),
        };
        let mut shown = sight.shown(&module, &change);
        shown.actor.clone_from(&event.actor);
        let input = Input::Before(Arc::new(shown));
        let rehearsed = self.rehearse_run(component, reading, scenery, input);
        let mut run = rehearsed.await?;
        if run.report.outcome == Outcome::Succeeded {
            let acting = standing.scope().await?;
            if let Err(error) = run.judged(&acting, &module, &change).await {
                run.report.outcome = Outcome::Failed;
                run.report.error = Some(refused_amendment(&error));
            }
        }
        Ok(Some(run.run(event, &trigger)))
    }
}

impl Rehearsed {
    /// Notes what the plugin said to the change.
    async fn judged(
        &mut self,
        scope: &Scope,
        module: &Arc<CompiledModule>,
        change: &Proposed,
    ) -> Result<()> {
        let Some(Output::Verdict(verdict)) = self.report.output.take() else {
            return Err(Error::internal("a plugin that judges answered no verdict"));
        };
        self.verdict = Some(match verdict {
            Verdict::Accept => RehearsedVerdict::Accept,
            Verdict::Reject { code, message, .. } => {
                let (code, message) = cut(code, message);
                self.reason = Some(format!("{message} ({code})"));
                RehearsedVerdict::Reject
            }
            Verdict::Amend(fields) => {
                let amended = amended(scope, module, change, fields).await?;
                self.changes.push(amended);
                RehearsedVerdict::Amend
            }
        });
        Ok(())
    }
}

/// The change by what was about to be done, where the plugin judges such ones. What comes back is judged
/// as what is new.
fn planned(manifest: &Manifest, event: &Event) -> Option<PlannedChange> {
    let (subject, word) = event.kind.split_once('.')?;
    let planned = match word {
        "created" | "restored" => PlannedChange::Create,
        "updated" => PlannedChange::Update,
        "deleted" => PlannedChange::Delete,
        _ => return None,
    };
    if event.told_by().is_some() {
        return None;
    }
    manifest.judges(subject, planned).next().map(|_| planned)
}

/// The change as it was about to be made; none where the event does not say enough.
fn proposed(
    scope: &Scope,
    module: &Arc<CompiledModule>,
    planned: PlannedChange,
    event: &Event,
) -> Option<Proposed> {
    let before = event.before.as_ref();
    let before = before.and_then(|state| Record::from_state(module, state));
    let after = event.after.as_ref();
    let after = after.and_then(|state| Record::from_state(module, state));
    let (kind, old, new) = match planned {
        PlannedChange::Create => (ChangeKind::Created, None, Some(after?)),
        PlannedChange::Update => (ChangeKind::Updated, Some(before?), Some(after?)),
        PlannedChange::Delete => (ChangeKind::Deleted, Some(before?), None),
    };
    Some(Proposed {
        scope: scope.clone(),
        kind,
        old,
        new,
        proposal: Proposal::Tried,
    })
}

fn shown(scope: &Scope, record: &Record) -> Result<Option<Json>> {
    let shown = serde_json::to_value(record.shown(scope));
    shown.map(Some).map_err(Error::internal)
}

/// The record as it was to be and as it would be instead.
async fn amended(
    scope: &Scope,
    module: &CompiledModule,
    change: &Proposed,
    fields: Fields,
) -> Result<RehearsedChange> {
    let new = change.new.as_ref();
    let changes = amendment(scope, module, (change, new), fields).await?;
    let new = new.ok_or_else(|| Error::internal("a deletion that is amended"))?;
    let mut after = new.clone();
    for (position, value) in changes {
        after.put(position, value);
    }
    Ok(RehearsedChange {
        module: module.name().to_string(),
        record_id: new.id,
        kind: change.kind,
        before: shown(scope, new)?,
        after: shown(scope, &after)?,
    })
}
