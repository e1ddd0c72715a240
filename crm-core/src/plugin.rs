//! The plugins a tenant has installed: upload, consent, and what became of their runs.
//!
//! Uploading gives a plugin nothing. Whoever enables it consents to what its manifest asks for, and
//! lends it their own rights as far as those go; a new version needs consent again.

mod door;
mod manifest;
mod run;
mod store;
mod subscriber;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use moka::future::Cache;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::crm::Core;
use crate::db::Tx;
use crate::error::{Error, Result};
use crate::hook::PluginHost;
use crate::id::{PluginId, RunId, TenantId, UserId};
use crate::journal;
use crate::scope::{Actor, Create, Delete, Permit, Read, Scope, Update};

pub use manifest::{Grant, GrantAction, InvalidTrigger, Manifest, Trigger};
pub use run::{Run, RunPage};

/// The object of the permissions that administration of plugins needs.
const OBJECT: &str = "plugins";
/// Most plugins of a tenant.
const MAX_PLUGINS: i64 = 100;
/// Most tenants whose enabled plugins are remembered.
const TENANTS: u64 = 65_536;
/// How long they are remembered: a change made by another process is seen within this time.
const REMEMBERED: Duration = Duration::from_millis(200);

/// A plugin installed in one tenant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plugin {
    /// Its id.
    pub id: PluginId,
    /// The tenant that installed it.
    #[serde(skip)]
    pub tenant_id: TenantId,
    /// What it says about itself.
    pub manifest: Manifest,
    /// SHA-256 of the component.
    #[serde(serialize_with = "hex")]
    pub sha256: [u8; 32],
    /// Whether it may run.
    pub status: PluginStatus,
    /// The user whose rights bound the plugin's: who uploaded it, then who enabled it. Absent for
    /// the operator, and for an API key, which uploads but never enables.
    pub installed_by: Option<UserId>,
    /// When this version was uploaded.
    pub created_at: DateTime<Utc>,
    /// When an administrator last enabled it.
    pub enabled_at: Option<DateTime<Utc>>,
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
}

impl PluginStatus {
    const ALL: [Self; 3] = [Self::Uploaded, Self::Enabled, Self::Disabled];

    /// The stored form: `uploaded`, `enabled`, `disabled`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
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
    enabled: Cache<TenantId, Arc<[Arc<Plugin>]>>,
}

impl Plugins {
    /// Most runs of a page.
    pub const MAX_RUNS: u32 = 100;

    pub(crate) fn new(core: Arc<Core>, host: Arc<dyn PluginHost>) -> Self {
        let enabled = Cache::builder()
            .max_capacity(TENANTS)
            .time_to_live(REMEMBERED)
            .build();
        Self(Arc::new(Shared {
            core,
            host,
            enabled,
        }))
    }

