//! The SQL of records that refer to others: lists of references in tables of their own, references
//! to any module, and what a delete brings with it.

use super::Statements;
use crate::db::{ColumnType, Dialect, Sql};
use crate::id::{RecordId, TenantId};
use crate::module::{CompiledModule, FieldSpec, FieldType, Ident};
use crate::reach::Reach;
use crate::record::{Comparison, Field, Filter};
use crate::value::Value;

/// Appends the column that holds a record's links in their order; null when there are none.
pub(super) fn select(sql: &mut Sql, module: &CompiledModule, field: &FieldSpec, dialect: Dialect) {
    sql.push(match dialect {
        Dialect::Sqlite => {
            "(SELECT nullif(json_group_array(lower(substr(hex(to_id), 1, 8) || '-' || \
             substr(hex(to_id), 9, 4) || '-' || substr(hex(to_id), 13, 4) || '-' || \
             substr(hex(to_id), 17, 4) || '-' || substr(hex(to_id), 21)) ORDER BY position), '[]')"
        }
        Dialect::Postgres => "(SELECT array_agg(to_id::text ORDER BY position)",
    });
    sql.push(" FROM ");
    of_record(sql, module, field);
    sql.push(")");
}

/// Appends the table of a field's links and the condition that they are the record's.
fn of_record(sql: &mut Sql, module: &CompiledModule, field: &FieldSpec) {
    sql.link_table(module.table(), &field.name)
        .push(" AS link WHERE link.tenant_id = ")
        .ident(module.table())
        .push(".tenant_id AND link.from_id = ")
        .ident(module.table())
        .push(".id");
}

impl Statements {
    /// A record's columns and the table.
    pub(super) fn select(&self) -> Sql {
        super::select(&self.module, self.dialect)
    }

    pub(super) fn is_linked(&self, position: usize) -> bool {
        self.module.linked().contains(&position)
    }

    /// Appends what a comparison asks of the links at `position`; false where it asks something
    /// that lists have not.
    pub(super) fn linked(&self, sql: &mut Sql, position: usize, comparison: &Comparison) -> bool {
        let id = |text: &String| text.parse().map_or(Value::Null, Value::Uuid);
        match comparison {
            Comparison::IsNull => {
                sql.push("NOT ");
                self.links_to(sql, position, None);
            }
            Comparison::Has(one) => self.links_to(sql, position, Some(&[id(one)])),
            Comparison::HasAny(some) => {
                let some: Vec<Value> = some.iter().map(id).collect();
                self.links_to(sql, position, Some(&some));
            }
            Comparison::In(some) => self.links_to(sql, position, Some(some)),
            Comparison::HasAll(all) => {
                sql.push("(");
                self.links_to(sql, position, None);
                for one in all {
                    sql.push(" AND ");
                    self.links_to(sql, position, Some(&[id(one)]));
                }
                sql.push(")");
            }
            _ => return false,
        }
        true
    }

    /// The record has a link, to one of these if they are given.
    fn links_to(&self, sql: &mut Sql, position: usize, to: Option<&[Value]>) {
        sql.push("EXISTS (SELECT 1 FROM ");
        of_record(sql, &self.module, &self.module.fields()[position]);
        if let Some(to) = to {
            sql.push(" AND link.to_id IN (");
            for (count, id) in to.iter().enumerate() {
                sql.push(if count > 0 { ", " } else { "" });
                sql.arg(id.clone(), ColumnType::Uuid);
            }
            sql.push(if to.is_empty() { "NULL)" } else { ")" });
        }
        sql.push(")");
    }

    /// Appends what a reference to any module begins with, so that its index serves: values hold
    /// nothing that comes after a tilde.
    pub(super) fn subject(&self, sql: &mut Sql, position: usize, comparison: &Comparison) -> bool {
        let field = &self.module.fields()[position];
        let (FieldType::AnyReference { .. }, Comparison::Starts(part)) = (&field.kind, comparison)
        else {
            return false;
        };
        let part = part.to_ascii_lowercase();
        sql.push("(").ident(&field.name).push(" >= ");
        sql.arg(&part, ColumnType::Text)
            .push(" AND ")
            .ident(&field.name)
            .push(" < ");
        sql.arg(format!("{part}~"), ColumnType::Text).push(")");
        true
    }

    /// One link of a record, the `place`th of its list.
    pub(crate) fn link(
        &self,
        tenant: TenantId,
        position: usize,
        [from, to]: [RecordId; 2],
        place: usize,
    ) -> Sql {
        let mut sql = Sql::new("INSERT INTO ");
        sql.link_table(self.module.table(), &self.module.fields()[position].name);
        sql.push(" (tenant_id, from_id, to_id, position) VALUES ($1, $2, $3, $4)");
        sql.bind(tenant, ColumnType::Uuid)
            .bind(from, ColumnType::Uuid)
            .bind(to, ColumnType::Uuid)
            .bind(place as i64, ColumnType::Int)
    }

    /// Removes a record's links.
    pub(crate) fn unlink(&self, tenant: TenantId, position: usize, from: RecordId) -> Sql {
        let mut sql = Sql::new("DELETE FROM ");
        sql.link_table(self.module.table(), &self.module.fields()[position].name);
        sql.push(" WHERE tenant_id = ")
            .arg(tenant, ColumnType::Uuid);
        sql.push(" AND from_id = ").arg(from, ColumnType::Uuid);
        sql
    }

    /// Which of these ids exist and, with an owner, belong to them. Where the reference has no
    /// foreign key, or a delete leaves the row, they cannot be deleted until the transaction ends.
    pub(crate) fn held(&self, tenant: TenantId, reach: &Reach, ids: &[Value], keyed: bool) -> Sql {
        let mut sql = self.existing(tenant, reach, ids);
        if self.dialect == Dialect::Postgres && !keyed && !self.module.spec().soft_delete {
            sql.push(" FOR KEY SHARE");
        }
        sql
    }

    /// The records that refer to one of these by the field at `position`, locked: at most so many.
    pub(crate) fn referring(
        &self,
        tenant: TenantId,
        position: usize,
        to: (&Ident, &[RecordId]),
        limit: usize,
    ) -> Sql {
        let mut sql = self.select();
        self.refer(&mut sql, tenant, position, to);
        // SQLite would rather read all records of the tenant, which stand in the order of their
        // ids.
        sql.push(match self.dialect {
            Dialect::Sqlite => " ORDER BY +id LIMIT ",
            Dialect::Postgres => " ORDER BY id LIMIT ",
        });
        sql.number(limit as u64);
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
        to: (&Ident, &[RecordId]),
        limit: usize,
    ) -> Sql {
        let mut sql = Sql::new("SELECT id FROM ");
        sql.ident(self.module.table());
        self.refer(&mut sql, tenant, position, to);
        sql.push(" LIMIT ").number(limit as u64);
        sql.returns(&[ColumnType::Uuid])
    }

    fn refer(
        &self,
        sql: &mut Sql,
        tenant: TenantId,
        position: usize,
        (target, ids): (&Ident, &[RecordId]),
    ) {
        let any = matches!(
            self.module.fields()[position].kind,
            FieldType::AnyReference { .. }
        );
        let to = ids.iter().map(|id| match any {
            true => Value::Text(format!("{target}/{id}")),
            false => Value::Uuid(id.0),
        });
        let filter = Filter::Compare(Field::Declared(position), Comparison::In(to.collect()));
        self.conditions(sql, tenant, &Reach::All, Some(&filter), None);
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
