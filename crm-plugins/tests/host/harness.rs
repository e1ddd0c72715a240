//! The CRM of a plugin's test, with plugins on this host.

use std::time::Duration;

use crm_core::hook::Outcome;
use crm_core::module::default_modules;
use crm_core::{AuditQuery, Error, Read};
use crm_plugins::testing::Harness;
use serde_json::json;

use super::guest::{Guest, SET_SCORE};

fn manifest(rest: &str) -> String {
    format!("name = 'probe'\nversion = '1.0.0'\n{rest}")
}

async fn harness() -> Harness {
    Harness::new(default_modules()).await.unwrap()
}

#[tokio::test]
async fn a_harness_runs_a_plugin_on_what_happens() {
    let harness = harness().await;
    let grants = "triggers = ['contact.created']
        [[grants]]
        module = 'contacts'
        actions = ['read', 'update']";
    let guest = Guest::new("handle", SET_SCORE).manifest(&manifest(grants));
    harness.install(guest.component()).await.unwrap();
    let made = harness.create("contacts", json!({ "name": "Ada" })).await;
    let id = made.unwrap()["id"].as_str().unwrap().parse().unwrap();
    let contact = harness.get("contacts", id).await.unwrap();
    assert_eq!(
        (&contact["score"], &contact["version"]),
        (&json!(7), &json!(2))
    );
    let changed = harness.update("contacts", id, json!({ "score": 8 })).await;
    assert_eq!(changed.unwrap()["version"], 3);
    let runs = harness.runs().await.unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (runs[0].outcome, runs[0].rows_written),
        (Outcome::Succeeded, 1)
    );
    harness.delete("contacts", id).await.unwrap();
    assert!(harness.list("contacts").await.unwrap().is_empty());
    harness.close().await;
}

#[tokio::test]
async fn the_time_of_a_harness_moves_only_when_it_is_moved() {
    let harness = harness().await;
    let logs = "(call $log (i32.const 1) (local.get $due) (local.get $due_len)) (i32.const 0)";
    let nightly = "triggers = [{ cron = 'nightly', schedule = '0 3 * * *' }]";
    let guest = Guest::new("cron", logs).manifest(&manifest(nightly));
    harness.install(guest.component()).await.unwrap();
    harness.settle().await.unwrap();
    assert!(harness.runs().await.unwrap().is_empty());
    harness
        .advance(Duration::from_secs(16 * 3_600))
        .await
        .unwrap();
    let runs = harness.runs().await.unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].logs[0].message, "2030-02-01T03:00:00Z");
    harness.close().await;
}

#[tokio::test]
async fn a_plugin_that_judges_is_asked_in_a_harness() {
    let harness = harness().await;
    let reject = "(i32.store8 (i32.const 516) (i32.const 2))
        (i32.store (i32.const 520) (local.get $module))
        (i32.store (i32.const 524) (local.get $module_len))
        (i32.store (i32.const 528) (local.get $module))
        (i32.store (i32.const 532) (local.get $module_len))
        (i32.const 512)";
    let before = "triggers = [{ before = ['contact.create'] }]
        [[grants]]
        module = 'contacts'
        actions = ['read', 'update']";
    let guest = Guest::new("before", reject).manifest(&manifest(before));
    harness.install(guest.component()).await.unwrap();
    let refused = harness.create("contacts", json!({ "name": "Ada" })).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    assert!(harness.list("contacts").await.unwrap().is_empty());
    harness.close().await;
}

#[tokio::test]
async fn messages_to_a_plugin_in_a_harness_come_in_as_its_senders_send_them() {
    let logs = "(call $log (i32.const 1) (local.get $body) (local.get $body_len)) (i32.const 0)";
    for auth in ["signature", "api_key"] {
        let harness = harness().await;
        let hook = format!("triggers = [{{ webhook = 'payments', auth = '{auth}' }}]");
        let guest = Guest::new("inbound", logs).manifest(&manifest(&hook));
        harness.install(guest.component()).await.unwrap();
        let mut events = Vec::new();
        for body in ["one", "two"] {
            let received = harness.receive("payments", Some("text/plain"), body).await;
            events.push(received.unwrap());
            let run = harness.runs().await.unwrap().remove(0);
            assert_eq!(run.outcome, Outcome::Succeeded, "{auth}: {run:?}");
            assert_eq!(run.logs[0].message, body);
        }
        assert_ne!(events[0], events[1]);
        let unknown = harness.receive("orders", None, "").await;
        assert!(matches!(unknown, Err(Error::NotFound)), "{unknown:?}");
        harness.close().await;
    }
}

