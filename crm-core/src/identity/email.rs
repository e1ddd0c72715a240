//! E-mail addresses of users: one spelling, so that one person is one row.

use crate::error::{Error, Result};

/// Longest address that can be delivered to (RFC 5321 §4.5.3.1.3, less the angle brackets).
const MAX_EMAIL_BYTES: usize = 254;

/// The address as stored and compared: trimmed and lower-cased.
///
/// The syntax is that of HTML's e-mail field (WHATWG HTML, "valid e-mail address"), with at least
/// one dot in the domain: what browsers let through and mail programs accept.
///
/// # Errors
/// [`Error::Invalid`] on `email`: `too_long` or `malformed`.
pub fn normalize_email(text: &str) -> Result<String> {
    let text = text.trim();
    if text.len() > MAX_EMAIL_BYTES {
        let message = format!("Use at most {MAX_EMAIL_BYTES} characters.");
        return Err(Error::invalid("email", "too_long", message));
    }
    match text.split_once('@') {
        Some((local, domain)) if is_local(local) && is_domain(domain) => {
            Ok(text.to_ascii_lowercase())
        }
        _ => Err(Error::invalid(
            "email",
            "malformed",
            "Use an address like name@example.com.",
        )),
    }
}

fn is_local(text: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

pub(super) fn is_domain(text: &str) -> bool {
    text.contains('.') && text.split('.').all(is_label)
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_around_and_case_make_no_difference() {
        assert_eq!(
            normalize_email("  Ann.B+crm@Example.COM ").unwrap(),
            "ann.b+crm@example.com"
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@example.com", "a".repeat(65));
        for text in [
            "",
            "ann",
            "@example.com",
            "ann@",
            "ann@example",
            "ann@exa mple.com",
            "a@b@example.com",
            "ann@.com",
            "ann@example..com",
            "ann@-example.com",
            "änn@example.com",
            "a\u{0}@b.com",
            "ann@example.com\nbcc:x@y.com",
            &long,
        ] {
            let Err(Error::Invalid(fields)) = normalize_email(text) else {
                panic!("{text:?} was accepted");
            };
            assert_eq!(
                (fields[0].pointer.as_str(), fields[0].code),
                ("/email", "malformed")
            );
        }
    }

    #[test]
    fn an_address_longer_than_254_bytes_is_refused() {
        let domain = |last: usize| {
            let label = "d".repeat(63);
            format!(
                "{}@{label}.{label}.{}.com",
                "a".repeat(64),
                "d".repeat(last)
            )
        };
        assert_eq!(domain(57).len(), 254);
        assert!(normalize_email(&domain(57)).is_ok());
        let Err(Error::Invalid(fields)) = normalize_email(&domain(58)) else {
            panic!("255 bytes were accepted");
        };
        assert_eq!(fields[0].code, "too_long");
    }
}
