//! What a tenant's plugins use at most, and how they are stopped.

use super::*;

on_both_databases! {
    the_fuel_of_a_day_is_bounded_and_told
    a_plugin_that_keeps_failing_is_parked
    a_running_plugin_is_stopped_when_it_is_switched_off
}

async fn the_fuel_of_a_day_is_bounded_and_told(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("read", "contacts.read").await;
    let update = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let budget = PluginSettings {
        require_signature: false,
        daily_fuel: Some(1_500),
    };
    theatre.plugins.settle(&update, budget).await.unwrap();
    for _ in 0..3 {
        theatre.contact("one").await;
        theatre.dispatch().await;
    }
    let runs = theatre.runs(&plugin).await;
    let outcomes: Vec<_> = runs.iter().map(|run| run.outcome).collect();
    let (ran, refused) = (Outcome::Succeeded, Outcome::Refused);
    assert_eq!(outcomes, [refused, ran, ran], "newest first");
    assert!(
        runs[0].error.as_deref().unwrap().contains("1500 units"),
        "{:?}",
        runs[0]
    );
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let usage = theatre.plugins.usage(&permit).await.unwrap();
    assert_eq!(usage.len(), 1);
    assert_eq!(
        (usage[0].runs, usage[0].failed, usage[0].fuel),
        (2, 0, 2_000)
    );
}

async fn a_plugin_that_keeps_failing_is_parked(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("fail", "contacts.read").await;
    for _ in 0..20 {
        theatre.contact("one").await;
    }
    theatre.dispatch().await;
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let parked = theatre.plugins.get(&permit, plugin.id).await.unwrap();
    assert_eq!(parked.status, PluginStatus::Parked);
    assert_eq!(parked.parked.as_deref(), Some("its last 20 runs failed"));
    let audit = theatre.world.audit().await;
    assert_eq!(audit.last().map(String::as_str), Some("plugins.park"));
    theatre.contact("one").await;
    theatre.dispatch().await;
    assert_eq!(theatre.runs(&plugin).await.len(), 20);

    let enabled = theatre.enable(theatre.world.admin, &plugin).await;
    assert_eq!(
        (enabled.status, enabled.parked),
        (PluginStatus::Enabled, None)
    );
}

async fn a_running_plugin_is_stopped_when_it_is_switched_off(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("wait", "contacts.read").await;
    theatre.contact("one").await;
    let switch_off = async {
        theatre.stage.waiting.notified().await;
        let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
        theatre.plugins.disable(&permit, plugin.id).await.unwrap();
        tokio::time::Instant::now()
    };
    let (switched_off, ()) = tokio::join!(switch_off, theatre.dispatch());
    assert!(switched_off.elapsed() < Duration::from_secs(1));
    assert_eq!(theatre.runs(&plugin).await[0].outcome, Outcome::Cancelled);
}
