//! What a hook is given: the change under way, who makes it, and the open transaction.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::{Link, Next};
use crate::clock::Clock;
use crate::crm::Core;
use crate::db::{Keep, Tx};
use crate::error::{Error, Result};
use crate::event::ChangeKind;
use crate::id::{RecordId, UserId};
use crate::module::input::{self, UpdateInput};
use crate::module::machine::Writer;
use crate::module::{CompiledModule, Module, machine};
use crate::record::hearing::Judgement;
use crate::record::on_delete::{Removal, strike};
use crate::record::reach;
use crate::record::trash::{erase_in, unshelve_in};
use crate::record::typed::data;
use crate::record::write::{
    Expected, checked_create, checked_update, create_in, delete_in, insert_in, remove_in, store_in,
    update_in,
};
use crate::record::{Filter, Record};
use crate::scope::{Create, Delete, Permit, Purge, Read, Scope, Update};
use crate::value::Value;

/// Most records that one [`matching`](HookContext::matching) answers.
const MOST: usize = 1_000;

/// A change under way, inside its transaction.
///
/// Records are read and written through permits, as everywhere; all of it is part of the one
/// transaction, with audit rows and events of its own. Hooks of records written here run too, up to
/// eight of them inside each other.
pub struct HookContext<'t> {
    tx: Tx<'t>,
    core: &'t Core,
    scope: Scope,
    module: Arc<CompiledModule>,
    step: Step,
    old: Option<Record>,
    /// The record as it will be or is; of a deleted one there is none.
    new: Option<Record>,
    /// What hooks set, by position.
    set: Vec<(usize, Value)>,
    state: State,
}

/// The write that the chain is around.
pub(in crate::record) enum Step {
    Create(Permit<Create>),
    /// With the fields that a state machine sets already.
    Update(Permit<Update>, Vec<usize>),
    /// As an update.
    Merge(Permit<Update>, Vec<usize>),
    Delete(Permit<Delete>),
    Restore(Permit<Delete>),
    Purge(Permit<Purge>),
    /// Of a record that goes because one that it refers to does.
    Follow(Permit<Delete>, Removal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Before,
    /// The write was begun, and did not come to its end.
    Failed,
    Written,
    /// There was nothing to change.
    Unchanged,
}

/// Runs the chain around a write and answers the record as it is now, a deleted one as it was.
pub(in crate::record) async fn run(
    tx: &mut Tx<'_>,
    core: &Core,
    chain: &[Link],
    step: Step,
    old: Option<Record>,
    new: Option<Record>,
) -> Result<Record> {
    let (scope, module) = match &step {
        Step::Create(permit) => (permit.scope(), permit.module()?),
        Step::Update(permit, _) | Step::Merge(permit, _) => (permit.scope(), permit.module()?),
        Step::Delete(permit) | Step::Restore(permit) => (permit.scope(), permit.module()?),
        Step::Purge(permit) => (permit.scope(), permit.module()?),
        Step::Follow(permit, _) => (permit.scope(), permit.module()?),
    };
    let mut cx = HookContext {
        tx: tx.nested()?,
        core,
        scope: scope.clone(),
        module: module.clone(),
        step,
        old,
        new,
        set: Vec::new(),
        state: State::Before,
    };
    Next(chain).run(&mut cx).await?;
    if matches!(cx.state, State::Before | State::Failed) {
        let message = "a hook hid that the write failed, or neither refused it nor called the next";
        return Err(Error::internal(message));
    }
    let record = cx.new.or(cx.old);
    record.ok_or_else(|| Error::internal("a change without a record"))
}

impl HookContext<'_> {
    /// What happens to the record.
    pub fn kind(&self) -> ChangeKind {
        match self.step {
            Step::Create(_) => ChangeKind::Created,
            Step::Update(..) => ChangeKind::Updated,
            Step::Merge(..) => ChangeKind::Merged,
            Step::Delete(_) => ChangeKind::Deleted,
            Step::Restore(_) => ChangeKind::Restored,
            Step::Purge(_) => ChangeKind::Purged,
            Step::Follow(_, removal) => removal.kind(),
        }
    }

    /// The module of the record.
    pub fn module(&self) -> &Arc<CompiledModule> {
        &self.module
    }

    /// Who makes the change, in which tenant, with which rights, for which request.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The same actor, tenant and request with every right: for what the application does by its
    /// own rules, whatever the caller may do.
    pub fn system(&self) -> Scope {
        self.scope.elevated()
    }

    /// Where time and ids come from.
    pub fn clock(&self) -> &Clock {
        self.scope.clock()
    }

    /// The record before the change; none for a new one.
    pub fn old(&self) -> Option<&Record> {
        self.old.as_ref()
    }

    /// The record as it will be, or after the write as it is; none for a deleted one.
    pub fn record(&self) -> Option<&Record> {
        self.new.as_ref()
    }

    /// The declared fields of the record before the change.
    ///
    /// # Errors
    /// [`Error::Internal`] when the type is not that of the module.
    pub fn old_as<T: Module>(&self) -> Result<Option<T>> {
        self.old.as_ref().map(data).transpose()
    }

