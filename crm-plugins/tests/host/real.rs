//! The example plugins, compiled from their source, on this host alone.

use std::sync::Arc;

use crm_core::event::ChangeKind;
use crm_core::hook::{
    ActionCall, Change, Fields, Input, Outcome, Output, PluginHost, Tick, Verdict, Webhook, WokenBy,
};
use crm_core::value::Value;
use crm_plugins::{Language, Limits};

use super::door::{CONTACT, Tenant};
use super::examples::{built, example, examples};
use super::{contact_created, fields, guests_wanted, host, run_on, run_with};

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

#[tokio::test]
async fn the_lead_scoring_guest_scores_a_new_contact() {
    if !guests_wanted() {
        return;
    }
    let component = example("lead-scoring").await;
    let host = host(Limits::default());
    let manifest = host.inspect(component.clone().into()).await.unwrap();
    assert_eq!(manifest.name.as_str(), "lead_scoring");

    let tenant = Tenant::granted(&["contacts.read", "contacts.update"]);
    let report = run_with(&host, component.clone(), tenant.clone()).await;
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
    // 30 an address of their own, 15 a company, 20 an owner, 15 a VIP.
    assert_eq!(tenant.field("score"), Value::Int(80));
    assert!(
        report.logs.iter().any(|line| line.message.contains("+20")),
        "{report:?}"
    );

    let blind = Tenant::granted(&["contacts.update"]);
    let report = run_with(&host, component, blind.clone()).await;
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(
        report
            .error
            .is_some_and(|error| error.contains("contacts.read"))
    );
    assert_eq!(blind.field("score"), Value::Null);
}

/// A new contact as somebody is about to make it.
fn contact(name: &str) -> Input {
    Input::Before(Arc::new(Change {
        module: "contacts".into(),
        kind: ChangeKind::Created,
        record_id: None,
        before: None,
        after: Some(fields([("name", text(name)), ("company", text("Engines"))])),
        actor: "operator".into(),
        request_id: "request".into(),
    }))
}

#[tokio::test]
async fn the_duplicate_guard_tidies_names_and_refuses_a_second_contact() {
    if !guests_wanted() {
        return;
    }
    let component = example("duplicate-guard").await;
    let host = host(Limits::default());
    host.inspect(component.clone().into()).await.unwrap();
    // This tenant answers every filter with its one contact.
    let tenant = Tenant::granted(&["contacts.read"]);
    let report = run_on(&host, component.clone(), tenant.clone(), contact("Ada")).await;
    let Some(Output::Verdict(Verdict::Reject { code, field, .. })) = report.output else {
        panic!("{report:?}");
    };
    assert_eq!(
        (code.as_str(), field.as_deref()),
        ("duplicate", Some("name"))
    );

    tenant.state().empty = true;
    let report = run_on(
        &host,
        component.clone(),
        tenant.clone(),
        contact(" Ada  King"),
    )
    .await;
    let tidy = Verdict::Amend(fields([("name", text("Ada King"))]));
    assert_eq!(report.output, Some(Output::Verdict(tidy)), "{report:?}");
    let report = run_on(
        &host,
        component.clone(),
        tenant.clone(),
        contact("Ada King"),
    )
    .await;
    assert_eq!(report.output, Some(Output::Verdict(Verdict::Accept)));

    let twins = Input::Action(Arc::new(ActionCall {
        name: "twins".into(),
        module: Some("contacts".into()),
        records: vec![CONTACT.parse().unwrap()],
        input: None,
        actor: "operator".into(),
        request_id: "request".into(),
    }));
    let report = run_on(&host, component.clone(), tenant.clone(), twins.clone()).await;
    let none = Some(Output::Action(Some("[]".into())));
    assert_eq!(report.output, none, "{report:?}");
    tenant.state().contact = fields([
        ("id", Value::Uuid(CONTACT.parse().unwrap())),
        ("name", text("")),
    ]);
    let report = run_on(&host, component, tenant, twins).await;
    let refusal = format!("the contact {CONTACT} has no name to compare");
    assert_eq!(report.error.as_deref(), Some(&*refusal), "{report:?}");
}

/// The event with these fields after it.
fn after(input: Input, fields: Fields) -> Input {
    let Input::Event(woken) = input else {
        panic!("it is an event");
    };
    let mut woken = WokenBy::clone(&woken);
    woken.after = Some(fields);
    Input::Event(Arc::new(woken))
}

