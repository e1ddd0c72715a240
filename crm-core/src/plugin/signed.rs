//! Signed messages, as Standard Webhooks has them (specification 1.0.0, standardwebhooks.com): an
//! id, a time, and HMAC-SHA-256 over both and the body, by a secret that only the two sides know.
//!
//! What is wrong with a message is told only as far as the message itself shows it; all else is one
//! answer, so that nobody learns which tenants, plugins and webhooks there are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use subtle::{Choice, ConstantTimeEq as _};

use crate::error::{Error, Result};
use crate::identity::mac;

/// How far the sender's clock may be from ours.
const TOLERANCE: TimeDelta = TimeDelta::minutes(5);
/// Most signatures of a message that are looked at.
const MOST_SIGNATURES: usize = 16;
/// The longest id of a message.
const MAX_ID: usize = 255;

/// What a message says of itself in its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed<'a> {
    /// `webhook-id`: the same each time that the message is sent.
    pub id: &'a str,
    /// `webhook-timestamp`: seconds since 1970-01-01T00:00:00Z.
    pub timestamp: &'a str,
    /// `webhook-signature`: `v1,` and Base64, several with spaces between them.
    pub signatures: &'a str,
}

impl Signed<'_> {
    /// Refuses what no secret could make good.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] `message_out_of_time` for a time more than five minutes from now, and
    /// `signature_invalid`.
    pub(super) fn check(&self, now: DateTime<Utc>) -> Result<()> {
        // A dot would leave open where the id ends and what was signed begins.
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'.';
        if !(1..=MAX_ID).contains(&self.id.len()) || !self.id.bytes().all(plain) {
            return Err(invalid());
        }
        let digits = self.timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let sent = self.timestamp.parse().ok().filter(|_| digits);
        let sent = sent.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        match sent.ok_or_else(invalid)? {
            sent if (now - sent).abs() <= TOLERANCE => Ok(()),
            _ => Err(Error::unauthenticated(
                "message_out_of_time",
                "the message says that it was sent more than five minutes from now; send it again \
                 with the present time",
            )),
        }
    }

    /// Whether one of the signatures is that of one of the keys, which takes the same time for any.
    pub(super) fn holds(&self, keys: &[Vec<u8>], body: &[u8]) -> bool {
        let signatures = self.signatures.split(' ').take(MOST_SIGNATURES);
        let signatures =
            signatures.filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
        let signatures: Vec<_> = signatures.collect();
        let mut holds = Choice::from(0);
        for key in keys {
            let expected = self.sign(key, body);
            for signature in &signatures {
                holds |= expected.ct_eq(signature);
            }
        }
        holds.into()
    }

    pub(super) fn sign(&self, key: &[u8], body: &[u8]) -> [u8; 32] {
        let (id, timestamp) = (self.id.as_bytes(), self.timestamp.as_bytes());
        mac(key, &[id, b".", timestamp, b".", body])
    }
}

/// The answer to every message whose sender does not show that they know the secret.
pub(super) fn invalid() -> Error {
    Error::unauthenticated(
        "signature_invalid",
        "the message is not signed for a webhook that there is; look at its URL and its secret",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_614_265_330;

    fn signed<'a>(id: &'a str, timestamp: &'a str, signatures: &'a str) -> Signed<'a> {
        Signed {
            id,
            timestamp,
            signatures,
        }
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(NOW, 0).unwrap()
    }

    /// The example that the reference implementations of Standard Webhooks test with.
    #[test]
    fn the_example_of_the_reference_implementations_holds() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let right = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let wrong = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=";
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let time = NOW.to_string();
        let keys = [key.clone()];
        for (signatures, holds) in [
            (right.to_owned(), true),
            (format!("{wrong} v2,{} {right}", &right[3..]), true),
            (wrong.to_owned(), false),
            (right.replace("v1,", "v2,"), false),
            (right.replace("v1,", ""), false),
            (right[..right.len() - 4].to_owned(), false),
            (String::new(), false),
            (format!("{}{right}", format!("{wrong} ").repeat(16)), false),
        ] {
            let message = signed(id, &time, &signatures);
            assert!(message.check(now()).is_ok());
            assert_eq!(message.holds(&keys, body), holds, "{signatures}");
        }
        let message = signed(id, &time, right);
        assert!(message.holds(&[vec![0; 32], key], body), "any of the keys");
        assert!(!message.holds(&keys, b"{}"), "the body is signed");
        assert!(!message.holds(&[], body));
        let other = signed("msg_other", &time, right);
        assert!(!other.holds(&keys, body), "the id is signed");
    }

    #[test]
    fn a_time_that_is_five_minutes_off_is_refused_on_both_sides() {
        for (seconds, code) in [
            (NOW - 300, ""),
            (NOW + 300, ""),
            (NOW - 301, "message_out_of_time"),
            (NOW + 301, "message_out_of_time"),
        ] {
            let time = seconds.to_string();
            let checked = signed("msg_1", &time, "").check(now());
            assert_eq!(checked.err().map_or("", |error| error.code()), code);
        }
    }

    #[test]
    fn what_no_sender_writes_is_refused_without_a_look_at_secrets() {
        let long = "m".repeat(256);
        let time = NOW.to_string();
        for (id, time) in [
            ("", &*time),
            ("a.1614265330", &time),
            ("a b", &time),
            ("ä", &time),
            (&long, &time),
            ("msg_1", ""),
            ("msg_1", "+1614265330"),
            ("msg_1", "1614265330.0"),
            ("msg_1", "99999999999999999999"),
            ("msg_1", "9223372036854775807"),
        ] {
            let refused = signed(id, time, "").check(now()).unwrap_err();
            assert_eq!(refused.code(), "signature_invalid", "{id} {time}");
        }
    }
}
