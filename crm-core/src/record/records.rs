//! The repository of records: the one door to a module's rows, opened by a permit.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::{Map, Value as Json};

use super::hearing::Hearing;
use super::reach;
use super::search::SearchWay;
use super::write::{Expected, Write, Written};
use super::{Count, Filter, Page, PageNumber, Position, Query, Record, Total};
use crate::crm::Core;
use crate::db::record::{COUNT_CAP, Part, SearchPath, Statements, Stretch};
use crate::db::{MANY, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{RecordId, TenantId};
use crate::reach::Reach;
use crate::scope::{Create, Delete, Permit, Read, Update};
use crate::upkeep::Task;
use crate::value::Value;

/// Reads and writes records.
#[derive(Clone)]
pub struct Records {
    pub(super) core: Arc<Core>,
}

impl Records {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// The record with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is absent, of another tenant, or not covered by the permit.
    pub async fn get(&self, permit: &Permit<Read>, id: RecordId) -> Result<Record> {
        self.find(permit, id).await?.ok_or(Error::NotFound)
    }

    /// The record with this id, if the permit covers one.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn find(&self, permit: &Permit<Read>, id: RecordId) -> Result<Option<Record>> {
        let module = permit.module()?;
        let sql = self.core.statements(module).get(permit.tenant(), id);
        let Some(row) = self.core.db.fetch_optional(sql).await? else {
            return Ok(None);
        };
        let record = Record::from_row(module, row)?;
        if !reach::covers(&self.core, permit, &record).await? {
            return Ok(None);
        }
        let statements = self.core.statements(module);
        let mut seen = self.seen(statements, permit, vec![record]).await?;
        Ok(seen.pop())
    }

    /// A page of the records that the permit covers and the query asks for.
    ///
    /// One statement, a second one where values of the sort field end, a third one to count.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit or search text out of bounds, or a cursor of another query.
    pub async fn list(&self, permit: &Permit<Read>, query: &Query) -> Result<Page> {
        let permit = permit.to_search(query.fields(), query.search.as_deref())?;
        let statements = self.core.statements(permit.module()?);
        self.page(statements, &permit, permit.reach(), query).await
    }

    /// A page of the records that these statements see and the reach covers; the permit is one
    /// [to search](Permit::to_search) as the query does.
    pub(super) async fn page(
        &self,
        statements: &Statements,
        permit: &Permit<Read>,
        reach: &Reach,
        query: &Query,
    ) -> Result<Page> {
        query.check()?;
        let module = permit.module()?;
        let after = match &query.cursor {
            Some(cursor) => Some(Position::decode(module, query, cursor)?),
            None => None,
        };
        let way = self
            .search_way(module, permit.tenant(), query.search.as_deref())
            .await?;
        let mut data = self
            .stretches(statements, permit, reach, query, (way, after))
            .await?;
        let more = data.len() > query.limit as usize;
        data.truncate(query.limit as usize);
        let next_cursor = match data.last() {
            Some(last) if more => Some(Position::after(last, query).encode(module, query)?),
            _ => None,
        };
        let data = self.seen(statements, permit, data).await?;
        let total = if query.count != Count::No || query.page.is_some() {
            Some(
                self.total(statements, permit, reach, query, way.all)
                    .await?,
            )
        } else {
            None
        };
        let number = query.page.zip(total).map(|(page, total)| PageNumber {
            page,
            per_page: query.limit,
            pages: total.count.div_ceil(u64::from(query.limit)),
        });
        Ok(Page {
            data,
            next_cursor,
            total,
            number,
        })
    }

    /// The records of a page and the one behind it: those with the first key, then those without.
    async fn stretches(
        &self,
        statements: &Statements,
        permit: &Permit<Read>,
        reach: &Reach,
        query: &Query,
        (way, mut after): (SearchWay, Option<Position>),
    ) -> Result<Vec<Record>> {
        let (module, tenant) = (permit.module()?, permit.tenant());
        let has_absent = statements.has_absent(&query.order());
        let mut part = match &after {
            Some(position) if has_absent && position.keys.first().is_some_and(Value::is_null) => {
                Part::Absent
            }
            _ => Part::Present,
        };
        let wanted = query.limit as usize + 1;
        let mut skip = query.skipped();
        let mut data: Vec<Record> = Vec::with_capacity(wanted);
        loop {
            let stretch = Stretch {
                path: way.page,
                part,
                after: after.as_ref(),
                skip,
                limit: (wanted - data.len()) as u32,
            };
            let sql = statements.list(tenant, reach, query, stretch);
            for row in self.core.db.fetch_all(sql).await? {
                data.push(Record::from_row(module, row)?);
            }
            if part == Part::Absent || !has_absent || data.len() == wanted {
                return Ok(data);
            }
            if data.is_empty() && skip > 0 {
                // The page begins among the records without the first key.
                let present = statements.count_present(tenant, reach, query, way.all);
                skip -= self.number(present).await?.min(u64::from(skip)) as u32;
            } else {
                skip = 0;
            }
            (part, after) = (Part::Absent, None);
        }
    }

    /// The whole number that a statement answers.
    async fn number(&self, sql: Sql) -> Result<u64> {
        let row = self.core.db.fetch_optional(sql).await?;
        let number = row.map_or(Ok(0), |mut row| row.int::<i64>())?;
        Ok(number.unsigned_abs())
    }

    /// All records that the permit covers and the filter matches, in no order: for filters that
    /// bound how many these are.
    pub(super) async fn matching(
        &self,
        permit: &Permit<Read>,
        filter: &Filter,
    ) -> Result<Vec<Record>> {
        let permit = permit.to_ask(filter.fields())?;
        let module = permit.module()?;
        let statements = self.core.statements(module);
        let sql = statements.matching(permit.tenant(), permit.reach(), filter);
        let rows = self.core.db.fetch_all(sql).await?;
        let records = rows.into_iter().map(|row| Record::from_row(module, row));
        let records = records.collect::<Result<_>>()?;
        self.seen(statements, &permit, records).await
    }

    /// How many records the permit covers and the query's filter and search match: up to 10,000,
    /// unless the query asks for the exact number.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn count(&self, permit: &Permit<Read>, query: &Query) -> Result<Total> {
        let text = query.search.as_deref();
        let permit = permit.to_search(query.fields(), text)?;
        let module = permit.module()?;
        let way = self.search_way(module, permit.tenant(), text).await?;
        let statements = self.core.statements(module);
        self.total(statements, &permit, permit.reach(), query, way.all)
            .await
    }

    async fn total(
        &self,
        statements: &Statements,
        permit: &Permit<Read>,
        reach: &Reach,
        query: &Query,
        path: SearchPath,
    ) -> Result<Total> {
        let count = self.counted(statements, permit, reach, query, path).await?;
        let cap = match query.count {
            Count::Exact => u64::MAX,
            Count::No | Count::Capped => u64::from(COUNT_CAP),
        };
        Ok(Total {
            count: count.min(cap),
            capped: count > cap,
        })
    }

    /// The number of matches: as it is kept, where all records of a tenant match, else counted.
    async fn counted(
        &self,
        statements: &Statements,
        permit: &Permit<Read>,
        reach: &Reach,
        query: &Query,
        path: SearchPath,
    ) -> Result<u64> {
        let (core, module, tenant) = (&self.core, permit.module()?, permit.tenant());
        let all = reach.is_all() && query.filter.is_none() && query.search.is_none();
        let kept = all.then(|| statements.kept_count(tenant)).flatten();
        if let Some(kept) = &kept
            && core.upkeep.is_counted(tenant, module.index())
            && let Some(mut row) = core.db.fetch_optional(kept.clone()).await?
        {
            return Ok(row.int::<i64>()?.unsigned_abs());
        }
        let count = self
            .number(statements.count(tenant, reach, query, path))
            .await?;
        if kept.is_some() && count > MANY {
            core.upkeep.ask(Task::Count(tenant, module.index()));
        }
        Ok(count)
    }

    /// Makes a record from a wire body.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every refused field, [`Error::Conflict`] for a taken unique value.
    pub async fn create(&self, permit: &Permit<Create>, body: Map<String, Json>) -> Result<Record> {
        Ok(self.write(Write::create(permit, body)?).await?.record)
    }

    /// Changes the fields that a wire body names; `null` clears one (XC-03).
    ///
    /// A body that changes nothing writes nothing and answers the record as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a record the caller may not see, [`Error::Forbidden`] for one they
    /// may only see, [`Error::PreconditionFailed`] when it has another version than `expected`,
    /// and those of [`create`](Self::create).
    pub async fn update(
        &self,
        permit: &Permit<Update>,
        id: RecordId,
        expected: impl Into<Expected>,
        body: Map<String, Json>,
    ) -> Result<Record> {
        let write = Write::update(permit, id, expected, body)?;
        Ok(self.write(write).await?.record)
    }

    /// Removes a record: to the trash where the module has one.
    ///
    /// # Errors
    /// Those of [`update`](Self::update); [`Error::Conflict`] while other records refer to it.
    pub async fn delete(
        &self,
        permit: &Permit<Delete>,
        id: RecordId,
        expected: impl Into<Expected>,
    ) -> Result<()> {
        self.write(Write::delete(permit, id, expected)?).await?;
        Ok(())
    }

    /// Does one write, in a transaction of its own.
    ///
    /// # Errors
    /// Those of the write.
    pub(super) async fn write(&self, write: Write) -> Result<Written> {
        let tenant = write.scope().tenant();
        let write = Arc::new(write);
        self.heard(tenant, move |tx, core| {
            let write = write.clone();
            Box::pin(async move { write.run_in(tx, core).await })
        })
        .await
    }

    /// Does a job in one transaction, again when its changes were judged.
    pub(super) async fn heard<T, J>(&self, tenant: TenantId, job: J) -> Result<T>
    where
        T: Send + 'static,
        J: for<'t> Fn(&'t mut Tx<'_>, &'t Core) -> BoxFuture<'t, Result<T>>,
        J: Clone + Send + Sync + 'static,
    {
        let hearing = Hearing::of(&self.core, tenant).await?;
        loop {
            let (core, job, attended) = (self.core.clone(), job.clone(), hearing.clone());
            let done = self.core.db.write(move |tx| {
                Box::pin(async move {
                    tx.attend(attended.clone());
                    let done = job(tx, &core).await?;
                    attended.adjourn()?;
                    Ok(done)
                })
            });
            match done.await {
                Ok(done) => return Ok(done),
                Err(error) => hearing.resume(error).await?,
            }
        }
    }
}
