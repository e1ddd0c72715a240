//! The doors of what a plugin has of its own, and of what a tenant settles for its plugins.

use futures::FutureExt;
use secrecy::SecretString;

use super::events::{act, runs};
use super::stage::{Play, Stage};
use super::stock::{NEXT, component, plugins, sha256, signed, trusted};
use crate::error::{Error, Result};
use crate::id::RunId;
use crate::plugin::{PluginSettings, Plugins, RehearsedRun, RunQuery};
use crate::scope::{Create, Delete, Permit, Read, Update};

/// A door that the twin is made ready for.
pub(super) const VERSIONS: &str = "versions of plugins";

/// The doors by name, and the tables in which they touch all tenants.
pub(super) const CHAPTERS: &[(&str, Play, &[&str])] = &[
    (VERSIONS, |it| versions(it).boxed(), &[]),
    ("secrets of plugins", |it| secrets(it).boxed(), &[]),
    ("trusted keys", |it| keys(it).boxed(), &[]),
    ("the fuel of plugins", |it| fuel(it).boxed(), &[]),
];

async fn versions(it: &Stage) -> Result<()> {
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
    let next = component(&it.crm, "isolation_probe", NEXT)?;
    let hash = sha256(&next);
    let signature = signed(&it.crm, &scope, next.as_bytes()).await?;
    let uploaded = plugins.upload(&create, next.clone().into(), Some(&signature));
    it.say("sign", uploaded.await);
    // Over an event after the twin's last one, by somebody who has rights of their own.
    let module = it.crm.registry().iter().next().ok_or(Error::NotFound)?;
    let records = scope.permit::<Create>(module.name().as_str())?;
    let made = it.crm.records().create(&records, it.body(module)?).await;
    it.say("create", made.map(drop));
    let trial = it.user(it.cast.ann).await?.permit::<Create>("plugins")?;
    let rehearsed = plugins
        .rehearse(&trial, next.into(), Plugins::MAX_REHEARSED)
        .await;
    let told = |run: RehearsedRun| (run.trigger, run.record_id, run.outcome, run.logs);
    let runs = rehearsed.map(|it| it.runs.into_iter().map(told).collect::<Vec<_>>());
    it.say("rehearse", runs);
    for id in it.cast.plugin.each() {
        it.say("canary", plugins.canary(&update, id, &hash, 10).await);
        it.say("no canary", plugins.canary(&update, id, &hash, 0).await);
        it.say("activate", plugins.activate(&update, id, &hash).await);
        it.say("roll back", plugins.roll_back(&update, id).await);
        it.say("versions", plugins.versions(&read, id).await);
        let deleted = plugins.delete_version(&delete, id, &hash).await;
        it.say("delete", deleted);
        it.say("versions", plugins.versions(&read, id).await);
    }
    Ok(())
}

async fn secrets(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let plugins = plugins(&it.crm);
    let (read, update) = (
        scope.permit::<Read>("plugins")?,
        scope.permit::<Update>("plugins")?,
    );
    let secret = SecretString::from("a secret of the tenant");
    for id in it.cast.plugin.each() {
        it.say("list", plugins.secrets(&read, id).await);
        let set = plugins.set_secret(&update, id, "isolation", &secret).await;
        it.say("set", set);
        it.say("list", plugins.secrets(&read, id).await);
    }
    act(it, &plugins, &scope, "isolation_probe").await?;
    runs(it, &plugins, &read).await;
    for id in it.cast.plugin.each() {
        for name in ["isolation", "isolation_other"] {
            let deleted = plugins.delete_secret(&update, id, name).await;
            it.say("delete", deleted);
        }
    }
    Ok(())
}

/// What is kept of the last run and of one that only the twin has, which is called as its plugin.
async fn stories(
    it: &Stage,
    plugins: &Plugins,
    read: &Permit<Read>,
    update: &Permit<Update>,
) -> Result<()> {
    let last = RunQuery {
        limit: 1,
        ..RunQuery::default()
    };
    let page = plugins.runs(read, it.cast.plugin.both, &last).await?;
    let run = page.data.first().ok_or(Error::NotFound)?.id;
    let id = it.cast.plugin.both;
    for run in [run, RunId(id.0)] {
        it.say("story", plugins.run_story(read, id, run).await.map(drop));
        it.say("answer", plugins.run_answer(read, id, run).await);
        let again = plugins.replay(update, id, run).await;
        it.say("again", again.map(|again| again.outcome));
    }
    Ok(())
}

async fn keys(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let plugins = plugins(&it.crm);
    let (read, update) = (
        scope.permit::<Read>("plugins")?,
        scope.permit::<Update>("plugins")?,
    );
    let known = plugins.trusted_keys(&read).await?;
    for (name, number) in [("isolation_other", 8), ("isolation_more", 9)] {
        let key = trusted(number)?;
        it.say("trust", plugins.trust(&update, name, &key).await);
    }
    for key in &known {
        it.say("distrust", plugins.distrust(&update, key.id).await);
    }
    it.say("known", Ok(known));
    it.say("list", plugins.trusted_keys(&read).await);
    // What only others trust does not run where a signature is asked for.
    let insists = PluginSettings {
        require_signature: true,
        daily_fuel: None,
    };
    it.say("insist", plugins.settle(&update, insists).await);
    act(it, &plugins, &scope, "isolation_probe").await
}

/// The fuel of a day is counted for each tenant by itself.
async fn fuel(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let plugins = plugins(&it.crm);
    let (read, update) = (
        scope.permit::<Read>("plugins")?,
        scope.permit::<Update>("plugins")?,
    );
    let settings = PluginSettings {
        require_signature: false,
        daily_fuel: Some(1_000_000_000_000),
    };
    it.say("settle", plugins.settle(&update, settings).await);
    it.say("settings", plugins.settings(&read).await);
    act(it, &plugins, &scope, "isolation_probe").await?;
    stories(it, &plugins, &read, &update).await?;
    let usage = plugins.usage(&read).await;
    // How long it took is another time each time.
    let usage = usage.map(|days| {
        let days = days.into_iter();
        let days = days.map(|day| (day.runs, day.failed, day.fuel, day.reserved, day.rows_read));
        days.collect::<Vec<_>>()
    });
    it.say("usage", usage);
    Ok(())
}
