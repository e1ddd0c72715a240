//! The SQL of bulk writes: the records of a condition, locked, and one statement for many of them.

use chrono::{DateTime, Utc};

use super::custom::within;
use super::{Field, Statements};
use crate::db::{ColumnType, Dialect, Sql};
use crate::id::{TenantId, UserId};
use crate::reach::Reach;
use crate::record::Filter;
use crate::value::Value;

impl Statements {
    /// The records that match, up to so many, locked until the transaction ends.
    pub(crate) fn matching_for_update(
        &self,
        tenant: TenantId,
        reach: &Reach,
        filter: &Filter,
        limit: u64,
    ) -> Sql {
        let mut sql = self.select();
        self.conditions(&mut sql, tenant, reach, Some(filter), None);
        sql.push(" ORDER BY id LIMIT ").number(limit);
        if self.dialect == Dialect::Postgres {
            sql.push(" FOR UPDATE");
        }
        sql.returns_shared(&self.columns)
    }

    /// The same new values for locked rows, each of which gets its next version.
    pub(crate) fn update_many(
        &self,
        tenant: TenantId,
        ids: &[Value],
        owner: Option<Option<UserId>>,
        now: DateTime<Utc>,
        changes: &[(usize, Value)],
    ) -> Sql {
        let mut sql = self.assignments(owner, now, changes);
        self.these(&mut sql, tenant, ids);
        sql
    }

    /// Moves locked rows to the trash; each gets its next version.
    pub(crate) fn discard_many(&self, tenant: TenantId, ids: &[Value], now: DateTime<Utc>) -> Sql {
        let mut sql = self.assignments(None, now, &[]);
        sql.push(", deleted_at = ").arg(now, ColumnType::Instant);
        self.these(&mut sql, tenant, ids);
        sql
    }

    /// Removes locked rows.
    pub(crate) fn delete_many(&self, tenant: TenantId, ids: &[Value]) -> Sql {
        let mut sql = Sql::new("DELETE FROM ");
        sql.ident(self.module.table());
        self.these(&mut sql, tenant, ids);
        sql
    }

    fn these(&self, sql: &mut Sql, tenant: TenantId, ids: &[Value]) {
        sql.push(" WHERE ");
        within(sql, &self.module);
        sql.push("tenant_id = ")
            .arg(tenant, ColumnType::Uuid)
            .push(" AND ");
        self.one_of(sql, Field::Id, ids);
    }
}
