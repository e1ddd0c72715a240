//! Merging: several records of one module become one.
//!
//! The survivor takes the values it lacks, and those it is told to take, of the fields that the
//! caller may write in every record; tags and lists of references are united, as much as fits.
//! Every reference to the others points to the survivor afterwards, but for its own, which are
//! dropped: it never refers to itself. The others are deleted, all in one transaction with an audit
//! row and an event for each record that changed.

use std::collections::HashMap;

use serde_json::json;
use uuid::Uuid;

use super::activity::has_effects;
use super::hook::{self, Step};
use super::many::trace;
use super::reach;
use super::reference;
use super::write::{Expected, Kind, Write, admit, remove_locked, store_in};
use super::{Field, Record, Records};
use crate::crm::Core;
use crate::db::Tx;
use crate::error::{Error, FieldError, Result};
use crate::event::ChangeKind;
use crate::id::RecordId;
use crate::journal::{self, Change};
use crate::module::machine::Writer;
use crate::module::{CompiledModule, FieldSpec, FieldType, Ident, machine};
use crate::registry::Dependent;
use crate::scope::{Delete, Permit, Read, Scope, Update};
use crate::value::Value;

/// Most records that one merge makes part of another.
pub const MAX_MERGED: usize = 20;
/// Most references that one merge points elsewhere.
const MAX_REFERENCES: usize = 10_000;
/// Records of one statement.
const CHUNK: usize = 500;

/// What is merged into a record.
#[derive(Debug, Clone, Default)]
pub struct Merge {
    /// The records that become part of it, 1 to 20, each for the versions it may have. Values that
    /// the survivor lacks are taken from the first one that has them.
    pub from: Vec<(RecordId, Option<i64>)>,
    /// Fields whose value is taken from a certain one of the records.
    pub take: Vec<(String, RecordId)>,
}

/// A checked merge.
pub(super) struct Merging {
    read: Permit<Read>,
    update: Permit<Update>,
    delete: Permit<Delete>,
    survivor: RecordId,
    expected: Expected,
    from: Vec<(RecordId, Expected)>,
    take: HashMap<usize, RecordId>,
}

impl Write {
    /// Makes other records part of this one. It needs the rights to change the survivor and to
    /// delete the others, and to read all of them; references follow by rule.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is not 1 to 20 different other records, and for a `take` of an
    /// unknown field or record.
    pub fn merge(
        read: &Permit<Read>,
        update: &Permit<Update>,
        delete: &Permit<Delete>,
        survivor: RecordId,
        expected: impl Into<Expected>,
        merge: Merge,
    ) -> Result<Self> {
        let module = update.module()?;
        let mut refused = Vec::new();
        let mut refuse = |pointer: String, code, message: &str| {
            refused.push(FieldError {
                pointer,
                code,
                message: message.to_owned(),
            });
        };
        if !(1..=MAX_MERGED).contains(&merge.from.len()) {
            let message = format!("Name 1 to {MAX_MERGED} records.");
            refuse("/from".to_owned(), "wrong_count", &message);
        }
        for (at, (id, _)) in merge.from.iter().enumerate() {
            if *id == survivor || merge.from[..at].iter().any(|(other, _)| other == id) {
                let message = "Name each other record once.";
                refuse(format!("/from/{at}"), "duplicate", message);
            }
        }
        let mut take = HashMap::new();
        for (name, id) in &merge.take {
            let pointer = FieldError::pointer_to(name);
            let known = *id == survivor || merge.from.iter().any(|(other, _)| other == id);
            match module.position(name) {
                None => {
                    let message = format!("{} has no such field.", module.name());
                    refuse(format!("/take{pointer}"), "unknown_field", &message);
                }
                Some(_) if !known => {
                    let message = "Take values from one of the records that are merged.";
                    refuse(format!("/take{pointer}"), "unknown_reference", message);
                }
                Some(_) if !update.writes_everywhere(name) => {
                    let message = "is not for you to write; leave it out";
                    refuse(format!("/take{pointer}"), "not_allowed", message);
                }
                Some(position) if is_kept(module, position) => {
                    let message = "The record that stays keeps its own value of this field.";
                    refuse(format!("/take{pointer}"), "immutable", message);
                }
                Some(position) => {
                    take.insert(position, *id);
                }
            }
        }
        if !refused.is_empty() {
            return Err(Error::Invalid(refused));
        }
        let from = merge.from.into_iter();
        Ok(Self(Kind::Merge(Box::new(Merging {
            read: read.clone(),
            update: update.clone(),
            delete: delete.clone(),
            survivor,
            expected: expected.into(),
            from: from.map(|(id, version)| (id, version.into())).collect(),
            take,
        }))))
    }
}

