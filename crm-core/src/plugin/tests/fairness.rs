//! What one tenant's plugins do to others, and to themselves.

use tokio_util::sync::CancellationToken;

use super::*;

on_both_databases! {
    a_slow_plugin_of_one_tenant_delays_no_other_tenant
    a_flood_of_reactions_delays_no_write
    runs_that_begin_at_once_never_use_more_than_the_fuel_of_the_day
    a_run_that_nobody_waits_for_is_accounted_for
    what_a_killed_process_set_aside_counts_as_used
    a_tenant_does_not_exceed_what_the_operator_allows
    trials_take_their_part_of_a_bounded_day
    a_plugin_whose_runs_crash_rests_and_is_tried_again_with_one_run
    who_may_do_less_than_a_plugin_does_not_park_it
    a_plugin_that_only_fails_does_not_rest
}

impl Theatre {
    /// A scope of the operator in another tenant, where the plugin of this script is enabled.
    pub(super) async fn elsewhere(&self, script: &str, grants: &str) -> (Scope, Plugin) {
        let other = self.world.new_tenant("other").await;
        let scope = self.world.operator(other);
        let text = component(script, grants, "contact.created");
        let permit = scope.permit(OBJECT).unwrap();
        let upload = self.plugins.upload(&permit, text.into(), None);
        let plugin = upload.await.unwrap().plugin;
        let (permit, sha256) = (scope.permit(OBJECT).unwrap(), sha256(&plugin));
        let enabled = self.plugins.enable(&permit, plugin.id, &sha256);
        let plugin = enabled.await.unwrap();
        (scope, plugin)
    }

    async fn contact_in(&self, scope: &Scope) {
        let permit = scope.permit("contacts").unwrap();
        let body = Map::from_iter([("title".to_owned(), json!("theirs"))]);
        let records = self.world.crm.records();
        records.create(&permit, body).await.unwrap();
    }

    /// Waits for the first run of a plugin.
    async fn first_run(&self, scope: &Scope, plugin: &Plugin) -> Run {
        let permit = scope.permit(OBJECT).unwrap();
        let nothing = RunId(uuid::Uuid::nil());
        let wait = Duration::from_secs(20);
        let runs = self
            .plugins
            .follow(&permit, plugin.id, Some(nothing), (1, wait));
        runs.await.unwrap().remove(0)
    }

    pub(super) async fn settle_fuel(&self, fuel: i64) {
        let permit = self.world.permit(self.world.admin, OBJECT).await;
        let budget = PluginSettings {
            require_signature: false,
            daily_fuel: Some(fuel),
        };
        self.plugins.settle(&permit, budget).await.unwrap();
    }

    pub(super) async fn used(&self) -> (i64, i64) {
        let permit = self.world.permit(self.world.admin, OBJECT).await;
        let usage = self.plugins.usage(&permit).await.unwrap();
        let today = usage.first();
        today.map_or((0, 0), |today| (today.fuel, today.reserved))
    }

    pub(super) async fn disable(&self, plugin: &Plugin) {
        let permit = self.world.permit(self.world.admin, OBJECT).await;
        self.plugins.disable(&permit, plugin.id).await.unwrap();
    }
}

async fn a_slow_plugin_of_one_tenant_delays_no_other_tenant(world: World) {
    let theatre = Theatre::new(world);
    let slow = theatre.install("wait", "contacts.read").await;
    let (scope, quick) = theatre.elsewhere("read", "contacts.read").await;
    let core = &theatre.world.crm.core;
    let subscribers: Vec<Arc<dyn Subscriber>> = vec![Arc::new(theatre.plugins.clone())];
    let dispatcher = Dispatcher::new(core.db.clone(), core.clock.clone(), subscribers);
    let stop = CancellationToken::new();
    let dispatching = tokio::spawn(dispatcher.run(stop.clone()));
    theatre.contact("one").await;
    theatre.stage.waiting.notified().await;
    theatre.contact_in(&scope).await;
    let run = theatre.first_run(&scope, &quick).await;
    assert_eq!(run.outcome, Outcome::Succeeded);
    assert!(theatre.runs(&slow).await.is_empty(), "it runs still");
    theatre.disable(&slow).await;
    stop.cancel();
    dispatching.await.unwrap();
    let runs = theatre.runs(&slow).await;
    assert_eq!(runs[0].outcome, Outcome::Cancelled, "{runs:?}");
}

