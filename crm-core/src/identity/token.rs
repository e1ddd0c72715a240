//! Access tokens: short-lived JWTs after RFC 9068, checked without a database.
//!
//! Owns issuing and verification; the keys are those of `key_set`. Refuses to read the time from
//! anything but the injected clock, and to tell why a token is refused: only the holder of one that
//! was good until its end learns that it has expired.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::crypto;
use parking_lot::RwLock;
use quick_cache::sync::Cache;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::key::SigningKeys;
use super::key_set::KeySet;
use super::refresh::Family;
use super::token_key::KeyRow;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::id::{FamilyId, TenantId, UserId};
use crate::platform::PLATFORM;

/// How long an access token lives unless configured otherwise.
pub const ACCESS_TOKEN_LIFETIME: TimeDelta = TimeDelta::minutes(10);

/// How far the clocks of two nodes may differ.
const LEEWAY: TimeDelta = TimeDelta::seconds(5);
const ISSUER: &str = "crm";
const AUDIENCE: &str = "crm-api";
/// Longest token looked at; ours have about 460 bytes.
const MAX_TOKEN_BYTES: usize = 1024;
/// Most tokens whose signature is known to hold.
const MOST_VERIFIED: usize = 65_536;

/// What a verified access token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AccessClaims {
    /// Who it was issued to (`sub`).
    pub(crate) user: UserId,
    /// The tenant it opens (`tid`); none when each request names one.
    pub(crate) tenant: Option<TenantId>,
    /// The session it belongs to (`sid`).
    pub(crate) session: FamilyId,
    /// Who acts in that user's name (`act`, RFC 8693 §4.1).
    pub(crate) impersonator: Option<UserId>,
    /// From when on it holds, to the second: the later one of `iat` and `nbf`.
    holds_from: DateTime<Utc>,
    /// When it ends (`exp`), to the second.
    pub(crate) expires_at: DateTime<Utc>,
}

/// The claims as they travel.
#[derive(Serialize, Deserialize)]
struct Payload<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: UserId,
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    tid: Option<TenantId>,
    sid: FamilyId,
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    act: Option<Act>,
    iat: i64,
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    nbf: Option<i64>,
    exp: i64,
    jti: Uuid,
}

/// Who acts in the name of the token's user.
#[derive(Serialize, Deserialize)]
struct Act {
    sub: UserId,
}

/// A claim that may be absent, and is not null.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Issues and verifies access tokens.
pub(crate) struct AccessTokens {
    root: SigningKeys,
    keys: RwLock<Arc<KeySet>>,
    /// The claims of tokens whose signature was found to hold, by SHA-256 of the whole token. It
    /// says nothing of whether key and token still hold: that is asked every time.
    verified: Cache<[u8; 32], AccessClaims>,
    lifetime: TimeDelta,
    clock: Clock,
}

impl AccessTokens {
    /// Tokens signed with keys that follow from `root`, living `lifetime` each. There is no key
    /// before the first [`adopt`](Self::adopt).
    ///
    /// # Errors
    /// [`Error::Configuration`] when the lifetime is not between one second and one day.
    pub(crate) fn new(root: SigningKeys, lifetime: TimeDelta, clock: Clock) -> Result<Self> {
        if lifetime < TimeDelta::seconds(1) || lifetime > TimeDelta::days(1) {
            return Err(Error::Configuration(
                "the access token lifetime must lie between one second and one day".into(),
            ));
        }
        Ok(Self {
            root,
            keys: RwLock::default(),
            verified: Cache::new(MOST_VERIFIED),
            lifetime,
            clock,
        })
    }

    /// Signs and verifies with the keys of these rows from now on.
    ///
    /// # Errors
    /// [`Error::Internal`] when a key cannot be made, which is a bug.
    pub(super) fn adopt(&self, rows: &[KeyRow]) -> Result<()> {
        let keys = Arc::new(KeySet::new(&self.root, rows)?);
        *self.keys.write() = keys;
        Ok(())
    }

    /// The secret that the keys follow from.
    pub(super) fn root(&self) -> &SigningKeys {
        &self.root
    }

    /// How long a new token lives.
    pub(crate) fn lifetime(&self) -> TimeDelta {
        self.lifetime
    }

    /// The public keys as a JWK Set.
    pub(super) fn published(&self) -> serde_json::Value {
        let keys = self.keys.read().clone();
        json!({ "keys": keys.published(self.clock.now()) })
    }

    /// How many seconds are left until then.
    pub(super) fn seconds_until(&self, end: DateTime<Utc>) -> u64 {
        let seconds = (end - self.clock.now()).num_seconds();
        u64::try_from(seconds).unwrap_or(0)
    }

    /// Issues a token of a session, which ends with the session at the latest; answers it with its
    /// end. That of a roaming session names no tenant, nor does that of an operator.
    ///
    /// # Errors
    /// [`Error::Internal`] when signing fails, which is a bug.
    pub(super) fn issue(&self, family: &Family) -> Result<(SecretString, DateTime<Utc>)> {
        self.issue_to(family, None)
    }

