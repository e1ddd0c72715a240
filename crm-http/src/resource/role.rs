//! Roles of the tenant: what those who hold them may do.

use crm_core::id::RoleId;
use crm_core::policy::{Permission, PermissionInput};
use crm_core::role::{NewRole, Role, RoleChange};
use crm_core::{Create, Crm, Delete, Read, Update};
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::types::{Any, MaybeUndefined};
use poem_openapi::{Object, OpenApi, Union};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::credential::Caller;
use crate::payload::Strict;
use crate::problem::Problem;
use crate::wire::{Created, Instant, NoContent, Tag};

/// The operations on roles.
pub(crate) struct Roles {
    pub(crate) crm: Crm,
}

/// A role of the tenant.
#[derive(Object)]
#[oai(rename = "Role")]
struct Reply {
    id: Uuid,
    /// Its name, unique in the tenant.
    name: String,
    /// What it is for.
    description: String,
    /// Whether it came with the tenant; such a role cannot be changed or deleted.
    is_system: bool,
    /// The role whose permissions this one includes.
    #[oai(nullable)]
    parent_id: Option<Uuid>,
    /// Its own permissions, such as `contacts.read`; one with a condition or a list of fields is an
    /// object.
    permissions: Vec<PermissionForm>,
    created_at: Instant,
}

/// The roles of the tenant.
#[derive(Object)]
#[oai(rename = "RoleList")]
struct List {
    /// All of them, the oldest first.
    data: Vec<Reply>,
}

/// A new role.
#[derive(Object)]
#[oai(rename = "RoleCreate", deny_unknown_fields)]
struct CreateBody {
    /// Its name, unique in the tenant.
    #[oai(validator(max_length = 100))]
    name: String,
    /// What it is for.
    #[oai(default, validator(max_length = 1000))]
    description: String,
    /// The role whose permissions the new one includes.
    parent_id: Option<Uuid>,
    /// `module.action`, either of them `*`; `records` stands for all modules. `:own` at the end
    /// limits it to own rows, `:team` to those of people who share a group, `:parent` to own rows,
    /// rows that a group of one's own is in charge of, and what is part of these; nobody owns what the
    /// administration of the tenant is about, such as `members`. `!` at the start
    /// denies. An object adds a condition on the rows, or limits reading, creating and updating to
    /// some fields.
    #[oai(validator(max_items = 500))]
    permissions: Vec<PermissionForm>,
}

/// Changes of a role; absent members stay.
#[derive(Object)]
#[oai(rename = "RoleUpdate", deny_unknown_fields)]
struct UpdateBody {
    /// Its name, unique in the tenant.
    #[oai(validator(max_length = 100))]
    name: Option<String>,
    /// What it is for.
    #[oai(validator(max_length = 1000))]
    description: Option<String>,
    /// The role whose permissions this one includes; null for none.
    #[oai(nullable)]
    parent_id: MaybeUndefined<Uuid>,
    /// The complete new list.
    #[oai(validator(max_items = 500))]
    permissions: Option<Vec<PermissionForm>>,
}

/// A permission: `contacts.read`, `deals.*`, `contacts.update:own`, `!contacts.delete`, or one with a
/// condition on the rows or a list of fields.
#[derive(Union)]
#[oai(rename = "Permission")]
pub(super) enum PermissionForm {
    Text(String),
    Conditional(Conditional),
}

/// A permission on rows that match a filter, or on some fields of them.
#[derive(Object)]
#[oai(rename = "ConditionalPermission", deny_unknown_fields)]
pub(super) struct Conditional {
    /// `module.action` of one module, with `:own`, `:team` or `:parent` if need be.
    #[oai(validator(max_length = 200))]
    permission: String,
    /// The filter, in the form of `POST /api/v1/{module}/query`, over fields of the module.
    #[oai(rename = "where", skip_serializing_if_is_none)]
    condition: Option<Any<Map<String, Value>>>,
    /// The only fields that are read or written, beside `id`, `version` and the times.
    #[oai(skip_serializing_if_is_none, validator(max_items = 500))]
    fields: Option<Vec<String>>,
    /// The fields that are neither read nor written, of all fields.
    #[oai(skip_serializing_if_is_none, validator(max_items = 500))]
    except: Option<Vec<String>>,
}

