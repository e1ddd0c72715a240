//! Many records in one transaction: checked together, written together, each with its audit and
//! outbox rows. What one entry breaks is that entry's fault alone.

mod one_by_one;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::reach;
use super::reference::{self, Named};
use super::{Field, Record};
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, FieldError, Result};
use crate::event::ChangeKind;
use crate::id::{RecordId, TenantId, UserId};
use crate::journal::{self, Change};
use crate::module::input::{self, CreateInput, UpdateInput};
use crate::module::{CompiledModule, FieldSpec, machine};
use crate::policy::RowScope;
use crate::scope::{Create, Permit, Update};
use crate::value::Value;

/// How to write many records, and by which rights.
#[derive(Clone)]
pub(crate) struct Bulk {
    pub(crate) core: Arc<Core>,
    pub(crate) create: Permit<Create>,
    /// For an upsert: the right to change, and the unique field that records are found by.
    pub(crate) upsert: Option<(Permit<Update>, usize)>,
    /// Checks everything and writes nothing.
    pub(crate) dry_run: bool,
    /// Writes only what comes before the first fault.
    pub(crate) stop_at_fault: bool,
}

/// An entry that obeys the module's rules by itself, with its line.
#[derive(Clone)]
struct Draft {
    line: u64,
    what: What,
}

#[derive(Clone)]
enum What {
    /// A new record, and the fields that its entry sets.
    New(CreateInput, Vec<Field>),
    /// A change of the record with this key, or a new one.
    Keyed {
        key: Value,
        change: UpdateInput,
        body: Map<String, Json>,
    },
}

/// A refused entry.
pub(crate) type Fault = (u64, FieldError);

/// Entries checked as far as that goes without the database.
#[derive(Clone, Default)]
pub(crate) struct Prepared {
    drafts: Vec<Draft>,
    pub(crate) faults: Vec<Fault>,
}

/// What became of some entries.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) created: u64,
    pub(crate) updated: u64,
    pub(crate) unchanged: u64,
    /// In the order of their lines; an entry may have several.
    pub(crate) faults: Vec<Fault>,
}

/// A record to be written.
struct Row {
    line: u64,
    before: Option<Record>,
    after: Record,
    /// The fields that get a value; all of a new record.
    changes: Vec<(usize, Value)>,
    owner: Option<Option<UserId>>,
}

/// The rules that entries are held against before there is a transaction. They take no permit: the
/// rights are those at the time of the [write](Bulk::write).
pub(crate) struct Rules {
    pub(crate) module: Arc<CompiledModule>,
    pub(crate) tenant: TenantId,
    /// For an upsert: the unique field that records are found by.
    pub(crate) key: Option<usize>,
    /// Whether hooks may complete what is new.
    pub(crate) hooked: bool,
}

