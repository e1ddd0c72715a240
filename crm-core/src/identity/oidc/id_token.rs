//! ID tokens (OpenID Connect Core 1.0 §2, §3.1.3.7): whom a provider says it has in front of it.
//!
//! Accepted are four asymmetric algorithms, each with keys of its own kind and nothing else, so
//! that neither `none` nor a public key taken for an HMAC secret gets anywhere. The header names a
//! key of the provider's published set; keys that a token brings along or points to are not looked
//! at.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::Deserialize;
use serde_json::{Number, Value as Json};
use subtle::ConstantTimeEq as _;

use super::super::normalize_email;

/// How far the provider's clock may differ, in seconds.
const LEEWAY: i64 = 60;
/// Longest token looked at.
const MOST_BYTES: usize = 16 * 1024;
/// Longest subject (OpenID Connect Core 1.0 §2).
const MOST_SUBJECT_BYTES: usize = 255;
/// Most keys of a set that are looked at.
const MOST_KEYS: usize = 64;
/// Bytes of RSA moduli: 2,048 to 8,192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Why a token is refused, for the log alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused(pub(super) &'static str);

/// What a token has to say.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    pub(super) now: DateTime<Utc>,
}

/// Whom the provider has in front of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    /// Its name for them, the same for ever.
    pub(super) id: String,
    /// Their address, as far as it is one.
    pub(super) email: Option<String>,
    /// Whether it says that the address is theirs.
    pub(super) email_verified: bool,
    pub(super) name: Option<String>,
    /// Whether it says that it asked for more than one factor (`amr`, RFC 8176).
    pub(super) second_factor: bool,
}

/// A token that has the right form; nothing of what it says is known to hold.
#[derive(Debug)]
pub(super) struct IdToken<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Json>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: Number,
    iat: Number,
    nbf: Option<Number>,
    nonce: String,
    email: Option<Json>,
    email_verified: Option<Json>,
    name: Option<Json>,
    amr: Option<Json>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl<'a> IdToken<'a> {
    /// Reads the form of a token.
    ///
    /// # Errors
    /// [`Refused`] for anything but a signed token of an algorithm that is accepted.
    pub(super) fn parse(text: &'a str) -> Result<Self, Refused> {
        if text.len() > MOST_BYTES {
            return Err(Refused("too long"));
        }
        let form = Refused("not of three parts");
        let (message, signature) = text.rsplit_once('.').ok_or(form)?;
        let (header, payload) = message.split_once('.').ok_or(form)?;
        if payload.contains('.') || signature.is_empty() {
            return Err(form);
        }
        let header: Header = decode(header).ok_or(Refused("header"))?;
        let algorithm = match header.alg.as_str() {
            "RS256" => Algorithm::RS256,
            "PS256" => Algorithm::PS256,
            "ES256" => Algorithm::ES256,
            "EdDSA" => Algorithm::EdDSA,
            _ => return Err(Refused("alg")),
        };
        let is_jwt = |typ: &str| typ.eq_ignore_ascii_case("jwt");
        if header.crit.is_some() || !header.typ.as_deref().is_none_or(is_jwt) {
            return Err(Refused("crit or typ"));
        }
        Ok(Self {
            algorithm,
            kid: header.kid,
            message,
            payload,
            signature,
        })
    }

    /// Holds the token against a key and what is expected of it.
    ///
    /// # Errors
    /// [`Refused`] with what does not fit.
    pub(super) fn verify(
        &self,
        key: &DecodingKey,
        expected: &Expected<'_>,
    ) -> Result<Subject, Refused> {
        let verified = crypto::verify(self.signature, self.message.as_bytes(), key, self.algorithm);
        if !matches!(verified, Ok(true)) {
            return Err(Refused("signature"));
        }
        let claims: Claims = decode(self.payload).ok_or(Refused("claims"))?;
        claims.judge(expected)?;
        Ok(claims.into())
    }
}