#[tokio::test]
async fn an_action_of_a_plugin_in_a_harness_answers_whoever_asks() {
    let harness = harness().await;
    // Answers its input, and without records fails in the words of its name.
    let echo = "(if (result i32) (local.get $records_len)
        (then
            (i32.store8 (i32.const 512) (i32.const 0))
            (i32.store8 (i32.const 516) (i32.const 1))
            (i32.store (i32.const 520) (local.get $input))
            (i32.store (i32.const 524) (local.get $input_len))
            (i32.const 512))
        (else
            (i32.store8 (i32.const 512) (i32.const 1))
            (i32.store (i32.const 516) (local.get $name))
            (i32.store (i32.const 520) (local.get $name_len))
            (i32.const 512)))";
    let offers = "[[triggers]]
        action = 'rescore'
        module = 'contacts'
        label = 'Score again'
        input = { properties = { why = { type = 'string' } } }
        [[grants]]
        module = 'contacts'
        actions = ['read']";
    let guest = Guest::new("run", echo).manifest(&manifest(offers));
    harness.install(guest.component()).await.unwrap();
    let made = harness.create("contacts", json!({ "name": "Ada" })).await;
    let id = made.unwrap()["id"].as_str().unwrap().parse().unwrap();
    let input = json!({ "why": "so" });
    let acted = harness.act("rescore", "contacts", vec![id], input.clone());
    let acted = acted.await.unwrap();
    assert_eq!(
        (acted.outcome, acted.answer),
        (Outcome::Succeeded, Some(input))
    );
    assert_eq!(harness.runs().await.unwrap()[0].id, acted.run);
    let other = harness.act("other", "contacts", vec![id], json!({})).await;
    assert!(matches!(other, Err(Error::NotFound)), "{other:?}");
    harness.close().await;
}

#[tokio::test]
async fn requests_of_a_plugin_in_a_harness_reach_nobody() {
    let harness = harness().await;
    let send = "(call $fetch (i32.const 600) (i32.const 3) (i32.const 604) (i32.const 24)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1024))
        (if (i32.eqz (i32.load8_u (i32.const 1024))) (then unreachable))
        (i32.const 0)";
    let hosts = "triggers = ['contact.created']\nhosts = ['api.example.com']";
    let guest = Guest::new("handle", send)
        .manifest(&manifest(hosts))
        .more(r#"(data (i32.const 600) "GET\00https://api.example.com/")"#);
    harness.install(guest.component()).await.unwrap();
    let contact = harness.create("contacts", json!({ "name": "Ada" })).await;
    contact.unwrap();
    let run = &harness.runs().await.unwrap()[0];
    assert_eq!(
        (run.outcome, run.requests),
        (Outcome::Succeeded, 1),
        "{run:?}"
    );
    harness.close().await;
}

#[tokio::test]
async fn pl_events_that_wake_their_own_plugin_end_at_depth_16_with_one_audit_entry() {
    let harness = harness().await;
    // Emits `scored` with `{}`.
    let echo = "(i64.store (i32.const 64) (i64.const 0x6465726f6373))
        (i32.store16 (i32.const 80) (i32.const 0x7d7b))
        (call $emit (i32.const 64) (i32.const 6) (i32.const 80) (i32.const 2) (i32.const 1024))
        (if (i32.load8_u (i32.const 1024)) (then unreachable))
        (i32.const 0)";
    let own = "triggers = ['contact.created', 'probe.scored']\nemits = ['scored']";
    let guest = Guest::new("handle", echo).manifest(&manifest(own));
    harness.install(guest.component()).await.unwrap();
    let contact = harness.create("contacts", json!({ "name": "Ada" })).await;
    contact.unwrap();
    let runs = harness.runs().await.unwrap();
    assert_eq!(runs.len(), 17);
    assert_eq!(runs[0].outcome, Outcome::Refused);
    let ran = |outcome| runs.iter().filter(|run| run.outcome == outcome).count();
    assert_eq!((ran(Outcome::Succeeded), ran(Outcome::Refused)), (16, 1));
    let permit = harness.scope().permit::<Read>("audit").unwrap();
    let query = AuditQuery {
        action: Some("plugins.recursion".into()),
        ..AuditQuery::default()
    };
    let audit = harness.crm().audit().list(&permit, &query).await.unwrap();
    assert_eq!(audit.data.len(), 1, "{:?}", audit.data);
    harness.close().await;
}
