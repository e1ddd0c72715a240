//! Every limit stops its guest, as its own outcome, with a sentence that names the limit's size.

use std::time::Duration;

use bytes::Bytes;
use crm_core::hook::{Outcome, PluginHost, Report};
use crm_plugins::Limits;
use futures::FutureExt;

use super::door::Tenant;
use super::guest::{GET_AND_LOG, Guest, LOG_KIND, LOOP, SUCCEED, component};
use super::{call, contact_created, host, run, run_with};

fn assert_stopped(report: &Report, outcome: Outcome, limit: &str, size: &str) {
    let error = report.error.as_deref().unwrap_or_default();
    assert_eq!(report.outcome, outcome, "{error}");
    assert!(error.contains(limit) && error.contains(size), "{error}");
}

#[tokio::test]
async fn an_endless_loop_is_stopped_by_the_deadline() {
    let deadline = Duration::from_millis(50);
    let report = run(
        Limits {
            fuel: u64::MAX,
            deadline,
            ..Limits::default()
        },
        component(LOOP),
    )
    .await;
    assert_stopped(&report, Outcome::TimedOut, "deadline", "50 ms");
    assert!(report.usage.duration >= deadline);
    assert!(report.usage.fuel > 0);
}

#[tokio::test]
async fn an_endless_loop_is_stopped_by_fuel_after_the_same_work_each_time() {
    let limits = Limits {
        fuel: 100_000,
        deadline: Duration::from_secs(60),
        ..Limits::default()
    };
    let first = run(limits.clone(), component(LOOP)).await;
    assert_stopped(&first, Outcome::OutOfFuel, "fuel", "100000");
    assert_eq!(
        run(limits, component(LOOP)).await.usage.fuel,
        first.usage.fuel
    );
}

#[tokio::test]
async fn a_looping_guest_leaves_the_thread_to_others() {
    let limits = Limits {
        fuel: u64::MAX,
        deadline: Duration::from_millis(50),
        ..Limits::default()
    };
    let host = host(limits);
    let looping = run_with(&host, component(LOOP), Tenant::granted(&[]));
    let mut turns = 0;
    let others = async {
        loop {
            turns += 1;
            tokio::task::yield_now().await;
        }
    };
    // One thread: the others get turns only while the guest yields.
    tokio::select! {
        report = looping => assert_eq!(report.outcome, Outcome::TimedOut),
        () = others => unreachable!("it never ends"),
    }
    assert!(turns > 2, "{turns}");
}

#[tokio::test]
async fn waiting_for_records_counts_against_the_deadline() {
    let host = host(Limits {
        deadline: Duration::from_millis(20),
        ..Limits::default()
    });
    let report = host
        .run(call(
            component(GET_AND_LOG),
            Tenant::deaf(),
            contact_created(),
        ))
        .await
        .unwrap();
    assert_stopped(&report, Outcome::TimedOut, "deadline", "20 ms");
    assert_eq!(report.usage.host_calls, 1);
}

#[tokio::test]
async fn growing_memory_is_stopped() {
    let grow = "(loop $on (drop (memory.grow (i32.const 16))) (br $on)) (i32.const 0)";
    let report = run(
        Limits {
            memory_bytes: 8 << 20,
            ..Limits::default()
        },
        component(grow),
    )
    .await;
    assert_stopped(&report, Outcome::OutOfMemory, "memory_bytes", "8388608");
}

#[tokio::test]
async fn memory_that_grows_in_many_steps_leaves_pauses_to_others() {
    let grow = "(local.set $n (i32.const 100))
        (loop $on
            (drop (memory.grow (i32.const 1)))
            (local.set $n (i32.sub (local.get $n) (i32.const 1)))
            (br_if $on (local.get $n)))
        (i32.const 0)";
    let report = run(Limits::default(), component(grow)).await;
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
    assert!(report.usage.memory > 100 << 16, "{report:?}");
    let six = Duration::from_millis(6);
    assert!(report.usage.duration >= six, "{report:?}");
}

#[tokio::test]
async fn endless_recursion_is_stopped() {
    let report = run(Limits::default(), component("(call $deeper (i32.const 0))")).await;
    assert_stopped(&report, Outcome::LimitExceeded, "stack_bytes", "524288");
}

#[tokio::test]
async fn a_flood_of_host_calls_is_stopped() {
    let flood = "(loop $on
            (call $log (i32.const 1) (i32.const 0) (i32.const 0)) (br $on)) (i32.const 0)";
    let limits = Limits {
        host_calls: 100,
        ..Limits::default()
    };
    let report = run(limits, component(flood)).await;
    assert_stopped(&report, Outcome::LimitExceeded, "host_calls", "100 times");
    assert_eq!(report.usage.host_calls, 100);
}

