//! The identity providers of the tenant, by which its members log in.

use crm_core::id::ProviderId;
use crm_core::identity::{IdentityProvider, ProviderSettings};
use crm_core::{Create, Crm, Delete, Read, Update};
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use crate::credential::Caller;
use crate::payload::Strict;
use crate::problem::Problem;
use crate::wire::{Created, Instant, NoContent, Tag};

/// The operations on identity providers.
pub(crate) struct IdentityProviders {
    pub(crate) crm: Crm,
}

/// An OpenID Connect provider of the tenant.
#[derive(Object)]
#[oai(rename = "IdentityProvider")]
struct Reply {
    id: Uuid,
    /// Its name, unique in the tenant.
    name: String,
    /// The issuer that its tokens name, to the letter; it never changes.
    issuer: String,
    /// This application's name at the provider.
    client_id: String,
    /// Whether there is a secret to go with it.
    has_client_secret: bool,
    /// Where logins may return to.
    redirect_uris: Vec<String>,
    /// The domains whose verified addresses are believed.
    domains: Vec<String>,
    /// The role of whoever becomes a member by logging in; null when nobody does.
    #[oai(nullable)]
    join_role_id: Option<Uuid>,
    /// Whether a second factor that the provider asked for (`mfa` in `amr`) counts as the one that the
    /// tenant asks for.
    trusts_second_factor: bool,
    /// Whether it lets anybody in.
    enabled: bool,
    created_at: Instant,
    /// The latest login.
    #[oai(nullable)]
    last_used_at: Option<Instant>,
}

/// The identity providers of the tenant.
#[derive(Object)]
#[oai(rename = "IdentityProviderList")]
struct List {
    /// All of them, the oldest first.
    data: Vec<Reply>,
}

/// A new identity provider.
#[derive(Object)]
#[oai(rename = "IdentityProviderCreate", deny_unknown_fields)]
struct CreateBody {
    /// Its name, unique in the tenant.
    #[oai(validator(max_length = 100))]
    name: String,
    /// The issuer as the provider writes it, such as `https://id.example`: its tokens and its
    /// discovery document name it to the letter. It is asked for that document now: 422 on `/issuer`
    /// (`address_refused`, `unreachable`, `no_discovery`) where nobody could log in.
    #[oai(validator(max_length = 500))]
    issuer: String,
    /// This application's name at the provider.
    #[oai(validator(max_length = 500))]
    client_id: String,
    /// The secret to go with it; never shown again. Public clients have none.
    #[oai(validator(max_length = 500))]
    client_secret: Option<String>,
    /// Where logins may return to: `https` pages, loopback addresses, schemes of applications.
    #[oai(default, validator(max_items = 20))]
    redirect_uris: Vec<String>,
    /// The domains whose verified addresses are believed. Members whose proven address is of one of
    /// them are linked at their first login; others link by themselves, with their password.
    #[oai(default, validator(max_items = 20))]
    domains: Vec<String>,
    /// The role, by name or id, of people without an account who log in with an address of one of
    /// the domains. Without one nobody becomes a member by logging in.
    #[oai(validator(max_length = 100))]
    join_role: Option<String>,
    /// Whether a second factor that the provider asked for (`mfa` in `amr`) counts as the one that the
    /// tenant asks for. One that a member has set up is asked for all the same.
    #[oai(default)]
    trusts_second_factor: bool,
    /// Whether it lets anybody in. One that is declared switched off is asked for nothing yet.
    #[oai(default = "on")]
    enabled: bool,
}

/// What an identity provider is to be from now on.
#[derive(Object)]
#[oai(rename = "IdentityProviderReplace", deny_unknown_fields)]
struct ReplaceBody {
    /// Its name, unique in the tenant.
    #[oai(validator(max_length = 100))]
    name: String,
    /// Its issuer, which never changes; may be left out.
    #[oai(validator(max_length = 500))]
    issuer: Option<String>,
    /// This application's name at the provider.
    #[oai(validator(max_length = 500))]
    client_id: String,
    /// A new secret to go with it; left out, it stays.
    #[oai(validator(max_length = 500))]
    client_secret: Option<String>,
    /// Where logins may return to.
    #[oai(validator(max_items = 20))]
    redirect_uris: Vec<String>,
    /// The domains whose verified addresses are believed.
    #[oai(validator(max_items = 20))]
    domains: Vec<String>,
    /// The role, by name or id, of whoever becomes a member by logging in; left out, nobody does.
    #[oai(validator(max_length = 100))]
    join_role: Option<String>,
    /// Whether a second factor that the provider asked for counts as the one that the tenant asks for.
    trusts_second_factor: bool,
    /// Whether it lets anybody in. When it is switched off, the sessions that it opened end; when it is
    /// switched on, it is asked for its discovery document.
    enabled: bool,
}

