//! Conditions of requests on the version of a record (RFC 9110 §13.1): `If-Match` for changes,
//! `If-None-Match` for reads.

use crm_core::record::Expected;
use poem::http::HeaderMap;
use poem::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};

/// The versions that `If-Match` names; any without that header, or with `*`.
///
/// Tags are compared strongly (§8.8.3.2): a weak one, or one that no record can have, names none.
pub(super) fn expected(headers: &HeaderMap) -> Expected {
    match tags(headers, IF_MATCH) {
        None => Expected::Any,
        Some(tags) if tags == ["*"] => Expected::Any,
        Some(tags) => Expected::OneOf(tags.into_iter().filter_map(version).collect()),
    }
}

/// Whether `If-None-Match` names this version: the client has it already (§13.1.2). Tags are
/// compared weakly.
pub(super) fn is_known(headers: &HeaderMap, current: i64) -> bool {
    tags(headers, IF_NONE_MATCH).is_some_and(|tags| {
        tags == ["*"]
            || tags
                .into_iter()
                .any(|tag| version(tag.strip_prefix("W/").unwrap_or(tag)) == Some(current))
    })
}

/// The members of all lines of a list header; a line that is no text has none of ours.
fn tags(headers: &HeaderMap, name: HeaderName) -> Option<Vec<&str>> {
    headers.contains_key(&name).then(|| {
        let lines = headers.get_all(&name).iter();
        let lines = lines.filter_map(|line| line.to_str().ok());
        let tags = lines.flat_map(|line| line.split(',')).map(str::trim);
        tags.filter(|tag| !tag.is_empty()).collect()
    })
}

/// The version that a strong tag stands for, in the one form that answers use.
fn version(tag: &str) -> Option<i64> {
    let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
    let version: i64 = digits.parse().ok()?;
    (version.to_string() == digits).then_some(version)
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;

    fn lines(name: HeaderName, lines: &[&'static str]) -> HeaderMap {
        let lines = lines.iter().map(|line| HeaderValue::from_static(line));
        lines.map(|line| (name.clone(), line)).collect()
    }

    fn if_match(text: &'static str) -> Expected {
        expected(&lines(IF_MATCH, &[text]))
    }

    #[test]
    fn if_match_names_versions_or_any() {
        assert_eq!(expected(&HeaderMap::new()), Expected::Any);
        assert_eq!(if_match("*"), Expected::Any);
        assert_eq!(if_match("\"3\""), Expected::OneOf(vec![3]));
        assert_eq!(if_match("\"1\" ,\"2\", \"x\""), Expected::OneOf(vec![1, 2]));
    }

    #[test]
    fn a_tag_that_no_record_can_have_never_matches() {
        for odd in ["3", "W/\"3\"", "\"x\"", "", "\"03\"", "\"+3\"", "*, \"x\""] {
            assert_eq!(if_match(odd), Expected::OneOf(vec![]), "{odd}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        let known = |sent: &[&'static str]| is_known(&lines(IF_NONE_MATCH, sent), 3);
        assert!(known(&["\"3\""]) && known(&["W/\"3\""]) && known(&["*"]));
        assert!(known(&["\"1\", \"2\"", "\"3\""]), "lines are one list");
        assert!(!known(&["\"4\""]) && !known(&["3"]) && !known(&[""]));
        assert!(!is_known(&HeaderMap::new(), 3));
    }
}
