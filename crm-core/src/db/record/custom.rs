//! The values of a tenant's own fields: one JSON object in the column `custom` of a record, each
//! value under its field's number.
//!
//! An update writes the members it changes and no others, so that the values of removed fields stay
//! until they are purged.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::{SYSTEM, Statements};
use crate::db::custom::{self, member};
use crate::db::{ColumnType, Dialect, Sql};
use crate::error::{Error, Result};
use crate::id::{RecordId, TenantId};
use crate::module::CompiledModule;
use crate::value::Value;

/// The columns of a record as it is read.
pub(super) fn selected(module: &CompiledModule) -> Arc<[ColumnType]> {
    let declared = &module.columns()[..module.declared_fields().len()];
    let deleted_at = module.spec().soft_delete.then_some(&ColumnType::Instant);
    let custom = module.has_custom().then_some(&ColumnType::Json);
    SYSTEM
        .iter()
        .chain(deleted_at)
        .chain(declared)
        .chain(custom)
        .copied()
        .collect()
}

/// In the table that tenants' own modules share, the condition that a record is of this one.
pub(super) fn within(sql: &mut Sql, module: &CompiledModule) {
    if module.is_tenants() {
        sql.push("module = ").literal(module.name()).push(" AND ");
    }
}

impl Statements {
    /// The values of the columns, and that of the column `custom` where it is written.
    pub(super) fn packed(&self, mut values: Vec<Value>) -> (Vec<Value>, Option<Value>) {
        if !self.module.has_custom() {
            return (values, None);
        }
        let own = values.split_off(self.module.declared_fields().len());
        let mut members = Map::new();
        for (number, value) in self.module.numbers().iter().zip(own) {
            if !value.is_null() {
                members.insert(member(*number), custom::stored(value, self.dialect));
            }
        }
        let packed = match members.is_empty() {
            true => Value::Null,
            false => Value::Json(Json::Object(members)),
        };
        (values, Some(packed))
    }

    /// How many of these changes, ordered by position, are of declared fields.
    pub(super) fn declared(&self, changes: &[(usize, Value)]) -> usize {
        changes.partition_point(|(position, _)| !self.module.is_custom(*position))
    }

    /// Appends the assignment that gives the tenant's fields these values.
    pub(super) fn repack(&self, sql: &mut Sql, changes: &[(usize, Value)]) {
        if changes.is_empty() {
            return;
        }
        let mut given: Vec<(u64, Json)> = Vec::new();
        let mut taken: Vec<u64> = Vec::new();
        for (position, value) in changes {
            match (self.module.number(*position), value) {
                (Some(number), Value::Null) => taken.push(number),
                (Some(number), value) => {
                    given.push((number, custom::stored(value.clone(), self.dialect)));
                }
                (None, _) => {}
            }
        }
        sql.push(", custom = ");
        match self.dialect {
            Dialect::Sqlite => {
                sql.push(if taken.is_empty() { "" } else { "json_remove(" });
                sql.push("json_set(coalesce(custom, '{}')");
                for (number, json) in given {
                    sql.push(", '$.f").number(number).push("', json(");
                    sql.arg(json.to_string(), ColumnType::Text).push(")");
                }
                sql.push(")");
                for number in &taken {
                    sql.push(", '$.f").number(*number).push("'");
                }
                sql.push(if taken.is_empty() { "" } else { ")" });
            }
            Dialect::Postgres => {
                sql.push("(coalesce(custom, '{}'::jsonb) || ");
                let given = given
                    .into_iter()
                    .map(|(number, json)| (member(number), json));
                sql.arg(Json::Object(given.collect()), ColumnType::Json)
                    .push(")");
                for number in taken {
                    sql.push(" - 'f").number(number).push("'::text");
                }
            }
        }
    }
}

impl Statements {
    /// The id of the last of so many records behind this one; none when there are fewer.
    pub(crate) fn last_of(&self, tenant: TenantId, after: RecordId, count: u32) -> Sql {
        let mut sql = Sql::new("SELECT id FROM ");
        sql.ident(self.module.table());
        self.everywhere(&mut sql, tenant);
        sql.push(" AND id > ").arg(after, ColumnType::Uuid);
        sql.push(" ORDER BY id LIMIT 1 OFFSET ")
            .number(u64::from(count.saturating_sub(1)));
        sql.returns(&[ColumnType::Uuid])
    }

    /// All records of the tenant, also those in the trash.
    fn everywhere(&self, sql: &mut Sql, tenant: TenantId) {
        sql.push(" WHERE ");
        within(sql, &self.module);
        sql.push("tenant_id = ").arg(tenant, ColumnType::Uuid);
    }

    /// Takes the values of the tenant's fields out of the records behind `after`, up to `last`.
    pub(crate) fn purge(&self, tenant: TenantId, after: RecordId, last: Option<RecordId>) -> Sql {
        let mut sql = Sql::new("UPDATE ");
        sql.ident(self.module.table()).push(" SET custom = ");
        match self.dialect {
            Dialect::Sqlite => {
                sql.push("json_remove(custom");
                for number in self.module.numbers() {
                    sql.push(", '$.f").number(*number).push("'");
                }
                sql.push(")");
            }
            Dialect::Postgres => {
                sql.push("custom");
                for number in self.module.numbers() {
                    sql.push(" - 'f").number(*number).push("'::text");
                }
            }
        }
        self.everywhere(&mut sql, tenant);
        sql.push(" AND id > ").arg(after, ColumnType::Uuid);
        if let Some(last) = last {
            sql.push(" AND id <= ").arg(last, ColumnType::Uuid);
        }
        sql.push(" AND (1 = 0");
        for number in self.module.numbers() {
            let (open, close) = match self.dialect {
                Dialect::Sqlite => (" OR json_type(custom, '$.f", "') IS NOT NULL"),
                Dialect::Postgres => (" OR custom -> 'f", "' IS NOT NULL"),
            };
            sql.push(open).number(*number).push(close);
        }
        sql.push(")");
        sql
    }
}

impl CompiledModule {
    /// The values of all fields, from the declared columns and the column `custom`.
    pub(crate) fn unpacked(&self, mut columns: Vec<Value>) -> Result<Vec<Value>> {
        if !self.has_custom() {
            return Ok(columns);
        }
        let mut members = match columns.pop() {
            Some(Value::Json(Json::Object(members))) => members,
            Some(Value::Null) => Map::new(),
            _ => return Err(self.broken()),
        };
        let declared = self.declared_fields().len();
        for (number, kind) in self.numbers().iter().zip(&self.columns()[declared..]) {
            columns.push(match members.remove(&member(*number)) {
                None => Value::Null,
                Some(json) => custom::read(json, *kind).ok_or_else(|| self.broken())?,
            });
        }
        Ok(columns)
    }

    fn broken(&self) -> Error {
        Error::Inconsistent {
            table: self.table().to_string().into(),
            column: crate::module::CUSTOM.into(),
        }
    }
}
