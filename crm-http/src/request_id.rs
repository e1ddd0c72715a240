//! The id that ties a request to its answer, its log lines and its audit rows.

use crm_core::clock::Clock;
use poem::http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries the id in both directions.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The caller's id when it is 1 to 128 characters of `A-Za-z0-9._-`, else a new one.
pub(crate) fn of(headers: &HeaderMap, clock: &Clock) -> String {
    match headers.get(HEADER).and_then(|value| value.to_str().ok()) {
        Some(given) if is_valid(given) => given.to_owned(),
        _ => clock.new_id().simple().to_string(),
    }
}

/// The id as a header; its alphabet is a subset of what a header may hold.
pub(crate) fn header(id: &str) -> HeaderValue {
    HeaderValue::from_str(id).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}

fn is_valid(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HEADER, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn xc_06_a_well_formed_id_is_kept() {
        let clock = Clock::system();
        assert_eq!(of(&given("a-1_B.z"), &clock), "a-1_B.z");
        let longest = "x".repeat(128);
        assert_eq!(of(&given(&longest), &clock), longest);
    }

    #[test]
    fn xc_06_anything_else_is_replaced() {
        let clock = Clock::system();
        for odd in ["", "a b", "ü", "a\"b", &"x".repeat(129)] {
            let id = of(&given(odd), &clock);
            assert_eq!(id.len(), 32, "{odd:?} became {id}");
            assert!(is_valid(&id));
        }
    }
}
