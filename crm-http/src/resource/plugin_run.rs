//! The runs of a plugin: listed, followed, looked at, played again.

use std::time::Duration;

use crm_core::hook::{LogLevel, LogLine, Outcome};
use crm_core::id::{PluginId, RecordId, RunId};
use crm_core::plugin::{self, RunQuery};
use crm_core::{Read, Update};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{Enum, Object, OpenApi};
use serde_json::Value;
use uuid::Uuid;

use crate::credential::Caller;
use crate::problem::Problem;
use crate::wire::{Instant, Tag, page_size};

/// The operations on the runs of plugins.
pub(crate) struct Runs {
    pub(crate) plugins: plugin::Plugins,
}

/// One run of a plugin.
#[derive(Object)]
#[oai(rename = "PluginRun")]
struct Run {
    id: Uuid,
    /// SHA-256 of the component that ran; null for runs of an earlier release.
    #[oai(nullable)]
    sha256: Option<String>,
    /// The event or the message that woke it.
    #[oai(nullable)]
    event_id: Option<Uuid>,
    /// What woke it: an event's kind such as `contact.created`, or `before contact.create`,
    /// `cron nightly`, `job later`, `webhook payments`, `action rescore`.
    trigger: String,
    /// Who caused it, as in the audit log: `user:<id>`, `api_key:<id>`, `plugin:<id>` or `operator`;
    /// `clock` for a cron trigger, `webhook` for a signed message. A job is caused by whose act had the
    /// plugin schedule it, or else by the plugin. Null for runs of an earlier release.
    #[oai(nullable)]
    caused_by: Option<String>,
    /// Who acted in their name; null where nobody else did.
    #[oai(nullable)]
    impersonator: Option<String>,
    /// The module of the record, or of the records, that it is about.
    #[oai(nullable)]
    module: Option<String>,
    /// The record that it is about, where that is one.
    #[oai(nullable)]
    record_id: Option<Uuid>,
    outcome: RunOutcome,
    /// What went wrong; null when it succeeded.
    #[oai(nullable)]
    error: Option<String>,
    /// About one for each instruction.
    fuel: i64,
    /// Wall time in microseconds.
    duration_us: i64,
    /// The most bytes of memory at any time.
    memory: i64,
    /// Calls of host functions.
    host_calls: i64,
    /// Records read.
    rows_read: i64,
    /// Records written.
    rows_written: i64,
    /// Requests sent.
    requests: i64,
    /// Bytes sent and received with them.
    request_bytes: i64,
    /// What it logged.
    logs: Vec<Log>,
    started_at: Instant,
}

/// One run of a plugin, with what it was given, asked and answered.
#[derive(Object)]
#[oai(rename = "PluginRunDetails")]
struct Details {
    #[oai(flatten)]
    run: Run,
    /// What it answered, as far as that is kept; null where it answered nothing. Its `kind` is `accept`,
    /// `amend` with the `fields`, or `reject` with `code`, `message` and `field` for a judge, `action`
    /// with the `answer`, and `too_large` with its `bytes`. Secrets are hidden; where `withheld` says
    /// why, so are `fields` and `answer`.
    #[oai(nullable)]
    answer: Option<Any<Value>>,
    /// What it was given; null where `withheld` says why. Its `kind` is `event`, `before`, `action`,
    /// `tick` or `webhook`.
    #[oai(nullable)]
    input: Option<Any<Value>>,
    /// What it asked of the host and was answered; null where `withheld` says why.
    #[oai(nullable)]
    transcript: Option<Transcript>,
    /// Why `input`, `transcript` and the values in `answer` are not shown; null where they are.
    #[oai(nullable)]
    withheld: Option<Withheld>,
}

/// What a run asked of the host. Secrets are hidden.
#[derive(Object)]
#[oai(rename = "PluginTranscript")]
struct Transcript {
    /// Its calls, in their order.
    calls: Vec<Call>,
    /// Whether it asked more than is kept.
    truncated: bool,
}

