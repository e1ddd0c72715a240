//! A tenant in memory for authors: what their plugin finds there, and what it did.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use crm_core::clock::Clock;
use crm_core::hook::{Door, DoorPage, DoorQuery, DoorRequest, DoorResponse, Fields};
use crm_core::id::RecordId;
use crm_core::module::Ident;
use crm_core::plugin::{Grant, GrantAction, Manifest};
use crm_core::value::Value;
use crm_core::{Error, FieldError, Result};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use secrecy::SecretString;

/// The door of a plugin that is tried without a database: it allows what the manifest asks for and
/// refuses all else as a tenant's does, finds the records it was given, and keeps what the plugin
/// does. Filters and sorts have no effect; names, types and sizes of values are not judged.
pub struct MemoryDoor {
    manifest: Manifest,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    records: BTreeMap<(String, RecordId), Fields>,
    secrets: BTreeMap<String, SecretString>,
    kv: BTreeMap<String, Vec<u8>>,
    done: Vec<String>,
}

impl MemoryDoor {
    /// An empty tenant for a plugin with this manifest.
    pub fn new(manifest: Manifest) -> Self {
        Self {
            manifest,
            clock: Clock::system(),
            state: Mutex::default(),
        }
    }

    /// With a record.
    #[must_use]
    pub fn record(self, module: &str, id: RecordId, fields: Fields) -> Self {
        self.state().records.insert((module.to_owned(), id), fields);
        self
    }

    /// With a secret.
    #[must_use]
    pub fn secret(self, name: &str, secret: SecretString) -> Self {
        self.state().secrets.insert(name.to_owned(), secret);
        self
    }

    /// What the plugin did, one line each, such as `update contacts/0195… {"score":7}`.
    pub fn done(&self) -> Vec<String> {
        self.state().done.clone()
    }

    /// A record as the plugin left it.
    pub fn found(&self, module: &str, id: RecordId) -> Option<Fields> {
        self.state().records.get(&(module.to_owned(), id)).cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn granted(&self, module: &str, action: GrantAction) -> Result<&Grant> {
        let mut grants = self.manifest.grants.iter();
        let granted =
            grants.find(|grant| grant.module == *module && grant.actions.contains(&action));
        granted.ok_or_else(|| forbidden(format!("{module}.{action}")))
    }

    /// What the plugin may read of a record; of one that it may not read its id and version.
    fn shown(&self, module: &str, record: &Fields) -> Fields {
        let grant = self.granted(module, GrantAction::Read).ok();
        let shown = record.iter().filter(|(name, _)| match grant {
            Some(grant) => ALWAYS.contains(&name.as_str()) || covers(grant, name),
            None => ALWAYS[..2].contains(&name.as_str()),
        });
        shown.cloned().collect()
    }

    fn write(
        &self,
        module: &str,
        action: GrantAction,
        id: RecordId,
        expected: Option<i64>,
        values: Fields,
    ) -> Result<Fields> {
        let grant = self.granted(module, action)?;
        let foreign = values.iter().map(|(name, _)| name);
        let foreign =
            foreign.filter(|name| !covers(grant, name) && !ALWAYS.contains(&name.as_str()));
        let foreign: Vec<_> = foreign
            .map(|name| FieldError::new(name, "unknown_field", "The manifest does not ask for it."))
            .collect();
        if !foreign.is_empty() {
            return Err(Error::Invalid(foreign));
        }
        let key = (module.to_owned(), id);
        let mut state = self.state();
        let mut record = match (state.records.get(&key), action) {
            (Some(record), _) => record.clone(),
            (None, GrantAction::Create) => vec![
                ("id".to_owned(), Value::Uuid(id.0)),
                ("version".to_owned(), Value::Int(0)),
            ],
            (None, _) => return Err(Error::NotFound),
        };
        let version = version(&record);
        if expected.is_some_and(|expected| expected != version) {
            return Err(Error::PreconditionFailed);
        }
        let line = format!("{action} {module}/{id} {}", json(&values)?);
        state.done.push(line);
        let counted = ("version".to_owned(), Value::Int(version.saturating_add(1)));
        for (name, value) in values.into_iter().chain([counted]) {
            match record.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = value,
                None => record.push((name, value)),
            }
        }
        let shown = self.shown(module, &record);
        state.records.insert(key, record);
        Ok(shown)
    }
}

/// The fields that whoever reads a record sees, whatever else they may read.
const ALWAYS: [&str; 6] = [
    "id",
    "version",
    "created_at",
    "updated_at",
    "deleted_at",
    "merged_into",
];

fn covers(grant: &Grant, field: &str) -> bool {
    let fields = grant.fields.as_ref();
    fields.is_none_or(|fields| fields.iter().any(|known| *known == *field))
}

fn forbidden(permission: impl Into<String>) -> Error {
    Error::Forbidden {
        permission: permission.into(),
    }
}

/// Refuses what a tenant's door refuses by the name of the call.
fn asked(asked: bool, call: &str) -> Result<()> {
    asked.then_some(()).ok_or_else(|| forbidden(call))
}

/// Refuses a name that is none of those in the manifest.
fn named(names: &[Ident], call: &str, kind: &str, name: &str) -> Result<()> {
    asked(!names.is_empty(), call)?;
    let known = names.iter().any(|known| *known == *name);
    known
        .then_some(())
        .ok_or_else(|| forbidden(format!("{kind}.{name}")))
}

