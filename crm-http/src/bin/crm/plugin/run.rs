//! `crm plugin run`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::DateTime;
use clap::Args;
use crm_core::clock::Clock;
use crm_core::event::Event;
use crm_core::hook::{Call, Door, DoorPage, DoorQuery, Outcome as Ended, PluginHost as _};
use crm_core::id::{PluginId, RecordId};
use crm_core::plugin::{GrantAction, Manifest, Plugin, PluginStatus};
use crm_core::{Error, Result};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::Outcome;
use crate::stdout::say;

/// Run a component once on an event, without a database
///
/// The event is a JSON file in the form that subscribers receive. The records the plugin sees are
/// those of the event itself; what it writes is printed and kept nowhere.
#[derive(Args)]
#[command(
    after_long_help = "Example:\n  crm plugin run lead-scoring.wasm --event contact-created.json"
)]
pub(crate) struct Run {
    /// The component
    file: PathBuf,

    /// The event, as JSON
    #[arg(long, value_name = "FILE")]
    event: PathBuf,
}

impl Run {
    pub(crate) async fn run(self) -> Outcome {
        let component = super::read(&self.file)?;
        let event = std::fs::read(&self.event)
            .map_err(|error| format!("{} cannot be read: {error}", self.event.display()))?;
        let event: Event = serde_json::from_slice(&event)
            .map_err(|error| format!("{} is not an event: {error}", self.event.display()))?;
        let host = crm_plugins::Host::new(crm_plugins::Limits::default())?;
        let manifest = host.inspect(component.clone()).await?;

        let sha256 = Sha256::digest(&component).into();
        let rehearsal = Arc::new(Rehearsal::new(manifest.clone(), &event));
        let report = host
            .handle(Call {
                plugin: Arc::new(plugin(manifest, sha256, &event)),
                event: Arc::new(event),
                door: rehearsal.clone(),
                component: Box::new(move || async move { Ok(component) }.boxed()),
            })
            .await?;

        for line in &report.logs {
            say!("log   {:?}: {}", line.level, line.message);
        }
        for write in rehearsal.writes() {
            say!("{write}");
        }
        say!(
            "{} with {} fuel in {} µs, {} host calls",
            report.outcome,
            report.fuel,
            report.duration.as_micros(),
            report.host_calls
        );
        match report.outcome {
            Ended::Succeeded => Ok(()),
            outcome => Err(report.error.unwrap_or_else(|| outcome.to_string()).into()),
        }
    }
}

fn plugin(manifest: Manifest, sha256: [u8; 32], event: &Event) -> Plugin {
    Plugin {
        id: PluginId(Clock::system().new_id()),
        tenant_id: event.tenant_id,
        manifest,
        sha256,
        status: PluginStatus::Enabled,
        installed_by: None,
        created_at: DateTime::UNIX_EPOCH,
        enabled_at: None,
    }
}

/// Records in memory: the event's own, and what the plugin makes of it.
struct Rehearsal {
    manifest: Manifest,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    records: BTreeMap<(String, RecordId), Map<String, Value>>,
    writes: Vec<String>,
}

impl Rehearsal {
    fn new(manifest: Manifest, event: &Event) -> Self {
        let mut state = State::default();
        if let Some(Value::Object(record)) = &event.after {
            state
                .records
                .insert((event.module.clone(), event.record_id), record.clone());
        }
        Self {
            manifest,
            clock: Clock::system(),
            state: Mutex::new(state),
        }
    }

    fn writes(&self) -> Vec<String> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .writes
            .clone()
    }

    fn check(&self, module: &str, action: GrantAction) -> Result<()> {
        let mut grants = self.manifest.grants.iter();
        if grants.any(|grant| grant.module == *module && grant.actions.contains(&action)) {
            Ok(())
        } else {
            Err(Error::Forbidden {
                permission: format!("{module}.{action}"),
            })
        }
    }

    fn write(
        &self,
        module: &str,
        action: GrantAction,
        id: RecordId,
        values: &str,
    ) -> Result<String> {
        self.check(module, action)?;
        let values: Map<String, Value> = serde_json::from_str(values).map_err(|_| {
            Error::invalid("", "malformed_json", "the values are not a JSON object")
        })?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{action} {module}/{id} {}", Value::Object(values.clone()));
        let key = (module.to_owned(), id);
        if action == GrantAction::Update && !state.records.contains_key(&key) {
            return Err(Error::NotFound);
        }
        state.writes.push(line);
        let record = state.records.entry(key).or_default();
        let version = record.get("version").and_then(Value::as_i64).unwrap_or(0) + 1;
        record.extend(values);
        record.insert("id".into(), id.to_string().into());
        record.insert("version".into(), version.into());
        Ok(Value::Object(record.clone()).to_string())
    }
}

impl Door for Rehearsal {
    fn get<'a>(&'a self, module: &'a str, id: RecordId) -> BoxFuture<'a, Result<String>> {
        let found = self.check(module, GrantAction::Read).and_then(|()| {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let record = state
                .records
                .get(&(module.to_owned(), id))
                .ok_or(Error::NotFound)?;
            Ok(Value::Object(record.clone()).to_string())
        });
        async move { found }.boxed()
    }

    fn list<'a>(&'a self, module: &'a str, _query: DoorQuery) -> BoxFuture<'a, Result<DoorPage>> {
        let page = self.check(module, GrantAction::Read).map(|()| {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let records = state.records.iter().filter(|((name, _), _)| name == module);
            let records = records.map(|(_, record)| Value::Object(record.clone()).to_string());
            DoorPage {
                records: records.collect(),
                next_cursor: None,
            }
        });
        async move { page }.boxed()
    }

    fn create<'a>(&'a self, module: &'a str, values: &'a str) -> BoxFuture<'a, Result<String>> {
        let id = RecordId(self.clock.new_id());
        let made = self.write(module, GrantAction::Create, id, values);
        async move { made }.boxed()
    }

    fn update<'a>(
        &'a self,
        module: &'a str,
        id: RecordId,
        _version: Option<i64>,
        values: &'a str,
    ) -> BoxFuture<'a, Result<String>> {
        let changed = self.write(module, GrantAction::Update, id, values);
        async move { changed }.boxed()
    }
}
