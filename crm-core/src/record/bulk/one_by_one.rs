//! Imports into modules whose writes cause others: each record goes the way of a single write, in
//! the batch's one transaction, under a savepoint of its own.

use serde_json::{Map, Value as Json};

use super::resolve::{as_fault, foreign_owner};
use super::{Bulk, Draft, Outcome, Prepared, What, folded, taken};
use crate::db::{Keep, Tx};
use crate::error::{Error, FieldError, Result};
use crate::event::ChangeKind;
use crate::module::input::{self, CreateInput, UpdateInput};
use crate::module::machine;
use crate::record::write::{change_in, create_in};
use crate::record::{Field, Record, reach};
use crate::scope::{Create, Permit, Read, Update};
use crate::value::Value;

impl Bulk {
    /// Whether a record's owner alone tells that it may be written, with all its fields, and its
    /// writer may know what is there already.
    pub(super) fn is_simple(&self) -> bool {
        let update = self.upsert.as_ref();
        self.create.reach().is_simple()
            && self.create.lists().is_none()
            && update.is_none_or(|(permit, _)| {
                permit.reach().is_simple() && permit.lists().is_none() && self.reads_all(permit)
            })
    }

    /// Whether the writer reads every field of all records that the permit covers.
    fn reads_all(&self, permit: &Permit<Update>) -> bool {
        let Ok(module) = permit.module() else {
            return false;
        };
        let read = permit.scope().permit::<Read>(module.name().as_str());
        read.is_ok_and(|read| read.lists().is_none() && read.rows().include(permit.rows()))
            && module.readable().count() == module.fields().len()
    }

    /// Whether the writer reads in this record all that an entry names.
    async fn reads(&self, tx: &mut Tx<'_>, named: &[Field], record: &Record) -> Result<bool> {
        let module = &record.module;
        let shown = |field: &Field| match field {
            Field::Declared(position) => module.is_readable(*position),
            _ => true,
        };
        let read = self.create.scope();
        let read = read.permit::<Read>(module.name().as_str());
        let Ok(read) = read.as_ref().map(|read| read.to_ask(named.iter().copied())) else {
            return Ok(false);
        };
        match read {
            Ok(read) if named.iter().all(shown) => {
                reach::covers_in(tx, &self.core, &read, record).await
            }
            _ => Ok(false),
        }
    }

    /// Writes what is right, record by record. A dry run takes back each one, with all it caused.
    pub(super) async fn write_each(&self, tx: &mut Tx<'_>, prepared: Prepared) -> Result<Outcome> {
        let mut outcome = Outcome {
            faults: prepared.faults,
            ..Outcome::default()
        };
        for Draft { line, what } in prepared.drafts {
            if self.stop_at_fault && outcome.faults.iter().any(|(other, _)| *other < line) {
                break;
            }
            tx.begin_step().await?;
            let done = self.write_one(tx, what).await;
            let keep = match self.dry_run {
                true => Keep::Nothing,
                false => Keep::from(&done),
            };
            tx.end_step(keep).await?;
            match done {
                Ok(Some(ChangeKind::Created)) => outcome.created += 1,
                Ok(Some(_)) => outcome.updated += 1,
                Ok(None) => outcome.unchanged += 1,
                Err(error) => {
                    let refused = faults_of(error)?.into_iter();
                    outcome
                        .faults
                        .extend(refused.map(|refused| (line, refused)));
                }
            }
        }
        outcome.faults.sort_by_key(|(line, _)| *line);
        if self.stop_at_fault
            && let Some((first, _)) = outcome.faults.first()
        {
            let first = *first;
            outcome.faults.retain(|(line, _)| *line == first);
        }
        Ok(outcome)
    }

    /// What happened to a record, if anything did.
    async fn write_one(&self, tx: &mut Tx<'_>, what: What) -> Result<Option<ChangeKind>> {
        match what {
            What::New(sent, named) => {
                let create = self.create.to_write(&named)?;
                self.create_one(tx, &create, &sent).await.map(Some)
            }
            What::Keyed { key, change, body } => self.upsert_one(tx, key, change, body).await,
        }
    }

    async fn create_one(
        &self,
        tx: &mut Tx<'_>,
        create: &Permit<Create>,
        sent: &CreateInput,
    ) -> Result<ChangeKind> {
        if sent.owner.is_some_and(|owner| !create.may_give_to(owner)) {
            return Err(foreign_owner());
        }
        let module = create.module()?;
        if input::complete(module, &sent.values).is_ok() {
            machine::begin(module, &sent.values)?;
        }
        create_in(tx, &self.core, create, sent).await?;
        Ok(ChangeKind::Created)
    }

    async fn upsert_one(
        &self,
        tx: &mut Tx<'_>,
        key: Value,
        mut change: UpdateInput,
        body: Map<String, Json>,
    ) -> Result<Option<ChangeKind>> {
        let module = self.create.module()?;
        let Some((permit, position)) = &self.upsert else {
            return Err(Error::internal("a keyed entry without an upsert"));
        };
        let named = input::named(module, &body);
        let permit = permit.to_write(&named)?;
        let field = &module.fields()[*position];
        let keys = std::slice::from_ref(&key);
        let known = self.having(tx, module, *position, keys).await?;
        let Some(before) = known.into_iter().next() else {
            let sent = match self.core.hooks.of(module, ChangeKind::Created) {
                [] => input::create(module, self.create.tenant(), body)?,
                _ => input::create_for_hooks(module, self.create.tenant(), body)?,
            };
            let create = self.create.to_write(&named)?;
            return self.create_one(tx, &create, &sent).await.map(Some);
        };
        if !reach::covers_in(tx, &self.core, &permit, &before).await? {
            return Err(Error::Invalid(vec![taken(field.name.as_str())]));
        }
        if change.owner.is_some_and(|owner| !permit.may_give_to(owner)) {
            return Err(foreign_owner());
        }
        // The key found the record: how it is written there stays.
        let same = folded(field, &key) == folded(field, &before.values[*position]);
        change.changes.retain(|(at, _)| !same || at != position);
        let version = before.version;
        let after = change_in(tx, &self.core, &permit, before, &change).await?;
        // That nothing changed says what was there: it is said to those who may read it.
        let told = after.version == version && self.reads(tx, &named, &after).await?;
        Ok((!told).then_some(ChangeKind::Updated))
    }
}

/// What is the entry's fault alone.
fn faults_of(error: Error) -> Result<Vec<FieldError>> {
    let whole = |code, message: String| FieldError {
        pointer: String::new(),
        code,
        message,
    };
    match as_fault(error) {
        Error::Invalid(refused) => Ok(refused),
        Error::Refused(refusal) => {
            let field = refusal.field();
            Ok(vec![field.unwrap_or_else(|| {
                whole(refusal.code(), refusal.to_string())
            })])
        }
        error @ (Error::Forbidden { .. } | Error::NotFound | Error::LimitExceeded { .. }) => {
            Ok(vec![whole(error.code(), error.to_string())])
        }
        error => Err(error),
    }
}