/// A call of the host.
#[derive(Object)]
#[oai(rename = "PluginCall")]
struct Call {
    /// What was asked.
    call: Any<Value>,
    /// What was answered.
    answer: Any<Value>,
}

/// Why a run's input and transcript are not shown.
#[derive(Enum)]
#[oai(rename = "PluginRunWithheld", rename_all = "snake_case")]
enum Withheld {
    /// The caller may not update plugins, or not read all rows and fields of the run's module and of
    /// each module that its version was granted.
    Rights,
    /// The run never began, or they had to make room for newer ones.
    NotKept,
    /// The version that ran was deleted.
    VersionGone,
}

/// How a run ended.
#[derive(Enum, Clone, Copy)]
#[oai(rename = "PluginRunOutcome", rename_all = "snake_case")]
pub(super) enum RunOutcome {
    /// It handled the event.
    Succeeded,
    /// It answered with an error of its own.
    Failed,
    /// It crashed.
    Trapped,
    /// Stopped: too many instructions.
    OutOfFuel,
    /// Stopped: too much time.
    TimedOut,
    /// Stopped: too much memory.
    OutOfMemory,
    /// Stopped at another limit, which `error` names.
    LimitExceeded,
    /// Stopped because it was switched off.
    Cancelled,
    /// Never started.
    Refused,
}

/// A line that a plugin logged.
#[derive(Object)]
#[oai(rename = "PluginLogLine")]
pub(super) struct Log {
    level: Level,
    message: String,
}

/// How serious a line is.
#[derive(Enum)]
#[oai(rename = "PluginLogLevel", rename_all = "snake_case")]
enum Level {
    /// For the plugin's author.
    Debug,
    /// What happened.
    Info,
    /// Something to look at.
    Warn,
    /// Something went wrong.
    Error,
}

/// A page of runs.
#[derive(Object)]
#[oai(rename = "PluginRunList")]
struct RunList {
    /// The runs, newest first.
    data: Vec<Run>,
    /// The `cursor` of the next page; null at the end.
    #[oai(nullable)]
    next_cursor: Option<Uuid>,
}

/// Runs that ended meanwhile.
#[derive(Object)]
#[oai(rename = "PluginRunsFollowed")]
struct Followed {
    /// The runs, the oldest first; none when nothing happened in time.
    data: Vec<Run>,
}

/// What came of a replay.
#[derive(Object)]
#[oai(rename = "PluginReplay")]
struct Replay {
    /// Whether it asked, logged, used, answered and ended as its run did.
    identical: bool,
    /// Where it first asked something else; null when it did not.
    #[oai(nullable)]
    divergence: Option<Divergence>,
    outcome: RunOutcome,
    /// What went wrong; null when it succeeded.
    #[oai(nullable)]
    error: Option<String>,
    /// About one for each instruction.
    fuel: i64,
    /// What it logged.
    logs: Vec<Log>,
    /// What it answered, in the form of a run's.
    #[oai(nullable)]
    answer: Option<Any<Value>>,
}

/// Where a replay went another way than its run.
#[derive(Object)]
#[oai(rename = "PluginDivergence")]
struct Divergence {
    /// The number of the call, from 0.
    at: u32,
    /// What the run asked; null where it asked nothing more, and for whom the run's transcript is withheld.
    #[oai(nullable)]
    recorded: Option<Any<Value>>,
    /// What the replay asked; null where it asked nothing more, and for whom the run's transcript is
    /// withheld.
    #[oai(nullable)]
    replayed: Option<Any<Value>>,
}

