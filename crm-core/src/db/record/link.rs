//! The SQL of records that refer to others, for what a delete brings with it.

use super::{Statements, select};
use crate::db::{ColumnType, Dialect, Sql};
use crate::id::{RecordId, TenantId};
use crate::record::{Comparison, Field, Filter};
use crate::value::Value;

impl Statements {
    /// The records that refer to one of these by the field at `position`, locked: at most so many.
    pub(crate) fn referring(
        &self,
        tenant: TenantId,
        position: usize,
        to: &[RecordId],
        limit: usize,
    ) -> Sql {
        let mut sql = select(&self.module);
        self.refer(&mut sql, tenant, position, to);
        sql.push(" ORDER BY id LIMIT ").number(limit as u64);
        if self.dialect == Dialect::Postgres {
            sql.push(" FOR UPDATE");
        }
        sql.returns_shared(&self.columns)
    }

    /// The ids of the records that refer to one of these by the field at `position`: at most so
    /// many.
    pub(crate) fn referrers(
        &self,
        tenant: TenantId,
        position: usize,
        to: &[RecordId],
        limit: usize,
    ) -> Sql {
        let mut sql = Sql::new("SELECT id FROM ");
        sql.ident(self.module.table());
        self.refer(&mut sql, tenant, position, to);
        sql.push(" LIMIT ").number(limit as u64);
        sql.returns(&[ColumnType::Uuid])
    }

    fn refer(&self, sql: &mut Sql, tenant: TenantId, position: usize, to: &[RecordId]) {
        let to = to.iter().map(|id| Value::Uuid(id.0)).collect();
        let filter = Filter::Compare(Field::Declared(position), Comparison::In(to));
        self.conditions(sql, tenant, None, Some(&filter), None);
    }

    /// Cuts the references of rows that are about to go, so that they may go in any order.
    pub(crate) fn cut(&self, tenant: TenantId, position: usize, rows: &[RecordId]) -> Sql {
        let mut sql = Sql::new("UPDATE ");
        sql.ident(self.module.table()).push(" SET ");
        sql.ident(&self.module.fields()[position].name)
            .push(" = NULL WHERE tenant_id = ");
        sql.arg(tenant, ColumnType::Uuid).push(" AND ");
        let ids: Vec<Value> = rows.iter().map(|id| Value::Uuid(id.0)).collect();
        self.one_of(&mut sql, Field::Id, &ids);
        sql
    }
}
