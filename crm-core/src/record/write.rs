//! Writes of records: each is checked as far as that goes without the database, then done inside
//! an open transaction, alone or with others.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value as Json};

use super::Record;
use super::activity;
use super::copy;
use super::hook::{self, Step};
use super::merge::Merging;
use super::on_delete::{self, Removal};
use super::reach;
use super::reference;
use super::serial;
use super::trash;
use super::upsert::Upsert;
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::event::ChangeKind;
use crate::id::{RecordId, TenantId, UserId};
use crate::journal::{self, Change};
use crate::module::input::{CreateInput, UpdateInput};
use crate::module::machine::Writer;
use crate::module::{CompiledModule, input, machine};
use crate::scope::{Action, Create, Delete, Permit, Purge, Read, Scope, Update};

/// The versions that a change is meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Whichever the record has.
    Any,
    /// One of these; none of none.
    OneOf(Vec<i64>),
}

impl Expected {
    /// Whether a record of this version may be changed.
    pub fn admits(&self, version: i64) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(versions) => versions.contains(&version),
        }
    }
}

impl From<Option<i64>> for Expected {
    fn from(version: Option<i64>) -> Self {
        version.map_or(Self::Any, |version| Self::OneOf(vec![version]))
    }
}

/// A write of one record, checked as far as that goes without the database.
pub struct Write(pub(super) Kind);

pub(super) enum Kind {
    Create(Permit<Create>, CreateInput),
    Update(Permit<Update>, RecordId, Expected, UpdateInput),
    Delete(Permit<Delete>, RecordId, Expected),
    Restore(Permit<Delete>, RecordId, Expected),
    Purge(Permit<Purge>, RecordId, Expected),
    Merge(Box<Merging>),
    Upsert(Box<Upsert>),
}

/// What a write did.
#[derive(Debug)]
pub struct Written {
    /// What happened to the record.
    pub kind: ChangeKind,
    /// The record as it is now; a deleted one as it was last.
    pub record: Record,
}

impl Write {
    /// Makes a record from a wire body.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every refused field.
    pub fn create(permit: &Permit<Create>, body: Map<String, Json>) -> Result<Self> {
        let (permit, sent) = checked_create(permit, body)?;
        Ok(Self(Kind::Create(permit, sent)))
    }

    /// Changes the fields that a wire body names.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every refused field.
    pub fn update(
        permit: &Permit<Update>,
        id: RecordId,
        expected: impl Into<Expected>,
        body: Map<String, Json>,
    ) -> Result<Self> {
        let (permit, sent) = checked_update(permit, body)?;
        Ok(Self(Kind::Update(permit, id, expected.into(), sent)))
    }

    /// Removes a record.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a permit of something else than a module.
    pub fn delete(
        permit: &Permit<Delete>,
        id: RecordId,
        expected: impl Into<Expected>,
    ) -> Result<Self> {
        permit.module()?;
        Ok(Self(Kind::Delete(permit.clone(), id, expected.into())))
    }

    /// Who writes.
    pub(super) fn scope(&self) -> &Scope {
        match &self.0 {
            Kind::Create(permit, _) => permit.scope(),
            Kind::Update(permit, ..) => permit.scope(),
            Kind::Delete(permit, ..) | Kind::Restore(permit, ..) => permit.scope(),
            Kind::Purge(permit, ..) => permit.scope(),
            Kind::Merge(merging) => merging.scope(),
            Kind::Upsert(upsert) => upsert.scope(),
        }
    }

    /// Does it, inside an open transaction.
    pub(super) async fn run_in(&self, tx: &mut Tx<'_>, core: &Core) -> Result<Written> {
        let (kind, record) = match &self.0 {
            Kind::Create(permit, sent) => {
                let record = create_in(tx, core, permit, sent).await?;
                (ChangeKind::Created, record)
            }
            Kind::Update(permit, id, expected, sent) => {
                demand_version(tx, core, permit, *id, expected).await?;
                let record = update_in(tx, core, permit, *id, expected, sent).await?;
                (ChangeKind::Updated, record)
            }
            Kind::Delete(permit, id, expected) => {
                demand_version(tx, core, permit, *id, expected).await?;
                let record = delete_in(tx, core, permit, *id, expected).await?;
                (ChangeKind::Deleted, record)
            }
            Kind::Restore(permit, id, expected) => {
                let record = trash::restore_in(tx, core, permit, *id, expected).await?;
                (ChangeKind::Restored, record)
            }
            Kind::Purge(permit, id, expected) => {
                let record = trash::purge_in(tx, core, permit, *id, expected).await?;
                (ChangeKind::Purged, record)
            }
            Kind::Merge(merging) => (ChangeKind::Merged, merging.run_in(tx, core).await?),
            Kind::Upsert(upsert) => upsert.run_in(tx, core).await?,
        };
        Ok(Written { kind, record })
    }
}

