//! The seam between the library and a plugin host: what the host is asked, what it may ask back,
//! and what it reports. It knows nothing of WebAssembly, and nothing of WebAssembly knows the
//! database: a guest reaches records through the [`Door`] only.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::event::{ChangeKind, Event};
use crate::id::RecordId;
pub use crate::mask::Mask;
use crate::plugin::Manifest;
use crate::value::Value;

/// Runs plugins.
pub trait PluginHost: Send + Sync + 'static {
    /// Judges an uploaded component and reads its manifest. Nothing of it runs but its `describe`,
    /// where it has one: bounded like a run, and lent nothing.
    ///
    /// A component this host accepts is one it can run: validated, compiled, its imports within
    /// what its manifest asks for.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] or
    /// [`Error::LimitExceeded`], with a code that names the reason.
    fn inspect(&self, component: Bytes) -> BoxFuture<'_, Result<Manifest>>;

    /// Reads the manifest of a component, and does no more about it than that takes.
    ///
    /// # Errors
    ///
    /// Those of [`inspect`](Self::inspect).
    fn manifest(&self, component: Bytes) -> BoxFuture<'_, Result<Manifest>> {
        self.inspect(component)
    }

    /// Runs a plugin once, inside the host's limits. A failing plugin is a report, not an error.
    ///
    /// # Errors
    ///
    /// When the run could not begin for a reason that passes, such as a database out of reach; the
    /// event is then delivered again.
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Report>>;

    /// What it has to give.
    fn capacity(&self) -> Capacity {
        Capacity::default()
    }
}

/// What a host has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Runs at the same time. Default 64.
    pub runs: usize,
    /// The most fuel of one run. Default 1,000,000,000.
    pub fuel: u64,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            runs: 64,
            fuel: 1_000_000_000,
        }
    }
}

/// One run of one plugin.
pub struct Call {
    /// SHA-256 of the component.
    pub sha256: [u8; 32],
    /// Fetches the component's bytes; asked only when the host does not hold it compiled.
    pub component: ComponentLoader,
    /// What woke it.
    pub input: Input,
    /// What the run's randomness follows from.
    pub seed: [u8; 32],
    /// What the guest's clock shows.
    pub now: DateTime<Utc>,
    /// The most fuel it may use, where that is less than the host's own limit.
    pub fuel: Option<u64>,
    /// The most wall time it may take from the moment that it has a place, waits for the [`Door`]
    /// included, where that is less than the host's own limit.
    pub deadline: Option<Duration>,
    /// Stops the run, which then reports [`Outcome::Cancelled`]; [`Outcome::Refused`] where it had
    /// not begun.
    pub cancel: CancellationToken,
    /// Everything it may touch.
    pub door: Arc<dyn Door>,
}

/// Fetches a component that is to be made ready.
pub type ComponentLoader = Box<dyn FnOnce() -> BoxFuture<'static, Result<Loaded>> + Send>;

/// A component that was fetched.
pub struct Loaded {
    /// Its bytes.
    pub component: Bytes,
    /// Its tenant's turn, in which one component is made ready at a time: to be held until it is.
    pub turn: Option<Box<dyn Send>>,
}

impl From<Bytes> for Loaded {
    /// A component for which nobody waits his turn.
    fn from(component: Bytes) -> Self {
        Self {
            component,
            turn: None,
        }
    }
}

/// A record's or a change's fields by name, in their order.
pub type Fields = Vec<(String, Value)>;

/// What wakes a plugin; each kind is a function that it exports.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// `describe`: what it says about itself.
    Describe,
    /// `handle`: something happened.
    Event(Arc<WokenBy>),
    /// `before`: somebody is about to change a record.
    Before(Arc<Change>),
    /// `run`: somebody asks for it by hand.
    Action(Arc<ActionCall>),
    /// `cron`: the time has come.
    Tick(Arc<Tick>),
    /// `inbound`: another system sent something.
    Webhook(Arc<Webhook>),
}

/// An event as a plugin may see it.
#[derive(Debug, Clone, PartialEq)]
pub struct WokenBy {
    /// The event, without its states.
    pub event: Event,
    /// The record before; absent for a new one, for what a plugin told, and where the plugin may
    /// not read it.
    pub before: Option<Fields>,
    /// The record after; absent for one that is gone, for what a plugin told, and where the plugin
    /// may not read it.
    pub after: Option<Fields>,
    /// What a plugin told with its own event, as the text of a JSON object.
    pub data: Option<String>,
}

