//! Upserts: a record is changed where its unique value is known, and made where it is not.
//!
//! What is found is judged as an update, what is not as a create, as an import's upsert does.
//!
//! Of callers that race with a new value one makes the record; the others find it and change it.

use serde_json::{Map, Value as Json};

use super::reference;
use super::write::{Kind, Write, admit, change_in, checked_create, checked_update, create_in};
use super::{Field, Record};
use crate::crm::Core;
use crate::db::{Keep, Tx};
use crate::error::{Error, Result};
use crate::event::ChangeKind;
use crate::module::CompiledModule;
use crate::module::input::UpdateInput;
use crate::scope::{Create, Permit, Scope, Update};
use crate::value::Value;

/// A checked upsert.
pub(super) struct Upsert {
    create: Permit<Create>,
    update: Permit<Update>,
    key: Key,
    /// What the body says of the key.
    value: Value,
    body: Map<String, Json>,
    changes: UpdateInput,
}

/// The unique field that a record is known by.
#[derive(Debug, Clone, Copy)]
pub struct Key(usize);

impl Key {
    /// The field's position.
    pub(crate) fn position(self) -> usize {
        self.0
    }

    /// The names of all keys of this module that its reader knows of.
    pub(crate) fn names(module: &CompiledModule) -> impl Iterator<Item = &str> {
        let keys = module.fields().iter().filter(|field| field.is_key());
        let names = keys.map(|field| field.name.as_str());
        names.filter(move |name| !module.masks(name))
    }

    /// The key called `name` in this module.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `by` for a field that is absent or not unique.
    pub fn named(module: &CompiledModule, name: &str) -> Result<Self> {
        let position = module.position(name);
        match position.filter(|_| Self::names(module).any(|key| key == name)) {
            Some(position) => Ok(Self(position)),
            None => {
                let keys: Vec<_> = Self::names(module).collect();
                let known = position.filter(|_| !module.masks(name));
                let why = match known.and_then(|at| module.fields().get(at)) {
                    Some(field) if field.serial => {
                        format!("{name} is given to a record when it is made, never by clients. ")
                    }
                    Some(field) if field.is_read_only() => {
                        format!("{name} is not set by clients. ")
                    }
                    _ => String::new(),
                };
                let what = match keys.is_empty() {
                    true => {
                        "There is no unique field here that you may read and set: change records \
                             by their id."
                            .to_owned()
                    }
                    false => format!(
                        "Name a unique field that you may read and set: {}.",
                        keys.join(" or ")
                    ),
                };
                Err(Error::invalid("by", "not_unique", format!("{why}{what}")))
            }
        }
    }
}

impl Write {
    /// Changes the record that has the body's value of `by` as an update does, or makes one.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every refused field, by the rules of an update; those of a create hold
    /// where the record turns out to be new.
    pub fn upsert(
        create: &Permit<Create>,
        update: &Permit<Update>,
        by: Key,
        body: Map<String, Json>,
    ) -> Result<Self> {
        let (update, changes) = checked_update(update, body.clone())?;
        let value = changes.changes.iter().find(|(at, _)| *at == by.0);
        let value = value.map(|(_, value)| value.clone()).unwrap_or_default();
        if value.is_null() {
            let module = update.module()?;
            let name = module
                .fields()
                .get(by.0)
                .map_or("", |field| field.name.as_str());
            return Err(Error::invalid(
                name,
                "required",
                "The record is known by this field: give its value.",
            ));
        }
        Ok(Self(Kind::Upsert(Box::new(Upsert {
            create: create.clone(),
            update,
            key: by,
            value,
            body,
            changes,
        }))))
    }
}

impl Upsert {
    pub(super) fn scope(&self) -> &Scope {
        self.create.scope()
    }

    pub(super) async fn run_in(
        &self,
        tx: &mut Tx<'_>,
        core: &Core,
    ) -> Result<(ChangeKind, Record)> {
        if let Some(known) = self.find(tx, core).await? {
            return self.change(tx, core, known).await;
        }
        let (create, new) = checked_create(&self.create, self.body.clone())?;
        tx.begin_step().await?;
        let made = create_in(tx, core, &create, &new).await;
        tx.end_step(Keep::from(&made)).await?;
        match made {
            Ok(record) => Ok((ChangeKind::Created, record)),
            // Somebody else was faster, or another unique value is taken.
            Err(error) if error.code() == TAKEN => match self.find(tx, core).await? {
                Some(known) => self.change(tx, core, known).await,
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    async fn find(&self, tx: &mut Tx<'_>, core: &Core) -> Result<Option<Record>> {
        let module = self.update.module()?;
        let statements = core.statements(module);
        let field = Field::Declared(self.key.0);
        let values = std::slice::from_ref(&self.value);
        let sql = statements.having_for_update(self.update.tenant(), field, values);
        let row = reference::locked(tx, module, sql).await?.into_iter().next();
        row.map(|row| Record::from_row(module, row)).transpose()
    }

    async fn change(
        &self,
        tx: &mut Tx<'_>,
        core: &Core,
        known: Record,
    ) -> Result<(ChangeKind, Record)> {
        let admitted = admit(tx, core, &self.update, &known).await;
        admitted.map_err(|error| match error {
            // What a create would say of a record that the caller may not see.
            Error::NotFound => Error::conflict(TAKEN, "another record has the same value already"),
            error => error,
        })?;
        let mut changes = self.changes.clone();
        if self.update.module()?.fields()[self.key.0].immutable {
            // The key found the record: how it is written there stays.
            changes.changes.retain(|(at, _)| *at != self.key.0);
        }
        let record = change_in(tx, core, &self.update, known, &changes).await?;
        Ok((ChangeKind::Updated, record))
    }
}

/// The code of a unique value that another record has.
const TAKEN: &str = "already_exists";
