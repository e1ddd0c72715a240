//! The SQL of duplicates: records that agree in all fields of a declared key, ASCII letters in
//! either case.

use super::Statements;
use crate::db::{ColumnType, Sql};
use crate::id::{RecordId, TenantId};
use crate::module::FieldType;
use crate::reach::Reach;
use crate::value::Value;

impl Statements {
    /// Values that several records share, in order behind these, each with how many share them.
    pub(crate) fn shared_values(
        &self,
        tenant: TenantId,
        reach: &Reach,
        key: &[usize],
        behind: Option<&[Value]>,
        limit: u32,
    ) -> Sql {
        let mut sql = Sql::new("SELECT ");
        self.key(&mut sql, key);
        sql.push(", count(*) FROM ").ident(self.module.table());
        self.conditions(&mut sql, tenant, reach, None, None);
        for position in key {
            sql.push(" AND ")
                .ident(&self.module.fields()[*position].name)
                .push(" IS NOT NULL");
        }
        if let Some(values) = behind {
            sql.push(" AND (");
            self.key(&mut sql, key);
            sql.push(") > (");
            self.values(&mut sql, key, values);
            sql.push(")");
        }
        sql.push(" GROUP BY ");
        self.key(&mut sql, key);
        sql.push(" HAVING count(*) > 1 ORDER BY ");
        self.key(&mut sql, key);
        sql.push(" LIMIT ").number(u64::from(limit));
        let kinds = key.iter().map(|position| self.module.columns()[*position]);
        sql.returns_shared(&kinds.chain([ColumnType::Int]).collect())
    }

    /// Some of the records that share these values, the oldest first; but for one.
    pub(crate) fn sharing(
        &self,
        tenant: TenantId,
        reach: &Reach,
        (key, values): (&[usize], &[Value]),
        but: Option<RecordId>,
        limit: u32,
    ) -> Sql {
        let mut sql = self.select();
        self.share(&mut sql, tenant, reach, (key, values), but);
        sql.push(" ORDER BY id LIMIT ").number(u64::from(limit));
        sql.returns_shared(&self.columns)
    }

    /// How many records share these values, but for one.
    pub(crate) fn count_sharing(
        &self,
        tenant: TenantId,
        reach: &Reach,
        shared: (&[usize], &[Value]),
        but: Option<RecordId>,
    ) -> Sql {
        let mut sql = Sql::new("SELECT count(*) FROM ");
        sql.ident(self.module.table());
        self.share(&mut sql, tenant, reach, shared, but);
        sql.returns(&[ColumnType::Int])
    }

    fn share(
        &self,
        sql: &mut Sql,
        tenant: TenantId,
        reach: &Reach,
        (key, values): (&[usize], &[Value]),
        but: Option<RecordId>,
    ) {
        self.conditions(sql, tenant, reach, None, None);
        for (position, value) in key.iter().zip(values) {
            sql.push(" AND ");
            self.same_case(sql, *position);
            sql.push(" = ");
            sql.arg(value.clone(), self.module.columns()[*position]);
        }
        if let Some(but) = but {
            sql.push(" AND id <> ").arg(but, ColumnType::Uuid);
        }
    }

    fn key(&self, sql: &mut Sql, key: &[usize]) {
        for (count, position) in key.iter().enumerate() {
            sql.push(if count > 0 { ", " } else { "" });
            self.same_case(sql, *position);
        }
    }

    fn values(&self, sql: &mut Sql, key: &[usize], values: &[Value]) {
        for (count, (position, value)) in key.iter().zip(values).enumerate() {
            sql.push(if count > 0 { ", " } else { "" });
            sql.arg(value.clone(), self.module.columns()[*position]);
        }
    }

    /// The field as duplicates compare it: as its index says, to the letter.
    fn same_case(&self, sql: &mut Sql, position: usize) {
        let field = &self.module.fields()[position];
        if ignores_case(&field.kind) {
            sql.push("lower(").ident(&field.name).push(")");
        } else {
            sql.ident(&field.name);
        }
    }
}

/// Whether duplicates agree in fields of this type also where ASCII letters differ in case.
pub(crate) fn ignores_case(kind: &FieldType) -> bool {
    matches!(
        kind,
        FieldType::Text { .. } | FieldType::Email | FieldType::Phone
    )
}