/// A change that is not yet made.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The module's plural name.
    pub module: String,
    /// Created, updated or deleted.
    pub kind: ChangeKind,
    /// The record; absent for a new one.
    pub record_id: Option<RecordId>,
    /// The record as it is; absent for a new one.
    pub before: Option<Fields>,
    /// The record as it would become; absent for a deletion.
    pub after: Option<Fields>,
    /// Who is about to do it.
    pub actor: String,
    /// The request that asks for it.
    pub request_id: String,
}

/// An action asked for by hand.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionCall {
    /// Its name in the manifest.
    pub name: String,
    /// The module it was asked for on.
    pub module: Option<String>,
    /// The records it was asked for on.
    pub records: Vec<RecordId>,
    /// What the caller gave, as the text of a JSON object of at most 32 KiB; absent where the
    /// action takes none.
    pub input: Option<String>,
    /// Who asks.
    pub actor: String,
    /// The request that asks.
    pub request_id: String,
}

/// A due time.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// The name of the trigger or of the job.
    pub name: String,
    /// When it was due.
    pub due_at: DateTime<Utc>,
    /// What the plugin gave with the job: a text of at most 32 KiB; absent for a cron trigger.
    pub payload: Option<String>,
}

/// What another system sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// The trigger's name.
    pub name: String,
    /// The sender's id of the message.
    pub id: String,
    /// The type of the body, as the sender said.
    pub content_type: Option<String>,
    /// The body, as it was sent: at most [`MAX_MESSAGE`](crate::plugin::Plugins::MAX_MESSAGE)
    /// bytes.
    pub body: Bytes,
    /// When it came.
    pub received_at: DateTime<Utc>,
}

/// What a run answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// To [`Input::Describe`].
    Description {
        /// The plugin's name.
        name: String,
        /// The plugin's version.
        version: String,
    },
    /// To [`Input::Before`].
    Verdict(Verdict),
    /// To [`Input::Action`]: the text of a JSON value.
    Action(Option<String>),
}

/// What becomes of a change.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It is made as it is.
    Accept,
    /// It is made with these fields set so.
    Amend(Fields),
    /// It is refused, for a reason that the caller reads.
    Reject {
        /// Stable machine code.
        code: String,
        /// A full sentence.
        message: String,
        /// The field at fault.
        field: Option<String>,
    },
}

/// The only way from a running plugin to anything outside it. Every method checks the plugin's
/// rights first. What an implementation leaves out is refused.
#[expect(
    unused_variables,
    reason = "what a method is given has names for those who implement it"
)]
pub trait Door: Send + Sync + 'static {
    /// One record.
    fn get<'a>(&'a self, module: &'a str, id: RecordId) -> BoxFuture<'a, Result<Fields>> {
        refused()
    }

    /// A page of records.
    fn list<'a>(&'a self, module: &'a str, query: DoorQuery) -> BoxFuture<'a, Result<DoorPage>> {
        refused()
    }

    /// Creates a record and answers it as stored.
    fn create<'a>(&'a self, module: &'a str, values: Fields) -> BoxFuture<'a, Result<Fields>> {
        refused()
    }

    /// Sets the given fields and answers the record as stored; with a version, only when the
    /// record still has it.
    fn update<'a>(
        &'a self,
        module: &'a str,
        id: RecordId,
        version: Option<i64>,
        values: Fields,
    ) -> BoxFuture<'a, Result<Fields>> {
        refused()
    }

    /// Deletes a record; with a version, only when the record still has it.
    fn delete<'a>(
        &'a self,
        module: &'a str,
        id: RecordId,
        version: Option<i64>,
    ) -> BoxFuture<'a, Result<()>> {
        refused()
    }

    /// Figures: JSON text in and out, as over HTTP.
    fn aggregate<'a>(&'a self, module: &'a str, query: &'a str) -> BoxFuture<'a, Result<String>> {
        refused()
    }

    /// Tells an event of the plugin's own, with the text of a JSON object.
    fn emit<'a>(&'a self, name: &'a str, data: &'a str) -> BoxFuture<'a, Result<()>> {
        refused()
    }

    /// A value of the plugin's own store.
    fn kv_get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        refused()
    }

    /// Sets a value of the plugin's own store.
    fn kv_set<'a>(&'a self, key: &'a str, value: Vec<u8>) -> BoxFuture<'a, Result<()>> {
        refused()
    }

    /// Removes a value of the plugin's own store; answers whether there was one.
    fn kv_delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool>> {
        refused()
    }

    /// The next keys of the plugin's own store with this prefix.
    fn kv_keys<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<String>>> {
        refused()
    }

    /// A request to a host that the manifest names.
    fn fetch(&self, request: DoorRequest) -> BoxFuture<'_, Result<DoorResponse>> {
        refused()
    }

    /// A secret that the manifest names.
    fn secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretString>> {
        refused()
    }

    /// Has the plugin called with this name and payload after a delay.
    fn schedule<'a>(
        &'a self,
        name: &'a str,
        delay: Duration,
        payload: Option<String>,
    ) -> BoxFuture<'a, Result<()>> {
        refused()
    }
}

