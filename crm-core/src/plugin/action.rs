//! Actions: what a plugin does when somebody asks for it, on a record or on some. It answers while
//! they wait, within a deadline, and does no more than they may do themselves.

use std::collections::HashSet;
use std::sync::Arc;

use futures::FutureExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::ledger::Ended;
use super::message::{RUNS, switched_off};
use super::occasion::Occasion;
use super::standing::Standing;
use super::{ActionTrigger, Manifest, Plugin, Plugins, store};
use crate::crm::Core;
use crate::error::{Error, FieldError, Result};
use crate::hook::{ActionCall, Input, Outcome, Output, Report};
use crate::id::{RecordId, RunId};
use crate::module::Ident;
use crate::record::{Answered, Filter, Once, Query, Records, Reply};
use crate::scope::{Create, Origin, Permit, Read, Scope};

/// An action that the tenant's plugins offer.
#[derive(Debug, Clone, PartialEq)]
pub struct Offered {
    /// The plugin's name.
    pub plugin: Ident,
    /// SHA-256 of its active version.
    pub sha256: [u8; 32],
    /// What the plugin says that it does.
    pub description: String,
    /// The action.
    pub action: ActionTrigger,
}

/// An action that somebody asks for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The plugin's name.
    pub plugin: String,
    /// The action's name.
    pub action: String,
    /// The records it is asked for on.
    pub on: Targets,
    /// What goes along.
    pub input: Map<String, Json>,
    /// The caller's key, with which it is run once.
    pub once: Option<Once>,
}

impl Ask {
    /// The action that is asked for, of those on the module.
    fn of<'m>(&self, manifest: &'m Manifest, module: &str) -> Option<&'m ActionTrigger> {
        manifest.actions().find(|action| {
            let on = action.module.as_ref().is_some_and(|on| *on == *module);
            on && *action.name.as_str() == self.action
        })
    }
}

/// The records that an action is asked for on.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// This one.
    One(RecordId),
    /// These, at most [`Plugins::MAX_TARGETS`].
    Some(Vec<RecordId>),
    /// All that match, at most [`Plugins::MAX_TARGETS`].
    Matching(Filter),
}

/// What came of an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Acted {
    /// The run that the plugin's administrators see.
    pub run: RunId,
    /// How it ended. [`Outcome::Failed`] is the plugin's own refusal, for the reason in `error`.
    pub outcome: Outcome,
    /// What went wrong; absent when it succeeded.
    pub error: Option<String>,
    /// What the plugin answered.
    pub answer: Option<Json>,
}

impl Plugins {
    /// Most records that an action is asked for on.
    pub const MAX_TARGETS: usize = 100;