#[OpenApi(prefix_path = "/api/v1/plugins", tag = "Tag::Plugins")]
impl Runs {
    /// List the runs of a plugin
    ///
    /// Newest first. Permission: `plugins.read`.
    #[oai(path = "/:id/runs", method = "get", operation_id = "list_plugin_runs")]
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a parameter of the query"
    )]
    async fn list(
        &self,
        caller: Caller,
        id: Path<Uuid>,
        /// Most runs of the page.
        #[oai(
            default = "page_size",
            validator(minimum(value = "1"), maximum(value = "100"))
        )]
        limit: Query<u32>,
        /// The `next_cursor` of the page before.
        cursor: Query<Option<Uuid>>,
        /// Runs that ended so.
        outcome: Query<Option<RunOutcome>>,
        /// Runs of this trigger, such as `contact.created`.
        #[oai(validator(max_length = 100))]
        trigger: Query<Option<String>>,
        /// Runs that ended at this time or later.
        since: Query<Option<chrono::DateTime<chrono::Utc>>>,
        /// Runs about records of this module, such as `contacts`.
        #[oai(validator(max_length = 100))]
        module: Query<Option<String>>,
        /// Runs about this record.
        record_id: Query<Option<Uuid>>,
    ) -> Result<Json<RunList>, Problem> {
        let permit = caller.permit::<Read>("plugins")?;
        let query = RunQuery {
            before: cursor.0.map(RunId),
            limit: limit.0,
            outcome: outcome.0.map(Outcome::from),
            trigger: trigger.0,
            since: since.0,
            module: module.0,
            record_id: record_id.0.map(RecordId),
        };
        let page = self.plugins.runs(&permit, PluginId(id.0), &query).await?;
        Ok(Json(RunList {
            data: page.data.into_iter().map(Run::from).collect(),
            next_cursor: page.next_cursor.map(|id| id.0),
        }))
    }

    /// Follow the runs of a plugin
    ///
    /// Answers as soon as there are runs behind the one named, or with none when the time is over:
    /// ask again with the last one heard of. Permission: `plugins.read`.
    #[oai(
        path = "/:id/runs/follow",
        method = "get",
        operation_id = "follow_plugin_runs"
    )]
    async fn follow(
        &self,
        caller: Caller,
        id: Path<Uuid>,
        /// The last run heard of; without it, runs from now on.
        after: Query<Option<Uuid>>,
        /// Most seconds to wait.
        #[oai(default = "wait", validator(maximum(value = "25")))]
        wait: Query<u32>,
    ) -> Result<Json<Followed>, Problem> {
        let permit = caller.permit::<Read>("plugins")?;
        let wait = Duration::from_secs(wait.0.into());
        let after = after.0.map(RunId);
        let bounds = (plugin::Plugins::MAX_RUNS, wait);
        let runs = self.plugins.follow(&permit, PluginId(id.0), after, bounds);
        Ok(Json(Followed {
            data: runs.await?.into_iter().map(Run::from).collect(),
        }))
    }

    /// Get a run
    ///
    /// With how it answered, and for those who hold `plugins.update` and read all that it could have met
    /// also the values in that, and what it was given and asked. Permission: `plugins.read`.
    #[oai(
        path = "/:id/runs/:run_id",
        method = "get",
        operation_id = "get_plugin_run"
    )]
    async fn get(
        &self,
        caller: Caller,
        id: Path<Uuid>,
        run_id: Path<Uuid>,
    ) -> Result<Json<Details>, Problem> {
        let permit = caller.permit::<Read>("plugins")?;
        let (id, run) = (PluginId(id.0), RunId(run_id.0));
        let answer = self.plugins.run_answer(&permit, id, run).await?;
        let (input, transcript, withheld) = match self.plugins.run_story(&permit, id, run).await? {
            Ok(story) => (Some(Any(story.input.clone())), Some(story.into()), None),
            Err(why) => (None, None, Some(why.into())),
        };
        Ok(Json(Details {
            run: self.plugins.run(&permit, id, run).await?.into(),
            answer: answer.map(Any),
            input,
            transcript,
            withheld,
        }))
    }

    /// Replay a run
    ///
    /// The same component, input, clock and randomness, and the answers of then: nothing is read or
    /// written but the secrets that it needs. Permission: `plugins.update`.
    #[oai(
        path = "/:id/runs/:run_id/replay",
        method = "post",
        operation_id = "replay_plugin_run"
    )]
    async fn replay(
        &self,
        caller: Caller,
        id: Path<Uuid>,
        run_id: Path<Uuid>,
    ) -> Result<Json<Replay>, Problem> {
        let permit = caller.permit::<Update>("plugins")?;
        let (id, run) = (PluginId(id.0), RunId(run_id.0));
        Ok(Json(self.plugins.replay(&permit, id, run).await?.into()))
    }
}

