//! What a removal brings with it: the records that refer to the removed one go too, lose their
//! reference, or forbid it, as their modules declare.
//!
//! First everything that follows is found and locked, wave by wave, so that circles end and nothing
//! is written of what is refused; then it is done, each record with its own hooks, audit row, event
//! and version. The foreign keys stay a second wall behind it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::future::BoxFuture;
use uuid::Uuid;

use super::Record;
use super::hook::{self, Step};
use super::reference;
use super::write::change_in;
use crate::crm::Core;
use crate::db::Tx;
use crate::error::{Error, Result};
use crate::event::ChangeKind;
use crate::id::RecordId;
use crate::journal::{self, Change};
use crate::module::input::UpdateInput;
use crate::module::{CompiledModule, FieldType, Ident, OnDelete};
use crate::registry::Dependent;
use crate::scope::{Delete, Scope, Update};
use crate::value::Value;

/// Most records that go or change with one that is deleted.
pub(super) const MAX_FOLLOWING: usize = 10_000;
/// Records whose dependents one statement looks for.
const CHUNK: usize = 500;

/// How a record leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    /// Into the trash, where its module has one, otherwise for good.
    Delete,
    /// Out of the trash, for good.
    Purge,
}

impl Removal {
    pub(super) fn kind(self) -> ChangeKind {
        match self {
            Self::Delete => ChangeKind::Deleted,
            Self::Purge => ChangeKind::Purged,
        }
    }

    /// Whether the row goes.
    fn erases(self, module: &CompiledModule) -> bool {
        self == Self::Purge || !module.spec().soft_delete
    }
}

/// Removes a locked record with all that follows; boxed, for hooks on the way may remove others.
///
/// # Errors
/// [`Error::Conflict`] `has_dependents` when a record that refers to one of those has to stay, and
/// `too_many_dependents` when more than 10,000 would go or change.
pub(super) fn remove<'a>(
    tx: &'a mut Tx<'_>,
    core: &'a Core,
    scope: &'a Scope,
    record: &'a Record,
    removal: Removal,
) -> BoxFuture<'a, Result<()>> {
    Box::pin(remove_all(tx, core, scope, record, removal))
}

async fn remove_all(
    tx: &mut Tx<'_>,
    core: &Core,
    scope: &Scope,
    record: &Record,
    removal: Removal,
) -> Result<()> {
    let system = scope.elevated_in(tx).await?;
    let mut dependents = system.dependents(record.module().name());
    let erases = removal.erases(record.module());
    let keyed = |one: &Dependent| one.has_key && one.on_delete == OnDelete::Restrict;
    if erases && dependents.all(keyed) {
        // The foreign keys say all there is to say.
        return strike(tx, core, scope, record, removal).await;
    }
    drop(dependents);
    let mut plan = Plan::new(core, system);
    plan.collect(tx, record, removal).await?;
    plan.refuse_restricted(tx).await?;
    plan.carry_out(tx, scope, record.id).await
}

/// Writes that a record is removed, and nothing of what follows.
pub(super) async fn strike(
    tx: &mut Tx<'_>,
    core: &Core,
    scope: &Scope,
    record: &Record,
    removal: Removal,
) -> Result<()> {
    let module = record.module();
    let statements = core.statements(module);
    let (tenant, id) = (scope.tenant(), record.id);
    let statement = if removal.erases(module) {
        for position in module.linked() {
            tx.execute(statements.unlink(tenant, *position, id)).await?;
        }
        statements.delete(tenant, id)
    } else {
        let now = core.clock.now();
        statements.shelve(tenant, id, now, Some(now))
    };
    let change = Change {
        kind: removal.kind(),
        record: id,
        before: Some(record.to_json()),
        after: None,
    };
    let written = journal::write(tx, scope, module, statement, change).await;
    written.map_err(|error| match error.code() {
        // Which of them it was, not every database says.
        "reference_violation" => {
            let dependents = core.registry.dependents(module.name()).iter();
            has_dependents(dependents.filter(|one| one.has_key))
        }
        _ => error,
    })
}

/// The refusal to remove what others refer to by one of these fields.
fn has_dependents<'d>(by: impl Iterator<Item = &'d Dependent>) -> Error {
    let names = by.map(|one| {
        let field = &one.module.fields()[one.field].name;
        format!("{} ({field})", one.module.name())
    });
    let names: Vec<_> = names.collect();
    let message = format!(
        "records of {} refer to this one, or to one that would go with it; change or delete them \
         first",
        names.join(" or ")
    );
    Error::conflict("has_dependents", message)
}

/// What refuses that a record loses its reference to one that goes, told of where it is.
fn unyielding(error: Error, record: &Record, fields: &[usize]) -> Error {
    let (module, names) = (record.module(), record.module().fields());
    let names: Vec<_> = fields
        .iter()
        .map(|at| names.get(*at).map_or("", |field| field.name.as_str()))
        .collect();
    let place = format!(
        "a record of {} would lose its {}",
        module.name(),
        names.join(" and ")
    );
    match error {
        Error::Conflict { code, message } => Error::conflict(code, format!("{place}: {message}")),
        Error::Invalid(mut refused) => {
            for field in &mut refused {
                field.message = format!("{place}: {}", field.message);
            }
            Error::Invalid(refused)
        }
        error => error,
    }
}

