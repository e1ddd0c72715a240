//! Which texts are e-mail addresses: the useful part of RFC 5321 §4.1.2 with the letters of
//! RFC 6531. Quoted local parts, comments and address literals are refused.

/// Longest address in bytes (RFC 5321 §4.5.3.1.3, less the angle brackets of a path).
pub(crate) const MAX_LEN: usize = 254;

/// Whether `text` is an address such as `ada@example.com`.
pub(crate) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    text.len() <= MAX_LEN && is_local(local) && is_domain(domain)
}

fn is_local(local: &str) -> bool {
    let atom = |atom: &str| {
        !atom.is_empty()
            && atom
                .chars()
                .all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c))
    };
    local.len() <= 64 && local.split('.').all(atom)
}

fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let Some((_, last)) = domain.rsplit_once('.') else {
        return false;
    };
    domain.split('.').all(label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::is_email;

    #[test]
    fn addresses_people_use_are_accepted() {
        for text in [
            "ada@example.com",
            "a.b+tag@sub.example.co.uk",
            "o'brien@example.ie",
            "info@müller.de",
            "x@1and1.com",
        ] {
            assert!(is_email(text), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let long_local = format!("{}@example.com", "a".repeat(65));
        let long_label = format!("a@{}.com", "b".repeat(64));
        let long = format!("a@{}.com", "b.".repeat(124));
        for text in [
            "",
            "@",
            "a@",
            "@b.com",
            "a",
            "a@b",
            "a@@b.com",
            "a@b@c.com",
            "a b@c.com",
            "a@b c.com",
            ".a@b.com",
            "a.@b.com",
            "a..b@c.com",
            "a@.com",
            "a@b..com",
            "a@b.com.",
            "a@-b.com",
            "a@b-.com",
            "a@127.0.0.1",
            "a@[127.0.0.1]",
            "\"a\"@b.com",
            "a\n@b.com",
            "a\0@b.com",
            "a@b.com,c@d.com",
            "Ada <a@b.com>",
            &long_local,
            &long_label,
            &long,
        ] {
            assert!(!is_email(text), "{text:?}");
        }
    }
}
