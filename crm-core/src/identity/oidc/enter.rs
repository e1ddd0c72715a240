//! Logging in at a provider: beginning, proving, and who is let in.
//!
//! Let in is whoever a member of the provider's tenant is linked to. Somebody new is linked by
//! their address only when all of this holds: the provider says that the address is verified, the
//! tenant believes it about that domain, the account has proven the same address itself, and it is
//! a member of this tenant already. A provider that has a role for newcomers makes a *new* account
//! for an address that nobody has; one that exists is never joined to a tenant, nor given to
//! anybody.

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use url::Url;

use super::super::account::{Accounts, insert_membership};
use super::super::check_name;
use super::super::own::{self, Owner};
use super::super::refresh::{Device, Family};
use super::super::second_factor::{Reach, challenge_by};
use super::super::session::{self, Session};
use super::flow::{self, Begun};
use super::id_token::{Expected, IdToken, Subject};
use super::metadata::{self, Document};
use super::{exchange, hold, link, refused, unknown_login};
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{ProviderId, RoleId, TenantId, UserId};
use crate::journal::{self, Author};
use crate::mail::MailKind;
use crate::scope::{Actor, RequestContext};

/// The object of permissions on providers, and the entity of audit rows about them.
pub(super) const OBJECT: &str = "identity_providers";
/// What providers are asked to say.
const SCOPE: &str = "openid email profile";

/// A login that has begun at a provider.
#[derive(Debug, Clone)]
pub struct ProviderLogin {
    /// Where to send the user's browser.
    pub authorization_url: String,
    /// What finishes the login together with what the browser comes back with. It stays with
    /// whoever began: never in a URL, never with another client.
    pub login_secret: SecretString,
    /// How many seconds the login may take.
    pub expires_in: u64,
}

/// A nonce for a client that gets its ID token from the provider by itself.
#[derive(Debug, Clone)]
pub struct ProviderNonce {
    /// What the ID token has to carry.
    pub nonce: String,
    /// How many seconds it holds.
    pub expires_in: u64,
}

/// What a provider gave to whoever logs in.
#[derive(Debug, Clone)]
pub enum ProviderProof {
    /// An authorization code, at the end of a login that was begun here.
    Code {
        /// The secret that the login was begun with.
        login_secret: SecretString,
        /// The code in the URL that the browser came back to.
        code: SecretString,
        /// The state in it.
        state: String,
        /// The issuer in it (`iss`, RFC 9207), if it names one.
        issuer: Option<String>,
    },
    /// An ID token that the client got by itself, for a nonce of ours.
    IdToken {
        /// The token.
        id_token: SecretString,
        /// The nonce it carries.
        nonce: String,
    },
}

/// A provider that is on, of a tenant that is active.
pub(super) struct Provider {
    pub(super) tenant: TenantId,
    pub(super) id: ProviderId,
    pub(super) issuer: String,
    pub(super) client_id: String,
    pub(super) secret: Option<SecretString>,
    pub(super) redirect_uris: Vec<String>,
    domains: Vec<String>,
    join_role: Option<RoleId>,
    trusts_second_factor: bool,
}

/// As whom somebody is let in.
enum Entry {
    /// The member they are linked to.
    Linked(UserId),
    /// The member who has their address.
    Matched(Box<Owner>),
    /// A new one, with this role.
    New(RoleId, NewMember),
}

struct NewMember {
    id: UserId,
    email: String,
    name: String,
}

impl Provider {
    fn place(&self) -> (TenantId, ProviderId) {
        (self.tenant, self.id)
    }

    /// The subject's address, if the provider says that it is theirs and is believed about it.
    fn believed<'s>(&self, subject: &'s Subject) -> Option<&'s str> {
        let email = subject
            .email
            .as_deref()
            .filter(|_| subject.email_verified)?;
        let (_, domain) = email.rsplit_once('@')?;
        self.domains
            .iter()
            .any(|one| one == domain)
            .then_some(email)
    }
}