impl From<PermissionForm> for PermissionInput {
    fn from(form: PermissionForm) -> Self {
        match form {
            PermissionForm::Text(permission) => permission.into(),
            PermissionForm::Conditional(one) => Self {
                permission: one.permission,
                condition: one.condition.map(|condition| condition.0),
                fields: one.fields,
                except: one.except,
            },
        }
    }
}

impl From<&Permission> for PermissionForm {
    fn from(permission: &Permission) -> Self {
        let text = permission.to_string();
        let condition = permission.condition();
        let condition = condition.and_then(|json| serde_json::from_str(json).ok());
        let fields = permission.fields();
        if condition.is_none() && fields.is_all() {
            return Self::Text(text);
        }
        Self::Conditional(Conditional {
            permission: text,
            condition: condition.map(Any),
            fields: fields.listed().map(|names| names.map(Into::into).collect()),
            except: fields
                .left_out()
                .map(|names| names.map(Into::into).collect()),
        })
    }
}

fn inputs(permissions: Vec<PermissionForm>) -> Vec<PermissionInput> {
    permissions.into_iter().map(PermissionInput::from).collect()
}

#[OpenApi(prefix_path = "/api/v1/roles", tag = "Tag::Roles")]
impl Roles {
    /// List roles
    ///
    /// Permission: `roles.read`.
    #[oai(path = "/", method = "get", operation_id = "list_roles")]
    async fn list(&self, caller: Caller) -> Result<Json<List>, Problem> {
        let roles = self
            .crm
            .roles()
            .list(&caller.permit::<Read>("roles")?)
            .await?;
        Ok(Json(List {
            data: roles.into_iter().map(Reply::from).collect(),
        }))
    }

    /// Create a role
    ///
    /// Nobody gives away a permission they do not hold. Permission: `roles.create`.
    #[oai(path = "/", method = "post", operation_id = "create_role")]
    async fn create(
        &self,
        caller: Caller,
        body: Strict<CreateBody>,
    ) -> Result<Created<Reply>, Problem> {
        let permit = caller.permit::<Create>("roles")?;
        let body = body.0;
        let new = NewRole {
            name: body.name,
            description: body.description,
            parent_id: body.parent_id.map(RoleId),
            permissions: inputs(body.permissions),
        };
        Ok(Created(self.crm.roles().create(&permit, new).await?.into()))
    }

    /// Get a role
    ///
    /// Permission: `roles.read`.
    #[oai(path = "/:id", method = "get", operation_id = "get_role")]
    async fn get(&self, caller: Caller, id: Path<Uuid>) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Read>("roles")?;
        Ok(Json(
            self.crm.roles().get(&permit, RoleId(id.0)).await?.into(),
        ))
    }

    /// Update a role
    ///
    /// Nobody gives away a permission they do not hold, or takes one from a role that others may hold (403
    /// `beyond_your_rights`). Permission: `roles.update`.
    #[oai(path = "/:id", method = "patch", operation_id = "update_role")]
    async fn update(
        &self,
        caller: Caller,
        id: Path<Uuid>,
        body: Strict<UpdateBody>,
    ) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Update>("roles")?;
        let body = body.0;
        let change = RoleChange {
            name: body.name,
            description: body.description,
            parent_id: match body.parent_id {
                MaybeUndefined::Undefined => None,
                MaybeUndefined::Null => Some(None),
                MaybeUndefined::Value(id) => Some(Some(RoleId(id))),
            },
            permissions: body.permissions.map(inputs),
        };
        Ok(Json(
            self.crm
                .roles()
                .update(&permit, RoleId(id.0), change)
                .await?
                .into(),
        ))
    }

    /// Delete a role
    ///
    /// Refused while anybody holds it. Permission: `roles.delete`.
    #[oai(path = "/:id", method = "delete", operation_id = "delete_role")]
    async fn delete(&self, caller: Caller, id: Path<Uuid>) -> Result<NoContent, Problem> {
        let permit = caller.permit::<Delete>("roles")?;
        self.crm.roles().delete(&permit, RoleId(id.0)).await?;
        Ok(NoContent)
    }
}

impl From<Role> for Reply {
    fn from(role: Role) -> Self {
        Self {
            id: role.id.0,
            name: role.name,
            description: role.description,
            is_system: role.is_system,
            parent_id: role.parent_id.map(|id| id.0),
            permissions: role.permissions.iter().map(PermissionForm::from).collect(),
            created_at: role.created_at.into(),
        }
    }
}
