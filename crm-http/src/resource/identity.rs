//! Logging in at a tenant's identity provider, and the identities of one's own there.

use std::collections::HashMap;

use crm_core::Crm;
use crm_core::id::{IdentityId, ProviderId};
use crm_core::identity::{OwnerProof, ProviderProof, UserIdentity};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{Object, OpenApi};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use uuid::Uuid;

use super::auth::{Tenant, Tokens};
use crate::credential::{Caller, Origin};
use crate::payload::Strict;
use crate::problem::Problem;
use crate::wire::{Created, Instant, NoContent, Tag};

/// The operations on logins at identity providers.
pub(crate) struct Identities {
    pub(crate) crm: Crm,
}

/// A login at a provider is to begin.
#[derive(Object)]
#[oai(rename = "ProviderLoginBegin", deny_unknown_fields)]
struct BeginBody {
    /// Where the provider sends the browser back to: one of those it was declared with. May be left
    /// out when that is one only.
    #[oai(validator(max_length = 500))]
    redirect_uri: Option<String>,
}

/// A login that has begun.
#[derive(Object)]
#[oai(rename = "ProviderLogin")]
struct BeginReply {
    /// Where to send the browser.
    authorization_url: String,
    /// What finishes the login. Keep it in the client that began, such as in a page's
    /// `sessionStorage`, and put it in no URL: it shows that who finishes is who began.
    login_secret: String,
    /// Seconds that the login may take.
    expires_in: u64,
}

/// A nonce.
#[derive(Object)]
#[oai(rename = "ProviderNonce")]
struct NonceReply {
    /// What the ID token is to carry.
    nonce: String,
    /// Seconds that it holds.
    expires_in: u64,
}

/// What the browser came back with, and the secret it went with.
#[derive(Object)]
#[oai(rename = "ProviderLoginFinish", deny_unknown_fields)]
struct FinishBody {
    /// The secret that the login began with.
    #[oai(validator(max_length = 1000))]
    login_secret: String,
    /// `state` of the URL that the browser came back to.
    #[oai(validator(max_length = 200))]
    state: String,
    /// `code` of it.
    #[oai(validator(max_length = 4000))]
    code: String,
    /// `iss` of it, if there is one (RFC 9207).
    #[oai(validator(max_length = 500))]
    iss: Option<String>,
}

/// An ID token that the client got by itself.
#[derive(Object)]
#[oai(rename = "ProviderToken", deny_unknown_fields)]
struct TokenBody {
    /// The token.
    #[oai(validator(max_length = 20000))]
    id_token: String,
    /// The nonce that it was asked for with.
    #[oai(validator(max_length = 1000))]
    nonce: String,
}

/// Providers of a tenant's, the oldest first.
#[derive(Object)]
#[oai(rename = "LoginProviderList")]
struct LoginProviders {
    data: Vec<LoginProvider>,
}

/// A provider by which members log in.
#[derive(Object)]
struct LoginProvider {
    /// Its id, by which a login begins.
    id: Uuid,
    name: String,
}

/// One's password or passkey, and what the browser came back with.
#[derive(Object)]
#[oai(rename = "IdentityLink", deny_unknown_fields)]
struct LinkBody {
    /// The password of one's account; or else `passkey_token` and `credential`.
    password: Option<String>,
    /// The token of a challenge for any passkey (`POST /auth/passkeys/login/options`).
    #[oai(validator(max_length = 100))]
    passkey_token: Option<String>,
    /// What `navigator.credentials.get` gave for it, as its `toJSON()` writes it.
    credential: Option<HashMap<String, Any<Value>>>,
    /// The secret that the login began with.
    #[oai(validator(max_length = 1000))]
    login_secret: String,
    /// `state` of the URL that the browser came back to.
    #[oai(validator(max_length = 200))]
    state: String,
    /// `code` of it.
    #[oai(validator(max_length = 4000))]
    code: String,
    /// `iss` of it, if there is one (RFC 9207).
    #[oai(validator(max_length = 500))]
    iss: Option<String>,
}

/// One's password or passkey, and an ID token that the client got by itself.
#[derive(Object)]
#[oai(rename = "IdentityLinkByToken", deny_unknown_fields)]
struct LinkTokenBody {
    /// The password of one's account; or else `passkey_token` and `credential`.
    password: Option<String>,
    /// The token of a challenge for any passkey (`POST /auth/passkeys/login/options`).
    #[oai(validator(max_length = 100))]
    passkey_token: Option<String>,
    /// What `navigator.credentials.get` gave for it, as its `toJSON()` writes it.
    credential: Option<HashMap<String, Any<Value>>>,
    /// The token.
    #[oai(validator(max_length = 20000))]
    id_token: String,
    /// The nonce that it was asked for with.
    #[oai(validator(max_length = 1000))]
    nonce: String,
}

