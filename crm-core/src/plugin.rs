//! The plugins a tenant has installed: upload, consent, and what became of their runs.
//!
//! Uploading gives a plugin nothing. Whoever enables it consents to what its manifest asks for, and
//! lends it their own rights as far as those go; a version that asks for more needs consent again.

mod action;
mod ask;
mod budget;
mod door;
mod enabled;
mod exchange;
mod fetch;
mod fields;
mod grant;
mod hook_secret;
pub(crate) mod inbox;
mod input;
mod judge;
mod kept;
mod kv;
mod lane;
mod ledger;
mod limits;
mod manifest;
mod message;
mod notice;
mod occasion;
mod overlay;
mod perform;
mod receipt;
mod rehearse;
mod rehearse_judge;
mod replay;
mod rest;
mod run;
mod scenery;
mod schedule;
mod secret;
mod seen;
mod settings;
mod sight;
mod signature;
mod signed;
mod standing;
mod store;
mod story;
mod subscriber;
mod tell;
pub(crate) mod timer;
mod transcript;
mod trigger;
mod trim;
pub(crate) mod turns;
mod unheard;
mod usage;
mod version;
mod wait;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use moka::future::Cache;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::crm::Core;
use crate::db::Tx;
use crate::error::{Error, Result};
use crate::hook::{Capacity, PluginHost};
use crate::id::{EventId, PluginId, TenantId, UserId};
use crate::journal;
use crate::scope::{Action, Create, Delete, Permit, Read, Scope, Update};

pub use action::{Acted, Ask, Offered, Targets};
use enabled::Remembered;
pub(crate) use grant::granted;
pub use grant::{Grant, GrantAction};
pub(crate) use hook_secret::SEALED as HOOK_SECRETS;
pub use hook_secret::{HookSecret, NewHookSecret, PluginHook};
use lane::{Lanes, Place};
pub use limits::PluginLimits;
pub use manifest::Manifest;
pub use message::Message;
pub use rehearse::{Rehearsal, RehearsedChange, RehearsedRun};
pub use rehearse_judge::RehearsedVerdict;
pub use replay::Replay;
pub use run::{Run, RunPage, RunQuery};
pub use schedule::Schedule;
pub(crate) use secret::SEALED as SECRETS;
pub use secret::SecretEntry;
pub use settings::PluginSettings;
pub use signature::TrustedKey;
pub use signed::Signed;
pub(crate) use store::erase_versions;
pub use story::{RunCall, RunStory, Withheld};
pub use transcript::Divergence;
pub use trigger::{
    ActionTrigger, BeforeTrigger, CronTrigger, CustomTrigger, EventTrigger, InvalidTrigger,
    PlannedChange, Trigger, WebhookAuth, WebhookTrigger,
};
pub(crate) use trim::{forget_usage, trim};
pub(crate) use unheard::Unheard;
pub use usage::DayUsage;
pub use version::{Canary, Uploaded, Version};

/// The object of the permissions that administration of plugins needs.
const OBJECT: &str = "plugins";
/// Most plugins of a tenant.
const MAX_PLUGINS: usize = 100;
/// Most tenants whose enabled plugins are remembered.
const TENANTS: u64 = 65_536;

