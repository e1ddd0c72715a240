//! Lists in order, page by page.
//!
//! A page begins behind the last record of the one before by comparing keys, never by counting
//! rows. Where all keys run one way and none can be absent, that is one comparison of row values,
//! which an index over the keys answers by itself; otherwise the comparison is spelt out key by key
//! behind a bound on the first one, so that the first key's index is still entered at the right
//! place. Records without the first key come last and are a list of their own.

use super::owned::Owned;
use super::{SearchPath, Statements};
use crate::db::{ColumnType, Sql};
use crate::id::TenantId;
use crate::reach::Reach;
use crate::record::{Direction, Field, Order, Position, Query, Sort};
use crate::value::Value;

/// Which part of an ordered list: values of the first key come first, then records without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Present,
    Absent,
}

/// Which records of a list one statement reads, and which way a search takes to them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch<'q> {
    pub(crate) path: SearchPath,
    pub(crate) part: Part,
    /// The record before the first one, when it stands in this part.
    pub(crate) after: Option<&'q Position>,
    /// Records passed over first.
    pub(crate) skip: u32,
    pub(crate) limit: u32,
}

/// A sort key as it stands within one part of a list.
#[derive(Clone, Copy)]
pub(super) struct Key {
    field: Field,
    direction: Direction,
    nullable: bool,
}

impl Statements {
    /// Whether lists of this order have a part without the first key.
    pub(crate) fn has_absent(&self, order: &Order<'_>) -> bool {
        order
            .keys
            .first()
            .is_some_and(|key| self.nullable(key.field))
    }

    /// One stretch of the list.
    pub(crate) fn list(
        &self,
        tenant: TenantId,
        reach: &Reach,
        query: &Query,
        stretch: Stretch<'_>,
    ) -> Sql {
        let Stretch {
            path,
            part,
            after,
            skip,
            limit,
        } = stretch;
        let order = query.order();
        let plain = order.keys.is_empty() && query.filter.is_none() && query.search.is_none();
        if let Some(owners) = reach.owners().filter(|_| plain && skip == 0) {
            let after = after.map(|position| position.id);
            let page = Owned::new(self, tenant, (order.ids, after), limit);
            if let Some(sql) = page.of(owners) {
                return sql.returns_shared(&self.columns);
            }
        }
        let mut sql = self.select();
        self.conditions(
            &mut sql,
            tenant,
            reach,
            query.filter.as_ref(),
            query.search.as_deref().map(|text| (text, path)),
        );
        if let Some(first) = order.keys.first() {
            self.in_part(&mut sql, first.field, part);
        }
        let skipped = usize::from(part == Part::Absent);
        let mut keys: Vec<Key> = order.keys.iter().map(|sort| self.sort_key(sort)).collect();
        if part == Part::Present
            && let Some(first) = keys.first_mut()
        {
            first.nullable = false;
        }
        let mut keys = keys.get(skipped..).unwrap_or_default();
        // A unique key leaves no ties to break, and its index has no id.
        let unique =
            part == Part::Present && keys.first().is_some_and(|first| self.unique(first.field));
        if unique {
            keys = &keys[..1];
        }
        let ids = (!unique).then_some(order.ids);
        if let Some(position) = after {
            let values = position.keys.get(skipped..).unwrap_or_default();
            sql.push(" AND ");
            self.behind(&mut sql, keys, values, ids.map(|ids| (ids, position.id)));
        }
        self.ordered(&mut sql, keys, ids);
        sql.push(" LIMIT ").number(u64::from(limit));
        if skip > 0 {
            sql.push(" OFFSET ").number(u64::from(skip));
        }
        sql.returns_shared(&self.columns)
    }

    /// The condition of a part, if the first key can be absent at all.
    fn in_part(&self, sql: &mut Sql, first: Field, part: Part) {
        if !self.nullable(first) {
            return;
        }
        sql.push(" AND ");
        match part {
            Part::Present => {
                self.folded(sql, first);
                sql.push(" IS NOT NULL");
            }
            Part::Absent => {
                self.column(sql, first);
                sql.push(" IS NULL");
            }
        }
    }