fn version(record: &Fields) -> i64 {
    let found = record.iter().find_map(|(name, value)| match value {
        Value::Int(version) if name == "version" => Some(*version),
        _ => None,
    });
    found.unwrap_or(0)
}

fn json(fields: &Fields) -> Result<String> {
    let object: BTreeMap<_, _> = fields.iter().map(|(name, value)| (name, value)).collect();
    serde_json::to_string(&object).map_err(Error::internal)
}

impl Door for MemoryDoor {
    fn get<'a>(&'a self, module: &'a str, id: RecordId) -> BoxFuture<'a, Result<Fields>> {
        let found = self
            .granted(module, GrantAction::Read)
            .and_then(|_| self.found(module, id).ok_or(Error::NotFound));
        ready(found.map(|record| self.shown(module, &record))).boxed()
    }

    fn list<'a>(&'a self, module: &'a str, query: DoorQuery) -> BoxFuture<'a, Result<DoorPage>> {
        let page = self.granted(module, GrantAction::Read).map(|_| {
            let state = self.state();
            let records = state.records.iter().filter(|((of, _), _)| of == module);
            let records = records.map(|(_, record)| self.shown(module, record));
            DoorPage {
                records: records.take(query.limit as usize).collect(),
                next_cursor: None,
            }
        });
        ready(page).boxed()
    }

    fn create<'a>(&'a self, module: &'a str, values: Fields) -> BoxFuture<'a, Result<Fields>> {
        let id = RecordId(self.clock.new_id());
        ready(self.write(module, GrantAction::Create, id, None, values)).boxed()
    }

    fn update<'a>(
        &'a self,
        module: &'a str,
        id: RecordId,
        version: Option<i64>,
        values: Fields,
    ) -> BoxFuture<'a, Result<Fields>> {
        ready(self.write(module, GrantAction::Update, id, version, values)).boxed()
    }

    fn delete<'a>(
        &'a self,
        module: &'a str,
        id: RecordId,
        expected: Option<i64>,
    ) -> BoxFuture<'a, Result<()>> {
        let gone = self.granted(module, GrantAction::Delete).and_then(|_| {
            let mut state = self.state();
            let key = (module.to_owned(), id);
            let record = state.records.get(&key).ok_or(Error::NotFound)?;
            if expected.is_some_and(|expected| expected != version(record)) {
                return Err(Error::PreconditionFailed);
            }
            state.records.remove(&key);
            state.done.push(format!("delete {module}/{id}"));
            Ok(())
        });
        ready(gone).boxed()
    }

    fn aggregate<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<String>> {
        let message = "there is no database to count in; try it in a tenant";
        ready(Err(Error::unavailable(message))).boxed()
    }

    fn emit<'a>(&'a self, name: &'a str, data: &'a str) -> BoxFuture<'a, Result<()>> {
        let told = named(&self.manifest.emits, "events.emit", "events", name);
        let told = told.map(|()| self.state().done.push(format!("emit {name} {data}")));
        ready(told).boxed()
    }

    fn kv_get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        let found = asked(self.manifest.kv, "kv.get");
        ready(found.map(|()| self.state().kv.get(key).cloned())).boxed()
    }

    fn kv_set<'a>(&'a self, key: &'a str, value: Vec<u8>) -> BoxFuture<'a, Result<()>> {
        let set = asked(self.manifest.kv, "kv.set").map(|()| {
            self.state().kv.insert(key.to_owned(), value);
        });
        ready(set).boxed()
    }

    fn kv_delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool>> {
        let gone = asked(self.manifest.kv, "kv.delete");
        ready(gone.map(|()| self.state().kv.remove(key).is_some())).boxed()
    }

    fn kv_keys<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<String>>> {
        let keys = asked(self.manifest.kv, "kv.keys").map(|()| {
            let state = self.state();
            let keys = state.kv.keys().filter(|key| key.starts_with(prefix));
            let keys = keys.filter(|key| after.is_none_or(|after| key.as_str() > after));
            keys.take(100).cloned().collect()
        });
        ready(keys).boxed()
    }

    /// Sends nothing; every request is answered with an empty 200.
    fn fetch(&self, request: DoorRequest) -> BoxFuture<'_, Result<DoorResponse>> {
        let allowed = asked(!self.manifest.hosts.is_empty(), "http.fetch");
        let answered = allowed
            .and_then(|()| self.manifest.allows(&request))
            .map(|()| {
                let body = String::from_utf8_lossy(&request.body);
                let line = format!("fetch {} {} {body}", request.method, request.url);
                self.state().done.push(line);
                DoorResponse {
                    status: 200,
                    headers: Vec::new(),
                    body: Bytes::new(),
                }
            });
        ready(answered).boxed()
    }

    fn secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretString>> {
        let mut secrets = self.manifest.secrets.iter();
        let allowed = asked(secrets.any(|known| *known == *name), "secrets.get");
        let secret = allowed.and_then(|()| {
            let known = self.state().secrets.get(name).cloned();
            known.ok_or(Error::NotFound)
        });
        ready(secret).boxed()
    }

    fn schedule<'a>(
        &'a self,
        name: &'a str,
        delay: Duration,
        payload: Option<String>,
    ) -> BoxFuture<'a, Result<()>> {
        let planned = named(&self.manifest.jobs, "jobs.schedule", "jobs", name);
        let payload = payload.unwrap_or_default();
        let line = format!("schedule {name} in {} s {payload}", delay.as_secs());
        let planned = planned.map(|()| self.state().done.push(line));
        ready(planned).boxed()
    }
}