impl Accounts {
    /// Begins a login at a provider, which returns to one of the provider's redirect URIs; that may
    /// be left out when there is one only. Nothing is stored.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such provider, or it or its tenant is off;
    /// [`Error::Invalid`] on `redirect_uri`; [`Error::Unavailable`] when the provider is.
    pub async fn begin_provider_login(
        &self,
        provider: ProviderId,
        redirect_uri: Option<&str>,
    ) -> Result<ProviderLogin> {
        let core = &self.core;
        let provider = find(core, provider).await?;
        let redirect_uri = match (redirect_uri, provider.redirect_uris.as_slice()) {
            (None, [only]) => only,
            (Some(uri), all) if all.iter().any(|one| one == uri) => uri,
            _ => {
                let message = "Name one of the redirect URIs that the provider was declared with.";
                return Err(Error::invalid("redirect_uri", "unknown", message));
            }
        };
        let document = metadata::document(core, &provider).await?;
        let (login_secret, begun) = core
            .identity
            .federation
            .flows
            .begin(provider.place(), redirect_uri);
        Ok(ProviderLogin {
            authorization_url: authorization_url(&document, &provider, &begun),
            login_secret,
            expires_in: lifetime(),
        })
    }

    /// A nonce for a client that gets its ID token from the provider by itself. Nothing is stored.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such provider, or it or its tenant is off.
    pub async fn provider_nonce(&self, provider: ProviderId) -> Result<ProviderNonce> {
        let provider = find(&self.core, provider).await?;
        let (nonce, _) = self.core.identity.federation.flows.nonce(provider.place());
        Ok(ProviderNonce {
            nonce,
            expires_in: lifetime(),
        })
    }

    /// Opens a session for whom a provider vouches. It is bound to the provider's tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such provider, or it or its tenant is off;
    /// [`Error::Invalid`] on `login_secret`, `state` or `nonce` for a login that is unknown, used up
    /// or older than ten minutes; [`Error::Unauthenticated`]: `identity_refused` for a code or token
    /// that does not hold, `identity_not_linked` for somebody who has no account here;
    /// [`Error::SecondFactor`] for a member who has one; [`Error::Conflict`] `second_factor_missing`
    /// for one who lacks it where the tenant asks for one; [`Error::Unavailable`] when the provider
    /// is; [`Error::TooMany`].
    pub async fn provider_login(
        &self,
        provider: ProviderId,
        proof: ProviderProof,
        request: RequestContext,
    ) -> Result<Session> {
        let provider = find(&self.core, provider).await?;
        let subject = self.prove(&provider, proof).await?;
        self.limit(
            "identity",
            &format!("{} {}", provider.id, subject.id),
            &request,
        )?;
        let Some(entry) = self.entry(&provider, &subject).await? else {
            self.note_refusal(&provider, &subject, request);
            return Err(Error::unauthenticated(
                "identity_not_linked",
                "this identity belongs to no account here; log in with your password and link it",
            ));
        };
        let (device, lifetime) = self.opening(&request);
        let joins = matches!(entry, Entry::New(..));
        let (core, tenant) = (self.core.clone(), provider.tenant);
        let entering = Entering {
            opening: (device.vouched_by(provider.id), lifetime),
            core: self.core.clone(),
            provider,
            subject,
            entry,
            request,
        };
        let opened = match joins {
            true => {
                let write = core
                    .policy
                    .write(tenant, move |tx| Box::pin(entering.run(tx)));
                write.await?
            }
            false => core.db.write(move |tx| Box::pin(entering.run(tx))).await?,
        };
        core.post.wake();
        self.session(opened?)
    }