/// The checked body of a create, and the permit for the rows in which it may be written.
pub(super) fn checked_create(
    permit: &Permit<Create>,
    body: Map<String, Json>,
) -> Result<(Permit<Create>, CreateInput)> {
    let module = permit.module()?;
    let permit = permit.to_write(&input::named(module, &body))?.into_owned();
    let module = permit.module()?;
    let hooks = &permit.scope().core().hooks;
    let mut sent = match hooks.of(module, ChangeKind::Created) {
        [] => input::create(module, permit.tenant(), body)?,
        _ => input::create_for_hooks(module, permit.tenant(), body)?,
    };
    if let Some(owner) = sent.owner {
        sent.owner = Some(may_own(&permit, owner)?);
    }
    // Hooks may complete it: then it is judged behind them.
    if input::complete(module, &sent.values).is_ok() {
        machine::begin(module, &sent.values)?;
    }
    Ok((permit, sent))
}

/// The checked body of an update, and the permit for the rows in which it may be written.
pub(super) fn checked_update(
    permit: &Permit<Update>,
    body: Map<String, Json>,
) -> Result<(Permit<Update>, UpdateInput)> {
    let module = permit.module()?;
    let permit = permit.to_write(&input::named(module, &body))?.into_owned();
    let sent = input::update(permit.module()?, permit.tenant(), body)?;
    if let Some(owner) = sent.owner {
        may_own(&permit, owner)?;
    }
    Ok((permit, sent))
}

pub(super) async fn create_in(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Create>,
    sent: &CreateInput,
) -> Result<Record> {
    let module = permit.module()?;
    let record = new_record(core, permit, module, sent);
    match core.hooks.of(module, ChangeKind::Created) {
        [] if !tx.hearing().concerns(module, ChangeKind::Created) => {
            insert_in(tx, core, permit, record).await
        }
        chain => {
            let step = Step::Create(permit.clone());
            hook::run(tx, core, chain, step, None, Some(record)).await
        }
    }
}

