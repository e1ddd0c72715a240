//! Which member a provider's subject is.
//!
//! Linking takes the member's password, in a session that began with it, or one of their passkeys:
//! afterwards the provider opens the tenant for whoever it says is them. Unlinking ends the
//! sessions that it opened, and the logins that wait for their second step.

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::json;

use super::super::account::{Accounts, TenantRef};
use super::super::own;
use super::enter::{ProviderProof, find};
use super::flow::Place;
use super::id_token::Subject;
use super::{end, hold, provider::IdentityProviders};
use crate::crm::Core;
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{IdentityId, ProviderId, TenantId, UserId};
use crate::journal::{self, Author};
use crate::mail::MailKind;
use crate::scope::{Permit, Read, Scope};

/// Most identities of a list.
const MOST: i64 = 200;

/// A provider's name for a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserIdentity {
    /// Its id.
    pub id: IdentityId,
    /// The tenant it opens.
    pub tenant: TenantRef,
    /// The provider.
    pub provider_id: ProviderId,
    /// The provider's name.
    pub provider: String,
    /// The member.
    pub user_id: UserId,
    /// What the provider calls them (`sub`).
    pub subject: String,
    /// The address that the provider named when the two were linked.
    pub email: Option<String>,
    /// When they were.
    pub created_at: DateTime<Utc>,
    /// The latest login by it.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// What shows that it is still the member who sits before the session.
#[derive(Debug, Clone)]
pub enum OwnerProof {
    /// The password of the account.
    Password(SecretString),
    /// An answer to a challenge that any passkey may answer.
    Passkey {
        /// The token of the ceremony.
        token: SecretString,
        /// What `navigator.credentials.get` gave, as its `toJSON()` writes it.
        credential: serde_json::Value,
    },
}

impl Accounts {
    /// Links the caller to an identity at a provider of the scope's tenant: from now on the
    /// provider lets them in. Nobody is linked without a proof that it is they.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the tenant has no such provider, or it is off; [`Error::Invalid`] on
    /// `password`, `passkey_token` or `credential`; [`Error::Conflict`] `bound_session`, `not_a_user`,
    /// `second_factor_required`, `identity_taken` for an identity of another member's,
    /// `identity_exists` for a member who has another one there; and those of
    /// [`provider_login`](Self::provider_login) about the proof.
    pub async fn link_identity(
        &self,
        scope: &Scope,
        provider: ProviderId,
        owner: Option<OwnerProof>,
        proof: ProviderProof,
    ) -> Result<UserIdentity> {
        let provider = find(&self.core, provider).await?;
        if provider.tenant != scope.tenant() {
            return Err(Error::NotFound);
        }
        let owner = match owner {
            Some(OwnerProof::Password(password)) => {
                let owner = self.owner(scope).await?;
                self.confirm(&owner, "password", password, scope).await?;
                owner
            }
            Some(OwnerProof::Passkey { token, credential }) => {
                let owner = self.person(scope).await?;
                self.confirm_passkey(scope, owner.id, (token, credential))
                    .await?;
                owner
            }
            None => {
                let message = "Give your password, or else passkey_token and credential.";
                return Err(Error::invalid("password", "required", message));
            }
        };
        let subject = self.prove(&provider, proof).await?;
        let (core, by) = (self.core.clone(), scope.clone());
        let place = (provider.tenant, provider.id);
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                if !hold(tx, &core, place).await? {
                    return Err(Error::NotFound);
                }
                let id = insert(tx, &core, place, &subject, owner.id).await?;
                let entity = ("users", Some(owner.id.to_string()));
                let after = json!({ "provider": place.1, "subject": subject.id });
                let action = "auth.identity_linked";
                journal::audit(tx, &by, action, entity, None, Some(after)).await?;
                own::notify(tx, &core, &owner, MailKind::IdentityLinked).await?;
                Ok(id)
            })
        });
        let id = write.await?;
        self.core.post.wake();
        let mut one = select();
        one.push("i.tenant_id = $1 AND i.id = $2");
        let one = one
            .bind(provider.tenant, ColumnType::Uuid)
            .bind(id, ColumnType::Uuid);
        let row = self.core.db.fetch_optional(one).await?;
        read(row.ok_or(Error::NotFound)?)
    }

    /// The caller's identities in all tenants, the oldest first; none for whoever is no user. To a
    /// session that a tenant's provider vouched for, those in its tenant. At most 200.
    ///
    /// # Errors
    /// [`Error::Refused`] `impersonating` for whoever acts in the user's name.
    pub async fn identities(&self, scope: &Scope) -> Result<Vec<UserIdentity>> {
        scope.refuse_impersonator()?;
        let Some(user) = scope.actor().user() else {
            return Ok(Vec::new());
        };
        let mut own = select();
        own.push("i.user_id = $1 AND (i.tenant_id = $2 OR NOT $3) ORDER BY i.id LIMIT $4");
        let own = own
            .bind(user, ColumnType::Uuid)
            .bind(scope.tenant(), ColumnType::Uuid)
            .bind(scope.is_bound(), ColumnType::Bool)
            .bind(MOST, ColumnType::Int);
        let rows = self.core.db.fetch_all(own).await?;
        rows.into_iter().map(read).collect()
    }

    /// Takes one of the caller's identities away; the sessions that its provider opened for them
    /// end, and so do their logins there that wait for a second step.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the caller has no such identity; [`Error::Conflict`] `bound_session`,
    /// `not_a_user`, `second_factor_required`.
    pub async fn unlink_identity(&self, scope: &Scope, id: IdentityId) -> Result<()> {
        let owner = self.owner(scope).await?;
        let (clock, request) = (self.core.clock.clone(), scope.request().clone());
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let delete = Sql::new(
                    "DELETE FROM user_identities WHERE id = $1 AND user_id = $2 \
                     RETURNING tenant_id, provider_id, subject",
                )
                .bind(id, ColumnType::Uuid)
                .bind(owner.id, ColumnType::Uuid)
                .returns(&[ColumnType::Uuid, ColumnType::Uuid, ColumnType::Text]);
                let mut row = tx.fetch_optional(delete).await?.ok_or(Error::NotFound)?;
                let (tenant, provider): (TenantId, ProviderId) = (row.uuid()?, row.uuid()?);
                let subject: String = row.text()?;
                let ended = end(tx, &clock, (tenant, provider), Some(owner.id)).await?;
                let author = Author {
                    clock: &clock,
                    tenant,
                    actor: crate::scope::Actor::User(owner.id),
                    request: &request,
                };
                let entity = ("users", Some(owner.id.to_string()));
                let before = json!({ "provider": provider, "subject": subject });
                let action = "auth.identity_unlinked";
                journal::audit_by(tx, author, action, entity, Some(before), None).await?;
                Ok(ended)
            })
        });
        self.forget(write.await?);
        Ok(())
    }
}