async fn a_flood_of_reactions_delays_no_write(world: World) {
    let theatre = Theatre::new(world);
    let slow = theatre.install("wait", "contacts.read").await;
    for _ in 0..30 {
        theatre.contact("one").await;
    }
    let write = async {
        theatre.stage.waiting.notified().await;
        theatre
            .judge("guard", "guard", "contacts.read contacts.create")
            .await;
        let made = theatre.make("a judged one").await;
        theatre.disable(&slow).await;
        made
    };
    let (made, ()) = tokio::join!(write, theatre.dispatch());
    assert!(made.is_ok(), "{made:?}");
}

async fn runs_that_begin_at_once_never_use_more_than_the_fuel_of_the_day(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("thirsty", "contacts.read").await;
    theatre.settle_fuel(2_500_000_000).await;
    for _ in 0..6 {
        theatre.contact("one").await;
    }
    theatre.dispatch().await;
    assert_eq!(theatre.used().await, (2_500_000_000, 0));
    let runs = theatre.runs(&plugin).await;
    let began = runs.iter().filter(|run| run.outcome != Outcome::Refused);
    assert_eq!((runs.len(), began.count()), (6, 3), "{runs:?}");
}

async fn a_run_that_nobody_waits_for_is_accounted_for(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("wait", "contacts.read").await;
    theatre.settle_fuel(5_000_000_000).await;
    theatre.contact("one").await;
    let core = &theatre.world.crm.core;
    let subscribers: Vec<Arc<dyn Subscriber>> = vec![Arc::new(theatre.plugins.clone())];
    let mut dispatcher = Dispatcher::new(core.db.clone(), core.clock.clone(), subscribers);
    let stop = CancellationToken::new();
    tokio::select! {
        _ = dispatcher.round(&stop) => panic!("it waits"),
        () = theatre.stage.waiting.notified() => {}
    }
    drop(dispatcher);
    assert_eq!(theatre.used().await, (0, 1_000_000_000), "it runs still");
    theatre.disable(&plugin).await;
    let scope = theatre.world.operator(theatre.world.tenant);
    let run = theatre.first_run(&scope, &plugin).await;
    assert_eq!(run.outcome, Outcome::Cancelled);
    assert_eq!(theatre.used().await, (1_000, 0));
}

async fn what_a_killed_process_set_aside_counts_as_used(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("read", "contacts.read").await;
    theatre.settle_fuel(3_000).await;
    theatre.run_of_contact(&plugin).await;
    theatre
        .world
        .execute(Sql::new("UPDATE plugin_usage SET reserved = 2000"))
        .await;
    theatre.contact("two").await;
    theatre.dispatch().await;
    assert_eq!(theatre.runs(&plugin).await.len(), 1, "its event waits");
    theatre
        .world
        .execute(Sql::new("UPDATE plugin_usage SET reserved = 0"))
        .await;
    theatre.contact("three").await;
    theatre.dispatch().await;
    let runs = theatre.runs(&plugin).await;
    assert!(runs.iter().all(|run| run.outcome == Outcome::Succeeded));
    assert_eq!(runs.len(), 3, "and is not lost");
}

async fn a_tenant_does_not_exceed_what_the_operator_allows(world: World) {
    let stage = Arc::new(Stage::default());
    let limits = PluginLimits {
        daily_fuel: Some(1_500),
    };
    let plugins = Plugins::new(world.crm.core.clone(), stage.clone(), limits);
    let theatre = Theatre {
        world,
        stage,
        plugins,
    };
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let more = PluginSettings {
        require_signature: false,
        daily_fuel: Some(1_501),
    };
    let refused = theatre.plugins.settle(&permit, more).await;
    assert_eq!(refusal(refused), "validation_failed");
    // One that settles nothing has what the operator allows, and no more.
    let plugin = theatre.install("read", "contacts.read").await;
    for _ in 0..3 {
        theatre.contact("one").await;
        theatre.dispatch().await;
    }
    let runs = theatre.runs(&plugin).await;
    let outcomes: Vec<_> = runs.iter().map(|run| run.outcome).collect();
    let (ran, refused) = (Outcome::Succeeded, Outcome::Refused);
    assert_eq!(outcomes, [refused, ran, ran], "newest first");
}

