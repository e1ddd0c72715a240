//! The people of the tenant and the roles they hold.

use crm_core::id::UserId;
use crm_core::identity::NewUser;
use crm_core::member::{self, Member, MemberKind, RoleGrant};
use crm_core::{Create, Crm, Delete, Read, Update};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Enum, Object, OpenApi, Union};
use uuid::Uuid;

use crate::credential::Caller;
use crate::payload::Strict;
use crate::problem::Problem;
use crate::wire::{Created, Instant, NoContent, Tag, page_size};

/// The operations on members.
pub(crate) struct Members {
    pub(crate) crm: Crm,
}

/// A member of the tenant.
#[derive(Object)]
#[oai(rename = "Member")]
struct Reply {
    user_id: Uuid,
    email: String,
    name: String,
    /// Whether they may log in.
    active: bool,
    /// A person who logs in, or a service account, which acts by API keys.
    kind: Kind,
    /// The roles they hold, the oldest role first.
    roles: Vec<HeldRole>,
    joined_at: Instant,
}

/// What a member is.
#[derive(Enum)]
#[oai(rename = "MemberKind", rename_all = "snake_case")]
enum Kind {
    Person,
    Service,
}

/// A role that somebody holds.
#[derive(Object)]
pub(crate) struct HeldRole {
    id: Uuid,
    name: String,
    /// The instant from which it is held no more; null for a role without an end.
    #[oai(nullable)]
    until: Option<Instant>,
}

/// A page of members.
#[derive(Object)]
#[oai(rename = "MemberList")]
struct List {
    data: Vec<Reply>,
    /// The `cursor` of the next page; null at the end.
    #[oai(nullable)]
    next_cursor: Option<Uuid>,
}

/// Somebody to become a member.
#[derive(Object)]
#[oai(rename = "MemberCreate", deny_unknown_fields)]
struct CreateBody {
    /// The e-mail address they log in with.
    #[oai(validator(max_length = 254))]
    email: String,
    /// Their name.
    #[oai(validator(max_length = 100))]
    name: String,
    /// Their first password, at least 8 characters. Where the server authenticates strictly, they replace
    /// it at their first login.
    #[oai(validator(max_length = 128))]
    password: String,
    /// The roles they get, by name or id.
    #[oai(validator(max_items = 50))]
    roles: Vec<String>,
}

/// A new membership.
#[derive(Object)]
#[oai(rename = "MemberCreated")]
pub(crate) struct Joined {
    user_id: Uuid,
    /// Whether the user existed before: name and password stay as they were.
    existed: bool,
    /// The strength of a new user's password, 0 to 4, as zxcvbn estimates it.
    #[oai(nullable)]
    password_score: Option<u8>,
}

/// The roles of a member.
#[derive(Object)]
#[oai(rename = "MemberRoles", deny_unknown_fields)]
struct RolesBody {
    /// All the roles they shall hold, by name or id; an object for one that ends.
    #[oai(validator(max_items = 50))]
    roles: Vec<RoleForm>,
}

/// A role by name or id, or one that is held until an instant.
#[derive(Union)]
#[oai(rename = "RoleGrant")]
enum RoleForm {
    Text(String),
    Ending(Ending),
}

/// A role that is held until an instant.
#[derive(Object)]
#[oai(rename = "EndingRole", deny_unknown_fields)]
struct Ending {
    /// Its name or id.
    #[oai(validator(max_length = 100))]
    role: String,
    /// The instant from which it is held no more.
    until: Instant,
}

impl From<RoleForm> for RoleGrant {
    fn from(form: RoleForm) -> Self {
        match form {
            RoleForm::Text(role) => role.into(),
            RoleForm::Ending(ending) => Self {
                role: ending.role,
                until: Some(ending.until.0),
            },
        }
    }
}