impl Records {
    /// Makes other records part of one, and answers it as it is now: a write that
    /// [`Write::merge`] checked.
    ///
    /// # Errors
    /// Those of the write; [`Error::NotFound`] and [`Error::Forbidden`] as for an update of the
    /// survivor and a delete of the others, [`Error::Invalid`] on `/from` for those that are absent and
    /// on a required field that names nothing but the others,
    /// [`Error::Conflict`] `too_many_references` when more than 10,000 records refer to them.
    pub async fn merge(&self, merge: Write) -> Result<Record> {
        Ok(self.write(merge).await?.record)
    }
}

impl Merging {
    pub(super) fn scope(&self) -> &Scope {
        self.update.scope()
    }

    pub(super) async fn run_in(&self, tx: &mut Tx<'_>, core: &Core) -> Result<Record> {
        let (survivor, others) = self.lock(tx, core).await?;
        let after = self.united(&survivor, &others)?;
        self.repoint(tx, core).await?;
        // Among the others may be references to each other, which are new now.
        let mut known = self.locked(tx, core).await?;
        let module = self.update.module()?;
        for other in &others {
            let before = known.remove(&other.id).ok_or(Error::NotFound)?;
            let entity = (module.name().as_str(), Some(other.id.to_string()));
            let action = format!("{}.merge", module.name());
            let into = json!({"merged_into": survivor.id});
            let scope = self.delete.scope();
            journal::audit(tx, scope, &action, entity, None, Some(into)).await?;
            remove_locked(tx, core, &self.delete, before).await?;
        }
        // Its own references to the others are new, too.
        let before = known.remove(&survivor.id).ok_or(Error::NotFound)?;
        self.store(tx, core, before, after).await
    }

    /// The survivor and the others in the order asked for, locked.
    async fn lock(&self, tx: &mut Tx<'_>, core: &Core) -> Result<(Record, Vec<Record>)> {
        let module = self.update.module()?;
        let mut known = self.locked(tx, core).await?;
        let survivor = known.remove(&self.survivor).ok_or(Error::NotFound)?;
        admit(tx, core, &self.update, &survivor).await?;
        if !reach::covers_in(tx, core, &self.read, &survivor).await? {
            return Err(Error::NotFound);
        }
        if !self.expected.admits(survivor.version) {
            return Err(Error::PreconditionFailed);
        }
        let (mut others, mut refused) = (Vec::new(), Vec::new());
        for (at, (id, expected)) in self.from.iter().enumerate() {
            let mut seen = known.remove(id);
            if let Some(one) = &seen
                && !reach::covers_in(tx, core, &self.read, one).await?
            {
                seen = None;
            }
            let Some(other) = seen else {
                refused.push(FieldError {
                    pointer: format!("/from/{at}"),
                    code: "unknown_reference",
                    message: format!("there is no such record in {}", module.name()),
                });
                continue;
            };
            admit(tx, core, &self.delete, &other).await?;
            if !expected.admits(other.version) {
                return Err(Error::PreconditionFailed);
            }
            others.push(other);
        }
        match refused.is_empty() {
            true => Ok((survivor, others)),
            false => Err(Error::Invalid(refused)),
        }
    }

    async fn locked(&self, tx: &mut Tx<'_>, core: &Core) -> Result<HashMap<RecordId, Record>> {
        let module = self.update.module()?;
        let ids = std::iter::once(self.survivor).chain(self.from.iter().map(|(id, _)| *id));
        let ids: Vec<Value> = ids.map(Value::from).collect();
        let statements = core.statements(module);
        let sql = statements.having_for_update(self.update.tenant(), Field::Id, &ids);
        let rows = reference::locked(tx, module, sql).await?.into_iter();
        let records = rows.map(|row| Record::from_row(module, row));
        records
            .map(|record| record.map(|record| (record.id, record)))
            .collect()
    }