#[tokio::test]
async fn the_deal_notifier_tells_the_chat_and_reports_a_chat_that_refuses() {
    if !guests_wanted() {
        return;
    }
    let component = example("deal-notifier").await;
    let host = host(Limits::default());
    let manifest = host.inspect(component.clone().into()).await.unwrap();
    assert_eq!(manifest.name.as_str(), "deal_notifier");
    let deal = fields([
        ("title", text("Mill")),
        ("amount", Value::Decimal("1200.50".parse().unwrap())),
        ("currency", text("EUR")),
        ("stage", text("won")),
    ]);
    let won = after(contact_created(), deal);
    let tenant = Tenant::granted(&["http", "secrets"]);
    let report = run_on(&host, component.clone(), tenant.clone(), won.clone()).await;
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
    let sent = tenant.state().sent.remove(0);
    assert_eq!(
        (&*sent.method, &*sent.url),
        ("POST", "https://hooks.example.com/deals")
    );
    let authorization = ("authorization".to_owned(), "Bearer hunter2".to_owned());
    assert!(sent.headers.contains(&authorization), "{sent:?}");
    let body: serde_json::Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(body["text"], "Won: Mill for 1200.50 EUR");
    assert_eq!(body["deal"], CONTACT);

    let poor = Tenant::granted(&["secrets"]);
    let report = run_on(&host, component.clone(), poor, won).await;
    assert_eq!(report.outcome, Outcome::Failed, "{report:?}");
    assert_eq!(report.error.as_deref(), Some("denied: http"));

    let reply = |body: String| {
        Input::Webhook(Arc::new(Webhook {
            name: "replies".into(),
            id: "msg_1".into(),
            content_type: Some("application/json".into()),
            body: body.into(),
            received_at: "2030-01-31T12:00:00Z".parse().unwrap(),
        }))
    };
    let tenant = Tenant::granted(&["deals.update"]);
    let moved = reply(format!(r#"{{"deal": "{CONTACT}", "stage": "proposal"}}"#));
    let report = run_on(&host, component.clone(), tenant.clone(), moved).await;
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
    assert_eq!(tenant.field("stage"), text("proposal"));
    let report = run_on(&host, component, tenant, reply("{}".into())).await;
    assert_eq!(
        report.error.as_deref(),
        Some("a reply names a deal and a stage")
    );
}

#[tokio::test]
async fn the_follow_ups_guest_makes_each_task_once() {
    if !guests_wanted() {
        return;
    }
    let component = example("follow-ups").await;
    let host = host(Limits::default());
    let manifest = host.inspect(component.clone().into()).await.unwrap();
    assert_eq!(manifest.name.as_str(), "follow_ups");
    let tenant = Tenant::granted(&["deals.read", "tasks.create", "kv"]);
    tenant.state().contact = fields([
        ("id", Value::Uuid(CONTACT.parse().unwrap())),
        ("title", text("Mill")),
        ("stage", text("proposal")),
        ("expected_close", Value::Date("2030-01-15".parse().unwrap())),
    ]);
    let night = Input::Tick(Arc::new(Tick {
        name: "nightly".into(),
        due_at: "2030-01-31T02:00:00Z".parse().unwrap(),
        payload: None,
    }));
    for _ in 0..2 {
        let report = run_on(&host, component.clone(), tenant.clone(), night.clone()).await;
        assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
    }
    let tasks = tenant.state().tasks.clone();
    assert_eq!(tasks.len(), 1);
    let title = ("title".to_owned(), text("Follow up: Mill"));
    assert!(tasks[0].contains(&title), "{tasks:?}");

    let blind = Tenant::granted(&[]);
    let report = run_on(&host, component, blind, night).await;
    assert_eq!(report.outcome, Outcome::Failed, "{report:?}");
    assert!(report.error.unwrap().contains("deals.read"));
}

/// Below the examples, so that what they compile is there.
#[tokio::test]
async fn a_new_plugin_builds_as_it_is_in_every_language() {
    if !guests_wanted() {
        return;
    }
    let target = examples().join("target-guest");
    std::fs::create_dir_all(&target).unwrap();
    let folder = tempfile::tempdir_in(target).unwrap();
    for language in Language::ALL {
        let plugin = folder.path().join(format!("{language:?}"));
        crm_plugins::create(&plugin, language, &"deal_watch".parse().unwrap()).unwrap();
        let component = built(plugin).await;
        let manifest = crm_plugins::check(&component, &Limits::default()).unwrap();
        assert_eq!(manifest.name.as_str(), "deal_watch", "{language:?}");
        let created = after(contact_created(), fields([("name", text("Ada"))]));
        let tenant = Tenant::granted(&[]);
        let report = run_on(&host(Limits::default()), component, tenant, created).await;
        assert_eq!(
            report.outcome,
            Outcome::Succeeded,
            "{language:?}: {report:?}"
        );
        assert_eq!(report.logs[0].message, "contact.created: Ada");
    }
}

/// What the manifest does not ask for has no type, and what has another type does not compile.
#[tokio::test]
async fn a_script_with_types_is_held_to_its_manifest() {
    if !guests_wanted() {
        return;
    }
    let target = examples().join("target-guest");
    std::fs::create_dir_all(&target).unwrap();
    let folder = tempfile::tempdir_in(target).unwrap();
    let plugin = folder.path().join("script");
    let name = "deal_watch".parse().unwrap();
    crm_plugins::create(&plugin, Language::TypeScript, &name).unwrap();
    let file = plugin.join("plugin.ts");
    let source = std::fs::read_to_string(&file).unwrap();
    for (right, wrong) in [
        ("event.kind", "event.knd"),
        (
            "import { log }",
            "import { update } from \"crm:automation/records@1.0.0\";\nimport { log }",
        ),
        ("log(\"info\"", "log(\"loud\""),
    ] {
        let broken = source.replace(right, wrong);
        assert_ne!(broken, source);
        std::fs::write(&file, broken).unwrap();
        let plugin = plugin.clone();
        let built = tokio::task::spawn_blocking(move || crm_plugins::build(&plugin)).await;
        let refused = built.unwrap().unwrap_err().to_string();
        assert!(refused.contains("tsc does not build"), "{wrong}: {refused}");
    }
}
