//! Groups of the tenant's users: they hold roles, are teams, and may be in charge of records.

use crm_core::group::{Group, GroupChange, GroupMember, GroupRecord, NewGroup};
use crm_core::id::{GroupId, RecordId, UserId};
use crm_core::{Create, Crm, Delete, Read, Update};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use crate::credential::Caller;
use crate::payload::Strict;
use crate::problem::Problem;
use crate::wire::{Created, Instant, NoContent, Tag, page_size};

/// The operations on groups.
pub(crate) struct Groups {
    pub(crate) crm: Crm,
}

/// A group of users.
#[derive(Object)]
#[oai(rename = "Group")]
struct Reply {
    id: Uuid,
    /// Its name, unique in the tenant.
    name: String,
    /// What it is for.
    description: String,
    /// The roles that its members hold through it, the oldest role first.
    roles: Vec<GroupRole>,
    /// Its members, by user id.
    members: Vec<Member>,
    /// The records that it is in charge of, by module and id.
    records: Vec<Charge>,
    created_at: Instant,
}

/// A role of a group.
#[derive(Object)]
struct GroupRole {
    id: Uuid,
    name: String,
}

/// A member of a group.
#[derive(Object)]
#[oai(rename = "GroupMember")]
struct Member {
    user_id: Uuid,
    /// The instant from which they are no more; null for one without an end.
    #[oai(nullable)]
    until: Option<Instant>,
}

/// A record that a group is in charge of.
#[derive(Object)]
#[oai(rename = "GroupRecord")]
struct Charge {
    /// The plural name of its module.
    module: String,
    id: Uuid,
}

/// A page of groups.
#[derive(Object)]
#[oai(rename = "GroupList")]
struct List {
    /// The oldest first.
    data: Vec<Reply>,
    /// The `cursor` of the next page; null at the end.
    #[oai(nullable)]
    next_cursor: Option<Uuid>,
}

/// A member of a group to be.
#[derive(Object)]
#[oai(rename = "GroupMemberInput", deny_unknown_fields)]
struct MemberBody {
    /// A member of the tenant.
    user_id: Uuid,
    /// The instant from which they are no more; absent for one without an end.
    #[oai(nullable)]
    until: Option<Instant>,
}

/// A record to be in charge of.
#[derive(Object)]
#[oai(rename = "GroupRecordInput", deny_unknown_fields)]
struct ChargeBody {
    /// The plural name of its module.
    #[oai(validator(max_length = 100))]
    module: String,
    id: Uuid,
}

/// A new group.
#[derive(Object)]
#[oai(rename = "GroupCreate", deny_unknown_fields)]
struct CreateBody {
    /// Its name, unique in the tenant.
    #[oai(validator(max_length = 100))]
    name: String,
    /// What it is for.
    #[oai(default, validator(max_length = 1000))]
    description: String,
    /// Roles by name or id.
    #[oai(default, validator(max_items = 50))]
    roles: Vec<String>,
    #[oai(default, validator(max_items = 1000))]
    members: Vec<MemberBody>,
    /// The records that it is in charge of: they, and what is part of them, are what permissions on
    /// rows `:parent` reach for its members.
    #[oai(default, validator(max_items = 1000))]
    records: Vec<ChargeBody>,
}

/// Changes of a group; absent members stay.
#[derive(Object)]
#[oai(rename = "GroupUpdate", deny_unknown_fields)]
struct UpdateBody {
    /// Its name, unique in the tenant.
    #[oai(validator(max_length = 100))]
    name: Option<String>,
    /// What it is for.
    #[oai(validator(max_length = 1000))]
    description: Option<String>,
    /// The complete new list, by name or id.
    #[oai(validator(max_items = 50))]
    roles: Option<Vec<String>>,
    /// The complete new list.
    #[oai(validator(max_items = 1000))]
    members: Option<Vec<MemberBody>>,
    /// The complete new list.
    #[oai(validator(max_items = 1000))]
    records: Option<Vec<ChargeBody>>,
}

