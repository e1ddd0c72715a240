//! The versions of a plugin: looked at, activated, tried on some events, rolled back.

use crm_core::id::PluginId;
use crm_core::plugin::{self, Version};
use crm_core::{Delete, Read, Update};
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use super::plugin::{Grant, Reply as Plugin};
use crate::credential::Caller;
use crate::payload::Strict;
use crate::problem::Problem;
use crate::wire::{Instant, NoContent, Tag};

/// The operations on the versions of plugins.
pub(crate) struct Versions {
    pub(crate) plugins: plugin::Plugins,
}

/// A version of a plugin, with everything that it asks for.
#[derive(Object)]
#[oai(rename = "PluginVersion")]
pub(super) struct Reply {
    /// SHA-256 of the component, in hexadecimal.
    sha256: String,
    version: String,
    /// What it says that it does.
    description: String,
    /// Everything that it asks for, in words, a line each.
    receipt: Vec<String>,
    /// What wakes it, in words.
    triggers: Vec<String>,
    /// The permissions on records that it asks for.
    grants: Vec<Grant>,
    /// The hosts that it sends requests to.
    hosts: Vec<String>,
    /// The secrets that it needs.
    secrets: Vec<String>,
    /// The events that it tells.
    emits: Vec<String>,
    /// The jobs that it schedules.
    jobs: Vec<String>,
    /// Whether it keeps values of its own.
    kv: bool,
    /// The trusted key that signed it.
    #[oai(nullable)]
    signed_by: Option<String>,
    /// Who uploaded it: `user:<id>`, `api_key:<id>` or `operator`.
    uploaded_by: String,
    created_at: Instant,
    /// The user who consented to it; null for an operator, and while nobody has.
    #[oai(nullable)]
    consented_by: Option<Uuid>,
    #[oai(nullable)]
    consented_at: Option<Instant>,
}

/// The versions of a plugin.
#[derive(Object)]
#[oai(rename = "PluginVersionList")]
struct List {
    /// All of them, the newest first.
    data: Vec<Reply>,
}

/// A version to activate.
#[derive(Object)]
#[oai(rename = "PluginActivate", deny_unknown_fields)]
struct Activate {
    /// SHA-256 of its component, in hexadecimal.
    #[oai(validator(max_length = 64))]
    sha256: String,
}

/// A version to try.
#[derive(Object)]
#[oai(rename = "PluginTry", deny_unknown_fields)]
struct Try {
    /// SHA-256 of its component, in hexadecimal.
    #[oai(validator(max_length = 64))]
    sha256: String,
    /// Of 100 events, how many go to it; 0 ends the trial.
    #[oai(validator(maximum(value = "100")))]
    percent: u8,
}

#[OpenApi(prefix_path = "/api/v1/plugins", tag = "Tag::Plugins")]
impl Versions {
    /// List the versions of a plugin
    ///
    /// Permission: `plugins.read`.
    #[oai(
        path = "/:id/versions",
        method = "get",
        operation_id = "list_plugin_versions"
    )]
    async fn list(&self, caller: Caller, id: Path<Uuid>) -> Result<Json<List>, Problem> {
        let permit = caller.permit::<Read>("plugins")?;
        let versions = self.plugins.versions(&permit, PluginId(id.0)).await?;
        Ok(Json(List {
            data: versions.into_iter().map(Reply::from).collect(),
        }))
    }

    /// Activate a version
    ///
    /// One that asks for nothing beyond what somebody consented to before; else the answer is 409,
    /// and it has to be enabled. It runs at once, in every process. Permission: `plugins.update`.
    #[oai(
        path = "/:id/activate",
        method = "post",
        operation_id = "activate_plugin"
    )]
    async fn activate(
        &self,
        caller: Caller,
        id: Path<Uuid>,
        body: Strict<Activate>,
    ) -> Result<Json<Plugin>, Problem> {
        let permit = caller.permit::<Update>("plugins")?;
        let sha256 = body.0.sha256;
        let plugin = self.plugins.activate(&permit, PluginId(id.0), &sha256);
        Ok(Json(plugin.await?.into()))
    }

    /// Roll a plugin back
    ///
    /// Activates the version that ran before. One that nobody consented to since the plugin was last
    /// disabled answers 409, and has to be enabled. Permission: `plugins.update`.
    #[oai(
        path = "/:id/roll_back",
        method = "post",
        operation_id = "roll_back_plugin"
    )]
    async fn roll_back(&self, caller: Caller, id: Path<Uuid>) -> Result<Json<Plugin>, Problem> {
        let permit = caller.permit::<Update>("plugins")?;
        let plugin = self.plugins.roll_back(&permit, PluginId(id.0)).await?;
        Ok(Json(plugin.into()))
    }

    /// Try a version
    ///
    /// Sends some of the events to it instead of the active one, always the same for one event. It
    /// needs consent as for activating it. Permission: `plugins.update`.
    #[oai(path = "/:id/canary", method = "put", operation_id = "try_plugin")]
    async fn canary(
        &self,
        caller: Caller,
        id: Path<Uuid>,
        body: Strict<Try>,
    ) -> Result<Json<Plugin>, Problem> {
        let permit = caller.permit::<Update>("plugins")?;
        let Try { sha256, percent } = body.0;
        let plugin = self
            .plugins
            .canary(&permit, PluginId(id.0), &sha256, percent);
        Ok(Json(plugin.await?.into()))
    }

    /// Delete a version
    ///
    /// One that does not run. Permission: `plugins.delete`.
    #[oai(
        path = "/:id/versions/:sha256",
        method = "delete",
        operation_id = "delete_plugin_version"
    )]
    async fn delete(
        &self,
        caller: Caller,
        id: Path<Uuid>,
        /// The `sha256` of the version.
        sha256: Path<String>,
    ) -> Result<NoContent, Problem> {
        let permit = caller.permit::<Delete>("plugins")?;
        let (id, sha256) = (PluginId(id.0), sha256.0);
        self.plugins.delete_version(&permit, id, &sha256).await?;
        Ok(NoContent)
    }
}

impl From<Version> for Reply {
    fn from(version: Version) -> Self {
        let manifest = version.manifest;
        let names = |names: Vec<crm_core::module::Ident>| -> Vec<String> {
            names.into_iter().map(String::from).collect()
        };
        Self {
            sha256: hex::encode(version.sha256),
            receipt: manifest.receipt(),
            version: manifest.version,
            description: manifest.description,
            triggers: manifest.triggers.iter().map(ToString::to_string).collect(),
            grants: manifest.grants.into_iter().map(Grant::from).collect(),
            hosts: manifest.hosts,
            secrets: names(manifest.secrets),
            emits: names(manifest.emits),
            jobs: names(manifest.jobs),
            kv: manifest.kv,
            signed_by: version.signed_by,
            uploaded_by: version.uploaded_by,
            created_at: version.created_at.into(),
            consented_by: version.consented_by.map(|id| id.0),
            consented_at: version.consented_at.map(Instant),
        }
    }
}
