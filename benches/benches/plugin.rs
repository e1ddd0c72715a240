//! A plugin's run: fresh instance, call, one read, one update, one log line, instance gone.
//!
//! The records behind the door are in memory, so that it is the host that is measured. The Rust
//! guest is lead-scoring, compiled here where a compiler for WebAssembly is installed.
//! Targets: 20 µs for the Rust guest.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use criterion::Criterion;
use crm_core::clock::Clock;
use crm_core::event::Event;
use crm_core::hook::{Call, Door, DoorPage, DoorQuery, Outcome, PluginHost as _, Report};
use crm_core::id::{EventId, PluginId, RecordId, TenantId};
use crm_core::plugin::{Plugin, PluginStatus};
use crm_core::{Error, Result};
use crm_plugins::{Host, Limits};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const CONTACT: &str = r#"{"id":"0195f3a0-0000-7000-8000-000000000001","version":1,"owner_id":null,"name":"Ada","email":"ada@engines.example","company":"Engines","job_title":"Owner","tags":["vip"],"score":null,"status":"lead"}"#;

const MANIFEST: &str = r#"
    name = "probe"
    version = "1.0.0"
    triggers = ["contact.created"]
    [[grants]]
    module = "contacts"
    actions = ["read", "update"]
"#;

/// A guest in the text format: reads the event's record, sets a field of it, logs the event's kind.
const GUEST: &str = r#"(module
    (import "crm:automation/log@1.0.0" "log" (func $log (param i32 i32 i32)))
    (import "crm:automation/records@1.0.0" "get" (func $get (param i32 i32 i32 i32 i32)))
    (import "crm:automation/records@1.0.0" "update"
        (func $update (param i32 i32 i32 i32 i32 i64 i32 i32 i32)))
    (memory (export "memory") 1)
    (data (i32.const 64) "{\"score\":7}")
    (global $next (mut i32) (i32.const 4096))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
        (global.set $next (i32.add (local.get $at) (local.get 3)))
        (local.get $at))
    (func (export "handle") (param $event i32) (result i32)
        (call $get
            (i32.load offset=24 (local.get $event)) (i32.load offset=28 (local.get $event))
            (i32.load offset=40 (local.get $event)) (i32.load offset=44 (local.get $event))
            (i32.const 1024))
        (call $update
            (i32.load offset=24 (local.get $event)) (i32.load offset=28 (local.get $event))
            (i32.load offset=40 (local.get $event)) (i32.load offset=44 (local.get $event))
            (i32.const 0) (i64.const 0)
            (i32.const 64) (i32.const 11)
            (i32.const 1024))
        (call $log (i32.const 1)
            (i32.load offset=32 (local.get $event)) (i32.load offset=36 (local.get $event)))
        (i32.const 0)))"#;

/// A component of the guest above, with its manifest.
fn text_guest() -> anyhow::Result<Vec<u8>> {
    let mut module = wat::parse_str(GUEST)?;
    let mut resolve = Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../crm-plugins/wit");
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], Some("plugin"))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    custom_section(&mut module, b"crm:manifest", MANIFEST.as_bytes());
    Ok(crm_plugins::componentize(&module)?)
}

/// Appends a custom section (WebAssembly core specification, 5.5.3).
fn custom_section(module: &mut Vec<u8>, name: &[u8], data: &[u8]) {
    let mut section = Vec::new();
    leb128(&mut section, name.len());
    section.extend_from_slice(name);
    section.extend_from_slice(data);
    module.push(0);
    leb128(module, section.len());
    module.extend(section);
}

fn leb128(out: &mut Vec<u8>, mut value: usize) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// One contact, which every update leaves as it is.
struct OneContact;

impl Door for OneContact {
    fn get<'a>(&'a self, _: &'a str, _: RecordId) -> BoxFuture<'a, Result<String>> {
        async { Ok(CONTACT.to_owned()) }.boxed()
    }

    fn list<'a>(&'a self, _: &'a str, _: DoorQuery) -> BoxFuture<'a, Result<DoorPage>> {
        async { Err(Error::NotFound) }.boxed()
    }

    fn create<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<String>> {
        async { Err(Error::NotFound) }.boxed()
    }

    fn update<'a>(
        &'a self,
        _: &'a str,
        _: RecordId,
        _: Option<i64>,
        _: &'a str,
    ) -> BoxFuture<'a, Result<String>> {
        async { Ok(CONTACT.to_owned()) }.boxed()
    }
}

/// A plugin that the host holds compiled, and an event for it.
struct Ready {
    host: Arc<Host>,
    plugin: Arc<Plugin>,
    event: Arc<Event>,
    door: Arc<dyn Door>,
}

impl Ready {
    async fn new(host: Arc<Host>, component: Vec<u8>) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let sha256 = Sha256::digest(&component).into();
        let manifest = host.inspect(Bytes::from(component)).await?;
        let (id, tenant_id) = (EventId(clock.new_id()), TenantId(clock.new_id()));
        let plugin = Plugin {
            id: PluginId(clock.new_id()),
            tenant_id,
            manifest,
            sha256,
            status: PluginStatus::Enabled,
            installed_by: None,
            created_at: clock.now(),
            enabled_at: None,
        };
        let event = Event {
            id,
            sequence: 1,
            tenant_id,
            module: "contacts".into(),
            kind: "contact.created".into(),
            record_id: "0195f3a0-0000-7000-8000-000000000001".parse()?,
            before: None,
            after: Some(json!({ "id": "0195f3a0-0000-7000-8000-000000000001", "name": "Ada" })),
            actor: "operator".into(),
            request_id: "bench".into(),
            root_id: id,
            depth: 0,
            occurred_at: clock.now(),
        };
        let ready = Self {
            host,
            plugin: Arc::new(plugin),
            event: Arc::new(event),
            door: Arc::new(OneContact),
        };
        let report = ready.run().await;
        anyhow::ensure!(report.outcome == Outcome::Succeeded, "{report:?}");
        println!(
            "{}: {} host calls, {} fuel",
            ready.plugin.manifest.name, report.host_calls, report.fuel
        );
        Ok(ready)
    }

    async fn run(&self) -> Report {
        let call = Call {
            plugin: self.plugin.clone(),
            event: self.event.clone(),
            door: self.door.clone(),
            component: Box::new(|| async { Err(Error::NotFound) }.boxed()),
        };
        self.host
            .handle(call)
            .await
            .expect("the component is compiled")
    }
}

fn main() {
    let runtime = Runtime::new().unwrap();
    let host = Arc::new(Host::new(Limits::default()).unwrap());
    let ready = |component| {
        runtime
            .block_on(Ready::new(host.clone(), component))
            .unwrap()
    };
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("plugin, fresh instance and call");

    let text = ready(text_guest().unwrap());
    group.bench_function("text format", |b| b.to_async(&runtime).iter(|| text.run()));

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/plugins/lead-scoring");
    match crm_plugins::build(&folder) {
        Ok(component) => {
            let rust = ready(component);
            group.bench_function("Rust, lead-scoring (target: 20 µs)", |b| {
                b.to_async(&runtime).iter(|| rust.run());
            });
        }
        Err(error) => println!("without the Rust guest: {error}"),
    }
    group.finish();
    criterion.final_summary();
}
