//! The repository of records: the one door to a module's rows, opened by a permit.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::{Count, Filter, Page, Position, Query, Record, Total};
use crate::crm::Core;
use crate::db::record::{COUNT_CAP, Part, Statements, Stretch};
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, FieldError, Result};
use crate::event::ChangeKind;
use crate::id::{RecordId, TenantId, UserId};
use crate::journal::{self, Change};
use crate::module::{CompiledModule, FieldType, input, machine};
use crate::policy::RowScope;
use crate::scope::{Create, Delete, Permit, Read, Update};
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

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
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
        Ok(permit.covers(record.owner_id).then_some(record))
    }

    /// A page of the records that the permit covers and the query asks for.
    ///
    /// One statement, a second one where values of the sort field end, a third one to count.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit or search text out of bounds, or a cursor of another query.
    pub async fn list(&self, permit: &Permit<Read>, query: &Query) -> Result<Page> {
        query.check()?;
        let module = permit.module()?;
        let (tenant, owner) = (permit.tenant(), permit.owner()?);
        let statements = self.core.statements(module);
        let has_absent = statements.has_absent(&query.order());
        let mut after = match &query.cursor {
            Some(cursor) => Some(Position::decode(module, query, cursor)?),
            None => None,
        };
        let mut part = match &after {
            Some(position) if has_absent && position.keys.first().is_some_and(Value::is_null) => {
                Part::Absent
            }
            _ => Part::Present,
        };
        let path = self.search_path(module, tenant, query).await?;
        let wanted = query.limit as usize + 1;
        let mut data: Vec<Record> = Vec::with_capacity(wanted);
        loop {
            let stretch = Stretch {
                path,
                part,
                after: after.as_ref(),
                limit: (wanted - data.len()) as u32,
            };
            let sql = statements.list(tenant, owner, query, stretch);
            for row in self.core.db.fetch_all(sql).await? {
                data.push(Record::from_row(module, row)?);
            }
            if part == Part::Absent || !has_absent || data.len() == wanted {
                break;
            }
            (part, after) = (Part::Absent, None);
        }
        let more = data.len() == wanted;
        data.truncate(query.limit as usize);
        let next_cursor = match data.last() {
            Some(last) if more => Some(Position::after(last, query).encode(module, query)?),
            _ => None,
        };
        let total = if query.count != Count::No {
            Some(self.count(permit, query).await?)
        } else {
            None
        };
        Ok(Page {
            data,
            next_cursor,
            total,
        })
    }

    /// All records that the permit covers and the filter matches, in no order: for filters that
    /// bound how many these are.
    pub(super) async fn matching(
        &self,
        permit: &Permit<Read>,
        filter: &Filter,
    ) -> Result<Vec<Record>> {
        let module = permit.module()?;
        let sql = self
            .core
            .statements(module)
            .matching(permit.tenant(), permit.owner()?, filter);
        let rows = self.core.db.fetch_all(sql).await?;
        rows.into_iter()
            .map(|row| Record::from_row(module, row))
            .collect()
    }

    /// How many records the permit covers and the query's filter and search match: up to 10,000,
    /// unless the query asks for the exact number.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn count(&self, permit: &Permit<Read>, query: &Query) -> Result<Total> {
        let module = permit.module()?;
        let sql = self
            .core
            .statements(module)
            .count(permit.tenant(), permit.owner()?, query);
        let row = self.core.db.fetch_optional(sql).await?;
        let count = row
            .map_or(Ok(0), |mut row| row.int::<i64>())?
            .unsigned_abs();
        let cap = match query.count {
            Count::Exact => u64::MAX,
            Count::No | Count::Capped => u64::from(COUNT_CAP),
        };
        Ok(Total {
            count: count.min(cap),
            capped: count > cap,
        })
    }

    /// Makes a record from a wire body.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every refused field, [`Error::Conflict`] for a taken unique value.
    pub async fn create(&self, permit: &Permit<Create>, body: Map<String, Json>) -> Result<Record> {
        let (core, permit) = (self.core.clone(), permit.clone());
        let module = permit.module()?.clone();
        let sent = input::create(&module, permit.tenant(), body)?;
        let scope = permit.scope().clone();
        let owner = match sent.owner {
            Some(owner) => may_own(permit.rows(), &scope, owner)?,
            None => scope.actor().user(),
        };
        machine::begin(&module, &sent.values)?;
        let given = sent.owner.is_some();
        let (id, now) = core.clock.new_id_and_time();
        let record = Record {
            module: module.clone(),
            id: RecordId(id),
            version: 1,
            owner_id: owner,
            created_at: now,
            updated_at: now,
            values: sent.values,
        };
        self.core
            .clone()
            .db
            .write(move |tx| {
                Box::pin(async move {
                    if given {
                        check_owner(tx, permit.tenant(), record.owner_id).await?;
                    }
                    let references = record.values.iter().enumerate();
                    check_references(tx, &core, &permit, &module, references).await?;
                    let insert = core.statements(&module).insert(
                        permit.tenant(),
                        record.id,
                        record.owner_id,
                        record.created_at,
                        record.values.clone(),
                    );
                    let change = Change {
                        kind: ChangeKind::Created,
                        record: record.id,
                        before: None,
                        after: Some(record.to_json()),
                    };
                    journal::write(tx, &scope, &module, insert, change).await?;
                    Ok(record)
                })
            })
            .await
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
        expected: Option<i64>,
        body: Map<String, Json>,
    ) -> Result<Record> {
        let (core, permit) = (self.core.clone(), permit.clone());
        let module = permit.module()?.clone();
        let sent = input::update(&module, permit.tenant(), body)?;
        if let Some(owner) = sent.owner {
            may_own(permit.rows(), permit.scope(), owner)?;
        }
        self.core
            .clone()
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let before = lock(tx, &core, &permit, id, expected).await?;
                    let mut after = before.clone();
                    for (position, value) in &sent.changes {
                        after.values[*position] = value.clone();
                    }
                    let (old, rows) = (&before.values, permit.rows());
                    machine::proceed(&module, rows, old, &mut after.values, &sent.changes)?;
                    let values = before.values.iter().zip(&after.values).enumerate();
                    let changes: Vec<_> = values
                        .filter(|(_, (old, new))| old != new)
                        .map(|(position, (_, new))| (position, new.clone()))
                        .collect();
                    let owner = sent.owner.filter(|owner| *owner != before.owner_id);
                    if changes.is_empty() && owner.is_none() {
                        return Ok(before);
                    }
                    if let Some(owner) = owner {
                        check_owner(tx, permit.tenant(), owner).await?;
                        after.owner_id = owner;
                    }
                    let references = changes.iter().map(|(position, value)| (*position, value));
                    check_references(tx, &core, &permit, &module, references).await?;
                    after.version += 1;
                    after.updated_at = core.clock.now();
                    let update = core.statements(&module).update(
                        permit.tenant(),
                        id,
                        owner,
                        after.updated_at,
                        &changes,
                    );
                    let change = Change {
                        kind: ChangeKind::Updated,
                        record: id,
                        before: Some(before.to_json()),
                        after: Some(after.to_json()),
                    };
                    journal::write(tx, permit.scope(), &module, update, change).await?;
                    Ok(after)
                })
            })
            .await
    }

    /// Removes a record.
    ///
    /// # Errors
    /// Those of [`update`](Self::update); [`Error::Conflict`] while other records refer to it.
    pub async fn delete(
        &self,
        permit: &Permit<Delete>,
        id: RecordId,
        expected: Option<i64>,
    ) -> Result<()> {
        let (core, permit) = (self.core.clone(), permit.clone());
        let module = permit.module()?.clone();
        self.core
            .clone()
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let before = lock(tx, &core, &permit, id, expected).await?;
                    let delete = core.statements(&module).delete(permit.tenant(), id);
                    let change = Change {
                        kind: ChangeKind::Deleted,
                        record: id,
                        before: Some(before.to_json()),
                        after: None,
                    };
                    journal::write(tx, permit.scope(), &module, delete, change)
                        .await
                        .map_err(|error| match error {
                            Error::Conflict {
                                code: "reference_violation",
                                ..
                            } => Error::conflict(
                                "has_dependents",
                                "other records refer to this one; change or delete them first",
                            ),
                            error => error,
                        })
                })
            })
            .await
    }
}