    /// The declared fields of the record as it will be, or is.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a new record still lacks a value that its type cannot do without: a
    /// hook by name, registered before, may [set](Self::set) it. [`Error::Internal`] when the type
    /// is not that of the module.
    pub fn record_as<T: Module>(&self) -> Result<Option<T>> {
        let Some(record) = &self.new else {
            return Ok(None);
        };
        data(record).map(Some).map_err(|error| {
            let lacks = input::complete(&self.module, &record.values);
            lacks.err().unwrap_or(error)
        })
    }

    /// Whether the change gives this field another value; every value of a new record does.
    pub fn changes(&self, field: &str) -> bool {
        let of = |record: &Option<Record>| record.as_ref().and_then(|one| one.get(field).cloned());
        of(&self.old) != of(&self.new)
    }

    /// Gives a declared field, or `owner_id`, another value before the record is written. The
    /// field's rules hold; what clients may not set a hook may.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a value that breaks a rule, [`Error::Internal`] after the write, for a
    /// delete or a restore, and for a name that is no field.
    pub fn set(&mut self, field: &str, value: impl Into<Json>) -> Result<()> {
        let early = self.state == State::Before && !matches!(self.step, Step::Restore(_));
        let record = match &mut self.new {
            Some(record) if early => record,
            _ => return Err(Error::internal(format!("{field} is set too late"))),
        };
        if field == "owner_id" {
            record.owner_id = input::owner_of(&value.into())?;
            return Ok(());
        }
        let Some(position) = self.module.position(field) else {
            let message = format!("{} has no field {field}", self.module.name());
            return Err(Error::internal(message));
        };
        let value = input::value_of(&self.module, position, value.into())?;
        if record.values[position] != value {
            record.values[position] = value.clone();
            self.set.retain(|(at, _)| *at != position);
            self.set.push((position, value));
        }
        Ok(())
    }

    /// The user who will own the record, or does.
    pub fn owner(&self) -> Option<UserId> {
        let record = self.new.as_ref().or(self.old.as_ref());
        record.and_then(|record| record.owner_id)
    }

    /// Sets the declared fields that `data` has.
    pub(super) fn put<T: Module>(&mut self, data: &T) -> Result<()> {
        match serde_json::to_value(data).map_err(Error::internal)? {
            Json::Object(fields) => {
                let known = |name: &String| self.module.position(name).is_some();
                let fields: Vec<_> = fields.into_iter().filter(|(name, _)| known(name)).collect();
                let mut fields = fields.into_iter();
                fields.try_for_each(|(name, json)| self.set(&name, json))
            }
            _ => Err(Error::internal("a record is an object")),
        }
    }

    /// Whether something was written.
    pub(super) fn is_written(&self) -> bool {
        self.state == State::Written
    }

    /// Does to the change what its judges said. A record that comes back from the trash is judged
    /// as a new one, and one that goes with another as one that is deleted.
    fn hear(&mut self) -> Result<()> {
        let (kind, restored) = match self.step {
            Step::Create(_) => (ChangeKind::Created, false),
            Step::Restore(_) => (ChangeKind::Created, true),
            Step::Update(..) | Step::Merge(..) => (ChangeKind::Updated, false),
            Step::Delete(_) | Step::Follow(_, Removal::Delete) => (ChangeKind::Deleted, false),
            Step::Purge(_) | Step::Follow(..) => return Ok(()),
        };
        let (hearing, scope) = (self.tx.hearing(), &self.scope);
        let (old, new) = (self.old.as_ref(), self.new.as_ref());
        let old = old.filter(|_| !restored);
        match hearing.on(scope, kind, old, new, &self.set)? {
            Judgement::Accepted => Ok(()),
            Judgement::Refused(refusal) => Err(refusal.into()),
            Judgement::Amended(_) if restored => {
                let message = "a plugin would amend this record, and one from the trash comes back as it was: \
                     disable the plugin, restore, then change it";
                Err(Error::conflict("amended_in_trash", message))
            }
            Judgement::Amended(fields) => {
                let Some(record) = &mut self.new else {
                    return Err(Error::internal("an amendment of what is deleted"));
                };
                for (position, value) in fields {
                    record.put(position, value.clone());
                    self.set.retain(|(at, _)| *at != position);
                    self.set.push((position, value));
                }
                Ok(())
            }
        }
    }