/// A plugin installed in one tenant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plugin {
    /// Its id.
    pub id: PluginId,
    /// The tenant that installed it.
    #[serde(skip)]
    pub tenant_id: TenantId,
    /// What the active version says about itself; before anybody enabled it, the one uploaded last.
    pub manifest: Manifest,
    /// SHA-256 of the component of that version.
    #[serde(serialize_with = "in_hex")]
    pub sha256: [u8; 32],
    /// Whether it may run.
    pub status: PluginStatus,
    /// The user whose rights bound the plugin's: who uploaded it, then who enabled it. Absent for
    /// the operator, and for an API key, which uploads but never enables.
    pub installed_by: Option<UserId>,
    /// When it was first uploaded.
    pub created_at: DateTime<Utc>,
    /// When an administrator last enabled it.
    pub enabled_at: Option<DateTime<Utc>>,
    /// SHA-256 of the version that ran before.
    #[serde(serialize_with = "opt_in_hex")]
    pub previous: Option<[u8; 32]>,
    /// The version that some of the events go to.
    pub canary: Option<Canary>,
    /// Why it was parked, while it is.
    pub parked: Option<String>,
    /// How many runs crashed in a row: were stopped by the host.
    pub crashes: i64,
    /// Until when it rests, because its last runs crashed; then one run tries it again.
    pub rests_until: Option<DateTime<Utc>>,
}

/// Whether a plugin may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PluginStatus {
    /// Uploaded, and nobody has consented yet.
    Uploaded,
    /// An administrator has consented: it runs.
    Enabled,
    /// Switched off.
    Disabled,
    /// Switched off by the library, because it kept failing.
    Parked,
}

impl PluginStatus {
    const ALL: [Self; 4] = [Self::Uploaded, Self::Enabled, Self::Disabled, Self::Parked];

    /// `uploaded`, `enabled`, `disabled`, `parked`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Parked => "parked",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// The repository of installed plugins, and the subscriber that runs them. Cheap to clone.
#[derive(Clone)]
pub struct Plugins(Arc<Shared>);

struct Shared {
    core: Arc<Core>,
    host: Arc<dyn PluginHost>,
    capacity: Capacity,
    limits: PluginLimits,
    lanes: Lanes,
    enabled: Remembered,
    /// Told when a message has come, or some wait no longer.
    arrived: Notify,
    /// Told when jobs wait no longer.
    resumed: Notify,
    /// Deliveries of events that are under way here.
    under_way: Mutex<HashSet<(TenantId, PluginId, EventId)>>,
    /// The bytes of transcripts since it was last looked whether they are too many.
    kept: Cache<TenantId, Arc<AtomicUsize>>,
}

impl Plugins {
    pub(crate) fn new(core: Arc<Core>, host: Arc<dyn PluginHost>, limits: PluginLimits) -> Self {
        let capacity = host.capacity();
        Self(Arc::new(Shared {
            core,
            host,
            capacity,
            limits,
            lanes: Lanes::new(capacity.runs),
            enabled: Remembered::default(),
            arrived: Notify::new(),
            resumed: Notify::new(),
            under_way: Mutex::default(),
            kept: Cache::new(TENANTS),
        }))
    }

    /// Takes in a component: a new plugin, or a version next to those of the plugin of the same
    /// name. It runs only once somebody enables or activates it; the same bytes again change
    /// nothing, but for a signature that they had not: that takes `plugins.update`, and stands in
    /// the audit log as `plugins.sign`.
    ///
    /// `signature` is the Ed25519 signature of the bytes, in Base64, by a key that the tenant
    /// trusts.
    ///
    /// # Errors
    /// Those of [`PluginHost::inspect`]; [`Error::Invalid`] `invalid_manifest` for a trigger or
    /// grant on a module or field that the tenant does not have, and for what no plugin gets yet,
    /// `invalid_signature`; [`Error::Conflict`] `too_many_plugins` and `too_many_versions`;
    /// [`Error::Forbidden`] without `plugins.update` when there is such a plugin;
    /// [`Error::Unavailable`] when too many uploads are judged already.
    pub async fn upload(
        &self,
        permit: &Permit<Create>,
        component: Bytes,
        signature: Option<&str>,
    ) -> Result<Uploaded> {
        let scope = permit.on(OBJECT)?.clone();
        let manifest = {
            let _turn = self.turn_to_judge(scope.tenant()).await?;
            self.check_count(scope.tenant(), &component).await?;
            self.0.host.inspect(component.clone()).await?
        };
        ask::check(&scope, &manifest)?;
        let version = Version {
            sha256: Sha256::digest(&component).into(),
            manifest,
            signed_by: None,
            uploaded_by: scope.actor().to_string(),
            created_at: scope.clock().now(),
            consented_by: None,
            consented_at: None,
        };
        let (tenant, signature) = (scope.tenant(), signature.map(str::to_owned));
        let job = self.0.core.db.write(move |tx| {
            Box::pin(async move { take_in(tx, &scope, version, component, signature).await })
        });
        let uploaded = job.await?;
        self.forget(tenant).await;
        Ok(uploaded)
    }

