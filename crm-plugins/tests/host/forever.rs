//! The plugin of 1.0 that has to keep running: `tests/guests/probe.wasm`, made once.

use std::sync::Arc;
use std::time::Duration;

use crm_core::event::ChangeKind;
use crm_core::hook::{
    ActionCall, Change, Input, Outcome, Output, PluginHost, Tick, Verdict, Webhook,
};
use crm_core::value::Value;
use crm_plugins::Limits;

use super::door::Tenant;
use super::{contact_created, fields, host, run_on};

const PROBE: &[u8] = include_bytes!("../guests/probe.wasm");

#[tokio::test]
async fn pl_a_plugin_built_for_1_0_runs_on_this_host_with_all_that_1_0_has() {
    let host = host(Limits::default());
    let manifest = host.inspect(PROBE.into()).await.unwrap();
    assert_eq!(
        (manifest.name.as_str(), &*manifest.version),
        ("probe", "1.0.0")
    );
    let tenant = Tenant::granted(&[
        "contacts.read",
        "contacts.create",
        "contacts.update",
        "contacts.delete",
        "emit",
        "http",
        "jobs",
        "kv",
        "secrets",
    ]);
    let run = async |input| {
        let report = run_on(&host, PROBE.to_vec(), tenant.clone(), input).await;
        assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
        report
    };

    let handled = run(contact_created()).await;
    assert!(
        handled.logs[0].message.starts_with("{\"id\":"),
        "{handled:?}"
    );
    assert_eq!(
        (handled.usage.rows_read, handled.usage.rows_written),
        (5, 3)
    );
    assert!(tenant.state().contact.is_empty(), "deleted in the end");

    let after = fields([("name", Value::Text("Ada".into()))]);
    let judged = run(Input::Before(Arc::new(Change {
        module: "contacts".into(),
        kind: ChangeKind::Updated,
        record_id: None,
        before: None,
        after: Some(after.clone()),
        actor: "operator".into(),
        request_id: "request".into(),
    })));
    let amended = Output::Verdict(Verdict::Amend(after));
    assert_eq!(judged.await.output, Some(amended));

    let asked = run(Input::Action(Arc::new(ActionCall {
        name: "rescore".into(),
        module: None,
        records: Vec::new(),
        input: Some("[1]".into()),
        actor: "operator".into(),
        request_id: "request".into(),
    })));
    assert_eq!(asked.await.output, Some(Output::Action(Some("[1]".into()))));

    let ticked = run(Input::Tick(Arc::new(Tick {
        name: "nightly".into(),
        due_at: "2030-01-31T03:00:00Z".parse().unwrap(),
        payload: None,
    })));
    assert_eq!(ticked.await.logs[0].message, "2030-01-31T12:00:00.250000Z");
    assert_eq!(tenant.state().told, [("scored".into(), "{}".into())]);
    let later = (
        "later".into(),
        Duration::from_secs(90),
        Some("nightly".into()),
    );
    assert_eq!(tenant.state().jobs, [later]);

    run(Input::Webhook(Arc::new(Webhook {
        name: "payments".into(),
        id: "msg_1".into(),
        content_type: None,
        body: b"paid".as_slice().into(),
        received_at: "2030-01-31T03:00:00Z".parse().unwrap(),
    })))
    .await;
    assert_eq!(&tenant.state().sent[0].body[..], b"paid");
}