    /// Takes in a component. It replaces the plugin of the same name, and runs only once somebody
    /// enables it; the same bytes again change nothing.
    ///
    /// # Errors
    /// Those of [`PluginHost::inspect`]; [`Error::Invalid`] `invalid_manifest` for a trigger or
    /// grant on a module that is not declared; [`Error::Conflict`] `too_many_plugins`;
    /// [`Error::Forbidden`] without `plugins.update` when it replaces one.
    pub async fn upload(&self, permit: &Permit<Create>, component: Bytes) -> Result<Plugin> {
        let scope = permit.on(OBJECT)?.clone();
        let manifest = self.0.host.inspect(component.clone()).await?;
        self.check_modules(&manifest)?;
        let plugin = Plugin {
            id: PluginId(scope.clock().new_id()),
            tenant_id: scope.tenant(),
            manifest,
            sha256: Sha256::digest(&component).into(),
            status: PluginStatus::Uploaded,
            installed_by: scope.actor().user(),
            created_at: scope.clock().now(),
            enabled_at: None,
        };
        let plugin = self
            .0
            .core
            .db
            .write(move |tx| Box::pin(async move { take_in(tx, &scope, plugin, component).await }))
            .await?;
        self.forget(plugin.tenant_id).await;
        Ok(plugin)
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

    /// Consents to what the plugin asks for: it runs from now on, within the rights of the user who
    /// enabled it.
    ///
    /// `sha256`, in hexadecimal, is the component that the consent is meant for, so that one
    /// uploaded in its place a moment ago is not enabled unseen.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] `user_required` for an API key, which has no rights
    /// of a person to lend, and `component_changed` when the plugin is another component by now.
    pub async fn enable(
        &self,
        permit: &Permit<Update>,
        id: PluginId,
        sha256: Option<&str>,
    ) -> Result<Plugin> {
        let scope = permit.on(OBJECT)?;
        if !matches!(scope.actor(), Actor::User(_) | Actor::Operator) {
            return Err(Error::conflict(
                "user_required",
                "a plugin works with the rights of the user who enables it; log in as a user",
            ));
        }
        let (user, now) = (scope.actor().user(), scope.clock().now());
        let meant = sha256.map(str::to_ascii_lowercase);
        self.change(permit, id, move |plugin| {
            if meant.is_some_and(|meant| meant != Hex(&plugin.sha256).to_string()) {
                return Err(Error::conflict(
                    "component_changed",
                    "another component was uploaded in the meantime; look at it, then enable it",
                ));
            }
            plugin.status = PluginStatus::Enabled;
            plugin.installed_by = user;
            plugin.enabled_at = Some(now);
            Ok(())
        })
        .await
    }

    /// Stops the plugin from running.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn disable(&self, permit: &Permit<Update>, id: PluginId) -> Result<Plugin> {
        self.change(permit, id, |plugin| {
            plugin.status = PluginStatus::Disabled;
            Ok(())
        })
        .await
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
                store::delete(tx, tenant, id).await?;
                store::drop_unused(tx, &before.sha256).await?;
                audit(tx, &scope, "plugins.delete", Some(&before), None).await
            })
        });
        job.await?;
        self.forget(tenant).await;
        Ok(())
    }

    /// What became of a plugin's runs, newest first, older than `before`.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] for a limit outside 1 to [`Self::MAX_RUNS`].
    pub async fn runs(
        &self,
        permit: &Permit<Read>,
        id: PluginId,
        before: Option<RunId>,
        limit: u32,
    ) -> Result<RunPage> {
        let plugin = self.get(permit, id).await?;
        if limit == 0 || limit > Self::MAX_RUNS {
            let message = format!("must be between 1 and {}", Self::MAX_RUNS);
            return Err(Error::invalid("limit", "out_of_range", message));
        }
        run::list(&self.0.core.db, plugin.tenant_id, plugin.id, before, limit).await
    }

    async fn change(
        &self,
        permit: &Permit<Update>,
        id: PluginId,
        change: impl FnOnce(&mut Plugin) -> Result<()> + Send + 'static,
    ) -> Result<Plugin> {
        let scope = permit.on(OBJECT)?.clone();
        let tenant = scope.tenant();
        let job = self.0.core.db.write(move |tx| {
            Box::pin(async move {
                let before = store::lock(tx, tenant, id).await?.ok_or(Error::NotFound)?;
                let mut after = before.clone();
                change(&mut after)?;
                store::put(tx, &after).await?;
                audit(tx, &scope, "plugins.update", Some(&before), Some(&after)).await?;
                Ok(after)
            })
        });
        let plugin = job.await?;
        self.forget(tenant).await;
        Ok(plugin)
    }

    /// Refuses a manifest that names modules which are not declared.
    fn check_modules(&self, manifest: &Manifest) -> Result<()> {
        let registry = &self.0.core.registry;
        let unknown = |what: &str| {
            let message = format!("The plugin's manifest is refused: there is no {what} here.");
            Err(Error::invalid("manifest", "invalid_manifest", message))
        };
        for trigger in &manifest.triggers {
            if !registry
                .iter()
                .any(|module| *module.singular() == trigger.subject)
            {
                return unknown(&format!(
                    "module whose records are called {}",
                    trigger.subject
                ));
            }
        }
        for grant in &manifest.grants {
            if registry.get(grant.module.as_str()).is_none() {
                return unknown(&format!("module {}", grant.module));
            }
        }
        Ok(())
    }

    /// The tenant's enabled plugins.
    async fn enabled(&self, tenant: TenantId) -> Result<Arc<[Arc<Plugin>]>> {
        if let Some(plugins) = self.0.enabled.get(&tenant).await {
            return Ok(plugins);
        }
        let plugins: Arc<[Arc<Plugin>]> = store::list(&self.0.core.db, tenant)
            .await?
            .into_iter()
            .filter(|plugin| plugin.status == PluginStatus::Enabled)
            .map(Arc::new)
            .collect();
        self.0.enabled.insert(tenant, plugins.clone()).await;
        Ok(plugins)
    }

    async fn forget(&self, tenant: TenantId) {
        self.0.enabled.invalidate(&tenant).await;
    }
}

/// Stores an uploaded plugin, in place of the one of the same name.
async fn take_in(
    tx: &mut Tx<'_>,
    scope: &Scope,
    mut plugin: Plugin,
    component: Bytes,
) -> Result<Plugin> {
    let tenant = plugin.tenant_id;
    let before = store::lock_named(tx, tenant, plugin.manifest.name.as_str()).await?;
    let action = match &before {
        Some(before) if before.sha256 == plugin.sha256 => return Ok(before.clone()),
        Some(before) => {
            scope.permit::<Update>(OBJECT)?;
            plugin.id = before.id;
            "plugins.update"
        }
        None if store::count(tx, tenant).await? >= MAX_PLUGINS => {
            let message = format!("a tenant has at most {MAX_PLUGINS} plugins; delete one first");
            return Err(Error::conflict("too_many_plugins", message));
        }
        None => "plugins.create",
    };
    store::put_component(tx, &plugin, component).await?;
    store::put(tx, &plugin).await?;
    if let Some(before) = &before {
        store::drop_unused(tx, &before.sha256).await?;
    }
    audit(tx, scope, action, before.as_ref(), Some(&plugin)).await?;
    Ok(plugin)
}

async fn audit(
    tx: &mut Tx<'_>,
    scope: &Scope,
    action: &str,
    before: Option<&Plugin>,
    after: Option<&Plugin>,
) -> Result<()> {
    let id = after.or(before).map(|plugin| plugin.id.to_string());
    let json = |plugin: &Plugin| serde_json::to_value(plugin).map_err(Error::internal);
    let (before, after) = (before.map(json).transpose()?, after.map(json).transpose()?);
    journal::audit(tx, scope, action, (OBJECT, id), before, after).await
}

fn hex<S: serde::Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Hex(bytes))
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
