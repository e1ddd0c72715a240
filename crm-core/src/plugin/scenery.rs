//! The door of a rehearsal: what is behind it can be read, and what is done to it is not really
//! done.
//!
//! A guest never runs while a transaction is open. So each write is tried in a transaction of its
//! own, behind the earlier writes of the run, and all are taken back; what they answered is
//! remembered for the run's later reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use secrecy::SecretString;
use serde_json::{Map, Value as Json, json};

use super::door::{TenantDoor, object};
use super::fields::{body, typed};
use super::overlay::StoreOverlay;
use super::rehearse::RehearsedChange;
use super::standing::Standing;
use super::{kv, tell, timer};
use crate::crm::Core;
use crate::error::{Error, Result};
use crate::event::{ChangeKind, Event};
use crate::hook::{Door, DoorPage, DoorQuery, DoorRequest, DoorResponse, Fields};
use crate::id::RecordId;
use crate::record::{Records, Write, Written};
use crate::scope::{Create, Delete, Scope, Update};
use crate::value::Value;

/// Most writes of a rehearsed run: each one is tried behind all before it.
const MOST: usize = 50;
/// Most of what is withheld that is told, and the most characters of each.
const MOST_WITHHELD: usize = 100;
const MOST_WORDS: usize = 200;

/// What stands for every secret in a rehearsal, which sends nothing and whose logs are told.
const NO_SECRET: &str = "rehearsal";

pub(super) struct Scenery {
    standing: Standing,
    /// The record of the event that woke the run, in the version that it had then.
    of_event: Option<(RecordId, i64)>,
    /// What the plugin kept in its store, here and in earlier runs of a rehearsal.
    kept: StoreOverlay,
    rehearses: bool,
    /// The record that is yet to be made.
    unmade: Option<(String, RecordId)>,
    behind: TenantDoor,
    records: Records,
    played: Mutex<Played>,
}

#[derive(Default)]
struct Played {
    acts: Vec<Act>,
    changes: Vec<RehearsedChange>,
    /// How the records stand that were written; none of one that is gone.
    stands: HashMap<(String, RecordId), Option<Json>>,
    withheld: Vec<String>,
}

impl Played {
    fn remember(&mut self, act: Act, change: RehearsedChange) {
        let key = (act.module.clone(), change.record_id);
        self.stands.insert(key, change.after.clone());
        self.acts.push(match act.what {
            What::Create(_, body) => Act {
                what: What::Create(Some(change.record_id), body),
                ..act
            },
            _ => act,
        });
        self.changes.push(change);
    }
}

/// A write of the run.
#[derive(Clone)]
struct Act {
    module: String,
    what: What,
}

#[derive(Clone)]
enum What {
    /// With the id that the guest was told.
    Create(Option<RecordId>, Map<String, Json>),
    Update(RecordId, Option<i64>, Map<String, Json>),
    Delete(RecordId, Option<i64>),
}

impl Scenery {
    pub(super) fn new(core: &Arc<Core>, standing: Standing) -> Self {
        Self {
            behind: TenantDoor::new(core.clone(), standing.clone()),
            records: Records::new(core.clone()),
            standing,
            of_event: None,
            kept: StoreOverlay::default(),
            rehearses: false,
            unmade: None,
            played: Mutex::default(),
        }
    }

    /// The same, for a run that this event of the past wakes: the version that its record had then
    /// is not held against the record as it is now, and what earlier runs kept is there.
    pub(super) fn after(self, event: &Event, kept: StoreOverlay) -> Self {
        let state = event.after.as_ref().or(event.before.as_ref());
        let version = state.and_then(|state| state["version"].as_i64());
        let of_event = version.map(|version| (event.record_id, version));
        Self {
            of_event,
            kept,
            rehearses: true,
            ..self
        }
    }

    /// The same, before this record is made: nothing shows it.
    pub(super) fn without(mut self, module: &str, id: RecordId) -> Self {
        self.unmade = Some((module.to_owned(), id));
        self.having(module, id, None)
    }

