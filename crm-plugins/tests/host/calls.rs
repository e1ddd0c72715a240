//! Every input reaches its function, and what that answers comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crm_core::Error;
use crm_core::event::ChangeKind;
use crm_core::hook::{
    ActionCall, Change, Input, Outcome, Output, PluginHost, Tick, Verdict, Webhook,
};
use crm_core::value::Value;
use crm_plugins::Limits;

use super::door::{CONTACT, Tenant};
use super::guest::{Guest, LOOP, SUCCEED, manifest};
use super::{contact_created, fields, host, run_on};

fn change() -> Input {
    Input::Before(Arc::new(Change {
        module: "contacts".into(),
        kind: ChangeKind::Updated,
        record_id: Some(CONTACT.parse().unwrap()),
        before: Some(fields([("name", Value::Text("Ada".into()))])),
        after: Some(fields([("name", Value::Text("Ada King".into()))])),
        actor: "operator".into(),
        request_id: "request".into(),
    }))
}

fn action(input: &str) -> Input {
    Input::Action(Arc::new(ActionCall {
        name: "rescore".into(),
        module: Some("contacts".into()),
        records: vec![CONTACT.parse().unwrap()],
        input: Some(input.into()),
        actor: "operator".into(),
        request_id: "request".into(),
    }))
}

fn tick() -> Input {
    Input::Tick(Arc::new(Tick {
        name: "nightly".into(),
        due_at: "2030-01-31T03:00:00Z".parse().unwrap(),
        payload: Some("again".into()),
    }))
}

fn webhook() -> Input {
    Input::Webhook(Arc::new(Webhook {
        name: "payments".into(),
        id: "msg_1".into(),
        content_type: Some("application/json".into()),
        body: b"{}".as_slice().into(),
        received_at: "2030-01-31T03:00:00Z".parse().unwrap(),
    }))
}

/// Logs the text between two parameters.
fn log(text: &str) -> String {
    format!("(call $log (i32.const 1) (local.get ${text}) (local.get ${text}_len)) (i32.const 0)")
}

#[tokio::test]
async fn a_tick_and_a_webhook_arrive_whole() {
    let host = host(Limits::default());
    for (export, input, text, expected) in [
        ("cron", tick(), "name", "nightly"),
        ("cron", tick(), "due", "2030-01-31T03:00:00Z"),
        ("cron", tick(), "payload", "again"),
        ("inbound", webhook(), "id", "msg_1"),
        ("inbound", webhook(), "type", "application/json"),
        ("inbound", webhook(), "body", "{}"),
        ("run", action("{}"), "name", "rescore"),
    ] {
        let component = Guest::new(export, &log(text)).component();
        host.inspect(component.clone().into()).await.unwrap();
        let report = run_on(&host, component, Tenant::granted(&[]), input).await;
        assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
        assert_eq!(report.logs[0].message, expected, "{export} {text}");
    }
}

/// A verdict about the change: the words of its own at 64.
async fn verdict(body: &str) -> (Outcome, Option<Output>, Option<String>) {
    let component = Guest::new("before", body).component();
    let report = run_on(
        &host(Limits::default()),
        component,
        Tenant::granted(&[]),
        change(),
    )
    .await;
    (report.outcome, report.output, report.error)
}

#[tokio::test]
async fn a_change_is_accepted() {
    let (outcome, output, _) = verdict(SUCCEED).await;
    assert_eq!(outcome, Outcome::Succeeded);
    assert_eq!(output, Some(Output::Verdict(Verdict::Accept)));
}

#[tokio::test]
async fn a_change_is_amended_with_what_the_change_would_make() {
    // The list of fields that the change would make is handed back.
    let (_, output, _) = verdict(
        "(i32.store8 (i32.const 516) (i32.const 1))
         (i32.store (i32.const 520) (local.get $after))
         (i32.store (i32.const 524) (local.get $after_len))
         (i32.const 512)",
    )
    .await;
    let amended = fields([("name", Value::Text("Ada King".into()))]);
    assert_eq!(output, Some(Output::Verdict(Verdict::Amend(amended))));
}

#[tokio::test]
async fn a_change_is_rejected_in_the_plugins_words() {
    let (outcome, output, _) = verdict(
        "(i32.store8 (i32.const 516) (i32.const 2))
         (i32.store (i32.const 520) (local.get $module))
         (i32.store (i32.const 524) (local.get $module_len))
         (i32.store (i32.const 528) (local.get $actor))
         (i32.store (i32.const 532) (local.get $actor_len))
         (i32.const 512)",
    )
    .await;
    assert_eq!(outcome, Outcome::Succeeded);
    let rejected = Verdict::Reject {
        code: "contacts".into(),
        message: "operator".into(),
        field: None,
    };
    assert_eq!(output, Some(Output::Verdict(rejected)));
}

#[tokio::test]
async fn an_amendment_that_is_no_value_fails_the_run() {
    // A field called "contacts" that is a decimal with the same text.
    let (outcome, output, error) = verdict(
        "(i32.store (i32.const 128) (local.get $module))
         (i32.store (i32.const 132) (local.get $module_len))
         (i32.store8 (i32.const 136) (i32.const 3))
         (i32.store (i32.const 144) (local.get $module))
         (i32.store (i32.const 148) (local.get $module_len))
         (i32.store8 (i32.const 516) (i32.const 1))
         (i32.store (i32.const 520) (i32.const 128))
         (i32.store (i32.const 524) (i32.const 1))
         (i32.const 512)",
    )
    .await;
    assert_eq!((outcome, output), (Outcome::Failed, None));
    assert!(error.unwrap().contains("amendment"));
}