async fn trials_take_their_part_of_a_bounded_day(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("read", "contacts.read").await;
    let run = theatre.run_of_contact(&plugin).await;
    theatre.settle_fuel(3_500).await;
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let replay = theatre.plugins.replay(&permit, plugin.id, run.id).await;
    assert!(replay.unwrap().identical);
    assert_eq!(theatre.used().await, (2_000, 0));
    let text = component("read", "contacts.read", "contact.created");
    let rehearse = async || {
        let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
        let component = text.clone().into();
        let rehearsal = theatre.plugins.rehearse(&permit, component, 1).await;
        rehearsal.unwrap().runs.remove(0)
    };
    for _ in 0..2 {
        assert_eq!(rehearse().await.outcome, Outcome::Succeeded);
    }
    let refused = rehearse().await;
    assert_eq!(refused.outcome, Outcome::Refused);
    assert!(refused.error.unwrap().contains("3500 units"));
}

async fn who_may_do_less_than_a_plugin_does_not_park_it(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("write", "contacts.update").await;
    let weak = theatre
        .member_with(&["contacts.create", "contacts.read"])
        .await;
    let records = theatre.world.crm.records();
    for number in 0..25 {
        let permit = theatre.world.permit(weak, "contacts").await;
        let body = Map::from_iter([("title".to_owned(), json!(format!("{number}")))]);
        records.create(&permit, body).await.unwrap();
    }
    theatre.dispatch().await;
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let after = theatre.plugins.get(&permit, plugin.id).await.unwrap();
    assert_eq!(after.status, PluginStatus::Enabled);
    let runs = theatre.runs(&plugin).await;
    assert_eq!(runs.len(), 25);
    assert!(
        runs.iter().all(|run| run.outcome == Outcome::Failed),
        "{runs:?}"
    );
}

async fn a_plugin_whose_runs_crash_rests_and_is_tried_again_with_one_run(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("crash", "contacts.read").await;
    let get = async || {
        let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
        theatre.plugins.get(&permit, plugin.id).await.unwrap()
    };
    let due = async || {
        let now = theatre.world.crm.clock().now();
        let sql = Sql::new("UPDATE plugins SET rests_until = $1").bind(now, ColumnType::Instant);
        theatre.world.execute(sql).await;
        theatre.plugins.forget(theatre.world.tenant).await;
    };
    for _ in 0..5 {
        theatre.contact("one").await;
        theatre.dispatch().await;
    }
    let rests = get().await;
    assert_eq!((rests.crashes, rests.status), (5, PluginStatus::Enabled));
    let until = rests.rests_until.unwrap();
    theatre.contact("one").await;
    theatre.dispatch().await;
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(run.outcome, Outcome::Refused, "{run:?}");
    assert!(run.error.unwrap().contains("rests"));
    assert_eq!(theatre.stage.runs.load(Ordering::SeqCst), 5);

    // One run tries it, and as that crashes the rest is a longer one.
    due().await;
    for _ in 0..3 {
        theatre.contact("one").await;
    }
    theatre.dispatch().await;
    assert_eq!(theatre.stage.runs.load(Ordering::SeqCst), 6);
    assert!(get().await.rests_until.unwrap() > until);

    // One that goes well ends it.
    due().await;
    theatre.stage.moody.store(true, Ordering::SeqCst);
    theatre.contact("one").await;
    theatre.dispatch().await;
    let well = get().await;
    assert_eq!((well.crashes, well.rests_until), (0, None));
    theatre.contact("one").await;
    theatre.dispatch().await;
    assert_eq!(theatre.stage.runs.load(Ordering::SeqCst), 8);
}

async fn a_plugin_that_only_fails_does_not_rest(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("fail", "contacts.read").await;
    for _ in 0..6 {
        theatre.contact("one").await;
    }
    theatre.dispatch().await;
    let runs = theatre.runs(&plugin).await;
    assert!(runs.iter().all(|run| run.outcome == Outcome::Failed));
    assert_eq!(theatre.stage.runs.load(Ordering::SeqCst), 6);
}
