//! Events, and plugins that they wake, on a host that plays them: whatever its event is about, the
//! probe asks the door for all it may.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::stage::Stage;
use super::stock::{component, first_module, plugins};
use crate::dispatch::{Dispatcher, Round, Subscriber};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::hook::{Call, DoorQuery, LogLevel, LogLine, Outcome, PluginHost, Report};
use crate::id::TenantId;
use crate::plugin::{Manifest, Plugins};
use crate::scope::{Create, Delete, Read, Update};

/// Plays plugins whose components are their manifests.
pub(super) struct Probe;

impl PluginHost for Probe {
    fn inspect(&self, component: Bytes) -> BoxFuture<'_, Result<Manifest>> {
        async move { Manifest::parse(std::str::from_utf8(&component).map_err(Error::internal)?) }
            .boxed()
    }

    fn handle(&self, call: Call) -> BoxFuture<'_, Result<Report>> {
        async move {
            let (module, id) = (call.event.module.as_str(), call.event.record_id);
            let all = DoorQuery {
                limit: 10,
                ..DoorQuery::default()
            };
            let page = call.door.list(module, all).await;
            let lines = [
                format!("{:?}", call.door.get(module, id).await),
                format!("{page:?}"),
                format!("{:?}", call.door.update(module, id, None, "{}").await),
            ];
            let mut report = Report::refused("");
            (report.outcome, report.error) = (Outcome::Succeeded, None);
            report.logs = lines
                .into_iter()
                .map(|message| LogLine {
                    level: LogLevel::Info,
                    message,
                })
                .collect();
            Ok(report)
        }
        .boxed()
    }
}

/// The plugins of one tenant, and a note of each event that they are given.
struct Listener {
    tenant: TenantId,
    plugins: Plugins,
    heard: Mutex<Vec<Arc<Event>>>,
}

impl Subscriber for Listener {
    fn name(&self) -> &'static str {
        "isolation-suite"
    }

    fn listens(&self, tenant: TenantId) -> BoxFuture<'_, Result<bool>> {
        async move { Ok(tenant == self.tenant && self.plugins.listens(tenant).await?) }.boxed()
    }

    fn deliver(&self, event: Arc<Event>) -> BoxFuture<'_, Result<()>> {
        self.heard.lock().push(event.clone());
        self.plugins.deliver(event)
    }
}

/// A new record wakes the tenant's plugin, and nobody hears what happens elsewhere.
pub(super) async fn events(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let module = first_module(&it.crm)?;
    let module = scope
        .module(module.name().as_str())
        .ok_or(Error::NotFound)?;
    let create = scope.permit::<Create>(module.name().as_str())?;
    let body = it.body(module)?;
    it.say("create", it.crm.records().create(&create, body).await);
    let listener = Arc::new(Listener {
        tenant: it.tenant,
        plugins: plugins(&it.crm),
        heard: Mutex::default(),
    });
    let (db, clock) = (it.crm.core.db.clone(), it.crm.clock().clone());
    let mut dispatcher = Dispatcher::new(db, clock, vec![listener.clone()]);
    let stop = CancellationToken::new();
    while let Round::Delivered(1..) = dispatcher.round(&stop).await? {}
    dispatcher.release().await?;
    let mut heard: Vec<_> = std::mem::take(&mut *listener.heard.lock());
    heard.sort_by_key(|event| event.sequence);
    for event in heard {
        let after = event.after.as_ref().map(ToString::to_string);
        let told = (event.tenant_id, &event.kind, event.record_id, after);
        it.say("an event", Ok((told, &event.request_id)));
    }
    let read = scope.permit::<Read>("plugins")?;
    for id in it.cast.plugin.each() {
        let runs = listener.plugins.runs(&read, id, None, 100).await;
        let runs = runs.map(|page| {
            // Events of different records are delivered side by side.
            let runs = page.data.into_iter();
            let runs = runs.map(|run| (run.trigger, run.outcome, run.error, run.logs));
            let mut runs: Vec<_> = runs.map(|run| format!("{run:?}")).collect();
            runs.sort();
            runs
        });
        it.say("the runs of a plugin", runs);
    }
    Ok(())
}

/// The administration of plugins.
pub(super) async fn administration(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let plugins = plugins(&it.crm);
    let (create, read) = (
        scope.permit::<Create>("plugins")?,
        scope.permit::<Read>("plugins")?,
    );
    let (update, delete) = (
        scope.permit::<Update>("plugins")?,
        scope.permit::<Delete>("plugins")?,
    );
    it.say("list", plugins.list(&read).await);
    for id in it.cast.plugin.each() {
        it.say("get", plugins.get(&read, id).await);
        it.say("disable", plugins.disable(&update, id).await);
        it.say("enable", plugins.enable(&update, id, None).await);
    }
    for (name, version) in [("isolation_probe", "1.0.1"), ("isolation_other", "1.0.0")] {
        let component = component(&it.crm, name, version)?;
        it.say("upload", plugins.upload(&create, component.into()).await);
    }
    for id in it.cast.plugin.each() {
        it.say("delete", plugins.delete(&delete, id).await);
    }
    it.say("list", plugins.list(&read).await);
    Ok(())
}