    /// The survivor's values after the merge.
    fn united(&self, survivor: &Record, others: &[Record]) -> Result<Vec<Value>> {
        let module = self.update.module()?;
        let mut values = Vec::with_capacity(survivor.values.len());
        for (position, field) in module.fields().iter().enumerate() {
            let rest = |record: &Record| self.rest(module.name(), field, &record.values[position]);
            let own = rest(survivor);
            let value = if let Some(id) = self.take.get(&position) {
                others
                    .iter()
                    .find(|other| other.id == *id)
                    .map_or(own, rest)
            } else if is_kept(module, position)
                || !self.update.writes_everywhere(field.name.as_str())
                || own.is_null() != survivor.values[position].is_null()
            {
                // Also what named one of the records is nothing that the survivor lacked.
                own
            } else {
                united(field, own, others.iter().map(rest))
            };
            if value.is_null() && field.required && !survivor.values[position].is_null() {
                let message = "would refer to the record itself; let it refer to another one first";
                return Err(Error::invalid(field.name.as_str(), "required", message));
            }
            values.push(value);
        }
        self.unmix(module, survivor, others, &mut values)?;
        Ok(values)
    }

    /// The value of a field without what names one of the records: the survivor would refer to
    /// itself.
    fn rest(&self, module: &Ident, field: &FieldSpec, value: &Value) -> Value {
        match (&field.kind, value) {
            (FieldType::Reference { module: target, .. }, Value::Uuid(id))
                if target == module && self.is_one(*id) =>
            {
                Value::Null
            }
            (FieldType::References { module: target, .. }, Value::Tags(ids))
                if target == module =>
            {
                let rest = ids
                    .iter()
                    .filter(|id| !id.parse::<Uuid>().is_ok_and(|id| self.is_one(id)));
                Value::Tags(rest.cloned().collect())
            }
            (FieldType::AnyReference { .. }, Value::Text(text)) => match reference::split(text) {
                Some((name, id)) if name == module.as_str() && self.is_one(id) => Value::Null,
                _ => value.clone(),
            },
            _ => value.clone(),
        }
    }

