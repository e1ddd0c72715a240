//! What waits while its plugin is switched off, and goes on when it is switched on again.

use chrono::TimeDelta;
use futures::FutureExt as _;

use super::timers::run_due;
use super::*;
use crate::plugin::wait;

on_both_databases! {
    a_job_waits_while_its_plugin_is_switched_off_and_goes_on_at_once
    a_job_whose_plugin_stays_off_for_days_is_told_as_dropped
    a_job_that_another_version_has_not_waits_for_one_that_has
    a_message_goes_on_at_once_when_its_plugin_is_switched_on
    what_is_put_off_while_its_plugin_is_switched_on_is_due_at_once
    what_is_in_hand_is_not_due_again_when_its_plugin_is_switched_on
}

const LATER: &str = "jobs = ['later']\ntriggers = ['contact.created']\n";

impl Theatre {
    /// A job of the plugin that is due.
    pub(super) async fn schedule(&self, plugin: &Plugin) {
        let clock = self.world.crm.clock();
        let job = Sql::new(
            "INSERT INTO plugin_jobs (tenant_id, plugin_id, name, due_at, root_id, depth) \
             VALUES ($1, $2, 'later', $3, $4, 0)",
        )
        .bind(self.world.tenant, ColumnType::Uuid)
        .bind(plugin.id, ColumnType::Uuid)
        .bind(clock.now(), ColumnType::Instant)
        .bind(clock.new_id(), ColumnType::Uuid);
        self.world.execute(job).await;
    }

    async fn jobs(&self) -> i64 {
        self.count("SELECT count(*) FROM plugin_jobs").await
    }
}

async fn a_job_waits_while_its_plugin_is_switched_off_and_goes_on_at_once(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("read", LATER).await;
    theatre.plugins.0.resumed.notified().await;
    theatre.schedule(&plugin).await;
    theatre.disable(&plugin).await;
    for _ in 0..2 {
        assert_eq!(run_due(&theatre.plugins).await.unwrap(), 0);
        assert_eq!(theatre.jobs().await, 1, "it waits");
    }
    assert!(theatre.runs(&plugin).await.is_empty());
    theatre.enable(theatre.world.admin, &plugin).await;
    let woken = theatre.plugins.0.resumed.notified().now_or_never();
    assert!(woken.is_some(), "nobody waits for the next look");
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 1);
    let run = theatre.runs(&plugin).await.remove(0);
    let ended = (&*run.trigger, run.outcome);
    assert_eq!(ended, ("job later", Outcome::Succeeded), "{run:?}");
    assert_eq!(theatre.jobs().await, 0);
}

async fn a_job_whose_plugin_stays_off_for_days_is_told_as_dropped(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("read", LATER).await;
    theatre.schedule(&plugin).await;
    theatre.disable(&plugin).await;
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 0);
    let now = theatre.world.crm.clock().now();
    let days = Sql::new("UPDATE plugin_jobs SET due_at = $1, first_due_at = $2")
        .bind(now, ColumnType::Instant)
        .bind(now - TimeDelta::days(3), ColumnType::Instant);
    theatre.world.execute(days).await;
    run_due(&theatre.plugins).await.unwrap();
    assert_eq!(theatre.jobs().await, 0);
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(run.outcome, Outcome::Refused);
    let error = run.error.unwrap();
    assert_eq!(error, "the plugin was switched off for 3 days");
}

async fn a_job_that_another_version_has_not_waits_for_one_that_has(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("read", LATER).await;
    theatre.schedule(&plugin).await;
    theatre.install("read", "contacts.read").await;
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 0);
    let update = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let back = theatre.plugins.roll_back(&update, plugin.id).await;
    assert_eq!(back.unwrap().sha256, plugin.sha256);
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 1);
}

async fn a_message_goes_on_at_once_when_its_plugin_is_switched_on(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", webhooks::HOOKS).await;
    let admin = theatre.world.admin;
    theatre.order(admin, None).await.unwrap();
    theatre.plugins.0.arrived.notified().await;
    theatre.disable(&plugin).await;
    assert_eq!(theatre.handle().await, 0);
    theatre.enable(admin, &plugin).await;
    let woken = theatre.plugins.0.arrived.notified().now_or_never();
    assert!(woken.is_some(), "nobody waits for the next look");
    assert_eq!(theatre.handle().await, 1);
}

async fn what_is_put_off_while_its_plugin_is_switched_on_is_due_at_once(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("read", LATER).await;
    theatre.disable(&plugin).await;
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let off = theatre.plugins.get(&permit, plugin.id).await.unwrap();
    let core = &theatre.world.crm.core;
    let now = core.clock.now();
    let again = async || {
        let seen = off.clone();
        let job = core
            .db
            .write(move |tx| Box::pin(async move { wait::again(tx, &seen, now).await }));
        job.await.unwrap()
    };
    assert_eq!(again().await, now + TimeDelta::minutes(1));
    theatre.enable(theatre.world.admin, &plugin).await;
    assert_eq!(again().await, now, "it was seen switched off, and is not");
}

async fn what_is_in_hand_is_not_due_again_when_its_plugin_is_switched_on(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("linger", LATER).await;
    theatre.schedule(&plugin).await;
    let meanwhile = async {
        theatre.stage.waiting.notified().await;
        theatre.enable(theatre.world.admin, &plugin).await;
        let other = Plugins::new(
            theatre.world.crm.core.clone(),
            theatre.stage.clone(),
            PluginLimits::default(),
        );
        assert_eq!(run_due(&other).await.unwrap(), 0, "another process has it");
        theatre.stage.proceed.notify_one();
    };
    let (ran, ()) = tokio::join!(run_due(&theatre.plugins), meanwhile);
    assert_eq!(ran.unwrap(), 1);
    assert_eq!(theatre.runs(&plugin).await.len(), 1);
}
