//! The SQL of a module's records. Every statement carries the tenant; none takes it from a caller
//! other than a permit's.

mod aggregate;
mod custom;
mod duplicates;
mod link;
mod lookup;
mod many;
mod nearest;
mod order;
mod owned;
mod reach;
mod search;
mod search_sample;
mod search_step;
mod through;
mod trash;

use std::sync::Arc;

use chrono::{DateTime, SubsecRound as _, Utc};

use super::{ColumnType, Dialect, Sql};
use crate::id::{RecordId, TenantId, UserId};
use crate::module::CompiledModule;
use crate::reach::Reach;
use crate::record::{Comparison, Count, Field, Filter, Query};
use crate::value::Value;

pub(crate) use duplicates::ignores_case;
pub(crate) use order::{Part, Stretch};
pub(crate) use search::{BEHIND, Probe, SearchPath, few};
pub(crate) use search_sample::Sample;
pub(crate) use search_step::Learned;

use custom::{selected, within};
use trash::Shelf;

/// Counting stops here.
pub(crate) const COUNT_CAP: u32 = 10_000;

/// The statements of one module, their constant texts built once.
#[derive(Debug, Clone)]
pub(crate) struct Statements {
    module: Arc<CompiledModule>,
    dialect: Dialect,
    shelf: Shelf,
    columns: Arc<[ColumnType]>,
    get: Arc<str>,
    get_for_update: Arc<str>,
    insert: Arc<str>,
    delete: Arc<str>,
}

const SYSTEM: &[ColumnType] = &[
    ColumnType::Uuid,
    ColumnType::Int,
    ColumnType::Uuid,
    ColumnType::Instant,
    ColumnType::Instant,
];

impl Statements {
    pub(crate) fn new(module: &Arc<CompiledModule>, dialect: Dialect) -> Self {
        Self::on(module, dialect, Shelf::Live)
    }

    fn on(module: &Arc<CompiledModule>, dialect: Dialect, shelf: Shelf) -> Self {
        let mut get = select(module, dialect);
        get.push(" WHERE ");
        within(&mut get, module);
        get.push("tenant_id = $1 AND id = $2")
            .push(shelf.condition(module));
        let mut get_for_update = get.clone();
        if dialect == Dialect::Postgres {
            get_for_update.push(" FOR UPDATE");
        }
        let mut delete = Sql::new("DELETE FROM ");
        delete.ident(module.table()).push(" WHERE ");
        within(&mut delete, module);
        delete.push("tenant_id = $1 AND id = $2");
        Self {
            module: module.clone(),
            dialect,
            shelf,
            columns: selected(module),
            get: get.into_text(),
            get_for_update: get_for_update.into_text(),
            insert: insert(module).into_text(),
            delete: delete.into_text(),
        }
    }

