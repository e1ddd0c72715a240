//! Which entries of a batch are new records and which change one, and what the records will be.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::reference;
use super::super::{Field, Record, copy, reach};
use super::{Bulk, Draft, Fault, Row, What, folded, taken};
use crate::db::Tx;
use crate::error::{Error, FieldError, Result};
use crate::id::RecordId;
use crate::module::input::{self, CreateInput, UpdateInput};
use crate::module::machine::Writer;
use crate::module::{CompiledModule, machine};
use crate::policy::RowScope;
use crate::value::Value;

impl Bulk {
    /// Which entries are new records and which change one.
    pub(super) async fn resolve(
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

    pub(super) async fn having(
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
        let nobody = Writer {
            rows: RowScope::Own,
            scope: None,
        };
        let writer = self.upsert.as_ref();
        let writer = writer.map_or(nobody, |(permit, _)| Writer::of(permit));
        let (module, old) = (&before.module, &before.values);
        machine::proceed(module, writer, old, &mut after.values, &sent.changes)
            .map_err(as_fault)?;
        let changes = changed(&before.values, &after.values);
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
    pub(super) async fn copy(
        &self,
        tx: &mut Tx<'_>,
        module: &CompiledModule,
        rows: &mut [Row],
    ) -> Result<()> {
        if module.copies().is_empty() {
            return Ok(());
        }
        let records = rows.iter_mut().map(|row| {
            let before = row.before.as_ref().map(|before| before.values.as_slice());
            (before, &mut row.after.values)
        });
        let (scope, records) = (self.create.scope(), records.collect());
        copy::fill_all(tx, &self.core, scope, module, records).await?;
        for row in rows {
            if let Some(before) = &row.before {
                row.changes = changed(&before.values, &row.after.values);
            }
        }
        Ok(())
    }
}

/// The fields that get another value, by position.
fn changed(before: &[Value], after: &[Value]) -> Vec<(usize, Value)> {
    let values = before.iter().zip(after).enumerate();
    let changed = values.filter(|(_, (old, new))| old != new);
    changed.map(|(at, (_, new))| (at, new.clone())).collect()
}

/// A refusal of the entry rather than of the batch.
pub(super) fn as_fault(error: Error) -> Error {
    match error {
        Error::Conflict { code, message } => Error::Invalid(vec![FieldError {
            pointer: String::new(),
            code,
            message: message.into_owned(),
        }]),
        error => error,
    }
}

pub(super) fn foreign_owner() -> Error {
    let message = "you may write records of your own only";
    Error::invalid("owner_id", "not_allowed", message)
}
