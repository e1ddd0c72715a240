//! Rows found by many values of one field at once, for bulk writes.

use super::{Field, Statements, within};
use crate::db::{ColumnType, Dialect, Sql};
use crate::id::TenantId;
use crate::reach::Reach;
use crate::value::Value;

impl Statements {
    /// The records whose field has one of these values, locked until the transaction ends.
    pub(crate) fn having_for_update(
        &self,
        tenant: TenantId,
        field: Field,
        values: &[Value],
    ) -> Sql {
        let mut sql = self.select();
        sql.push(" WHERE ");
        within(&mut sql, &self.module);
        sql.push("tenant_id = ")
            .arg(tenant, ColumnType::Uuid)
            .push(self.shelf.condition(&self.module))
            .push(" AND ");
        self.one_of(&mut sql, field, values);
        if self.dialect == Dialect::Postgres {
            sql.push(" ORDER BY id FOR UPDATE");
        }
        sql.returns_shared(&self.columns)
    }

    /// Which of these ids exist and, with an owner, belong to them.
    pub(crate) fn existing(&self, tenant: TenantId, reach: &Reach, ids: &[Value]) -> Sql {
        let mut sql = Sql::new("SELECT id FROM ");
        sql.ident(self.module.table());
        self.conditions(&mut sql, tenant, reach, None, None);
        sql.push(" AND ");
        self.one_of(&mut sql, Field::Id, ids);
        self.hold(&mut sql);
        sql.returns(&[ColumnType::Uuid])
    }

    pub(super) fn one_of(&self, sql: &mut Sql, field: Field, values: &[Value]) {
        self.folded(sql, field);
        sql.push(" IN (");
        for (count, value) in values.iter().enumerate() {
            if count > 0 {
                sql.push(", ");
            }
            self.operand(sql, field, value);
        }
        sql.push(if values.is_empty() { "NULL)" } else { ")" });
    }
}