#[tokio::test]
async fn a_flood_of_log_lines_is_stopped_and_the_first_ones_are_kept() {
    let flood = "(loop $on
            (call $log (i32.const 1) (i32.const 0) (i32.const 4)) (br $on)) (i32.const 0)";
    let report = run(
        Limits {
            log_lines: 10,
            ..Limits::default()
        },
        component(flood),
    )
    .await;
    assert_stopped(&report, Outcome::LimitExceeded, "log_lines", "10 lines");
    assert_eq!(report.logs.len(), 10);
}

#[tokio::test]
async fn a_flood_of_log_bytes_is_stopped() {
    let flood = "(loop $on
            (call $log (i32.const 1) (i32.const 0) (i32.const 1000)) (br $on)) (i32.const 0)";
    let report = run(
        Limits {
            log_bytes: 10_000,
            ..Limits::default()
        },
        component(flood),
    )
    .await;
    assert_stopped(&report, Outcome::LimitExceeded, "log_bytes", "10000 bytes");
    assert_eq!(report.logs.len(), 10);
}

#[tokio::test]
async fn a_giant_argument_is_stopped_before_it_is_copied() {
    let giant = "
        (drop (memory.grow (i32.const 32)))
        (call $log (i32.const 1) (i32.const 0) (i32.const 2000000)) (i32.const 0)";
    let report = run(
        Limits {
            call_bytes: 1 << 20,
            ..Limits::default()
        },
        component(giant),
    )
    .await;
    assert_stopped(&report, Outcome::LimitExceeded, "call_bytes", "1048576");
    assert!(report.logs.is_empty());
}

#[tokio::test]
async fn a_giant_error_is_stopped_before_it_is_looked_through() {
    let giant = "
        (i32.store (i32.const 516) (i32.mul (memory.grow (i32.const 32)) (i32.const 65536)))
        (i32.store (i32.const 520) (i32.const 1000001))
        (i32.store8 (i32.const 512) (i32.const 1))
        (i32.const 512)";
    let limits = Limits {
        answer_bytes: 1_000_000,
        ..Limits::default()
    };
    let report = run(limits, component(giant)).await;
    assert_stopped(&report, Outcome::LimitExceeded, "answer_bytes", "1000000");
}

#[tokio::test]
async fn a_trap_is_told_apart_from_every_limit() {
    let report = run(Limits::default(), component("(unreachable)")).await;
    assert_eq!(report.outcome, Outcome::Trapped);
    let error = report.error.unwrap();
    assert!(
        error.contains("`unreachable` instruction executed"),
        "{error}"
    );
}

#[tokio::test]
async fn a_broken_pointer_is_a_trap() {
    let wild = "(call $log (i32.const 1) (i32.const -8) (i32.const 8)) (i32.const 0)";
    let report = run(Limits::default(), component(wild)).await;
    assert_eq!(report.outcome, Outcome::Trapped, "{:?}", report.error);
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_a_trap() {
    let odd = "(i32.store8 (i32.const 64) (i32.const 255))
        (call $log (i32.const 1) (i32.const 64) (i32.const 1)) (i32.const 0)";
    let report = run(Limits::default(), component(odd)).await;
    assert_eq!(report.outcome, Outcome::Trapped, "{:?}", report.error);
}

#[tokio::test]
async fn nothing_is_left_for_the_next_call() {
    let counts = "
        (i32.store (i32.const 64) (i32.add (i32.const 48) (i32.load (i32.const 68))))
        (call $log (i32.const 1) (i32.const 64) (i32.const 1))
        (i32.store (i32.const 68) (i32.const 1))
        (i32.const 0)";
    let host = host(Limits::default());
    for _ in 0..3 {
        let report = run_with(&host, component(counts), Tenant::granted(&[])).await;
        assert_eq!(report.logs[0].message, "0");
    }
}

#[tokio::test]
async fn runs_beyond_the_slots_wait_their_turn() {
    let host = host(Limits {
        concurrent_runs: 2,
        ..Limits::default()
    });
    let runs = (0..20).map(|_| run_with(&host, component(LOG_KIND), Tenant::granted(&[])));
    for report in futures::future::join_all(runs).await {
        assert_eq!(report.outcome, Outcome::Succeeded, "{:?}", report.error);
    }
}

#[tokio::test]
async fn a_component_other_than_the_installed_one_never_runs() {
    let host = host(Limits::default());
    let mut call = call(component(SUCCEED), Tenant::granted(&[]), contact_created());
    call.component = Box::new(|| async { Ok(Bytes::from(component(LOOP)).into()) }.boxed());
    let report = host.run(call).await.unwrap();
    assert_eq!(report.outcome, Outcome::Refused);
}

#[tokio::test]
async fn rows_end_at_their_number_read_and_written() {
    let limits = Limits {
        rows_read: 50,
        rows_written: 5,
        ..Limits::default()
    };
    // A page of 30 records after another.
    let read = "(loop $on
        (call $list
            (i32.load offset=24 (local.get $event)) (i32.load offset=28 (local.get $event))
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 30)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1024))
        (br $on)) (i32.const 0)";
    let tenant = Tenant::granted(&["contacts.read"]);
    let report = run_with(&host(limits.clone()), component(read), tenant).await;
    assert_stopped(&report, Outcome::LimitExceeded, "rows_read", "50 records");
    assert_eq!(report.usage.host_calls, 2);

    // The tenant answers a question with its text: `{"data":[1,1,1]}`, three groups.
    let group = "
        (i64.store (i32.const 64) (i64.const 0x3a2261746164227b))
        (i64.store (i32.const 72) (i64.const 0x7d5d312c312c315b))
        (loop $on
        (call $aggregate
            (i32.load offset=24 (local.get $event)) (i32.load offset=28 (local.get $event))
            (i32.const 64) (i32.const 16) (i32.const 1024))
        (br $on)) (i32.const 0)";
    let tenant = Tenant::granted(&["contacts.read"]);
    let report = run_with(&host(limits.clone()), component(group), tenant).await;
    assert_stopped(&report, Outcome::LimitExceeded, "rows_read", "50 records");
    assert_eq!(report.usage.host_calls, 17);

    let write = "(loop $on
        (call $update
            (i32.load offset=24 (local.get $event)) (i32.load offset=28 (local.get $event))
            (i32.load offset=40 (local.get $event)) (i32.load offset=44 (local.get $event))
            (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 1024))
        (br $on)) (i32.const 0)";
    let tenant = Tenant::granted(&["contacts.update"]);
    let report = run_with(&host(limits), component(write), tenant).await;
    assert_stopped(&report, Outcome::LimitExceeded, "rows_written", "5 records");
    assert_eq!(report.usage.rows_written, 5);
}