    pub(super) fn module(&self) -> &CompiledModule {
        &self.module
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(crate) fn get(&self, tenant: TenantId, id: RecordId) -> Sql {
        self.by_id(&self.get, tenant, id).point_read()
    }

    /// The record, locked until the transaction ends.
    pub(crate) fn get_for_update(&self, tenant: TenantId, id: RecordId) -> Sql {
        self.by_id(&self.get_for_update, tenant, id)
    }

    fn by_id(&self, text: &Arc<str>, tenant: TenantId, id: RecordId) -> Sql {
        Sql::shared(text)
            .bind(tenant, ColumnType::Uuid)
            .bind(id, ColumnType::Uuid)
            .returns_shared(&self.columns)
    }

    /// A new row at version 1.
    pub(crate) fn insert(
        &self,
        tenant: TenantId,
        id: RecordId,
        owner: Option<UserId>,
        now: DateTime<Utc>,
        values: Vec<Value>,
    ) -> Sql {
        let (values, custom) = self.packed(values);
        let mut sql = Sql::shared(&self.insert)
            .bind(tenant, ColumnType::Uuid)
            .bind(id, ColumnType::Uuid)
            .bind(1_i64, ColumnType::Int)
            .bind(owner, ColumnType::Uuid)
            .bind(now, ColumnType::Instant)
            .bind(now, ColumnType::Instant);
        for (position, value) in values.into_iter().enumerate() {
            if !self.is_linked(position) {
                sql = sql.bind(value, self.module.columns()[position]);
            }
        }
        if let Some(custom) = custom {
            sql = sql.bind(custom, ColumnType::Json);
        }
        if self.module.is_tenants() {
            sql = sql.bind(self.module.name().as_str(), ColumnType::Text);
        }
        sql
    }

    /// New values for a locked row, which gets the next version.
    pub(crate) fn update(
        &self,
        tenant: TenantId,
        id: RecordId,
        owner: Option<Option<UserId>>,
        now: DateTime<Utc>,
        changes: &[(usize, Value)],
    ) -> Sql {
        let mut sql = self.assignments(owner, now, changes);
        sql.push(" WHERE ");
        within(&mut sql, &self.module);
        sql.push("tenant_id = ").arg(tenant, ColumnType::Uuid);
        sql.push(" AND id = ").arg(id, ColumnType::Uuid);
        sql
    }

    /// An update as far as its WHERE.
    fn assignments(
        &self,
        owner: Option<Option<UserId>>,
        now: DateTime<Utc>,
        changes: &[(usize, Value)],
    ) -> Sql {
        let mut sql = Sql::new("UPDATE ");
        sql.ident(self.module.table())
            .push(" SET version = version + 1, updated_at = ");
        sql.arg(now, ColumnType::Instant);
        if let Some(owner) = owner {
            sql.push(", owner_id = ").arg(owner, ColumnType::Uuid);
        }
        let (changes, custom) = changes.split_at(self.declared(changes));
        self.repack(&mut sql, custom);
        for (position, value) in changes {
            if self.is_linked(*position) {
                continue;
            }
            let field = &self.module.fields()[*position];
            sql.push(", ").ident(&field.name).push(" = ");
            sql.arg(value.clone(), self.module.columns()[*position]);
        }
        sql
    }

    pub(crate) fn delete(&self, tenant: TenantId, id: RecordId) -> Sql {
        Sql::shared(&self.delete)
            .bind(tenant, ColumnType::Uuid)
            .bind(id, ColumnType::Uuid)
    }

    /// How many records match: all of them, or up to one more than the cap.
    pub(crate) fn count(
        &self,
        tenant: TenantId,
        reach: &Reach,
        query: &Query,
        path: SearchPath,
    ) -> Sql {
        let mut sql = self.counted(tenant, reach, query, path);
        if query.count != Count::Exact {
            sql.push(" LIMIT ").number(u64::from(COUNT_CAP) + 1);
        }
        sql.push(") AS matches");
        sql.returns(&[ColumnType::Int])
    }

    /// A count of the records that match, as far as their WHERE.
    fn counted(&self, tenant: TenantId, reach: &Reach, query: &Query, path: SearchPath) -> Sql {
        let mut sql = Sql::new("SELECT count(*) FROM (SELECT 1 AS one FROM ");
        sql.ident(self.module.table());
        let search = query.search.as_deref().map(|text| (text, path));
        self.conditions(&mut sql, tenant, reach, query.filter.as_ref(), search);
        sql
    }

    /// All records that match, in no order.
    pub(crate) fn matching(&self, tenant: TenantId, reach: &Reach, filter: &Filter) -> Sql {
        let mut sql = self.select();
        self.conditions(&mut sql, tenant, reach, Some(filter), None);
        sql.returns_shared(&self.columns)
    }

    /// The one WHERE of all statements on many rows; it begins with the tenant, always.
    fn conditions(
        &self,
        sql: &mut Sql,
        tenant: TenantId,
        reach: &Reach,
        filter: Option<&Filter>,
        search: Option<(&str, SearchPath)>,
    ) {
        sql.push(" WHERE ");
        within(sql, &self.module);
        sql.push("tenant_id = ")
            .arg(tenant, ColumnType::Uuid)
            .push(self.shelf.condition(&self.module));
        if !reach.is_all() {
            sql.push(" AND ");
            self.reached(sql, tenant, reach);
        }
        if let Some(filter) = filter {
            sql.push(" AND ");
            self.filter(sql, filter);
        }
        if let Some((text, path)) = search {
            self.found(sql, tenant, text, path);
        }
    }

    fn filter(&self, sql: &mut Sql, filter: &Filter) {
        match filter {
            Filter::And(parts) => self.join(sql, parts, " AND ", "1 = 1"),
            Filter::Or(parts) => self.join(sql, parts, " OR ", "1 = 0"),
            Filter::Not(part) => {
                sql.push("((");
                self.filter(sql, part);
                // Two-valued: what is unknown to SQL is false here, its negation true.
                sql.push(") IS NOT TRUE)");
            }
            Filter::Compare(field, comparison) => self.compare(sql, *field, comparison),
            Filter::Through(through) => self.through(sql, through),
        }
    }

    fn join(&self, sql: &mut Sql, parts: &[Filter], word: &'static str, empty: &'static str) {
        if parts.is_empty() {
            sql.push(empty);
            return;
        }
        sql.push("(");
        for (count, part) in parts.iter().enumerate() {
            if count > 0 {
                sql.push(word);
            }
            self.filter(sql, part);
        }
        sql.push(")");
    }

    fn compare(&self, sql: &mut Sql, field: Field, comparison: &Comparison) {
        if field == Field::CreatedAt && created(sql, comparison) {
            return;
        }
        if let Field::Declared(position) = field
            && (self.is_linked(position) && self.linked(sql, position, comparison)
                || self.subject(sql, position, comparison))
        {
            return;
        }
        let mut binary = |operator: &'static str, operand: &Value| {
            self.folded(sql, field);
            sql.push(operator);
            self.operand(sql, field, operand);
        };
        match comparison {
            Comparison::Clock(relation, moment) => {
                let told = moment.compared(*relation, self.module.clock().now());
                self.compare(sql, field, &told);
            }
            Comparison::Eq(operand) => binary(" = ", operand),
            Comparison::Lt(operand) => binary(" < ", operand),
            Comparison::Lte(operand) => binary(" <= ", operand),
            Comparison::Gt(operand) => binary(" > ", operand),
            Comparison::Gte(operand) => binary(" >= ", operand),
            Comparison::In(operands) => {
                self.folded(sql, field);
                sql.push(" IN (");
                for (count, operand) in operands.iter().enumerate() {
                    if count > 0 {
                        sql.push(", ");
                    }
                    self.operand(sql, field, operand);
                }
                sql.push(if operands.is_empty() { "NULL)" } else { ")" });
            }
            Comparison::Contains(part) => self.holds(sql, field, containing(part)),
            Comparison::Starts(part) => self.holds(sql, field, format!("{}%", escaped(part))),
            Comparison::IsNull => {
                self.column(sql, field);
                sql.push(" IS NULL");
            }
            Comparison::Has(tag) => self.has(sql, field, " @> ", std::slice::from_ref(tag)),
            Comparison::HasAny(tags) => self.has(sql, field, " && ", tags),
            Comparison::HasAll(tags) => match self.dialect {
                Dialect::Sqlite => {
                    sql.push("(");
                    self.column(sql, field);
                    sql.push(" IS NOT NULL");
                    for tag in tags {
                        sql.push(" AND ");
                        self.has(sql, field, "", std::slice::from_ref(tag));
                    }
                    sql.push(")");
                }
                Dialect::Postgres => self.has(sql, field, " @> ", tags),
            },
        }
    }

