//! Groups of users in a tenant: they hold roles, their members are a team, and they may be in
//! charge of records. Refuses to hand out rights that the actor lacks.

mod draft;
mod rows;

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value as Json;

use crate::crm::Core;
use crate::db::Tx;
use crate::error::{Error, Result};
use crate::id::{GroupId, RecordId, UserId};
use crate::journal;
use crate::member::HeldRole;
use crate::policy::{Holdings, Sharing, check_gained};
use crate::role;
use crate::scope::{Create, Delete, Permit, Read, Scope, Update};
use draft::Draft;

/// The object of the permissions asked for here, and the entity of the audit rows.
const OBJECT: &str = "groups";
/// Most groups of one page.
const PAGE_MAX: u32 = 100;

/// A group as answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// Its name, unique in the tenant.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The roles that its members hold through it, the oldest role first.
    pub roles: Vec<HeldRole>,
    /// Its members, by user id.
    pub members: Vec<GroupMember>,
    /// The records that it is in charge of, by module and id.
    pub records: Vec<GroupRecord>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A member of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct GroupMember {
    /// The user, who is a member of the tenant.
    pub user_id: UserId,
    /// The instant from which they are no more; `None` for one without an end.
    pub until: Option<DateTime<Utc>>,
}

/// A record that a group is in charge of: it, and all that is part of it, is what permissions on
/// rows `:parent` reach for the group's members.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct GroupRecord {
    /// The plural name of its module.
    pub module: String,
    /// The record.
    pub id: RecordId,
}

/// What a new group needs.
#[derive(Debug, Clone, Default)]
pub struct NewGroup {
    /// 1 to 100 characters, unique in the tenant.
    pub name: String,
    /// At most 1,000 characters.
    pub description: String,
    /// Roles by name or id, at most 50.
    pub roles: Vec<String>,
    /// At most 1,000.
    pub members: Vec<GroupMember>,
    /// At most 1,000.
    pub records: Vec<GroupRecord>,
}

/// The changes of a group; `None` leaves a value as it is.
#[derive(Debug, Clone, Default)]
pub struct GroupChange {
    /// 1 to 100 characters, unique in the tenant.
    pub name: Option<String>,
    /// At most 1,000 characters.
    pub description: Option<String>,
    /// The complete new list of roles.
    pub roles: Option<Vec<String>>,
    /// The complete new list of members.
    pub members: Option<Vec<GroupMember>>,
    /// The complete new list of records.
    pub records: Option<Vec<GroupRecord>>,
}

/// A page of groups, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupPage {
    /// The groups.
    pub data: Vec<Group>,
    /// The group after which the next page begins; `None` on the last page.
    pub next: Option<GroupId>,
}

/// The groups of the tenant that a permit is for.
#[derive(Clone)]
pub struct Groups {
    core: Arc<Core>,
}

impl Groups {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// The groups after one, at most `limit` of them.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit outside 1 to 100.
    pub async fn list(
        &self,
        permit: &Permit<Read>,
        after: Option<GroupId>,
        limit: u32,
    ) -> Result<GroupPage> {
        let scope = permit.on(OBJECT)?;
        if !(1..=PAGE_MAX).contains(&limit) {
            let message = "The limit is 1 to 100.";
            return Err(Error::invalid("limit", "out_of_range", message));
        }
        let ids = rows::page(scope.tenant(), after, limit + 1);
        let mut ids: Vec<GroupId> = rows::ids(self.core.db.fetch_all(ids).await?)?;
        let size = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = ids.len() > size;
        ids.truncate(size);
        let mut parts = Vec::new();
        for sql in rows::select(scope.tenant(), &ids) {
            parts.push(self.core.db.fetch_all(sql).await?);
        }
        let next = ids.last().copied().filter(|_| more);
        let data = rows::parse(parts)?;
        Ok(GroupPage { data, next })
    }

    /// One group.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the tenant has no such group.
    pub async fn get(&self, permit: &Permit<Read>, id: GroupId) -> Result<Group> {
        let scope = permit.on(OBJECT)?;
        let mut parts = Vec::new();
        for sql in rows::select(scope.tenant(), &[id]) {
            parts.push(self.core.db.fetch_all(sql).await?);
        }
        rows::parse(parts)?.pop().ok_or(Error::NotFound)
    }

    /// Makes a group.
    ///
    /// # Errors
    /// [`Error::Invalid`] for values that break a rule, [`Error::Refused`] `forbidden` for a right that
    /// somebody would gain and the actor does not hold, [`Error::Conflict`] `already_exists` for a
    /// name in use and `too_many_groups`.
    pub async fn create(&self, permit: &Permit<Create>, input: NewGroup) -> Result<Group> {
        let scope = permit.on(OBJECT)?.clone();
        let change = GroupChange {
            name: Some(input.name),
            description: Some(input.description),
            roles: Some(input.roles),
            members: Some(input.members),
            records: Some(input.records),
        };
        let draft = Draft::check(&scope, change)?;
        let write = Write(scope.clone(), self.core.clone());
        let id = GroupId(scope.clock().new_id());
        let made = scope.write_policy(move |tx| Box::pin(write.create(tx, id, draft)));
        made.await
    }

