//! The host against guests written in the text format and assembled here: no guest compiler needed.

mod end_to_end;
mod guest;
mod limits;
mod real;
mod records;
mod upload;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use crm_core::clock::Clock;
use crm_core::event::Event;
use crm_core::hook::{Call, Door, DoorPage, DoorQuery, PluginHost, Report};
use crm_core::id::{EventId, PluginId, RecordId, TenantId};
use crm_core::plugin::{Manifest, Plugin, PluginStatus};
use crm_core::{Error, Result};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use crate::compile::hash;
use crate::{Host, Limits};

/// Whether to compile the real guests: where `CRM_TEST_GUESTS=1` says that a guest compiler is
/// installed. There, a missing compiler is a failure.
fn guests_wanted() -> bool {
    let wanted = std::env::var("CRM_TEST_GUESTS").as_deref() == Ok("1");
    if !wanted {
        eprintln!("not compiled: set CRM_TEST_GUESTS=1 where a guest compiler is installed");
    }
    wanted
}

fn host(limits: Limits) -> Host {
    Host::new(limits).unwrap()
}

/// Runs a component once, on a host with these limits, for the creation of the contact.
async fn run(limits: Limits, component: Vec<u8>) -> Report {
    run_with(&host(limits), component, Contacts::granted(&[])).await
}

async fn run_with(host: &Host, component: Vec<u8>, door: Arc<Contacts>) -> Report {
    let call = call(component, door, contact_created());
    host.handle(call).await.unwrap()
}

fn call(component: Vec<u8>, door: Arc<dyn Door>, event: Event) -> Call {
    let plugin = Plugin {
        id: PluginId(Clock::system().new_id()),
        tenant_id: event.tenant_id,
        manifest: Manifest::parse(guest::MANIFEST).unwrap(),
        sha256: hash(&component),
        status: PluginStatus::Enabled,
        installed_by: None,
        created_at: event.occurred_at,
        enabled_at: None,
    };
    let component = Bytes::from(component);
    Call {
        plugin: Arc::new(plugin),
        event: Arc::new(event),
        door,
        component: Box::new(move || async move { Ok(component) }.boxed()),
    }
}

const CONTACT: &str = "0195f3a0-0000-7000-8000-000000000001";

fn contact_created() -> Event {
    let clock = Clock::system();
    let id = EventId(clock.new_id());
    Event {
        id,
        sequence: 1,
        tenant_id: TenantId(clock.new_id()),
        module: "contacts".into(),
        kind: "contact.created".into(),
        record_id: CONTACT.parse().unwrap(),
        before: None,
        after: Some(json!({ "id": CONTACT })),
        actor: "operator".into(),
        request_id: "request".into(),
        root_id: id,
        depth: 0,
        occurred_at: clock.now(),
    }
}

/// One contact behind a door that knows a plugin's rights.
struct Contacts {
    granted: &'static [&'static str],
    records: Mutex<HashMap<RecordId, Map<String, Value>>>,
}

impl Contacts {
    fn granted(granted: &'static [&'static str]) -> Arc<Self> {
        let contact = json!({
            "id": CONTACT, "version": 1, "name": "Ada", "email": "ada@engines.example",
            "company": "Engines", "job_title": "Owner", "tags": ["vip"], "score": null,
        });
        let contact = contact.as_object().unwrap().clone();
        let records = Mutex::new(HashMap::from([(CONTACT.parse().unwrap(), contact)]));
        Arc::new(Self { granted, records })
    }

    fn field(&self, name: &str) -> Value {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records[&CONTACT.parse().unwrap()][name].clone()
    }

    fn permit(&self, module: &str, action: &str) -> Result<()> {
        let permission = format!("{module}.{action}");
        if self.granted.contains(&&*permission) {
            Ok(())
        } else {
            Err(Error::Forbidden { permission })
        }
    }
}

impl Door for Contacts {
    fn get<'a>(&'a self, module: &'a str, id: RecordId) -> BoxFuture<'a, Result<String>> {
        async move {
            self.permit(module, "read")?;
            let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            records
                .get(&id)
                .map(|record| json!(record).to_string())
                .ok_or(Error::NotFound)
        }
        .boxed()
    }

    fn list<'a>(&'a self, module: &'a str, query: DoorQuery) -> BoxFuture<'a, Result<DoorPage>> {
        async move {
            self.permit(module, "read")?;
            let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            let most = query.limit as usize;
            let records = records
                .values()
                .take(most)
                .map(|record| json!(record).to_string());
            Ok(DoorPage {
                records: records.collect(),
                next_cursor: None,
            })
        }
        .boxed()
    }

    fn create<'a>(&'a self, module: &'a str, _values: &'a str) -> BoxFuture<'a, Result<String>> {
        async move {
            self.permit(module, "create")?;
            Err(Error::conflict(
                "already_exists",
                "That e-mail address is taken.",
            ))
        }
        .boxed()
    }

    fn update<'a>(
        &'a self,
        module: &'a str,
        id: RecordId,
        version: Option<i64>,
        values: &'a str,
    ) -> BoxFuture<'a, Result<String>> {
        async move {
            self.permit(module, "update")?;
            let values: Map<String, Value> = serde_json::from_str(values)
                .map_err(|_| Error::invalid("values", "malformed", "Write a JSON object."))?;
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            let record = records.get_mut(&id).ok_or(Error::NotFound)?;
            if version.is_some_and(|version| record["version"] != version) {
                return Err(Error::PreconditionFailed);
            }
            record.extend(values);
            Ok(json!(record).to_string())
        }
        .boxed()
    }
}