/// Answers an action with the text it was given.
const ECHO: &str = "
    (i32.store8 (i32.const 516) (i32.const 1))
    (i32.store (i32.const 520) (local.get $input))
    (i32.store (i32.const 524) (local.get $input_len))
    (i32.const 512)";

#[tokio::test]
async fn an_action_answers_json() {
    let host = host(Limits::default());
    let component = Guest::new("run", ECHO).component();
    let tenant = Tenant::granted(&[]);
    let report = run_on(
        &host,
        component.clone(),
        tenant.clone(),
        action("{\"a\":1}"),
    )
    .await;
    assert_eq!(
        report.output,
        Some(Output::Action(Some("{\"a\":1}".into())))
    );
    let report = run_on(&host, component, tenant, action("{")).await;
    assert_eq!((report.outcome, report.output), (Outcome::Failed, None));
}

#[tokio::test]
async fn an_input_without_a_function_crashes_no_host() {
    let component = Guest::new("handle", SUCCEED).component();
    let report = run_on(
        &host(Limits::default()),
        component,
        Tenant::granted(&[]),
        tick(),
    )
    .await;
    assert_eq!(report.outcome, Outcome::Trapped);
    assert!(report.error.unwrap().contains("exports no function"));
}

#[tokio::test]
async fn one_component_serves_several_triggers() {
    let host = host(Limits::default());
    let component = Guest::new("handle", SUCCEED)
        .and("cron", SUCCEED)
        .and("before", SUCCEED)
        .component();
    host.inspect(component.clone().into()).await.unwrap();
    for input in [contact_created(), tick(), change()] {
        let report = run_on(&host, component.clone(), Tenant::granted(&[]), input).await;
        assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
    }
}

/// A guest that says it is "probe" in this version.
fn described(version: &str) -> Guest {
    let body = format!(
        "(i64.store (i32.const 64) (i64.const 0x65626f7270)) ;; probe
         (i32.store8 (i32.const 80) (i32.const {}))
         (i32.store8 (i32.const 81) (i32.const 46))
         (i32.store8 (i32.const 82) (i32.const 48))
         (i32.store8 (i32.const 83) (i32.const 46))
         (i32.store8 (i32.const 84) (i32.const 48))
         (i32.store (i32.const 512) (i32.const 64)) (i32.store (i32.const 516) (i32.const 5))
         (i32.store (i32.const 520) (i32.const 80)) (i32.store (i32.const 524) (i32.const 5))
         (i32.const 512)",
        version.as_bytes()[0]
    );
    Guest::new("handle", SUCCEED).and("describe", &body)
}

fn with_description(guest: Guest) -> Vec<u8> {
    let export = "export describe: func() -> description;\n  export handle";
    guest
        .manifest(&manifest(["handle"]))
        .world(|world| world.replace("export handle", export))
        .component()
}

async fn refusal(component: Vec<u8>) -> &'static str {
    match host(Limits::default()).inspect(component.into()).await {
        Err(Error::Invalid(fields)) => fields[0].code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn a_description_is_held_against_the_manifest() {
    let honest = with_description(described("1.0.0"));
    let host = host(Limits::default());
    host.inspect(honest.clone().into()).await.unwrap();
    let report = run_on(&host, honest, Tenant::granted(&[]), Input::Describe).await;
    let (name, version) = ("probe".into(), "1.0.0".into());
    assert_eq!(report.output, Some(Output::Description { name, version }));
    assert_eq!(
        refusal(with_description(described("2.0.0"))).await,
        "other_description"
    );
}

/// With two slots, of which descriptions have one, and runs that end after this time.
fn small(deadline: Duration) -> Limits {
    Limits {
        concurrent_runs: 2,
        fuel: u64::MAX,
        deadline,
        ..Limits::default()
    }
}

#[tokio::test]
async fn descriptions_that_never_end_leave_what_runs_its_slot() {
    let deadline = Duration::from_secs(2);
    let host = host(small(deadline));
    let endless = ["(nop)", "(nop) (nop)", "(nop) (nop) (nop)"].map(|other| {
        let body = format!("{other} {LOOP}");
        with_description(Guest::new("handle", SUCCEED).and("describe", &body))
    });
    let uploads = endless.map(|component| host.inspect(component.into()));
    let mut uploads = std::pin::pin!(futures::future::join_all(uploads));
    let handle = Guest::new("handle", SUCCEED).component();
    let refused = loop {
        let tenant = Tenant::granted(&[]);
        let (begun, run) = (
            Instant::now(),
            run_on(&host, handle.clone(), tenant, contact_created()),
        );
        let mut run = std::pin::pin!(run);
        let over = tokio::select! {
            report = &mut run => {
                assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
                assert!(begun.elapsed() < deadline, "it waited for a description to end");
                None
            }
            refused = &mut uploads => Some(refused),
        };
        if let Some(refused) = over {
            break refused;
        }
    };
    for refused in refused {
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_run_that_never_ends_leaves_descriptions_their_slot() {
    let host = host(small(Duration::from_secs(300)));
    let endless = Guest::new("handle", LOOP).component();
    let run = run_on(&host, endless, Tenant::granted(&[]), contact_created());
    tokio::select! {
        biased;
        report = run => panic!("nothing was described before it ended: {report:?}"),
        manifest = host.inspect(with_description(described("1.0.0")).into()) => {
            assert_eq!(manifest.unwrap().version, "1.0.0");
        }
    }
}

#[tokio::test]
async fn a_description_that_never_ends_or_crashes_is_refused() {
    for body in [LOOP, "(unreachable)"] {
        let guest = Guest::new("handle", SUCCEED).and("describe", body);
        assert_eq!(refusal(with_description(guest)).await, "failed_description");
    }
}