    /// The tenant's turn to have a component judged.
    async fn turn_to_judge(&self, tenant: TenantId) -> Result<Place> {
        let turn = self.0.lanes.judging.enter(tenant).await;
        turn.map_err(|_| Error::unavailable("too many plugins are being judged; try again later"))
    }

    /// Refuses a further plugin of a tenant that has as many as it may, before much is done about
    /// it.
    async fn check_count(&self, tenant: TenantId, component: &Bytes) -> Result<()> {
        let known = store::list(&self.0.core.db, tenant).await?;
        if known.len() < MAX_PLUGINS {
            return Ok(());
        }
        let manifest = self.0.host.manifest(component.clone()).await?;
        let mut names = known.iter().map(|plugin| &plugin.manifest.name);
        match names.any(|name| *name == manifest.name) {
            true => Ok(()),
            false => Err(too_many_plugins()),
        }
    }

    /// Every plugin of the tenant, by name.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(&self, permit: &Permit<Read>) -> Result<Vec<Plugin>> {
        store::list(&self.0.core.db, permit.on(OBJECT)?.tenant()).await
    }

    /// One plugin.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, permit: &Permit<Read>, id: PluginId) -> Result<Plugin> {
        let tenant = permit.on(OBJECT)?.tenant();
        store::find(&self.0.core.db, tenant, id)
            .await?
            .ok_or(Error::NotFound)
    }

    /// Stops the plugin from running, and takes back what was consented to: whoever enables it
    /// again consents anew.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn disable(&self, permit: &Permit<Update>, id: PluginId) -> Result<Plugin> {
        let scope = permit.on(OBJECT)?.clone();
        let tenant = scope.tenant();
        let job = self.0.core.db.write(move |tx| {
            Box::pin(async move {
                let before = store::lock(tx, tenant, id).await?.ok_or(Error::NotFound)?;
                let mut after = before.clone();
                after.status = PluginStatus::Disabled;
                after.parked = None;
                store::put(tx, &after).await?;
                tx.execute(version::withdrawn(tenant, id)).await?;
                timer::settle(tx, &after, scope.clock().now(), Some(&before)).await?;
                let states = (Some(&before), Some(&after));
                audit::<Update>(tx, &scope, "plugins.disable", states).await?;
                Ok(after)
            })
        });
        let plugin = job.await?;
        self.forget(tenant).await;
        Ok(plugin)
    }

    /// Removes the plugin with its run records.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete(&self, permit: &Permit<Delete>, id: PluginId) -> Result<()> {
        let scope = permit.on(OBJECT)?.clone();
        let tenant = scope.tenant();
        let job = self.0.core.db.write(move |tx| {
            Box::pin(async move {
                let before = store::lock(tx, tenant, id).await?.ok_or(Error::NotFound)?;
                let versions = version::list_in(tx, tenant, id).await?;
                store::delete(tx, tenant, id).await?;
                for version in versions {
                    store::drop_unused(tx, &version.sha256).await?;
                }
                audit::<Delete>(tx, &scope, "plugins.delete", (Some(&before), None)).await
            })
        });
        job.await?;
        self.forget(tenant).await;
        Ok(())
    }
}

