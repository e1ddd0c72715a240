//! What the groups of a user give them: colleagues, and records in the charge of the groups.
//!
//! Kept with the user's rights, under the same epoch, as far as it is little. Statements then name
//! it; what is more they ask the groups about.

use chrono::{DateTime, Utc};

use crate::db::{ColumnType, Db, Sql};
use crate::error::Result;
use crate::id::{RecordId, TenantId, UserId};

/// Most members of a team, and most records in the charge of groups, that are kept with the rights
/// of each user.
const MOST: usize = 16;

/// The module of a record, and its id.
type Charge = (Box<str>, RecordId);

/// The groups of a user, as they stand until the first membership ends.
#[derive(Debug)]
pub(crate) struct Circle {
    /// The user and, behind them, who shares a group with them, where they are few.
    team: Option<Box<[UserId]>>,
    /// The records that a group of theirs is in charge of, where they are few.
    charge: Option<Box<[Charge]>>,
    user: UserId,
}

impl Circle {
    /// The groups of the user now, and when the first of the memberships ends.
    pub(super) async fn read(
        db: &Db,
        tenant: TenantId,
        user: UserId,
        now: DateTime<Utc>,
    ) -> Result<(Self, Option<DateTime<Utc>>)> {
        let mut ends = None::<DateTime<Utc>>;
        let mut team = vec![user];
        for mut row in db.fetch_all(team_of(tenant, user, now)).await? {
            team.push(row.uuid()?);
            let these = [ends, row.opt_instant()?, row.opt_instant()?];
            ends = these.into_iter().flatten().min();
        }
        let mut charge = Vec::new();
        for mut row in db.fetch_all(charge_of(tenant, user, now)).await? {
            charge.push((row.text::<String>()?.into_boxed_str(), row.uuid()?));
            ends = [ends, row.opt_instant()?].into_iter().flatten().min();
        }
        let circle = Self {
            team: (team.len() <= MOST).then(|| team.into()),
            charge: (charge.len() <= MOST).then(|| charge.into()),
            user,
        };
        Ok((circle, ends))
    }

    /// Whose groups these are.
    pub(crate) fn is_of(&self, user: Option<UserId>) -> bool {
        user == Some(self.user)
    }

    /// The user and, behind them, who shares a group with them; `None` where they are many.
    pub(crate) fn team(&self) -> Option<&[UserId]> {
        self.team.as_deref()
    }

    /// The records of a module that a group of the user's is in charge of; `None` where those of
    /// all modules are many.
    pub(crate) fn charge(&self, module: &str) -> Option<impl Iterator<Item = RecordId>> {
        let of_module = move |(name, id): &Charge| (**name == *module).then_some(*id);
        Some(self.charge.as_deref()?.iter().filter_map(of_module))
    }
}

/// Who shares a group with the user, each with the ends of both memberships.
fn team_of(tenant: TenantId, user: UserId, now: DateTime<Utc>) -> Sql {
    let mut sql = Sql::new(
        "SELECT o.user_id, min(m.until), min(o.until) FROM user_group_members m \
         JOIN user_group_members o ON o.tenant_id = m.tenant_id AND o.group_id = m.group_id \
         WHERE m.tenant_id = ",
    );
    sql.arg(tenant, ColumnType::Uuid)
        .push(" AND m.user_id = ")
        .arg(user, ColumnType::Uuid)
        .push(" AND o.user_id <> ")
        .arg(user, ColumnType::Uuid);
    still(&mut sql, "m", now);
    still(&mut sql, "o", now);
    sql.push(" GROUP BY o.user_id ORDER BY o.user_id LIMIT ")
        .number(MOST as u64);
    sql.returns(&[ColumnType::Uuid, ColumnType::Instant, ColumnType::Instant])
}

/// What the user's groups are in charge of, each with the end of the membership; one more than is
/// kept.
fn charge_of(tenant: TenantId, user: UserId, now: DateTime<Utc>) -> Sql {
    let mut sql = Sql::new(
        "SELECT c.module, c.record_id, min(m.until) FROM user_group_records c \
         JOIN user_group_members m ON m.tenant_id = c.tenant_id AND m.group_id = c.group_id \
         WHERE c.tenant_id = ",
    );
    sql.arg(tenant, ColumnType::Uuid)
        .push(" AND m.user_id = ")
        .arg(user, ColumnType::Uuid);
    still(&mut sql, "m", now);
    sql.push(" GROUP BY c.module, c.record_id LIMIT ")
        .number(MOST as u64 + 1);
    sql.returns(&[ColumnType::Text, ColumnType::Uuid, ColumnType::Instant])
}

/// The membership of this alias has not ended.
pub(crate) fn still(sql: &mut Sql, alias: &'static str, now: DateTime<Utc>) {
    for (place, text) in [(" AND (", ".until IS NULL OR "), ("", ".until > ")] {
        sql.push(place).push(alias).push(text);
    }
    sql.arg(now, ColumnType::Instant).push(")");
}
