//! What one login at a provider carries: secret, state, nonce and PKCE verifier.
//!
//! Whoever begins a login gets a **secret**, which says until when it holds and where it returns
//! to, under a key of this installation. State, nonce and verifier follow from the secret and
//! another purpose of that key, so nothing is stored for a login that is only begun, however many
//! are. The state travels through the browser; the secret never does: it stays with the client that
//! began, so that a login begun by somebody else cannot be finished by it (login CSRF, RFC 9700
//! §4.7). The verifier never leaves this server but for the provider's token endpoint (RFC 7636).
//!
//! Used ones are noted until they would be out of date: each works once.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::super::key::{SigningKeys, mac};
use super::super::opaque;
use crate::clock::Clock;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::Result;
use crate::id::{ProviderId, TenantId};

/// How long a login may take from its beginning.
pub(super) const LIFETIME: TimeDelta = TimeDelta::minutes(10);
const PREFIX: &str = "crm_ol_";
/// Longest secret or nonce looked at.
const MOST_BYTES: usize = 1_000;
const MAC_BYTES: usize = 32;
const RANDOM_BYTES: usize = 32;

/// The provider that a login is at.
pub(super) type Place = (TenantId, ProviderId);

/// Makes and checks what logins carry.
pub(super) struct Flows {
    key: SecretBox<[u8; 32]>,
    clock: Clock,
}

/// A login whose secret holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) redirect_uri: String,
    pub(super) state: String,
    pub(super) nonce: String,
    pub(super) verifier: String,
    pub(super) expires_at: DateTime<Utc>,
}

impl Begun {
    /// The challenge of the verifier (RFC 7636 §4.2, `S256`).
    pub(super) fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.as_bytes()))
    }

    /// Whether this is the state of the login.
    pub(super) fn has_state(&self, state: &str) -> bool {
        self.state.as_bytes().ct_eq(state.as_bytes()).into()
    }
}

impl Flows {
    pub(super) fn new(keys: &SigningKeys, clock: Clock) -> Self {
        Self {
            key: SecretBox::new(Box::new(keys.derive("identity provider logins"))),
            clock,
        }
    }

    /// Begins a login that returns to `redirect_uri`.
    pub(super) fn begin(&self, place: Place, redirect_uri: &str) -> (SecretString, Begun) {
        let (text, expires_at) = self.issue("login", place, redirect_uri.as_bytes());
        let secret = format!("{PREFIX}{text}");
        let begun = self.follow(&secret, redirect_uri.to_owned(), expires_at);
        (secret.into(), begun)
    }

    /// The login that a secret belongs to; none for one of another provider, or too old.
    pub(super) fn read(&self, place: Place, secret: &SecretString) -> Option<Begun> {
        let secret = secret.expose_secret();
        let (redirect_uri, expires_at) =
            self.check("login", place, secret.strip_prefix(PREFIX)?)?;
        let redirect_uri = String::from_utf8(redirect_uri).ok()?;
        Some(self.follow(secret, redirect_uri, expires_at))
    }

    /// A nonce for a client that gets its ID token by itself, and until when it holds.
    pub(super) fn nonce(&self, place: Place) -> (String, DateTime<Utc>) {
        self.issue("nonce", place, b"")
    }

    /// Until when a nonce of ours holds; none for another one, or one that is too old.
    pub(super) fn read_nonce(&self, place: Place, nonce: &str) -> Option<DateTime<Utc>> {
        self.check("nonce", place, nonce).map(|(_, end)| end)
    }

    fn follow(&self, secret: &str, redirect_uri: String, expires_at: DateTime<Utc>) -> Begun {
        let of = |what: &str| {
            let parts = [what.as_bytes(), b"\0", secret.as_bytes()];
            URL_SAFE_NO_PAD.encode(mac(self.key.expose_secret(), &parts))
        };
        Begun {
            redirect_uri,
            state: of("state"),
            nonce: of("nonce of a login"),
            verifier: of("verifier"),
            expires_at,
        }
    }

    /// A text that this server alone can have made: end, random bytes, `carried`, and a MAC.
    fn issue(&self, what: &str, place: Place, carried: &[u8]) -> (String, DateTime<Utc>) {
        let end = (self.clock.now() + LIFETIME).timestamp();
        let random = self.clock.random::<RANDOM_BYTES>();
        let payload = [&end.to_be_bytes()[..], &random, carried].concat();
        let text = [&payload[..], &self.seal(what, place, &payload)].concat();
        let expires_at = DateTime::from_timestamp(end, 0).unwrap_or_default();
        (URL_SAFE_NO_PAD.encode(text), expires_at)
    }

