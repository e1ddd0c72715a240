//! What the host lends besides records: granted, refused, and the same at every replay.

use std::time::Duration;

use crm_core::hook::{DoorRequest, Outcome};
use crm_plugins::Limits;

use super::door::Tenant;
use super::guest::{Guest, component};
use super::{call, contact_created, host, run, run_on, run_with};
use crm_core::hook::PluginHost;

/// Logs the text whose address and length lie at 1024, and succeeds.
const LOG_IT: &str = "
    (call $log (i32.const 1) (i32.load (i32.const 1024)) (i32.load (i32.const 1028)))
    (i32.const 0)";
/// A result at 1024: logs its text, or fails with the text of its error.
const LOG_RESULT: &str = "
    (if (result i32) (i32.load8_u (i32.const 1024))
        (then
            (i32.store8 (i32.const 512) (i32.const 1))
            (i32.store (i32.const 516) (i32.load (i32.const 1032)))
            (i32.store (i32.const 520) (i32.load (i32.const 1036)))
            (i32.const 512))
        (else
            (call $log (i32.const 1) (i32.load (i32.const 1028)) (i32.load (i32.const 1032)))
            (i32.const 0)))";
/// The words `token`, `contact` and `GET` at 64, 72 and 80.
const WORDS: &str = "
    (i64.store (i32.const 64) (i64.const 0x6e656b6f74))
    (i64.store (i32.const 72) (i64.const 0x746361746e6f63))
    (i64.store (i32.const 80) (i64.const 0x544547))";

#[tokio::test]
async fn the_clock_stands_still_at_the_time_of_the_run() {
    let twice = format!("(call $now (i32.const 1024)) (call $now (i32.const 1024)) {LOG_IT}");
    let report = run(Limits::default(), component(&twice)).await;
    assert_eq!(report.logs[0].message, "2030-01-31T12:00:00.250000Z");
    let millis = "
        (if (i64.ne (call $now_millis) (i64.const 1896091200250)) (then (unreachable)))
        (i32.const 0)";
    let report = run(Limits::default(), component(millis)).await;
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
}

/// Takes 8 random bytes twice, and logs the second 8 where they are text, which with 16 hexadecimal
/// digits they are: each half-byte becomes a letter.
const RANDOM: &str = "
    (call $bytes (i32.const 3) (i32.const 1024))
    (call $bytes (i32.const 8) (i32.const 1024))
    (loop $on
        (i32.store8 (i32.add (i32.const 64) (i32.mul (local.get $n) (i32.const 2)))
            (i32.add (i32.const 97) (i32.shr_u
                (i32.load8_u (i32.add (i32.load (i32.const 1024)) (local.get $n))) (i32.const 4))))
        (i32.store8 (i32.add (i32.const 65) (i32.mul (local.get $n) (i32.const 2)))
            (i32.add (i32.const 97) (i32.and
                (i32.load8_u (i32.add (i32.load (i32.const 1024)) (local.get $n))) (i32.const 15))))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $on (i32.lt_u (local.get $n) (i32.const 8))))
    (call $log (i32.const 1) (i32.const 64) (i32.const 16))
    (i32.const 0)";

#[tokio::test]
async fn random_numbers_follow_from_the_seed_and_from_nothing_else() {
    let host = host(Limits::default());
    let draw = async |seed: u8| {
        let tenant = Tenant::granted(&[]);
        let mut call = call(component(RANDOM), tenant, contact_created());
        call.seed = [seed; 32];
        host.run(call).await.unwrap().logs[0].message.clone()
    };
    let first = draw(0).await;
    assert_eq!(draw(0).await, first);
    assert_ne!(draw(1).await, first);
    // ChaCha20 under a key of zeros begins 76 b8 e0 ad a0 f1 3d 90 40 5d 6a e5: three bytes take
    // one word, and the next eight are the second and third.
    assert_eq!(first, "kapbdnjaeafngkof");
}

#[tokio::test]
async fn more_random_bytes_than_a_call_may_carry_stop_the_run() {
    let greedy = "(call $bytes (i32.const -1) (i32.const 1024)) (i32.const 0)";
    let report = run(Limits::default(), component(greedy)).await;
    assert_eq!(report.outcome, Outcome::LimitExceeded);
    assert!(report.error.unwrap().contains("call_bytes"));
}

#[tokio::test]
async fn a_secret_is_told_to_the_guest_and_to_no_log() {
    let tell = format!(
        "{WORDS} (call $secret (i32.const 64) (i32.const 5) (i32.const 1024)) {LOG_RESULT}"
    );
    let host = host(Limits::default());
    let report = run_with(&host, component(&tell), Tenant::granted(&["secrets"])).await;
    assert_eq!(report.logs[0].message, "[secret:token]", "{report:?}");
    let denied = run_with(&host, component(&tell), Tenant::granted(&[])).await;
    assert_eq!(denied.error.as_deref(), Some("secrets"));
}

