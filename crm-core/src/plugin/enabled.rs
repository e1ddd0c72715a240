//! What runs in a tenant, remembered for a moment: most events and changes wake nobody, and are not
//! to cost a look into the database.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::future::Cache;
use parking_lot::Mutex;

use super::version::{Installed, trusted};
use super::{Plugin, PluginSettings, PluginStatus, Plugins, TENANTS, settings, store};
use crate::dispatch;
use crate::error::Result;
use crate::id::{PluginId, TenantId};
use crate::record::Interest;

/// How long it is remembered: a change made by another process is seen within this time.
pub(super) const REMEMBERED: Duration = Duration::from_millis(200);
/// How long a tenant takes up memory after it was last asked about.
const IDLE: Duration = Duration::from_secs(60);

/// What runs in a tenant.
pub(super) struct Enabled {
    pub(super) installed: Vec<Installed>,
    /// Those that are parked: what they judge stays refused until somebody looks at them.
    pub(super) parked: Vec<Plugin>,
    pub(super) settings: PluginSettings,
    /// The versions that a trusted key signed, where the tenant insists on that.
    signed: Option<HashSet<(PluginId, [u8; 32])>>,
    /// The changes that they judge.
    pub(super) interest: Option<Arc<Interest>>,
    /// The sequence of the newest event of before it was read.
    as_of: i64,
}

impl Enabled {
    /// Whether the plugin is switched on, and this version of it trusted.
    pub(super) fn runs(&self, plugin: &Plugin) -> bool {
        let mut installed = self.installed.iter();
        installed.any(|installed| installed.plugin.id == plugin.id) && self.trusts(plugin)
    }

    /// Whether the tenant lets this version run, as far as that is about who signed it.
    pub(super) fn trusts(&self, plugin: &Plugin) -> bool {
        let signed = self.signed.as_ref();
        signed.is_none_or(|signed| signed.contains(&(plugin.id, plugin.sha256)))
    }
}

/// What is remembered of the tenants.
pub(super) struct Remembered(Cache<TenantId, Arc<Mutex<Slot>>>);

/// What is remembered of one tenant.
#[derive(Default)]
struct Slot {
    /// How often it was forgotten: what was begun to be read before that is not remembered.
    forgotten: u64,
    /// What runs, and since when that is known.
    known: Option<(Instant, Arc<Enabled>)>,
}

impl Slot {
    /// What runs, if that was read behind the event of this sequence.
    fn known(&self, sequence: i64) -> Option<Arc<Enabled>> {
        let (since, enabled) = self.known.as_ref()?;
        let fresh = since.elapsed() < REMEMBERED && enabled.as_of >= sequence;
        fresh.then(|| enabled.clone())
    }
}

impl Default for Remembered {
    fn default() -> Self {
        let tenants = Cache::builder()
            .max_capacity(TENANTS)
            .time_to_idle(IDLE)
            .build();
        Self(tenants)
    }
}

impl Remembered {
    async fn slot(&self, tenant: TenantId) -> Arc<Mutex<Slot>> {
        match self.0.get(&tenant).await {
            Some(slot) => slot,
            None => self.0.get_with(tenant, async { Arc::default() }).await,
        }
    }
}

impl Plugins {
    /// What runs in the tenant, as it was a moment ago or is now.
    pub(super) async fn enabled(&self, tenant: TenantId) -> Result<Arc<Enabled>> {
        self.enabled_behind(tenant, 0).await
    }

    /// What runs in the tenant, as it was at some moment behind the event of this sequence: whoever
    /// had been enabled when the event came about is there.
    pub(super) async fn enabled_behind(
        &self,
        tenant: TenantId,
        sequence: i64,
    ) -> Result<Arc<Enabled>> {
        let slot = self.0.enabled.slot(tenant).await;
        let forgotten = {
            let slot = slot.lock();
            if let Some(enabled) = slot.known(sequence) {
                return Ok(enabled);
            }
            slot.forgotten
        };
        let since = Instant::now();
        let enabled = Arc::new(self.read_enabled(tenant).await?);
        let mut slot = slot.lock();
        if slot.forgotten == forgotten {
            slot.known = Some((since, enabled.clone()));
        }
        Ok(enabled)
    }

    async fn read_enabled(&self, tenant: TenantId) -> Result<Enabled> {
        let db = &self.0.core.db;
        let as_of = dispatch::newest(db).await?;
        let (mut installed, mut parked) = (Vec::new(), Vec::new());
        for plugin in store::list(db, tenant).await? {
            match plugin.status {
                PluginStatus::Enabled => installed.push(Installed::new(db, plugin).await?),
                PluginStatus::Parked => parked.push(plugin),
                PluginStatus::Uploaded | PluginStatus::Disabled => {}
            }
        }
        let settings = settings::get(db, tenant).await?;
        let signed = match settings.require_signature {
            true => Some(trusted(db, tenant).await?),
            false => None,
        };
        let judges = installed.iter().map(|installed| &*installed.plugin);
        let interest = Enabled::interest_of(judges.chain(&parked));
        Ok(Enabled {
            installed,
            parked,
            settings,
            signed,
            interest,
            as_of,
        })
    }

    /// Forgets what runs in the tenant, which was changed: whoever asks from now on sees that.
    pub(super) async fn forget(&self, tenant: TenantId) {
        let slot = self.0.enabled.slot(tenant).await;
        let mut slot = slot.lock();
        slot.forgotten += 1;
        slot.known = None;
    }
}
