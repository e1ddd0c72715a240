//! Invitations: people come into a tenant by their own consent.

use crm_core::id::InvitationId;
use crm_core::identity::{Acceptance, Invitation, InvitationView, NewInvitation};
use crm_core::{Create, Crm, Delete, Read};
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use crate::credential::{Caller, Origin};
use crate::payload::Strict;
use crate::problem::Problem;
use crate::resource::member::Joined;
use crate::wire::{Created, Instant, NoContent, Tag};

/// The operations of those who invite.
pub(crate) struct Invitations {
    pub(crate) crm: Crm,
}

/// The operations of those who are invited.
pub(crate) struct Invited {
    pub(crate) crm: Crm,
}

/// An open invitation.
#[derive(Object)]
#[oai(rename = "Invitation")]
pub(super) struct Reply {
    id: Uuid,
    email: String,
    name: String,
    /// The ids of the roles that come with it.
    roles: Vec<Uuid>,
    /// Who invited: `user:<id>`, `api_key:<id>`, `operator:<id>` or `operator`.
    invited_by: String,
    created_at: Instant,
    expires_at: Instant,
}

/// The open invitations.
#[derive(Object)]
#[oai(rename = "InvitationList")]
struct List {
    /// All of them, the oldest first.
    data: Vec<Reply>,
}

/// Somebody to be invited.
#[derive(Object)]
#[oai(rename = "InvitationCreate", deny_unknown_fields)]
struct CreateBody {
    /// The address that the link is sent to.
    #[oai(validator(max_length = 254))]
    email: String,
    /// Their name.
    #[oai(validator(max_length = 100))]
    name: String,
    /// The roles they get, by name or id.
    #[oai(validator(max_items = 50))]
    roles: Vec<String>,
}

/// The link of an invitation.
#[derive(Object)]
#[oai(rename = "InvitationToken", deny_unknown_fields)]
struct TokenBody {
    /// The token of the link.
    #[oai(validator(max_length = 100))]
    token: String,
}

/// What an invitation says.
#[derive(Object)]
#[oai(rename = "InvitationView")]
struct View {
    /// The tenant's name.
    tenant: String,
    /// The address that was invited.
    email: String,
    /// The name that was given for them.
    name: String,
    /// Whether the address has an account, whose password is asked for.
    has_account: bool,
}

/// The answer to an invitation.
#[derive(Object)]
#[oai(rename = "InvitationAccept", deny_unknown_fields)]
struct AcceptBody {
    /// The token of the link.
    #[oai(validator(max_length = 100))]
    token: String,
    /// The password of the account there is, or the first one of a new account.
    #[oai(validator(max_length = 128))]
    password: String,
    /// The name of a new account; that of the invitation when left out.
    #[oai(validator(max_length = 100))]
    name: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1/invitations", tag = "Tag::Members")]
impl Invitations {
    /// List invitations
    ///
    /// Permission: `members.read`.
    #[oai(path = "/", method = "get", operation_id = "list_invitations")]
    async fn list(&self, caller: Caller) -> Result<Json<List>, Problem> {
        let permit = caller.permit::<Read>("members")?;
        let invitations = self.crm.invitations().list(&permit).await?;
        Ok(Json(List {
            data: invitations.into_iter().map(Reply::from).collect(),
        }))
    }

    /// Invite somebody
    ///
    /// Sends a link to the address, in place of the one before. Nobody gives away a permission they do
    /// not hold. Permission: `members.create`.
    #[oai(path = "/", method = "post", operation_id = "create_invitation")]
    async fn create(
        &self,
        caller: Caller,
        body: Strict<CreateBody>,
    ) -> Result<Created<Reply>, Problem> {
        let permit = caller.permit::<Create>("members")?;
        let body = body.0;
        let input = NewInvitation {
            email: body.email,
            name: body.name,
            roles: body.roles,
        };
        Ok(Created(
            self.crm.invitations().create(&permit, input).await?.into(),
        ))
    }

    /// Take an invitation back
    ///
    /// Permission: `members.delete`.
    #[oai(path = "/:id", method = "delete", operation_id = "delete_invitation")]
    async fn delete(&self, caller: Caller, id: Path<Uuid>) -> Result<NoContent, Problem> {
        let permit = caller.permit::<Delete>("members")?;
        self.crm
            .invitations()
            .revoke(&permit, InvitationId(id.0))
            .await?;
        Ok(NoContent)
    }
}

#[OpenApi(prefix_path = "/api/v1/auth/invitation", tag = "Tag::Auth")]
impl Invited {
    /// Read an invitation
    ///
    /// Needs the token of the mail and no other credential.
    #[oai(path = "/read", method = "post", operation_id = "read_invitation")]
    async fn read(&self, origin: Origin, body: Strict<TokenBody>) -> Result<Json<View>, Problem> {
        let token = body.0.token.into();
        let view = self
            .crm
            .accounts()
            .read_invitation(&token, &origin.0)
            .await?;
        Ok(Json(view.into()))
    }

    /// Accept an invitation
    ///
    /// Needs the token of the mail, which works once, and the password of the account that the address
    /// has; an address without one gets it by that. Log in afterwards.
    #[oai(path = "/accept", method = "post", operation_id = "accept_invitation")]
    async fn accept(
        &self,
        origin: Origin,
        body: Strict<AcceptBody>,
    ) -> Result<Created<Joined>, Problem> {
        let body = body.0;
        let input = Acceptance {
            token: body.token.into(),
            password: body.password.into(),
            name: body.name,
        };
        let joined = self
            .crm
            .accounts()
            .accept_invitation(input, origin.0)
            .await?;
        Ok(Created(joined.into()))
    }
}

impl From<Invitation> for Reply {
    fn from(invitation: Invitation) -> Self {
        Self {
            id: invitation.id.0,
            email: invitation.email,
            name: invitation.name,
            roles: invitation.roles.into_iter().map(|role| role.0).collect(),
            invited_by: invitation.invited_by,
            created_at: invitation.created_at.into(),
            expires_at: invitation.expires_at.into(),
        }
    }
}

impl From<InvitationView> for View {
    fn from(view: InvitationView) -> Self {
        Self {
            tenant: view.tenant,
            email: view.email,
            name: view.name,
            has_account: view.has_account,
        }
    }
}
