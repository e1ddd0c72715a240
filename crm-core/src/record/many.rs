//! Bulk writes: one change of all records that match a condition, or their removal, in one
//! transaction. Each record gets its own version step, audit row and event, and obeys its machines;
//! where a module's writes cause others, each goes the way of a single write.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value as Json};

use super::activity::has_effects;
use super::reference;
use super::write::{change_in, check_owner, checked_update, judged, remove_locked};
use super::{Answered, Count, Filter, Once, Query, Record, Records, Refused, Reply};
use crate::count::told;
use crate::crm::Core;
use crate::db::record::SearchPath;
use crate::db::{Sql, Tx};
use crate::error::{Error, Result};
use crate::event::ChangeKind;
use crate::journal::{self, Change};
use crate::module::CompiledModule;
use crate::module::input::UpdateInput;
use crate::reach::Reach;
use crate::scope::{Delete, Permit, Read, Scope, Update};
use crate::value::Value;

/// Most records of one bulk write.
pub const MAX_MATCHES: u64 = 10_000;
/// Records of one statement.
const CHUNK: usize = 500;

/// A bulk write, checked as far as that goes without the database.
pub struct Many {
    filter: Filter,
    reach: Reach,
    expected: Option<u64>,
    what: What,
}

enum What {
    Update(Permit<Update>, UpdateInput),
    Delete(Permit<Delete>),
}

/// What a bulk write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matched {
    /// Records that both permits cover and the condition matches.
    pub matched: u64,
    /// Those of them that are different now, or gone.
    pub changed: u64,
}

impl Many {
    /// Sets these fields of all records that match and that both permits cover; with a number, only
    /// if there are so many.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every refused field, and when none is named.
    pub fn update(
        read: &Permit<Read>,
        update: &Permit<Update>,
        filter: Filter,
        set: Map<String, Json>,
        expected: Option<u64>,
    ) -> Result<Self> {
        if set.is_empty() {
            let message = "Name a field to set.";
            return Err(Error::invalid("set", "required", message));
        }
        let checked = checked_update(update, set).map_err(|error| error.under("/set"))?;
        let (update, sent) = checked;
        let read = read.to_ask(filter.fields())?;
        Ok(Self {
            filter,
            reach: read.reach().and(update.reach()),
            expected,
            what: What::Update(update, sent),
        })
    }

    /// Removes all records that match and that both permits cover; with a number, only if there are
    /// so many.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a filter over fields that may not be read.
    pub fn delete(
        read: &Permit<Read>,
        delete: &Permit<Delete>,
        filter: Filter,
        expected: Option<u64>,
    ) -> Result<Self> {
        let read = read.to_ask(filter.fields())?;
        Ok(Self {
            filter,
            reach: read.reach().and(delete.reach()),
            expected,
            what: What::Delete(delete.clone()),
        })
    }

    fn scope(&self) -> &Scope {
        match &self.what {
            What::Update(permit, _) => permit.scope(),
            What::Delete(permit) => permit.scope(),
        }
    }

    async fn run_in(&self, tx: &mut Tx<'_>, core: &Core) -> Result<Matched> {
        let (scope, module) = match &self.what {
            What::Update(permit, _) => (permit.scope(), permit.module()?),
            What::Delete(permit) => (permit.scope(), permit.module()?),
        };
        let statements = core.statements(module);
        let (tenant, reach) = (scope.tenant(), &self.reach);
        let sql = statements.matching_for_update(tenant, reach, &self.filter, MAX_MATCHES + 1);
        let rows = reference::locked(tx, module, sql).await?;
        let mut matched = rows.len() as u64;
        if matched > MAX_MATCHES {
            let query = Query {
                filter: Some(self.filter.clone()),
                count: Count::Exact,
                ..Query::default()
            };
            let sql = statements.count(tenant, reach, &query, SearchPath::Scan);
            matched = tx.number(sql).await?.unsigned_abs();
        }
        if let Some(expected) = self.expected.filter(|expected| *expected != matched) {
            let message = format!(
                "the filter matches {}, not {expected}; nothing was changed",
                told(matched, "record", "records")
            );
            return Err(Error::conflict("count_mismatch", message));
        }
        if matched > MAX_MATCHES {
            let message = format!(
                "the filter matches {matched} records; at most {MAX_MATCHES} are written at once: \
                 narrow it down"
            );
            return Err(Error::conflict("too_many_matches", message));
        }
        let records = rows.into_iter().map(|row| Record::from_row(module, row));
        let records: Vec<Record> = records.collect::<Result<_>>()?;
        let changed = match &self.what {
            What::Update(permit, sent) => update_all(tx, core, permit, records, sent).await?,
            What::Delete(permit) => delete_all(tx, core, permit, records).await?,
        };
        Ok(Matched { matched, changed })
    }
}

