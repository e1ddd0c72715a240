//! A running plugin's way to the tenant's data: the same scope, permits and repository as
//! everybody's.
//!
//! Every method first asks the scope for the permit; what a write answers is shown only as far as
//! the plugin may read it.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use secrecy::SecretString;
use serde_json::{Map, Value as Json};

use super::fields::{body, of};
use super::standing::Standing;
use super::{Plugin, fetch, kv, secret, tell, timer};
use crate::crm::Core;
use crate::error::{Error, Result};
use crate::hook::{Door, DoorPage, DoorQuery, DoorRequest, DoorResponse, Fields};
use crate::id::RecordId;
use crate::json;
use crate::record::{Aggregate, Filter, Query, Record, Records, Sort};
use crate::scope::{Create, Delete, Read, Scope, Update};

/// What those who stand behind a run let it reach.
pub(super) struct TenantDoor {
    core: Arc<Core>,
    standing: Standing,
    records: Records,
}

impl TenantDoor {
    pub(super) fn new(core: Arc<Core>, standing: Standing) -> Self {
        Self {
            records: Records::new(core.clone()),
            core,
            standing,
        }
    }

    /// The plugin, if it may have values of its own.
    async fn kv(&self, permission: &str) -> Result<&Plugin> {
        let plugin = self.standing.plugin();
        self.standing
            .allowed(plugin.manifest.kv, permission)
            .await?;
        Ok(plugin)
    }

    /// The plugin, if it asked for this secret.
    pub(super) async fn may_ask(&self, name: &str) -> Result<&Plugin> {
        let plugin = self.standing.plugin();
        let mut secrets = plugin.manifest.secrets.iter();
        let asked = secrets.any(|known| known.as_str() == name);
        self.standing.allowed(asked, "secrets.get").await?;
        Ok(plugin)
    }
}

fn query(scope: &Scope, module: &str, query: DoorQuery) -> Result<Query> {
    let module = scope.readable(module).ok_or(Error::NotFound)?;
    let filter = match query.filter {
        Some(text) => {
            let object = object("filter", &text)?;
            Some(Filter::from_json_for(scope, &module, &object).map_err(Error::Invalid)?)
        }
        None => None,
    };
    let mut asked = Query {
        filter,
        limit: query.limit,
        cursor: query.cursor,
        ..Query::default()
    };
    if !query.sort.is_empty() {
        let keys = Sort::parse_list(&module, &query.sort.join(","));
        asked.sort = keys.map_err(|error| Error::Invalid(vec![error]))?;
    }
    Ok(asked)
}

/// What a write answers: no more than the plugin may read.
fn shown(scope: &Scope, record: &Record) -> Result<Fields> {
    of(record.module(), &record.shown(scope))
}

impl Door for TenantDoor {
    fn get<'a>(&'a self, module: &'a str, id: RecordId) -> BoxFuture<'a, Result<Fields>> {
        async move {
            let scope = self.standing.scope().await?;
            let permit = scope.permit::<Read>(module)?;
            let record = self.records.get(&permit, id).await?;
            of(record.module(), &record)
        }
        .boxed()
    }

    fn list<'a>(&'a self, module: &'a str, asked: DoorQuery) -> BoxFuture<'a, Result<DoorPage>> {
        async move {
            let scope = self.standing.scope().await?;
            let permit = scope.permit::<Read>(module)?;
            let query = query(&scope, module, asked)?;
            let page = self.records.list(&permit, &query).await?;
            let records = page.data.iter();
            let records = records.map(|record| of(record.module(), record));
            Ok(DoorPage {
                records: records.collect::<Result<_>>()?,
                next_cursor: page.next_cursor,
            })
        }
        .boxed()
    }

    fn create<'a>(&'a self, module: &'a str, values: Fields) -> BoxFuture<'a, Result<Fields>> {
        async move {
            let scope = self.standing.scope().await?;
            let permit = scope.permit::<Create>(module)?;
            shown(&scope, &self.records.create(&permit, body(values)?).await?)
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
            let scope = self.standing.scope().await?;
            let permit = scope.permit::<Update>(module)?;
            let values = body(values)?;
            shown(
                &scope,
                &self.records.update(&permit, id, version, values).await?,
            )
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
            let scope = self.standing.scope().await?;
            let permit = scope.permit::<Delete>(module)?;
            self.records.delete(&permit, id, version).await
        }
        .boxed()
    }

    fn aggregate<'a>(&'a self, module: &'a str, query: &'a str) -> BoxFuture<'a, Result<String>> {
        async move {
            let scope = self.standing.scope().await?;
            let permit = scope.permit::<Read>(module)?;
            let module = scope.readable(module).ok_or(Error::NotFound)?;
            let ask = Aggregate::from_json(&scope, &module, &object("", query)?)?;
            let groups = self.records.aggregate(&permit, &ask).await?;
            Ok(groups.to_json(&module, &ask)?.to_string())
        }
        .boxed()
    }

    fn emit<'a>(&'a self, name: &'a str, data: &'a str) -> BoxFuture<'a, Result<()>> {
        async move {
            let plugin = self.standing.plugin();
            let asked = !plugin.manifest.emits.is_empty();
            let scope = self.standing.allowed(asked, "events.emit").await?;
            tell::emit(&scope, plugin, name, data).await
        }
        .boxed()
    }

    fn kv_get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        async move {
            let plugin = self.kv("kv.get").await?;
            kv::get(&self.core.db, plugin, key).await
        }
        .boxed()
    }

    fn kv_set<'a>(&'a self, key: &'a str, value: Vec<u8>) -> BoxFuture<'a, Result<()>> {
        async move {
            let plugin = self.kv("kv.set").await?;
            kv::set(&self.core.db, plugin, key, value).await
        }
        .boxed()
    }

    fn kv_delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool>> {
        async move {
            let plugin = self.kv("kv.delete").await?;
            kv::delete(&self.core.db, plugin, key).await
        }
        .boxed()
    }

    fn kv_keys<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<String>>> {
        async move {
            let plugin = self.kv("kv.keys").await?;
            kv::keys(&self.core.db, plugin, prefix, after).await
        }
        .boxed()
    }

    fn fetch(&self, request: DoorRequest) -> BoxFuture<'_, Result<DoorResponse>> {
        async move {
            let plugin = self.standing.plugin();
            let asked = !plugin.manifest.hosts.is_empty();
            self.standing.allowed(asked, "http.fetch").await?;
            fetch::fetch(&self.core, plugin, request).await
        }
        .boxed()
    }

    fn secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretString>> {
        async move {
            let plugin = self.may_ask(name).await?;
            secret::open(&self.core, plugin, name).await
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
            let plugin = self.standing.plugin();
            let asked = !plugin.manifest.jobs.is_empty();
            let scope = self.standing.allowed(asked, "jobs.schedule").await?;
            timer::schedule(&scope, plugin, name, delay, payload).await
        }
        .boxed()
    }
}

/// Most bytes of a guest's question: read, it takes many times as much memory.
const MAX_QUESTION: usize = 64 * 1024;

/// The JSON object a guest wrote.
pub(super) fn object(field: &str, text: &str) -> Result<Map<String, Json>> {
    if text.len() > MAX_QUESTION {
        let message = format!("must have at most {MAX_QUESTION} bytes");
        return Err(Error::invalid(field, "too_long", message));
    }
    json::object(text.as_bytes()).map_err(|error| {
        Error::invalid(
            field,
            "malformed_json",
            format!("must be a JSON object: {error}"),
        )
    })
}