    /// The tags compare so with these; on SQLite: they hold one of these.
    fn has(&self, sql: &mut Sql, field: Field, operator: &'static str, tags: &[String]) {
        match self.dialect {
            Dialect::Sqlite => {
                sql.push("(");
                for (count, tag) in tags.iter().enumerate() {
                    sql.push(if count > 0 { " OR " } else { "" });
                    self.has_one(sql, field, tag);
                }
                sql.push(if tags.is_empty() { "1 = 0)" } else { ")" });
            }
            Dialect::Postgres => {
                self.column(sql, field);
                sql.push(operator).arg(tags.to_vec(), ColumnType::Tags);
            }
        }
    }

    /// On SQLite: the tags hold this one, read from their text, which `json_each` would take apart
    /// at three times the cost.
    ///
    /// The text of a declared field is a JSON array of texts without white space, as only this
    /// library writes it, and a quote inside a tag has a backslash before it. So a quote behind `[`
    /// or `,` opens a tag, or closes one that ends so; the latter is followed by `,"` or `]`, which
    /// the tag looked for would have to begin with, and cannot unless it is a comma alone.
    fn has_one(&self, sql: &mut Sql, field: Field, tag: &str) {
        let custom = matches!(field, Field::Declared(at) if self.module.is_custom(at));
        if tag == "," || custom {
            sql.push("EXISTS (SELECT 1 FROM json_each(");
            self.column(sql, field);
            sql.push(") WHERE value = ").arg(tag, ColumnType::Text);
            sql.push(")");
            return;
        }
        let quoted = serde_json::Value::from(tag).to_string();
        for (before, opening) in [("(instr(", "["), (" OR instr(", ",")] {
            sql.push(before);
            self.column(sql, field);
            sql.push(", ")
                .arg(format!("{opening}{quoted}"), ColumnType::Text)
                .push(") > 0");
        }
        sql.push(")");
    }

