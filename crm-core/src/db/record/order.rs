//! Lists in order, page by page.
//!
//! A page begins behind the last record of the one before by comparing keys, never by counting
//! rows. Where all keys run one way and none can be absent, that is one comparison of row values,
//! which an index over the keys answers by itself; otherwise the comparison is spelt out key by key
//! behind a bound on the first one, so that the first key's index is still entered at the right
//! place. Records without the first key come last and are a list of their own.

use super::{SearchPath, Statements, select};
use crate::db::{ColumnType, Sql};
use crate::id::{TenantId, UserId};
use crate::record::{Direction, Field, Order, Position, Query, Sort};
use crate::value::Value;

/// Which part of an ordered list: values of the first key come first, then records without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Present,
    Absent,
}

/// A sort key as it stands within one part of a list.
#[derive(Clone, Copy)]
struct Key {
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

    /// The records of one part of the list, behind `after` when it stands in this part.
    pub(crate) fn list(
        &self,
        tenant: TenantId,
        owner: Option<UserId>,
        query: &Query,
        path: SearchPath,
        part: Part,
        after: Option<&Position>,
        limit: u32,
    ) -> Sql {
        let order = query.order();
        let mut sql = select(&self.module);
        self.conditions(
            &mut sql,
            tenant,
            owner,
            query.filter.as_ref(),
            query.search.as_deref().map(|text| (text, path)),
        );
        if let Some(first) = order.keys.first()
            && self.nullable(first.field)
        {
            sql.push(" AND ");
            match part {
                Part::Present => {
                    self.folded(&mut sql, first.field);
                    sql.push(" IS NOT NULL");
                }
                Part::Absent => {
                    self.column(&mut sql, first.field);
                    sql.push(" IS NULL");
                }
            }
        }
        let skipped = usize::from(part == Part::Absent);
        let mut keys: Vec<Key> = order.keys.iter().map(|sort| self.key(sort)).collect();
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
        sql.push(" ORDER BY ");
        for (count, key) in keys.iter().enumerate() {
            sql.push(if count > 0 { ", " } else { "" });
            self.folded(&mut sql, key.field);
            sql.push(direction(key.direction));
            if key.nullable {
                sql.push(" NULLS LAST");
            }
        }
        if let Some(ids) = ids {
            sql.push(if keys.is_empty() { "id" } else { ", id" })
                .push(direction(ids));
        }
        sql.push(" LIMIT ").number(u64::from(limit));
        sql.returns_shared(&self.columns)
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
    fn behind_row(
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

    fn key(&self, sort: &Sort) -> Key {
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
            Field::Declared(position) => !self.module.fields()[position].required,
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