/// Writes a new record.
pub(super) async fn insert_in(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Create>,
    mut record: Record,
) -> Result<Record> {
    let module = permit.module()?;
    copy::fill(tx, core, permit.scope(), None, &mut record).await?;
    if record.owner_id != permit.scope().actor().user() {
        check_owner(tx, permit.tenant(), record.owner_id).await?;
    }
    let named = record.values.iter().enumerate();
    let named = named.filter_map(|(at, value)| reference::named(module, at, value, None));
    let named = named.collect();
    reference::check(tx, core, permit.scope(), module, named).await?;
    // Behind the references: a currency may be copied from what they refer to.
    module.check_amounts(None, &record.values)?;
    let one = std::iter::once(&mut record);
    serial::number(tx, permit.tenant(), module, one).await?;
    let insert = core.statements(module).insert(
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
    journal::write(tx, permit.scope(), module, insert, change).await?;
    let links = module.linked().iter();
    let links: Vec<_> = links.map(|at| (*at, record.values[*at].clone())).collect();
    reference::link(tx, core, permit.tenant(), module, record.id, &links).await?;
    reach::keep(tx, core, permit, &record).await?;
    activity::write(tx, core, permit.scope(), None, &record, &[]).await?;
    Ok(record)
}

fn new_record(
    core: &Core,
    permit: &Permit<Create>,
    module: &Arc<CompiledModule>,
    sent: &CreateInput,
) -> Record {
    let (id, now): (_, DateTime<Utc>) = core.clock.new_id_and_time();
    Record {
        module: module.clone(),
        id: RecordId(id),
        version: 1,
        owner_id: sent.owner.unwrap_or_else(|| permit.scope().actor().user()),
        created_at: now,
        updated_at: now,
        deleted_at: None,
        values: sent.values.clone(),
    }
}

pub(super) async fn update_in(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Update>,
    id: RecordId,
    expected: &Expected,
    sent: &UpdateInput,
) -> Result<Record> {
    let before = lock(tx, core, permit, id, expected).await?;
    change_in(tx, core, permit, before, sent).await
}

/// Changes a locked record that the permit covers.
pub(super) async fn change_in(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Update>,
    before: Record,
    sent: &UpdateInput,
) -> Result<Record> {
    let (after, forced) = judged(permit, &before, sent)?;
    if before.values == after.values && before.owner_id == after.owner_id {
        return Ok(before);
    }
    let module = permit.module()?;
    match core.hooks.of(module, ChangeKind::Updated) {
        [] if !tx.hearing().concerns(module, ChangeKind::Updated) => {
            store_in(
                tx,
                core,
                permit,
                before,
                after,
                (ChangeKind::Updated, &forced),
            )
            .await
        }
        chain => {
            let step = Step::Update(permit.clone(), forced);
            hook::run(tx, core, chain, step, Some(before), Some(after)).await
        }
    }
}

/// The record as it would be, and the fields that a state machine set.
pub(super) fn judged(
    permit: &Permit<Update>,
    before: &Record,
    sent: &UpdateInput,
) -> Result<(Record, Vec<usize>)> {
    let module = permit.module()?;
    module.keeps(&before.values, &sent.changes)?;
    let mut after = before.clone();
    for (position, value) in &sent.changes {
        after.values[*position] = value.clone();
    }
    if let Some(owner) = sent.owner {
        after.owner_id = owner;
    }
    let (old, writer) = (&before.values, Writer::of(permit));
    let forced = machine::proceed(module, writer, old, &mut after.values, &sent.changes)?;
    Ok((after, forced))
}

/// Writes a locked record's new values, as an update or a merge; `forced` are the fields that a
/// state machine set. An update without any writes nothing.
pub(super) async fn store_in(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Update>,
    before: Record,
    mut after: Record,
    (kind, forced): (ChangeKind, &[usize]),
) -> Result<Record> {
    let module = permit.module()?;
    copy::fill(tx, core, permit.scope(), Some(&before), &mut after).await?;
    let values = before.values.iter().zip(&after.values).enumerate();
    let changes: Vec<_> = values
        .filter(|(_, (old, new))| old != new)
        .map(|(position, (_, new))| (position, new.clone()))
        .collect();
    let owner = Some(after.owner_id).filter(|owner| *owner != before.owner_id);
    if changes.is_empty() && owner.is_none() && kind == ChangeKind::Updated {
        return Ok(before);
    }
    if let Some(owner) = owner {
        check_owner(tx, permit.tenant(), owner).await?;
    }
    let named = changes
        .iter()
        .filter_map(|(at, value)| reference::named(module, *at, value, before.values.get(*at)));
    let named = named.collect();
    reference::check(tx, core, permit.scope(), module, named).await?;
    module.check_amounts(Some(&before.values), &after.values)?;
    after.version += 1;
    after.updated_at = core.clock.now();
    let update = core.statements(module).update(
        permit.tenant(),
        before.id,
        owner,
        after.updated_at,
        &changes,
    );
    let change = Change {
        kind,
        record: before.id,
        before: Some(before.to_json()),
        after: Some(after.to_json()),
    };
    journal::write(tx, permit.scope(), module, update, change).await?;
    reference::link(tx, core, permit.tenant(), module, before.id, &changes).await?;
    reach::keep(tx, core, permit, &after).await?;
    activity::write(tx, core, permit.scope(), Some(&before), &after, forced).await?;
    Ok(after)
}

pub(super) async fn delete_in(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Delete>,
    id: RecordId,
    expected: &Expected,
) -> Result<Record> {
    let before = lock(tx, core, permit, id, expected).await?;
    remove_locked(tx, core, permit, before).await
}

/// Removes a locked record that the permit covers.
pub(super) async fn remove_locked(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Delete>,
    before: Record,
) -> Result<Record> {
    let module = permit.module()?;
    match core.hooks.of(module, ChangeKind::Deleted) {
        [] if !tx.hearing().concerns(module, ChangeKind::Deleted) => {
            remove_in(tx, core, permit, &before).await?;
            Ok(before)
        }
        chain => {
            let step = Step::Delete(permit.clone());
            hook::run(tx, core, chain, step, Some(before), None).await
        }
    }
}

/// Removes a locked record, with what follows by the declarations of those that refer to it.
pub(super) async fn remove_in(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Delete>,
    before: &Record,
) -> Result<()> {
    on_delete::remove(tx, core, permit.scope(), before, Removal::Delete).await
}

/// Refuses a write of a module that requires versions when it names none: to whoever may change the
/// record.
async fn demand_version<A: Action>(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<A>,
    id: RecordId,
    expected: &Expected,
) -> Result<()> {
    if *expected != Expected::Any || !permit.module()?.spec().require_version {
        return Ok(());
    }
    lock(tx, core, permit, id, expected).await?;
    Err(Error::PreconditionRequired)
}

/// The record as it is, locked, if the caller may see and change it.
async fn lock<A: Action>(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<A>,
    id: RecordId,
    expected: &Expected,
) -> Result<Record> {
    let module = permit.module()?;
    let sql = core.statements(module).get_for_update(permit.tenant(), id);
    let rows = reference::locked(tx, module, sql).await?;
    let row = rows.into_iter().next().ok_or(Error::NotFound)?;
    let record = Record::from_row(module, row)?;
    admit(tx, core, permit, &record).await?;
    if !expected.admits(record.version) {
        return Err(Error::PreconditionFailed);
    }
    Ok(record)
}

/// Whether the caller may change this record, and if not, whether they may know of it.
pub(super) async fn admit<A: Action>(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<A>,
    record: &Record,
) -> Result<()> {
    if reach::covers_in(tx, core, permit, record).await? {
        return Ok(());
    }
    let module = record.module.name();
    match permit.scope().permit::<Read>(module.as_str()) {
        Ok(read) if reach::covers_in(tx, core, &read, record).await? => Err(Error::Forbidden {
            permission: format!("{module}.{}", A::NAME),
        }),
        _ => Err(Error::NotFound),
    }
}

/// Whoever may write own rows only cannot give them away.
fn may_own<A>(permit: &Permit<A>, owner: Option<UserId>) -> Result<Option<UserId>> {
    if permit.may_give_to(owner) {
        return Ok(owner);
    }
    Err(Error::invalid(
        "owner_id",
        "not_allowed",
        "you may write records of your own only",
    ))
}

/// An owner is a member of the tenant.
pub(super) async fn check_owner(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    owner: Option<UserId>,
) -> Result<()> {
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