fn wait() -> u32 {
    20
}

impl From<plugin::Run> for Run {
    fn from(run: plugin::Run) -> Self {
        Self {
            id: run.id.0,
            sha256: run.sha256.map(hex::encode),
            event_id: run.event_id.map(|id| id.0),
            trigger: run.trigger,
            caused_by: run.caused_by,
            impersonator: run.impersonator,
            module: run.module,
            record_id: run.record_id.map(|id| id.0),
            outcome: run.outcome.into(),
            error: run.error,
            fuel: run.fuel,
            duration_us: run.duration_us,
            memory: run.memory,
            host_calls: run.host_calls,
            rows_read: run.rows_read,
            rows_written: run.rows_written,
            requests: run.requests,
            request_bytes: run.request_bytes,
            logs: run.logs.into_iter().map(Log::from).collect(),
            started_at: run.started_at.into(),
        }
    }
}

impl From<plugin::RunStory> for Transcript {
    fn from(story: plugin::RunStory) -> Self {
        let calls = story.calls.into_iter().map(|call| Call {
            call: Any(call.call),
            answer: Any(call.answer),
        });
        Self {
            calls: calls.collect(),
            truncated: story.truncated,
        }
    }
}

impl From<plugin::Withheld> for Withheld {
    fn from(why: plugin::Withheld) -> Self {
        match why {
            plugin::Withheld::Rights => Self::Rights,
            plugin::Withheld::NotKept => Self::NotKept,
            plugin::Withheld::VersionGone => Self::VersionGone,
        }
    }
}

impl From<plugin::Replay> for Replay {
    fn from(replay: plugin::Replay) -> Self {
        Self {
            identical: replay.identical,
            divergence: replay.divergence.map(|divergence| Divergence {
                at: u32::try_from(divergence.at).unwrap_or(u32::MAX),
                recorded: divergence.recorded.map(Any),
                replayed: divergence.replayed.map(Any),
            }),
            outcome: replay.outcome.into(),
            error: replay.error,
            fuel: i64::try_from(replay.fuel).unwrap_or(i64::MAX),
            logs: replay.logs.into_iter().map(Log::from).collect(),
            answer: replay.answer.map(Any),
        }
    }
}

impl From<Outcome> for RunOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Succeeded,
            Outcome::Failed => Self::Failed,
            Outcome::Trapped => Self::Trapped,
            Outcome::OutOfFuel => Self::OutOfFuel,
            Outcome::TimedOut => Self::TimedOut,
            Outcome::OutOfMemory => Self::OutOfMemory,
            Outcome::LimitExceeded => Self::LimitExceeded,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::Refused => Self::Refused,
        }
    }
}

impl From<RunOutcome> for Outcome {
    fn from(outcome: RunOutcome) -> Self {
        match outcome {
            RunOutcome::Succeeded => Self::Succeeded,
            RunOutcome::Failed => Self::Failed,
            RunOutcome::Trapped => Self::Trapped,
            RunOutcome::OutOfFuel => Self::OutOfFuel,
            RunOutcome::TimedOut => Self::TimedOut,
            RunOutcome::OutOfMemory => Self::OutOfMemory,
            RunOutcome::LimitExceeded => Self::LimitExceeded,
            RunOutcome::Cancelled => Self::Cancelled,
            RunOutcome::Refused => Self::Refused,
        }
    }
}

impl From<LogLine> for Log {
    fn from(line: LogLine) -> Self {
        let level = match line.level {
            LogLevel::Debug => Level::Debug,
            LogLevel::Info => Level::Info,
            LogLevel::Warn => Level::Warn,
            LogLevel::Error => Level::Error,
        };
        Self {
            level,
            message: line.message,
        }
    }
}