    /// Whom a provider has in front of it, by a proof that works once.
    ///
    /// # Errors
    /// Those of [`provider_login`](Self::provider_login) about the proof.
    pub(super) async fn prove(&self, provider: &Provider, proof: ProviderProof) -> Result<Subject> {
        let core = &self.core;
        let flows = &core.identity.federation.flows;
        match proof {
            ProviderProof::Code {
                login_secret,
                code,
                state,
                issuer,
            } => {
                let begun = flows.read(provider.place(), &login_secret);
                let begun = begun.ok_or_else(|| unknown_login("login_secret"))?;
                if !begun.has_state(&state) {
                    return Err(unknown_login("state"));
                }
                let document = metadata::document(core, provider).await?;
                // An answer of another provider's must not be taken for this one's (RFC 9207 §2.4).
                let is_ours = match &issuer {
                    Some(issuer) => *issuer == provider.issuer,
                    None => !document.names_issuer,
                };
                if !is_ours {
                    return Err(note(provider, "the iss of the answer"));
                }
                self.spend(provider, (login_secret, begun.expires_at), "login_secret")
                    .await?;
                let token = exchange::exchange(core, provider, &document, &begun, &code).await?;
                self.judge(provider, &token, &begun.nonce).await
            }
            ProviderProof::IdToken { id_token, nonce } => {
                let expires_at = flows.read_nonce(provider.place(), &nonce);
                let expires_at = expires_at.ok_or_else(|| unknown_login("nonce"))?;
                let token = id_token.expose_secret();
                let subject = self.judge(provider, token, &nonce).await?;
                // After the token is found to hold: whoever sees a nonce cannot use it up.
                self.spend(provider, (nonce.into(), expires_at), "nonce")
                    .await?;
                Ok(subject)
            }
        }
    }

    async fn judge(&self, provider: &Provider, token: &str, nonce: &str) -> Result<Subject> {
        let refuse = |reason: super::id_token::Refused| note(provider, reason.0);
        let token = IdToken::parse(token).map_err(refuse)?;
        let keys = metadata::keys(&self.core, provider, &token).await?;
        let key = keys.find(&token).ok_or_else(|| note(provider, "kid"))?;
        let expected = Expected {
            issuer: &provider.issuer,
            client_id: &provider.client_id,
            nonce,
            now: self.core.clock.now(),
        };
        token.verify(key, &expected).map_err(refuse)
    }

    /// Uses up what a login was begun with.
    async fn spend(
        &self,
        provider: &Provider,
        (text, expires_at): (SecretString, chrono::DateTime<chrono::Utc>),
        field: &str,
    ) -> Result<()> {
        let (clock, tenant) = (self.core.clock.clone(), provider.tenant);
        let write = self.core.db.write(move |tx| {
            Box::pin(async move { flow::spend(tx, &clock, tenant, (&text, expires_at)).await })
        });
        match write.await? {
            true => Ok(()),
            false => Err(unknown_login(field)),
        }
    }

    /// As whom the subject is let in; `None` for nobody.
    async fn entry(&self, provider: &Provider, subject: &Subject) -> Result<Option<Entry>> {
        let db = &self.core.db;
        let linked = Sql::new(
            "SELECT user_id FROM user_identities \
             WHERE tenant_id = $1 AND provider_id = $2 AND subject = $3",
        )
        .bind(provider.tenant, ColumnType::Uuid)
        .bind(provider.id, ColumnType::Uuid)
        .bind(subject.id.as_str(), ColumnType::Text)
        .returns(&[ColumnType::Uuid]);
        if let Some(mut row) = db.fetch_optional(linked).await? {
            return Ok(Some(Entry::Linked(row.uuid()?)));
        }
        let Some(email) = provider.believed(subject) else {
            return Ok(None);
        };
        if let Some(row) = db.fetch_optional(Owner::by_email(email)).await? {
            let owner = Owner::read(row)?;
            let member = Sql::new(
                "SELECT m.user_id FROM memberships m WHERE m.tenant_id = $1 AND m.user_id = $2 \
                 AND NOT EXISTS (SELECT 1 FROM user_identities i WHERE i.tenant_id = m.tenant_id \
                 AND i.user_id = m.user_id AND i.provider_id = $3)",
            )
            .bind(provider.tenant, ColumnType::Uuid)
            .bind(owner.id, ColumnType::Uuid)
            .bind(provider.id, ColumnType::Uuid)
            .returns(&[ColumnType::Uuid]);
            let matches = owner.verified && db.fetch_optional(member).await?.is_some();
            return Ok(matches.then(|| Entry::Matched(Box::new(owner))));
        }
        let Some(role) = provider.join_role else {
            return Ok(None);
        };
        let name = subject.name.as_deref().unwrap_or(email);
        let member = NewMember {
            id: UserId(self.core.clock.new_id()),
            email: email.to_owned(),
            name: check_name("name", name).unwrap_or_else(|_| email.to_owned()),
        };
        Ok(Some(Entry::New(role, member)))
    }

