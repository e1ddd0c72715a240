//! Plugins: the tenant's own WebAssembly automation, from upload through consent to its runs.

use bytes::Bytes;
use crm_core::hook::{LogLevel, LogLine, Outcome};
use crm_core::id::{PluginId, RunId};
use crm_core::plugin::{self, PluginStatus};
use crm_core::{Create, Delete, Read, Update};
use poem::{Request, RequestBody};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::{Binary, Json, Payload};
use poem_openapi::registry::{MetaMediaType, MetaRequest};
use poem_openapi::{ApiExtractor, ApiExtractorType, Enum, ExtractParamOptions, Object, OpenApi};
use uuid::Uuid;

use crate::credential::Caller;
use crate::edge::Exchange;
use crate::json;
use crate::problem::Problem;
use crate::wire::{Created, Instant, NoContent, Tag};

/// The operations on plugins.
pub(crate) struct Plugins {
    pub(crate) plugins: plugin::Plugins,
}

/// A plugin of the tenant.
#[derive(Object)]
#[oai(rename = "Plugin")]
struct Reply {
    id: Uuid,
    /// Its name, unique in the tenant.
    name: String,
    version: String,
    /// What it says that it does.
    description: String,
    /// The events that wake it, such as `contact.created`.
    triggers: Vec<String>,
    /// The permissions it asks for; enabling it grants them.
    grants: Vec<Grant>,
    status: Status,
    /// SHA-256 of the component, in hexadecimal.
    sha256: String,
    /// The user whose permissions bound the plugin's; null when an operator enabled it.
    #[oai(nullable)]
    installed_by: Option<Uuid>,
    created_at: Instant,
    #[oai(nullable)]
    enabled_at: Option<Instant>,
}

/// What a plugin may do with the records of a module.
#[derive(Object)]
#[oai(rename = "PluginGrant")]
struct Grant {
    module: String,
    actions: Vec<String>,
}

/// Whether a plugin may run.
#[derive(Enum)]
#[oai(rename = "PluginStatus", rename_all = "snake_case")]
enum Status {
    /// Nobody has consented yet.
    Uploaded,
    /// It runs.
    Enabled,
    /// Switched off.
    Disabled,
}

/// The plugins of the tenant.
#[derive(Object)]
#[oai(rename = "PluginList")]
struct List {
    /// All of them, by name.
    data: Vec<Reply>,
}

/// One run of a plugin.
#[derive(Object)]
#[oai(rename = "PluginRun")]
struct Run {
    id: Uuid,
    /// The event that woke it.
    #[oai(nullable)]
    event_id: Option<Uuid>,
    /// The event's kind, such as `contact.created`.
    trigger: String,
    outcome: RunOutcome,
    /// What went wrong; null when it succeeded.
    #[oai(nullable)]
    error: Option<String>,
    /// About one for each instruction.
    fuel: i64,
    /// Wall time in microseconds.
    duration_us: i64,
    /// Calls of host functions.
    host_calls: i64,
    /// What it logged.
    logs: Vec<Log>,
    started_at: Instant,
}

/// How a run ended.
#[derive(Enum)]
#[oai(rename = "PluginRunOutcome", rename_all = "snake_case")]
enum RunOutcome {
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
    /// Never started.
    Refused,
}

/// A line that a plugin logged.
#[derive(Object)]
#[oai(rename = "PluginLogLine")]
struct Log {
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

#[OpenApi(prefix_path = "/api/v1/plugins", tag = "Tag::Plugins")]
impl Plugins {
    /// List plugins
    ///
    /// Permission: `plugins.read`.
    #[oai(path = "/", method = "get", operation_id = "list_plugins")]
    async fn list(&self, caller: Caller) -> Result<Json<List>, Problem> {
        let plugins = self
            .plugins
            .list(&caller.permit::<Read>("plugins")?)
            .await?;
        Ok(Json(List {
            data: plugins.into_iter().map(Reply::from).collect(),
        }))
    }

    /// Upload a plugin
    ///
    /// The body is the component itself, as `application/wasm` or `application/octet-stream`. It is
    /// judged and compiled, and runs only once it is enabled. A component replaces the plugin of the
    /// same name. Permission: `plugins.create`.
    #[oai(path = "/", method = "post", operation_id = "upload_plugin")]
    async fn upload(&self, caller: Caller, body: Component) -> Result<Created<Reply>, Problem> {
        let permit = caller.permit::<Create>("plugins")?;
        Ok(Created(self.plugins.upload(&permit, body.0).await?.into()))
    }

    /// Get a plugin
    ///
    /// Permission: `plugins.read`.
    #[oai(path = "/:id", method = "get", operation_id = "get_plugin")]
    async fn get(&self, caller: Caller, id: Path<Uuid>) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Read>("plugins")?;
        Ok(Json(
            self.plugins.get(&permit, PluginId(id.0)).await?.into(),
        ))
    }

