//! Access tokens: short-lived JWTs after RFC 9068, checked without a database.
//!
//! Owns issuing and verification. A token is accepted only when its header is, byte for byte, one
//! this library writes: algorithm, type and key are pinned together, so `none`, another algorithm,
//! another type and an unknown key all end at the same comparison. Refuses to read the time from
//! anything but the injected clock.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, crypto};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::key::SigningKeys;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::id::{FamilyId, TenantId, UserId};

/// How long an access token lives unless configured otherwise.
pub const ACCESS_TOKEN_LIFETIME: TimeDelta = TimeDelta::minutes(10);

/// The purpose of the signing key.
const LABEL: &str = "access token";
/// How far the clocks of two nodes may differ.
const LEEWAY: TimeDelta = TimeDelta::seconds(5);
const ISSUER: &str = "crm";
const AUDIENCE: &str = "crm-api";
/// Longest token looked at; ours have about 460 bytes.
const MAX_TOKEN_BYTES: usize = 1024;

/// What a verified access token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessClaims {
    /// The token itself (`jti`).
    pub id: Uuid,
    /// Who it was issued to (`sub`).
    pub user: UserId,
    /// The tenant it opens (`tid`).
    pub tenant: TenantId,
    /// The login it belongs to (`fam`); none when an operator issued it.
    pub family: Option<FamilyId>,
    /// When it was issued (`iat`), to the second.
    pub issued_at: DateTime<Utc>,
    /// When it ends (`exp`), to the second.
    pub expires_at: DateTime<Utc>,
}

/// The claims as they travel.
#[derive(Serialize, Deserialize)]
struct Payload<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: UserId,
    tid: TenantId,
    #[serde(skip_serializing_if = "Option::is_none")]
    fam: Option<FamilyId>,
    iat: i64,
    exp: i64,
    jti: Uuid,
}

/// Issues and verifies access tokens.
pub struct AccessTokens {
    header: String,
    signing: EncodingKey,
    /// The accepted keys, by the encoded header that names them.
    verifying: HashMap<String, DecodingKey>,
    lifetime: TimeDelta,
    clock: Clock,
}

impl AccessTokens {
    /// Tokens signed with a key derived from `keys`, living `lifetime` each.
    ///
    /// # Errors
    /// [`Error::Configuration`] when the lifetime is not between one second and one day.
    pub fn new(keys: &SigningKeys, lifetime: TimeDelta, clock: Clock) -> Result<Self> {
        if lifetime < TimeDelta::seconds(1) || lifetime > TimeDelta::days(1) {
            return Err(Error::Configuration(
                "the access token lifetime must lie between one second and one day".into(),
            ));
        }
        let current = keys.derive(LABEL);
        let header = header(&current)?;
        let mut verifying = HashMap::new();
        if let Some(previous) = keys.derive_previous(LABEL) {
            verifying.insert(
                self::header(&previous)?,
                DecodingKey::from_secret(&previous),
            );
        }
        verifying.insert(header.clone(), DecodingKey::from_secret(&current));
        let signing = EncodingKey::from_secret(&current);
        Ok(Self {
            header,
            signing,
            verifying,
            lifetime,
            clock,
        })
    }

    /// How long a new token lives.
    pub fn lifetime(&self) -> TimeDelta {
        self.lifetime
    }

    /// Issues a token that lets `user` into `tenant`.
    ///
    /// # Errors
    /// [`Error::Internal`] when signing fails, which is a bug.
    pub fn issue(
        &self,
        user: UserId,
        tenant: TenantId,
        family: Option<FamilyId>,
    ) -> Result<SecretString> {
        let now = self.clock.now();
        let payload = Payload {
            iss: ISSUER,
            aud: AUDIENCE,
            sub: user,
            tid: tenant,
            fam: family,
            iat: now.timestamp(),
            exp: (now + self.lifetime).timestamp(),
            jti: self.clock.new_id(),
        };
        let payload = serde_json::to_vec(&payload).map_err(Error::internal)?;
        let message = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(payload));
        let signature = crypto::sign(message.as_bytes(), &self.signing, Algorithm::HS256)
            .map_err(Error::internal)?;
        Ok(format!("{message}.{signature}").into())
    }

    /// Checks a token and reads its claims.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`]: `token_malformed` for what is no JWT in compact form,
    /// `token_expired` for one whose time is over, `token_invalid` for every other reason.
    pub fn verify(&self, token: &str) -> Result<AccessClaims> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(malformed());
        }
        let (message, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (header, payload) = message.split_once('.').ok_or_else(malformed)?;
        if header.is_empty() || payload.is_empty() || payload.contains('.') {
            return Err(malformed());
        }
        let key = self.verifying.get(header).ok_or_else(invalid)?;
        match crypto::verify(signature, message.as_bytes(), key, Algorithm::HS256) {
            Ok(true) => self.read(payload),
            Ok(false) | Err(_) => Err(invalid()),
        }
    }

    /// Reads and judges the claims of a token whose signature holds.
    fn read(&self, payload: &str) -> Result<AccessClaims> {
        let mut json = [0; MAX_TOKEN_BYTES];
        let length = URL_SAFE_NO_PAD
            .decode_slice(payload, &mut json)
            .map_err(|_| invalid())?;
        let json = json.get(..length).ok_or_else(invalid)?;
        let payload: Payload<'_> = serde_json::from_slice(json).map_err(|_| invalid())?;
        if payload.iss != ISSUER || payload.aud != AUDIENCE {
            return Err(invalid());
        }
        let issued_at = DateTime::from_timestamp(payload.iat, 0).ok_or_else(invalid)?;
        let expires_at = DateTime::from_timestamp(payload.exp, 0).ok_or_else(invalid)?;
        let now = self.clock.now();
        if issued_at > now + LEEWAY {
            return Err(invalid());
        }
        if expires_at <= now - LEEWAY {
            return Err(Error::unauthenticated(
                "token_expired",
                "the access token has expired; get a new one with your refresh token",
            ));
        }
        Ok(AccessClaims {
            id: payload.jti,
            user: payload.sub,
            tenant: payload.tid,
            family: payload.fam,
            issued_at,
            expires_at,
        })
    }
}

/// The credential of an `Authorization` header's value (RFC 6750 §2.1).
///
/// # Errors
/// [`Error::Unauthenticated`]: `token_missing` without one, `token_malformed` when it is of another
/// scheme or empty.
pub fn bearer(authorization: Option<&str>) -> Result<&str> {
    let value = authorization.ok_or_else(|| {
        Error::unauthenticated(
            "token_missing",
            "send an access token or an API key in the header Authorization: Bearer",
        )
    })?;
    let (scheme, credential) = value.split_once(' ').ok_or_else(malformed)?;
    let credential = credential.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty() {
        Ok(credential)
    } else {
        Err(malformed())
    }
}

/// The encoded header of tokens signed with `key`, whose name (`kid`) follows from the key.
fn header(key: &[u8; 32]) -> Result<String> {
    use sha2::{Digest, Sha256};

    let header = Header {
        typ: Some("at+jwt".to_owned()),
        kid: Some(URL_SAFE_NO_PAD.encode(&Sha256::digest(key)[..9])),
        ..Header::new(Algorithm::HS256)
    };
    let json = serde_json::to_vec(&header).map_err(Error::internal)?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

fn malformed() -> Error {
    Error::unauthenticated(
        "token_malformed",
        "the credential is neither an access token nor an API key",
    )
}

fn invalid() -> Error {
    Error::unauthenticated(
        "token_invalid",
        "the access token is not valid here; log in again",
    )
}

#[cfg(test)]
mod tests;
