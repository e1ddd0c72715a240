//! The seam between the library and a plugin host: what the host is asked, what it may ask back,
//! and what it reports. It knows nothing of WebAssembly, and nothing of WebAssembly knows the
//! database: a guest reaches records through the [`Door`] only.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::event::Event;
use crate::id::RecordId;
use crate::plugin::{Manifest, Plugin};

/// Runs plugins.
pub trait PluginHost: Send + Sync + 'static {
    /// Judges an uploaded component and reads its manifest; nothing of it runs.
    ///
    /// A component this host accepts is one it can run: validated, compiled, its imports within
    /// what its manifest asks for.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) or
    /// [`Error::LimitExceeded`](crate::Error::LimitExceeded), with a code that names the reason.
    fn inspect(&self, component: Bytes) -> BoxFuture<'_, Result<Manifest>>;

    /// Runs a plugin once, inside the host's limits. A failing plugin is a report, not an error.
    ///
    /// # Errors
    ///
    /// When the run could not begin for a reason that passes, such as a database out of reach; the
    /// event is then delivered again.
    fn handle(&self, call: Call) -> BoxFuture<'_, Result<Report>>;
}

/// One run of one plugin.
pub struct Call {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// What woke it.
    pub event: Arc<Event>,
    /// The records it may touch.
    pub door: Arc<dyn Door>,
    /// Fetches the component's bytes; asked only when the host does not hold it compiled.
    pub component: ComponentLoader,
}

/// Fetches a component's bytes.
pub type ComponentLoader = Box<dyn FnOnce() -> BoxFuture<'static, Result<Bytes>> + Send>;

/// The only way from a running plugin to records. Every method checks the plugin's rights first.
///
/// Record values travel as the text of a JSON object, in and out.
pub trait Door: Send + Sync + 'static {
    /// One record.
    fn get<'a>(&'a self, module: &'a str, id: RecordId) -> BoxFuture<'a, Result<String>>;

    /// A page of records.
    fn list<'a>(&'a self, module: &'a str, query: DoorQuery) -> BoxFuture<'a, Result<DoorPage>>;

    /// Creates a record and answers it as stored.
    fn create<'a>(&'a self, module: &'a str, values: &'a str) -> BoxFuture<'a, Result<String>>;

    /// Sets the given fields and answers the record as stored; with a version, only when the
    /// record still has it.
    fn update<'a>(
        &'a self,
        module: &'a str,
        id: RecordId,
        version: Option<i64>,
        values: &'a str,
    ) -> BoxFuture<'a, Result<String>>;
}

/// Which records a plugin asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DoorQuery {
    /// A filter, as the text of a JSON object.
    pub filter: Option<String>,
    /// At most so many records.
    pub limit: u32,
    /// Where the page before this one ended.
    pub cursor: Option<String>,
}

/// A page of records for a plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DoorPage {
    /// Each the text of a JSON object.
    pub records: Vec<String>,
    /// Where the next page begins; absent on the last one.
    pub next_cursor: Option<String>,
}

/// What a run did and what it cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// A sentence on what went wrong; absent when the run succeeded. A limit is named with its size.
    pub error: Option<String>,
    /// Fuel used: about one unit per WebAssembly instruction, the same on every repetition.
    pub fuel: u64,
    /// Wall time.
    pub duration: Duration,
    /// Calls of host functions.
    pub host_calls: u32,
    /// What the plugin logged.
    pub logs: Vec<LogLine>,
}

impl Report {
    /// The report of a run that never started.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Refused,
            error: Some(reason.into()),
            fuel: 0,
            duration: Duration::ZERO,
            host_calls: 0,
            logs: Vec::new(),
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The plugin handled the event.
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
    /// Never started: the chain of causes is too deep, or the component could not be made ready.
    Refused,
}

impl Outcome {
    const ALL: [Self; 8] = [
        Self::Succeeded,
        Self::Failed,
        Self::Trapped,
        Self::OutOfFuel,
        Self::TimedOut,
        Self::OutOfMemory,
        Self::LimitExceeded,
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