#[OpenApi(prefix_path = "/api/v1/groups", tag = "Tag::Groups")]
impl Groups {
    /// List groups
    ///
    /// The oldest first. Permission: `groups.read`.
    #[oai(path = "/", method = "get", operation_id = "list_groups")]
    async fn list(
        &self,
        caller: Caller,
        /// Most groups of the page.
        #[oai(
            default = "page_size",
            validator(minimum(value = "1"), maximum(value = "100"))
        )]
        limit: Query<u32>,
        /// The `next_cursor` of the page before.
        cursor: Query<Option<Uuid>>,
    ) -> Result<Json<List>, Problem> {
        let permit = caller.permit::<Read>("groups")?;
        let after = cursor.0.map(GroupId);
        let page = self.crm.groups().list(&permit, after, limit.0).await?;
        Ok(Json(List {
            data: page.data.into_iter().map(Reply::from).collect(),
            next_cursor: page.next.map(|id| id.0),
        }))
    }

    /// Create a group
    ///
    /// Nobody gives away a permission they do not hold; whoever puts people together, or in charge of
    /// records, holds on all rows what these hold on rows `:team` and `:parent`.
    /// Permission: `groups.create`.
    #[oai(path = "/", method = "post", operation_id = "create_group")]
    async fn create(
        &self,
        caller: Caller,
        body: Strict<CreateBody>,
    ) -> Result<Created<Reply>, Problem> {
        let permit = caller.permit::<Create>("groups")?;
        let body = body.0;
        let new = NewGroup {
            name: body.name,
            description: body.description,
            roles: body.roles,
            members: body.members.into_iter().map(GroupMember::from).collect(),
            records: body.records.into_iter().map(GroupRecord::from).collect(),
        };
        let group = self.crm.groups().create(&permit, new).await?;
        Ok(Created(group.into()))
    }

    /// Get a group
    ///
    /// Permission: `groups.read`.
    #[oai(path = "/:id", method = "get", operation_id = "get_group")]
    async fn get(&self, caller: Caller, id: Path<Uuid>) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Read>("groups")?;
        let group = self.crm.groups().get(&permit, GroupId(id.0)).await?;
        Ok(Json(group.into()))
    }

    /// Update a group
    ///
    /// Nobody gives away a permission they do not hold; whoever puts people together, or in charge of
    /// records, holds on all rows what these hold on rows `:team` and `:parent`. Nor does anybody take a
    /// permission from others that they do not hold (403 `beyond_your_rights`).
    /// Permission: `groups.update`.
    #[oai(path = "/:id", method = "patch", operation_id = "update_group")]
    async fn update(
        &self,
        caller: Caller,
        id: Path<Uuid>,
        body: Strict<UpdateBody>,
    ) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Update>("groups")?;
        let body = body.0;
        let members = |list: Vec<MemberBody>| list.into_iter().map(GroupMember::from).collect();
        let records = |list: Vec<ChargeBody>| list.into_iter().map(GroupRecord::from).collect();
        let change = GroupChange {
            name: body.name,
            description: body.description,
            roles: body.roles,
            members: body.members.map(members),
            records: body.records.map(records),
        };
        let groups = self.crm.groups();
        let group = groups.update(&permit, GroupId(id.0), change).await?;
        Ok(Json(group.into()))
    }

    /// Delete a group
    ///
    /// Its members lose what they held through it; refused (403 `beyond_your_rights`) where another member
    /// would lose a permission that the caller does not hold. Permission: `groups.delete`.
    #[oai(path = "/:id", method = "delete", operation_id = "delete_group")]
    async fn delete(&self, caller: Caller, id: Path<Uuid>) -> Result<NoContent, Problem> {
        let permit = caller.permit::<Delete>("groups")?;
        self.crm.groups().delete(&permit, GroupId(id.0)).await?;
        Ok(NoContent)
    }
}

impl From<MemberBody> for GroupMember {
    fn from(member: MemberBody) -> Self {
        Self {
            user_id: UserId(member.user_id),
            until: member.until.map(|until| until.0),
        }
    }
}

impl From<ChargeBody> for GroupRecord {
    fn from(record: ChargeBody) -> Self {
        Self {
            module: record.module,
            id: RecordId(record.id),
        }
    }
}

impl From<Group> for Reply {
    fn from(group: Group) -> Self {
        let roles = group.roles.into_iter().map(|role| GroupRole {
            id: role.id.0,
            name: role.name,
        });
        let members = group.members.into_iter().map(|member| Member {
            user_id: member.user_id.0,
            until: member.until.map(Instant::from),
        });
        let records = group.records.into_iter().map(|record| Charge {
            module: record.module,
            id: record.id.0,
        });
        Self {
            id: group.id.0,
            name: group.name,
            description: group.description,
            roles: roles.collect(),
            members: members.collect(),
            records: records.collect(),
            created_at: group.created_at.into(),
        }
    }
}
