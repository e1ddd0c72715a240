//! The indexes of custom fields.
//!
//! Each holds the records of one tenant alone, and yet every write of the module's table looks at
//! all of them: beyond a number of them over all tenants, orders do without, and so do references,
//! whose records are then looked through when one that they may refer to is deleted.

use super::{CustomField, MAX_INDEXED, Write, rows};
use crate::db::{Tx, custom};
use crate::error::{Error, Result};
use crate::module::{CompiledModule, FieldSpec};

/// Most indexes of custom fields on one table, over all tenants.
const MAX_INDEXES_OF_TABLE: i64 = 256;

impl Write {
    /// Makes the index that the field needs; whether it has one.
    pub(super) async fn index(
        &self,
        tx: &mut Tx<'_>,
        others: &[CustomField],
        field: &CustomField,
    ) -> Result<bool> {
        let spec = &field.spec;
        if !needs_one(spec) {
            return Ok(false);
        }
        let others = others
            .iter()
            .filter(|other| other.removed_at.is_none() && needs_one(&other.spec));
        if others.count() >= MAX_INDEXED {
            let message = format!(
                "at most {MAX_INDEXED} custom fields of a module are references or have `sort` or \
                 `unique`; leave it out, or remove another one"
            );
            return Err(Error::conflict("too_many_indexes", message));
        }
        if rows::count_indexed(tx, &self.module).await? >= MAX_INDEXES_OF_TABLE {
            if !spec.unique {
                return Ok(false);
            }
            let message = "this installation has no room for another unique custom field; leave \
                           out `unique`";
            return Err(Error::conflict("too_many_indexes", message));
        }
        let (module, position) = with(&self.module, field, tx);
        tx.lock_schema().await?;
        if let Some(sql) = custom::create_index(&module, position, tx.dialect()) {
            tx.execute(sql).await?;
        }
        Ok(true)
    }

    /// Drops the field's index, if it has one.
    pub(super) async fn unindex(&self, tx: &mut Tx<'_>, field: &CustomField) -> Result<()> {
        if !field.indexed {
            return Ok(());
        }
        let (module, position) = with(&self.module, field, tx);
        tx.lock_schema().await?;
        match custom::drop_index(&module, position) {
            Some(sql) => tx.execute(sql).await.map(drop),
            None => Ok(()),
        }
    }
}

/// Whether lists are ordered by the field, no two records have the same value of it, or records are
/// looked for by it when one is deleted.
fn needs_one(spec: &FieldSpec) -> bool {
    spec.sort || spec.unique || spec.kind.is_reference()
}

/// Drops the indexes of all fields of a module that goes.
pub(super) async fn drop_all(
    tx: &mut Tx<'_>,
    module: &CompiledModule,
    fields: &[CustomField],
) -> Result<()> {
    for field in fields.iter().filter(|field| field.indexed) {
        tx.lock_schema().await?;
        let (module, position) = with(module, field, tx);
        if let Some(sql) = custom::drop_index(&module, position) {
            tx.execute(sql).await?;
        }
    }
    Ok(())
}

/// Makes the indexes of all tenants' fields on the module's table anew.
pub(crate) async fn create_indexes(tx: &mut Tx<'_>, module: &CompiledModule) -> Result<()> {
    for row in tx.fetch_all(rows::indexed(module.name())).await? {
        let Ok((_, field)) = rows::parse(row) else {
            continue;
        };
        let (module, position) = with(module, &field, tx);
        let drop = custom::drop_index(&module, position);
        let create = custom::create_index(&module, position, tx.dialect());
        for sql in drop.into_iter().chain(create) {
            tx.execute(sql).await?;
        }
    }
    Ok(())
}

/// The module with this custom field alone, and its position.
fn with(
    module: &CompiledModule,
    field: &CustomField,
    tx: &Tx<'_>,
) -> (std::sync::Arc<CompiledModule>, usize) {
    let position = module.declared_fields().len();
    let fields = std::slice::from_ref(field);
    (module.extended(fields, tx.dialect()), position)
}
