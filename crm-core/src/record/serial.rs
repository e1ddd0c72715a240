//! Serial fields: each new record of a tenant gets the next number.
//!
//! The number is taken in the transaction of the record, which other creates of the tenant in the
//! same module wait for; what is rolled back gives its number back.

use super::{Comparison, Field, Filter, Record, Records};
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{RecordId, TenantId};
use crate::module::{CompiledModule, Ident};
use crate::reach::Reach;
use crate::scope::{Action, Permit};
use crate::value::Value;

/// Numbers new records in their order: one statement for each serial field.
pub(super) async fn number<'r>(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    module: &CompiledModule,
    records: impl ExactSizeIterator<Item = &'r mut Record>,
) -> Result<()> {
    let count = i64::try_from(records.len()).map_err(Error::internal)?;
    if module.serials().is_empty() || count == 0 {
        return Ok(());
    }
    let mut first = Vec::with_capacity(module.serials().len());
    for position in module.serials() {
        let field = &module.fields()[*position].name;
        first.push((*position, take(tx, tenant, module, field, count).await?));
    }
    for (record, offset) in records.zip(0..) {
        for (position, first) in &first {
            record.values[*position] = Value::Int(first + offset);
        }
    }
    Ok(())
}

/// The first of the next `count` numbers, which are taken with it.
async fn take(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    module: &CompiledModule,
    field: &Ident,
    count: i64,
) -> Result<i64> {
    let sql = Sql::new(
        "INSERT INTO serials (tenant_id, module, field, next) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (tenant_id, module, field) DO UPDATE SET next = serials.next + $5 \
         RETURNING next",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(module.name().as_str(), ColumnType::Text)
    .bind(field.as_str(), ColumnType::Text)
    .bind(count + 1, ColumnType::Int)
    .bind(count, ColumnType::Int)
    .returns(&[ColumnType::Int]);
    let row = tx.fetch_all(sql).await?.into_iter().next();
    let mut row = row.ok_or_else(|| Error::internal("a serial without a number"))?;
    Ok(row.int::<i64>()? - count)
}

impl Records {
    /// The id of the record with this number, also of one in the trash, in a module whose
    /// declaration names a `key`.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn id_of<A: Action>(&self, permit: &Permit<A>, number: i64) -> Result<RecordId> {
        let module = permit.module()?;
        let key = module.spec().key.as_ref().ok_or(Error::NotFound)?;
        let field = Field::named(module, key.as_str()).ok_or(Error::NotFound)?;
        let filter = Filter::Compare(field, Comparison::Eq(Value::Int(number)));
        let statements = self.core.statements(module);
        // Whether the caller may see or change it is for what they ask next.
        let sql = statements.matching(permit.tenant(), &Reach::All, &filter);
        let mut row = self.core.db.fetch_optional(sql).await?;
        if row.is_none() && module.spec().soft_delete {
            let trash = statements.trash();
            let sql = trash.matching(permit.tenant(), &Reach::All, &filter);
            row = self.core.db.fetch_optional(sql).await?;
        }
        Ok(Record::from_row(module, row.ok_or(Error::NotFound)?)?.id)
    }
}
