//! Plugins: the tenant's own WebAssembly automation, from upload through consent to its runs.

use bytes::Bytes;
use crm_core::id::PluginId;
use crm_core::plugin::{self, PluginStatus};
use crm_core::{Create, Delete, Read, Update};
use poem::{Request, RequestBody};
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::registry::MetaRequest;
use poem_openapi::{ApiExtractor, ApiExtractorType, Enum, ExtractParamOptions, Object, OpenApi};
use uuid::Uuid;

use super::plugin_version as version;
use crate::credential::Caller;
use crate::edge::Exchange;
use crate::json;
use crate::payload::binary;
use crate::problem::Problem;
use crate::wire::{Created, Instant, NoContent, Tag};

/// The operations on plugins.
pub(crate) struct Plugins {
    pub(crate) plugins: plugin::Plugins,
}

/// A plugin of the tenant.
#[derive(Object)]
#[oai(rename = "Plugin")]
pub(super) struct Reply {
    id: Uuid,
    /// Its name, unique in the tenant.
    name: String,
    /// The active version; before anybody enabled it, the one uploaded last.
    version: String,
    /// What it says that it does.
    description: String,
    /// What wakes it, in words: an event such as `contact.created`, or a change such as
    /// `before contact.create`, each with its fields and filter.
    triggers: Vec<String>,
    /// The permissions it asks for; enabling it grants them.
    grants: Vec<Grant>,
    status: Status,
    /// SHA-256 of that version's component, in hexadecimal.
    sha256: String,
    /// That of the version that ran before.
    #[oai(nullable)]
    previous_sha256: Option<String>,
    /// The version that some of the events go to.
    #[oai(nullable)]
    canary: Option<Canary>,
    /// Why it was parked; null while it is not.
    #[oai(nullable)]
    parked: Option<String>,
    /// Until when it rests, because its last runs crashed: then one run tries it again. Null while it
    /// does not.
    #[oai(nullable)]
    rests_until: Option<Instant>,
    /// The user whose permissions bound the plugin's; null when an operator enabled it.
    #[oai(nullable)]
    installed_by: Option<Uuid>,
    created_at: Instant,
    #[oai(nullable)]
    enabled_at: Option<Instant>,
}

/// A version that some of the events go to.
#[derive(Object)]
#[oai(rename = "PluginCanary")]
struct Canary {
    /// SHA-256 of its component, in hexadecimal.
    sha256: String,
    /// Of 100 events, how many.
    percent: u8,
}

/// What came of an upload.
#[derive(Object)]
#[oai(rename = "PluginUpload")]
struct Uploaded {
    #[oai(flatten)]
    plugin: Reply,
    /// The version that was uploaded.
    uploaded: version::Reply,
}

/// What a plugin may do with the records of a module.
#[derive(Object)]
#[oai(rename = "PluginGrant")]
pub(super) struct Grant {
    module: String,
    actions: Vec<String>,
    /// The only fields that it reads and writes; null for all of them.
    #[oai(nullable)]
    fields: Option<Vec<String>>,
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
    /// Switched off by the server, because it kept failing.
    Parked,
}

/// The plugins of the tenant.
#[derive(Object)]
#[oai(rename = "PluginList")]
struct List {
    /// All of them, by name.
    data: Vec<Reply>,
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
    /// judged and compiled, and runs only once it is enabled or activated. A component with the name
    /// of a plugin is a version next to those it has. Also needs `plugins.update` when there is such
    /// a plugin, without these bytes. A large one may take minutes, five at most, and a tenant's
    /// uploads are judged one after the other: too many at once are answered with 503.
    /// Permission: `plugins.create`.
    #[oai(path = "/", method = "post", operation_id = "upload_plugin")]
    async fn upload(
        &self,
        caller: Caller,
        /// The Ed25519 signature of the component, in Base64, by a key that the tenant trusts.
        #[oai(name = "X-Plugin-Signature")]
        signature: Header<Option<String>>,
        body: Component,
    ) -> Result<Created<Uploaded>, Problem> {
        let permit = caller.permit::<Create>("plugins")?;
        let uploaded = self.plugins.upload(&permit, body.0, signature.0.as_deref());
        let uploaded = uploaded.await?;
        Ok(Created(Uploaded {
            plugin: uploaded.plugin.into(),
            uploaded: uploaded.version.into(),
        }))
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
    /// Consents to what a version asks for, and activates it: it works with those permissions, as far
    /// as the caller holds them too. Permission: `plugins.update`.
    #[oai(path = "/:id/enable", method = "post", operation_id = "enable_plugin")]
    async fn enable(
        &self,
        caller: Caller,
        id: Path<Uuid>,
        /// The `sha256` of the version that the consent is meant for.
        sha256: Query<String>,
    ) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Update>("plugins")?;
        let plugin = self.plugins.enable(&permit, PluginId(id.0), &sha256.0);
        let plugin = plugin.await?;
        Ok(Json(plugin.into()))
    }

    /// Disable a plugin
    ///
    /// What was consented to is taken back: enabling it again consents anew. Permission: `plugins.update`.
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
}

/// A component's bytes as a request body.
struct Component(Bytes);

impl<'a> ApiExtractor<'a> for Component {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn request_meta() -> Option<MetaRequest> {
        Some(binary("The component."))
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let exchange = Exchange::of(request)?;
        exchange.allow_upload();
        let limit = exchange.app.options.upload_limit;
        json::require(
            request.headers(),
            is_component,
            "application/wasm or application/octet-stream",
        )?;
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
        Self {
            id: plugin.id.0,
            name: manifest.name.into(),
            version: manifest.version,
            description: manifest.description,
            triggers: manifest.triggers.iter().map(ToString::to_string).collect(),
            grants: manifest.grants.into_iter().map(Grant::from).collect(),
            status: match plugin.status {
                PluginStatus::Uploaded => Status::Uploaded,
                PluginStatus::Enabled => Status::Enabled,
                PluginStatus::Disabled => Status::Disabled,
                PluginStatus::Parked => Status::Parked,
            },
            sha256: hex::encode(plugin.sha256),
            previous_sha256: plugin.previous.map(hex::encode),
            canary: plugin.canary.map(|canary| Canary {
                sha256: hex::encode(canary.sha256),
                percent: canary.percent,
            }),
            parked: plugin.parked,
            rests_until: plugin.rests_until.map(Instant),
            installed_by: plugin.installed_by.map(|id| id.0),
            created_at: plugin.created_at.into(),
            enabled_at: plugin.enabled_at.map(Instant),
        }
    }
}

impl From<plugin::Grant> for Grant {
    fn from(grant: plugin::Grant) -> Self {
        Self {
            module: grant.module.into(),
            actions: grant.actions.iter().map(ToString::to_string).collect(),
            fields: grant
                .fields
                .map(|fields| fields.into_iter().map(String::from).collect()),
        }
    }
}
