//! What becomes of runs under way, and of those that wait for a place, when another version becomes
//! active or the plugin is switched off.

use futures::FutureExt as _;

use super::actions::GREET;
use super::timers::run_due;
use super::webhooks::HOOKS;
use super::*;
use crate::plugin::lane::Lane;

on_both_databases! {
    a_run_ends_in_the_version_that_it_began_with
    a_run_of_a_version_that_nobody_trusts_any_more_is_stopped
    an_event_that_waited_for_a_place_is_delivered_again_to_the_version_active_then
    a_message_that_waited_for_a_place_waits_on
    a_job_that_waited_for_a_place_is_put_off
    an_action_that_waited_for_a_place_was_not_run
    a_change_whose_judge_waited_for_a_place_is_to_be_tried_again
}

impl Theatre {
    /// Has somebody wait for a place of the lane, and switches the plugin off before there is one.
    async fn off_while_waiting<T>(
        &self,
        lane: &Lane,
        plugin: &Plugin,
        waits: impl Future<Output = T>,
    ) -> T {
        let tenant = self.world.tenant;
        let mut places = Vec::new();
        while let Some(place) = lane.enter(tenant).now_or_never() {
            places.push(place.unwrap_or_else(|busy| panic!("{busy}")));
        }
        let switch_off = async {
            while lane.waiting(tenant) == 0 {
                tokio::task::yield_now().await;
            }
            self.disable(plugin).await;
            drop(places);
        };
        let (came, ()) = tokio::join!(waits, switch_off);
        assert_eq!(self.stage.runs.load(Ordering::SeqCst), 0, "it was not run");
        came
    }
}

async fn a_run_ends_in_the_version_that_it_began_with(world: World) {
    let theatre = Theatre::new(world);
    let first = theatre.install("linger", "contacts.read").await;
    theatre.contact("one").await;
    let switch = async {
        theatre.stage.waiting.notified().await;
        let second = theatre.upload("read", "contacts.read").await;
        let (update, sha256) = (theatre.update().await, sha256(&second));
        let plugins = &theatre.plugins;
        let lives = async || assert!(!plugins.is_switched_off(&first).await);
        plugins.activate(&update, first.id, &sha256).await.unwrap();
        lives().await;
        plugins.roll_back(&update, first.id).await.unwrap();
        for percent in [50, 0] {
            let canary = plugins.canary(&update, first.id, &sha256, percent);
            canary.await.unwrap();
            lives().await;
        }
        theatre.enable(theatre.world.admin, &second).await;
        lives().await;
        theatre.stage.proceed.notify_one();
    };
    tokio::join!(switch, theatre.dispatch());
    let runs = theatre.runs(&first).await;
    assert_eq!(
        (runs.len(), runs[0].sha256, runs[0].outcome),
        (1, Some(first.sha256), Outcome::Succeeded)
    );
    theatre.disable(&first).await;
    assert!(theatre.plugins.is_switched_off(&first).await);
}

async fn a_run_of_a_version_that_nobody_trusts_any_more_is_stopped(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("wait", "contacts.read").await;
    theatre.contact("one").await;
    let insist = async {
        theatre.stage.waiting.notified().await;
        let insist = PluginSettings {
            require_signature: true,
            daily_fuel: None,
        };
        let update = theatre.update().await;
        theatre.plugins.settle(&update, insist).await.unwrap();
    };
    tokio::join!(insist, theatre.dispatch());
    let runs = theatre.runs(&plugin).await;
    assert_eq!((runs.len(), runs[0].outcome), (1, Outcome::Cancelled));
}

async fn an_event_that_waited_for_a_place_is_delivered_again_to_the_version_active_then(
    world: World,
) {
    let theatre = Theatre::new(world);
    let first = theatre.install("list", "contacts.read").await;
    theatre.contact("one").await;
    let lane = theatre.plugins.0.lanes.reacting.clone();
    let waits = async {
        let core = &theatre.world.crm.core;
        let subscribers: Vec<Arc<dyn Subscriber>> = vec![Arc::new(theatre.plugins.clone())];
        let mut dispatcher = Dispatcher::new(core.db.clone(), core.clock.clone(), subscribers);
        let stop = tokio_util::sync::CancellationToken::new();
        dispatcher.round(&stop).await.unwrap();
        dispatcher.release().await.unwrap();
    };
    theatre.off_while_waiting(&lane, &first, waits).await;
    let second = theatre.upload("read", "contacts.read").await;
    theatre.enable(theatre.world.admin, &second).await;
    theatre.dispatch().await;
    let runs = theatre.runs(&first).await;
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert_eq!(
        (runs[0].sha256, runs[0].outcome),
        (Some(second.sha256), Outcome::Succeeded)
    );
}

async fn a_message_that_waited_for_a_place_waits_on(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", HOOKS).await;
    let admin = theatre.world.admin;
    theatre.order(admin, None).await.unwrap();
    let lane = theatre.plugins.0.lanes.reacting.clone();
    let waits = theatre.handle();
    let handled = theatre.off_while_waiting(&lane, &plugin, waits).await;
    assert_eq!(handled, 0);
    assert!(theatre.runs(&plugin).await.is_empty());
    theatre.enable(admin, &plugin).await;
    theatre.hurry().await;
    assert_eq!(theatre.handle().await, 1);
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(run.outcome, Outcome::Succeeded, "{run:?}");
}

async fn a_job_that_waited_for_a_place_is_put_off(world: World) {
    let theatre = Theatre::new(world);
    let rest = "jobs = ['later']\ntriggers = ['contact.created']\n";
    let plugin = theatre.install_manifest("make", rest).await;
    let root = theatre.world.crm.clock().new_id();
    let job = Sql::new(
        "INSERT INTO plugin_jobs (tenant_id, plugin_id, name, due_at, root_id, depth) \
         VALUES ($1, $2, 'later', $3, $4, 0)",
    )
    .bind(theatre.world.tenant, ColumnType::Uuid)
    .bind(plugin.id, ColumnType::Uuid)
    .bind(theatre.world.crm.clock().now(), ColumnType::Instant)
    .bind(root, ColumnType::Uuid);
    theatre.world.execute(job).await;
    theatre.wind("jobs").await;
    let lane = theatre.plugins.0.lanes.reacting.clone();
    let waits = run_due(&theatre.plugins);
    let ran = theatre.off_while_waiting(&lane, &plugin, waits).await;
    assert_eq!(ran.unwrap(), 0);
    theatre.enable(theatre.world.admin, &plugin).await;
    theatre.wind("jobs").await;
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 1);
}

async fn an_action_that_waited_for_a_place_was_not_run(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", GREET).await;
    let contact = theatre.contact("one").await;
    let lane = theatre.plugins.0.lanes.reacting.clone();
    let waits = theatre.ask(theatre.world.admin, Targets::One(contact));
    let acted = theatre.off_while_waiting(&lane, &plugin, waits).await;
    assert!(matches!(acted, Err(Error::Unavailable { .. })), "{acted:?}");
    assert!(theatre.runs(&plugin).await.is_empty());
}

async fn a_change_whose_judge_waited_for_a_place_is_to_be_tried_again(world: World) {
    let theatre = Theatre::new(world);
    let grants = "contacts.read contacts.create";
    let plugin = theatre.judge("guard", "guard", grants).await;
    let lane = theatre.plugins.0.lanes.answering.clone();
    let waits = theatre.make("one");
    let made = theatre.off_while_waiting(&lane, &plugin, waits).await;
    assert!(matches!(made, Err(Error::Unavailable { .. })), "{made:?}");
    assert!(theatre.make("one").await.is_ok(), "no judge is left");
}
