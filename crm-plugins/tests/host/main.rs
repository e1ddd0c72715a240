//! The host against guests written in the text format and assembled here: no guest compiler needed.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in what its scenarios share"
)]

mod answers;
mod calls;
mod door;
mod end_to_end;
mod examples;
mod forever;
mod fuzz;
mod fuzz_door;
mod guest;
mod harness;
mod imports;
mod kept;
mod limits;
mod memory_door;
mod real;
mod records;
mod replay;
mod upload;
mod worker;

use std::sync::Arc;

use bytes::Bytes;
use crm_core::clock::Clock;
use crm_core::event::Event;
use crm_core::hook::{Call, Door, Fields, Input, PluginHost, Report, WokenBy};
use crm_core::id::{EventId, TenantId};
use crm_core::value::Value;
use crm_plugins::{Host, Limits};
use futures::FutureExt;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use door::{CONTACT, Tenant};

/// Whether to compile the real guests: where `CRM_TEST_GUESTS=1` says that the guests' compilers
/// are installed. There, a missing compiler is a failure.
fn guests_wanted() -> bool {
    let wanted = std::env::var("CRM_TEST_GUESTS").as_deref() == Ok("1");
    if !wanted {
        eprintln!("not compiled: set CRM_TEST_GUESTS=1 where the guests' compilers are installed");
    }
    wanted
}

fn host(limits: Limits) -> Host {
    Host::in_process(limits).unwrap()
}

/// Runs a component once, on a host with these limits, for the creation of the contact.
async fn run(limits: Limits, component: Vec<u8>) -> Report {
    run_with(&host(limits), component, Tenant::granted(&[])).await
}

async fn run_with(host: &Host, component: Vec<u8>, door: Arc<dyn Door>) -> Report {
    run_on(host, component, door, contact_created()).await
}

async fn run_on(host: &Host, component: Vec<u8>, door: Arc<dyn Door>, input: Input) -> Report {
    host.run(call(component, door, input)).await.unwrap()
}

fn call(component: Vec<u8>, door: Arc<dyn Door>, input: Input) -> Call {
    let component = Bytes::from(component);
    Call {
        sha256: Sha256::digest(&component).into(),
        component: Box::new(move || async move { Ok(component.into()) }.boxed()),
        input,
        seed: [7; 32],
        now: "2030-01-31T12:00:00.25Z".parse().unwrap(),
        fuel: None,
        deadline: None,
        cancel: CancellationToken::new(),
        door,
    }
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Fields {
    fields
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
}

fn contact_created() -> Input {
    let clock = Clock::system();
    let id = EventId(clock.new_id());
    let event = Event {
        id,
        sequence: 1,
        tenant_id: TenantId(clock.new_id()),
        module: "contacts".into(),
        kind: "contact.created".into(),
        record_id: CONTACT.parse().unwrap(),
        before: None,
        after: None,
        impersonator: None,
        actor: "operator".into(),
        request_id: "request".into(),
        root_id: id,
        depth: 0,
        occurred_at: clock.now(),
        principal: None,
    };
    Input::Event(Arc::new(WokenBy {
        event,
        before: None,
        after: Some(fields([("id", Value::Uuid(CONTACT.parse().unwrap()))])),
        data: None,
    }))
}