    /// Audits that somebody of the provider was not let in.
    fn note_refusal(&self, provider: &Provider, subject: &Subject, request: RequestContext) {
        let (core, tenant, id) = (self.core.clone(), provider.tenant, provider.id);
        let after = json!({ "subject": subject.id, "email_verified": subject.email_verified });
        self.core.identity.afterwards(async move {
            let clock = core.clock.clone();
            let write = core.db.write(move |tx| {
                Box::pin(async move {
                    // There is no user to name.
                    let author = Author {
                        clock: &clock,
                        tenant,
                        actor: Actor::Anonymous,
                        request: &request,
                    };
                    let entity = (OBJECT, Some(id.to_string()));
                    let action = "auth.identity_refused";
                    journal::audit_by(tx, author, action, entity, None, Some(after)).await
                })
            });
            write.await
        });
    }
}

/// Somebody about to be let in.
struct Entering {
    core: std::sync::Arc<Core>,
    provider: Provider,
    subject: Subject,
    entry: Entry,
    opening: (Device, chrono::TimeDelta),
    request: RequestContext,
}

impl Entering {
    /// Lets them in, unless a second factor is awaited: that is no failure, and commits.
    async fn run(self, tx: &mut Tx<'_>) -> Result<Result<(Family, SecretString)>> {
        let (core, provider, place) = (&self.core, &self.provider, self.provider.place());
        if !hold(tx, core, place).await? {
            return Err(Error::NotFound);
        }
        let user = match &self.entry {
            Entry::Linked(user) => {
                link::note_use(tx, core.clock.now(), place, (&self.subject.id, *user)).await?;
                *user
            }
            Entry::Matched(owner) => {
                link::insert(tx, core, place, &self.subject, owner.id).await?;
                self.audit(tx, owner.id, "auth.identity_linked").await?;
                own::notify(tx, core, owner, MailKind::IdentityLinked).await?;
                owner.id
            }
            Entry::New(role, member) => {
                self.join(tx, *role, member).await?;
                link::insert(tx, core, place, &self.subject, member.id).await?;
                member.id
            }
        };
        let has_factor = provider.trusts_second_factor && self.subject.second_factor;
        let vouched = Some((provider.id, has_factor));
        let whose = (provider.tenant, user);
        if let Some(awaited) = challenge_by(tx, core, whose, Reach::TENANT, vouched).await? {
            return Ok(Err(awaited));
        }
        let (device, lifetime) = &self.opening;
        let opened = session::open(tx, &core.clock, whose, *lifetime, device).await?;
        if has_factor {
            session::note_two_factors(tx, opened.0.id).await?;
        }
        self.audit(tx, user, "auth.login").await?;
        Ok(Ok(opened))
    }

    /// Makes the account of somebody new, whose address nobody has, and a member of it. Runs under
    /// the lock on the tenant's policy.
    ///
    /// It has no password, and its address counts as proven to nobody.
    async fn join(&self, tx: &mut Tx<'_>, role: RoleId, member: &NewMember) -> Result<()> {
        let (tenant, now) = (self.provider.tenant, self.core.clock.now());
        let insert = Sql::new(
            "INSERT INTO users (id, email, name, created_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (email) DO NOTHING",
        )
        .bind(member.id, ColumnType::Uuid)
        .bind(member.email.as_str(), ColumnType::Text)
        .bind(member.name.as_str(), ColumnType::Text)
        .bind(now, ColumnType::Instant);
        if tx.execute(insert).await? == 0 {
            return Err(refused());
        }
        insert_membership(tx, (tenant, member.id), &[role], now).await?;
        let entity = ("members", Some(member.id.to_string()));
        let after = json!({
            "email": member.email, "roles": [role], "provider": self.provider.id,
        });
        let author = self.author(member.id);
        journal::audit_by(tx, author, "members.create", entity, None, Some(after)).await
    }

