//! The signing keys in memory, by the encoded header that names each.
//!
//! A token's header must be, byte for byte, one that this library writes: algorithm, type and key
//! are pinned together, so `none`, another algorithm for the same key, another type and an unknown
//! key all end at one look-up, which costs no signature and no database.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use sha2::{Digest, Sha256};

use super::key::SigningKeys;
use super::token_key::{KeyRow, TokenAlgorithm};
use crate::error::{Error, Result};

/// An Ed25519 private key in PKCS #8 (RFC 8410 §7) without its last 32 bytes, the seed.
const ED25519_PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// A P-256 private key in PKCS #8 (RFC 5915, RFC 5958) without its last 32 bytes, the scalar; the
/// public key is left out, and computed by whoever reads it.
const P256_PKCS8: [u8; 35] = [
    0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01,
    0x01, 0x04, 0x20,
];

/// A key with what follows from its row.
pub(super) struct SetKey {
    /// The name that the header of its tokens carries.
    pub(super) kid: String,
    /// The encoded header of its tokens.
    pub(super) header: String,
    pub(super) algorithm: Algorithm,
    pub(super) encoding: EncodingKey,
    pub(super) decoding: DecodingKey,
    /// None for a secret.
    public: Option<Jwk>,
    starts_at: DateTime<Utc>,
    ends_at: Option<DateTime<Utc>>,
}

/// The keys that are not revoked.
#[derive(Default)]
pub(super) struct KeySet {
    /// By the time that each begins to sign.
    keys: Vec<SetKey>,
    /// Keys of the secret used before; they only verify.
    previous: Vec<SetKey>,
    by_header: HashMap<String, (Place, usize)>,
}

#[derive(Clone, Copy)]
enum Place {
    Current,
    Previous,
}

impl KeySet {
    /// The keys of these rows under the operator's secret.
    ///
    /// # Errors
    /// [`Error::Internal`] when a key cannot be made, which is a bug.
    pub(super) fn new(root: &SigningKeys, rows: &[KeyRow]) -> Result<Self> {
        let mut set = Self::default();
        for row in rows.iter().filter(|row| row.revoked_at.is_none()) {
            let key = SetKey::new(row, |label| root.derive(label))?;
            let place = (Place::Current, set.keys.len());
            set.by_header.insert(key.header.clone(), place);
            set.keys.push(key);
            if root.derive_previous("").is_some() {
                let derive = |label: &str| root.derive_previous(label).unwrap_or_default();
                let key = SetKey::new(row, derive)?;
                let place = (Place::Previous, set.previous.len());
                set.by_header.insert(key.header.clone(), place);
                set.previous.push(key);
            }
        }
        Ok(set)
    }

    /// The key that signs: of those that have begun and verify still the latest, one without a
    /// successor before any other. Should the clock stand before all of them, the first one.
    pub(super) fn signing(&self, now: DateTime<Utc>) -> Option<&SetKey> {
        let keys = self.keys.iter().filter(|key| key.starts_at <= now);
        let begun = keys.filter(|key| key.ends_at.is_none_or(|end| now < end));
        begun
            .max_by_key(|key| (key.ends_at.is_none(), key.starts_at))
            .or_else(|| self.keys.first())
    }

    /// The key that a header names, until its end.
    pub(super) fn verifying(&self, header: &str, now: DateTime<Utc>) -> Option<&SetKey> {
        let key = match *self.by_header.get(header)? {
            (Place::Current, index) => self.keys.get(index),
            (Place::Previous, index) => self.previous.get(index),
        }?;
        key.ends_at.is_none_or(|end| now < end).then_some(key)
    }

    /// The public keys that verify now or will soon.
    pub(super) fn published(&self, now: DateTime<Utc>) -> Vec<&Jwk> {
        let current = self.keys.iter();
        current
            .filter(|key| key.ends_at.is_none_or(|end| now < end))
            .filter_map(|key| key.public.as_ref())
            .collect()
    }
}

impl SetKey {
    fn new(row: &KeyRow, derive: impl Fn(&str) -> [u8; 32]) -> Result<Self> {
        let algorithm = row.algorithm.jwt();
        let kid = name(&derive(&label(row, 0)));
        let (encoding, decoding, public) = match row.algorithm {
            TokenAlgorithm::Hs256 => {
                let secret = derive(&label(row, 0));
                let keys = (
                    EncodingKey::from_secret(&secret),
                    DecodingKey::from_secret(&secret),
                );
                (keys.0, keys.1, None)
            }
            TokenAlgorithm::EdDsa => {
                let der = [ED25519_PKCS8.as_slice(), &derive(&label(row, 0))].concat();
                pair(EncodingKey::from_ed_der(&der), algorithm, &kid)?
            }
            TokenAlgorithm::Es256 => {
                // One in 2³² texts is no scalar of the curve; then the next one is taken.
                let tried = (0..8).map(|attempt| {
                    let der = [P256_PKCS8.as_slice(), &derive(&label(row, attempt))].concat();
                    pair(EncodingKey::from_ec_der(&der), algorithm, &kid)
                });
                let mut made = tried.skip_while(Result::is_err);
                made.next()
                    .unwrap_or_else(|| Err(Error::internal("no P-256 key could be derived")))?
            }
        };
        Ok(Self {
            header: header(algorithm, kid.clone())?,
            kid,
            algorithm,
            encoding,
            decoding,
            public,
            starts_at: row.starts_at,
            ends_at: row.ends_at,
        })
    }
}

/// The name of a row's key in the header of tokens: it follows from the key, so that another secret
/// never goes by the same name.
pub(super) fn kid(root: &SigningKeys, row: &KeyRow) -> String {
    name(&root.derive(&label(row, 0)))
}

fn name(material: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(&Sha256::digest(material)[..9])
}

fn label(row: &KeyRow, attempt: u8) -> String {
    format!("access token {} {} {attempt}", row.algorithm.name(), row.id)
}

fn pair(
    encoding: EncodingKey,
    algorithm: Algorithm,
    kid: &str,
) -> Result<(EncodingKey, DecodingKey, Option<Jwk>)> {
    let mut public = Jwk::from_encoding_key(&encoding, algorithm).map_err(Error::internal)?;
    public.common.key_id = Some(kid.to_owned());
    public.common.public_key_use = Some(PublicKeyUse::Signature);
    let decoding = DecodingKey::from_jwk(&public).map_err(Error::internal)?;
    Ok((encoding, decoding, Some(public)))
}

fn header(algorithm: Algorithm, kid: String) -> Result<String> {
    let header = Header {
        typ: Some("at+jwt".to_owned()),
        kid: Some(kid),
        ..Header::new(algorithm)
    };
    let json = serde_json::to_vec(&header).map_err(Error::internal)?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}
