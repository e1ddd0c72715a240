//! Rehearsals: what a version of a plugin would have done about the tenant's last events.

use crm_core::event::ChangeKind;
use crm_core::id::PluginId;
use crm_core::{Create, plugin};
use poem::Request;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{Enum, Object, OpenApi};
use serde_json::Value;
use uuid::Uuid;

use super::plugin_run::{Log, RunOutcome};
use crate::credential::Caller;
use crate::edge::Exchange;
use crate::payload::Strict;
use crate::problem::Problem;
use crate::wire::Tag;

/// The operation of rehearsing.
pub(crate) struct Rehearsals {
    pub(crate) plugins: plugin::Plugins,
}

/// What to rehearse on.
#[derive(Object)]
#[oai(rename = "PluginRehearse", deny_unknown_fields)]
struct Rehearse {
    /// How many of the last events.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
    last: u32,
}

/// What a version would have done.
#[derive(Object)]
#[oai(rename = "PluginRehearsal")]
struct Reply {
    /// Events that were looked at.
    events: u64,
    /// The runs that they would have caused, the oldest event first.
    runs: Vec<Run>,
    /// What wakes the plugin and is no event of the past, such as `cron nightly`: not rehearsed.
    not_rehearsed: Vec<String>,
    /// Whether values that the plugin keeps, or what other plugins told, were withheld from it, because
    /// the caller does not read all that may have flowed into them.
    withheld: bool,
    /// Whether time ran out before the last event, or there was more to tell than is told.
    cut_off: bool,
}

/// One run of a rehearsal.
#[derive(Object)]
#[oai(rename = "PluginRehearsedRun")]
struct Run {
    /// The event that woke it.
    event_id: Uuid,
    /// The event's kind, such as `contact.created`; of a change that is judged, `before contact.create`.
    trigger: String,
    /// The record it was about.
    record_id: Uuid,
    outcome: RunOutcome,
    /// What went wrong; null when it succeeded.
    #[oai(nullable)]
    error: Option<String>,
    /// About one for each instruction.
    fuel: u64,
    /// What it logged.
    logs: Vec<Log>,
    /// What it said to a change that it judges; null for other runs, and where it failed.
    #[oai(nullable)]
    verdict: Option<Verdict>,
    /// Why it rejects the change, with its code; null otherwise.
    #[oai(nullable)]
    reason: Option<String>,
    /// The records it would have changed, in the order of its writes; of a change that it amends, the
    /// record as it was to be and as it would be instead.
    changes: Vec<Change>,
    /// What else it would have done, such as `http POST https://example.com/`.
    withheld: Vec<String>,
}

/// What a plugin says to a change of the past.
#[derive(Enum)]
#[oai(rename = "PluginRehearsedVerdict", rename_all = "snake_case")]
enum Verdict {
    /// It would have been made as it was.
    Accept,
    /// It would have been made with other values.
    Amend,
    /// It would not have been made.
    Reject,
}

/// A record that would have changed.
#[derive(Object)]
#[oai(rename = "PluginRehearsedChange")]
struct Change {
    /// The module's plural name.
    module: String,
    /// The record; of a new one an id of the rehearsal alone.
    record_id: Uuid,
    kind: Kind,
    /// As it was; null for a new one.
    #[oai(nullable)]
    before: Option<Any<Value>>,
    /// As it would be; null for one that would be gone.
    #[oai(nullable)]
    after: Option<Any<Value>>,
}

/// What would have happened to a record.
#[derive(Enum)]
#[oai(rename = "PluginRehearsedKind", rename_all = "snake_case")]
enum Kind {
    /// It would be new.
    Created,
    /// It would have other values.
    Updated,
    /// It would be gone.
    Deleted,
}

#[OpenApi(prefix_path = "/api/v1/plugins", tag = "Tag::Plugins")]
impl Rehearsals {
    /// Rehearse a version
    ///
    /// Runs it over the last events that would have woken it, with the permissions it would have if the
    /// caller enabled it, and tells what would be different. A plugin that judges changes is asked about
    /// those of the past, with other records as they are now. Nothing of it stays: writes are taken back,
    /// nothing is sent. It ends after 20 seconds with what there is by then; before, it may wait some
    /// minutes for the compiler. Permission: `plugins.create`.
    #[oai(
        path = "/:id/versions/:sha256/rehearsals",
        method = "post",
        operation_id = "rehearse_plugin_version"
    )]
    async fn rehearse(
        &self,
        request: &Request,
        caller: Caller,
        id: Path<Uuid>,
        /// The `sha256` of the version.
        sha256: Path<String>,
        body: Strict<Rehearse>,
    ) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Create>("plugins")?;
        Exchange::of(request)?.allow_upload();
        let rehearsal =
            self.plugins
                .rehearse_version(&permit, PluginId(id.0), &sha256.0, body.0.last);
        Ok(Json(rehearsal.await?.into()))
    }
}

impl From<plugin::Rehearsal> for Reply {
    fn from(rehearsal: plugin::Rehearsal) -> Self {
        Self {
            events: rehearsal.events as u64,
            runs: rehearsal.runs.into_iter().map(Run::from).collect(),
            not_rehearsed: rehearsal.not_rehearsed,
            withheld: rehearsal.withheld,
            cut_off: rehearsal.cut_off,
        }
    }
}

impl From<plugin::RehearsedRun> for Run {
    fn from(run: plugin::RehearsedRun) -> Self {
        Self {
            event_id: run.event_id.0,
            trigger: run.trigger,
            record_id: run.record_id.0,
            outcome: run.outcome.into(),
            error: run.error,
            fuel: run.fuel,
            logs: run.logs.into_iter().map(Log::from).collect(),
            verdict: run.verdict.map(Verdict::from),
            reason: run.reason,
            changes: run.changes.into_iter().map(Change::from).collect(),
            withheld: run.withheld,
        }
    }
}

impl From<plugin::RehearsedVerdict> for Verdict {
    fn from(verdict: plugin::RehearsedVerdict) -> Self {
        match verdict {
            plugin::RehearsedVerdict::Accept => Self::Accept,
            plugin::RehearsedVerdict::Amend => Self::Amend,
            plugin::RehearsedVerdict::Reject => Self::Reject,
        }
    }
}

impl From<plugin::RehearsedChange> for Change {
    fn from(change: plugin::RehearsedChange) -> Self {
        Self {
            module: change.module,
            record_id: change.record_id.0,
            kind: match change.kind {
                ChangeKind::Created => Kind::Created,
                ChangeKind::Deleted | ChangeKind::Purged => Kind::Deleted,
                ChangeKind::Updated | ChangeKind::Restored | ChangeKind::Merged => Kind::Updated,
            },
            before: change.before.map(Any),
            after: change.after.map(Any),
        }
    }
}
