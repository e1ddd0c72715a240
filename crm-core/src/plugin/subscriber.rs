//! Feeds events to the plugins they wake.
//!
//! A plugin that fails has a run record, and the delivery goes on; only the database failing makes
//! it repeat.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::ledger::Ended;
use super::occasion::Occasion;
use super::seen::Seen;
use super::standing::Standing;
use super::{Plugin, Plugins, run};
use crate::dispatch::Subscriber;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::hook::{Input, Report};
use crate::id::{EventId, PluginId, TenantId};
use crate::scope::{Cause, Origin};

/// How long a chain of events may get, each caused by a plugin's reaction to the one before.
const MAX_DEPTH: u16 = 16;

impl Subscriber for Plugins {
    fn name(&self) -> &'static str {
        "plugins"
    }

    fn listens(&self, tenant: TenantId, newest: i64) -> BoxFuture<'_, Result<bool>> {
        async move {
            let enabled = self.enabled_behind(tenant, newest).await?;
            Ok(!enabled.installed.is_empty())
        }
        .boxed()
    }

    fn deliver(&self, event: Arc<Event>) -> BoxFuture<'_, Result<()>> {
        async move {
            let enabled = self.enabled_behind(event.tenant_id, event.sequence);
            for installed in &enabled.await?.installed {
                let plugin = installed.version_for(event.id);
                if plugin.manifest.triggers_for(&event).next().is_some() {
                    let (plugin, event) = (plugin.clone(), event.clone());
                    let under_way = self.begin(&plugin, &event)?;
                    let deliver = |plugins: Self| {
                        async move {
                            let _under_way = under_way;
                            plugins.deliver_to(&plugin, &event).await
                        }
                        .boxed()
                    };
                    self.apart(deliver).await?;
                }
            }
            Ok(())
        }
        .boxed()
    }
}

/// A delivery under way, until it is dropped.
struct UnderWay {
    plugins: Plugins,
    what: (TenantId, PluginId, EventId),
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.plugins.0.under_way.lock().remove(&self.what);
    }
}

impl Plugins {
    /// Begins a delivery that none is under way of: whoever waited for that one may have given up.
    fn begin(&self, plugin: &Plugin, event: &Event) -> Result<UnderWay> {
        let what = (event.tenant_id, plugin.id, event.id);
        if !self.0.under_way.lock().insert(what) {
            return Err(Error::unavailable("the plugin runs about this event still"));
        }
        let plugins = self.clone();
        Ok(UnderWay { plugins, what })
    }

    async fn deliver_to(&self, plugin: &Arc<Plugin>, event: &Arc<Event>) -> Result<()> {
        let core = &self.0.core;
        if run::exists(&core.db, plugin, event.id).await? {
            return Ok(());
        }
        let standing = Standing::new(core.clone(), plugin.clone(), Origin::of(event));
        let woken_by = (event.kind.clone(), Some(event.id));
        let mut ended = Ended::new(core, woken_by, Occasion::of(event));
        match standing.begin().await? {
            Err(withdrawn) => ended.report = Report::refused(withdrawn.to_string()),
            Ok(scope) => {
                let seen = Seen::new(event, &scope).await?;
                let mut triggers = plugin.manifest.triggers_for(event);
                if !triggers.any(|trigger| seen.wakes(trigger, event, &scope)) {
                    return Ok(());
                }
                if event.depth >= MAX_DEPTH {
                    ended.report = Report::refused(format!(
                        "the event is the end of a chain of {MAX_DEPTH} events that plugins caused; \
                         the plugin was not run"
                    ));
                    self.note_end_of_chain(plugin, event).await?;
                } else {
                    let input = Input::Event(Arc::new(seen.woken_by(event, &scope)));
                    if let Some(busy) = self.perform(standing, input, &mut ended).await? {
                        // The outbox is the longer queue: the event is delivered again.
                        return Err(Error::unavailable(busy.to_string()));
                    }
                }
            }
        }
        self.keep(plugin, ended).await.map(drop)
    }
}

impl Origin {
    /// What a plugin does about an event.
    pub(super) fn of(event: &Event) -> Self {
        Self {
            request_id: event.request_id.as_str().into(),
            cause: Some(Cause {
                root_id: event.root_id,
                depth: event.depth + 1,
            }),
            principal: event.caused_by(),
        }
    }
}
