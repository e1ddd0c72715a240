//! What becomes of events, and of the runs they cause.

use super::*;
use crate::dispatch::{event_from_row, select_events};

on_both_databases! {
    an_event_delivered_again_does_not_run_again
    a_chain_of_causes_ends
    a_chain_of_causes_that_ends_at_many_places_is_noted_once
    a_failing_plugin_holds_nobody_up
    a_plugin_may_log_what_no_column_holds
    paging_visits_each_run_once
}

async fn an_event_delivered_again_does_not_run_again(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("read", "contacts.read").await;
    theatre.contact("one").await;
    theatre.dispatch().await;
    theatre
        .world
        .execute(Sql::new("UPDATE outbox SET dispatched_at = NULL"))
        .await;
    theatre.dispatch().await;
    assert_eq!(theatre.runs(&plugin).await.len(), 1);
    assert_eq!(theatre.stage.runs.load(Ordering::SeqCst), 1);
}

async fn a_chain_of_causes_ends(world: World) {
    let theatre = Theatre::new(world);
    let text = component("write sequence", "contacts.update", "contact.updated");
    let plugin = theatre
        .try_upload(theatre.world.admin, &text)
        .await
        .unwrap();
    theatre.enable(theatre.world.admin, &plugin).await;
    let contact = theatre.contact("one").await;
    let permit = theatre.world.permit(theatre.world.admin, "contacts").await;
    let body = Map::from_iter([("title".to_owned(), json!("begin"))]);
    theatre
        .world
        .crm
        .records()
        .update(&permit, contact, None, body)
        .await
        .unwrap();
    theatre.dispatch().await;

    let runs = theatre.runs(&plugin).await;
    assert_eq!(
        theatre.stage.runs.load(Ordering::SeqCst),
        16,
        "depths 0 to 15"
    );
    assert_eq!(runs.len(), 17);
    assert_eq!(runs[0].outcome, Outcome::Refused);
    assert!(
        runs[0]
            .error
            .as_deref()
            .unwrap()
            .contains("chain of 16 events"),
        "{:?}",
        runs[0]
    );
    let audit = theatre.world.audit().await;
    let noted = audit.iter().filter(|action| *action == "plugins.recursion");
    assert_eq!(noted.count(), 1);
}

async fn a_chain_of_causes_that_ends_at_many_places_is_noted_once(world: World) {
    let theatre = Theatre::new(world);
    let first = theatre.install("read", "contacts.read").await;
    let text = component("read", "contacts.read", "contact.created").replace("actor", "second");
    let second = theatre.try_upload(theatre.world.admin, &text).await;
    let second = second.unwrap();
    theatre.contact("one").await;
    let db = &theatre.world.crm.core.db;
    let events = select_events(|sql| {
        sql.push("tenant_id = ")
            .arg(theatre.world.tenant, ColumnType::Uuid);
    });
    let event = event_from_row(db.fetch_all(events).await.unwrap().remove(0)).unwrap();
    let ends = [&first, &second, &first, &second, &first, &second];
    let ends = ends.map(|plugin| theatre.plugins.note_end_of_chain(plugin, &event));
    for noted in futures::future::join_all(ends).await {
        noted.unwrap();
    }
    let audit = theatre.world.audit().await;
    let noted = audit.iter().filter(|action| *action == "plugins.recursion");
    assert_eq!(noted.count(), 1);
}

async fn a_failing_plugin_holds_nobody_up(world: World) {
    let theatre = Theatre::new(world);
    let failing = theatre.install("fail", "contacts.read").await;
    let text = component("write", "contacts.update", "contact.created").replace("actor", "second");
    let second = theatre
        .try_upload(theatre.world.admin, &text)
        .await
        .unwrap();
    theatre.enable(theatre.world.admin, &second).await;
    let contact = theatre.contact("one").await;
    theatre.dispatch().await;
    assert_eq!(theatre.runs(&failing).await[0].outcome, Outcome::Failed);
    assert_eq!(theatre.title(contact).await, json!("changed"));
    let pending = Sql::new("SELECT 1 FROM outbox WHERE dispatched_at IS NULL");
    assert!(
        theatre
            .world
            .crm
            .core
            .db
            .fetch_all(pending)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_plugin_may_log_what_no_column_holds(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("nul", "").await;
    let run = theatre.run_of_contact(&plugin).await;
    assert_eq!(run.logs[0].message, "a\u{fffd}b");
    let update = theatre.update().await;
    let replay = theatre.plugins.replay(&update, plugin.id, run.id).await;
    let replay = replay.unwrap();
    assert!(replay.identical, "{replay:?}");
    let plugin = theatre.install("fail", "").await;
    theatre.contact("two").await;
    theatre.dispatch().await;
    assert_eq!(
        theatre.runs(&plugin).await[0].error.as_deref(),
        Some("it\u{fffd}fails")
    );
}

async fn paging_visits_each_run_once(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("read", "contacts.read").await;
    for _ in 0..5 {
        theatre.contact("one").await;
    }
    theatre.dispatch().await;
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let mut seen = Vec::new();
    let mut query = RunQuery {
        limit: 2,
        ..RunQuery::default()
    };
    loop {
        let page = theatre.plugins.runs(&permit, plugin.id, &query).await;
        let page = page.unwrap();
        seen.extend(page.data.iter().map(|run| run.id));
        query.before = page.next_cursor;
        if query.before.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.is_sorted_by(|a, b| a > b), "newest first: {seen:?}");
    for limit in [0, 101] {
        query.limit = limit;
        let refused = theatre.plugins.runs(&permit, plugin.id, &query).await;
        assert_eq!(refusal(refused), "validation_failed");
    }
}