/// Stores an uploaded version, and the plugin if it is the first one.
async fn take_in(
    tx: &mut Tx<'_>,
    scope: &Scope,
    mut version: Version,
    component: Bytes,
    signature: Option<String>,
) -> Result<Uploaded> {
    let tenant = scope.tenant();
    let signer = match signature {
        Some(signature) => Some(signature::signer(tx, tenant, &component, &signature).await?),
        None => None,
    };
    version.signed_by = signer.as_ref().map(|signer| signer.name.clone());
    let name = version.manifest.name.as_str();
    let mut before = store::lock_named(tx, tenant, name).await?;
    if before.is_none() {
        // Of two first uploads at once, the second one waits here, and is of a plugin that there
        // is.
        store::hold(tx, tenant).await?;
        before = store::lock_named(tx, tenant, name).await?;
    }
    let mut plugin = match before.clone() {
        Some(plugin) => {
            let mut known = version::list_in(tx, tenant, plugin.id).await?.into_iter();
            if let Some(known) = known.find(|known| known.sha256 == version.sha256) {
                return version::signed(tx, scope, plugin, (known, signer)).await;
            }
            scope.permit::<Update>(OBJECT)?;
            plugin
        }
        None if store::count(tx, tenant).await? >= MAX_PLUGINS => return Err(too_many_plugins()),
        None => Plugin {
            id: PluginId(scope.clock().new_id()),
            tenant_id: tenant,
            manifest: version.manifest.clone(),
            sha256: version.sha256,
            status: PluginStatus::Uploaded,
            installed_by: None,
            created_at: version.created_at,
            enabled_at: None,
            previous: None,
            canary: None,
            parked: None,
            crashes: 0,
            rests_until: None,
        },
    };
    if plugin.status == PluginStatus::Uploaded {
        plugin.manifest = version.manifest.clone();
        plugin.sha256 = version.sha256;
        plugin.installed_by = scope.actor().user();
    }
    store::put_component(tx, &version, component).await?;
    store::put(tx, &plugin).await?;
    let signed_key = signer.map(|signer| signer.public_key);
    version::insert(tx, (tenant, plugin.id), &version, signed_key).await?;
    let entity = (OBJECT, Some(plugin.id.to_string()));
    let json = |plugin: &Plugin| serde_json::to_value(plugin).map_err(Error::internal);
    let (before, mut after) = (before.as_ref().map(json).transpose()?, json(&plugin)?);
    after["uploaded"] = serde_json::to_value(&version).map_err(Error::internal)?;
    let states = (before, Some(after));
    journal::audit_as::<Create>(tx, scope, "plugins.upload", entity, states).await?;
    Ok(Uploaded { plugin, version })
}

fn too_many_plugins() -> Error {
    let message = format!("a tenant has at most {MAX_PLUGINS} plugins; delete one first");
    Error::conflict("too_many_plugins", message)
}

/// Writes the audit row of an act that the permission `A` allows.
async fn audit<A: Action>(
    tx: &mut Tx<'_>,
    scope: &Scope,
    action: &str,
    (before, after): (Option<&Plugin>, Option<&Plugin>),
) -> Result<()> {
    let id = after.or(before).map(|plugin| plugin.id.to_string());
    let json = |plugin: &Plugin| serde_json::to_value(plugin).map_err(Error::internal);
    let states = (before.map(json).transpose()?, after.map(json).transpose()?);
    journal::audit_as::<A>(tx, scope, action, (OBJECT, id), states).await
}

/// What the audit log says of a plugin beside what was done to something of its.
fn named(plugin: &Plugin) -> serde_json::Value {
    let manifest = &plugin.manifest;
    let sha256 = hex::encode(plugin.sha256);
    json!({"plugin": manifest.name, "version": manifest.version, "sha256": sha256})
}

fn in_hex<S: serde::Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

fn opt_in_hex<S: serde::Serializer>(
    bytes: &Option<[u8; 32]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => in_hex(bytes, serializer),
        None => serializer.serialize_none(),
    }
}
