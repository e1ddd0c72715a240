//! The secrets that administrators entrust to a plugin: set and taken back, never shown.

use crm_core::id::PluginId;
use crm_core::plugin::{self, SecretEntry};
use crm_core::{Read, Update};
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use crate::credential::Caller;
use crate::payload::Strict;
use crate::problem::Problem;
use crate::wire::{Instant, NoContent, Tag};

/// The operations on the secrets of plugins.
pub(crate) struct Secrets {
    pub(crate) plugins: plugin::Plugins,
}

/// That there is a secret; what it is, nobody is shown.
#[derive(Object)]
#[oai(rename = "PluginSecret")]
struct Reply {
    name: String,
    /// Who set it: `user:<id>`, `api_key:<id>` or `operator`.
    set_by: String,
    set_at: Instant,
}

/// The secrets of a plugin.
#[derive(Object)]
#[oai(rename = "PluginSecretList")]
struct List {
    /// All of them, by name.
    data: Vec<Reply>,
}

/// A secret to entrust.
#[derive(Object)]
#[oai(rename = "PluginSecretSet", deny_unknown_fields)]
struct Set {
    /// The secret itself, at most 8 KiB.
    #[oai(validator(min_length = 8, max_length = 8192))]
    value: String,
}

#[OpenApi(prefix_path = "/api/v1/plugins", tag = "Tag::Plugins")]
impl Secrets {
    /// List the secrets of a plugin
    ///
    /// Not what they are: nobody is shown that. Permission: `plugins.read`.
    #[oai(
        path = "/:id/secrets",
        method = "get",
        operation_id = "list_plugin_secrets"
    )]
    async fn list(&self, caller: Caller, id: Path<Uuid>) -> Result<Json<List>, Problem> {
        let permit = caller.permit::<Read>("plugins")?;
        let secrets = self.plugins.secrets(&permit, PluginId(id.0)).await?;
        Ok(Json(List {
            data: secrets.into_iter().map(Reply::from).collect(),
        }))
    }

    /// Set a secret of a plugin
    ///
    /// In place of the one of this name. A plugin is given those that its manifest names.
    /// Permission: `plugins.update`.
    #[oai(
        path = "/:id/secrets/:name",
        method = "put",
        operation_id = "set_plugin_secret"
    )]
    async fn set(
        &self,
        caller: Caller,
        id: Path<Uuid>,
        /// Its name in the manifest.
        name: Path<String>,
        body: Strict<Set>,
    ) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Update>("plugins")?;
        let secret = body.0.value.into();
        let set = self
            .plugins
            .set_secret(&permit, PluginId(id.0), &name.0, &secret);
        Ok(Json(set.await?.into()))
    }

    /// Delete a secret of a plugin
    ///
    /// Permission: `plugins.update`.
    #[oai(
        path = "/:id/secrets/:name",
        method = "delete",
        operation_id = "delete_plugin_secret"
    )]
    async fn delete(
        &self,
        caller: Caller,
        id: Path<Uuid>,
        /// Its name.
        name: Path<String>,
    ) -> Result<NoContent, Problem> {
        let permit = caller.permit::<Update>("plugins")?;
        self.plugins
            .delete_secret(&permit, PluginId(id.0), &name.0)
            .await?;
        Ok(NoContent)
    }
}

impl From<SecretEntry> for Reply {
    fn from(secret: SecretEntry) -> Self {
        Self {
            name: secret.name,
            set_by: secret.set_by,
            set_at: secret.set_at.into(),
        }
    }
}
