//! What is kept of runs, and played again.

use super::*;
use crate::plugin::ledger::Ended;
use crate::plugin::occasion::{CLOCK, Occasion};

on_both_databases! {
    a_run_tells_what_it_did_and_filters_find_it
    somebody_who_follows_hears_of_the_next_run
    somebody_who_follows_hears_of_a_run_that_began_long_before
    somebody_who_follows_hears_of_runs_of_a_process_whose_clock_is_behind
    a_replay_is_identical
    a_replay_names_the_first_call_that_differs
    a_run_that_never_began_is_not_replayed
    old_runs_go_with_what_was_kept_of_them
}

impl Theatre {
    /// A run that begins now, to be kept when it has ended.
    fn ended(&self, trigger: &str) -> Ended {
        let occasion = Occasion::after(None, CLOCK);
        Ended::new(&self.world.crm.core, (trigger.to_owned(), None), occasion)
    }
}

fn every() -> RunQuery {
    RunQuery {
        limit: 100,
        ..RunQuery::default()
    }
}

async fn a_run_tells_what_it_did_and_filters_find_it(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("read", "contacts.read").await;
    let run = theatre.run_of_contact(&plugin).await;
    assert_eq!((run.sha256, run.fuel), (Some(plugin.sha256), 1_000));
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let found = theatre.plugins.run(&permit, plugin.id, run.id).await;
    assert_eq!(found.unwrap(), run);
    let absent = RunId(theatre.world.crm.clock().new_id());
    let absent = theatre.plugins.run(&permit, plugin.id, absent).await;
    assert_eq!(refusal(absent), "not_found");

    let nul = RunQuery {
        trigger: Some("a\0".into()),
        ..every()
    };
    let refused = theatre.plugins.runs(&permit, plugin.id, &nul).await;
    assert_eq!(refusal(refused), "validation_failed");

    let later = run.started_at + chrono::TimeDelta::hours(1);
    for (query, count) in [
        (every(), 1),
        (
            RunQuery {
                outcome: Some(Outcome::Succeeded),
                ..every()
            },
            1,
        ),
        (
            RunQuery {
                outcome: Some(Outcome::Failed),
                ..every()
            },
            0,
        ),
        (
            RunQuery {
                trigger: Some("contact.created".into()),
                ..every()
            },
            1,
        ),
        (
            RunQuery {
                trigger: Some("contact.updated".into()),
                ..every()
            },
            0,
        ),
        (
            RunQuery {
                since: Some(run.started_at),
                ..every()
            },
            1,
        ),
        (
            RunQuery {
                since: Some(later),
                ..every()
            },
            0,
        ),
    ] {
        let page = theatre
            .plugins
            .runs(&permit, plugin.id, &query)
            .await
            .unwrap();
        assert_eq!(page.data.len(), count, "{query:?}");
    }
}

async fn somebody_who_follows_hears_of_the_next_run(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("read", "contacts.read").await;
    let first = theatre.run_of_contact(&plugin).await;
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let none = theatre
        .plugins
        .follow(&permit, plugin.id, Some(first.id), (10, Duration::ZERO));
    assert_eq!(none.await.unwrap(), []);
    let wait = Duration::from_secs(20);
    let follow = theatre
        .plugins
        .follow(&permit, plugin.id, Some(first.id), (10, wait));
    let next = async {
        theatre.contact("two").await;
        theatre.dispatch().await;
    };
    let (heard, ()) = tokio::join!(follow, next);
    assert_eq!(heard.unwrap().len(), 1);
}

async fn somebody_who_follows_hears_of_a_run_that_began_long_before(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("wait", "contacts.read").await;
    let slow = theatre.ended("slow");
    let quick = theatre.ended("quick");
    let cursor = theatre.plugins.keep(&plugin, quick).await.unwrap();
    let late = theatre.plugins.keep(&plugin, slow).await.unwrap();
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let heard = theatre
        .plugins
        .follow(&permit, plugin.id, Some(cursor), (10, Duration::ZERO));
    let heard: Vec<_> = heard.await.unwrap().iter().map(|run| run.id).collect();
    assert_eq!(heard, [late]);
}