    /// The same, while this record stands so.
    pub(super) fn having(self, module: &str, id: RecordId, was: Option<Json>) -> Self {
        let key = (module.to_owned(), id);
        self.played.lock().stands.insert(key, was);
        self
    }

    /// The id of the record of this module that is yet to be made, if it is of it.
    fn unmade(&self, module: &str) -> Option<RecordId> {
        let (of, id) = self.unmade.as_ref()?;
        (of == module).then_some(*id)
    }

    fn expected(&self, id: RecordId, version: Option<i64>) -> Option<i64> {
        version.filter(|version| self.of_event != Some((id, *version)))
    }

    /// What was played, when it is over.
    pub(super) fn strike(&self) -> (Vec<RehearsedChange>, Vec<String>) {
        let played = std::mem::take(&mut *self.played.lock());
        (played.changes, played.withheld)
    }

    fn withhold(&self, what: &str) {
        let mut played = self.played.lock();
        if played.withheld.len() < MOST_WITHHELD {
            played
                .withheld
                .push(what.chars().take(MOST_WORDS).collect());
        }
    }

    /// Tries a write behind those before it, and answers the record as the guest may read it.
    async fn play(&self, act: Act) -> Result<Option<Json>> {
        let scope = self.standing.scope().await?;
        let before = match act.what {
            What::Create(..) => None,
            What::Update(id, ..) | What::Delete(id, _) => self.stands(&scope, &act, id).await?,
        };
        let (written, ids) = self.rehearse(&scope, &act).await?;
        let shown = serde_json::to_value(written.record.shown(&scope));
        let shown = with_told_ids(shown.map_err(Error::internal)?, &ids)?;
        let after = (written.kind != ChangeKind::Deleted).then_some(shown);
        let told = ids.iter().find(|(_, id)| **id == written.record.id);
        let change = RehearsedChange {
            module: written.record.module().name().to_string(),
            record_id: told.map_or(written.record.id, |(told, _)| *told),
            kind: written.kind,
            before,
            after: after.clone(),
        };
        self.played.lock().remember(act, change);
        Ok(after)
    }

    /// Makes all writes of the run again, and this one, in a transaction that is taken back.
    /// Answers the last, and under which ids those are here that the guest was told.
    async fn rehearse(
        &self,
        scope: &Scope,
        act: &Act,
    ) -> Result<(Written, HashMap<RecordId, RecordId>)> {
        let mut acts = self.played.lock().acts.clone();
        if acts.len() >= MOST {
            return Err(Error::LimitExceeded {
                code: "too_many_writes",
                message: format!("a rehearsed run writes at most {MOST} times").into(),
            });
        }
        acts.push(act.clone());
        let by = scope.clone();
        let rehearsed = self.records.rehearse(move |mut stage| {
            Box::pin(async move {
                let (mut ids, mut last) = (HashMap::new(), None);
                for act in acts {
                    let told = match act.what {
                        What::Create(told, _) => told,
                        _ => None,
                    };
                    let written: Written = stage.write(write(&by, act, &ids)?).await?;
                    if let Some(told) = told {
                        ids.insert(told, written.record.id);
                    }
                    last = Some(written);
                }
                let last = last.ok_or_else(|| Error::internal("a rehearsal of nothing"))?;
                Ok((last, ids))
            })
        });
        rehearsed.await
    }