    /// As [`issue`](Self::issue), to somebody who acts in the name of the session's user.
    ///
    /// # Errors
    /// Those of [`issue`](Self::issue).
    pub(super) fn issue_to(
        &self,
        family: &Family,
        impersonator: Option<UserId>,
    ) -> Result<(SecretString, DateTime<Utc>)> {
        let now = self.clock.now();
        // With nothing to refresh it, such a token holds as long as its session.
        let end = match impersonator {
            Some(_) => family.expires_at,
            None => family.expires_at.min(now + self.lifetime),
        };
        let payload = Payload {
            iss: ISSUER,
            aud: AUDIENCE,
            sub: family.user,
            tid: named(family.roaming, family.tenant),
            sid: family.id,
            act: impersonator.map(|sub| Act { sub }),
            iat: now.timestamp(),
            nbf: None,
            exp: end.timestamp(),
            jti: self.clock.new_id(),
        };
        let payload = serde_json::to_vec(&payload).map_err(Error::internal)?;
        let keys = self.keys.read().clone();
        let key = keys
            .signing(now)
            .ok_or_else(|| Error::internal("there is no signing key"))?;
        let message = format!("{}.{}", key.header, URL_SAFE_NO_PAD.encode(payload));
        let signature = crypto::sign(message.as_bytes(), &key.encoding, key.algorithm)
            .map_err(Error::internal)?;
        Ok((format!("{message}.{signature}").into(), end))
    }

    /// Checks a token and reads its claims.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`]: `token_expired` for one that was good until its end,
    /// `token_invalid` for every other reason.
    pub(crate) fn verify(&self, token: &str) -> Result<AccessClaims> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(invalid());
        }
        let (message, signature) = token.rsplit_once('.').ok_or_else(invalid)?;
        let (header, payload) = message.split_once('.').ok_or_else(invalid)?;
        let keys = self.keys.read().clone();
        let key = keys
            .verifying(header, self.clock.now())
            .ok_or_else(invalid)?;
        let digest = Sha256::digest(token.as_bytes()).into();
        if let Some(claims) = self.verified.get(&digest) {
            return self.judge(claims);
        }
        match crypto::verify(signature, message.as_bytes(), &key.decoding, key.algorithm) {
            Ok(true) => {
                let claims = read(payload)?;
                self.verified.insert(digest, claims);
                self.judge(claims)
            }
            Ok(false) | Err(_) => Err(invalid()),
        }
    }

    /// Whether a token holds at this moment.
    fn judge(&self, claims: AccessClaims) -> Result<AccessClaims> {
        let now = self.clock.now();
        if claims.holds_from > now + LEEWAY {
            return Err(invalid());
        }
        if claims.expires_at <= now - LEEWAY {
            return Err(Error::unauthenticated(
                "token_expired",
                "the access token has expired; get a new one with your refresh token",
            ));
        }
        Ok(claims)
    }
}

/// The tenant that a token of such a session names.
pub(super) fn named(roaming: bool, tenant: TenantId) -> Option<TenantId> {
    (!roaming && tenant != PLATFORM).then_some(tenant)
}

/// Reads the claims of a token whose signature holds.
fn read(payload: &str) -> Result<AccessClaims> {
    let mut json = [0; MAX_TOKEN_BYTES];
    let length = URL_SAFE_NO_PAD
        .decode_slice(payload, &mut json)
        .map_err(|_| invalid())?;
    let json = json.get(..length).ok_or_else(invalid)?;
    let payload: Payload<'_> = serde_json::from_slice(json).map_err(|_| invalid())?;
    if payload.iss != ISSUER || payload.aud != AUDIENCE {
        return Err(invalid());
    }
    let holds_from = payload.nbf.map_or(payload.iat, |nbf| nbf.max(payload.iat));
    Ok(AccessClaims {
        user: payload.sub,
        tenant: payload.tid,
        session: payload.sid,
        impersonator: payload.act.map(|act| act.sub),
        holds_from: DateTime::from_timestamp(holds_from, 0).ok_or_else(invalid)?,
        expires_at: DateTime::from_timestamp(payload.exp, 0).ok_or_else(invalid)?,
    })
}

/// The credential of an `Authorization` header's value (RFC 6750 §2.1).
///
/// # Errors
/// [`Error::Unauthenticated`]: `token_missing` without one, `token_invalid` when it is of another
/// scheme or empty.
pub fn bearer(authorization: Option<&str>) -> Result<&str> {
    let value = authorization.ok_or_else(|| {
        Error::unauthenticated(
            "token_missing",
            "send an access token or an API key in the header Authorization: Bearer",
        )
    })?;
    let (scheme, credential) = value.split_once(' ').unwrap_or((value, ""));
    let credential = credential.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty() {
        Ok(credential)
    } else {
        let message =
            "the header must read Authorization: Bearer, a space, and the token or API key";
        Err(Error::unauthenticated("token_invalid", message))
    }
}

/// The one answer to every token that does not hold, whatever the reason.
pub(crate) fn invalid() -> Error {
    Error::unauthenticated("token_invalid", "the token is not valid here; log in again")
}

#[cfg(test)]
mod tests;
