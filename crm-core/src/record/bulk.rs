//! Many records in one transaction: checked together, written together, each with its audit and
//! outbox rows. What one entry breaks is that entry's fault alone.

mod check;
mod inserts;
mod one_by_one;
mod resolve;

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::reference;
use super::{Field, Record};
use crate::crm::Core;
use crate::db::Tx;
use crate::error::{Error, FieldError, Result};
use crate::event::ChangeKind;
use crate::id::{TenantId, UserId};
use crate::journal::{self, Change};
use crate::module::input::{self, CreateInput, UpdateInput};
use crate::module::{CompiledModule, FieldSpec};
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

impl Bulk {
    /// Writes what is right.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another transaction took a unique value meanwhile: nothing is
    /// written, and a repetition will see it.
    pub(crate) async fn write(&self, tx: &mut Tx<'_>, prepared: Prepared) -> Result<Outcome> {
        let module = self.create.module()?.clone();
        if super::activity::has_effects(tx, &self.core, &module) || !self.is_simple() {
            return self.write_each(tx, prepared).await;
        }
        let mut faults = prepared.faults;
        let mut rows = self
            .resolve(tx, &module, prepared.drafts, &mut faults)
            .await?;
        self.copy(tx, &module, &mut rows).await?;
        check::check_amounts(&module, &rows, &mut faults)?;
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
        let (new, known): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.before.is_none());
        let (changed, same): (Vec<_>, Vec<_>) = known.into_iter().partition(Row::changes);
        let outcome = Outcome {
            created: new.len() as u64,
            updated: changed.len() as u64,
            unchanged: same.len() as u64,
            faults,
        };
        if !self.dry_run {
            for row in changed {
                self.update(tx, &module, row).await?;
            }
            let new = new.into_iter().map(|row| row.after).collect();
            self.insert(tx, &module, new).await?;
        }
        Ok(outcome)
    }

    async fn update(&self, tx: &mut Tx<'_>, module: &CompiledModule, row: Row) -> Result<()> {
        let (tenant, id) = (self.create.tenant(), row.after.id);
        let update = self.core.statements(module).update(
            tenant,
            id,
            row.owner,
            row.after.updated_at,
            &row.changes,
        );
        let change = Change {
            kind: ChangeKind::Updated,
            record: id,
            before: row.before.map(|before| before.to_json()),
            after: Some(row.after.to_json()),
        };
        journal::write(tx, self.create.scope(), module, update, change).await?;
        reference::link(tx, &self.core, tenant, module, id, &row.changes).await
    }
}

impl Row {
    /// Whether anything is to be written of a record that is there.
    fn changes(&self) -> bool {
        !self.changes.is_empty() || self.owner.is_some()
    }

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

fn taken(field: &str) -> FieldError {
    let message = "another record has this value already";
    FieldError::new(field, "already_exists", message)
}

/// The value as its unique index compares it.
fn folded(field: &FieldSpec, value: &Value) -> String {
    match value {
        Value::Text(text) if field.folds() => text.to_ascii_lowercase(),
        Value::Text(text) => text.clone(),
        value => format!("{value:?}"),
    }
}
