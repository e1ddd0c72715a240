//! Host functions: granted, refused, and what the guest learns of a refusal.

use crm_core::hook::{LogLevel, LogLine, Outcome};
use crm_core::value::Value;
use crm_plugins::Limits;

use super::door::Tenant;
use super::guest::{GET_AND_LOG, LOG_KIND, SET_SCORE, SUCCEED, component};
use super::{host, run, run_with};

#[tokio::test]
async fn a_guest_that_does_nothing_succeeds_and_reports_its_use() {
    let report = run(Limits::default(), component(SUCCEED)).await;
    assert_eq!(report.outcome, Outcome::Succeeded);
    assert_eq!((&report.error, &report.output), (&None, &None));
    assert_eq!(report.usage.memory, 64 << 10);
    assert!(
        report.usage.fuel > 0 && report.usage.fuel < 10_000,
        "{report:?}"
    );
    assert_eq!(report.usage.host_calls, 0);
}

#[tokio::test]
async fn the_event_arrives_and_lines_are_kept() {
    let report = run(Limits::default(), component(LOG_KIND)).await;
    let line = LogLine {
        level: LogLevel::Info,
        message: "contact.created".into(),
    };
    assert_eq!(report.logs, [line]);
    assert_eq!(report.usage.host_calls, 1);
}

#[tokio::test]
async fn an_error_of_the_guest_is_a_failed_run_with_its_words() {
    let fail = r#"
        (i32.store (i32.const 64) (i32.const 0x6f6f6e))
        (i32.store8 (i32.const 512) (i32.const 1))
        (i32.store (i32.const 516) (i32.const 64))
        (i32.store (i32.const 520) (i32.const 3))
        (i32.const 512)"#;
    let report = run(Limits::default(), component(fail)).await;
    assert_eq!(
        (report.outcome, report.error.as_deref()),
        (Outcome::Failed, Some("noo"))
    );
}

#[tokio::test]
async fn a_granted_record_is_read() {
    let tenant = Tenant::granted(&["contacts.read"]);
    let report = run_with(&host(Limits::default()), component(GET_AND_LOG), tenant).await;
    assert_eq!(report.outcome, Outcome::Succeeded, "{:?}", report.error);
    assert!(
        report.logs[0].message.contains("ada@engines.example"),
        "{:?}",
        report.logs
    );
}

#[tokio::test]
async fn a_missing_right_is_an_error_the_guest_can_read_not_a_crash() {
    let tenant = Tenant::granted(&["contacts.update"]);
    let report = run_with(&host(Limits::default()), component(GET_AND_LOG), tenant).await;
    assert_eq!(report.outcome, Outcome::Failed);
    assert_eq!(report.error.as_deref(), Some("contacts.read"));
}

#[tokio::test]
async fn a_granted_record_is_written() {
    let tenant = Tenant::granted(&["contacts.update"]);
    let host = host(Limits::default());
    let report = run_with(&host, component(SET_SCORE), tenant.clone()).await;
    assert_eq!(report.outcome, Outcome::Succeeded, "{:?}", report.error);
    assert_eq!(tenant.field("score"), Value::Int(7));
}

#[tokio::test]
async fn a_stale_version_is_a_conflict_in_words() {
    let tenant = Tenant::granted(&["contacts.update"]);
    let host = host(Limits::default());
    let report = run_with(
        &host,
        component(&SET_SCORE.replace("i64.const 1)", "i64.const 9)")),
        tenant.clone(),
    )
    .await;
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(
        report
            .error
            .as_deref()
            .is_some_and(|error| error.contains("has changed"))
    );
    assert_eq!(tenant.field("score"), Value::Null);
}

#[tokio::test]
async fn a_conflict_of_the_library_reaches_the_guest_in_its_words() {
    let create = "
        (call $create
            (i32.load offset=24 (local.get $event)) (i32.load offset=28 (local.get $event))
            (i32.const 0) (i32.const 0) (i32.const 1024))
        (i32.store8 (i32.const 512) (i32.const 1))
        (i32.store (i32.const 516) (i32.load (i32.const 1032)))
        (i32.store (i32.const 520) (i32.load (i32.const 1036)))
        (i32.const 512)";
    let tenant = Tenant::granted(&["contacts.create"]);
    let report = run_with(&host(Limits::default()), component(create), tenant).await;
    assert_eq!(
        report.error.as_deref(),
        Some("That e-mail address is taken.")
    );
}