/// A provider's name for somebody.
#[derive(Object)]
#[oai(rename = "UserIdentity")]
struct Reply {
    id: Uuid,
    /// The tenant it opens.
    tenant: Tenant,
    provider_id: Uuid,
    /// The provider's name.
    provider: String,
    /// What the provider calls them (`sub`).
    subject: String,
    /// The address that the provider named when the two were linked.
    #[oai(nullable)]
    email: Option<String>,
    created_at: Instant,
    /// The latest login by it.
    #[oai(nullable)]
    last_used_at: Option<Instant>,
}

/// Identities, the oldest first; at most 200.
#[derive(Object)]
#[oai(rename = "UserIdentityList")]
struct List {
    data: Vec<Reply>,
}

/// What the body of a login or a link says that the provider gave.
macro_rules! by_code {
    ($body:expr) => {
        ProviderProof::Code {
            login_secret: $body.login_secret.into(),
            code: $body.code.into(),
            state: $body.state,
            issuer: $body.iss,
        }
    };
}

macro_rules! by_token {
    ($body:expr) => {
        ProviderProof::IdToken {
            id_token: $body.id_token.into(),
            nonce: $body.nonce,
        }
    };
}

/// What the body of a link shows of its sender.
macro_rules! owner {
    ($body:expr) => {
        owner_proof($body.password, $body.passkey_token, $body.credential)
    };
}

/// One of the two, and not both.
fn owner_proof(
    password: Option<String>,
    passkey_token: Option<String>,
    credential: Option<HashMap<String, Any<Value>>>,
) -> Option<OwnerProof> {
    match (password, passkey_token, credential) {
        (Some(password), None, None) => Some(OwnerProof::Password(password.into())),
        (None, Some(token), Some(members)) => {
            let members = members.into_iter().map(|(name, Any(value))| (name, value));
            Some(OwnerProof::Passkey {
                token: token.into(),
                credential: members.collect(),
            })
        }
        _ => None,
    }
}

#[OpenApi(prefix_path = "/api/v1/auth", tag = "Tag::Auth")]
impl Identities {
    /// List the identity providers of a login page
    ///
    /// Those that let members of a tenant in. Needs no credential. A tenant that there is not, is
    /// suspended, or has none gets the same empty list.
    #[oai(path = "/oidc", method = "get", operation_id = "list_login_providers")]
    async fn login_providers(
        &self,
        /// The tenant's name, as a login takes it.
        #[oai(validator(max_length = 100))]
        tenant: Query<String>,
    ) -> Result<Json<LoginProviders>, Problem> {
        let providers = self.crm.accounts().login_providers(&tenant.0).await?;
        let data = providers.into_iter().map(|provider| LoginProvider {
            id: provider.id.0,
            name: provider.name,
        });
        Ok(Json(LoginProviders {
            data: data.collect(),
        }))
    }

