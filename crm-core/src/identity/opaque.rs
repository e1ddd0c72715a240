//! Opaque credentials: random text shown once, of which only a hash is kept.
//!
//! The hash is plain SHA-256 and the row is found by it: against 256 random bits neither a slow
//! hash nor a comparison in constant time adds anything, since nothing about the stored hash lets
//! one approach the secret step by step.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::clock::Clock;

/// `prefix` and 256 random bits in base64url.
pub(super) fn generate(clock: &Clock, prefix: &str) -> SecretString {
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(clock.random::<32>())).into()
}

/// What is stored of a credential: SHA-256 of its whole text.
pub(super) fn hash(credential: &SecretString) -> Vec<u8> {
    Sha256::digest(credential.expose_secret().as_bytes()).to_vec()
}
