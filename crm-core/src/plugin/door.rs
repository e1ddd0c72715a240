//! A running plugin's access to records: the same scope, permits and repository as everybody's.
//!
//! Every method first asks the scope for the permit; what a write answers is shown only as far as
//! the plugin may read it.

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::hook::{Door, DoorPage, DoorQuery};
use crate::id::RecordId;
use crate::record::{Filter, Query, Record, Records};
use crate::scope::{Create, Read, Scope, Update};

/// The records within a plugin's scope.
pub(super) struct ScopeDoor {
    scope: Scope,
    records: Records,
}

impl ScopeDoor {
    pub(super) fn new(scope: Scope) -> Self {
        let records = Records::new(scope.core().clone());
        Self { scope, records }
    }

    fn query(&self, module: &str, query: DoorQuery) -> Result<Query> {
        let filter = match query.filter {
            Some(text) => {
                let module = self.scope.readable(module).ok_or(Error::NotFound)?;
                let object = object("filter", &text)?;
                Some(Filter::from_json_for(&self.scope, &module, &object).map_err(Error::Invalid)?)
            }
            None => None,
        };
        let DoorQuery { limit, cursor, .. } = query;
        Ok(Query {
            filter,
            limit,
            cursor,
            ..Query::default()
        })
    }
}

impl Door for ScopeDoor {
    fn get<'a>(&'a self, module: &'a str, id: RecordId) -> BoxFuture<'a, Result<String>> {
        async move {
            let permit = self.scope.permit::<Read>(module)?;
            Ok(self.records.get(&permit, id).await?.to_json())
        }
        .boxed()
    }

    fn list<'a>(&'a self, module: &'a str, query: DoorQuery) -> BoxFuture<'a, Result<DoorPage>> {
        async move {
            let permit = self.scope.permit::<Read>(module)?;
            let page = self
                .records
                .list(&permit, &self.query(module, query)?)
                .await?;
            let records = page.data.iter().map(Record::to_json).collect();
            Ok(DoorPage {
                records,
                next_cursor: page.next_cursor,
            })
        }
        .boxed()
    }

    fn create<'a>(&'a self, module: &'a str, values: &'a str) -> BoxFuture<'a, Result<String>> {
        async move {
            let permit = self.scope.permit::<Create>(module)?;
            let record = self.records.create(&permit, object("", values)?).await?;
            shown(&record, &self.scope)
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
            let permit = self.scope.permit::<Update>(module)?;
            let record = self
                .records
                .update(&permit, id, version, object("", values)?)
                .await?;
            shown(&record, &self.scope)
        }
        .boxed()
    }
}

/// The JSON object a guest wrote.
fn object(field: &str, text: &str) -> Result<Map<String, Json>> {
    serde_json::from_str(text).map_err(|error| {
        Error::invalid(
            field,
            "malformed_json",
            format!("must be a JSON object: {error}"),
        )
    })
}

/// What a write answers: no more than the plugin may read.
fn shown(record: &Record, scope: &Scope) -> Result<String> {
    serde_json::to_string(&record.shown(scope)).map_err(Error::internal)
}
