//! The sessions that are open, to their owner and to the tenant's admins; and the public keys that
//! their access tokens are verified with.

use crm_core::id::{FamilyId, UserId};
use crm_core::identity::OpenSession;
use crm_core::{Crm, Read, Update};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::{Json, Response};
use poem_openapi::{Object, OpenApi};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use uuid::Uuid;

use super::auth::Tenant;
use crate::credential::Caller;
use crate::payload::Strict;
use crate::problem::Problem;
use crate::wire::{Instant, NoContent, Tag};

/// The operations on open sessions.
pub(crate) struct Sessions {
    pub(crate) crm: Crm,
}

/// A session that is open.
#[derive(Object)]
#[oai(rename = "OpenSession")]
struct Reply {
    id: Uuid,
    /// The tenant it is in; null for an operator's on the platform.
    #[oai(nullable)]
    tenant: Option<Tenant>,
    /// Whether each request may name another tenant.
    roaming: bool,
    created_at: Instant,
    /// Its latest refresh.
    last_used_at: Instant,
    /// When it ends at the latest.
    expires_at: Instant,
    /// The address it was last refreshed from.
    #[oai(nullable)]
    address: Option<String>,
    /// The `User-Agent` it was last refreshed by.
    #[oai(nullable)]
    user_agent: Option<String>,
    /// Whether it is the one that asks.
    current: bool,
    /// Who acts in the user's name in it, `user:<id>` or `operator:<id>`; null when they do themselves.
    #[oai(nullable)]
    impersonator: Option<String>,
}

/// Sessions, the one used last first; at most 200.
#[derive(Object)]
#[oai(rename = "OpenSessionList")]
struct List {
    data: Vec<Reply>,
}

/// Another tenant of the caller's.
#[derive(Object)]
#[oai(rename = "TenantSwitch", deny_unknown_fields)]
struct SwitchBody {
    /// Its name.
    tenant: String,
    /// A code of the second factor, or a recovery code: for a session that began without it, where the
    /// tenant asks for it. It must be right in any case.
    #[oai(validator(max_length = 64))]
    code: Option<String>,
}

/// An access token.
#[derive(Object)]
#[oai(rename = "AccessToken")]
struct Access {
    /// What to send as `Authorization: Bearer …` from now on.
    access_token: String,
    /// Seconds that it holds.
    expires_in: u64,
}

