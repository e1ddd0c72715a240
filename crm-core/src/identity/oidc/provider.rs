//! The identity providers of a tenant, declared by those who hold every right in it: who says whom
//! a provider lets in can be anybody there.

use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::{Value as Json, json};
use url::{Host, Url};

use super::super::account::gather;
use super::super::email::is_domain;
use super::super::{Sealed, api_key, check_name};
use super::end;
use super::enter::OBJECT;
use super::probe;
use crate::crm::Core;
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, FieldError, Result};
use crate::id::{FamilyId, ProviderId, RoleId, TenantId};
use crate::journal;
use crate::policy::{self, Grants};
use crate::scope::{Create, Delete, Permit, Read, Scope, Update};

/// Most providers of a tenant.
const MOST: i64 = 10;
/// Most redirect URIs and domains of one.
const MOST_ITEMS: usize = 20;
const MOST_BYTES: usize = 500;

/// An identity provider, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdentityProvider {
    /// Its id.
    pub id: ProviderId,
    /// Its name, unique in the tenant.
    pub name: String,
    /// The issuer that its tokens name, to the letter; it never changes.
    pub issuer: String,
    /// This application's name at the provider.
    pub client_id: String,
    /// Whether there is a secret to go with it; public clients have none.
    pub has_client_secret: bool,
    /// Where logins may return to.
    pub redirect_uris: Vec<String>,
    /// The domains whose verified addresses are believed.
    pub domains: Vec<String>,
    /// The role of whoever becomes a member by logging in; `None` when nobody does.
    pub join_role_id: Option<RoleId>,
    /// Whether a second factor that the provider asked for counts as the one that the tenant asks
    /// for.
    pub trusts_second_factor: bool,
    /// Whether it lets anybody in.
    pub enabled: bool,
    /// When it was declared.
    pub created_at: DateTime<Utc>,
    /// The latest login.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// What an identity provider is to be.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// Its name, 1 to 100 characters.
    pub name: String,
    /// This application's name at the provider.
    pub client_id: String,
    /// The secret to go with it. For one that has a secret, `None` leaves it as it is.
    pub client_secret: Option<SecretString>,
    /// Where logins may return to.
    pub redirect_uris: Vec<String>,
    /// The domains whose verified addresses are believed; none unless said.
    pub domains: Vec<String>,
    /// The role, by name or id, of whoever becomes a member by logging in; `None` when nobody does.
    pub join_role: Option<String>,
    /// Whether a second factor that the provider asked for (`amr` holds `mfa`) counts as the one
    /// that the tenant asks for. A member's own is asked for all the same.
    pub trusts_second_factor: bool,
    /// Whether it lets anybody in.
    pub enabled: bool,
}

/// The identity providers of the tenant that a permit is for.
#[derive(Clone)]
pub struct IdentityProviders {
    pub(super) core: Arc<Core>,
}

impl IdentityProviders {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// All providers, the oldest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a permit of another object.
    pub async fn list(&self, permit: &Permit<Read>) -> Result<Vec<IdentityProvider>> {
        let scope = permit.on(OBJECT)?;
        let mut all = select();
        all.push(" ORDER BY id");
        let all = all.bind(scope.tenant(), ColumnType::Uuid);
        let rows = self.core.db.fetch_all(all).await?;
        rows.into_iter().map(read).collect()
    }

    /// One provider.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the tenant has no such provider.
    pub async fn get(&self, permit: &Permit<Read>, id: ProviderId) -> Result<IdentityProvider> {
        let scope = permit.on(OBJECT)?;
        let row = self.core.db.fetch_optional(one(scope, id)).await?;
        read(row.ok_or(Error::NotFound)?)
    }