    /// The field's text, or one of its tags, is like `pattern`, whatever the case.
    fn holds(&self, sql: &mut Sql, field: Field, pattern: String) {
        let tags = self.column_type(field) == ColumnType::Tags;
        match (self.dialect, tags) {
            (_, false) => self.column(sql, field),
            (Dialect::Sqlite, true) => {
                sql.push("EXISTS (SELECT 1 FROM json_each(");
                self.column(sql, field);
                sql.push(") WHERE value");
            }
            (Dialect::Postgres, true) => {
                sql.push("EXISTS (SELECT 1 FROM unnest(");
                self.column(sql, field);
                sql.push(") AS tag WHERE tag");
            }
        }
        sql.push(match self.dialect {
            Dialect::Sqlite => " LIKE ",
            Dialect::Postgres => " ILIKE ",
        });
        sql.arg(pattern, ColumnType::Text).push(r" ESCAPE '\'");
        if tags {
            sql.push(")");
        }
    }

    fn column(&self, sql: &mut Sql, field: Field) {
        match field {
            Field::Id => sql.push("id"),
            Field::OwnerId => sql.push("owner_id"),
            Field::CreatedAt => sql.push("created_at"),
            Field::UpdatedAt => sql.push("updated_at"),
            Field::Declared(position) => match self.module.number(position) {
                None => sql.ident(&self.module.fields()[position].name),
                Some(number) => sql.custom(self.dialect, self.module.columns()[position], number),
            },
        };
    }

    /// The column as it compares: some without case.
    fn folded(&self, sql: &mut Sql, field: Field) {
        if self.folds(field) {
            sql.push("lower(");
            self.column(sql, field);
            sql.push(")");
        } else {
            self.column(sql, field);
        }
    }

    fn operand(&self, sql: &mut Sql, field: Field, operand: &Value) {
        let operand = match operand.as_text() {
            Some(text) if self.folds(field) => Value::Text(text.to_ascii_lowercase()),
            _ => operand.clone(),
        };
        sql.arg(operand, self.column_type(field));
    }

    fn folds(&self, field: Field) -> bool {
        field.folds(&self.module)
    }