/// Public keys (RFC 7517).
#[derive(Object)]
#[oai(rename = "JwkSet")]
struct KeySet {
    /// The keys, each with its `kid`, `alg` and `use`.
    keys: Vec<Value>,
}

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Auth")]
impl Sessions {
    /// List my sessions
    ///
    /// Those of the caller in all tenants; none for an API key. Permission: none.
    #[oai(
        path = "/auth/sessions",
        method = "get",
        operation_id = "list_sessions"
    )]
    async fn list(&self, caller: Caller) -> Result<Json<List>, Problem> {
        Ok(list(self.crm.sessions().list(&caller).await?))
    }

    /// End all my sessions
    ///
    /// In every tenant: the next request with one of their tokens is refused. Where the server authenticates
    /// strictly, 403 `recent_login_required` for a session that began more than five minutes ago, unless it
    /// ends itself alone (`POST /auth/logout`). Permission: none.
    #[oai(
        path = "/auth/sessions",
        method = "delete",
        operation_id = "delete_sessions"
    )]
    async fn delete_all(
        &self,
        caller: Caller,
        /// Whether the session that asks goes on.
        #[oai(default)]
        except_current: Query<bool>,
    ) -> Result<NoContent, Problem> {
        let sessions = self.crm.sessions();
        match except_current.0 {
            true => sessions.end_others(&caller).await?,
            false => sessions.end_all(&caller).await?,
        };
        Ok(NoContent)
    }

    /// End one of my sessions
    ///
    /// The next request with one of its tokens is refused. Where the server authenticates strictly, 403
    /// `recent_login_required` for another one than that which asks, where this one began more than five
    /// minutes ago. Permission: none.
    #[oai(
        path = "/auth/sessions/:id",
        method = "delete",
        operation_id = "delete_session"
    )]
    async fn delete(&self, caller: Caller, id: Path<Uuid>) -> Result<NoContent, Problem> {
        self.crm.sessions().end(&caller, FamilyId(id.0)).await?;
        Ok(NoContent)
    }

    /// Move my session to another tenant
    ///
    /// Answers an access token for it; those issued before hold no more, and the refresh token goes
    /// on. Where the tenant asks for a second factor and the session began without (409
    /// `second_factor_required`, or 403 for a roaming session that names the tenant), a code of it makes
    /// up for that, for as long as the session lasts. A code that is sent counts as an attempt and must
    /// be right, whether it is needed or not; a wrong one counts as a failed login of the account, which
    /// takes no code (429) as long as these lock it. Permission: none.
    #[oai(path = "/auth/tenant", method = "post", operation_id = "switch_tenant")]
    async fn switch(
        &self,
        caller: Caller,
        body: Strict<SwitchBody>,
    ) -> Result<Json<Access>, Problem> {
        let sessions = self.crm.sessions();
        let (tenant, code) = (&body.0.tenant, body.0.code.as_deref());
        let (token, expires_in) = sessions.switch(&caller, tenant, code).await?;
        Ok(Json(Access {
            access_token: token.expose_secret().to_owned(),
            expires_in,
        }))
    }

    /// List the sessions of a member
    ///
    /// Those in the caller's tenant. Permission: `members.read`.
    #[oai(
        path = "/members/:user_id/sessions",
        method = "get",
        operation_id = "list_member_sessions"
    )]
    async fn list_of(&self, caller: Caller, user_id: Path<Uuid>) -> Result<Json<List>, Problem> {
        let permit = caller.permit::<Read>("members")?;
        let user = UserId(user_id.0);
        Ok(list(self.crm.sessions().list_of(&permit, user).await?))
    }

    /// End all sessions of a member
    ///
    /// Those in the caller's tenant; one's own as by `DELETE /auth/sessions`. Refused (403
    /// `beyond_your_rights`) for another member who holds a permission that the caller does not.
    /// Permission: `members.update`.
    #[oai(
        path = "/members/:user_id/sessions",
        method = "delete",
        operation_id = "delete_member_sessions"
    )]
    async fn delete_all_of(
        &self,
        caller: Caller,
        user_id: Path<Uuid>,
    ) -> Result<NoContent, Problem> {
        let permit = caller.permit::<Update>("members")?;
        let user = UserId(user_id.0);
        self.crm.sessions().end_all_of(&permit, user).await?;
        Ok(NoContent)
    }

    /// Unlock a member
    ///
    /// Lets them log in again at once after failed attempts; their open sessions were never locked.
    /// Refused (403 `beyond_your_rights`) for another member who holds a permission that the caller does not.
    /// Permission: `members.update`.
    #[oai(
        path = "/members/:user_id/unlock",
        method = "post",
        operation_id = "unlock_member"
    )]
    async fn unlock(&self, caller: Caller, user_id: Path<Uuid>) -> Result<NoContent, Problem> {
        let permit = caller.permit::<Update>("members")?;
        let user = UserId(user_id.0);
        self.crm.accounts().unlock(&permit, user).await?;
        Ok(NoContent)
    }

    /// End one session of a member
    ///
    /// One in the caller's tenant; of one's own as by `DELETE /auth/sessions/{id}`. Refused (403
    /// `beyond_your_rights`) for another member who holds a permission that the caller does not.
    /// Permission: `members.update`.
    #[oai(
        path = "/members/:user_id/sessions/:session_id",
        method = "delete",
        operation_id = "delete_member_session"
    )]
    async fn delete_of(
        &self,
        caller: Caller,
        user_id: Path<Uuid>,
        session_id: Path<Uuid>,
    ) -> Result<NoContent, Problem> {
        let permit = caller.permit::<Update>("members")?;
        let (user, session) = (UserId(user_id.0), FamilyId(session_id.0));
        self.crm.sessions().end_of(&permit, user, session).await?;
        Ok(NoContent)
    }
}

/// The operation on published keys.
pub(crate) struct Keys {
    pub(crate) crm: Crm,
}

#[OpenApi(prefix_path = "/.well-known", tag = "Tag::Auth")]
impl Keys {
    /// Get the public keys
    ///
    /// A JWK Set (RFC 7517) of the keys that sign access tokens now, did until lately, or will soon;
    /// empty while the installation signs with HS256. Ask again when a token names a `kid` that is
    /// not among them. Needs no credential.
    #[oai(path = "/jwks.json", method = "get", operation_id = "get_public_keys")]
    async fn get(&self) -> Response<Json<KeySet>> {
        let mut published = self.crm.token_keys().published();
        let keys = match published["keys"].take() {
            Value::Array(keys) => keys,
            _ => Vec::new(),
        };
        Response::new(Json(KeySet { keys })).header("cache-control", "public, max-age=60")
    }
}

fn list(sessions: Vec<OpenSession>) -> Json<List> {
    let data = sessions.into_iter().map(Reply::from).collect();
    Json(List { data })
}

impl From<OpenSession> for Reply {
    fn from(session: OpenSession) -> Self {
        Self {
            id: session.id.0,
            tenant: session.tenant.map(Tenant::from),
            roaming: session.roaming,
            created_at: Instant(session.created_at),
            last_used_at: Instant(session.last_used_at),
            expires_at: Instant(session.expires_at),
            address: session.address,
            user_agent: session.user_agent,
            current: session.current,
            impersonator: session.impersonator,
        }
    }
}
