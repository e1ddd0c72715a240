//! What a tenant settles for all its plugins: signatures, trusted keys, the fuel of a day; and what they
//! use.

use crm_core::id::TrustedKeyId;
use crm_core::plugin::{self, DayUsage, PluginSettings, TrustedKey};
use crm_core::{Read, Update};
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use crate::credential::Caller;
use crate::payload::Strict;
use crate::problem::Problem;
use crate::wire::{Created, Instant, NoContent, Tag};

/// The operations on what is settled for all plugins.
pub(crate) struct Settings {
    pub(crate) plugins: plugin::Plugins,
}

/// What is settled for all plugins of the tenant.
#[derive(Object)]
#[oai(rename = "PluginSettings")]
struct Reply {
    /// Whether versions run only that a key signed which the tenant trusts.
    require_signature: bool,
    /// The fuel that all plugins together use on one day, in UTC; null for as much as the operator
    /// allows.
    #[oai(nullable)]
    daily_fuel: Option<i64>,
}

/// What to settle for all plugins of the tenant.
#[derive(Object)]
#[oai(rename = "PluginSettingsUpdate", deny_unknown_fields)]
struct Settle {
    /// Whether versions run only that a key signed which the tenant trusts.
    require_signature: bool,
    /// The fuel that all plugins together use on one day, in UTC, within what the operator allows; as
    /// much as that when left out.
    #[oai(validator(minimum(value = "0")))]
    daily_fuel: Option<i64>,
}

/// A key whose signatures the tenant trusts.
#[derive(Object)]
#[oai(rename = "PluginKey")]
struct Key {
    id: Uuid,
    /// Whose it is.
    name: String,
    /// The Ed25519 public key, in Base64.
    public_key: String,
    created_at: Instant,
}

/// The keys whose signatures the tenant trusts.
#[derive(Object)]
#[oai(rename = "PluginKeyList")]
struct KeyList {
    /// All of them, by name.
    data: Vec<Key>,
}

/// A key to trust.
#[derive(Object)]
#[oai(rename = "PluginKeyCreate", deny_unknown_fields)]
struct KeyCreate {
    /// Whose it is: lower-case letters, digits and `_`.
    #[oai(validator(max_length = 48))]
    name: String,
    /// The Ed25519 public key: 32 bytes in Base64.
    #[oai(validator(max_length = 44))]
    public_key: String,
}

/// What all plugins of the tenant used, day by day.
#[derive(Object)]
#[oai(rename = "PluginUsageList")]
struct UsageList {
    /// The newest day first; at most 31 days with any use.
    data: Vec<Usage>,
}

/// What all plugins of the tenant used on one day.
#[derive(Object)]
#[oai(rename = "PluginUsage")]
struct Usage {
    /// The day, in UTC.
    day: chrono::NaiveDate,
    /// Runs that began.
    runs: i64,
    /// Those of them that failed.
    failed: i64,
    /// About one for each instruction.
    fuel: i64,
    /// Fuel that is set aside for runs under way, and by processes that were killed.
    reserved: i64,
    /// Wall time in microseconds.
    duration_us: i64,
    /// Records read.
    rows_read: i64,
    /// Records written.
    rows_written: i64,
    /// Requests sent.
    requests: i64,
    /// Bytes sent and received with them.
    request_bytes: i64,
    /// Bytes of what was logged, told and put off: 256 MiB at most.
    kept_bytes: i64,
}

#[OpenApi(prefix_path = "/api/v1/plugins", tag = "Tag::Plugins")]
impl Settings {
    /// Get the settings of plugins
    ///
    /// Permission: `plugins.read`.
    #[oai(
        path = "/settings",
        method = "get",
        operation_id = "get_plugin_settings"
    )]
    async fn get(&self, caller: Caller) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Read>("plugins")?;
        Ok(Json(self.plugins.settings(&permit).await?.into()))
    }

    /// Replace the settings of plugins
    ///
    /// They hold at once, also for what runs already. Permission: `plugins.update`.
    #[oai(
        path = "/settings",
        method = "put",
        operation_id = "set_plugin_settings"
    )]
    async fn settle(&self, caller: Caller, body: Strict<Settle>) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Update>("plugins")?;
        let settings = PluginSettings {
            require_signature: body.0.require_signature,
            daily_fuel: body.0.daily_fuel,
        };
        Ok(Json(self.plugins.settle(&permit, settings).await?.into()))
    }

    /// List the usage of plugins
    ///
    /// Permission: `plugins.read`.
    #[oai(path = "/usage", method = "get", operation_id = "list_plugin_usage")]
    async fn usage(&self, caller: Caller) -> Result<Json<UsageList>, Problem> {
        let permit = caller.permit::<Read>("plugins")?;
        let usage = self.plugins.usage(&permit).await?;
        Ok(Json(UsageList {
            data: usage.into_iter().map(Usage::from).collect(),
        }))
    }

    /// List trusted keys
    ///
    /// Permission: `plugins.read`.
    #[oai(path = "/keys", method = "get", operation_id = "list_plugin_keys")]
    async fn keys(&self, caller: Caller) -> Result<Json<KeyList>, Problem> {
        let permit = caller.permit::<Read>("plugins")?;
        let keys = self.plugins.trusted_keys(&permit).await?;
        Ok(Json(KeyList {
            data: keys.into_iter().map(Key::from).collect(),
        }))
    }

    /// Trust a key
    ///
    /// Components that it signed are uploaded with their signature. Permission: `plugins.update`.
    #[oai(path = "/keys", method = "post", operation_id = "create_plugin_key")]
    async fn trust(
        &self,
        caller: Caller,
        body: Strict<KeyCreate>,
    ) -> Result<Created<Key>, Problem> {
        let permit = caller.permit::<Update>("plugins")?;
        let KeyCreate { name, public_key } = body.0;
        let key = self.plugins.trust(&permit, &name, &public_key).await?;
        Ok(Created(key.into()))
    }

    /// Trust a key no more
    ///
    /// What it signed stays installed, and runs no more where signatures are required. Permission: `plugins.update`.
    #[oai(
        path = "/keys/:id",
        method = "delete",
        operation_id = "delete_plugin_key"
    )]
    async fn distrust(&self, caller: Caller, id: Path<Uuid>) -> Result<NoContent, Problem> {
        let permit = caller.permit::<Update>("plugins")?;
        self.plugins.distrust(&permit, TrustedKeyId(id.0)).await?;
        Ok(NoContent)
    }
}

impl From<PluginSettings> for Reply {
    fn from(settings: PluginSettings) -> Self {
        Self {
            require_signature: settings.require_signature,
            daily_fuel: settings.daily_fuel,
        }
    }
}

impl From<TrustedKey> for Key {
    fn from(key: TrustedKey) -> Self {
        Self {
            id: key.id.0,
            name: key.name,
            public_key: key.public_key,
            created_at: key.created_at.into(),
        }
    }
}

impl From<DayUsage> for Usage {
    fn from(usage: DayUsage) -> Self {
        Self {
            day: usage.day,
            runs: usage.runs,
            failed: usage.failed,
            fuel: usage.fuel,
            reserved: usage.reserved,
            duration_us: usage.duration_us,
            rows_read: usage.rows_read,
            rows_written: usage.rows_written,
            requests: usage.requests,
            request_bytes: usage.request_bytes,
            kept_bytes: usage.kept_bytes,
        }
    }
}
