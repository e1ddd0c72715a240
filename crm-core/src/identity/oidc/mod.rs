//! Logging in by OpenID Connect (Core 1.0), at providers that a tenant declares for itself.
//!
//! The rule that everything here follows: **a provider's word is its tenant's word, and good in
//! that tenant alone.** Whoever declares one may declare an issuer of their own and have it say
//! anything, so a session that a provider vouches for is bound to the tenant: it never moves to
//! another one, names no other, sees no other, and changes nothing of the user's account. What a
//! provider's subject is linked to is a *membership* of the tenant, and goes with it. A new factor,
//! password, address or identity needs a session that began with the user's own password.
//!
//! [`flow`] makes and checks what one login carries, [`metadata`] knows what providers publish,
//! [`id_token`] judges their tokens, [`enter`] decides whom they let in, [`probe`] refuses issuers
//! at which nobody could log in, [`login_page`] names a tenant's providers to whoever wants in.

mod enter;
mod exchange;
mod flow;
mod id_token;
mod link;
mod login_page;
mod metadata;
mod probe;
mod provider;

use crate::clock::Clock;
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{FamilyId, ProviderId, TenantId, UserId};

pub use enter::{ProviderLogin, ProviderNonce, ProviderProof};
pub use link::{OwnerProof, UserIdentity};
pub use login_page::LoginProvider;
pub(super) use provider::SEALED;
pub use provider::{IdentityProvider, IdentityProviders, ProviderSettings};

use super::key::SigningKeys;
use super::refresh::{self, Ended};

/// What logins at providers hold in memory.
pub(crate) struct Federation {
    flows: flow::Flows,
    directory: metadata::Directory,
}

impl Federation {
    pub(super) fn new(keys: &SigningKeys, clock: &Clock) -> Self {
        Self {
            flows: flow::Flows::new(keys, clock.clone()),
            directory: metadata::Directory::new(),
        }
    }
}

/// Whether a provider may let somebody in at this moment. It stays so until the transaction ends:
/// one that switches the provider off waits, and then ends the session too.
pub(super) async fn hold(
    tx: &mut Tx<'_>,
    core: &Core,
    (tenant, provider): (TenantId, ProviderId),
) -> Result<bool> {
    let hold = Sql::new(
        "UPDATE identity_providers SET last_used_at = $1 \
         WHERE tenant_id = $2 AND id = $3 AND enabled",
    )
    .bind(core.clock.now(), ColumnType::Instant)
    .bind(tenant, ColumnType::Uuid)
    .bind(provider, ColumnType::Uuid);
    Ok(tx.execute(hold).await? > 0)
}

/// Ends what a provider has vouched for, sessions and logins that wait for their second step: all
/// of it, or that of one user. The caller has the sessions forgotten after the commit.
async fn end(
    tx: &mut Tx<'_>,
    clock: &Clock,
    (tenant, provider): (TenantId, ProviderId),
    user: Option<UserId>,
) -> Result<Vec<FamilyId>> {
    let mut waiting =
        Sql::new("DELETE FROM login_challenges WHERE tenant_id = $1 AND provider_id = $2")
            .bind(tenant, ColumnType::Uuid)
            .bind(provider, ColumnType::Uuid);
    if let Some(user) = user {
        waiting.push(" AND user_id = $3");
        waiting = waiting.bind(user, ColumnType::Uuid);
    }
    tx.execute(waiting).await?;
    refresh::end(tx, clock, Ended::OfProvider(tenant, provider, user)).await
}

/// The one answer to a provider's word that does not hold, whatever the reason.
fn refused() -> Error {
    Error::unauthenticated(
        "identity_refused",
        "what the identity provider says is not valid here; begin the login again",
    )
}

/// A login that is unknown, used up or too old.
fn unknown_login(field: &str) -> Error {
    let message = "This login is unknown, finished or out of date; begin it again.";
    Error::invalid(field, "invalid_token", message)
}