    async fn audit(&self, tx: &mut Tx<'_>, user: UserId, action: &str) -> Result<()> {
        let entity = ("users", Some(user.to_string()));
        let after = json!({ "provider": self.provider.id, "subject": self.subject.id });
        journal::audit_by(tx, self.author(user), action, entity, None, Some(after)).await
    }

    fn author(&self, user: UserId) -> Author<'_> {
        Author {
            clock: &self.core.clock,
            tenant: self.provider.tenant,
            actor: Actor::User(user),
            request: &self.request,
        }
    }
}

/// The provider of this id, when it is on and its tenant is active.
///
/// # Errors
/// [`Error::NotFound`] otherwise.
pub(super) async fn find(core: &Core, id: ProviderId) -> Result<Provider> {
    use ColumnType::{Bool, Bytes, Json, Text, Uuid};
    let find = Sql::new(
        "SELECT p.tenant_id, p.issuer, p.client_id, p.client_secret, p.redirect_uris, p.domains, \
         p.join_role_id, p.trusts_second_factor FROM identity_providers p \
         JOIN tenants t ON t.id = p.tenant_id AND t.status = 'active' \
         WHERE p.id = $1 AND p.enabled",
    )
    .bind(id, Uuid)
    .returns(&[Uuid, Text, Text, Bytes, Json, Json, Uuid, Bool]);
    let mut row = core.db.fetch_optional(find).await?.ok_or(Error::NotFound)?;
    let (tenant, issuer, client_id) = (row.uuid()?, row.text()?, row.text()?);
    let sealed: Option<Vec<u8>> = row.opt_bytes()?;
    Ok(Provider {
        tenant,
        id,
        issuer,
        client_id,
        secret: sealed.map(|sealed| open(core, id, &sealed)).transpose()?,
        redirect_uris: super::provider::texts(row.json()?, "redirect_uris")?,
        domains: super::provider::texts(row.json()?, "domains")?,
        join_role: row.opt_uuid()?,
        trusts_second_factor: row.bool()?,
    })
}

/// The client's secret.
fn open(core: &Core, id: ProviderId, sealed: &[u8]) -> Result<SecretString> {
    let opened = core.identity.seal.open(&super::provider::label(id), sealed);
    let text = opened.and_then(|bytes| String::from_utf8(bytes).ok());
    // Sealed under a secret that is gone: the provider's own has to be given again.
    text.map(Into::into).ok_or_else(|| Error::Inconsistent {
        table: OBJECT.into(),
        column: "client_secret".into(),
    })
}

/// Where the browser is sent to (OpenID Connect Core 1.0 §3.1.2.1).
fn authorization_url(document: &Document, provider: &Provider, begun: &Begun) -> String {
    let mut url: Url = document.authorization_endpoint.clone();
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &provider.client_id)
        .append_pair("redirect_uri", &begun.redirect_uri)
        .append_pair("scope", SCOPE)
        .append_pair("state", &begun.state)
        .append_pair("nonce", &begun.nonce)
        .append_pair("code_challenge", &begun.challenge())
        .append_pair("code_challenge_method", "S256");
    url.into()
}

fn lifetime() -> u64 {
    flow::LIFETIME.num_seconds().unsigned_abs()
}

/// Logs why a provider's word does not hold; the caller learns that it does not.
fn note(provider: &Provider, reason: &'static str) -> Error {
    tracing::warn!(
        tenant = %provider.tenant,
        provider = %provider.id,
        reason,
        "an identity provider's word was refused"
    );
    refused()
}