    /// Declares a provider whose tokens name `issuer`. One that is switched on is asked for its
    /// discovery document first.
    ///
    /// # Errors
    /// [`Error::Refused`] `forbidden` for an actor who does not hold every right of the tenant for good;
    /// [`Error::Invalid`] for values that break a rule, and on `issuer` for one at which nobody could
    /// log in: `address_refused`, `unreachable`, `no_discovery`; [`Error::Conflict`] `already_exists`,
    /// `too_many_providers`; [`Error::Unavailable`].
    pub async fn create(
        &self,
        permit: &Permit<Create>,
        issuer: &str,
        settings: ProviderSettings,
    ) -> Result<IdentityProvider> {
        let scope = permit.on(OBJECT)?.clone();
        check_holds_all(&scope)?;
        let mut errors = Vec::new();
        let plain = self.core.egress.allows_plain_http();
        let issuer = gather(&mut errors, check_issuer(issuer, plain))?;
        let settings = check(&mut errors, settings)?;
        if settings.enabled {
            probe::check(&self.core, scope.tenant(), &issuer).await?;
        }
        let id = ProviderId(scope.clock().new_id());
        let sealed = self.sealed(id, settings.client_secret.as_ref())?;
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                refuse_more(tx, &scope).await?;
                let role = join_role(tx, &scope, settings.join_role.clone()).await?;
                let insert = Sql::new(
                    "INSERT INTO identity_providers (tenant_id, id, name, issuer, client_id, \
                     client_secret, redirect_uris, domains, join_role_id, trusts_second_factor, \
                     enabled, created_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
                     ON CONFLICT (tenant_id, name) DO NOTHING",
                )
                .bind(scope.tenant(), ColumnType::Uuid)
                .bind(id, ColumnType::Uuid)
                .bind(settings.name.as_str(), ColumnType::Text)
                .bind(issuer, ColumnType::Text)
                .bind(settings.client_id.as_str(), ColumnType::Text)
                .bind(sealed, ColumnType::Bytes)
                .bind(json!(settings.redirect_uris), ColumnType::Json)
                .bind(json!(settings.domains), ColumnType::Json)
                .bind(role, ColumnType::Uuid)
                .bind(settings.trusts_second_factor, ColumnType::Bool)
                .bind(settings.enabled, ColumnType::Bool)
                .bind(scope.clock().now(), ColumnType::Instant);
                if tx.execute(insert).await? == 0 {
                    return Err(taken());
                }
                let made = present(tx, &scope, id).await?;
                let after = Some(shown(&made)?);
                audit(tx, &scope, "identity_providers.create", id, (None, after)).await?;
                Ok(made)
            })
        });
        write.await
    }

    /// Replaces what a provider is, but for its issuer, which may be named all the same. When it is
    /// switched off, the sessions that it vouched for end; when it is switched on, it is asked for
    /// its discovery document first.
    ///
    /// # Errors
    /// As [`create`](Self::create); [`Error::NotFound`] when the tenant has no such provider;
    /// [`Error::Invalid`] on `issuer` for another one.
    pub async fn update(
        &self,
        permit: &Permit<Update>,
        id: ProviderId,
        issuer: Option<&str>,
        settings: ProviderSettings,
    ) -> Result<IdentityProvider> {
        let scope = permit.on(OBJECT)?.clone();
        let known = self.core.db.fetch_optional(one(&scope, id)).await?;
        let known = read(known.ok_or(Error::NotFound)?)?;
        check_holds_all(&scope)?;
        let mut errors = Vec::new();
        if issuer.is_some_and(|issuer| issuer != known.issuer) {
            let message = "The issuer of a provider never changes; declare another one.";
            errors.push(FieldError::new("issuer", "immutable", message));
        }
        let settings = check(&mut errors, settings)?;
        if settings.enabled && !known.enabled {
            probe::check(&self.core, scope.tenant(), &known.issuer).await?;
        }
        let sealed = self.sealed(id, settings.client_secret.as_ref())?;
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let old = present(tx, &scope, id).await?;
                let role = join_role(tx, &scope, settings.join_role.clone()).await?;
                refuse_name(tx, &scope, id, &settings.name).await?;
                let update = Sql::new(
                    "UPDATE identity_providers SET name = $1, client_id = $2, \
                     client_secret = coalesce($3, client_secret), redirect_uris = $4, domains = $5, \
                     join_role_id = $6, trusts_second_factor = $7, enabled = $8 \
                     WHERE tenant_id = $9 AND id = $10",
                )
                .bind(settings.name.as_str(), ColumnType::Text)
                .bind(settings.client_id.as_str(), ColumnType::Text)
                .bind(sealed, ColumnType::Bytes)
                .bind(json!(settings.redirect_uris), ColumnType::Json)
                .bind(json!(settings.domains), ColumnType::Json)
                .bind(role, ColumnType::Uuid)
                .bind(settings.trusts_second_factor, ColumnType::Bool)
                .bind(settings.enabled, ColumnType::Bool)
                .bind(scope.tenant(), ColumnType::Uuid)
                .bind(id, ColumnType::Uuid);
                tx.execute(update).await?;
                let new = present(tx, &scope, id).await?;
                let ended = match new.enabled {
                    true => Vec::new(),
                    false => end(tx, scope.clock(), (scope.tenant(), id), None).await?,
                };
                let states = (Some(shown(&old)?), Some(shown(&new)?));
                audit(tx, &scope, "identity_providers.update", id, states).await?;
                Ok((new, ended))
            })
        });
        let (provider, ended) = write.await?;
        self.forget(ended);
        Ok(provider)
    }

    /// Removes a provider, with the identities at it; the sessions that it vouched for end. Who
    /// became a member by it stays one.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the tenant has no such provider; [`Error::Refused`] `forbidden` for an
    /// actor who does not hold every right of the tenant for good.
    pub async fn delete(&self, permit: &Permit<Delete>, id: ProviderId) -> Result<()> {
        let scope = permit.on(OBJECT)?.clone();
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let old = present(tx, &scope, id).await?;
                check_holds_all(&scope)?;
                let delete =
                    Sql::new("DELETE FROM identity_providers WHERE tenant_id = $1 AND id = $2")
                        .bind(scope.tenant(), ColumnType::Uuid)
                        .bind(id, ColumnType::Uuid);
                tx.execute(delete).await?;
                let ended = end(tx, scope.clock(), (scope.tenant(), id), None).await?;
                let states = (Some(shown(&old)?), None);
                audit(tx, &scope, "identity_providers.delete", id, states).await?;
                Ok(ended)
            })
        });
        self.forget(write.await?);
        Ok(())
    }

    fn forget(&self, ended: Vec<FamilyId>) {
        let live = &self.core.identity.live;
        ended.into_iter().for_each(|id| live.forget(id));
    }

    fn sealed(&self, id: ProviderId, secret: Option<&SecretString>) -> Result<Option<Vec<u8>>> {
        let seal = |secret: &SecretString| {
            let secret = secret.expose_secret().as_bytes();
            self.core.identity.seal.seal(&label(id), secret)
        };
        secret.map(seal).transpose()
    }
}