impl IdentityProviders {
    /// The identities of the tenant's members after one of them, by their ids; at most 200.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a permit of another object.
    pub async fn identities(
        &self,
        permit: &Permit<Read>,
        after: Option<IdentityId>,
    ) -> Result<Vec<UserIdentity>> {
        let scope = permit.on(super::enter::OBJECT)?;
        let mut all = select();
        all.push("i.tenant_id = $1 AND i.id > $2 ORDER BY i.id LIMIT $3");
        let all = all
            .bind(scope.tenant(), ColumnType::Uuid)
            .bind(
                after.unwrap_or(IdentityId(uuid::Uuid::nil())),
                ColumnType::Uuid,
            )
            .bind(MOST, ColumnType::Int);
        let rows = self.core.db.fetch_all(all).await?;
        rows.into_iter().map(read).collect()
    }
}

/// Links a member to a subject.
///
/// # Errors
/// [`Error::Conflict`] `identity_taken`, `identity_exists`.
pub(super) async fn insert(
    tx: &mut Tx<'_>,
    core: &Core,
    (tenant, provider): Place,
    subject: &Subject,
    user: UserId,
) -> Result<IdentityId> {
    let id = IdentityId(core.clock.new_id());
    let insert = Sql::new(
        "INSERT INTO user_identities (tenant_id, id, provider_id, subject, user_id, email, \
         created_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(id, ColumnType::Uuid)
    .bind(provider, ColumnType::Uuid)
    .bind(subject.id.as_str(), ColumnType::Text)
    .bind(user, ColumnType::Uuid)
    .bind(subject.email.as_deref(), ColumnType::Text)
    .bind(core.clock.now(), ColumnType::Instant);
    if tx.execute(insert).await? > 0 {
        return Ok(id);
    }
    let own = Sql::new(
        "SELECT subject FROM user_identities \
         WHERE tenant_id = $1 AND provider_id = $2 AND user_id = $3",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(provider, ColumnType::Uuid)
    .bind(user, ColumnType::Uuid)
    .returns(&[ColumnType::Text]);
    Err(match tx.fetch_optional(own).await? {
        Some(_) => Error::conflict(
            "identity_exists",
            "you are linked to an identity at this provider already; unlink it first",
        ),
        None => Error::conflict(
            "identity_taken",
            "this identity is linked to another member already",
        ),
    })
}

/// Notes a login by an identity.
///
/// # Errors
/// [`Error::Unauthenticated`] when the two are linked no more.
pub(super) async fn note_use(
    tx: &mut Tx<'_>,
    now: DateTime<Utc>,
    (tenant, provider): Place,
    (subject, user): (&str, UserId),
) -> Result<()> {
    let note = Sql::new(
        "UPDATE user_identities SET last_used_at = $1 \
         WHERE tenant_id = $2 AND provider_id = $3 AND subject = $4 AND user_id = $5",
    )
    .bind(now, ColumnType::Instant)
    .bind(tenant, ColumnType::Uuid)
    .bind(provider, ColumnType::Uuid)
    .bind(subject, ColumnType::Text)
    .bind(user, ColumnType::Uuid);
    match tx.execute(note).await? {
        0 => Err(super::refused()),
        _ => Ok(()),
    }
}

fn select() -> Sql {
    use ColumnType::{Instant, Text, Uuid};
    Sql::new(
        "SELECT i.id, i.tenant_id, t.name, i.provider_id, p.name, i.user_id, i.subject, i.email, \
         i.created_at, i.last_used_at FROM user_identities i \
         JOIN tenants t ON t.id = i.tenant_id \
         JOIN identity_providers p ON p.tenant_id = i.tenant_id AND p.id = i.provider_id WHERE ",
    )
    .returns(&[
        Uuid, Uuid, Text, Uuid, Text, Uuid, Text, Text, Instant, Instant,
    ])
}

fn read(mut row: Row) -> Result<UserIdentity> {
    Ok(UserIdentity {
        id: row.uuid()?,
        tenant: TenantRef {
            id: row.uuid()?,
            name: row.text()?,
        },
        provider_id: row.uuid()?,
        provider: row.text()?,
        user_id: row.uuid()?,
        subject: row.text()?,
        email: row.opt_text()?,
        created_at: row.instant()?,
        last_used_at: row.opt_instant()?,
    })
}
