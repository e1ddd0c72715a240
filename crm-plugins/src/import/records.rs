//! Records: every call counts what it reads and writes.

use crm_core::hook::{DoorQuery, Fields};
use crm_core::id::RecordId;
use crm_core::{Error, Result};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Answer, answer};
use crate::bindings::{records, types};
use crate::run::Run;
use crate::value::{of_guest, to_guest, to_json};

impl records::Host for Run {
    async fn get(&mut self, module: String, id: String) -> Answer<Vec<types::Field>> {
        self.count_call()?;
        self.count_read(1)?;
        let record = match record_id(&id) {
            Ok(id) => self.door.get(&module, id).await,
            Err(error) => Err(error),
        };
        Ok(shown(record))
    }

    async fn list(&mut self, module: String, query: records::Query) -> Answer<records::Page> {
        self.count_call()?;
        let records::Query {
            filter,
            sort,
            limit,
            cursor,
        } = query;
        let query = DoorQuery {
            filter,
            sort,
            limit,
            cursor,
        };
        let page = match self.door.list(&module, query).await {
            Ok(page) => page,
            Err(error) => return Ok(Err(answer(error))),
        };
        self.count_read(page.records.len())?;
        Ok(Ok(records::Page {
            records: page.records.into_iter().map(to_guest).collect(),
            next_cursor: page.next_cursor,
        }))
    }

    async fn create(
        &mut self,
        module: String,
        values: Vec<types::Field>,
    ) -> Answer<Vec<types::Field>> {
        self.count_call()?;
        self.count_write()?;
        let record = match of_guest(values) {
            Ok(values) => self.door.create(&module, values).await,
            Err(error) => Err(error),
        };
        Ok(shown(record))
    }

    async fn update(
        &mut self,
        module: String,
        id: String,
        version: Option<i64>,
        values: Vec<types::Field>,
    ) -> Answer<Vec<types::Field>> {
        self.count_call()?;
        self.count_write()?;
        let record = match (record_id(&id), of_guest(values)) {
            (Ok(id), Ok(values)) => self.door.update(&module, id, version, values).await,
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        Ok(shown(record))
    }

    async fn delete(&mut self, module: String, id: String, version: Option<i64>) -> Answer<()> {
        self.count_call()?;
        self.count_write()?;
        let gone = match record_id(&id) {
            Ok(id) => self.door.delete(&module, id, version).await,
            Err(error) => Err(error),
        };
        Ok(gone.map_err(answer))
    }

    async fn aggregate(&mut self, module: String, query: String) -> Answer<String> {
        self.count_call()?;
        let answered = self.door.aggregate(&module, &query).await;
        self.count_read(answered.as_deref().map_or(1, groups))?;
        Ok(answered.map_err(answer))
    }

    async fn to_json(&mut self, fields: Vec<types::Field>) -> wasmtime::Result<String> {
        self.count_call()?;
        Ok(to_json(&fields))
    }
}

/// The groups of an answer, of which each counts as a record; none counts as one.
fn groups(answer: &str) -> usize {
    #[derive(Deserialize)]
    struct Groups {
        data: Vec<IgnoredAny>,
    }
    let groups = serde_json::from_str::<Groups>(answer);
    groups.map_or(1, |groups| groups.data.len().max(1))
}

/// What is no id is the id of no record.
fn record_id(text: &str) -> Result<RecordId> {
    text.parse().map_err(|_| Error::NotFound)
}

fn shown(record: Result<Fields>) -> Result<Vec<types::Field>, types::Error> {
    record.map(to_guest).map_err(answer)
}