impl Records {
    /// Does a bulk write in one transaction: all of it, or nothing.
    ///
    /// # Errors
    /// [`Error::Conflict`] `too_many_matches` for more than 10,000 records and `count_mismatch` for
    /// another number than expected; those of the single writes, naming the record.
    pub async fn write_many(&self, many: Many) -> Result<Matched> {
        let tenant = many.scope().tenant();
        let many = Arc::new(many);
        self.heard(tenant, move |tx, core| {
            let many = many.clone();
            Box::pin(async move { many.run_in(tx, core).await })
        })
        .await
    }

    /// Does a bulk write and answers what `reply` makes of it; with `once` the answer is stored in
    /// the same transaction, and the same request is answered from there.
    ///
    /// # Errors
    /// Those of [`write_many`](Self::write_many), and of `reply`.
    pub async fn perform_many<F>(
        &self,
        many: Many,
        once: Option<Once>,
        reply: F,
    ) -> Result<Answered, Refused>
    where
        F: Fn(Matched) -> Result<Reply> + Send + Sync + 'static,
    {
        let tenant = many.scope().tenant();
        let request = Arc::new((many, reply));
        self.answer(tenant, once, move |tx, core| {
            let request = request.clone();
            Box::pin(async move {
                let (many, reply) = &*request;
                Ok(reply(many.run_in(tx, core).await?)?)
            })
        })
        .await
    }
}

async fn update_all(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Update>,
    records: Vec<Record>,
    sent: &UpdateInput,
) -> Result<u64> {
    let module = permit.module()?;
    let linked = |(at, _): &(usize, Value)| module.linked().contains(at);
    let one_by_one =
        has_effects(tx, core, module) || !module.copies().is_empty() || !permit.reach().is_simple();
    match one_by_one || sent.changes.iter().any(linked) {
        true => update_each(tx, core, permit, records, sent).await,
        false => update_together(tx, core, permit, records, sent).await,
    }
}

/// Changes one record after the other, as single writes do.
async fn update_each(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Update>,
    records: Vec<Record>,
    sent: &UpdateInput,
) -> Result<u64> {
    let mut changed = 0;
    for before in records {
        let (id, version) = (before.id, before.version);
        let after = change_in(tx, core, permit, before, sent).await;
        let after = after.map_err(|error| named(error, &id))?;
        changed += u64::from(after.version != version);
    }
    Ok(changed)
}

/// Changes many records by one statement, where no write causes another.
async fn update_together(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Update>,
    records: Vec<Record>,
    sent: &UpdateInput,
) -> Result<u64> {
    let module = permit.module()?;
    let now = core.clock.now();
    let (groups, pairs) = grouped(permit, records, sent, now)?;
    let Some((_, first)) = pairs.first() else {
        return Ok(0);
    };
    if sent.owner.is_some() {
        let owner = first.owner_id;
        check_owner(tx, permit.tenant(), owner)
            .await
            .map_err(|error| error.under("/set"))?;
    }
    for Group { changes, .. } in &groups.0 {
        let named = changes
            .iter()
            .filter_map(|(at, value)| reference::named(module, *at, value, None));
        let named = named.collect();
        let checked = reference::check(tx, core, permit.scope(), module, named).await;
        checked.map_err(|error| error.under("/set"))?;
    }
    let statements = core.statements(module);
    for Group { changes, ids } in &groups.0 {
        for ids in ids.chunks(CHUNK) {
            let tenant = permit.tenant();
            tx.execute(statements.update_many(tenant, ids, sent.owner, now, changes))
                .await?;
        }
    }
    let changes = pairs.iter().map(|(before, after)| Change {
        kind: ChangeKind::Updated,
        record: before.id,
        before: Some(before.to_json()),
        after: Some(after.to_json()),
    });
    trace(tx, permit.scope(), module, changes).await?;
    Ok(pairs.len() as u64)
}

