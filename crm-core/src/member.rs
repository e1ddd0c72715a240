//! The members of a tenant and the roles they hold. Refuses to hand out rights that the actor
//! lacks, to act on members who hold such rights, and to leave a tenant without an admin. Users
//! themselves belong to `identity`.

mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::crm::Core;
use crate::db::Tx;
use crate::error::{Error, FieldError, Result};
use crate::id::{RoleId, TenantId, UserId};
use crate::journal;
use crate::policy::{Holdings, Sharing, check_gained, check_rank};
use crate::role;
use crate::scope::{Delete, Permit, Read, Scope, Update};

pub(crate) use rows::{admins, assign, has_admin};

/// The object of the permissions asked for here, and the entity of the audit rows.
const OBJECT: &str = "members";
/// Most members of one page.
const PAGE_MAX: u32 = 100;
/// Most roles that one member holds.
const ROLES_MAX: usize = 50;

/// A member as answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The user.
    pub user_id: UserId,
    /// Their e-mail address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// Whether they may log in.
    pub active: bool,
    /// Whether it is a person or a program.
    pub kind: MemberKind,
    /// The roles they hold here, the oldest role first.
    pub roles: Vec<HeldRole>,
    /// When they became a member.
    pub joined_at: DateTime<Utc>,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberKind {
    /// Somebody who logs in.
    Person,
    /// A service account, which acts by API keys.
    Service,
}

/// A role that a member holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldRole {
    /// Its id.
    pub id: RoleId,
    /// Its name.
    pub name: String,
    /// The instant from which it is held no more; `None` for a role without an end.
    pub until: Option<DateTime<Utc>>,
}

/// A role to be held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleGrant {
    /// Its name or id.
    pub role: String,
    /// The instant from which it is held no more; `None` for no end.
    pub until: Option<DateTime<Utc>>,
}

impl From<String> for RoleGrant {
    fn from(role: String) -> Self {
        Self { role, until: None }
    }
}

/// A page of members, ordered by user id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberPage {
    /// The members.
    pub data: Vec<Member>,
    /// The user after whom the next page begins; `None` on the last page.
    pub next: Option<UserId>,
}

/// The members of the tenant that a permit is for.
#[derive(Clone)]
pub struct Members {
    core: Arc<Core>,
}

impl Members {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// The members after a user, at most `limit` of them.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit outside 1 to 100.
    pub async fn list(
        &self,
        permit: &Permit<Read>,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<MemberPage> {
        let scope = permit.on(OBJECT)?;
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(Error::invalid(
                "limit",
                "out_of_range",
                "The limit is 1 to 100.",
            ));
        }
        let select = rows::select_page(scope.tenant(), after, limit + 1);
        let mut data = rows::parse(self.core.db.fetch_all(select).await?)?;
        let size = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = data.len() > size;
        data.truncate(size);
        let next = data.last().filter(|_| more).map(|member| member.user_id);
        Ok(MemberPage { data, next })
    }

    /// One member.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the user is no member of the tenant.
    pub async fn get(&self, permit: &Permit<Read>, user: UserId) -> Result<Member> {
        let scope = permit.on(OBJECT)?;
        let found = self
            .core
            .db
            .fetch_all(rows::select(scope.tenant(), user))
            .await?;
        rows::parse(found)?.pop().ok_or(Error::NotFound)
    }

    /// Replaces the roles of a member; each is given by its name or id, and may be held until an
    /// instant only.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] for an unknown role; [`Error::Refused`] `forbidden`,
    /// naming the rights that the member would gain and the actor does not hold, and
    /// `beyond_your_rights` for another member who holds a right that the actor does not;
    /// [`Error::Conflict`] `last_admin` when the tenant would be left without one.
    pub async fn set_roles(
        &self,
        permit: &Permit<Update>,
        user: UserId,
        roles: impl IntoIterator<Item = impl Into<RoleGrant>>,
    ) -> Result<Member> {
        let scope = permit.on(OBJECT)?.clone();
        let roles: Vec<RoleGrant> = roles.into_iter().map(Into::into).collect();
        if roles.len() > ROLES_MAX {
            let message = "A member holds at most 50 roles.";
            return Err(Error::invalid("roles", "too_many", message));
        }
        let now = scope.clock().now();
        let past = |grant: &RoleGrant| grant.until.is_some_and(|until| until <= now);
        if let Some(index) = roles.iter().position(past) {
            return Err(Error::Invalid(vec![FieldError {
                pointer: format!("/roles/{index}/until"),
                code: "in_the_past",
                message: "An assignment ends later than now.".into(),
            }]));
        }
        let write = Write(scope.clone());
        let set = scope.write_policy(move |tx| Box::pin(write.set_roles(tx, user, roles)));
        set.await
    }

