//! Secrets that must be read again, and so cannot be hashed: sealed with AES-256-GCM (NIST SP
//! 800-38D) under a key derived from the operator's secret.
//!
//! A sealed text is a nonce, the ciphertext and its tag, and opens only under the label that it was
//! sealed for: who may write to the database cannot move one to another row's place.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::key::SigningKeys;
use crate::clock::Clock;
use crate::db::{ColumnType, Row};
use crate::error::{Error, Result};

/// The purpose of the key.
const LABEL: &str = "sealed secrets";

/// Where the database keeps sealed values. Each module that seals names its place, in
/// [`super::secret_proof`]'s list, so that a change of the operator's secret finds them all.
pub(crate) struct Sealed {
    /// What one is, and what several are.
    pub(crate) words: (&'static str, &'static str),
    pub(crate) table: &'static str,
    pub(crate) column: &'static str,
    /// Whether the row means something without the value, and so stays when that is lost.
    pub(crate) optional: bool,
    /// The primary key.
    pub(crate) key: &'static [(&'static str, ColumnType)],
    /// The label of the row with this key.
    pub(crate) label: fn(Row) -> Result<String>,
}

/// Seals and opens what the database keeps for this process.
pub(crate) struct Seal {
    current: LessSafeKey,
    previous: Option<LessSafeKey>,
    clock: Clock,
}

impl Seal {
    /// Under a key derived from `keys`.
    ///
    /// # Errors
    /// [`Error::Internal`] when the key is not one, which is a bug.
    pub(crate) fn new(keys: &SigningKeys, clock: Clock) -> Result<Self> {
        Ok(Self {
            current: key(&keys.derive(LABEL))?,
            previous: keys
                .derive_previous(LABEL)
                .map(|bytes| key(&bytes))
                .transpose()?,
            clock,
        })
    }

    /// Seals `secret` for the place that `label` names.
    ///
    /// # Errors
    /// [`Error::Internal`] when it is too long for the cipher, which is a bug.
    pub(crate) fn seal(&self, label: &str, secret: &[u8]) -> Result<Vec<u8>> {
        let nonce = self.clock.random::<NONCE_LEN>();
        let mut text = secret.to_vec();
        let tag = self.current.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(label.as_bytes()),
            &mut text,
        );
        let tag = tag.map_err(|_| Error::internal("a secret cannot be sealed"))?;
        Ok([&nonce[..], &text, tag.as_ref()].concat())
    }

    /// Opens what was sealed for the place that `label` names; `None` when it was not, or under a
    /// secret that is gone.
    pub(crate) fn open(&self, label: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let keys = std::iter::once(&self.current).chain(&self.previous);
        keys.into_iter().find_map(|key| opened(key, label, sealed))
    }

    /// Whether it opens under the secret in use.
    pub(super) fn is_current(&self, label: &str, sealed: &[u8]) -> bool {
        opened(&self.current, label, sealed).is_some()
    }
}

fn opened(key: &LessSafeKey, label: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let mut text = text.to_vec();
    let (nonce, aad) = (
        Nonce::assume_unique_for_key(*nonce),
        Aad::from(label.as_bytes()),
    );
    let secret = key.open_in_place(nonce, aad, &mut text).ok()?;
    Some(secret.to_vec())
}

fn key(bytes: &[u8; 32]) -> Result<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM, bytes);
    key.map(LessSafeKey::new)
        .map_err(|_| Error::internal("a key of 32 bytes was refused"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(letter: &str) -> SigningKeys {
        SigningKeys::from_secret(&letter.repeat(32).into()).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let seal = Seal::new(&keys("a"), Clock::system()).unwrap();
        let sealed = seal.seal("totp:1", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_eq!(
            seal.open("totp:1", &sealed).as_deref(),
            Some(&b"secret"[..])
        );
        assert_eq!(seal.open("totp:2", &sealed), None);
        let mut altered = sealed.clone();
        *altered.last_mut().unwrap() ^= 1;
        assert_eq!(seal.open("totp:1", &altered), None);
        assert_eq!(seal.open("totp:1", b"short"), None);
        let other = Seal::new(&keys("b"), Clock::system()).unwrap();
        assert_eq!(other.open("totp:1", &sealed), None);
    }

    #[test]
    fn what_was_sealed_under_the_secret_before_still_opens() {
        let old = Seal::new(&keys("a"), Clock::system()).unwrap();
        let sealed = old.seal("mail:1", b"secret").unwrap();
        let both = keys("b").with_previous(&"a".repeat(32).into()).unwrap();
        let new = Seal::new(&both, Clock::system()).unwrap();
        assert_eq!(new.open("mail:1", &sealed).as_deref(), Some(&b"secret"[..]));
    }
}