    /// An amount comes with its currency: one of another currency is not taken, and no currency is
    /// given to an amount that had none.
    fn unmix(
        &self,
        module: &CompiledModule,
        survivor: &Record,
        others: &[Record],
        values: &mut [Value],
    ) -> Result<()> {
        for at in 0..values.len() {
            let Some(currency) = module.currency_of(at) else {
                continue;
            };
            let (amount, own) = (&survivor.values[at], &survivor.values[currency]);
            if let Some(id) = self.take.get(&at) {
                let taken = others.iter().find(|other| other.id == *id);
                if taken.unwrap_or(survivor).values[currency] != values[currency] {
                    let unit = module.fields()[currency].name.as_str();
                    let message = format!("Take {unit} from the same record.");
                    let name = module.fields()[at].name.as_str();
                    return Err(Error::invalid(name, "mixed_currencies", message).under("/take"));
                }
            } else if !amount.is_null() && !self.take.contains_key(&currency) {
                values[currency] = own.clone();
            }
        }
        for at in 0..values.len() {
            let Some(currency) = module.currency_of(at) else {
                continue;
            };
            let writes = self
                .update
                .writes_everywhere(module.fields()[at].name.as_str());
            if writes && survivor.values[at].is_null() && !self.take.contains_key(&at) {
                let mut given = others.iter().filter(|other| {
                    !other.values[at].is_null() && other.values[currency] == values[currency]
                });
                let given = given.next().map(|other| other.values[at].clone());
                values[at] = given.unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Whether this is the id of one of the records.
    fn is_one(&self, id: Uuid) -> bool {
        id == self.survivor.0 || self.from.iter().any(|(other, _)| other.0 == id)
    }

    /// Writes what the survivor gets, through the hooks of a merge and those of an update.
    async fn store(
        &self,
        tx: &mut Tx<'_>,
        core: &Core,
        before: Record,
        values: Vec<Value>,
    ) -> Result<Record> {
        let module = self.update.module()?;
        let mut after = before.clone();
        after.values = values;
        let pairs = before.values.iter().zip(&after.values).enumerate();
        let changes: Vec<_> = pairs
            .filter(|(_, (old, new))| old != new)
            .map(|(position, (_, new))| (position, new.clone()))
            .collect();
        let (writer, old) = (Writer::of(&self.update), &before.values);
        let forced = machine::proceed(module, writer, old, &mut after.values, &changes)?;
        let chain = [ChangeKind::Merged, ChangeKind::Updated];
        let chain: Vec<_> = chain
            .into_iter()
            .flat_map(|kind| core.hooks.of(module, kind).iter().cloned())
            .collect();
        if chain.is_empty() && !tx.hearing().concerns(module, ChangeKind::Updated) {
            let kind = ChangeKind::Merged;
            return store_in(tx, core, &self.update, before, after, (kind, &forced)).await;
        }
        let step = Step::Merge(self.update.clone(), forced);
        hook::run(tx, core, &chain, step, Some(before), Some(after)).await
    }

    /// Points every reference to the others at the survivor, also those in the trash. A record that
    /// refers to them by several fields changes once.
    async fn repoint(&self, tx: &mut Tx<'_>, core: &Core) -> Result<()> {
        let system = self.update.scope().elevated_in(tx).await?;
        let mut left = MAX_REFERENCES;
        let mut modules: Vec<(&Dependent, Vec<&Dependent>)> = Vec::new();
        for dependent in system.dependents(self.update.module()?.name()) {
            let name = dependent.module.name();
            let mut known = modules.iter_mut();
            match known.find(|(first, _)| first.module.name() == name) {
                Some((_, others)) => others.push(dependent),
                None => modules.push((dependent, vec![dependent])),
            }
        }
        for (first, dependents) in modules {
            let permit = system.permit::<Update>(first.module.name().as_str())?;
            let found = self
                .referring(tx, core, &permit, &dependents, left + 1)
                .await?;
            left = left.checked_sub(found.len()).ok_or_else(too_many)?;
            point_all(tx, core, &permit, found).await?;
        }
        Ok(())
    }

    /// The records of one module that refer to the others, each with what its fields get.
    async fn referring(
        &self,
        tx: &mut Tx<'_>,
        core: &Core,
        permit: &Permit<Update>,
        dependents: &[&Dependent],
        most: usize,
    ) -> Result<Vec<Pointed>> {
        let (module, name) = (permit.module()?, self.update.module()?.name());
        let (live, tenant) = (core.statements(module), permit.tenant());
        let from: Vec<RecordId> = self.from.iter().map(|(id, _)| *id).collect();
        let (mut found, mut places) = (Vec::<Pointed>::new(), HashMap::new());
        for dependent in dependents {
            let position = dependent.field;
            let mut shelves = vec![live.clone()];
            if module.spec().soft_delete {
                shelves.push(live.trash());
            }
            for shelf in shelves {
                let sql = shelf.referring(tenant, position, (name, &from), most);
                for row in reference::locked(tx, module, sql).await? {
                    let before = Record::from_row(module, row)?;
                    let to = self.replaced(name, before.values.get(position));
                    let place = *places.entry(before.id).or_insert(found.len());
                    if place == found.len() {
                        let (changes, alone) = (Vec::new(), false);
                        found.push(Pointed {
                            before,
                            changes,
                            alone,
                        });
                    }
                    if let Some(pointed) = found.get_mut(place) {
                        pointed.changes.push((position, to));
                        pointed.alone |= !dependent.is_single();
                    }
                }
            }
        }
        Ok(found)
    }

    /// A value that names others, with the survivor in their place.
    fn replaced(&self, module: &Ident, value: Option<&Value>) -> Value {
        let goes = |id: &String| self.from.iter().any(|(other, _)| other.to_string() == *id);
        match value {
            Some(Value::Tags(ids)) => {
                let mut to: Vec<String> = Vec::with_capacity(ids.len());
                for id in ids {
                    let id = match goes(id) {
                        true => self.survivor.to_string(),
                        false => id.clone(),
                    };
                    if !to.contains(&id) {
                        to.push(id);
                    }
                }
                Value::Tags(to)
            }
            Some(Value::Text(_)) => Value::Text(format!("{module}/{}", self.survivor)),
            _ => Value::from(self.survivor),
        }
    }
}

/// A record that refers to what is merged.
struct Pointed {
    before: Record,
    changes: Vec<(usize, Value)>,
    /// Whether more than its own columns hold the references.
    alone: bool,
}

fn too_many() -> Error {
    let message = format!(
        "more than {MAX_REFERENCES} records refer to those that would be merged; change some of \
         them first"
    );
    Error::conflict("too_many_references", message)
}

/// The survivor's value of a field with those of the others: lists are united, as much as fits, and
/// another value is taken from the first that has one where the survivor has none.
fn united(field: &FieldSpec, own: Value, mut others: impl Iterator<Item = Value>) -> Value {
    let (FieldType::Tags { max_items, .. } | FieldType::References { max_items, .. }) = &field.kind
    else {
        return match own {
            Value::Null => others.find(|other| !other.is_null()).unwrap_or_default(),
            own => own,
        };
    };
    let mut all: Vec<String> = Vec::new();
    for value in std::iter::once(own.clone()).chain(others) {
        let Value::Tags(entries) = value else {
            continue;
        };
        for entry in entries {
            if all.len() < *max_items as usize && !all.contains(&entry) {
                all.push(entry);
            }
        }
    }
    match all.is_empty() {
        true => own,
        false => Value::Tags(all),
    }
}

/// Whether the record that stays keeps what it has in this field: what only the application sets,
/// what never changes, and the states of its machines.
fn is_kept(module: &CompiledModule, position: usize) -> bool {
    let Some(field) = module.fields().get(position) else {
        return false;
    };
    let mut machines = module.spec().machines.iter();
    field.is_read_only() || field.immutable || machines.any(|machine| machine.field == field.name)
}

/// Fields and what they get.
type Changes = Vec<(usize, Value)>;

/// Points the references of a module's records elsewhere: with the hooks of an update, where there
/// are any, or many at once.
async fn point_all(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Update>,
    found: Vec<Pointed>,
) -> Result<()> {
    let effects = has_effects(tx, core, permit.module()?);
    let mut together: Vec<(Changes, Vec<Record>)> = Vec::new();
    for one in found {
        // Nothing else happens to what is in the trash.
        let hooked = effects && one.before.deleted_at.is_none();
        if one.alone || hooked {
            point(tx, core, permit, one.before, one.changes).await?;
            continue;
        }
        match together.iter_mut().find(|(to, _)| *to == one.changes) {
            Some((_, records)) => records.push(one.before),
            None => together.push((one.changes, vec![one.before])),
        }
    }
    for (changes, records) in together {
        point_many(tx, core, permit, records, changes).await?;
    }
    Ok(())
}

/// Points the references of one record elsewhere, with the hooks of an update.
async fn point(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Update>,
    before: Record,
    changes: Vec<(usize, Value)>,
) -> Result<()> {
    let mut after = before.clone();
    for (position, to) in changes {
        after.values[position] = to;
    }
    let kind = ChangeKind::Updated;
    let module = permit.module()?;
    match core.hooks.of(module, kind) {
        [] if !tx.hearing().concerns(module, kind) => {
            store_in(tx, core, permit, before, after, (kind, &[])).await?
        }
        chain => {
            let step = Step::Update(permit.clone(), Vec::new());
            hook::run(tx, core, chain, step, Some(before), Some(after)).await?
        }
    };
    Ok(())
}

/// Points the same references of many records elsewhere, each with its version step, audit row and
/// event.
async fn point_many(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Update>,
    records: Vec<Record>,
    mut changes: Vec<(usize, Value)>,
) -> Result<()> {
    let (module, now) = (permit.module()?, core.clock.now());
    changes.sort_unstable_by_key(|(position, _)| *position);
    let ids: Vec<Value> = records.iter().map(|record| record.id.into()).collect();
    for ids in ids.chunks(CHUNK) {
        let statements = core.statements(module);
        tx.execute(statements.update_many(permit.tenant(), ids, None, now, &changes))
            .await?;
    }
    let changes = records.iter().map(|before| {
        let mut after = before.clone();
        for (position, to) in &changes {
            after.values[*position] = to.clone();
        }
        after.version += 1;
        after.updated_at = now;
        Change {
            kind: ChangeKind::Updated,
            record: before.id,
            before: Some(before.to_json()),
            after: Some(after.to_json()),
        }
    });
    trace(tx, permit.scope(), module, changes).await
}