    pub(super) fn ordered(&self, sql: &mut Sql, keys: &[Key], ids: Option<Direction>) {
        sql.push(" ORDER BY ");
        for (count, key) in keys.iter().enumerate() {
            sql.push(if count > 0 { ", " } else { "" });
            self.folded(sql, key.field);
            sql.push(direction(key.direction));
            if key.nullable {
                sql.push(" NULLS LAST");
            }
        }
        if let Some(ids) = ids {
            sql.push(if keys.is_empty() { "id" } else { ", id" })
                .push(direction(ids));
        }
    }

    /// How many records of a list have its first key, up to those that numbered pages reach.
    pub(crate) fn count_present(
        &self,
        tenant: TenantId,
        reach: &Reach,
        query: &Query,
        path: SearchPath,
    ) -> Sql {
        let mut sql = self.counted(tenant, reach, query, path);
        if let Some(first) = query.order().keys.first() {
            sql.push(" AND ");
            self.folded(&mut sql, first.field);
            sql.push(" IS NOT NULL");
        }
        sql.push(" LIMIT ").number(u64::from(Query::MAX_DEPTH));
        sql.push(") AS present");
        sql.returns(&[ColumnType::Int])
    }

    /// The condition that a record stands behind the one with these keys and this id.
    fn behind(
        &self,
        sql: &mut Sql,
        keys: &[Key],
        values: &[Value],
        id: Option<(Direction, uuid::Uuid)>,
    ) {
        let one_way = keys.iter().all(|key| {
            !key.nullable
                && key.direction == id.map_or(keys[0].direction, |(direction, _)| direction)
        });
        if one_way {
            return self.behind_row(sql, keys, values, id);
        }
        let (Some((key, keys)), Some((value, values))) = (keys.split_first(), values.split_first())
        else {
            return;
        };
        let last = keys.is_empty() && id.is_none();
        let compare = |sql: &mut Sql, operator: &'static str| {
            self.folded(sql, key.field);
            sql.push(operator);
            self.operand(sql, key.field, value);
        };
        sql.push("(");
        if value.is_null() {
            self.column(sql, key.field);
            sql.push(" IS NULL");
            if !last {
                sql.push(" AND ");
                self.behind(sql, keys, values, id);
            }
        } else if key.nullable {
            self.column(sql, key.field);
            sql.push(" IS NULL OR ");
            compare(sql, beyond(key.direction));
            if !last {
                sql.push(" OR (");
                compare(sql, " = ");
                sql.push(" AND ");
                self.behind(sql, keys, values, id);
                sql.push(")");
            }
        } else {
            // The bound is what an index is entered by.
            compare(sql, beyond_or_at(key.direction));
            sql.push(" AND (");
            compare(sql, beyond(key.direction));
            sql.push(" OR ");
            self.behind(sql, keys, values, id);
            sql.push(")");
        }
        sql.push(")");
    }

    /// [`behind`](Self::behind) by comparing row values.
    pub(super) fn behind_row(
        &self,
        sql: &mut Sql,
        keys: &[Key],
        values: &[Value],
        id: Option<(Direction, uuid::Uuid)>,
    ) {
        let way = match (id, keys.first()) {
            (Some((way, _)), _) => way,
            (None, Some(key)) => key.direction,
            (None, None) => return,
        };
        let several = keys.len() + usize::from(id.is_some()) > 1;
        let (open, close) = if several { ("(", ")") } else { ("", "") };
        sql.push(open);
        for (count, key) in keys.iter().enumerate() {
            sql.push(if count > 0 { ", " } else { "" });
            self.folded(sql, key.field);
        }
        if id.is_some() {
            sql.push(if keys.is_empty() { "id" } else { ", id" });
        }
        sql.push(close).push(beyond(way)).push(open);
        for (count, (key, value)) in keys.iter().zip(values).enumerate() {
            sql.push(if count > 0 { ", " } else { "" });
            self.operand(sql, key.field, value);
        }
        if let Some((_, id)) = id {
            sql.push(if keys.is_empty() { "" } else { ", " })
                .arg(id, ColumnType::Uuid);
        }
        sql.push(close);
    }

    fn sort_key(&self, sort: &Sort) -> Key {
        Key {
            field: sort.field,
            direction: sort.direction,
            nullable: self.nullable(sort.field),
        }
    }

    fn unique(&self, field: Field) -> bool {
        matches!(field, Field::Declared(position) if self.module.fields()[position].unique)
    }

    fn nullable(&self, field: Field) -> bool {
        match field {
            Field::Id | Field::CreatedAt | Field::UpdatedAt => false,
            Field::OwnerId => true,
            Field::Declared(position) => !self.module.is_always_present(position),
        }
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Ascending => " ASC",
        Direction::Descending => " DESC",
    }
}