/// The record as it is, locked, if the caller may see and change it.
async fn lock<A: crate::scope::Action>(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<A>,
    id: RecordId,
    expected: Option<i64>,
) -> Result<Record> {
    let module = permit.module()?;
    let sql = core.statements(module).get_for_update(permit.tenant(), id);
    let row = tx.fetch_optional(sql).await?.ok_or(Error::NotFound)?;
    let record = Record::from_row(module, row)?;
    if !permit.covers(record.owner_id) {
        let visible = permit.scope().permit::<Read>(module.name().as_str());
        return Err(match visible {
            Ok(read) if read.covers(record.owner_id) => Error::Forbidden {
                permission: format!("{}.{}", module.name(), A::NAME),
            },
            _ => Error::NotFound,
        });
    }
    match expected {
        Some(version) if version != record.version => Err(Error::PreconditionFailed),
        _ => Ok(record),
    }
}

/// Whoever may write own rows only cannot give them away.
fn may_own(
    rows: RowScope,
    scope: &crate::scope::Scope,
    owner: Option<UserId>,
) -> Result<Option<UserId>> {
    if rows == RowScope::All || owner == scope.actor().user() {
        return Ok(owner);
    }
    Err(Error::invalid(
        "owner_id",
        "not_allowed",
        "you may write records of your own only",
    ))
}

/// An owner is a member of the tenant.
async fn check_owner(tx: &mut Tx<'_>, tenant: TenantId, owner: Option<UserId>) -> Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    let member = Sql::new("SELECT 1 FROM memberships WHERE tenant_id = $1 AND user_id = $2")
        .bind(tenant, ColumnType::Uuid)
        .bind(owner, ColumnType::Uuid);
    match tx.fetch_optional(member).await? {
        Some(_) => Ok(()),
        None => Err(Error::invalid(
            "owner_id",
            "unknown_reference",
            "no member has this id",
        )),
    }
}

/// A reference points to a record of the same tenant that the caller may see (XC-02).
async fn check_references<'v, A>(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<A>,
    module: &CompiledModule,
    values: impl Iterator<Item = (usize, &'v Value)>,
) -> Result<()> {
    let mut refused = Vec::new();
    for (position, value) in values {
        let field = &module.fields()[position];
        let (FieldType::Reference { module: target }, Value::Uuid(id)) = (&field.kind, value)
        else {
            continue;
        };
        let found = match permit.scope().permit::<Read>(target.as_str()) {
            Ok(read) => {
                let statements: &Statements = core.statements(read.module()?);
                let sql = statements.exists(permit.tenant(), RecordId(*id), read.owner()?);
                tx.fetch_optional(sql).await?
            }
            Err(_) => None::<Row>,
        };
        if found.is_none() {
            let message = format!("there is no such record in {target}");
            refused.push(FieldError::new(
                field.name.as_str(),
                "unknown_reference",
                message,
            ));
        }
    }
    if refused.is_empty() {
        Ok(())
    } else {
        Err(Error::Invalid(refused))
    }
}