    /// What such a text carries, and its end.
    fn check(&self, what: &str, place: Place, text: &str) -> Option<(Vec<u8>, DateTime<Utc>)> {
        if text.len() > MOST_BYTES {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (payload, seal) = bytes.split_last_chunk::<MAC_BYTES>()?;
        if !bool::from(seal.ct_eq(&self.seal(what, place, payload))) {
            return None;
        }
        let (end, rest) = payload.split_first_chunk::<8>()?;
        let end = DateTime::from_timestamp(i64::from_be_bytes(*end), 0)?;
        let now = self.clock.now();
        // A clock that was put back makes no login last longer than any lasts.
        if end <= now || end > now + LIFETIME {
            return None;
        }
        Some((rest.get(RANDOM_BYTES..)?.to_vec(), end))
    }

    fn seal(&self, what: &str, (tenant, provider): Place, payload: &[u8]) -> [u8; MAC_BYTES] {
        let (tenant, provider) = (tenant.0.as_bytes(), provider.0.as_bytes());
        let parts = [what.as_bytes(), b"\0", tenant, provider, payload];
        mac(self.key.expose_secret(), &parts)
    }
}

/// Uses a secret or nonce up; `false` when it was.
pub(super) async fn spend(
    tx: &mut Tx<'_>,
    clock: &Clock,
    tenant: TenantId,
    (text, expires_at): (&SecretString, DateTime<Utc>),
) -> Result<bool> {
    let ended = Sql::new("DELETE FROM spent_logins WHERE tenant_id = $1 AND expires_at <= $2")
        .bind(tenant, ColumnType::Uuid)
        .bind(clock.now() - LIFETIME, ColumnType::Instant);
    tx.execute(ended).await?;
    let insert = Sql::new(
        "INSERT INTO spent_logins (tenant_id, hash, expires_at) VALUES ($1, $2, $3) \
         ON CONFLICT (tenant_id, hash) DO NOTHING",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(opaque::hash(text), ColumnType::Bytes)
    .bind(expires_at, ColumnType::Instant);
    Ok(tx.execute(insert).await? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: u128) -> Place {
        let id = uuid::Uuid::from_u128(number);
        (TenantId(id), ProviderId(id))
    }

    fn flows() -> (Flows, std::sync::Arc<crate::clock::Fixed>) {
        let keys = SigningKeys::from_secret(&"a".repeat(32).into()).unwrap();
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let (clock, hands) = Clock::fixed(start, 1);
        (Flows::new(&keys, clock), hands)
    }

    #[test]
    fn a_secret_holds_for_its_provider_for_ten_minutes() {
        let (flows, hands) = flows();
        let (secret, begun) = flows.begin(place(1), "https://app.example/back");
        assert_eq!(flows.read(place(1), &secret), Some(begun));
        assert_eq!(flows.read(place(2), &secret), None);
        hands.step_back(TimeDelta::minutes(1));
        assert_eq!(flows.read(place(1), &secret), None);
        hands.advance(TimeDelta::minutes(11));
        assert_eq!(flows.read(place(1), &secret), None);
    }

    #[test]
    fn what_a_login_carries_differs_and_tells_nothing_of_the_rest() {
        let (flows, _) = flows();
        let (secret, begun) = flows.begin(place(1), "https://app.example/back");
        let (_, other) = flows.begin(place(1), "https://app.example/back");
        let texts = [
            secret.expose_secret(),
            &begun.state,
            &begun.nonce,
            &begun.verifier,
            &other.state,
            &other.nonce,
            &other.verifier,
        ];
        let different: std::collections::HashSet<_> = texts.iter().collect();
        assert_eq!(different.len(), texts.len());
        assert_eq!(
            begun.verifier.len(),
            43,
            "RFC 7636 asks for 43 to 128 characters"
        );
        assert!(begun.has_state(&begun.state) && !begun.has_state(&other.state));
    }

    #[test]
    fn altered_secrets_and_nonces_of_others_are_none() {
        let (flows, _) = flows();
        let (secret, _) = flows.begin(place(1), "https://app.example/back");
        let secret = secret.expose_secret();
        for end in [0, 8, secret.len() - 1] {
            assert_eq!(flows.read(place(1), &secret[..end].into()), None);
        }
        for at in PREFIX.len()..secret.len() {
            let mut altered = secret.as_bytes().to_vec();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(flows.read(place(1), &altered.into()), None, "at {at}");
        }
        let (nonce, end) = flows.nonce(place(1));
        assert_eq!(flows.read_nonce(place(1), &nonce), Some(end));
        assert_eq!(flows.read_nonce(place(2), &nonce), None);
        assert_eq!(flows.read_nonce(place(1), &secret[PREFIX.len()..]), None);
        assert_eq!(
            flows.read(place(1), &format!("{PREFIX}{nonce}").into()),
            None
        );
        assert_eq!(flows.read_nonce(place(1), &"A".repeat(10_000)), None);
    }
}