impl Rules {
    /// Holds entries against the module's rules.
    pub(crate) fn prepare(&self, entries: Vec<(u64, Map<String, Json>)>) -> Result<Prepared> {
        let mut prepared = Prepared::default();
        prepared.drafts.reserve(entries.len());
        for (line, body) in entries {
            match self.draft(body) {
                Ok(what) => prepared.drafts.push(Draft { line, what }),
                Err(Error::Invalid(refused)) => {
                    let faults = refused.into_iter().map(|refused| (line, refused));
                    prepared.faults.extend(faults);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(prepared)
    }

    fn draft(&self, body: Map<String, Json>) -> Result<What> {
        let (module, tenant) = (&self.module, self.tenant);
        let Some(position) = self.key else {
            let named = input::named(module, &body);
            let new = match self.hooked {
                true => input::create_for_hooks(module, tenant, body),
                false => input::create(module, tenant, body),
            };
            return new.map(|new| What::New(new, named));
        };
        let change = input::update(module, tenant, body.clone())?;
        let key = change.changes.iter().find(|(at, _)| *at == position);
        let key = key.map(|(_, value)| value.clone()).unwrap_or_default();
        if key.is_null() {
            let name = module.fields()[position].name.as_str();
            let message = "is required: records are found by it";
            return Err(Error::invalid(name, "required", message));
        }
        Ok(What::Keyed { key, change, body })
    }
}

/// Amounts are judged by the currencies that their records get.
fn check_amounts(module: &CompiledModule, rows: &[Row], faults: &mut Vec<Fault>) -> Result<()> {
    for row in rows {
        let before = row.before.as_ref().map(|before| before.values.as_slice());
        match module.check_amounts(before, &row.after.values) {
            Err(Error::Invalid(refused)) => {
                faults.extend(refused.into_iter().map(|refused| (row.line, refused)));
            }
            other => other?,
        }
    }
    Ok(())
}

impl Bulk {
    /// Writes what is right.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another transaction took a unique value meanwhile: nothing is
    /// written, and a repetition will see it.
    pub(crate) async fn write(&self, tx: &mut Tx<'_>, prepared: Prepared) -> Result<Outcome> {
        let module = self.create.module()?.clone();
        if super::activity::has_effects(&self.core, &module) || !self.is_simple() {
            return self.write_each(tx, prepared).await;
        }
        let mut faults = prepared.faults;
        let mut rows = self
            .resolve(tx, &module, prepared.drafts, &mut faults)
            .await?;
        self.copy(tx, &module, &mut rows).await?;
        check_amounts(&module, &rows, &mut faults)?;
        self.check_owners(tx, &rows, &mut faults).await?;
        self.check_references(tx, &module, &rows, &mut faults)
            .await?;
        self.check_unique(tx, &module, &rows, &mut faults).await?;

        faults.sort_by_key(|(line, _)| *line);
        let refused: HashSet<u64> = faults.iter().map(|(line, _)| *line).collect();
        rows.retain(|row| !refused.contains(&row.line));
        if let Some((first, _)) = faults.first().filter(|_| self.stop_at_fault) {
            let first = *first;
            rows.retain(|row| row.line < first);
            faults.retain(|(line, _)| *line == first);
        }
        let mut outcome = Outcome {
            faults,
            ..Outcome::default()
        };
        if !self.dry_run {
            let new = rows.iter_mut().filter(|row| row.before.is_none());
            let new: Vec<_> = new.map(|row| &mut row.after).collect();
            let tenant = self.create.tenant();
            super::serial::number(tx, tenant, &module, new.into_iter()).await?;
        }
        let mut inserts = vec![];
        let mut traces: [Vec<Sql>; 3] = Default::default();
        let mut links: Vec<Vec<Sql>> = vec![vec![]; module.linked().len()];
        let mut first = None;
        for row in rows {
            let changed = !row.changes.is_empty() || row.owner.is_some();
            match &row.before {
                None => outcome.created += 1,
                Some(_) if changed => outcome.updated += 1,
                Some(_) => outcome.unchanged += 1,
            }
            if self.dry_run {
                continue;
            }
            match row.before {
                None => {
                    let id = row.after.id;
                    first = Some(first.map_or(id, |first: RecordId| first.min(id)));
                    for (links, at) in links.iter_mut().zip(module.linked()) {
                        let (tenant, value) = (self.create.tenant(), &row.after.values[*at]);
                        let rows = reference::links(&self.core, tenant, &module, id, *at, value);
                        links.extend(rows);
                    }
                    let (insert, left) = self.insert(&module, row.after);
                    inserts.push(insert);
                    for (traces, row) in traces.iter_mut().zip(left) {
                        traces.push(row);
                    }
                }
                Some(before) if changed => {
                    let update = self.core.statements(&module).update(
                        self.create.tenant(),
                        before.id,
                        row.owner,
                        row.after.updated_at,
                        &row.changes,
                    );
                    let change = Change {
                        kind: ChangeKind::Updated,
                        record: before.id,
                        before: Some(before.to_json()),
                        after: Some(row.after.to_json()),
                    };
                    journal::write(tx, self.create.scope(), &module, update, change).await?;
                    let (tenant, changes) = (self.create.tenant(), &row.changes);
                    reference::link(tx, &self.core, tenant, &module, before.id, changes).await?;
                }
                Some(_) => {}
            }
        }
        let count = u32::try_from(inserts.len()).map_err(Error::internal)?;
        for statements in [inserts].into_iter().chain(traces).chain(links) {
            tx.insert_all(statements).await?;
        }
        if let Some(first) = first {
            let tenant = self.create.tenant();
            tx.touch(tenant, module.name());
            tx.made(&module, tenant, first, count).await?;
        }
        Ok(outcome)
    }

    fn insert(&self, module: &CompiledModule, record: Record) -> (Sql, [Sql; 3]) {
        let change = Change {
            kind: ChangeKind::Created,
            record: record.id,
            before: None,
            after: Some(record.to_json()),
        };
        let insert = self.core.statements(module).insert(
            self.create.tenant(),
            record.id,
            record.owner_id,
            record.created_at,
            record.values,
        );
        (insert, journal::traces(self.create.scope(), module, change))
    }

    /// Which entries are new records and which change one.
    async fn resolve(
        &self,
        tx: &mut Tx<'_>,
        module: &Arc<CompiledModule>,
        drafts: Vec<Draft>,
        faults: &mut Vec<Fault>,
    ) -> Result<Vec<Row>> {
        let mut known = HashMap::new();
        if let Some((_, position)) = &self.upsert {
            let keys: Vec<Value> = drafts
                .iter()
                .filter_map(|draft| match &draft.what {
                    What::Keyed { key, .. } => Some(key.clone()),
                    What::New(..) => None,
                })
                .collect();
            let field = &module.fields()[*position];
            for record in self.having(tx, module, *position, &keys).await? {
                known.insert(folded(field, &record.values[*position]), record);
            }
        }
        let mut rows = Vec::with_capacity(drafts.len());
        for Draft { line, what } in drafts {
            let made = match what {
                What::New(sent, _) => self.new_row(module, line, sent),
                What::Keyed { key, change, body } => {
                    let Some((permit, position)) = &self.upsert else {
                        return Err(Error::internal("a keyed entry without an upsert"));
                    };
                    let field = &module.fields()[*position];
                    match known.get(&folded(field, &key)) {
                        Some(before)
                            if reach::covers_in(tx, &self.core, permit, before).await? =>
                        {
                            self.changed_row(line, before.clone(), change)
                        }
                        Some(_) => Err(Error::Invalid(vec![taken(field.name.as_str())])),
                        None => input::create(module, self.create.tenant(), body)
                            .and_then(|sent| self.new_row(module, line, sent)),
                    }
                }
            };
            match made {
                Ok(row) => rows.push(row),
                Err(Error::Invalid(refused)) => {
                    faults.extend(refused.into_iter().map(|refused| (line, refused)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(rows)
    }

    async fn having(
        &self,
        tx: &mut Tx<'_>,
        module: &Arc<CompiledModule>,
        position: usize,
        values: &[Value],
    ) -> Result<Vec<Record>> {
        if values.is_empty() {
            return Ok(vec![]);
        }
        let statements = self.core.statements(module);
        let field = Field::Declared(position);
        let sql = statements.having_for_update(self.create.tenant(), field, values);
        let rows = reference::locked(tx, module, sql).await?;
        rows.into_iter()
            .map(|row| Record::from_row(module, row))
            .collect()
    }

    fn new_row(&self, module: &Arc<CompiledModule>, line: u64, sent: CreateInput) -> Result<Row> {
        let owner = match sent.owner {
            Some(owner) if self.create.may_give_to(owner) => owner,
            Some(_) => return Err(foreign_owner()),
            None => self.create.scope().actor().user(),
        };
        machine::begin(module, &sent.values)?;
        let (id, now) = self.core.clock.new_id_and_time();
        let after = Record {
            module: module.clone(),
            id: RecordId(id),
            version: 1,
            owner_id: owner,
            created_at: now,
            updated_at: now,
            deleted_at: None,
            values: sent.values,
        };
        Ok(Row {
            line,
            before: None,
            changes: vec![],
            owner: sent.owner,
            after,
        })
    }

    fn changed_row(&self, line: u64, before: Record, sent: UpdateInput) -> Result<Row> {
        let mut after = before.clone();
        let (mut sent, fields) = (sent, before.module.fields());
        sent.changes.retain(|(position, value)| {
            let field = &fields[*position];
            let same = self.upsert.as_ref().is_some_and(|(_, key)| key == position)
                && folded(field, value) == folded(field, &before.values[*position]);
            !same
        });
        before.module.keeps(&before.values, &sent.changes)?;
        for (position, value) in &sent.changes {
            after.values[*position] = value.clone();
        }
        let rows = self
            .upsert
            .as_ref()
            .map_or(RowScope::Own, |(permit, _)| permit.rows().scope());
        let (module, old) = (&before.module, &before.values);
        machine::proceed(module, rows, old, &mut after.values, &sent.changes).map_err(as_fault)?;
        let values = before.values.iter().zip(&after.values).enumerate();
        let changes: Vec<_> = values
            .filter(|(_, (old, new))| old != new)
            .map(|(position, (_, new))| (position, new.clone()))
            .collect();
        let owner = sent.owner.filter(|owner| *owner != before.owner_id);
        if let (Some(owner), Some((permit, _))) = (owner, &self.upsert) {
            if !permit.may_give_to(owner) {
                return Err(foreign_owner());
            }
            after.owner_id = owner;
        }
        after.version += 1;
        after.updated_at = self.core.clock.now();
        Ok(Row {
            line,
            before: Some(before),
            after,
            changes,
            owner,
        })
    }

    /// Copied fields get their values with their references.
    async fn copy(&self, tx: &mut Tx<'_>, module: &CompiledModule, rows: &mut [Row]) -> Result<()> {
        if module.copies().is_empty() {
            return Ok(());
        }
        let records = rows.iter_mut().map(|row| {
            let before = row.before.as_ref().map(|before| before.values.as_slice());
            (before, &mut row.after.values)
        });
        let (tenant, records) = (self.create.tenant(), records.collect());
        super::copy::fill_all(tx, &self.core, tenant, module, records).await?;
        for row in rows {
            let Some(before) = &row.before else { continue };
            for at in module.copies().iter().map(|copied| copied.position) {
                if before.values[at] != row.after.values[at] {
                    row.changes.push((at, row.after.values[at].clone()));
                }
            }
        }
        Ok(())
    }

    /// Owners that entries name are members of the tenant.
    async fn check_owners(
        &self,
        tx: &mut Tx<'_>,
        rows: &[Row],
        faults: &mut Vec<Fault>,
    ) -> Result<()> {
        let named: HashSet<Uuid> = rows
            .iter()
            .filter_map(|row| row.owner.flatten())
            .map(|owner| owner.0)
            .collect();
        if named.is_empty() {
            return Ok(());
        }
        let mut sql = Sql::new("SELECT user_id FROM memberships WHERE tenant_id = ");
        sql.arg(self.create.tenant(), ColumnType::Uuid)
            .push(" AND user_id IN (");
        for (count, owner) in named.into_iter().enumerate() {
            if count > 0 {
                sql.push(", ");
            }
            sql.arg(owner, ColumnType::Uuid);
        }
        sql.push(")");
        let members = ids(tx, sql.returns(&[ColumnType::Uuid])).await?;
        for row in rows {
            if row
                .owner
                .flatten()
                .is_some_and(|owner| !members.contains(&owner.0))
            {
                let message = "no member has this id";
                let refused = FieldError::new("owner_id", "unknown_reference", message);
                faults.push((row.line, refused));
            }
        }
        Ok(())
    }

    /// References point to records of the tenant that the caller may see (XC-02).
    async fn check_references(
        &self,
        tx: &mut Tx<'_>,
        module: &CompiledModule,
        rows: &[Row],
        faults: &mut Vec<Fault>,
    ) -> Result<()> {
        for (position, field) in module.fields().iter().enumerate() {
            for target in field.kind.targets() {
                let of_row = |row: &Row| {
                    let before = row.before.as_ref();
                    let before = before.and_then(|before| before.values.get(position));
                    let named = reference::named(module, position, row.given(position)?, before);
                    named.filter(|named| named.target == target)
                };
                let each: Vec<_> = rows.iter().map(of_row).collect();
                let ids: HashSet<Uuid> = each
                    .iter()
                    .flatten()
                    .flat_map(|named| named.ids.iter().copied())
                    .collect();
                if ids.is_empty() {
                    continue;
                }
                let all = Named {
                    field: position,
                    target,
                    ids: ids.into_iter().collect(),
                };
                let scope = self.create.scope();
                let found = reference::visible(tx, &self.core, scope, module, &all).await?;
                for (row, named) in rows.iter().zip(each) {
                    if let Some(named) = named
                        && !named.ids.iter().all(|id| found.contains(id))
                    {
                        faults.push((row.line, reference::unknown(module, &named)));
                    }
                }
            }
        }
        Ok(())
    }

    /// Unique values are taken neither by a record nor by an earlier entry.
    async fn check_unique(
        &self,
        tx: &mut Tx<'_>,
        module: &Arc<CompiledModule>,
        rows: &[Row],
        faults: &mut Vec<Fault>,
    ) -> Result<()> {
        let unique = module.fields().iter().enumerate();
        for (position, field) in unique.filter(|(_, field)| field.unique) {
            let given = |row: &Row| match row.given(position) {
                None | Some(Value::Null) => None,
                Some(value) => Some(value.clone()),
            };
            let values: Vec<Value> = rows.iter().filter_map(given).collect();
            let mut holders = HashMap::new();
            for record in self.having(tx, module, position, &values).await? {
                holders.insert(folded(field, &record.values[position]), record.id);
            }
            for row in rows {
                let Some(value) = given(row) else { continue };
                let holder = holders.entry(folded(field, &value)).or_insert(row.after.id);
                if *holder != row.after.id {
                    faults.push((row.line, taken(field.name.as_str())));
                }
            }
        }
        Ok(())
    }
}

impl Row {
    /// The value that the field at `position` gets, if it gets one.
    fn given(&self, position: usize) -> Option<&Value> {
        match self.before {
            None => self.after.values.get(position),
            Some(_) => {
                let change = self.changes.iter().find(|(at, _)| *at == position);
                change.map(|(_, value)| value)
            }
        }
    }
}

async fn ids(tx: &mut Tx<'_>, sql: Sql) -> Result<HashSet<Uuid>> {
    let rows = tx.fetch_all(sql).await?;
    rows.into_iter().map(|mut row| row.uuid()).collect()
}

fn taken(field: &str) -> FieldError {
    let message = "another record has this value already";
    FieldError::new(field, "already_exists", message)
}

/// A refusal of the entry rather than of the batch.
fn as_fault(error: Error) -> Error {
    match error {
        Error::Conflict { code, message } => Error::Invalid(vec![FieldError {
            pointer: String::new(),
            code,
            message: message.into_owned(),
        }]),
        error => error,
    }
}

fn foreign_owner() -> Error {
    let message = "you may write records of your own only";
    Error::invalid("owner_id", "not_allowed", message)
}

/// The value as its unique index compares it.
fn folded(field: &FieldSpec, value: &Value) -> String {
    match value {
        Value::Text(text) if field.folds() => text.to_ascii_lowercase(),
        Value::Text(text) => text.clone(),
        value => format!("{value:?}"),
    }
}