#[OpenApi(prefix_path = "/api/v1/members", tag = "Tag::Members")]
impl Members {
    /// List members
    ///
    /// Ordered by user id. Permission: `members.read`.
    #[oai(path = "/", method = "get", operation_id = "list_members")]
    async fn list(
        &self,
        caller: Caller,
        /// Most members of the page.
        #[oai(
            default = "page_size",
            validator(minimum(value = "1"), maximum(value = "100"))
        )]
        limit: Query<u32>,
        /// The `next_cursor` of the page before.
        cursor: Query<Option<Uuid>>,
    ) -> Result<Json<List>, Problem> {
        let permit = caller.permit::<Read>("members")?;
        let after = cursor.0.map(UserId);
        let page = self.crm.members().list(&permit, after, limit.0).await?;
        Ok(Json(List {
            data: page.data.into_iter().map(Reply::from).collect(),
            next_cursor: page.next.map(|id| id.0),
        }))
    }

    /// Add a member
    ///
    /// Makes the user. Somebody who has an account is invited instead (409 `user_exists`). Nobody gives away a permission they do not hold.
    /// Permission: `members.create`.
    #[oai(path = "/", method = "post", operation_id = "create_member")]
    async fn create(
        &self,
        caller: Caller,
        body: Strict<CreateBody>,
    ) -> Result<Created<Joined>, Problem> {
        let permit = caller.permit::<Create>("members")?;
        let body = body.0;
        let user = NewUser {
            email: body.email,
            name: body.name,
            password: body.password.into(),
            roles: body.roles,
        };
        let joined = self.crm.accounts().create_user(&permit, user).await?;
        Ok(Created(joined.into()))
    }

    /// Get a member
    ///
    /// Permission: `members.read`.
    #[oai(path = "/:user_id", method = "get", operation_id = "get_member")]
    async fn get(&self, caller: Caller, user_id: Path<Uuid>) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Read>("members")?;
        Ok(Json(
            self.crm
                .members()
                .get(&permit, UserId(user_id.0))
                .await?
                .into(),
        ))
    }

    /// Set the roles of a member
    ///
    /// Replaces all of them. Nobody gives away a permission they do not hold for good, and a tenant
    /// keeps an admin without an end. Of another member who holds a permission that the caller does not,
    /// nobody changes anything (403 `beyond_your_rights`). Permission: `members.update`.
    #[oai(
        path = "/:user_id/roles",
        method = "put",
        operation_id = "set_member_roles"
    )]
    async fn set_roles(
        &self,
        caller: Caller,
        user_id: Path<Uuid>,
        body: Strict<RolesBody>,
    ) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Update>("members")?;
        let members = self.crm.members();
        Ok(Json(
            members
                .set_roles(&permit, UserId(user_id.0), body.0.roles)
                .await?
                .into(),
        ))
    }

    /// Remove a member
    ///
    /// Ends their sessions here; what they own stays. Refused (403 `beyond_your_rights`) for another member
    /// who holds a permission that the caller does not. Permission: `members.delete`.
    #[oai(path = "/:user_id", method = "delete", operation_id = "delete_member")]
    async fn delete(&self, caller: Caller, user_id: Path<Uuid>) -> Result<NoContent, Problem> {
        let permit = caller.permit::<Delete>("members")?;
        self.crm
            .members()
            .remove(&permit, UserId(user_id.0))
            .await?;
        Ok(NoContent)
    }
}

impl From<crm_core::identity::Joined> for Joined {
    fn from(joined: crm_core::identity::Joined) -> Self {
        Self {
            user_id: joined.user_id.0,
            existed: joined.existed,
            password_score: joined.password_score,
        }
    }
}

impl From<Member> for Reply {
    fn from(member: Member) -> Self {
        Self {
            user_id: member.user_id.0,
            email: member.email,
            name: member.name,
            active: member.active,
            kind: match member.kind {
                MemberKind::Person => Kind::Person,
                MemberKind::Service => Kind::Service,
            },
            roles: member.roles.into_iter().map(HeldRole::from).collect(),
            joined_at: member.joined_at.into(),
        }
    }
}

impl From<member::HeldRole> for HeldRole {
    fn from(role: member::HeldRole) -> Self {
        Self {
            id: role.id.0,
            name: role.name,
            until: role.until.map(Instant::from),
        }
    }
}
