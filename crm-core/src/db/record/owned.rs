//! A page of what some owners have, in the order of ids: merged from what each of them owns, so that
//! nobody else's rows are passed over, however many there are.

use super::{Statements, push_select};
use crate::db::{Dialect, Sql};
use crate::id::{TenantId, UserId};
use crate::reach::Reach;
use crate::record::Direction;

/// Most owners whose rows are merged as they are; of more the ids are, on SQLite.
const FEW: usize = 4;

/// The page that begins behind a record, of so many records.
pub(super) struct Owned<'s> {
    statements: &'s Statements,
    tenant: TenantId,
    way: Direction,
    after: Option<uuid::Uuid>,
    limit: u32,
}

impl<'s> Owned<'s> {
    pub(super) fn new(
        statements: &'s Statements,
        tenant: TenantId,
        (way, after): (Direction, Option<uuid::Uuid>),
        limit: u32,
    ) -> Self {
        Self {
            statements,
            tenant,
            way,
            after,
            limit,
        }
    }

    /// The page of these owners; `None` where the database does better by itself.
    pub(super) fn of(&self, owners: &[UserId]) -> Option<Sql> {
        match (owners.len(), self.statements.dialect) {
            (..=FEW, _) => Some(self.merged(owners)),
            (_, Dialect::Sqlite) => Some(self.looked_up(owners)),
            // Its planner knows how many rows owners have.
            (_, Dialect::Postgres) => None,
        }
    }

    fn merged(&self, owners: &[UserId]) -> Sql {
        // What is ordered already PostgreSQL merges; SQLite orders the parts itself.
        let ordered = self.statements.dialect == Dialect::Postgres && owners.len() > 1;
        let mut sql = Sql::new("");
        for (count, owner) in owners.iter().enumerate() {
            sql.push(if count > 0 { " UNION ALL " } else { "" });
            sql.push(if ordered { "(" } else { "" });
            push_select(&mut sql, &self.statements.module, self.statements.dialect);
            self.of_one(&mut sql, *owner);
            if ordered {
                self.first(&mut sql);
                sql.push(")");
            }
        }
        self.first(&mut sql);
        sql
    }

    /// As [`merged`](Self::merged), but ids are, and their rows looked up.
    fn looked_up(&self, owners: &[UserId]) -> Sql {
        let mut sql = self.statements.select();
        self.statements
            .conditions(&mut sql, self.tenant, &Reach::All, None, None);
        for (count, owner) in owners.iter().enumerate() {
            sql.push(match count {
                0 => " AND id IN (SELECT id FROM (SELECT id FROM ",
                _ => " UNION ALL SELECT id FROM ",
            })
            .ident(self.statements.module.table());
            self.of_one(&mut sql, *owner);
        }
        self.first(&mut sql);
        sql.push(") AS owned)");
        self.statements.ordered(&mut sql, &[], Some(self.way));
        sql
    }

    /// The conditions of what one owner has behind the record.
    fn of_one(&self, sql: &mut Sql, owner: UserId) {
        self.statements
            .conditions(sql, self.tenant, &Reach::Own(owner), None, None);
        if let Some(id) = self.after {
            sql.push(" AND ");
            self.statements
                .behind_row(sql, &[], &[], Some((self.way, id)));
        }
    }

    /// The first ones by id.
    fn first(&self, sql: &mut Sql) {
        self.statements.ordered(sql, &[], Some(self.way));
        sql.push(" LIMIT ").number(u64::from(self.limit));
    }
}