    /// Takes a user out of the tenant, with all their sessions there; what they own stays.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Refused`] `beyond_your_rights`, as
    /// [`set_roles`](Self::set_roles); [`Error::Conflict`] `last_admin`.
    pub async fn remove(&self, permit: &Permit<Delete>, user: UserId) -> Result<()> {
        let scope = permit.on(OBJECT)?.clone();
        let write = Write(scope.clone());
        let removed = scope.write_policy(move |tx| Box::pin(write.remove(tx, user)));
        removed.await
    }
}

/// The inside of a transaction that holds the lock on the tenant's policy: nobody else changes
/// roles, assignments or memberships until it ends.
struct Write(Scope);

impl Write {
    async fn set_roles(
        self,
        tx: &mut Tx<'_>,
        user: UserId,
        roles: Vec<RoleGrant>,
    ) -> Result<Member> {
        let (tenant, now) = (self.0.tenant(), self.0.clock().now());
        let old = self.member(tx, user).await?;
        let new = resolve(tx, tenant, &roles).await?;
        let held: Vec<_> = old.roles.iter().map(|role| (role.id, role.until)).collect();
        if new == held {
            return Ok(old);
        }
        check_rank(tx, &self.0, user).await?;
        let users = BTreeSet::from([user]);
        let before = Holdings::read(tx, tenant, &users).await?;
        rows::clear(tx, tenant, user).await?;
        rows::assign_until(tx, tenant, user, &new, now).await?;
        check_gained(tx, &self.0, &users, &before, Sharing::Unchanged).await?;
        self.keep_an_admin(tx, &old).await?;
        let member = self.member(tx, user).await?;
        self.audit(tx, "members.update", &old, Some(&member))
            .await?;
        Ok(member)
    }

    async fn remove(self, tx: &mut Tx<'_>, user: UserId) -> Result<()> {
        let old = self.member(tx, user).await?;
        check_rank(tx, &self.0, user).await?;
        rows::remove(tx, self.0.tenant(), user).await?;
        self.keep_an_admin(tx, &old).await?;
        self.audit(tx, "members.delete", &old, None).await
    }

    async fn member(&self, tx: &mut Tx<'_>, user: UserId) -> Result<Member> {
        let found = tx.fetch_all(rows::select(self.0.tenant(), user)).await?;
        rows::parse(found)?.pop().ok_or(Error::NotFound)
    }

    /// Refuses the change when `before` was the last active admin without an end, and is one no
    /// more.
    async fn keep_an_admin(&self, tx: &mut Tx<'_>, before: &Member) -> Result<()> {
        let admin = role::ADMIN;
        let lasting = |role: &HeldRole| role.name == admin && role.until.is_none();
        let was_admin = before.active && before.roles.iter().any(lasting);
        if was_admin && !rows::has_admin(tx, self.0.tenant()).await? {
            return Err(last_admin());
        }
        Ok(())
    }

    async fn audit(
        &self,
        tx: &mut Tx<'_>,
        action: &str,
        before: &Member,
        after: Option<&Member>,
    ) -> Result<()> {
        let entity = (OBJECT, Some(before.user_id.to_string()));
        let before = serde_json::to_value(before).map_err(Error::internal)?;
        let after = after
            .map(serde_json::to_value)
            .transpose()
            .map_err(Error::internal)?;
        journal::audit(tx, &self.0, action, entity, Some(before), after).await
    }
}

/// Refuses what would leave a tenant without an active admin.
pub(crate) fn last_admin() -> Error {
    Error::conflict(
        "last_admin",
        "this is the tenant's last admin; make somebody else admin first",
    )
}

/// The roles by their ids, the oldest first; one that is named twice is held until the later end.
async fn resolve(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    grants: &[RoleGrant],
) -> Result<Vec<(RoleId, Option<DateTime<Utc>>)>> {
    let names: Vec<String> = grants.iter().map(|grant| grant.role.clone()).collect();
    let ids = role::resolve_each(tx, tenant, "roles", &names).await?;
    let mut roles = BTreeMap::new();
    for (id, grant) in ids.into_iter().zip(grants) {
        let until = roles.entry(id).or_insert(grant.until);
        *until = match (*until, grant.until) {
            (Some(one), Some(other)) => Some(one.max(other)),
            _ => None,
        };
    }
    Ok(roles.into_iter().collect())
}

#[cfg(test)]
mod race;
#[cfg(test)]
mod tests;