    /// How a record stands before a write.
    async fn stands(&self, scope: &Scope, act: &Act, id: RecordId) -> Result<Option<Json>> {
        if let Some(known) = self.known(&act.module, id) {
            return Ok(known);
        }
        let Ok(permit) = scope.permit(&act.module) else {
            return Ok(None);
        };
        match self.records.get(&permit, id).await {
            Ok(record) => serde_json::to_value(record)
                .map(Some)
                .map_err(Error::internal),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn known(&self, module: &str, id: RecordId) -> Option<Option<Json>> {
        let key = (module.to_owned(), id);
        self.played.lock().stands.get(&key).cloned()
    }

    async fn fields(&self, module: &str, json: Option<Json>) -> Result<Fields> {
        let scope = self.standing.scope().await?;
        let module = scope.readable(module);
        match (module, json) {
            (Some(module), Some(json)) => Ok(typed(&module, json)),
            // Whoever may write but not read learns id and version.
            (None, Some(Json::Object(json))) => Ok(json
                .into_iter()
                .map(|(name, json)| (name, Value::Json(json)))
                .collect()),
            _ => Err(Error::NotFound),
        }
    }
}

/// The filter, of all records but one.
fn except(id: RecordId, mut filter: Map<String, Json>) -> Json {
    let other = json!({ "ne": id });
    if filter.contains_key("id") {
        return json!({ "and": [filter], "id": other });
    }
    filter.insert("id".to_owned(), other);
    Json::Object(filter)
}

/// The write that an act stands for, with the ids that records have in this transaction.
fn write(scope: &Scope, act: Act, ids: &HashMap<RecordId, RecordId>) -> Result<Write> {
    let real = |id: RecordId| ids.get(&id).copied().unwrap_or(id);
    match act.what {
        What::Create(_, body) => {
            let permit = scope.permit::<Create>(&act.module)?;
            Write::create(&permit, with_real_ids(body, ids)?)
        }
        What::Update(id, version, body) => {
            let permit = scope.permit::<Update>(&act.module)?;
            Write::update(&permit, real(id), version, with_real_ids(body, ids)?)
        }
        What::Delete(id, version) => {
            let permit = scope.permit::<Delete>(&act.module)?;
            Write::delete(&permit, real(id), version)
        }
    }
}

fn with_real_ids(
    body: Map<String, Json>,
    ids: &HashMap<RecordId, RecordId>,
) -> Result<Map<String, Json>> {
    if ids.is_empty() {
        return Ok(body);
    }
    let mut text = serde_json::to_string(&body).map_err(Error::internal)?;
    for (told, real) in ids {
        text = text.replace(&told.to_string(), &real.to_string());
    }
    serde_json::from_str(&text).map_err(Error::internal)
}

fn with_told_ids(json: Json, ids: &HashMap<RecordId, RecordId>) -> Result<Json> {
    if ids.is_empty() {
        return Ok(json);
    }
    let mut text = json.to_string();
    for (told, real) in ids {
        text = text.replace(&real.to_string(), &told.to_string());
    }
    serde_json::from_str(&text).map_err(Error::internal)
}

impl Door for Scenery {
    fn get<'a>(&'a self, module: &'a str, id: RecordId) -> BoxFuture<'a, Result<Fields>> {
        async move {
            match self.known(module, id) {
                None => self.behind.get(module, id).await,
                Some(stands) => self.fields(module, stands).await,
            }
        }
        .boxed()
    }

    fn list<'a>(&'a self, module: &'a str, query: DoorQuery) -> BoxFuture<'a, Result<DoorPage>> {
        async move {
            let filter = match (self.unmade(module), query.filter) {
                (None, filter) => filter,
                (Some(id), Some(text)) => Some(except(id, object("filter", &text)?).to_string()),
                (Some(id), None) => Some(except(id, Map::new()).to_string()),
            };
            let page = self.behind.list(module, DoorQuery { filter, ..query });
            let page = page.await?;
            let mut records = Vec::with_capacity(page.records.len());
            for record in page.records {
                let id = record.iter().find_map(|(name, value)| match value {
                    Value::Uuid(id) if name == "id" => Some(RecordId(*id)),
                    _ => None,
                });
                match id.and_then(|id| self.known(module, id)) {
                    None => records.push(record),
                    Some(None) => {}
                    Some(stands) => records.push(self.fields(module, stands).await?),
                }
            }
            Ok(DoorPage { records, ..page })
        }
        .boxed()
    }

    fn create<'a>(&'a self, module: &'a str, values: Fields) -> BoxFuture<'a, Result<Fields>> {
        async move {
            let act = Act {
                module: module.to_owned(),
                what: What::Create(None, body(values)?),
            };
            let stands = self.play(act).await?;
            self.fields(module, stands).await
        }
        .boxed()
    }

    fn update<'a>(
        &'a self,
        module: &'a str,
        id: RecordId,
        version: Option<i64>,
        values: Fields,
    ) -> BoxFuture<'a, Result<Fields>> {
        async move {
            let act = Act {
                module: module.to_owned(),
                what: What::Update(id, self.expected(id, version), body(values)?),
            };
            let stands = self.play(act).await?;
            self.fields(module, stands).await
        }
        .boxed()
    }