fn refused<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T>> {
    let permission = "crm:automation".to_owned();
    ready(Err(Error::Forbidden { permission })).boxed()
}

/// Which records a plugin asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorQuery {
    /// A filter, as the text of a JSON object.
    pub filter: Option<String>,
    /// Fields to sort by, such as `-created_at`.
    pub sort: Vec<String>,
    /// At most so many records, 1 to 100. Default 100.
    pub limit: u32,
    /// Where the page before this one ended.
    pub cursor: Option<String>,
}

impl Default for DoorQuery {
    fn default() -> Self {
        Self {
            filter: None,
            sort: Vec::new(),
            limit: 100,
            cursor: None,
        }
    }
}

/// A page of records for a plugin.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DoorPage {
    /// The records.
    pub records: Vec<Fields>,
    /// Where the next page begins; absent on the last one.
    pub next_cursor: Option<String>,
}

/// A request that a plugin sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorRequest {
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: String,
    /// Where to.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// What a plugin's request was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorResponse {
    /// The HTTP status.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// What a run did and what it cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// A sentence on what went wrong; absent when the run succeeded. A limit is named with its
    /// size.
    pub error: Option<String>,
    /// What it answered, where its input asks for an answer.
    pub output: Option<Output>,
    /// What it used.
    pub usage: Usage,
    /// What the plugin logged.
    pub logs: Vec<LogLine>,
}

/// What a run used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Fuel: about one unit per WebAssembly instruction, the same on every repetition.
    pub fuel: u64,
    /// Wall time of the run, waits for the [`Door`] included; the waits for its compiled code and
    /// for a place before it are not.
    pub duration: Duration,
    /// The most bytes of memory at any time.
    pub memory: u64,
    /// Calls of host functions.
    pub host_calls: u32,
    /// Records read.
    pub rows_read: u32,
    /// Records written.
    pub rows_written: u32,
    /// Requests sent.
    pub requests: u32,
    /// Bytes sent and received with them.
    pub request_bytes: u64,
}

impl Report {
    /// The report of a run that never started.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Refused,
            error: Some(reason.into()),
            output: None,
            usage: Usage::default(),
            logs: Vec::new(),
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The plugin handled what woke it.
    Succeeded,
    /// The plugin answered with an error of its own.
    Failed,
    /// The plugin crashed.
    Trapped,
    /// Stopped: too many instructions.
    OutOfFuel,
    /// Stopped: too much time.
    TimedOut,
    /// Stopped: too much memory.
    OutOfMemory,
    /// Stopped at another limit, which the report's error names.
    LimitExceeded,
    /// Stopped by an administrator, or because the plugin was switched off.
    Cancelled,
    /// Never started: nobody who may stands behind it, it is unsigned where signatures are
    /// required, it rests, the day's fuel is used up, the chain of causes is too deep, a message
    /// waited too long or for no webhook of the active version, or the component could not be made
    /// ready.
    Refused,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Succeeded,
        Self::Failed,
        Self::Trapped,
        Self::OutOfFuel,
        Self::TimedOut,
        Self::OutOfMemory,
        Self::LimitExceeded,
        Self::Cancelled,
        Self::Refused,
    ];

    /// The stored form, such as `out_of_fuel`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Trapped => "trapped",
            Self::OutOfFuel => "out_of_fuel",
            Self::TimedOut => "timed_out",
            Self::OutOfMemory => "out_of_memory",
            Self::LimitExceeded => "limit_exceeded",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
        }
    }

    /// The outcome with this stored form.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A line of a run's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// How serious it is.
    pub level: LogLevel,
    /// What the plugin wrote.
    pub message: String,
}

/// How serious a line of a run's log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// For the plugin's author.
    Debug,
    /// What happened.
    Info,
    /// Something to look at.
    Warn,
    /// Something went wrong.
    Error,
}
