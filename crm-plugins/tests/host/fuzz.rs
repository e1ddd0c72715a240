//! Uploads and guests that nobody thought of, for a bounded time: the host refuses or stops them,
//! and goes on. `PROPTEST_CASES` makes it longer.

use crm_core::hook::PluginHost;
use crm_plugins::{Host, Limits, check};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::door::Tenant;
use super::guest::{GET_AND_LOG, Guest, IMPORTS, SUCCEED, component};
use super::run_with;

const EVERYTHING: &[&str] = &[
    "contacts.read",
    "contacts.create",
    "contacts.update",
    "contacts.delete",
    "emit",
    "http",
    "jobs",
    "kv",
    "secrets",
];

thread_local! {
    static STAGE: (tokio::runtime::Runtime, Host, Vec<u8>) = (
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        super::host(Limits { fuel: 10_000_000, ..Limits::default() }),
        component(GET_AND_LOG),
    );
}

/// A value that is often at an edge.
fn number() -> impl Strategy<Value = i32> {
    prop_oneof![
        -2..3_i32,
        0..0x1_0000_i32,
        0xfff0..0x1_0010_i32,
        any::<i32>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn pl_changed_bytes_are_refused_or_run_and_the_host_goes_on(
        changes in vec((any::<Index>(), any::<u8>()), 1..4),
        cut in proptest::option::weighted(0.2, any::<Index>()),
    ) {
        STAGE.with(|(runtime, host, whole)| {
            let mut bent = whole.clone();
            for (at, byte) in &changes {
                let at = at.index(bent.len());
                bent[at] = *byte;
            }
            if let Some(cut) = cut {
                bent.truncate(cut.index(bent.len()));
            }
            let accepted = runtime.block_on(host.inspect(bent.clone().into())).is_ok();
            let judged = check(&bent, &Limits::default()).is_ok();
            prop_assert!(judged || !accepted, "compiled what the check refuses");
            if accepted {
                runtime.block_on(run_with(host, bent, Tenant::granted(EVERYTHING)));
            }
            Ok(())
        })?;
    }

    #[test]
    fn pl_any_bytes_are_refused(bytes in vec(any::<u8>(), 0..512)) {
        let mut component = b"\0asm\x0d\0\x01\0".to_vec();
        component.extend(bytes);
        prop_assert!(check(&component, &Limits::default()).is_err());
    }

    #[test]
    fn pl_host_functions_take_any_argument(
        calls in vec((any::<Index>(), vec(number(), 12)), 1..5),
        memory in vec(number(), 8),
    ) {
        let mut body = String::new();
        for (at, word) in memory.iter().enumerate() {
            body.push_str(&format!("(i32.store (i32.const {}) (i32.const {word}))", at * 8));
        }
        for (import, arguments) in &calls {
            let (function, .., parameters) = import.get(&IMPORTS);
            let kinds = parameters.split(['(', ')', ' ']).skip_while(|word| *word != "param");
            let kinds = kinds.take_while(|word| *word != "result");
            let kinds = kinds.filter(|word| ["i32", "i64"].contains(word));
            let arguments: String = kinds
                .zip(arguments)
                .map(|(kind, number)| format!("({kind}.const {number})"))
                .collect();
            let call = format!("(call ${function} {arguments})");
            let answers = parameters.contains("result");
            body.push_str(&if answers { format!("(drop {call})") } else { call });
        }
        body.push_str("(i32.const 0)");
        // Jobs are for a plugin that exports `cron`.
        let guest = Guest::new("handle", &body).and("cron", SUCCEED).component();
        STAGE.with(|(runtime, host, _)| {
            let tenant = Tenant::granted(EVERYTHING);
            let report = runtime.block_on(run_with(host, guest, tenant));
            prop_assert!(report.usage.host_calls as usize <= calls.len(), "{report:?}");
            Ok(())
        })?;
    }
}