    /// Enable a plugin
    ///
    /// Consents to what it asks for: it works with those permissions, as far as the caller holds
    /// them too. Name the component that was looked at: with another one uploaded since, the answer
    /// is 409. Permission: `plugins.update`.
    #[oai(path = "/:id/enable", method = "post", operation_id = "enable_plugin")]
    async fn enable(
        &self,
        caller: Caller,
        id: Path<Uuid>,
        /// The `sha256` of the component that the consent is meant for.
        sha256: Query<Option<String>>,
    ) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Update>("plugins")?;
        let (id, sha256) = (PluginId(id.0), sha256.0.as_deref());
        let plugin = self.plugins.enable(&permit, id, sha256).await?;
        Ok(Json(plugin.into()))
    }

    /// Disable a plugin
    ///
    /// Permission: `plugins.update`.
    #[oai(
        path = "/:id/disable",
        method = "post",
        operation_id = "disable_plugin"
    )]
    async fn disable(&self, caller: Caller, id: Path<Uuid>) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Update>("plugins")?;
        Ok(Json(
            self.plugins.disable(&permit, PluginId(id.0)).await?.into(),
        ))
    }

    /// Delete a plugin
    ///
    /// Its runs go with it. Permission: `plugins.delete`.
    #[oai(path = "/:id", method = "delete", operation_id = "delete_plugin")]
    async fn delete(&self, caller: Caller, id: Path<Uuid>) -> Result<NoContent, Problem> {
        let permit = caller.permit::<Delete>("plugins")?;
        self.plugins.delete(&permit, PluginId(id.0)).await?;
        Ok(NoContent)
    }

    /// List the runs of a plugin
    ///
    /// Newest first. Permission: `plugins.read`.
    #[oai(path = "/:id/runs", method = "get", operation_id = "list_plugin_runs")]
    async fn runs(
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
    ) -> Result<Json<RunList>, Problem> {
        let permit = caller.permit::<Read>("plugins")?;
        let before = cursor.0.map(RunId);
        let page = self
            .plugins
            .runs(&permit, PluginId(id.0), before, limit.0)
            .await?;
        Ok(Json(RunList {
            data: page.data.into_iter().map(Run::from).collect(),
            next_cursor: page.next_cursor.map(|id| id.0),
        }))
    }
}

fn page_size() -> u32 {
    20
}

/// A component's bytes as a request body.
struct Component(Bytes);

impl<'a> ApiExtractor<'a> for Component {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: Some("The component."),
            content: vec![MetaMediaType {
                // Client generators know this one; see the operation's words for the other.
                content_type: <Binary<Bytes> as Payload>::CONTENT_TYPE,
                schema: <Binary<Bytes> as Payload>::schema_ref(),
            }],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let limit = Exchange::of(request)?.app.options.upload_limit;
        json::require(request.headers(), is_component, "application/wasm")?;
        Ok(Self(
            json::read_bytes(request.headers(), body.take()?, limit).await?,
        ))
    }
}

fn is_component(essence: &str) -> bool {
    ["application/wasm", "application/octet-stream"]
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known))
}

impl From<plugin::Plugin> for Reply {
    fn from(plugin: plugin::Plugin) -> Self {
        let manifest = plugin.manifest;
        let grant = |grant: plugin::Grant| Grant {
            module: grant.module.into(),
            actions: grant.actions.iter().map(ToString::to_string).collect(),
        };
        Self {
            id: plugin.id.0,
            name: manifest.name.into(),
            version: manifest.version,
            description: manifest.description,
            triggers: manifest.triggers.iter().map(ToString::to_string).collect(),
            grants: manifest.grants.into_iter().map(grant).collect(),
            status: match plugin.status {
                PluginStatus::Uploaded => Status::Uploaded,
                PluginStatus::Enabled => Status::Enabled,
                PluginStatus::Disabled => Status::Disabled,
            },
            sha256: plugin
                .sha256
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            installed_by: plugin.installed_by.map(|id| id.0),
            created_at: plugin.created_at.into(),
            enabled_at: plugin.enabled_at.map(Instant),
        }
    }
}

impl From<plugin::Run> for Run {
    fn from(run: plugin::Run) -> Self {
        Self {
            id: run.id.0,
            event_id: run.event_id.map(|id| id.0),
            trigger: run.trigger,
            outcome: run.outcome.into(),
            error: run.error,
            fuel: run.fuel,
            duration_us: run.duration_us,
            host_calls: run.host_calls,
            logs: run.logs.into_iter().map(Log::from).collect(),
            started_at: run.started_at.into(),
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
            Outcome::Refused => Self::Refused,
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
