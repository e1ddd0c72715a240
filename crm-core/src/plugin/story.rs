//! What a run was given, and what it asked of the host and was answered: shown to whoever may
//! replay it and reads all that it could have met.

use serde::Serialize;
use serde_json::Value as Json;

use super::kept::KeptInput;
use super::replay::Details;
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
    /// module that its version was granted; of every module, where it hears what other plugins tell.
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
        let plugin = self.get(permit, id).await?;
        let run = self.run(permit, id, run).await?;
        let details = self.details(&plugin, run.id).await?;
        let ran = match self
            .seen_by(permit.on(OBJECT)?, plugin, &run, &details)
            .await?
        {
            Ok(ran) => ran,
            Err(withheld) => return Ok(Err(withheld)),
        };
        let Some((_, input, transcript)) = details else {
            return Ok(Err(Withheld::NotKept));
        };
        let mask = secret::mask(&self.0.core, &ran).await?;
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

    /// What a run answered, as far as that is kept: the `kind` is `accept`, `amend` with the
    /// `fields`, or `reject` with `code`, `message` and `field` for a judge, `action` with the
    /// `answer`, and `too_large` with its `bytes`. Secrets are hidden, and so are `fields` and
    /// `answer` from whom the run's story is withheld.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn run_answer(
        &self,
        permit: &Permit<Read>,
        id: PluginId,
        run: RunId,
    ) -> Result<Option<Json>> {
        let plugin = self.get(permit, id).await?;
        let run = self.run(permit, id, run).await?;
        let details = self.details(&plugin, run.id).await?;
        let seen = self.seen_by(permit.on(OBJECT)?, plugin, &run, &details);
        let shown = seen.await?.is_ok();
        let end = details.and_then(|(_, _, transcript)| transcript.end);
        let answer = end.and_then(|end| end.answer);
        Ok(answer.map(|answer| answer.shown(shown)))
    }

    /// The plugin in the version of the run, for who may be told its story.
    async fn seen_by(
        &self,
        scope: &Scope,
        plugin: Plugin,
        run: &Run,
        details: &Option<Details>,
    ) -> Result<Result<Plugin, Withheld>> {
        let versions = version::list(&self.0.core.db, plugin.tenant_id, plugin.id).await?;
        let mut versions = versions.into_iter();
        let Some(version) = versions.find(|version| Some(version.sha256) == run.sha256) else {
            return Ok(Err(Withheld::VersionGone));
        };
        let input = details.as_ref().map(|(_, input, _)| input);
        if !reads_all(scope, &version.manifest, run, input) {
            return Ok(Err(Withheld::Rights));
        }
        Ok(Ok(Plugin {
            manifest: version.manifest,
            ..plugin
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
    let updates = scope.permit::<Update>(OBJECT);
    let mut module = run.module.iter();
    updates.is_ok_and(|permit| permit.on(OBJECT).is_ok())
        && (!told || reads_every_module(scope))
        && module.all(|module| reads_all_of(scope, module))
        && reads_granted(scope, manifest)
}

/// Whether the scope reads all that a version with this manifest may have met at any time. What
/// other plugins told it, it may have kept or handed on to a job.
pub(super) fn reads_granted(scope: &Scope, manifest: &Manifest) -> bool {
    let mut grants = manifest.grants.iter();
    grants.all(|grant| reads_all_of(scope, grant.module.as_str()))
        && (!manifest.hears_plugins() || reads_every_module(scope))
}

/// Whether the scope reads every row of every module, with all fields.
pub(super) fn reads_every_module(scope: &Scope) -> bool {
    let mut modules = scope.modules();
    modules.all(|module| reads_all_of(scope, module.name().as_str()))
}

/// Whether the scope reads every row of the module, with all its fields.
fn reads_all_of(scope: &Scope, module: &str) -> bool {
    let read = scope.permit::<Read>(module);
    read.is_ok_and(|permit| permit.rows().is_all())
}
