//! What people gain and lose by a change of who holds which roles: nobody hands on what they do not
//! hold, nor takes it from others.
//!
//! The change is written first and judged then, inside its transaction: what the same people hold
//! before and after it is compared at every instant at which an assignment ends.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::{DateTime, Utc};

use super::compile::CompiledPolicy;
use super::rank::{check_within, is_oneself};
use super::stored::{check_held, rules};
use crate::db::{ColumnType, Sql, Tx};
use crate::error::Result;
use crate::id::{RoleId, TenantId, UserId};
use crate::scope::Scope;

/// People that one statement asks about.
const CHUNK: usize = 1_000;

/// A role, and the instant at which it ends.
type Held = (RoleId, Option<DateTime<Utc>>);

/// The roles of some people, direct ones and those of groups.
#[derive(Debug, Default)]
pub(crate) struct Holdings(BTreeMap<UserId, Vec<Held>>);

impl Holdings {
    /// Reads what these users hold.
    pub(crate) async fn read(
        tx: &mut Tx<'_>,
        tenant: TenantId,
        users: &BTreeSet<UserId>,
    ) -> Result<Self> {
        let mut holdings = Self::default();
        let users: Vec<UserId> = users.iter().copied().collect();
        for users in users.chunks(CHUNK) {
            for mut row in tx.fetch_all(held(tenant, users)).await? {
                let (user, role) = (row.uuid()?, row.uuid()?);
                let until = row.opt_instant()?;
                holdings.0.entry(user).or_default().push((role, until));
            }
        }
        Ok(holdings)
    }

    pub(super) fn at(&self, user: UserId, instant: Option<DateTime<Utc>>) -> Vec<RoleId> {
        let held = self.0.get(&user).map(Vec::as_slice).unwrap_or_default();
        let holds = |until: &Option<DateTime<Utc>>| match (until, instant) {
            (None, _) => true,
            (Some(until), Some(instant)) => *until > instant,
            (Some(_), None) => false,
        };
        let held = held.iter().filter(|(_, until)| holds(until));
        let mut roles: Vec<_> = held.map(|(role, _)| *role).collect();
        roles.sort_unstable();
        roles.dedup();
        roles
    }

    /// The instants at which the user may hold something else: now, each end, and after all of
    /// them.
    fn instants(
        &self,
        other: &Self,
        user: UserId,
        now: DateTime<Utc>,
    ) -> BTreeSet<Option<DateTime<Utc>>> {
        let held = [self.0.get(&user), other.0.get(&user)];
        let all = held.into_iter().flatten().flatten();
        let ends = all.filter_map(|(_, until)| *until);
        let ends = ends.filter(|until| *until > now).map(Some);
        ends.chain([Some(now), None]).collect()
    }
}

/// Whether a change is about groups as such: about who shares one, or what they are in charge of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// It only moves roles.
    Unchanged,
    /// It changes whose rows the users reach as a team or over parents.
    Changed,
}

/// Refuses a change that gives any of these users rights which the actor does not hold for good, or
/// takes from others rights which the actor does not hold. Rows that others reach no more are not
/// judged.
///
/// # Errors
/// [`Error::Refused`](crate::Error::Refused) `forbidden` and `beyond_your_rights`, naming the
/// permissions that the actor lacks.
pub(crate) async fn check_gained(
    tx: &mut Tx<'_>,
    scope: &Scope,
    users: &BTreeSet<UserId>,
    before: &Holdings,
    sharing: Sharing,
) -> Result<()> {
    let tenant = scope.tenant();
    let after = Holdings::read(tx, tenant, users).await?;
    let compiled = CompiledPolicy::new(scope.catalogue(), &rules(tx, tenant).await?);
    let now = scope.clock().now();
    let mut seen = HashSet::new();
    for user in users {
        for instant in before.instants(&after, *user, now) {
            let change = (before.at(*user, instant), after.at(*user, instant));
            if !seen.insert(change.clone()) {
                continue;
            }
            let (old, new) = (compiled.grants(&change.0), compiled.grants(&change.1));
            check_held(scope, &new.beyond(&old))?;
            if !is_oneself(scope, *user) {
                check_within(scope, &old.beyond(&new))?;
            }
            if sharing == Sharing::Changed {
                check_held(scope, &new.beyond_groups().beyond(&new))?;
            }
        }
    }
    Ok(())
}

fn held(tenant: TenantId, users: &[UserId]) -> Sql {
    let mut sql = Sql::new("SELECT user_id, role_id, until FROM role_assignments WHERE ");
    among(&mut sql, "", tenant, users);
    sql.push(
        " UNION ALL SELECT g.user_id, r.role_id, g.until FROM user_group_members g \
         JOIN user_group_roles r ON r.tenant_id = g.tenant_id AND r.group_id = g.group_id WHERE ",
    );
    among(&mut sql, "g.", tenant, users);
    sql.returns(&[ColumnType::Uuid, ColumnType::Uuid, ColumnType::Instant])
}

fn among(sql: &mut Sql, table: &'static str, tenant: TenantId, users: &[UserId]) {
    sql.push(table).push("tenant_id = ");
    sql.arg(tenant, ColumnType::Uuid);
    sql.push(" AND ").push(table).push("user_id IN (");
    for (count, user) in users.iter().enumerate() {
        sql.push(if count > 0 { ", " } else { "" });
        sql.arg(*user, ColumnType::Uuid);
    }
    sql.push(if users.is_empty() { "NULL)" } else { ")" });
}