fn beyond(direction: Direction) -> &'static str {
    match direction {
        Direction::Ascending => " > ",
        Direction::Descending => " < ",
    }
}

fn beyond_or_at(direction: Direction) -> &'static str {
    match direction {
        Direction::Ascending => " >= ",
        Direction::Descending => " <= ",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sqlx::{AssertSqlSafe, Connection, Row as _, SqliteConnection};

    use super::*;
    use crate::db::Dialect;
    use crate::db::ddl::create_table;
    use crate::module::{CompiledModule, ModuleSpec};

    const BOXES: &str = r#"
        name = "boxes"
        singular = "box"
        indexes = [["weight", "room"]]
        fields = [
            { name = "room", type = "text", sort = true, required = true },
            { name = "weight", type = "integer", sort = true, required = true },
            { name = "shelf", type = "integer", sort = true },
        ]
    "#;

    /// How SQLite reads the page behind a record with these keys.
    async fn plan(sort: &str, keys: Vec<Value>) -> String {
        let module = CompiledModule::new(ModuleSpec::from_toml(BOXES).unwrap(), 0).unwrap();
        let module = Arc::new(module);
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let tables = create_table(module.spec(), Dialect::Sqlite);
        for sql in ["CREATE TABLE tenants (id BLOB PRIMARY KEY)".to_owned()]
            .into_iter()
            .chain(tables)
        {
            let run = sqlx::query(AssertSqlSafe(sql)).execute(&mut connection);
            run.await.unwrap();
        }
        let query = Query {
            sort: Sort::parse_list(&module, sort).unwrap(),
            ..Query::default()
        };
        let id = uuid::Uuid::nil();
        let sql = Statements::new(&module, Dialect::Sqlite).list(
            TenantId(id),
            &Reach::All,
            &query,
            Stretch {
                path: SearchPath::Index,
                part: Part::Present,
                after: Some(&Position { keys, id }),
                skip: 0,
                limit: 21,
            },
        );
        let explain = format!("EXPLAIN QUERY PLAN {}", sql.text.as_str());
        let rows = sqlx::query(AssertSqlSafe(explain)).fetch_all(&mut connection);
        let rows = rows.await.unwrap();
        let lines = rows.iter().map(|row| row.get::<String, _>("detail"));
        lines.collect::<Vec<_>>().join("; ")
    }

    fn keys() -> Vec<Value> {
        vec![Value::Int(1), Value::Text("a".to_owned())]
    }

    #[tokio::test]
    async fn required_keys_of_one_direction_page_by_a_declared_index_alone() {
        for sort in ["weight,room", "-weight,-room"] {
            assert_eq!(
                plan(sort, keys()).await,
                "SEARCH boxes USING INDEX boxes.weight.room.index (tenant_id=? AND (weight,room,id)>(?,?,?))"
                    .replace('>', if sort.starts_with('-') { "<" } else { ">" })
            );
        }
    }

    #[tokio::test]
    async fn other_orders_enter_the_index_of_their_first_key_at_the_right_place() {
        for sort in ["weight,-room", "-shelf,room"] {
            let plan = plan(sort, keys()).await;
            let first = sort.trim_start_matches('-').split(',').next().unwrap();
            assert!(plan.contains("SEARCH boxes USING INDEX"), "{sort}: {plan}");
            assert!(plan.contains(&format!("AND {first}")), "{sort}: {plan}");
            assert!(!plan.contains("FOR ORDER BY"), "{sort}: {plan}");
        }
    }
}