/// Where the clients' secrets lie.
pub(in crate::identity) const SEALED: Sealed = Sealed {
    words: (
        "client secret of an identity provider",
        "client secrets of identity providers",
    ),
    table: OBJECT,
    column: "client_secret",
    optional: true,
    key: &[("tenant_id", ColumnType::Uuid), ("id", ColumnType::Uuid)],
    label: |mut row| {
        let _tenant: TenantId = row.uuid()?;
        Ok(label(row.uuid()?))
    },
};

/// The place that a client's secret is sealed for.
pub(super) fn label(id: ProviderId) -> String {
    format!("identity provider:{id}")
}

/// A stored list of texts.
pub(super) fn texts(stored: Json, column: &'static str) -> Result<Vec<String>> {
    serde_json::from_value(stored).map_err(|_| Error::Inconsistent {
        table: OBJECT.into(),
        column: column.into(),
    })
}

/// Refuses whoever lacks any right: a provider lets its declarer in as every member.
fn check_holds_all(scope: &Scope) -> Result<()> {
    policy::check_held(scope, &Grants::everything(scope.catalogue()))
}

/// An issuer (OpenID Connect Discovery 1.0 §3): an `https` URL without query and fragment.
fn check_issuer(text: &str, plain: bool) -> Result<String> {
    let url = Url::parse(text).ok().filter(|url| {
        (url.scheme() == "https" || plain && url.scheme() == "http")
            && url.host().is_some()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    let odd = |byte: u8| !byte.is_ascii_graphic() || byte == b'\\';
    if url.is_none() || text.len() > MOST_BYTES || text.bytes().any(odd) {
        let message = "Write the issuer as the provider does, such as https://id.example.";
        return Err(Error::invalid("issuer", "malformed", message));
    }
    Ok(text.to_owned())
}

/// The settings in the form they are stored in.
fn check(errors: &mut Vec<FieldError>, settings: ProviderSettings) -> Result<ProviderSettings> {
    let name = gather(errors, check_name("name", &settings.name))?;
    let is_text =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if !is_text(&settings.client_id) || settings.client_id.len() > MOST_BYTES {
        let message = "Give the client id as the provider shows it.";
        errors.push(FieldError::new("client_id", "malformed", message));
    }
    if let Some(secret) = &settings.client_secret
        && (!is_text(secret.expose_secret()) || secret.expose_secret().len() > MOST_BYTES)
    {
        let message = "Give the client secret as the provider shows it.";
        errors.push(FieldError::new("client_secret", "malformed", message));
    }
    let mut list = |field: &str, items: &[String], fits: &dyn Fn(&str) -> bool, message: &str| {
        if items.len() > MOST_ITEMS {
            errors.push(FieldError::new(field, "too_many", "Give at most 20."));
        }
        for (index, item) in items.iter().enumerate() {
            if !fits(item) {
                errors.push(FieldError {
                    pointer: format!("/{field}/{index}"),
                    code: "malformed",
                    message: message.to_owned(),
                });
            }
        }
    };
    let message = "Write https://app.example/path, a loopback address, or a scheme of the \
                   application's own such as com.example.app:/path; without a fragment.";
    list(
        "redirect_uris",
        &settings.redirect_uris,
        &is_redirect,
        message,
    );
    let domains = settings.domains.iter();
    let domains: Vec<_> = domains
        .map(|domain| domain.trim().to_ascii_lowercase())
        .collect();
    let message = "Write a domain such as example.com.";
    list("domains", &domains, &is_domain, message);
    if !errors.is_empty() {
        return Err(Error::Invalid(std::mem::take(errors)));
    }
    Ok(ProviderSettings {
        name,
        domains,
        ..settings
    })
}

/// Whether a browser may be sent back there: pages by `https`, and applications on the user's
/// device by a loopback address or a scheme named after a domain (RFC 8252 §7).
fn is_redirect(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else {
        return false;
    };
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    };
    let fits = match url.scheme() {
        "https" => url.host().is_some(),
        "http" => loopback,
        other => other.contains('.'),
    };
    fits && text.len() <= MOST_BYTES
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
}

async fn refuse_more(tx: &mut Tx<'_>, scope: &Scope) -> Result<()> {
    let count = Sql::new("SELECT COUNT(*) FROM identity_providers WHERE tenant_id = $1")
        .bind(scope.tenant(), ColumnType::Uuid);
    if tx.number(count).await? < MOST {
        return Ok(());
    }
    Err(Error::conflict(
        "too_many_providers",
        "this tenant has 10 identity providers; remove one first",
    ))
}

async fn refuse_name(tx: &mut Tx<'_>, scope: &Scope, id: ProviderId, name: &str) -> Result<()> {
    let other = Sql::new(
        "SELECT id FROM identity_providers WHERE tenant_id = $1 AND name = $2 AND id <> $3",
    )
    .bind(scope.tenant(), ColumnType::Uuid)
    .bind(name, ColumnType::Text)
    .bind(id, ColumnType::Uuid)
    .returns(&[ColumnType::Uuid]);
    match tx.fetch_optional(other).await? {
        None => Ok(()),
        Some(_) => Err(taken()),
    }
}

fn taken() -> Error {
    Error::conflict("already_exists", "there is a provider of this name already")
}

async fn join_role(tx: &mut Tx<'_>, scope: &Scope, role: Option<String>) -> Result<Option<RoleId>> {
    match role {
        None => Ok(None),
        Some(role) => {
            let found = api_key::find_role(tx, scope.tenant(), "join_role", role).await;
            found.map(Some)
        }
    }
}

async fn present(tx: &mut Tx<'_>, scope: &Scope, id: ProviderId) -> Result<IdentityProvider> {
    let row = tx.fetch_optional(one(scope, id)).await?;
    read(row.ok_or(Error::NotFound)?)
}

async fn audit(
    tx: &mut Tx<'_>,
    scope: &Scope,
    action: &str,
    id: ProviderId,
    (before, after): (Option<Json>, Option<Json>),
) -> Result<()> {
    let entity = (OBJECT, Some(id.to_string()));
    journal::audit(tx, scope, action, entity, before, after).await
}

/// As audit rows have it.
fn shown(provider: &IdentityProvider) -> Result<Json> {
    serde_json::to_value(provider).map_err(Error::internal)
}

fn one(scope: &Scope, id: ProviderId) -> Sql {
    let mut one = select();
    one.push(" AND id = $2");
    one.bind(scope.tenant(), ColumnType::Uuid)
        .bind(id, ColumnType::Uuid)
}

fn select() -> Sql {
    use ColumnType::{Bool, Instant, Json, Text, Uuid};
    Sql::new(
        "SELECT id, name, issuer, client_id, client_secret IS NOT NULL, redirect_uris, domains, \
         join_role_id, trusts_second_factor, enabled, created_at, last_used_at \
         FROM identity_providers WHERE tenant_id = $1",
    )
    .returns(&[
        Uuid, Text, Text, Text, Bool, Json, Json, Uuid, Bool, Bool, Instant, Instant,
    ])
}

fn read(mut row: Row) -> Result<IdentityProvider> {
    Ok(IdentityProvider {
        id: row.uuid()?,
        name: row.text()?,
        issuer: row.text()?,
        client_id: row.text()?,
        has_client_secret: row.bool()?,
        redirect_uris: texts(row.json()?, "redirect_uris")?,
        domains: texts(row.json()?, "domains")?,
        join_role_id: row.opt_uuid()?,
        trusts_second_factor: row.bool()?,
        enabled: row.bool()?,
        created_at: row.instant()?,
        last_used_at: row.opt_instant()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_an_https_url_to_the_letter() {
        for text in [
            "https://id.example",
            "https://id.example/tenant/1/",
            "https://id.example:8443",
        ] {
            assert_eq!(check_issuer(text, false).unwrap(), text);
        }
        for text in [
            "",
            "id.example",
            "http://id.example",
            "https://id.example?x=1",
            "https://id.example#x",
            "https://user@id.example",
            "https://id.example/ x",
            "ftp://id.example",
        ] {
            assert!(check_issuer(text, false).is_err(), "{text}");
        }
        assert!(check_issuer("http://id.internal", true).is_ok());
    }

    #[test]
    fn logins_return_to_pages_by_https_and_to_applications() {
        for text in [
            "https://app.example/back?x=1",
            "http://127.0.0.1:9000/back",
            "http://[::1]/back",
            "http://localhost/back",
            "com.example.app:/back",
        ] {
            assert!(is_redirect(text), "{text}");
        }
        for text in [
            "http://app.example/back",
            "https://app.example/back#x",
            "https://user@app.example/",
            "javascript:alert(1)",
            "data:text/html,x",
            "myapp:/back",
            "/back",
            "https://app.example/ back",
            "",
        ] {
            assert!(!is_redirect(text), "{text}");
        }
    }
}