/// A record by the name of its module.
type Key = (Ident, Uuid);

fn key(record: &Record) -> Key {
    (record.module().name().clone(), record.id.0)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Goes,
    Changes,
}

/// Everything that a removal brings with it.
struct Plan<'c> {
    core: &'c Core,
    /// What follows does so by the application's right, in the caller's name.
    system: Scope,
    fates: HashMap<Key, Fate>,
    doomed: Vec<(Record, Removal)>,
    /// Records that lose the references at these positions.
    changed: BTreeMap<Key, (Record, Vec<usize>)>,
}

impl<'c> Plan<'c> {
    fn new(core: &'c Core, system: Scope) -> Self {
        Self {
            core,
            system,
            fates: HashMap::new(),
            doomed: Vec::new(),
            changed: BTreeMap::new(),
        }
    }

    /// Finds and locks what goes and what changes.
    async fn collect(&mut self, tx: &mut Tx<'_>, root: &Record, removal: Removal) -> Result<()> {
        self.fates.insert(key(root), Fate::Goes);
        let mut wave = vec![(root.clone(), removal)];
        while !wave.is_empty() {
            let mut next = Vec::new();
            for group in Group::of(&wave) {
                let dependents = self.system.dependents(group.module.name());
                for dependent in dependents.cloned().collect::<Vec<_>>() {
                    if dependent.on_delete == OnDelete::Restrict {
                        continue;
                    }
                    for ids in group.ids.chunks(CHUNK) {
                        let to = (group.module.name(), ids);
                        for found in self.referring(tx, &dependent, to, group.erases).await? {
                            self.add(&dependent, found, group.erases, &mut next)?;
                        }
                    }
                }
            }
            self.doomed.append(&mut wave);
            wave = next;
            if !wave.is_empty() {
                // They are locked by now: nobody refers to them by what is declared later.
                self.system = self.system.elevated_in(tx).await?;
            }
        }
        let doomed = |key: &Key| self.fates.get(key) == Some(&Fate::Goes);
        self.changed.retain(|key, _| !doomed(key));
        Ok(())
    }

    /// Records that refer to these, locked; where the rows go, those in the trash too.
    async fn referring(
        &self,
        tx: &mut Tx<'_>,
        dependent: &Dependent,
        to: (&Ident, &[RecordId]),
        erased: bool,
    ) -> Result<Vec<Record>> {
        let module = self.as_the_tenant_has_it(&dependent.module);
        let live = self.core.statements(module);
        let (tenant, field, most) = (self.system.tenant(), dependent.field, MAX_FOLLOWING + 1);
        let sql = live.referring(tenant, field, to, most);
        let mut rows = reference::locked(tx, module, sql).await?;
        if erased && module.spec().soft_delete {
            let sql = live.trash().referring(tenant, field, to, most);
            rows.extend(reference::locked(tx, module, sql).await?);
        }
        let records = rows.into_iter().map(|row| Record::from_row(module, row));
        records.collect()
    }