fn on() -> bool {
    true
}

/// The settings of either body.
macro_rules! settings {
    ($body:expr) => {
        ProviderSettings {
            name: $body.name,
            client_id: $body.client_id,
            client_secret: $body.client_secret.map(Into::into),
            redirect_uris: $body.redirect_uris,
            domains: $body.domains,
            join_role: $body.join_role,
            trusts_second_factor: $body.trusts_second_factor,
            enabled: $body.enabled,
        }
    };
}

#[OpenApi(prefix_path = "/api/v1/identity_providers", tag = "Tag::Auth")]
impl IdentityProviders {
    /// List the identity providers
    ///
    /// Permission: `identity_providers.read`.
    #[oai(path = "/", method = "get", operation_id = "list_identity_providers")]
    async fn list(&self, caller: Caller) -> Result<Json<List>, Problem> {
        let permit = caller.permit::<Read>("identity_providers")?;
        let providers = self.crm.identity_providers().list(&permit).await?;
        let data = providers.into_iter().map(Reply::from).collect();
        Ok(Json(List { data }))
    }

    /// Declare an identity provider
    ///
    /// By OpenID Connect. It lets members in to this tenant, as whom it says they are: whoever
    /// declares one must hold every permission. Also needs `*.*`.
    /// Permission: `identity_providers.create`.
    #[oai(path = "/", method = "post", operation_id = "create_identity_provider")]
    async fn create(
        &self,
        caller: Caller,
        body: Strict<CreateBody>,
    ) -> Result<Created<Reply>, Problem> {
        let permit = caller.permit::<Create>("identity_providers")?;
        let (issuer, settings) = (body.0.issuer, settings!(body.0));
        let providers = self.crm.identity_providers();
        let made = providers.create(&permit, &issuer, settings).await?;
        Ok(Created(made.into()))
    }

    /// Get an identity provider
    ///
    /// Permission: `identity_providers.read`.
    #[oai(path = "/:id", method = "get", operation_id = "get_identity_provider")]
    async fn get(&self, caller: Caller, id: Path<Uuid>) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Read>("identity_providers")?;
        let providers = self.crm.identity_providers();
        let provider = providers.get(&permit, ProviderId(id.0)).await?;
        Ok(Json(provider.into()))
    }

    /// Replace an identity provider
    ///
    /// All but its issuer. Whoever does must hold every permission. Also needs `*.*`.
    /// Permission: `identity_providers.update`.
    #[oai(
        path = "/:id",
        method = "put",
        operation_id = "replace_identity_provider"
    )]
    async fn replace(
        &self,
        caller: Caller,
        id: Path<Uuid>,
        body: Strict<ReplaceBody>,
    ) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Update>("identity_providers")?;
        let (issuer, settings) = (body.0.issuer, settings!(body.0));
        let (providers, id) = (self.crm.identity_providers(), ProviderId(id.0));
        let provider = providers.update(&permit, id, issuer.as_deref(), settings);
        Ok(Json(provider.await?.into()))
    }

    /// Remove an identity provider
    ///
    /// With the identities at it; the sessions that it opened end. Members stay members. Whoever does
    /// must hold every permission. Also needs `*.*`.
    /// Permission: `identity_providers.delete`.
    #[oai(
        path = "/:id",
        method = "delete",
        operation_id = "delete_identity_provider"
    )]
    async fn delete(&self, caller: Caller, id: Path<Uuid>) -> Result<NoContent, Problem> {
        let permit = caller.permit::<Delete>("identity_providers")?;
        let providers = self.crm.identity_providers();
        providers.delete(&permit, ProviderId(id.0)).await?;
        Ok(NoContent)
    }
}

impl From<IdentityProvider> for Reply {
    fn from(provider: IdentityProvider) -> Self {
        Self {
            id: provider.id.0,
            name: provider.name,
            issuer: provider.issuer,
            client_id: provider.client_id,
            has_client_secret: provider.has_client_secret,
            redirect_uris: provider.redirect_uris,
            domains: provider.domains,
            join_role_id: provider.join_role_id.map(|id| id.0),
            trusts_second_factor: provider.trusts_second_factor,
            enabled: provider.enabled,
            created_at: provider.created_at.into(),
            last_used_at: provider.last_used_at.map(Instant),
        }
    }
}
