//! Time-based one-time passwords: RFC 6238 with HMAC-SHA-1, six digits and steps of 30 seconds,
//! which is what every authenticator application understands.
//!
//! A code is accepted of the present step and its two neighbours, so that clocks may differ by half
//! a minute (RFC 6238 §5.2); of the present one alone where the application authenticates strictly.

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use subtle::ConstantTimeEq as _;

/// Bytes of a secret: as many as HMAC-SHA-1 yields (RFC 4226 §4, R6).
pub(super) const SECRET_BYTES: usize = 20;
const STEP_SECONDS: i64 = 30;
const DIGITS: usize = 6;

/// Whether a text has the form of a code.
pub(super) fn is_code(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The step whose code this is, when that is at most `drift` steps from `now`.
pub(super) fn step_of(secret: &[u8], code: &str, now: DateTime<Utc>, drift: i64) -> Option<i64> {
    let present = now.timestamp() / STEP_SECONDS;
    let mut steps = ((present - drift)..=(present + drift)).rev();
    steps.find(|step| bool::from(code_at(secret, *step).as_bytes().ct_eq(code.as_bytes())))
}

/// The code of a step (RFC 4226 §5.3).
#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn code_at(secret: &[u8], step: i64) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(&step.to_be_bytes());
    let digest: [u8; 20] = mac.finalize().into_bytes().into();
    let offset = usize::from(digest[19] & 0x0f);
    let word = [0, 1, 2, 3].map(|index| digest[offset + index]);
    let number = (u32::from_be_bytes(word) & 0x7fff_ffff) % 1_000_000;
    format!("{number:0DIGITS$}")
}

/// RFC 4648 §6, without padding.
pub(super) fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::new();
    for chunk in bytes.chunks(5) {
        let mut block = [0; 8];
        block[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(block);
        for index in 0..(chunk.len() * 8).div_ceil(5) {
            let letter = (bits >> (35 - 5 * index)) & 31;
            text.push(char::from(ALPHABET[usize::try_from(letter).unwrap_or(0)]));
        }
    }
    text
}

/// What an authenticator application reads from a QR code: the `otpauth` form of its key URIs.
pub(super) fn uri(issuer: &str, account: &str, secret: &str) -> String {
    let mut uri = url::Url::parse("otpauth://totp/").map_or_else(
        |_| String::new(),
        |mut url| {
            url.set_path(&format!("{issuer}:{account}"));
            url.query_pairs_mut().append_pair("issuer", issuer);
            url.into()
        },
    );
    uri.push_str("&secret=");
    uri.push_str(secret);
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn codes_are_those_of_rfc_6238() {
        let secret = b"12345678901234567890";
        // Appendix B has eight digits; ours are the last six.
        for (second, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_234_567_890, "005924"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code_at(secret, second / 30), code);
            for shift in [-30, 0, 30] {
                let step = step_of(secret, code, at(second + shift), 1);
                assert_eq!(step, Some(second / 30));
                let own = step_of(secret, code, at(second + shift), 0);
                assert_eq!(own, step.filter(|_| shift == 0));
            }
            assert_eq!(step_of(secret, code, at(second + 60), 1), None);
        }
    }

    #[test]
    fn base32_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn the_uri_names_issuer_and_account() {
        assert_eq!(
            uri("Acme & Sons", "ada@acme.example", "MZXW6"),
            "otpauth://totp/Acme%20&%20Sons:ada@acme.example?issuer=Acme+%26+Sons&secret=MZXW6"
        );
    }

    #[test]
    fn only_six_digits_are_a_code() {
        assert!(is_code("012345"));
        for text in ["12345", "1234567", "12345a", "１２３４５６", ""] {
            assert!(!is_code(text), "{text}");
        }
    }
}