    fn as_the_tenant_has_it<'a>(
        &'a self,
        module: &'a Arc<CompiledModule>,
    ) -> &'a Arc<CompiledModule> {
        self.system.module(module.name().as_str()).unwrap_or(module)
    }

    /// Notes what becomes of a record that refers to one that goes.
    fn add(
        &mut self,
        dependent: &Dependent,
        record: Record,
        erased: bool,
        next: &mut Vec<(Record, Removal)>,
    ) -> Result<()> {
        let key = key(&record);
        let known = self.fates.get(&key).copied();
        match dependent.on_delete {
            OnDelete::Restrict => {}
            OnDelete::Cascade if known == Some(Fate::Goes) => {}
            OnDelete::Cascade => {
                let removal = match (
                    record.deleted_at,
                    erased && record.module().spec().soft_delete,
                ) {
                    (Some(_), _) => Removal::Purge,
                    // It could not stay in the trash without what it refers to.
                    (None, true) => return Err(has_dependents(std::iter::once(dependent))),
                    (None, false) => Removal::Delete,
                };
                self.fates.insert(key, Fate::Goes);
                next.push((record, removal));
            }
            OnDelete::SetNull => {
                self.fates.entry(key.clone()).or_insert(Fate::Changes);
                let (_, fields) = self.changed.entry(key).or_insert((record, Vec::new()));
                if !fields.contains(&dependent.field) {
                    fields.push(dependent.field);
                }
            }
        }
        // The root is none that follows.
        if self.fates.len() > MAX_FOLLOWING + 1 {
            let message = format!(
                "more than {MAX_FOLLOWING} records would be deleted or changed with this one; \
                 delete some of those that refer to it first"
            );
            return Err(Error::conflict("too_many_dependents", message));
        }
        Ok(())
    }

    /// Refuses what a record forbids that refers to one that goes, and stays.
    async fn refuse_restricted(&self, tx: &mut Tx<'_>) -> Result<()> {
        for group in Group::of(&self.doomed) {
            for dependent in self.system.dependents(group.module.name()) {
                if dependent.on_delete != OnDelete::Restrict {
                    continue;
                }
                let live = self.core.statements(&dependent.module);
                let mut shelves = vec![live.clone()];
                if group.erases && dependent.module.spec().soft_delete {
                    shelves.push(live.trash());
                }
                for shelf in shelves {
                    for ids in group.ids.chunks(CHUNK) {
                        let to = (group.module.name(), ids);
                        // One more than can go: among so many, one stays.
                        let (tenant, most) = (self.system.tenant(), self.doomed.len() + 1);
                        let sql = shelf.referrers(tenant, dependent.field, to, most);
                        for mut row in tx.fetch_all(sql).await? {
                            let referrer = (dependent.module.name().clone(), row.uuid()?);
                            if self.fates.get(&referrer) != Some(&Fate::Goes) {
                                return Err(has_dependents(std::iter::once(dependent)));
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Does it: what changes first, then what goes, each record after those that refer to it.
    async fn carry_out(mut self, tx: &mut Tx<'_>, scope: &Scope, root: RecordId) -> Result<()> {
        for (record, fields) in std::mem::take(&mut self.changed).into_values() {
            let permit = self
                .system
                .permit::<Update>(record.module().name().as_str())?;
            let sent = self.cleared(&record, &fields);
            let before = record.clone();
            let changed = change_in(tx, self.core, &permit, record, &sent).await;
            changed.map_err(|error| unyielding(error, &before, &fields))?;
        }
        self.cut_circles(tx).await?;
        let order = self.core.registry.by_dependency().enumerate();
        let ranks: HashMap<&Ident, usize> = order.map(|(rank, one)| (one.name(), rank)).collect();
        // No foreign key leads to records of a tenant's own module.
        let rank = |record: &Record| ranks.get(record.module().name()).copied();
        self.doomed
            .sort_by_key(|(record, _)| Reverse(rank(record).unwrap_or(usize::MAX)));
        for (record, removal) in self.doomed {
            if record.id == root {
                // Its hooks are running already, around all of this.
                strike(tx, self.core, scope, &record, removal).await?;
                continue;
            }
            let chain = self.core.hooks.of(record.module(), removal.kind());
            if chain.is_empty() && !tx.hearing().concerns(record.module(), removal.kind()) {
                strike(tx, self.core, scope, &record, removal).await?;
                continue;
            }
            let permit = self
                .system
                .permit::<Delete>(record.module().name().as_str())?;
            let step = Step::Follow(permit, removal);
            hook::run(tx, self.core, chain, step, Some(record), None).await?;
        }
        Ok(())
    }

    /// The change that takes the records that go out of these fields.
    fn cleared(&self, record: &Record, fields: &[usize]) -> UpdateInput {
        let left = |field: usize| {
            let (kind, value) = (
                &record.module().fields()[field].kind,
                record.values().get(field),
            );
            let (FieldType::References { module, .. }, Some(Value::Tags(ids))) = (kind, value)
            else {
                return Value::Null;
            };
            let goes = |id: &String| {
                let fate = id.parse().map(|id| self.fates.get(&(module.clone(), id)));
                fate == Ok(Some(&Fate::Goes))
            };
            let left: Vec<String> = ids.iter().filter(|id| !goes(id)).cloned().collect();
            match left.is_empty() {
                true => Value::Null,
                false => Value::Tags(left),
            }
        };
        UpdateInput {
            changes: fields.iter().map(|field| (*field, left(*field))).collect(),
            owner: None,
        }
    }

    /// Rows of one module that go together and refer to each other could not go one by one.
    async fn cut_circles(&self, tx: &mut Tx<'_>) -> Result<()> {
        for group in Group::of(&self.doomed) {
            if !group.erases || group.ids.len() == 1 {
                continue;
            }
            for dependent in self.core.registry.dependents(group.module.name()) {
                if !dependent.has_key || dependent.module.name() != group.module.name() {
                    continue;
                }
                let statements = self.core.statements(&dependent.module);
                if !dependent.is_single() {
                    for id in &group.ids {
                        let tenant = self.system.tenant();
                        tx.execute(statements.unlink(tenant, dependent.field, *id))
                            .await?;
                    }
                    continue;
                }
                for ids in group.ids.chunks(CHUNK) {
                    let cut = statements.cut(self.system.tenant(), dependent.field, ids);
                    tx.execute(cut).await?;
                }
            }
        }
        Ok(())
    }
}

/// Records of one module that leave in the same way.
struct Group {
    module: Arc<CompiledModule>,
    erases: bool,
    ids: Vec<RecordId>,
}

impl Group {
    fn of(doomed: &[(Record, Removal)]) -> Vec<Self> {
        let mut groups: BTreeMap<(Ident, bool), Self> = BTreeMap::new();
        for (record, removal) in doomed {
            let module = record.module();
            let erases = removal.erases(module);
            let group = groups
                .entry((module.name().clone(), erases))
                .or_insert_with(|| Self {
                    module: module.clone(),
                    erases,
                    ids: Vec::new(),
                });
            group.ids.push(record.id);
        }
        groups.into_values().collect()
    }
}