    /// Begin a login at an identity provider
    ///
    /// By OpenID Connect with an authorization code and PKCE. Needs no credential. Send the browser to
    /// the URL, and finish with what it comes back with.
    #[oai(
        path = "/oidc/:provider/start",
        method = "post",
        operation_id = "begin_provider_login"
    )]
    async fn begin(
        &self,
        provider: Path<Uuid>,
        body: Strict<BeginBody>,
    ) -> Result<Json<BeginReply>, Problem> {
        let accounts = self.crm.accounts();
        let redirect_uri = body.0.redirect_uri.as_deref();
        let begun = accounts.begin_provider_login(ProviderId(provider.0), redirect_uri);
        let begun = begun.await?;
        Ok(Json(BeginReply {
            authorization_url: begun.authorization_url,
            login_secret: begun.login_secret.expose_secret().to_owned(),
            expires_in: begun.expires_in,
        }))
    }

    /// Finish a login at an identity provider
    ///
    /// Needs the secret that it began with, and no other credential; works once. The session is bound
    /// to the provider's tenant: it moves to no other, and changes nothing of the user's account. A
    /// second factor is asked for as after a password.
    #[oai(
        path = "/oidc/:provider/callback",
        method = "post",
        operation_id = "finish_provider_login"
    )]
    async fn finish(
        &self,
        origin: Origin,
        provider: Path<Uuid>,
        body: Strict<FinishBody>,
    ) -> Result<Json<Tokens>, Problem> {
        let proof = by_code!(body.0);
        let accounts = origin.accounts(&self.crm);
        let session = accounts.provider_login(ProviderId(provider.0), proof, origin.0);
        Ok(Json(session.await?.into()))
    }

    /// Get a nonce for an ID token
    ///
    /// For applications that get their ID token from the provider by themselves. Needs no credential.
    #[oai(
        path = "/oidc/:provider/nonce",
        method = "post",
        operation_id = "create_provider_nonce"
    )]
    async fn nonce(&self, provider: Path<Uuid>) -> Result<Json<NonceReply>, Problem> {
        let accounts = self.crm.accounts();
        let made = accounts.provider_nonce(ProviderId(provider.0)).await?;
        Ok(Json(NonceReply {
            nonce: made.nonce,
            expires_in: made.expires_in,
        }))
    }

    /// Log in with an ID token
    ///
    /// One of a provider of the tenant's, with a nonce from here; works once. The session is as after
    /// a login that began here. Needs no other credential.
    #[oai(
        path = "/oidc/:provider/token",
        method = "post",
        operation_id = "login_with_id_token"
    )]
    async fn token(
        &self,
        origin: Origin,
        provider: Path<Uuid>,
        body: Strict<TokenBody>,
    ) -> Result<Json<Tokens>, Problem> {
        let proof = by_token!(body.0);
        let accounts = origin.accounts(&self.crm);
        let session = accounts.provider_login(ProviderId(provider.0), proof, origin.0);
        Ok(Json(session.await?.into()))
    }

    /// Link an identity
    ///
    /// Of a provider of the tenant's, by a login that began there: from now on it logs the caller in
    /// to the tenant. Needs the password and a session that began with it, or one of the caller's
    /// passkeys. Permission: none.
    #[oai(
        path = "/oidc/:provider/link",
        method = "post",
        operation_id = "link_identity"
    )]
    async fn link(
        &self,
        caller: Caller,
        provider: Path<Uuid>,
        body: Strict<LinkBody>,
    ) -> Result<Created<Reply>, Problem> {
        let (owner, proof) = (owner!(body.0), by_code!(body.0));
        let (accounts, provider) = (self.crm.accounts(), ProviderId(provider.0));
        let identity = accounts.link_identity(&caller, provider, owner, proof);
        Ok(Created(identity.await?.into()))
    }

    /// Link an identity by an ID token
    ///
    /// As by a login, for applications that get their ID token by themselves. Permission: none.
    #[oai(
        path = "/oidc/:provider/link-token",
        method = "post",
        operation_id = "link_identity_by_token"
    )]
    async fn link_token(
        &self,
        caller: Caller,
        provider: Path<Uuid>,
        body: Strict<LinkTokenBody>,
    ) -> Result<Created<Reply>, Problem> {
        let (owner, proof) = (owner!(body.0), by_token!(body.0));
        let (accounts, provider) = (self.crm.accounts(), ProviderId(provider.0));
        let identity = accounts.link_identity(&caller, provider, owner, proof);
        Ok(Created(identity.await?.into()))
    }

    /// List my identities
    ///
    /// Those of the caller in all tenants; none for an API key. Permission: none.
    #[oai(path = "/identities", method = "get", operation_id = "list_identities")]
    async fn list(&self, caller: Caller) -> Result<Json<List>, Problem> {
        let identities = self.crm.accounts().identities(&caller).await?;
        let data = identities.into_iter().map(Reply::from).collect();
        Ok(Json(List { data }))
    }

    /// Unlink one of my identities
    ///
    /// The sessions that it opened end. Needs a session that began with the password.
    /// Permission: none.
    #[oai(
        path = "/identities/:id",
        method = "delete",
        operation_id = "unlink_identity"
    )]
    async fn unlink(&self, caller: Caller, id: Path<Uuid>) -> Result<NoContent, Problem> {
        let accounts = self.crm.accounts();
        accounts.unlink_identity(&caller, IdentityId(id.0)).await?;
        Ok(NoContent)
    }
}

impl From<UserIdentity> for Reply {
    fn from(identity: UserIdentity) -> Self {
        Self {
            id: identity.id.0,
            tenant: identity.tenant.into(),
            provider_id: identity.provider_id.0,
            provider: identity.provider,
            subject: identity.subject,
            email: identity.email,
            created_at: identity.created_at.into(),
            last_used_at: identity.last_used_at.map(Instant),
        }
    }
}