impl Claims {
    fn judge(&self, expected: &Expected<'_>) -> Result<(), Refused> {
        if self.iss != expected.issuer {
            return Err(Refused("iss"));
        }
        let ours = match &self.aud {
            Audience::One(audience) => audience == expected.client_id,
            // Meant for others too, so it has to say that it was made for this client.
            Audience::Many(all) => {
                all.iter().any(|audience| audience == expected.client_id)
                    && (all.len() == 1 || self.azp.is_some())
            }
        };
        if !ours {
            return Err(Refused("aud"));
        }
        if self
            .azp
            .as_ref()
            .is_some_and(|azp| azp != expected.client_id)
        {
            return Err(Refused("azp"));
        }
        let now = expected.now.timestamp();
        let seconds = |number: &Number| number.as_i64().or_else(|| whole(number.as_f64()?));
        let past = |number: &Number| seconds(number).is_some_and(|at| at <= now + LEEWAY);
        if seconds(&self.exp).is_none_or(|end| end <= now - LEEWAY) {
            return Err(Refused("exp"));
        }
        if !past(&self.iat) || !self.nbf.as_ref().is_none_or(past) {
            return Err(Refused("iat or nbf"));
        }
        if !bool::from(self.nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
            return Err(Refused("nonce"));
        }
        let is_name = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        if self.sub.is_empty()
            || self.sub.len() > MOST_SUBJECT_BYTES
            || !self.sub.bytes().all(is_name)
        {
            return Err(Refused("sub"));
        }
        Ok(())
    }
}

impl From<Claims> for Subject {
    fn from(claims: Claims) -> Self {
        let text = |claim: &Option<Json>| claim.as_ref().and_then(Json::as_str).map(str::to_owned);
        let email = text(&claims.email).and_then(|email| normalize_email(&email).ok());
        let methods = claims.amr.as_ref().and_then(Json::as_array);
        Self {
            // The word of an address that cannot be read is worth nothing.
            email_verified: email.is_some() && claims.email_verified == Some(Json::Bool(true)),
            email,
            name: text(&claims.name),
            second_factor: methods.is_some_and(|all| all.iter().any(|method| method == "mfa")),
            id: claims.sub,
        }
    }
}

/// A number of seconds that is written with a fraction.
fn whole(number: f64) -> Option<i64> {
    let fits = number.is_finite() && number.abs() < 1e15;
    fits.then_some(number.floor() as i64)
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok()
}

/// The keys that a provider publishes, as far as its tokens may be signed by them.
pub(super) struct Keys(Vec<Key>);

struct Key {
    kid: Option<String>,
    algorithms: &'static [Algorithm],
    /// The only one, where the key says so.
    algorithm: Option<String>,
    decoding: DecodingKey,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Json>,
}

#[derive(Deserialize)]
struct Published {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// The keys of a JWK Set (RFC 7517); those of no use here are left out.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        let set: Set = serde_json::from_slice(json).ok()?;
        let keys = set.keys.into_iter().take(MOST_KEYS);
        Some(Self(keys.filter_map(Key::of).collect()))
    }

    /// The key of a token's header: by its name, or the only one of the kind for a token that names
    /// none.
    pub(super) fn find(&self, token: &IdToken<'_>) -> Option<&DecodingKey> {
        let mut fit = self.0.iter().filter(|key| key.signs(token.algorithm));
        let found = match &token.kid {
            Some(kid) => fit.find(|key| key.kid.as_ref() == Some(kid)),
            None => {
                let only = fit.next();
                only.filter(|_| fit.next().is_none())
            }
        };
        found.map(|key| &key.decoding)
    }
}

impl Key {
    fn of(json: Json) -> Option<Self> {
        let key: Published = serde_json::from_value(json).ok()?;
        if key.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let part = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        let curve = key.crv.as_deref();
        let (algorithms, decoding): (&'static [Algorithm], _) = match key.kty.as_str() {
            "RSA" => {
                let (modulus, exponent) = (part(&key.n)?, part(&key.e)?);
                let leading = modulus.iter().take_while(|byte| **byte == 0).count();
                if !RSA_BYTES.contains(&(modulus.len() - leading)) {
                    return None;
                }
                let decoding = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
                (&[Algorithm::RS256, Algorithm::PS256], decoding)
            }
            "EC" if curve == Some("P-256") => {
                let (x, y) = (part(&key.x)?, part(&key.y)?);
                let point = [&[4], &x[..], &y[..]].concat();
                if (x.len(), y.len()) != (32, 32) {
                    return None;
                }
                (&[Algorithm::ES256], DecodingKey::from_ec_der(&point))
            }
            "OKP" if curve == Some("Ed25519") => {
                let x = part(&key.x).filter(|x| x.len() == 32)?;
                (&[Algorithm::EdDSA], DecodingKey::from_ed_der(&x))
            }
            _ => return None,
        };
        Some(Self {
            kid: key.kid,
            algorithms,
            algorithm: key.alg,
            decoding,
        })
    }

    fn signs(&self, algorithm: Algorithm) -> bool {
        let named = self.algorithm.as_deref();
        self.algorithms.contains(&algorithm)
            && named.is_none_or(|name| name.parse() == Ok(algorithm))
    }
}

#[cfg(test)]
mod tests;
