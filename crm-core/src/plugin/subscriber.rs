//! Feeds events to the plugins they wake.
//!
//! Rights of a run: those its manifest asks for, as far as whoever enabled the plugin holds them at
//! that moment. A plugin that fails has a run record, and the delivery goes on; only the database
//! failing makes it repeat.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Plugin, Plugins, door::ScopeDoor, run, store};
use crate::dispatch::Subscriber;
use crate::error::Result;
use crate::event::Event;
use crate::hook::{Call, Report};
use crate::id::{RunId, TenantId};
use crate::policy::{Grants, Rights, Subject};
use crate::scope::{Read, Scope};
use crate::states::States;

/// How long a chain of events may get, each caused by a plugin's reaction to the one before.
const MAX_DEPTH: u16 = 16;

impl Subscriber for Plugins {
    fn name(&self) -> &'static str {
        "plugins"
    }

    fn listens(&self, tenant: TenantId) -> BoxFuture<'_, Result<bool>> {
        async move { Ok(!self.enabled(tenant).await?.is_empty()) }.boxed()
    }

    fn deliver(&self, event: Arc<Event>) -> BoxFuture<'_, Result<()>> {
        async move {
            for plugin in self.enabled(event.tenant_id).await?.iter() {
                if plugin.manifest.wakes_on(&event.kind) {
                    self.run_once(plugin, &event).await?;
                }
            }
            Ok(())
        }
        .boxed()
    }
}

impl Plugins {
    async fn run_once(&self, plugin: &Arc<Plugin>, event: &Arc<Event>) -> Result<()> {
        let core = &self.0.core;
        if run::exists(&core.db, plugin, event).await? {
            return Ok(());
        }
        let (id, started_at) = (RunId(core.clock.new_id()), core.clock.now());
        let report = match self.rights(plugin).await? {
            _ if event.depth >= MAX_DEPTH => Report::refused(format!(
                "the event is the end of a chain of {MAX_DEPTH} events that plugins caused; the \
                 plugin was not run"
            )),
            None => Report::refused(
                "the user who enabled the plugin is no active member any more, or the tenant is \
                 suspended; enable it again",
            ),
            Some(grants) => self.run(plugin, event, grants).await?,
        };
        run::insert(&core.db, id, plugin, event, started_at, report).await
    }

    async fn run(
        &self,
        plugin: &Arc<Plugin>,
        event: &Arc<Event>,
        grants: Grants,
    ) -> Result<Report> {
        let core = self.0.core.clone();
        let modules = core.policy.modules(event.tenant_id).await?;
        let rights = Rights::lasting(Arc::new(grants), modules);
        let scope = Scope::for_plugin(core.clone(), plugin.id, rights, event);
        let sha256 = plugin.sha256;
        let call = Call {
            plugin: plugin.clone(),
            event: shown(event, &scope),
            door: Arc::new(ScopeDoor::new(scope)),
            component: Box::new(move || {
                async move { store::component(&core.db, &sha256).await }.boxed()
            }),
        };
        self.0.host.handle(call).await
    }

    /// What the plugin may do now; `None` when nobody stands behind it any more.
    async fn rights(&self, plugin: &Plugin) -> Result<Option<Grants>> {
        let core = &self.0.core;
        let asked = plugin.manifest.grants.iter().flat_map(|grant| {
            grant
                .actions
                .iter()
                .map(|action| (grant.module.as_str(), action.as_str()))
        });
        let asked = Grants::of(&core.catalogue, asked);
        if !core.policy.is_active(plugin.tenant_id).await? {
            return Ok(None);
        }
        let Some(user) = plugin.installed_by else {
            return Ok(Some(asked));
        };
        let held = core
            .policy
            .grants_for(plugin.tenant_id, Subject::User(user))
            .await?;
        // A plugin owns no rows, so that rights on own rows give it nothing.
        Ok(held.map(|held| asked.intersect(&held).without_own()))
    }
}

/// The event as far as the plugin may read records of its module.
fn shown(event: &Arc<Event>, scope: &Scope) -> Arc<Event> {
    let read = scope.permit::<Read>(&event.module);
    // Whether an event is about one of some rows only, it does not tell.
    let states = match read.is_ok_and(|permit| permit.reach().is_all()) {
        true => scope.states(&event.module),
        false => States::Hidden,
    };
    if let States::Whole = states {
        return event.clone();
    }
    let mut event = Event::clone(event);
    states.cut(&mut event.before);
    states.cut(&mut event.after);
    Arc::new(event)
}
