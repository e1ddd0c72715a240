//! A tenant in memory behind a door that knows a plugin's rights.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crm_core::hook::{Door, DoorPage, DoorQuery, DoorRequest, DoorResponse, Fields};
use crm_core::id::RecordId;
use crm_core::value::Value;
use crm_core::{Error, Result};
use futures::FutureExt;
use futures::future::BoxFuture;
use secrecy::SecretString;

pub(crate) const CONTACT: &str = "0195f3a0-0000-7000-8000-000000000001";

/// One contact, and what a plugin did beside.
pub(crate) struct Tenant {
    granted: &'static [&'static str],
    state: Mutex<State>,
    deaf: bool,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) contact: Fields,
    /// Whether no filter finds anything.
    pub(crate) empty: bool,
    pub(crate) tasks: Vec<Fields>,
    pub(crate) kv: BTreeMap<String, Vec<u8>>,
    pub(crate) told: Vec<(String, String)>,
    pub(crate) sent: Vec<DoorRequest>,
    pub(crate) jobs: Vec<(String, Duration, Option<String>)>,
}

impl Tenant {
    pub(crate) fn granted(granted: &'static [&'static str]) -> Arc<Self> {
        let text = |text: &str| Value::Text(text.into());
        let contact = [
            ("id", Value::Uuid(CONTACT.parse().unwrap())),
            ("version", Value::Int(1)),
            ("name", text("Ada")),
            ("email", text("ada@engines.example")),
            ("company", text("Engines")),
            ("job_title", text("Owner")),
            ("tags", Value::Tags(vec!["vip".into()])),
            ("score", Value::Null),
        ];
        let contact = contact.map(|(name, value)| (name.to_owned(), value));
        Arc::new(Self {
            granted,
            state: Mutex::new(State {
                contact: contact.to_vec(),
                ..State::default()
            }),
            deaf: false,
        })
    }

    /// One behind whose door nobody answers.
    pub(crate) fn deaf() -> Arc<Self> {
        Arc::new(Self {
            granted: &["contacts.read"],
            state: Mutex::default(),
            deaf: true,
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn field(&self, name: &str) -> Value {
        let state = self.state();
        let field = state.contact.iter().find(|(field, _)| field == name);
        field.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    fn permit(&self, permission: String) -> Result<()> {
        if self.granted.contains(&&*permission) {
            Ok(())
        } else {
            Err(Error::Forbidden { permission })
        }
    }

    fn answer<T: Send + 'static>(
        &self,
        permission: String,
        answer: impl FnOnce(&mut State) -> Result<T>,
    ) -> BoxFuture<'_, Result<T>> {
        if self.deaf {
            return pending().boxed();
        }
        let answer = self
            .permit(permission)
            .and_then(|()| answer(&mut self.state()));
        async move { answer }.boxed()
    }
}

fn version(contact: &Fields) -> Value {
    let version = contact.iter().find(|(name, _)| name == "version");
    version.map(|(_, value)| value.clone()).unwrap_or_default()
}

impl Door for Tenant {
    fn get<'a>(&'a self, module: &'a str, id: RecordId) -> BoxFuture<'a, Result<Fields>> {
        self.answer(format!("{module}.read"), |state| {
            if id.to_string() == CONTACT {
                Ok(state.contact.clone())
            } else {
                Err(Error::NotFound)
            }
        })
    }

    fn list<'a>(&'a self, module: &'a str, query: DoorQuery) -> BoxFuture<'a, Result<DoorPage>> {
        self.answer(format!("{module}.read"), |state| {
            let found = if state.empty { 0 } else { query.limit as usize };
            Ok(DoorPage {
                records: vec![state.contact.clone(); found],
                next_cursor: query.cursor,
            })
        })
    }

    fn create<'a>(&'a self, module: &'a str, values: Fields) -> BoxFuture<'a, Result<Fields>> {
        self.answer(format!("{module}.create"), |state| {
            if module == "tasks" {
                state.tasks.push(values.clone());
                return Ok(values);
            }
            let message = "That e-mail address is taken.";
            Err(Error::conflict("already_exists", message))
        })
    }

    fn update<'a>(
        &'a self,
        module: &'a str,
        _: RecordId,
        expected: Option<i64>,
        values: Fields,
    ) -> BoxFuture<'a, Result<Fields>> {
        self.answer(format!("{module}.update"), |state| {
            if expected.is_some_and(|expected| version(&state.contact) != Value::Int(expected)) {
                return Err(Error::PreconditionFailed);
            }
            for (name, value) in values {
                match state.contact.iter_mut().find(|(field, _)| *field == name) {
                    Some(field) => field.1 = value,
                    None => state.contact.push((name, value)),
                }
            }
            Ok(state.contact.clone())
        })
    }

    fn delete<'a>(
        &'a self,
        module: &'a str,
        _: RecordId,
        _: Option<i64>,
    ) -> BoxFuture<'a, Result<()>> {
        self.answer(format!("{module}.delete"), |state| {
            state.contact.clear();
            Ok(())
        })
    }

    fn aggregate<'a>(&'a self, module: &'a str, query: &'a str) -> BoxFuture<'a, Result<String>> {
        let query = query.to_owned();
        self.answer(format!("{module}.read"), |_| Ok(query))
    }

    fn emit<'a>(&'a self, name: &'a str, data: &'a str) -> BoxFuture<'a, Result<()>> {
        self.answer("emit".into(), |state| {
            state.told.push((name.to_owned(), data.to_owned()));
            Ok(())
        })
    }

    fn kv_get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        self.answer("kv".into(), |state| Ok(state.kv.get(key).cloned()))
    }

    fn kv_set<'a>(&'a self, key: &'a str, value: Vec<u8>) -> BoxFuture<'a, Result<()>> {
        self.answer("kv".into(), |state| {
            state.kv.insert(key.to_owned(), value);
            Ok(())
        })
    }

    fn kv_delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool>> {
        self.answer("kv".into(), |state| Ok(state.kv.remove(key).is_some()))
    }

    fn kv_keys<'a>(
        &'a self,
        prefix: &'a str,
        _: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<String>>> {
        self.answer("kv".into(), |state| {
            let keys = state.kv.keys().filter(|key| key.starts_with(prefix));
            Ok(keys.cloned().collect())
        })
    }

    fn fetch(&self, request: DoorRequest) -> BoxFuture<'_, Result<DoorResponse>> {
        self.answer("http".into(), |state| {
            let body = request.body.clone();
            state.sent.push(request);
            Ok(DoorResponse {
                status: 200,
                headers: Vec::new(),
                body,
            })
        })
    }

    fn secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretString>> {
        self.answer("secrets".into(), |_| match name {
            "token" | "webhook_token" => Ok(SecretString::from("hunter2")),
            _ => Err(Error::NotFound),
        })
    }

    fn schedule<'a>(
        &'a self,
        name: &'a str,
        delay: Duration,
        payload: Option<String>,
    ) -> BoxFuture<'a, Result<()>> {
        self.answer("jobs".into(), |state| {
            state.jobs.push((name.to_owned(), delay, payload));
            Ok(())
        })
    }
}
