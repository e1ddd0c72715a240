//! What the entries of a batch are held against in its transaction.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use super::super::reference::{self, Named};
use super::{Bulk, Fault, Row, folded, taken};
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, FieldError, Result};
use crate::module::CompiledModule;
use crate::value::Value;

/// Amounts are judged by the currencies that their records get.
pub(super) fn check_amounts(
    module: &CompiledModule,
    rows: &[Row],
    faults: &mut Vec<Fault>,
) -> Result<()> {
    for row in rows {
        let before = row.before.as_ref().map(|before| before.values.as_slice());
        match module.check_amounts(before, &row.after.values) {
            Err(Error::Invalid(refused)) => {
                faults.extend(refused.into_iter().map(|refused| (row.line, refused)));
            }
            other => other?,
        }
    }
    Ok(())
}

impl Bulk {
    /// Owners that entries name are members of the tenant.
    pub(super) async fn check_owners(
        &self,
        tx: &mut Tx<'_>,
        rows: &[Row],
        faults: &mut Vec<Fault>,
    ) -> Result<()> {
        let named: HashSet<Uuid> = rows
            .iter()
            .filter_map(|row| row.owner.flatten())
            .map(|owner| owner.0)
            .collect();
        if named.is_empty() {
            return Ok(());
        }
        let mut sql = Sql::new("SELECT user_id FROM memberships WHERE tenant_id = ");
        sql.arg(self.create.tenant(), ColumnType::Uuid)
            .push(" AND user_id IN (");
        for (count, owner) in named.into_iter().enumerate() {
            if count > 0 {
                sql.push(", ");
            }
            sql.arg(owner, ColumnType::Uuid);
        }
        sql.push(")");
        let members = ids(tx, sql.returns(&[ColumnType::Uuid])).await?;
        for row in rows {
            if row
                .owner
                .flatten()
                .is_some_and(|owner| !members.contains(&owner.0))
            {
                let message = "no member has this id";
                let refused = FieldError::new("owner_id", "unknown_reference", message);
                faults.push((row.line, refused));
            }
        }
        Ok(())
    }

    /// References point to records of the tenant that the caller may see (XC-02).
    pub(super) async fn check_references(
        &self,
        tx: &mut Tx<'_>,
        module: &CompiledModule,
        rows: &[Row],
        faults: &mut Vec<Fault>,
    ) -> Result<()> {
        for (position, field) in module.fields().iter().enumerate() {
            for target in field.kind.targets() {
                let of_row = |row: &Row| {
                    let before = row.before.as_ref();
                    let before = before.and_then(|before| before.values.get(position));
                    let named = reference::named(module, position, row.given(position)?, before);
                    named.filter(|named| named.target == target)
                };
                let each: Vec<_> = rows.iter().map(of_row).collect();
                let ids: HashSet<Uuid> = each
                    .iter()
                    .flatten()
                    .flat_map(|named| named.ids.iter().copied())
                    .collect();
                if ids.is_empty() {
                    continue;
                }
                let all = Named {
                    field: position,
                    target,
                    ids: ids.into_iter().collect(),
                };
                let scope = self.create.scope();
                let found = reference::visible(tx, &self.core, scope, module, &all).await?;
                for (row, named) in rows.iter().zip(each) {
                    if let Some(named) = named
                        && !named.ids.iter().all(|id| found.contains(id))
                    {
                        faults.push((row.line, reference::unknown(module, &named)));
                    }
                }
            }
        }
        Ok(())
    }

    /// Unique values are taken neither by a record nor by an earlier entry.
    pub(super) async fn check_unique(
        &self,
        tx: &mut Tx<'_>,
        module: &Arc<CompiledModule>,
        rows: &[Row],
        faults: &mut Vec<Fault>,
    ) -> Result<()> {
        let unique = module.fields().iter().enumerate();
        for (position, field) in unique.filter(|(_, field)| field.unique) {
            let given = |row: &Row| match row.given(position) {
                None | Some(Value::Null) => None,
                Some(value) => Some(value.clone()),
            };
            let values: Vec<Value> = rows.iter().filter_map(given).collect();
            let mut holders = HashMap::new();
            for record in self.having(tx, module, position, &values).await? {
                holders.insert(folded(field, &record.values[position]), record.id);
            }
            for row in rows {
                let Some(value) = given(row) else { continue };
                let holder = holders.entry(folded(field, &value)).or_insert(row.after.id);
                if *holder != row.after.id {
                    faults.push((row.line, taken(field.name.as_str())));
                }
            }
        }
        Ok(())
    }
}

async fn ids(tx: &mut Tx<'_>, sql: Sql) -> Result<HashSet<Uuid>> {
    let rows = tx.fetch_all(sql).await?;
    rows.into_iter().map(|mut row| row.uuid()).collect()
}
