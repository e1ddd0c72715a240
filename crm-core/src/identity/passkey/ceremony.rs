//! What is awaited of a device: a row for each challenge, sealed, good for one answer within five
//! minutes, in whichever process the answer arrives; and the judgement of such an answer.

use chrono::TimeDelta;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use webauthn_rs::prelude::{
    DiscoverableAuthentication, DiscoverableKey, Passkey, PublicKeyCredential, WebauthnError,
};

use super::Party;
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{PasskeyId, UserId};
use crate::identity::account::Accounts;
use crate::identity::{opaque, own};
use crate::scope::RequestContext;

const PREFIX: &str = "crm_pk_";
/// How long a challenge waits for its answer: what Web Authentication recommends, for people whose
/// key is in another room.
pub(super) const LIFETIME: TimeDelta = TimeDelta::minutes(5);

/// What a device is asked.
#[derive(Debug, Clone)]
pub struct PasskeyCeremony {
    /// To be given back with the answer; good for one.
    pub token: SecretString,
    /// What `navigator.credentials.create` or `get` takes as `publicKey`, in the JSON of Web
    /// Authentication Level 3.
    pub options: serde_json::Value,
}

/// What a challenge is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Register,
    Login,
    SecondFactor,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Login => "login",
            Self::SecondFactor => "second_factor",
        }
    }
}

impl Accounts {
    /// # Errors
    /// [`Error::Conflict`] `passkeys_unavailable` where the operator named no application.
    pub(super) fn party(&self) -> Result<&Party> {
        let party = self.core.identity.party.as_ref();
        party.ok_or_else(|| {
            Error::conflict(
                "passkeys_unavailable",
                "passkeys are not set up here; the operator says where the application's pages are",
            )
        })
    }
}