    /// Changes a group.
    ///
    /// # Errors
    /// As [`Groups::create`]; [`Error::NotFound`]; [`Error::Refused`] `beyond_your_rights` when another
    /// member would lose a right that the actor does not hold.
    pub async fn update(
        &self,
        permit: &Permit<Update>,
        id: GroupId,
        change: GroupChange,
    ) -> Result<Group> {
        let scope = permit.on(OBJECT)?.clone();
        let draft = Draft::check(&scope, change)?;
        let write = Write(scope.clone(), self.core.clone());
        let changed = scope.write_policy(move |tx| Box::pin(write.update(tx, id, draft)));
        changed.await
    }

    /// Deletes a group; its members lose what they held through it.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Refused`] `forbidden` when somebody would be freed of a denial of
    /// what the actor does not hold, and `beyond_your_rights`, as [`update`](Self::update).
    pub async fn delete(&self, permit: &Permit<Delete>, id: GroupId) -> Result<()> {
        let scope = permit.on(OBJECT)?.clone();
        let write = Write(scope.clone(), self.core.clone());
        let deleted = scope.write_policy(move |tx| Box::pin(write.delete(tx, id)));
        deleted.await
    }
}

/// The inside of a transaction that holds the lock on the tenant's policy.
struct Write(Scope, Arc<Core>);

impl Write {
    async fn create(self, tx: &mut Tx<'_>, id: GroupId, draft: Draft) -> Result<Group> {
        let (tenant, now) = (self.0.tenant(), self.0.clock().now());
        draft::check_room(tx, tenant).await?;
        let users = draft.users();
        let before = Holdings::read(tx, tenant, &users).await?;
        rows::insert(tx, tenant, id, now).await?;
        self.store(tx, id, draft).await?;
        check_gained(tx, &self.0, &users, &before, Sharing::Changed).await?;
        let group = self.group(tx, id).await?;
        self.audit(tx, "groups.create", None, Some(&group)).await?;
        Ok(group)
    }

    async fn update(self, tx: &mut Tx<'_>, id: GroupId, draft: Draft) -> Result<Group> {
        let tenant = self.0.tenant();
        let old = self.group(tx, id).await?;
        let mut users = draft.users();
        users.extend(old.members.iter().map(|member| member.user_id));
        let before = Holdings::read(tx, tenant, &users).await?;
        self.store(tx, id, draft).await?;
        let group = self.group(tx, id).await?;
        if group == old {
            return Ok(old);
        }
        let same = group.members == old.members && group.records == old.records;
        let sharing = match same {
            true => Sharing::Unchanged,
            false => Sharing::Changed,
        };
        check_gained(tx, &self.0, &users, &before, sharing).await?;
        self.audit(tx, "groups.update", Some(&old), Some(&group))
            .await?;
        Ok(group)
    }

    async fn delete(self, tx: &mut Tx<'_>, id: GroupId) -> Result<()> {
        let tenant = self.0.tenant();
        let old = self.group(tx, id).await?;
        let users: BTreeSet<UserId> = old.members.iter().map(|member| member.user_id).collect();
        let before = Holdings::read(tx, tenant, &users).await?;
        rows::delete(tx, tenant, id).await?;
        check_gained(tx, &self.0, &users, &before, Sharing::Unchanged).await?;
        self.audit(tx, "groups.delete", Some(&old), None).await
    }

    /// Writes what the draft names.
    async fn store(&self, tx: &mut Tx<'_>, id: GroupId, draft: Draft) -> Result<()> {
        let (tenant, now) = (self.0.tenant(), self.0.clock().now());
        rows::rename(
            tx,
            tenant,
            id,
            draft.name.as_deref(),
            draft.description.as_deref(),
        )
        .await?;
        if let Some(roles) = &draft.roles {
            let roles = role::resolve(tx, tenant, "roles", roles).await?;
            rows::set_roles(tx, tenant, id, &roles, now).await?;
        }
        if let Some(members) = &draft.members {
            draft::check_members(tx, tenant, members).await?;
            rows::set_members(tx, tenant, id, members, now).await?;
        }
        if let Some(records) = &draft.records {
            draft::check_records(tx, &self.1, &self.0, records).await?;
            rows::set_records(tx, tenant, id, records, now).await?;
        }
        Ok(())
    }

    async fn group(&self, tx: &mut Tx<'_>, id: GroupId) -> Result<Group> {
        let mut parts = Vec::new();
        for sql in rows::select(self.0.tenant(), &[id]) {
            parts.push(tx.fetch_all(sql).await?);
        }
        rows::parse(parts)?.pop().ok_or(Error::NotFound)
    }

    async fn audit(
        &self,
        tx: &mut Tx<'_>,
        action: &str,
        before: Option<&Group>,
        after: Option<&Group>,
    ) -> Result<()> {
        let id = after.or(before).map(|group| group.id.to_string());
        let json = |group: Option<&Group>| -> Result<Option<Json>> {
            let json = group.map(serde_json::to_value);
            json.transpose().map_err(Error::internal)
        };
        let (before, after) = (json(before)?, json(after)?);
        journal::audit(tx, &self.0, action, (OBJECT, id), before, after).await
    }
}

#[cfg(test)]
mod tests;
