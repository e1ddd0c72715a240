//! Events, and plugins that they wake, on a host that plays them: whatever its event is about, the
//! probe asks the door for all it may.

use std::sync::Arc;

use bytes::Bytes;
use chrono::TimeDelta;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use super::stage::Stage;
use super::stock::{HOOK, SIGNED, VALUE, component, first_module, message, plugins};
use crate::dispatch::{Dispatcher, Round, Subscriber};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::hook::{Call, Door, DoorQuery, Input, LogLevel, LogLine, Outcome, PluginHost, Report};
use crate::id::TenantId;
use crate::plugin::inbox::Inbox;
use crate::plugin::{Ask, Manifest, Plugins, RunQuery, Targets, turns};
use crate::record::{Answered, Once};
use crate::scope::{Create, Delete, Permit, Read, Scope, Update};

/// Plays plugins whose components are their manifests.
pub(super) struct Probe;

impl PluginHost for Probe {
    fn inspect(&self, component: Bytes) -> BoxFuture<'_, Result<Manifest>> {
        async move { Manifest::parse(std::str::from_utf8(&component).map_err(Error::internal)?) }
            .boxed()
    }

    fn run(&self, call: Call) -> BoxFuture<'_, Result<Report>> {
        async move {
            let (module, id) = match &call.input {
                Input::Event(woken) => (woken.event.module.as_str(), woken.event.record_id),
                Input::Action(asked) => (
                    asked.module.as_deref().unwrap_or_default(),
                    asked.records[0],
                ),
                other => {
                    // Without the time it came: a time has as many digits as it needs.
                    let said = match other {
                        Input::Tick(tick) => format!("{:?}", (&tick.name, &tick.payload)),
                        Input::Webhook(sent) => {
                            format!(
                                "{:?}",
                                (&sent.name, &sent.id, &sent.content_type, &sent.body)
                            )
                        }
                        other => format!("{other:?}"),
                    };
                    let mut report = Report::refused(said.len().to_string());
                    report.outcome = Outcome::Failed;
                    return Ok(report);
                }
            };
            let all = DoorQuery {
                limit: 10,
                ..DoorQuery::default()
            };
            let page = call.door.list(module, all).await;
            let mut lines = vec![
                format!("{:?}", call.door.get(module, id).await),
                format!("{page:?}"),
                format!("{:?}", call.door.update(module, id, None, Vec::new()).await),
            ];
            // What is asked for runs one after the other, and so may change what all runs share.
            if matches!(call.input, Input::Action(_)) {
                lines.extend(own(&*call.door).await);
            }
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

/// What a plugin has of its own: values and a secret.
async fn own(door: &dyn Door) -> Vec<String> {
    let secret = door.secret("isolation").await;
    vec![
        format!("{:?}", secret.map(|secret| secret.expose_secret().len())),
        format!("{:?}", door.kv_keys("isolation", None).await),
        format!("{:?}", door.kv_get("isolation").await),
        format!("{:?}", door.kv_set("isolation", vec![1; VALUE]).await),
        format!("{:?}", door.kv_set("isolation-new", vec![1]).await),
        format!("{:?}", door.kv_delete("isolation").await),
        format!("{:?}", door.kv_keys("isolation", None).await),
    ]
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

    fn listens(&self, tenant: TenantId, newest: i64) -> BoxFuture<'_, Result<bool>> {
        async move { Ok(tenant == self.tenant && self.plugins.listens(tenant, newest).await?) }
            .boxed()
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
    runs(it, &listener.plugins, &read).await;
    Ok(())
}

pub(super) async fn runs(it: &Stage, plugins: &Plugins, read: &Permit<Read>) {
    for id in it.cast.plugin.each() {
        let all = RunQuery {
            limit: 100,
            ..RunQuery::default()
        };
        let runs = plugins.runs(read, id, &all).await;
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
}

/// Asks the plugin of this name for its action.
pub(super) async fn act(it: &Stage, plugins: &Plugins, scope: &Scope, name: &str) -> Result<()> {
    let module = first_module(&it.crm)?;
    let run = scope.permit::<Create>("plugin_runs")?;
    let records = scope.permit::<Read>(module.name().as_str())?;
    let page = it.crm.records().list(&records, &Default::default()).await?;
    let Some(record) = page.data.first() else {
        return Ok(());
    };
    let ask = Ask {
        plugin: name.to_owned(),
        action: HOOK.to_owned(),
        on: Targets::One(record.id),
        input: Default::default(),
        once: Some(Once::new(scope, name, [b"", b"", b"", b""])?),
    };
    let acted = plugins.act(&run, &records, ask).await;
    let came = acted.map(|answered| match answered {
        Answered::Now(acted) => format!("now {} {:?}", acted.outcome, acted.error),
        Answered::Before(acted) => format!("before {} {:?}", acted.outcome, acted.error),
        other => format!("{other:?}"),
    });
    it.say("an action", came);
    Ok(())
}

/// What other systems send to plugins, and what people ask of them.
async fn asked(it: &Stage, plugins: &Plugins, scope: &Scope) -> Result<()> {
    let (read, update) = (
        scope.permit::<Read>("plugins")?,
        scope.permit::<Update>("plugins")?,
    );
    let run = scope.permit::<Create>("plugin_runs")?;
    for id in it.cast.plugin.each() {
        for overlap in [0, 3_600] {
            let overlap = TimeDelta::seconds(overlap);
            let renewed = plugins.renew_hook_secret(&update, id, SIGNED, overlap);
            it.say("a secret", renewed.await.map(drop));
        }
        it.say("hooks", plugins.hooks(&read, id).await);
    }
    it.say("offered", plugins.offered(scope).await);
    for name in ["isolation_probe", "isolation_other"] {
        for _ in 0..2 {
            let sent = message::of(name, it.tenant);
            let received = plugins.receive(&run, Some("isolation"), sent).await;
            it.say("a message", received.map(drop));
        }
        act(it, plugins, scope, name).await?;
    }
    let known = message::of("isolation_probe", it.tenant);
    let known = plugins.receive(&run, Some(message::KNOWN), known).await;
    it.say("a known message", known);
    turns::run_all(Inbox(plugins.clone()), &CancellationToken::new()).await?;
    runs(it, plugins, &read).await;
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
    it.say("settings", plugins.settings(&read).await);
    for id in it.cast.plugin.each() {
        it.say("get", plugins.get(&read, id).await);
        it.say("versions", plugins.versions(&read, id).await);
        it.say("disable", plugins.disable(&update, id).await);
        let known = plugins.get(&read, id).await;
        let sha256 = hex::encode(known.map_or([0; 32], |plugin| plugin.sha256));
        it.say("enable", plugins.enable(&update, id, &sha256).await);
    }
    asked(it, &plugins, &scope).await?;
    for (name, version) in [("isolation_probe", "1.0.1"), ("isolation_other", "1.0.0")] {
        let component = component(&it.crm, name, version)?;
        it.say(
            "upload",
            plugins.upload(&create, component.into(), None).await,
        );
    }
    for id in it.cast.plugin.each() {
        it.say("delete", plugins.delete(&delete, id).await);
    }
    it.say("list", plugins.list(&read).await);
    Ok(())
}
