//! The keys of this installation, all derived from the one secret the operator keeps.
//!
//! Refuses a secret too short to be one.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use sha2::Sha256;

use crate::error::{Error, Result};

/// Fewest bytes of a secret: as many as the HMAC-SHA-256 keys made from it (RFC 7518 §3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// The operator's secret (`CRM_SECRET_KEY`), as a source of keys.
///
/// Each purpose gets a key of its own by HKDF-SHA-256 (RFC 5869), so that what is signed for one
/// purpose never passes for another, and no key tells anything about the others.
pub struct SigningKeys {
    root: SecretBox<[u8; 32]>,
    previous: Option<SecretBox<[u8; 32]>>,
}

impl SigningKeys {
    /// Takes the secret in use.
    ///
    /// # Errors
    /// [`Error::Configuration`] when it is shorter than [`MIN_SECRET_BYTES`].
    pub fn from_secret(secret: &SecretString) -> Result<Self> {
        Ok(Self {
            root: extract(secret)?,
            previous: None,
        })
    }

    /// Keeps accepting access tokens signed under the secret used before, while it is replaced.
    ///
    /// # Errors
    /// [`Error::Configuration`] when it is shorter than [`MIN_SECRET_BYTES`].
    pub fn with_previous(mut self, secret: &SecretString) -> Result<Self> {
        self.previous = Some(extract(secret)?);
        Ok(self)
    }

    /// The key for one purpose, named by `label`.
    pub fn derive(&self, label: &str) -> [u8; 32] {
        expand(&self.root, label)
    }

    /// The key for one purpose under the secret used before.
    pub(super) fn derive_previous(&self, label: &str) -> Option<[u8; 32]> {
        self.previous.as_ref().map(|root| expand(root, label))
    }
}

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKeys")
    }
}

/// HKDF-Extract with a salt that names this library.
fn extract(secret: &SecretString) -> Result<SecretBox<[u8; 32]>> {
    let secret = secret.expose_secret().as_bytes();
    if secret.len() < MIN_SECRET_BYTES {
        return Err(Error::Configuration(
            format!(
                "the secret key has {} of at least {MIN_SECRET_BYTES} bytes; \
                 make one with: openssl rand -base64 48",
                secret.len()
            )
            .into(),
        ));
    }
    Ok(SecretBox::new(Box::new(mac(b"crm-core/1", &[secret]))))
}

/// HKDF-Expand to one block, which is all that a 32-byte key needs.
fn expand(root: &SecretBox<[u8; 32]>, label: &str) -> [u8; 32] {
    mac(root.expose_secret(), &[label.as_bytes(), &[1]])
}

/// HMAC-SHA-256 (RFC 2104) of these parts.
#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xc_16_a_secret_of_31_bytes_is_refused_with_one_clear_line() {
        let refused = SigningKeys::from_secret(&"x".repeat(31).into()).unwrap_err();
        let line = refused.to_string();
        assert!(matches!(refused, Error::Configuration(_)));
        assert!(
            line.contains("the secret key has 31 of at least 32 bytes") && !line.contains('\n'),
            "{line}"
        );
        assert!(SigningKeys::from_secret(&"x".repeat(32).into()).is_ok());
    }

    #[test]
    fn every_purpose_and_every_secret_has_a_key_of_its_own() {
        let one = SigningKeys::from_secret(&"a".repeat(32).into()).unwrap();
        let other = SigningKeys::from_secret(&"b".repeat(32).into()).unwrap();
        assert_eq!(one.derive("cursor"), one.derive("cursor"));
        assert_ne!(one.derive("cursor"), one.derive("access token"));
        assert_ne!(one.derive("cursor"), other.derive("cursor"));
    }

    #[test]
    fn derivation_is_hkdf_sha_256() {
        // Test case 1 of RFC 5869 cannot be fed through the public door (its secret is 22 bytes),
        // so the two steps are held against it directly; its 42 bytes begin with our 32.
        let prk = mac(&(0..=0x0c).collect::<Vec<u8>>(), &[&[0x0b; 22]]);
        let okm = mac(&prk, &[&(0xf0..=0xf9).collect::<Vec<u8>>(), &[1]]);
        let rfc = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf";
        assert_eq!(hex::encode(okm), rfc);
    }

    #[test]
    fn the_keys_do_not_show_in_debug_output() {
        let keys = SigningKeys::from_secret(&"a".repeat(32).into()).unwrap();
        assert_eq!(format!("{keys:?}"), "SigningKeys");
    }
}
