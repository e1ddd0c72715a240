//! Acting in another's name, by admins of the tenant, and the end of it.

use crm_core::id::FamilyId;
use crm_core::identity::{self, NewImpersonation};
use crm_core::{Create, Crm, Delete, Read};
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use crate::credential::Caller;
use crate::payload::Strict;
use crate::problem::Problem;
use crate::wire::{Created, Instant, NoContent, Tag};

/// The operations on the impersonations of a tenant.
pub(crate) struct Impersonations {
    pub(crate) crm: Crm,
}

/// The operation on the impersonation that asks.
pub(crate) struct Own {
    pub(crate) crm: Crm,
}

/// In whose name to act, and why.
#[derive(Object)]
#[oai(rename = "ImpersonationCreate", deny_unknown_fields)]
pub(super) struct CreateBody {
    /// The member's id or e-mail address.
    #[oai(validator(max_length = 254))]
    user: String,
    /// Why; the tenant reads it.
    #[oai(validator(max_length = 500))]
    reason: String,
}

/// An impersonation that goes on.
#[derive(Object)]
#[oai(rename = "Impersonation")]
struct Reply {
    id: Uuid,
    /// In whose name.
    user_id: Uuid,
    /// Who acts: `user:<id>`, or `operator:<id>` for an operator of the platform.
    impersonated_by: String,
    reason: String,
    created_at: Instant,
    /// When it ends at the latest.
    expires_at: Instant,
}

/// The impersonations that go on.
#[derive(Object)]
#[oai(rename = "ImpersonationList")]
struct List {
    /// The newest first; at most 200.
    data: Vec<Reply>,
}

/// An impersonation that has just begun.
#[derive(Object)]
#[oai(rename = "ImpersonationBegun")]
pub(super) struct Begun {
    /// What to send as `Authorization: Bearer …`. Its claim `act` names who acts (RFC 8693); there is
    /// nothing to refresh it with.
    access_token: String,
    /// Seconds that it holds.
    expires_in: u64,
    impersonation: Reply,
}

#[OpenApi(prefix_path = "/api/v1/impersonations", tag = "Tag::Members")]
impl Impersonations {
    /// List impersonations
    ///
    /// Those that go on in the tenant, by its members and by operators of the platform.
    /// Permission: `impersonations.read`.
    #[oai(path = "/", method = "get", operation_id = "list_impersonations")]
    async fn list(&self, caller: Caller) -> Result<Json<List>, Problem> {
        let permit = caller.permit::<Read>("impersonations")?;
        let open = self.crm.impersonations().list(&permit).await?;
        Ok(Json(List {
            data: open.into_iter().map(Reply::from).collect(),
        }))
    }

    /// Act in a member's name
    ///
    /// Answers an access token for some minutes, with the member's rights on records, as far as the
    /// caller holds them for all rows, and to read the administration. Nobody gains by it: whoever may do
    /// more than the caller is refused (403 `not_impersonable`), as are programs and operators. Account,
    /// sessions, roles and keys cannot be changed by it, and no job be begun (403 `impersonating`). Each
    /// entry of the audit log names both. It ends with the session it is begun in.
    /// Permission: `impersonations.create`.
    #[oai(path = "/", method = "post", operation_id = "create_impersonation")]
    async fn create(
        &self,
        caller: Caller,
        body: Strict<CreateBody>,
    ) -> Result<Created<Begun>, Problem> {
        let permit = caller.permit::<Create>("impersonations")?;
        let impersonations = self.crm.impersonations();
        let begun = impersonations.start(&permit, body.0.into()).await?;
        Ok(Created(begun.into()))
    }

    /// End an impersonation
    ///
    /// By whomever it was begun: the next request in it is refused.
    /// Permission: `impersonations.delete`.
    #[oai(
        path = "/:id",
        method = "delete",
        operation_id = "delete_impersonation"
    )]
    async fn delete(&self, caller: Caller, id: Path<Uuid>) -> Result<NoContent, Problem> {
        let permit = caller.permit::<Delete>("impersonations")?;
        let impersonations = self.crm.impersonations();
        impersonations.end(&permit, FamilyId(id.0)).await?;
        Ok(NoContent)
    }
}

#[OpenApi(prefix_path = "/api/v1/auth/impersonation", tag = "Tag::Auth")]
impl Own {
    /// Stop acting in another's name
    ///
    /// Ends the impersonation that the token is of. Permission: none.
    #[oai(path = "/", method = "delete", operation_id = "end_impersonation")]
    async fn end(&self, caller: Caller) -> Result<NoContent, Problem> {
        self.crm.impersonations().end_own(&caller).await?;
        Ok(NoContent)
    }
}

impl From<CreateBody> for NewImpersonation {
    fn from(body: CreateBody) -> Self {
        Self {
            user: body.user,
            reason: body.reason,
        }
    }
}

impl From<identity::Impersonation> for Reply {
    fn from(impersonation: identity::Impersonation) -> Self {
        Self {
            id: impersonation.id.0,
            user_id: impersonation.user_id.0,
            impersonated_by: impersonation.impersonator,
            reason: impersonation.reason,
            created_at: impersonation.created_at.into(),
            expires_at: impersonation.expires_at.into(),
        }
    }
}

impl From<identity::Impersonated> for Begun {
    fn from(begun: identity::Impersonated) -> Self {
        Self {
            access_token: begun.access_token.expose_secret().to_owned(),
            expires_in: begun.expires_in,
            impersonation: begun.impersonation.into(),
        }
    }
}