#[tokio::test]
async fn a_secret_stays_out_of_the_error_too() {
    let fail = format!(
        "{WORDS} (call $secret (i32.const 64) (i32.const 5) (i32.const 1024))
         (i32.store8 (i32.const 512) (i32.const 1))
         (i32.store (i32.const 516) (i32.load (i32.const 1028)))
         (i32.store (i32.const 520) (i32.load (i32.const 1032)))
         (i32.const 512)"
    );
    let host = host(Limits::default());
    let report = run_with(&host, component(&fail), Tenant::granted(&["secrets"])).await;
    assert_eq!(report.error.as_deref(), Some("[secret:token]"));
}

#[tokio::test]
async fn values_are_kept_and_read_back() {
    let keep = format!(
        "{WORDS}
         (call $kv_set (i32.const 64) (i32.const 5) (i32.const 72) (i32.const 7) (i32.const 1024))
         (if (i32.load8_u (i32.const 1024)) (then (unreachable)))
         (call $kv_get (i32.const 64) (i32.const 5) (i32.const 1024))
         (call $log (i32.const 1) (i32.load (i32.const 1032)) (i32.load (i32.const 1036)))
         (i32.const 0)"
    );
    let host = host(Limits::default());
    let report = run_with(&host, component(&keep), Tenant::granted(&["kv"])).await;
    assert_eq!(report.logs[0].message, "contact", "{report:?}");
    assert_eq!((report.usage.rows_read, report.usage.rows_written), (1, 1));
    let denied = run_with(&host, component(&keep), Tenant::granted(&[])).await;
    assert_eq!(denied.outcome, Outcome::Trapped);
}

#[tokio::test]
async fn events_and_jobs_of_its_own_reach_the_library() {
    let tell = format!(
        "{WORDS}
         (call $emit (i32.const 64) (i32.const 5) (i32.const 72) (i32.const 7) (i32.const 1024))
         (call $schedule (i32.const 64) (i32.const 5) (i64.const 90)
            (i32.const 1) (i32.const 72) (i32.const 7) (i32.const 1024))
         (i32.const 0)"
    );
    let tenant = Tenant::granted(&["emit", "jobs"]);
    let component = Guest::new("cron", "(i32.const 0)")
        .and("handle", &tell)
        .component();
    let host = host(Limits::default());
    let report = run_on(&host, component, tenant.clone(), contact_created()).await;
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
    assert_eq!(tenant.state().told, [("token".into(), "contact".into())]);
    let job = (
        "token".into(),
        Duration::from_secs(90),
        Some("contact".into()),
    );
    assert_eq!(tenant.state().jobs, [job]);
}

/// Sends `contact` with the method GET to the address `token`.
fn fetch() -> String {
    format!(
        "{WORDS}
         (call $fetch (i32.const 80) (i32.const 3) (i32.const 64) (i32.const 5)
            (i32.const 0) (i32.const 0) (i32.const 72) (i32.const 7) (i32.const 1024))"
    )
}

#[tokio::test]
async fn a_request_goes_out_and_every_byte_counts() {
    let tenant = Tenant::granted(&["http"]);
    let send = format!("{} (i32.const 0)", fetch());
    let host = host(Limits::default());
    let report = run_with(&host, component(&send), tenant.clone()).await;
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
    let sent = DoorRequest {
        method: "GET".into(),
        url: "token".into(),
        headers: Vec::new(),
        body: b"contact".as_slice().into(),
    };
    assert_eq!(tenant.state().sent, [sent]);
    assert_eq!((report.usage.requests, report.usage.request_bytes), (1, 22));
}

#[tokio::test]
async fn requests_end_at_their_number_and_at_their_bytes() {
    let flood = format!("(loop $on {} (br $on)) (i32.const 0)", fetch());
    for (limits, named, sent) in [
        (
            Limits {
                requests: 3,
                ..Limits::default()
            },
            "requests",
            3,
        ),
        (
            Limits {
                request_bytes: 40,
                ..Limits::default()
            },
            "request_bytes",
            2,
        ),
    ] {
        let tenant = Tenant::granted(&["http"]);
        let report = run_with(&host(limits), component(&flood), tenant.clone()).await;
        assert_eq!(report.outcome, Outcome::LimitExceeded);
        assert!(report.error.unwrap().contains(named));
        assert_eq!(tenant.state().sent.len(), sent, "{named}");
    }
}