    /// The actions that a tenant's plugins offer, by plugin, in the order of their manifests.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn offered(&self, scope: &Scope) -> Result<Vec<Offered>> {
        let enabled = self.enabled(scope.tenant()).await?;
        let plugins = enabled.installed.iter().map(|installed| &installed.plugin);
        let offered = plugins.flat_map(|plugin| {
            let actions = plugin.manifest.actions();
            actions.map(|action| Offered {
                plugin: plugin.manifest.name.clone(),
                sha256: plugin.sha256,
                description: plugin.manifest.description.clone(),
                action: action.clone(),
            })
        });
        Ok(offered.collect())
    }

    /// Runs an action, within the rights of whoever enabled the plugin and of the caller, and waits
    /// for its end. `read` is about the module of the records. With a key it is run once, and what
    /// came of it is told again for a day, also where that is a failure: it may have written before
    /// it failed. Where it could not be run, the key stays free.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such action on this module, or the record is none that the
    /// caller sees; [`Error::Invalid`] for an input that the action does not take, and for some records
    /// of which one is not to be seen or that are too many; [`Error::Conflict`] `plugin_disabled`,
    /// `too_many_matches` and `no_match`; [`Error::Unavailable`] when there was no place to run in time.
    /// A run that fails is none of them.
    pub async fn act(
        &self,
        permit: &Permit<Create>,
        read: &Permit<Read>,
        ask: Ask,
    ) -> Result<Answered<Acted>> {
        let scope = permit.on(RUNS)?.clone();
        let core = &self.0.core;
        if let Some(once) = &ask.once
            && let Some(answered) = once.find(&core.db, core.clock.now()).await?
        {
            return again(answered);
        }
        let module = read.module()?.name().to_string();
        let enabled = self.enabled(scope.tenant()).await?;
        let mut plugins = enabled.installed.iter().map(|installed| &installed.plugin);
        let plugin = plugins.find(|plugin| *plugin.manifest.name.as_str() == ask.plugin);
        let Some(plugin) = plugin.cloned() else {
            ask.plugin.parse::<Ident>().map_err(|_| Error::NotFound)?;
            let known = store::find_named(&core.db, scope.tenant(), &ask.plugin).await?;
            let known = known.ok_or(Error::NotFound)?;
            ask.of(&known.manifest, &module).ok_or(Error::NotFound)?;
            return Err(switched_off());
        };
        let action = ask.of(&plugin.manifest, &module).ok_or(Error::NotFound)?;
        let records = self.targets(read, ask.on).await?;
        action.check_input(&ask.input)?;
        let input = Json::Object(ask.input).to_string();
        let call = ActionCall {
            name: ask.action,
            module: Some(module),
            records,
            input: action.input.is_some().then_some(input),
            actor: scope.actor().to_string(),
            request_id: scope.request().id.to_string(),
        };
        let (asked, once) = (plugin.clone(), ask.once);
        let run = |plugins: Self| async move {
            match once {
                Some(once) => plugins.acted_once(asked, &scope, call, once).await,
                None => {
                    let ended = plugins.asked(&asked, &scope, call).await?;
                    plugins.told(&asked, ended).await.map(Answered::Now)
                }
            }
        };
        self.apart(|plugins| run(plugins).boxed()).await
    }

    /// Runs an action under a key, which is given back when it could not be run.
    async fn acted_once(
        &self,
        plugin: Arc<Plugin>,
        scope: &Scope,
        call: ActionCall,
        once: Once,
    ) -> Result<Answered<Acted>> {
        let Core { db, clock, .. } = &*self.0.core;
        let (taken, now) = (once.clone(), clock.now());
        let begin = db.write(move |tx| Box::pin(async move { taken.begin(tx, now).await }));
        if let Some(answered) = begin.await? {
            return again(answered);
        }
        let ended = match self.asked(&plugin, scope, call).await {
            Ok(ended) if ended.report.outcome != Outcome::Refused => ended,
            not_run => {
                let release = once.release();
                db.execute(release).await?;
                return self.told(&plugin, not_run?).await.map(Answered::Now);
            }
        };
        // From here on it has run: should it not be told, the key stays under way.
        let acted = self.told(&plugin, ended).await?;
        let reply = Reply {
            status: 200,
            record: None,
            body: Some(serde_json::to_string(&acted).map_err(Error::internal)?),
        };
        let finish =
            db.write(move |tx| Box::pin(async move { once.finish(tx, now, &reply).await }));
        finish.await?;
        Ok(Answered::Now(acted))
    }

    /// The records that are meant, as far as the caller sees them.
    async fn targets(&self, read: &Permit<Read>, on: Targets) -> Result<Vec<RecordId>> {
        let records = Records::new(self.0.core.clone());
        let most = Self::MAX_TARGETS;
        match on {
            Targets::One(id) => Ok(vec![records.get(read, id).await?.id]),
            Targets::Some(mut ids) => {
                if !(1..=most).contains(&ids.len()) {
                    let message = format!("Name 1 to {most} records.");
                    return Err(Error::invalid("ids", "out_of_range", message));
                }
                for (at, id) in ids.iter().enumerate() {
                    match records.get(read, *id).await {
                        Err(Error::NotFound) => {
                            return Err(Error::Invalid(vec![FieldError {
                                pointer: format!("/ids/{at}"),
                                code: "not_found",
                                message: "There is no such record.".into(),
                            }]));
                        }
                        found => drop(found?),
                    }
                }
                let mut known = HashSet::new();
                ids.retain(|id| known.insert(*id));
                Ok(ids)
            }
            Targets::Matching(filter) => {
                let query = Query {
                    filter: Some(filter),
                    limit: u32::try_from(most).unwrap_or(1),
                    ..Query::default()
                };
                let page = records.list(read, &query).await?;
                if page.next_cursor.is_some() {
                    let message = format!("more than {most} records match; narrow the filter");
                    return Err(Error::conflict("too_many_matches", message));
                }
                if page.data.is_empty() {
                    let message = "no record matches; the plugin was not run";
                    return Err(Error::conflict("no_match", message));
                }
                Ok(page.data.iter().map(|record| record.id).collect())
            }
        }
    }

    /// Runs an action. An error says that it never began.
    async fn asked(&self, plugin: &Arc<Plugin>, scope: &Scope, call: ActionCall) -> Result<Ended> {
        let core = &self.0.core;
        let standing = Standing::new(core.clone(), plugin.clone(), Origin::within(scope));
        let occasion = match (&call.module, &*call.records) {
            (Some(module), [record]) => Occasion::by(scope).about(module, Some(*record)),
            (Some(module), _) => Occasion::by(scope).about(module, None),
            (None, _) => Occasion::by(scope),
        };
        let trigger = format!("action {}", call.name);
        let mut ended = Ended::new(core, (trigger, None), occasion).asked_for();
        match standing.begin().await? {
            Err(withdrawn) => ended.report = Report::refused(withdrawn.to_string()),
            Ok(_) => {
                let input = Input::Action(Arc::new(call));
                if let Some(busy) = self.perform(standing, input, &mut ended).await? {
                    return Err(Error::unavailable(busy.to_string()));
                }
            }
        }
        Ok(ended)
    }

    /// Keeps what is left of an action, and tells it.
    async fn told(&self, plugin: &Plugin, mut ended: Ended) -> Result<Acted> {
        let answer = answered(&mut ended.report);
        let (outcome, error) = (ended.report.outcome, ended.report.error.clone());
        let run = self.keep(plugin, ended).await?;
        Ok(Acted {
            run,
            outcome,
            error,
            answer,
        })
    }
}

/// What is known of an action that was asked for before with the same key.
fn again(answered: Answered) -> Result<Answered<Acted>> {
    answered.try_map(|reply| {
        serde_json::from_str(reply.body.as_deref().unwrap_or_default()).map_err(Error::internal)
    })
}

/// What the plugin said; it fails by saying what is no JSON, or too deep for us to read.
fn answered(report: &mut Report) -> Option<Json> {
    let Some(Output::Action(Some(text))) = report.output.take() else {
        return None;
    };
    match serde_json::from_str(&text) {
        Ok(answer) => Some(answer),
        Err(error) => {
            report.outcome = Outcome::Failed;
            report.error = Some(format!("its answer cannot be read as JSON: {error}"));
            None
        }
    }
}