    fn column_type(&self, field: Field) -> ColumnType {
        match field {
            Field::Id | Field::OwnerId => ColumnType::Uuid,
            Field::CreatedAt | Field::UpdatedAt => ColumnType::Instant,
            Field::Declared(position) => self.module.columns()[position],
        }
    }
}

/// A comparison of the creation time as one of ids, which hold it in milliseconds and have an
/// index. False for comparisons that are none with an instant.
fn created(sql: &mut Sql, comparison: &Comparison) -> bool {
    let from_same = |at: &DateTime<Utc>| {
        let fraction = at.trunc_subsecs(3) != *at;
        first_id(at.timestamp_millis() + i64::from(fraction))
    };
    let from_next = |at: &DateTime<Utc>| first_id(at.timestamp_millis() + 1);
    let (from, to) = match comparison {
        Comparison::Eq(Value::Instant(at)) => (Some(from_same(at)), Some(from_next(at))),
        Comparison::Gte(Value::Instant(at)) => (Some(from_same(at)), None),
        Comparison::Gt(Value::Instant(at)) => (Some(from_next(at)), None),
        Comparison::Lt(Value::Instant(at)) => (None, Some(from_same(at))),
        Comparison::Lte(Value::Instant(at)) => (None, Some(from_next(at))),
        _ => return false,
    };
    sql.push("(");
    if let Some(id) = from {
        sql.push("id >= ").arg(id, ColumnType::Uuid);
    }
    if from.is_some() && to.is_some() {
        sql.push(" AND ");
    }
    if let Some(id) = to {
        sql.push("id < ").arg(id, ColumnType::Uuid);
    }
    sql.push(")");
    true
}

/// The smallest UUID of version 7 or less that could be made in this millisecond since 1970
/// (RFC 9562 §5.7: the first 48 bits).
fn first_id(millis: i64) -> uuid::Uuid {
    let millis = millis.clamp(0, (1 << 48) - 1);
    uuid::Uuid::from_u128(u128::from(millis.unsigned_abs()) << 80)
}

fn select(module: &CompiledModule, dialect: Dialect) -> Sql {
    let mut sql = Sql::new("");
    push_select(&mut sql, module, dialect);
    sql
}

fn push_select(sql: &mut Sql, module: &CompiledModule, dialect: Dialect) {
    sql.push("SELECT id, version, owner_id, created_at, updated_at");
    if module.spec().soft_delete {
        sql.push(", deleted_at");
    }
    for field in module.declared_fields() {
        sql.push(", ");
        match field.kind.is_linked() {
            true => link::select(sql, module, field, dialect),
            false => {
                sql.ident(&field.name);
            }
        }
    }
    if module.has_custom() {
        sql.push(", custom");
    }
    sql.push(" FROM ").ident(module.table());
}

fn insert(module: &CompiledModule) -> Sql {
    let mut sql = Sql::new("INSERT INTO ");
    sql.ident(module.table())
        .push(" (tenant_id, id, version, owner_id, created_at, updated_at");
    let mut columns = if module.is_tenants() {
        2
    } else {
        usize::from(module.has_custom())
    };
    for field in module.declared_fields() {
        if !field.kind.is_linked() {
            columns += 1;
            sql.push(", ").ident(&field.name);
        }
    }
    if module.has_custom() {
        sql.push(", custom");
    }
    sql.push(if module.is_tenants() { ", module" } else { "" });
    sql.push(") VALUES ($1, $2, $3, $4, $5, $6");
    for number in 0..columns {
        sql.push(", $").number(number as u64 + 7);
    }
    sql.push(")");
    sql
}

/// A LIKE pattern for text that holds `part`.
fn containing(part: &str) -> String {
    format!("%{}%", escaped(part))
}

/// `%`, `_` and the escape itself stand for themselves (XC-21).
fn escaped(part: &str) -> String {
    let mut text = String::with_capacity(part.len() + 2);
    for character in part.chars() {
        if matches!(character, '%' | '_' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text
}