async fn somebody_who_follows_hears_of_runs_of_a_process_whose_clock_is_behind(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("wait", "contacts.read").await;
    let ahead = theatre.ended("ahead");
    theatre.plugins.keep(&plugin, ahead).await.unwrap();
    let ahead = RunId(uuid::Uuid::from_u128(0xfe << 120));
    let set = Sql::new("UPDATE plugin_runs SET id = $1").bind(ahead, ColumnType::Uuid);
    theatre.world.execute(set).await;
    let behind = theatre.ended("behind");
    let behind = theatre.plugins.keep(&plugin, behind).await.unwrap();
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let heard = theatre
        .plugins
        .follow(&permit, plugin.id, Some(ahead), (10, Duration::ZERO));
    let heard: Vec<_> = heard.await.unwrap().iter().map(|run| run.id).collect();
    assert_eq!(heard, [behind]);
}

async fn a_replay_is_identical(world: World) {
    let theatre = Theatre::new(world);
    for (script, grants) in [
        ("look", "contacts.read"),
        ("write sequence", "contacts.update"),
        ("delete", "contacts.delete"),
        ("count", "contacts.read"),
        ("list", "contacts.read"),
        ("write nonsense", "contacts.update"),
        ("members", "contacts.read"),
        ("everything else", ""),
    ] {
        let plugin = theatre.install(script, grants).await;
        let contact = theatre.contact("one").await;
        theatre.dispatch().await;
        let run = theatre.runs(&plugin).await.remove(0);
        let audit = theatre.world.audit().await;
        if script != "delete" {
            let permit = theatre.world.permit(theatre.world.admin, "contacts").await;
            let records = theatre.world.crm.records();
            records.delete(&permit, contact, None).await.unwrap();
        }
        let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
        let replay = theatre
            .plugins
            .replay(&permit, plugin.id, run.id)
            .await
            .unwrap();
        assert!(replay.identical, "{script}: {replay:?}");
        assert_eq!((replay.outcome, &replay.logs), (run.outcome, &run.logs));
        let wrote = theatre.world.audit().await.len() - audit.len();
        assert_eq!(
            wrote,
            usize::from(script != "delete"),
            "a replay writes nothing"
        );
        theatre.dispatch().await;
    }
}

async fn a_replay_names_the_first_call_that_differs(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("moody", "contacts.read").await;
    let run = theatre.run_of_contact(&plugin).await;
    theatre.stage.moody.store(true, Ordering::SeqCst);
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let replay = theatre
        .plugins
        .replay(&permit, plugin.id, run.id)
        .await
        .unwrap();
    assert!(!replay.identical);
    let divergence = replay.divergence.unwrap();
    assert_eq!(divergence.at, 0);
    assert!(divergence.recorded.unwrap().get("get").is_some());
    assert!(divergence.replayed.unwrap().get("list").is_some());

    let member = theatre
        .member_with(&["plugins.*", "contacts.read:own"])
        .await;
    let permit = theatre.world.permit(member, OBJECT).await;
    let replay = theatre.plugins.replay(&permit, plugin.id, run.id).await;
    let divergence = replay.unwrap().divergence.unwrap();
    assert_eq!(divergence.at, 0);
    assert_eq!((divergence.recorded, divergence.replayed), (None, None));
}

async fn a_run_that_never_began_is_not_replayed(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.upload("write", "contacts.update").await;
    let reader = theatre.member_with(&["plugins.*", "contacts.read"]).await;
    theatre.enable(reader, &plugin).await;
    let run = theatre.run_of_contact(&plugin).await;
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let replay = theatre.plugins.replay(&permit, plugin.id, run.id).await;
    assert_eq!(refusal(replay), "not_replayable");
}

async fn old_runs_go_with_what_was_kept_of_them(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("read", "contacts.read").await;
    theatre.run_of_contact(&plugin).await;
    let details = async || {
        let sql = Sql::new("SELECT 1 FROM plugin_run_details");
        theatre
            .world
            .crm
            .core
            .db
            .fetch_all(sql)
            .await
            .unwrap()
            .len()
    };
    assert_eq!(details().await, 1);
    theatre
        .world
        .execute(Sql::new("DELETE FROM plugin_runs"))
        .await;
    assert_eq!(details().await, 0);
}