    fn delete<'a>(
        &'a self,
        module: &'a str,
        id: RecordId,
        version: Option<i64>,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            let act = Act {
                module: module.to_owned(),
                what: What::Delete(id, self.expected(id, version)),
            };
            self.play(act).await.map(drop)
        }
        .boxed()
    }

    fn aggregate<'a>(&'a self, module: &'a str, query: &'a str) -> BoxFuture<'a, Result<String>> {
        async move {
            let Some(id) = self.unmade(module) else {
                return self.behind.aggregate(module, query).await;
            };
            let mut query = object("", query)?;
            let filter = query.entry("filter").or_insert_with(|| json!({}));
            // What is no object is refused behind.
            if let Json::Object(all) = filter {
                *filter = except(id, std::mem::take(all));
            }
            let query = Json::Object(query).to_string();
            self.behind.aggregate(module, &query).await
        }
        .boxed()
    }

    fn emit<'a>(&'a self, name: &'a str, data: &'a str) -> BoxFuture<'a, Result<()>> {
        async move {
            tell::judge(self.standing.plugin(), name, data)?;
            self.withhold(&format!("emit {name}"));
            Ok(())
        }
        .boxed()
    }

    fn kv_get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        async move {
            let behind = self.behind.kv_get(key).await?;
            Ok(self.kept.get(key).unwrap_or(behind))
        }
        .boxed()
    }

    fn kv_set<'a>(&'a self, key: &'a str, value: Vec<u8>) -> BoxFuture<'a, Result<()>> {
        async move {
            // Whether it may at all.
            self.behind.kv_get(key).await?;
            kv::judge(key, &value)?;
            self.kept.set(key, value)
        }
        .boxed()
    }

    fn kv_delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool>> {
        async move {
            let was = self.kv_get(key).await?.is_some();
            if was {
                self.kept.delete(key);
            }
            Ok(was)
        }
        .boxed()
    }

    fn kv_keys<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<String>>> {
        async move {
            let mut after = after.map(str::to_owned);
            loop {
                let mut keys = self.behind.kv_keys(prefix, after.as_deref()).await?;
                // Behind a whole page there are more: what lies there comes with them.
                let end = (keys.len() as u64 >= kv::PAGE)
                    .then(|| keys.last().cloned())
                    .flatten();
                self.kept
                    .page(prefix, after.as_deref(), end.as_deref(), &mut keys);
                if !keys.is_empty() || end.is_none() {
                    return Ok(keys);
                }
                after = end;
            }
        }
        .boxed()
    }

    fn fetch(&self, request: DoorRequest) -> BoxFuture<'_, Result<DoorResponse>> {
        async move {
            self.standing.plugin().manifest.allows(&request)?;
            self.withhold(&format!("http {} {}", request.method, request.url));
            Err(Error::unavailable("a rehearsal sends nothing"))
        }
        .boxed()
    }

    fn secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretString>> {
        async move {
            match self.rehearses {
                true => self.behind.may_ask(name).await.map(|_| NO_SECRET.into()),
                false => self.behind.secret(name).await,
            }
        }
        .boxed()
    }

    fn schedule<'a>(
        &'a self,
        name: &'a str,
        delay: Duration,
        payload: Option<String>,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            let delay = timer::check(self.standing.plugin(), name, delay, payload.as_deref())?;
            self.withhold(&format!("schedule {name} in {} s", delay.num_seconds()));
            Ok(())
        }
        .boxed()
    }
}