/// Keeps a challenge for its answer.
pub(super) async fn open(
    tx: &mut Tx<'_>,
    core: &Core,
    (purpose, user): (Purpose, Option<UserId>),
    state: &impl Serialize,
) -> Result<SecretString> {
    let now = core.clock.now();
    let late = Sql::new("DELETE FROM passkey_ceremonies WHERE expires_at <= $1");
    tx.execute(late.bind(now, ColumnType::Instant)).await?;
    let token = opaque::generate(&core.clock, PREFIX);
    let hash = opaque::hash(&token);
    let state = serde_json::to_vec(state).map_err(Error::internal)?;
    let sealed = core.identity.seal.seal(&label(purpose, &hash), &state)?;
    let insert = Sql::new(
        "INSERT INTO passkey_ceremonies (hash, purpose, user_id, sealed, expires_at) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(hash, ColumnType::Bytes)
    .bind(purpose.as_str(), ColumnType::Text)
    .bind(user, ColumnType::Uuid)
    .bind(sealed, ColumnType::Bytes)
    .bind(now + LIFETIME, ColumnType::Instant);
    tx.execute(insert).await?;
    Ok(token)
}

/// Uses a challenge up; none when it is unknown, used, out of date, or another user's.
pub(super) async fn take<State: DeserializeOwned>(
    tx: &mut Tx<'_>,
    core: &Core,
    (purpose, user): (Purpose, Option<UserId>),
    token: &SecretString,
) -> Result<Option<State>> {
    let (hash, now) = (opaque::hash(token), core.clock.now());
    // A clock that was put back makes no challenge last longer.
    let delete = Sql::new(
        "DELETE FROM passkey_ceremonies \
         WHERE hash = $1 AND purpose = $2 AND expires_at > $3 AND expires_at <= $4 \
         RETURNING user_id, sealed",
    )
    .bind(hash.clone(), ColumnType::Bytes)
    .bind(purpose.as_str(), ColumnType::Text)
    .bind(now, ColumnType::Instant)
    .bind(now + LIFETIME, ColumnType::Instant)
    .returns(&[ColumnType::Uuid, ColumnType::Bytes]);
    let Some(mut row) = tx.fetch_optional(delete).await? else {
        return Ok(None);
    };
    let owner: Option<UserId> = row.opt_uuid()?;
    let sealed: Vec<u8> = row.bytes()?;
    let state = core.identity.seal.open(&label(purpose, &hash), &sealed);
    let state = state.filter(|_| owner == user);
    Ok(state.and_then(|state| serde_json::from_slice(&state).ok()))
}

fn label(purpose: Purpose, hash: &[u8]) -> String {
    let hash = hex::encode(hash);
    format!("passkey:{}:{hash}", purpose.as_str())
}

/// What a credential is found by.
pub(super) fn credential_hash(id: &[u8]) -> Vec<u8> {
    Sha256::digest(id).to_vec()
}

/// Reads what a browser answered. What it says beside the answer, and newer ones say more of, is
/// not looked at.
///
/// # Errors
/// [`Error::Invalid`] on `credential`.
pub(super) fn read<Answer: DeserializeOwned>(mut credential: serde_json::Value) -> Result<Answer> {
    for (place, aside) in [
        ("", "clientExtensionResults"),
        ("", "extensions"),
        ("/response", "transports"),
    ] {
        let members = credential.pointer_mut(place);
        if let Some(members) = members.and_then(serde_json::Value::as_object_mut) {
            members.remove(aside);
        }
    }
    serde_json::from_value(credential).map_err(|_| {
        let message = "Send what navigator.credentials gave, as its toJSON() writes it.";
        Error::invalid("credential", "invalid", message)
    })
}

/// Whether the answer to a challenge was signed by a passkey of the user, whose owner it asked for
/// a finger, a face or a PIN; which one. Its counter moves on.
///
/// A counter that does not move betrays a copy of the key: that is refused and told.
pub(super) async fn judge(
    tx: &mut Tx<'_>,
    core: &Core,
    (party, request): (&Party, &RequestContext),
    user: UserId,
    (state, answer): (DiscoverableAuthentication, &PublicKeyCredential),
) -> Result<Option<PasskeyId>> {
    // Holds the row: of two answers of one key the second sees the counter of the first.
    let hold = Sql::new(
        "UPDATE passkeys SET last_used_at = last_used_at WHERE credential_hash = $1 AND user_id = $2 \
         RETURNING id, credential, (SELECT handle FROM passkey_handles h WHERE h.user_id = $2)",
    )
    .bind(credential_hash(answer.get_credential_id()), ColumnType::Bytes)
    .bind(user, ColumnType::Uuid)
    .returns(&[ColumnType::Uuid, ColumnType::Text, ColumnType::Bytes]);
    let Some(mut row) = tx.fetch_optional(hold).await? else {
        return Ok(None);
    };
    let (id, credential): (PasskeyId, String) = (row.uuid()?, row.text()?);
    let handle: Option<Vec<u8>> = row.opt_bytes()?;
    let claimed = answer.get_user_unique_id();
    let claimed = claimed.filter(|claimed| !claimed.is_empty());
    if claimed.is_some_and(|claimed| handle.as_deref() != Some(claimed)) {
        return Ok(None);
    }
    if is_embedded(answer) {
        return Ok(None);
    }
    let mut passkey: Passkey = serde_json::from_str(&credential).map_err(|_| unreadable())?;
    let keys = [DiscoverableKey::from(&passkey)];
    let result = match party
        .0
        .finish_discoverable_authentication(answer, state, &keys)
    {
        Ok(result) if result.user_verified() => result,
        Err(WebauthnError::CredentialPossibleCompromise) => {
            tracing::warn!(%user, passkey = %id, "the counter of a passkey did not move: it may have been copied");
            own::audit(tx, &core.clock, user, request, "auth.passkey_copied").await?;
            return Ok(None);
        }
        Ok(_) | Err(_) => return Ok(None),
    };
    passkey.update_credential(&result);
    let credential = serde_json::to_string(&passkey).map_err(Error::internal)?;
    let update = Sql::new("UPDATE passkeys SET credential = $1, last_used_at = $2 WHERE id = $3")
        .bind(credential, ColumnType::Text)
        .bind(core.clock.now(), ColumnType::Instant)
        .bind(id, ColumnType::Uuid);
    tx.execute(update).await?;
    Ok(Some(id))
}

/// Whether another site's page showed ours in a frame (Web Authentication §13.4.2): webauthn-rs
/// asks that of registrations only.
fn is_embedded(answer: &PublicKeyCredential) -> bool {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct ClientData {
        cross_origin: Option<bool>,
    }
    let data: Option<ClientData> =
        serde_json::from_slice(answer.response.client_data_json.as_ref()).ok();
    data.is_none_or(|data| data.cross_origin == Some(true))
}

pub(super) fn unreadable() -> Error {
    Error::Inconsistent {
        table: "passkeys".into(),
        column: "credential".into(),
    }
}