#[tokio::test]
async fn a_call_may_be_bounded_tighter_than_its_host_and_never_wider() {
    let host = host(Limits {
        fuel: 1_000_000,
        ..Limits::default()
    });
    for (fuel, named) in [(Some(5_000), "5000"), (Some(u64::MAX), "1000000")] {
        let mut call = call(component(LOOP), Tenant::granted(&[]), contact_created());
        call.fuel = fuel;
        let report = host.run(call).await.unwrap();
        assert_stopped(&report, Outcome::OutOfFuel, "fuel", named);
    }
    let mut call = call(component(GET_AND_LOG), Tenant::deaf(), contact_created());
    call.deadline = Some(Duration::from_millis(30));
    let report = host.run(call).await.unwrap();
    assert_stopped(&report, Outcome::TimedOut, "deadline", "30 ms");
}

#[tokio::test]
async fn pl_a_cancelled_run_stops_within_a_second_spinning_or_waiting() {
    let host = host(Limits {
        fuel: u64::MAX,
        deadline: Duration::from_secs(60),
        ..Limits::default()
    });
    for (guest, tenant) in [(LOOP, Tenant::granted(&[])), (GET_AND_LOG, Tenant::deaf())] {
        // Ready, so that it begins at once.
        host.inspect(component(guest).into()).await.unwrap();
        let call = call(component(guest), tenant, contact_created());
        let cancel = call.cancel.clone();
        let running = host.run(call);
        // One thread: this side gets turns only while the guest yields or waits.
        let stop = async {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            cancel.cancel();
        };
        let (report, ()) = tokio::join!(running, stop);
        let report = report.unwrap();
        assert_eq!(report.outcome, Outcome::Cancelled, "{report:?}");
        assert!(report.usage.duration < Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_run_cancelled_before_it_begins_never_enters_the_guest() {
    let call = call(component(LOOP), Tenant::granted(&[]), contact_created());
    call.cancel.cancel();
    let report = host(Limits::default()).run(call).await.unwrap();
    assert_eq!(report.outcome, Outcome::Refused);
    assert_eq!(report.usage.fuel, 0);
}

#[tokio::test]
async fn growing_tables_are_stopped() {
    let guest = Guest::new(
        "handle",
        "(loop $on (drop (table.grow $t (ref.null func) (i32.const 1000))) (br $on)) (i32.const 0)",
    );
    let limits = Limits {
        table_elements: 10_000,
        ..Limits::default()
    };
    let report = run(limits, guest.more("(table $t 1 funcref)").component()).await;
    assert_stopped(&report, Outcome::LimitExceeded, "table_elements", "10000");
}
