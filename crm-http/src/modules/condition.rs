//! Conditions of requests on the version of a record (RFC 9110 §13.1): `If-Match` for changes,
//! `If-None-Match` for reads.

use std::hash::{DefaultHasher, Hasher as _};

use crm_core::Error;
use crm_core::record::Expected;
use poem::http::HeaderMap;
use poem::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};

/// The versions that `If-Match` names; any without that header, or with `*`.
///
/// Tags are compared strongly (§8.8.3.2): a weak one, or one that no record can have, names none.
///
/// # Errors
/// [`Error::Invalid`] for what is neither `*` nor a list of entity tags (§13.1.1).
pub(super) fn expected(headers: &HeaderMap) -> Result<Expected, Error> {
    let Some(tags) = tags(headers, IF_MATCH) else {
        return Ok(Expected::Any);
    };
    if tags == ["*"] {
        return Ok(Expected::Any);
    }
    if tags.is_empty() || !tags.iter().all(|tag| is_tag(tag)) {
        let message = "Give the ETag of the version that you mean, in its quotes, such as \"3\"; \
                       several with commas between them, or * for any.";
        return Err(Error::invalid("If-Match", "invalid", message));
    }
    let versions = tags.into_iter().filter_map(version);
    Ok(Expected::OneOf(versions.collect()))
}

/// Whether this is an entity tag (§8.8.3), as far as it holds no comma.
fn is_tag(text: &str) -> bool {
    let opaque = text.strip_prefix("W/").unwrap_or(text);
    let inner = opaque
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    inner.is_some_and(|inner| !inner.contains(['"', ' ']))
}

/// The tag of an answer that shows this version of a record so: who may read other fields, or asks
/// for others, has another one.
pub(super) fn tag(version: i64, shown: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(shown);
    format!("\"{version}-{:016x}\"", hasher.finish())
}

/// Whether `If-None-Match` names this tag: the client has the answer already (§13.1.2). Tags are
/// compared weakly.
pub(super) fn is_known(headers: &HeaderMap, current: &str) -> bool {
    tags(headers, IF_NONE_MATCH).is_some_and(|tags| {
        tags == ["*"]
            || tags
                .into_iter()
                .any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == current)
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

/// The version that a strong tag stands for, in the forms that answers use: that of a read says
/// after it what was shown.
fn version(tag: &str) -> Option<i64> {
    let tag = tag.strip_prefix('"')?.strip_suffix('"')?;
    let digits = tag.split_once('-').map_or(tag, |(version, _)| version);
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

    fn if_match(text: &'static str) -> Option<Expected> {
        expected(&lines(IF_MATCH, &[text])).ok()
    }

    #[test]
    fn if_match_names_versions_or_any() {
        let versions = |versions: &[i64]| Some(Expected::OneOf(versions.to_vec()));
        assert_eq!(expected(&HeaderMap::new()).ok(), Some(Expected::Any));
        assert_eq!(if_match("*"), Some(Expected::Any));
        assert_eq!(if_match("\"3\""), versions(&[3]));
        assert_eq!(if_match("\"3-00ff\""), versions(&[3]), "as a read answers");
        assert_eq!(if_match("\"1\" ,\"2\", \"x\""), versions(&[1, 2]));
    }

    #[test]
    fn a_tag_that_no_record_can_have_never_matches() {
        for odd in ["W/\"3\"", "\"x\"", "\"\"", "\"03\"", "\"+3\""] {
            assert_eq!(if_match(odd), Some(Expected::OneOf(vec![])), "{odd}");
        }
    }

    #[test]
    fn what_is_no_tag_is_refused_by_the_headers_name() {
        for odd in [
            "3",
            "abc",
            "",
            ",",
            "\"3",
            "*, \"x\"",
            "w/\"3\"",
            "\"1\" \"2\"",
        ] {
            assert_eq!(if_match(odd), None, "{odd}");
        }
        let refused = expected(&lines(IF_MATCH, &["abc"])).unwrap_err();
        assert!(refused.to_string().contains("If-Match: Give the ETag"));
    }

    #[test]
    fn if_none_match_compares_weakly() {
        let known = |sent: &[&'static str]| is_known(&lines(IF_NONE_MATCH, sent), "\"3\"");
        assert!(known(&["\"3\""]) && known(&["W/\"3\""]) && known(&["*"]));
        assert!(known(&["\"1\", \"2\"", "\"3\""]), "lines are one list");
        assert!(!known(&["\"4\""]) && !known(&["3"]) && !known(&[""]));
        assert!(!is_known(&HeaderMap::new(), "\"3\""));
    }

    #[test]
    fn a_tag_tells_versions_and_what_is_shown_apart() {
        assert_eq!(tag(3, b"{}"), tag(3, b"{}"));
        assert_ne!(tag(3, b"{}"), tag(4, b"{}"));
        assert_ne!(tag(3, b"{}"), tag(3, b"[]"));
        assert_eq!(version(&tag(3, b"{}")), Some(3));
    }
}
