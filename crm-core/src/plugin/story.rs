//! What a run was given, and what it asked of the host and was answered: shown to whoever may
//! replay it and reads all that it could have met.

use serde::Serialize;
use serde_json::Value as Json;

use super::kept::KeptInput;
use super::trigger::Trigger;
use super::{Manifest, OBJECT, Plugin, Plugins, Run, secret, version};
use crate::error::{Error, Result};
use crate::hook::Input;
use crate::id::{PluginId, RunId};
use crate::scope::{Permit, Read, Scope, Update};

/// What a run was given and exchanged with the host. Secrets are hidden.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunStory {
    /// What it was given. Its `kind` is `event`, `before`, `action`, `tick` or `webhook`.
    pub input: Json,
    /// What it asked of the host, in its order.
    pub calls: Vec<RunCall>,
    /// Whether it asked more than is kept.
    pub truncated: bool,
}

/// A call of the host, and its answer, in the form of a replay's [`Divergence`](super::Divergence).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunCall {
    /// What was asked.
    pub call: Json,
    /// What was answered.
    pub answer: Json,
}

/// Why somebody is not shown a run's story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Withheld {
    /// They may not update plugins, or not read all rows and fields of the run's module and of each
    /// module that its version was granted.
    Rights,
    /// The run never began, or its story had to make room for newer ones.
    NotKept,
    /// The version that ran was deleted, and with it what says which modules it was granted.
    VersionGone,
}

impl Plugins {
    /// What a run was given and exchanged, or why it is withheld.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn run_story(
        &self,
        permit: &Permit<Read>,
        id: PluginId,
        run: RunId,
    ) -> Result<Result<RunStory, Withheld>> {
        let (core, scope) = (&self.0.core, permit.on(OBJECT)?);
        let plugin = self.get(permit, id).await?;
        let run = self.run(permit, id, run).await?;
        let versions = version::list(&core.db, plugin.tenant_id, id).await?;
        let mut versions = versions.into_iter();
        let Some(version) = versions.find(|version| Some(version.sha256) == run.sha256) else {
            return Ok(Err(Withheld::VersionGone));
        };
        let details = self.details(&plugin, run.id).await?;
        let input = details.as_ref().map(|(_, input, _)| input);
        if !reads_all(scope, &version.manifest, &run, input) {
            return Ok(Err(Withheld::Rights));
        }
        let Some((_, input, transcript)) = details else {
            return Ok(Err(Withheld::NotKept));
        };
        let ran = Plugin {
            manifest: version.manifest,
            ..plugin
        };
        let mask = secret::mask(core, &ran).await?;
        let mut input = KeptInput::from(&input).shown()?;
        mask.hide_texts(&mut input);
        let calls = transcript.exchanges.into_iter().map(|exchange| {
            Ok(RunCall {
                call: serde_json::to_value(exchange.call).map_err(Error::internal)?,
                answer: serde_json::to_value(exchange.answer).map_err(Error::internal)?,
            })
        });
        Ok(Ok(RunStory {
            input,
            calls: calls.collect::<Result<_>>()?,
            truncated: transcript.truncated,
        }))
    }
}

/// Whether the scope may replay this run of a version with this manifest, and reads all that it
/// could have met. What another plugin told it may be of any module.
pub(super) fn reads_all(
    scope: &Scope,
    manifest: &Manifest,
    run: &Run,
    input: Option<&Input>,
) -> bool {
    let told = matches!(input, Some(Input::Event(_))) && run.module.is_none();
    // What it was told it may have kept, or handed on to a job.
    let hears = |trigger| matches!(trigger, &Trigger::Custom(_));
    let told = told || manifest.triggers.iter().any(hears);
    let any = scope.modules().filter(|_| told);
    let any = any.map(|module| module.name().as_str());
    let granted = manifest.grants.iter().map(|grant| grant.module.as_str());
    let mut modules = granted.chain(run.module.as_deref()).chain(any);
    let updates = scope.permit::<Update>(OBJECT);
    updates.is_ok_and(|permit| permit.on(OBJECT).is_ok())
        && modules.all(|module| reads_all_of(scope, module))
}

/// Whether the scope reads every row of the module, with all its fields.
fn reads_all_of(scope: &Scope, module: &str) -> bool {
    let read = scope.permit::<Read>(module);
    read.is_ok_and(|permit| permit.rows().is_all())
}
