//! Operators, and the audit log of the platform.

use crm_core::AuditQuery;
use crm_core::id::UserId;
use crm_core::platform::{self, NewOperator};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use super::audit;
use crate::credential::PlatformCaller;
use crate::cursor;
use crate::payload::Strict;
use crate::problem::Problem;
use crate::wire::{Created, Instant, NoContent, Tag};

/// The operations on operators.
pub(crate) struct Operators;

/// Somebody who looks after tenants, and belongs to none by that.
#[derive(Object)]
#[oai(rename = "Operator")]
struct Reply {
    user_id: Uuid,
    email: String,
    name: String,
    /// What they may do, such as `tenants.create`.
    permissions: Vec<String>,
    /// Who made them one: `operator` for the command line, or `operator:<id>`.
    created_by: String,
    created_at: Instant,
}

/// The operators.
#[derive(Object)]
#[oai(rename = "OperatorList")]
struct List {
    /// All of them.
    data: Vec<Reply>,
}

/// Somebody to become an operator.
#[derive(Object)]
#[oai(rename = "OperatorCreate", deny_unknown_fields)]
struct CreateBody {
    /// The e-mail address they log in with.
    #[oai(validator(max_length = 254))]
    email: String,
    /// Their name.
    #[oai(validator(max_length = 100))]
    name: String,
    /// What they may do, such as `tenants.create`; nothing that the caller may not.
    #[oai(validator(max_items = 50))]
    permissions: Vec<String>,
}

#[OpenApi(prefix_path = "/api/v1/platform", tag = "Tag::Platform")]
impl Operators {
    /// List operators
    ///
    /// Platform permission: `operators.read`.
    #[oai(path = "/operators", method = "get", operation_id = "list_operators")]
    async fn list(&self, caller: PlatformCaller) -> Result<Json<List>, Problem> {
        let operators = caller.list_operators().await?;
        Ok(Json(List {
            data: operators.into_iter().map(Reply::from).collect(),
        }))
    }

    /// Make somebody an operator
    ///
    /// A new account sets its password by a link in the mail that tells of it, and a second factor at its first
    /// login. Nobody gives a permission that they do not hold. Platform permission: `operators.create`.
    #[oai(path = "/operators", method = "post", operation_id = "create_operator")]
    async fn create(
        &self,
        caller: PlatformCaller,
        body: Strict<CreateBody>,
    ) -> Result<Created<Reply>, Problem> {
        let input = NewOperator {
            email: body.0.email,
            name: body.0.name,
            permissions: body.0.permissions,
            password: None,
        };
        Ok(Created(caller.create_operator(input).await?.into()))
    }

    /// Take an operator away
    ///
    /// Their sessions on the platform end, and what they do in members' names; the account stays. The
    /// last operator stays too (409 `last_operator`), and one who may do what you may not (403);
    /// `crm operator revoke` takes them away.
    /// Platform permission: `operators.delete`.
    #[oai(
        path = "/operators/:user_id",
        method = "delete",
        operation_id = "delete_operator"
    )]
    async fn delete(
        &self,
        caller: PlatformCaller,
        user_id: Path<Uuid>,
    ) -> Result<NoContent, Problem> {
        caller.revoke_operator(UserId(user_id.0)).await?;
        Ok(NoContent)
    }

    /// List what happened on the platform
    ///
    /// What operators did, and logins that failed for nobody of any tenant; newest first.
    /// Platform permission: `audit.read`.
    #[oai(path = "/audit", method = "get", operation_id = "list_platform_audit")]
    async fn audit(
        &self,
        caller: PlatformCaller,
        /// Only entries of this action, such as `tenants.suspend`.
        action: Query<Option<String>>,
        /// Only entries of this actor, such as `operator:<id>`.
        actor: Query<Option<String>>,
        /// Most entries of the page.
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
        limit: Query<Option<u32>>,
        /// The `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<audit::List>, Problem> {
        let query = AuditQuery {
            action: action.0,
            actor: actor.0,
            limit: limit.0,
            cursor: cursor::read(cursor.0)?,
            ..AuditQuery::default()
        };
        Ok(Json(caller.audit(&query).await?.into()))
    }
}

impl From<platform::Operator> for Reply {
    fn from(operator: platform::Operator) -> Self {
        let permissions = operator.permissions.iter();
        Self {
            user_id: operator.user_id.0,
            email: operator.email,
            name: operator.name,
            permissions: permissions.map(ToString::to_string).collect(),
            created_by: operator.created_by,
            created_at: operator.created_at.into(),
        }
    }
}