/// The records that change, each as it was and as it will be, and in groups what they are set to.
fn grouped(
    permit: &Permit<Update>,
    records: Vec<Record>,
    sent: &UpdateInput,
    now: DateTime<Utc>,
) -> Result<(Groups, Vec<(Record, Record)>)> {
    let module = permit.module()?;
    let (mut groups, mut pairs) = (Groups::default(), Vec::new());
    for before in records {
        let (mut after, forced) =
            judged(permit, &before, sent).map_err(|error| named(error, &before.id))?;
        if before.values == after.values && before.owner_id == after.owner_id {
            continue;
        }
        let amounts = module.check_amounts(Some(&before.values), &after.values);
        amounts.map_err(|error| named(error, &before.id))?;
        after.version += 1;
        after.updated_at = now;
        let mut changes = sent.changes.clone();
        for position in forced {
            changes.retain(|(at, _)| *at != position);
            changes.push((position, after.values[position].clone()));
        }
        changes.sort_unstable_by_key(|(position, _)| *position);
        groups.add(changes, &after);
        pairs.push((before, after));
    }
    Ok((groups, pairs))
}

async fn delete_all(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Delete>,
    records: Vec<Record>,
) -> Result<u64> {
    let module = permit.module()?;
    let changed = records.len() as u64;
    let system = permit.scope().elevated_in(tx).await?;
    let referred = system.dependents(module.name()).next().is_some();
    if referred || has_effects(tx, core, module) || !module.linked().is_empty() {
        // The youngest first: what a record of the same module refers to is mostly older.
        for before in records.into_iter().rev() {
            let id = before.id;
            // One of those before it may have taken it along, or changed it.
            let sql = core
                .statements(module)
                .get_for_update(permit.tenant(), before.id);
            let rows = reference::locked(tx, module, sql).await?;
            let Some(row) = rows.into_iter().next() else {
                continue;
            };
            let before = Record::from_row(module, row)?;
            let removed = remove_locked(tx, core, permit, before).await;
            removed.map_err(|error| named(error, &id))?;
        }
        return Ok(changed);
    }
    let (statements, tenant, now) = (core.statements(module), permit.tenant(), core.clock.now());
    let ids: Vec<Value> = records.iter().map(|record| record.id.into()).collect();
    for ids in ids.chunks(CHUNK) {
        tx.execute(match module.spec().soft_delete {
            true => statements.discard_many(tenant, ids, now),
            false => statements.delete_many(tenant, ids),
        })
        .await?;
    }
    let changes = records.iter().map(|before| Change {
        kind: ChangeKind::Deleted,
        record: before.id,
        before: Some(before.to_json()),
        after: None,
    });
    trace(tx, permit.scope(), module, changes).await?;
    Ok(changed)
}

/// Records that get the same values, together: few groups, for they differ in what machines set.
#[derive(Default)]
struct Groups(Vec<Group>);

struct Group {
    changes: Vec<(usize, Value)>,
    ids: Vec<Value>,
}

impl Groups {
    fn add(&mut self, changes: Vec<(usize, Value)>, record: &Record) {
        let id = record.id.into();
        match self.0.iter_mut().find(|group| group.changes == changes) {
            Some(group) => group.ids.push(id),
            None => self.0.push(Group {
                changes,
                ids: vec![id],
            }),
        }
    }
}

/// Writes the audit rows and events of many changes.
pub(super) async fn trace(
    tx: &mut Tx<'_>,
    scope: &Scope,
    module: &CompiledModule,
    changes: impl Iterator<Item = Change>,
) -> Result<()> {
    tx.touch(scope.tenant(), module.name());
    let traces = changes.map(|change| journal::traces(scope, module, change));
    let mut tables: [Vec<Sql>; 3] = Default::default();
    for rows in traces {
        for (table, row) in tables.iter_mut().zip(rows) {
            table.push(row);
        }
    }
    for rows in tables {
        tx.insert_all(rows).await?;
    }
    Ok(())
}

/// The refusal with the record that it is about.
fn named(error: Error, id: &impl std::fmt::Display) -> Error {
    match error.under("/set") {
        Error::Conflict { code, message } => {
            Error::conflict(code, format!("record {id}: {message}"))
        }
        Error::Invalid(mut fields) => {
            for field in &mut fields {
                field.message = format!("record {id}: {}", field.message);
            }
            Error::Invalid(fields)
        }
        error => error,
    }
}