    /// The write itself, at the end of the chain.
    pub(super) async fn write(&mut self) -> Result<()> {
        if self.state != State::Before {
            return Err(Error::internal("a hook called the next one twice"));
        }
        self.hear()?;
        let kind = self.kind();
        let (tx, core, set) = (&mut self.tx, self.core, &self.set);
        self.state = State::Failed;
        let mut state = State::Written;
        match (&self.step, &self.old, &mut self.new) {
            (Step::Create(permit), _, Some(new)) => {
                input::complete(&self.module, &new.values)?;
                if !set.is_empty() {
                    machine::begin(&self.module, &new.values)?;
                }
                *new = insert_in(tx, core, permit, new.clone()).await?;
            }
            (Step::Update(permit, forced) | Step::Merge(permit, forced), Some(old), Some(new)) => {
                let mut forced = forced.clone();
                if !set.is_empty() {
                    let (writer, old, new) = (Writer::of(permit), &old.values, &mut new.values);
                    forced.extend(machine::proceed(&self.module, writer, old, new, set)?);
                }
                let (old, after) = (old.clone(), new.clone());
                let version = old.version;
                *new = store_in(tx, core, permit, old, after, (kind, &forced)).await?;
                if new.version == version {
                    state = State::Unchanged;
                }
            }
            (Step::Delete(permit), Some(old), _) => {
                remove_in(tx, core, permit, old).await?;
            }
            (Step::Restore(permit), Some(old), Some(new)) => {
                *new = unshelve_in(tx, core, permit, old, new.clone()).await?;
            }
            (Step::Purge(permit), Some(old), _) => erase_in(tx, core, permit, old).await?,
            (Step::Follow(permit, removal), Some(old), _) => {
                strike(tx, core, permit.scope(), old, *removal).await?;
            }
            _ => return Err(Error::internal("a change without its record")),
        }
        self.state = state;
        Ok(())
    }

    /// The record with this id, as the transaction sees it, if the permit covers one.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn find(&mut self, permit: &Permit<Read>, id: RecordId) -> Result<Option<Record>> {
        let module = permit.module()?;
        let sql = self.core.statements(module).get(permit.tenant(), id);
        let Some(row) = self.tx.fetch_optional(sql).await? else {
            return Ok(None);
        };
        let record = Record::from_row(module, row)?;
        let covered = reach::covers_in(&mut self.tx, self.core, permit, &record).await?;
        Ok(covered.then_some(record))
    }

    /// The record with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is absent or not covered by the permit.
    pub async fn get(&mut self, permit: &Permit<Read>, id: RecordId) -> Result<Record> {
        self.find(permit, id).await?.ok_or(Error::NotFound)
    }

    /// The records that the permit covers and the filter matches, in no order.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] when there are more than 1,000.
    pub async fn matching(
        &mut self,
        permit: &Permit<Read>,
        filter: &Filter,
    ) -> Result<Vec<Record>> {
        let permit = permit.to_ask(filter.fields())?;
        let module = permit.module()?;
        let statements = self.core.statements(module);
        let mut sql = statements.matching(permit.tenant(), permit.reach(), filter);
        sql.push(" LIMIT ").number(MOST as u64 + 1);
        let rows = self.tx.fetch_all(sql).await?;
        if rows.len() > MOST {
            return Err(Error::LimitExceeded {
                code: "too_many_records",
                message: format!("a hook reads at most {MOST} records at once").into(),
            });
        }
        let records = rows.into_iter().map(|row| Record::from_row(module, row));
        records.collect()
    }

    /// Makes a record, with its own hooks, audit row and event. One that fails leaves nothing, so
    /// that a hook may go on without it.
    ///
    /// # Errors
    /// Those of [`Records::create`](crate::Records::create), and [`Error::Conflict`]
    /// `hooks_too_deep` when writes cause each other without an end.
    pub async fn create(
        &mut self,
        permit: &Permit<Create>,
        body: Map<String, Json>,
    ) -> Result<Record> {
        let (permit, sent) = checked_create(permit, body)?;
        self.tx.begin_step().await?;
        let done = create_in(&mut self.tx, self.core, &permit, &sent).await;
        self.tx.end_step(Keep::from(&done)).await?;
        done
    }

    /// Changes a record, with its own hooks, audit row and event.
    ///
    /// # Errors
    /// Those of [`Records::update`](crate::Records::update), and of [`create`](Self::create).
    pub async fn update(
        &mut self,
        permit: &Permit<Update>,
        id: RecordId,
        expected: impl Into<Expected>,
        body: Map<String, Json>,
    ) -> Result<Record> {
        let (permit, sent): (_, UpdateInput) = checked_update(permit, body)?;
        let expected = expected.into();
        self.tx.begin_step().await?;
        let done = update_in(&mut self.tx, self.core, &permit, id, &expected, &sent).await;
        self.tx.end_step(Keep::from(&done)).await?;
        done
    }

    /// Removes a record, with its own hooks, audit row and event.
    ///
    /// # Errors
    /// Those of [`Records::delete`](crate::Records::delete), and of [`create`](Self::create).
    pub async fn delete(
        &mut self,
        permit: &Permit<Delete>,
        id: RecordId,
        expected: impl Into<Expected>,
    ) -> Result<()> {
        let expected = expected.into();
        self.tx.begin_step().await?;
        let done = delete_in(&mut self.tx, self.core, permit, id, &expected).await;
        self.tx.end_step(Keep::from(&done)).await?;
        done.map(drop)
    }
}

impl std::fmt::Debug for HookContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookContext")
            .field("kind", &self.kind())
            .field("old", &self.old)
            .field("new", &self.new)
            .finish_non_exhaustive()
    }
}
