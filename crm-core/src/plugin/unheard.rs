//! Judges that nobody can ask: a process without a plugin host makes no change unjudged that a
//! plugin of the tenant judges, whatever the filters of its triggers leave out: they are a host's
//! to look at.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use moka::future::Cache;

use super::enabled::{Enabled, REMEMBERED};
use super::{PluginStatus, TENANTS, store};
use crate::db::Db;
use crate::error::{Refusal, Result};
use crate::id::TenantId;
use crate::record::{Interest, Judge, Judgement, Proposed};

/// Refuses what the plugins of a tenant would judge.
pub(crate) struct Unheard {
    db: Db,
    interests: Cache<TenantId, Option<Arc<Interest>>>,
}

impl Unheard {
    pub(crate) fn new(db: Db) -> Self {
        let interests = Cache::builder()
            .max_capacity(TENANTS)
            .time_to_live(REMEMBERED)
            .build();
        Self { db, interests }
    }
}

impl Judge for Unheard {
    fn interest(&self, tenant: TenantId) -> BoxFuture<'_, Result<Option<Arc<Interest>>>> {
        async move {
            if let Some(known) = self.interests.get(&tenant).await {
                return Ok(known);
            }
            let plugins = store::list(&self.db, tenant).await?;
            let judge = |status| matches!(status, PluginStatus::Enabled | PluginStatus::Parked);
            let judges = plugins.iter().filter(|plugin| judge(plugin.status));
            let interest = Enabled::interest_of(judges);
            self.interests.insert(tenant, interest.clone()).await;
            Ok(interest)
        }
        .boxed()
    }

    fn judge(&self, _: Arc<Proposed>) -> BoxFuture<'_, Result<Judgement>> {
        let refusal = Refusal::conflict(
            "no_plugin_host",
            "a plugin of the tenant judges this change, and this process runs no plugins, so that \
             nothing was changed; make the change through a process that does",
        );
        async move { Ok(Judgement::Refused(refusal)) }.boxed()
    }
}
