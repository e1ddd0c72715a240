//! What plugins cost: a run (fresh instance, call, one read, one update, one log line, instance
//! gone) in each language, a trigger without a plugin, plugins that are idle, live or reloaded,
//! hostile ones, and what a hostile tenant does to another one. Each line names its target, where
//! there is one; the time of a run is held against Wasmtime alone, too, which tells a slow machine
//! from a slow host.
//!
//! The records behind the door are in memory, so that it is the host that is measured. Guests are
//! compiled here where their compilers are installed. With `BENCH_PLUGINS=10000` so many plugins
//! are idle instead of 200, and nothing else is measured: their compilation takes its time.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run has nobody to answer"
)]

mod bare;
mod door;
mod guest;
mod hostile;
mod idle;
mod metering;
mod neighbour;
mod seen;
mod trigger;

use std::sync::Arc;

use bytes::Bytes;
use crm_core::Error;
use crm_core::clock::Clock;
use crm_core::event::Event;
use crm_core::hook::{Call, Door, Input, Outcome, PluginHost as _, Report, WokenBy};
use crm_core::id::{EventId, TenantId};
use crm_core::value::Value;
use crm_plugins::{Host, Language, Limits, Worker};
use futures::FutureExt as _;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use bare::Bare;
use door::{CONTACT, OneContact};
use seen::{against, print, samples, shown};

/// As in `crm`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What this program is told when the host starts it as a compile worker.
const COMPILE_WORKER: &str = "compile-worker";

fn worker() -> Worker {
    Worker::new(std::env::current_exe().unwrap(), [COMPILE_WORKER])
}

fn contact_created() -> Event {
    let clock = Clock::system();
    let id = EventId(clock.new_id());
    Event {
        id,
        // Of before all that the database holds: what is remembered of the tenant is behind it.
        sequence: 0,
        tenant_id: TenantId(clock.new_id()),
        module: "contacts".into(),
        kind: "contact.created".into(),
        record_id: CONTACT.parse().unwrap(),
        before: None,
        after: None,
        actor: "operator".into(),
        impersonator: None,
        request_id: "bench".into(),
        root_id: id,
        depth: 0,
        occurred_at: clock.now(),
        principal: None,
    }
}

fn input() -> Input {
    let after = vec![("name".to_owned(), Value::Text("Ada".into()))];
    Input::Event(Arc::new(WokenBy {
        event: contact_created(),
        before: None,
        after: Some(after),
        data: None,
    }))
}

/// A plugin that the host holds compiled, and an event for it.
struct Ready {
    host: Arc<Host>,
    sha256: [u8; 32],
    input: Input,
    door: Arc<dyn Door>,
    cancel: CancellationToken,
}

impl Ready {
    async fn new(host: Arc<Host>, component: &[u8]) -> Self {
        let inspected = host.inspect(Bytes::copy_from_slice(component)).await;
        inspected.unwrap();
        Self::of(host, component)
    }

    fn of(host: Arc<Host>, component: &[u8]) -> Self {
        Self {
            host,
            sha256: Sha256::digest(component).into(),
            input: input(),
            door: Arc::new(OneContact::new()),
            cancel: CancellationToken::new(),
        }
    }

    async fn run(&self) -> Report {
        let call = Call {
            sha256: self.sha256,
            component: Box::new(|| async { Err(Error::NotFound) }.boxed()),
            input: self.input.clone(),
            seed: [7; 32],
            now: "2030-01-31T12:00:00Z".parse().unwrap(),
            fuel: None,
            deadline: None,
            cancel: self.cancel.clone(),
            door: self.door.clone(),
        };
        self.host.run(call).await.unwrap()
    }

    async fn succeed(&self) {
        let report = self.run().await;
        assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
    }
}

/// A guest that does the same work in this language, where its compiler is installed.
fn built(language: Language) -> Option<Vec<u8>> {
    guest::built(language)
        .inspect_err(|error| println!("without a guest in {language:?}: {error}"))
        .ok()
}

async fn fresh(guests: &[(&str, Option<&Vec<u8>>, &str)]) {
    let host = Arc::new(Host::new(Limits::default(), worker()).unwrap());
    let engine = bare::engine();
    for (name, component, target) in guests {
        let Some(component) = component else { continue };
        let ready = Ready::new(host.clone(), component).await;
        let report = ready.run().await;
        let (fuel, calls) = (report.usage.fuel, report.usage.host_calls);
        let mut times = samples(20_000, async || ready.succeed().await).await;
        let alone = Bare::new(&engine, component);
        let mut least = samples(20_000, async || alone.run().await).await;
        let what = format!("{name}: fresh instance and call");
        let seen = format!(
            "{}, {fuel} fuel, {calls} host calls; {}",
            shown(&mut times),
            against(&mut times, &mut least)
        );
        print(&what, &seen, target);
    }
}

fn main() {
    let told = std::env::args().nth(1);
    if told.is_some_and(|argument| argument == COMPILE_WORKER) {
        crm_plugins::compile_worker();
        return;
    }
    let text = guest::component(guest::WORK);
    let scoring = guest::lead_scoring().ok();
    let rust = built(Language::Rust);
    let script = built(Language::JavaScript);
    let python = built(Language::Python);
    let small = rust.as_ref().unwrap_or(&text);

    let one = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    if let Ok(wanted) = std::env::var("BENCH_PLUGINS") {
        one.block_on(idle::idle(small, wanted.parse().unwrap()));
        return;
    }
    one.block_on(async {
        fresh(&[
            ("text format", Some(&text), ""),
            ("Rust", rust.as_ref(), "1.5 times; p50 20 µs, p99 80 µs"),
            ("Rust, lead-scoring", scoring.as_ref(), ""),
            ("JavaScript", script.as_ref(), "1.5 times; p50 150 µs"),
            ("Python", python.as_ref(), "1.8 times; p50 2 ms"),
        ])
        .await;
        trigger::without_plugin(&text).await;
        idle::reloaded("Rust", small, "2.5 times; 100 µs").await;
        if let Some(script) = &script {
            idle::reloaded("JavaScript", script, "3 times; 1 ms").await;
        }
        idle::idle(small, 200).await;
        idle::live(small).await;
        hostile::stopped().await;
        hostile::cycles(1_000).await;
    });
    metering::metering();
    drop(one);
    let many = tokio::runtime::Runtime::new().unwrap();
    many.block_on(neighbour::disturbed(small));
}
