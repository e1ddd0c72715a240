//! Reading JSON bodies, strictly: bounded size, the right media type, and no object that names a
//! member twice. Two readers of one document must never see two different values (RFC 8259 §4).

use std::cell::RefCell;
use std::fmt;

use bytes::{Bytes, BytesMut};
use crm_core::Error;
use futures::StreamExt as _;
use poem::Body;
use poem::http::HeaderMap;
use poem::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::problem::Problem;

/// Reads a JSON body of at most `limit` bytes.
///
/// # Errors
/// 415 for another media type, 413 for a larger body, 400 for what is not JSON or names a member
/// twice.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Value, Problem> {
    require(headers, is_json, "application/json")?;
    parse(&read_bytes(headers, body, limit).await?)
}

/// Reads a JSON object, as [`read`] does.
///
/// # Errors
/// Those of [`read`], and 422 for another kind of value.
pub(crate) async fn read_object(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<Map<String, Value>, Problem> {
    Ok(read_object_and_text(headers, body, limit).await?.0)
}

/// Reads a JSON object, as [`read_object`] does, and its text.
///
/// # Errors
/// Those of [`read_object`].
pub(crate) async fn read_object_and_text(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<(Map<String, Value>, Bytes), Problem> {
    require(headers, is_json, "application/json")?;
    let text = read_bytes(headers, body, limit).await?;
    match parse(&text)? {
        Value::Object(object) => Ok((object, text)),
        _ => Err(Error::Invalid(vec![crm_core::FieldError {
            pointer: String::new(),
            code: "wrong_type",
            message: "The body must be a JSON object.".into(),
        }])
        .into()),
    }
}

/// Reads a JSON object, as [`read_object_and_text`] does; no body, of no media type, is an empty one.
///
/// # Errors
/// Those of [`read_object_and_text`].
pub(crate) async fn read_object_if_any(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<(Map<String, Value>, Bytes), Problem> {
    if headers.contains_key(CONTENT_TYPE) || headers.contains_key(CONTENT_ENCODING) {
        return read_object_and_text(headers, body, limit).await;
    }
    match read_bytes(headers, body, limit).await?.is_empty() {
        true => Ok((Map::new(), Bytes::from_static(b"{}"))),
        false => Err(Problem::unsupported_media_type("application/json")),
    }
}

/// Refuses a body whose media type does not satisfy `accepts`, or that is compressed.
///
/// # Errors
/// 415.
pub(crate) fn require(
    headers: &HeaderMap,
    accepts: fn(&str) -> bool,
    expected: &'static str,
) -> Result<(), Problem> {
    let media_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    let essence = media_type.split(';').next().unwrap_or("").trim();
    if accepts(essence) && !headers.contains_key(CONTENT_ENCODING) {
        Ok(())
    } else {
        Err(Problem::unsupported_media_type(expected))
    }
}

fn is_json(essence: &str) -> bool {
    let essence = essence.to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Reads a whole body of at most `limit` bytes; it never holds more than that.
///
/// # Errors
/// 413 for a larger body, 400 when the client stops half-way.
pub(crate) async fn read_bytes(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<Bytes, Problem> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) {
        return Err(too_large(limit));
    }
    let mut chunks = body.into_bytes_stream();
    let Some(first) = chunks.next().await else {
        return Ok(Bytes::new());
    };
    let first = first.map_err(|_| interrupted())?;
    let Some(second) = chunks.next().await else {
        return if first.len() > limit {
            Err(too_large(limit))
        } else {
            Ok(first)
        };
    };
    let mut whole = BytesMut::from(first);
    let mut next = Some(second);
    while let Some(chunk) = next {
        whole.extend_from_slice(&chunk.map_err(|_| interrupted())?);
        if whole.len() > limit {
            return Err(too_large(limit));
        }
        next = chunks.next().await;
    }
    Ok(whole.freeze())
}

/// The answer to a body of more than `limit` bytes.
pub(crate) fn too_large(limit: impl fmt::Display) -> Problem {
    let message = format!("the body may have at most {limit} bytes");
    Error::LimitExceeded {
        code: "body_too_large",
        message: message.into(),
    }
    .into()
}

/// The answer to a client that stops half-way.
pub(crate) fn interrupted() -> Problem {
    Problem::new(
        poem::http::StatusCode::BAD_REQUEST,
        "body_interrupted",
        "the body ended early",
    )
}

/// Most lists and objects inside each other, bounded by the parser.
const MAX_DEPTH: usize = 127;

/// Parses JSON text.
fn parse(text: &[u8]) -> Result<Value, Problem> {
    let repeated = RefCell::new(None);
    // A byte order mark, which some write, is no part of the text (RFC 8259 §8.1).
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut parser = serde_json::Deserializer::from_slice(text);
    let parsed = Strict {
        repeated: &repeated,
    }
    .deserialize(&mut parser);
    let parsed = parsed.and_then(|value| parser.end().map(|()| value));
    parsed.map_err(|error| match repeated.into_inner() {
        Some(key) => Problem::duplicate_key(&key),
        None => Problem::malformed_json(explained(&error)),
    })
}

/// What is wrong with a text: not all of what is refused is no JSON.
fn explained(error: &serde_json::Error) -> String {
    let (text, line, column) = (error.to_string(), error.line(), error.column());
    let place = format!("line {line}, column {column}");
    if text.starts_with("recursion limit exceeded") {
        format!("lists and objects stand at most {MAX_DEPTH} levels deep in a body ({place})")
    } else if text.starts_with("number out of range") {
        format!(
            "a number of the body is out of range: it is larger than any that is read ({place})"
        )
    } else {
        format!("the body is not JSON: {text}")
    }
}

/// Builds a [`Value`], remembering the first member named twice.
#[derive(Clone, Copy)]
struct Strict<'a> {
    repeated: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if object.contains_key(&key) {
                self.repeated.replace(Some(key));
                return Err(A::Error::custom("a member is named twice"));
            }
            let value = members.next_value_seed(self)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn code(text: &str) -> &'static str {
        parse(text.as_bytes())
            .err()
            .map_or("accepted", |problem| problem.code())
    }

    #[test]
    fn json_is_read_as_it_stands() {
        let text = r#"{"a": [1, -2, 0.5, true, null, "ä"], "b": {"c": 18446744073709551615}}"#;
        let expected = json!({"a": [1, -2, 0.5, true, null, "ä"], "b": {"c": u64::MAX}});
        assert_eq!(parse(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_member_named_twice_is_refused_at_every_depth() {
        assert_eq!(code(r#"{"a": 1, "a": 1}"#), "duplicate_key");
        assert_eq!(code(r#"[{"x": {"b": 1, "\u0062": 2}}]"#), "duplicate_key");
        assert_eq!(code(r#"[{"a": 1}, {"a": 1}]"#), "accepted");
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            "{",
            "{]",
            "nul",
            "{\"a\": 1} x",
            "{'a': 1}",
            "\"\u{1}\"",
            "NaN",
        ] {
            assert_eq!(code(text), "malformed_json", "{text}");
        }
        assert_eq!(parse(b"\"\xff\"").unwrap_err().code(), "malformed_json");
    }

    #[test]
    fn deep_nesting_is_refused_instead_of_overflowing_the_stack() {
        assert_eq!(code(&"[".repeat(100_000)), "malformed_json");
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(code(&nested(MAX_DEPTH)), "accepted");
        let refused = parse(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err();
        assert!(refused.to_string().contains("127 levels"), "{refused}");
    }

    #[test]
    fn a_number_that_is_too_large_is_called_so() {
        let refused = parse(br#"{"a": 1e400}"#).unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("out of range") && !text.contains("not JSON"),
            "{text}"
        );
        assert_eq!(refused.code(), "malformed_json");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_even_when_streamed_without_a_length() {
        let chunks = (0..4).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"12345678")));
        let body = Body::from_bytes_stream(futures::stream::iter(chunks));
        let error = read_bytes(&HeaderMap::new(), body, 16).await.unwrap_err();
        assert_eq!(error.code(), "body_too_large");
        let body = Body::from_string("x".repeat(16));
        assert_eq!(
            read_bytes(&HeaderMap::new(), body, 16).await.unwrap().len(),
            16
        );
    }

    #[tokio::test]
    async fn no_body_is_an_empty_object_where_it_may_be_left_out() {
        let read = async |media_type: Option<&'static str>, text: &'static str| {
            let headers = media_type.map(|name| (CONTENT_TYPE, HeaderValue::from_static(name)));
            let headers = HeaderMap::from_iter(headers);
            let read = read_object_if_any(&headers, Body::from(text), 16).await;
            read.map_err(|problem| problem.code())
        };
        let empty = (Map::new(), Bytes::from_static(b"{}"));
        assert_eq!(read(None, "").await, Ok(empty.clone()));
        assert_eq!(read(Some("application/json"), "{}").await, Ok(empty));
        for (media_type, text, code) in [
            (None, "{}", "unsupported_media_type"),
            (Some("text/plain"), "", "unsupported_media_type"),
            (Some("application/json"), "", "malformed_json"),
            (None, "more than sixteen", "body_too_large"),
        ] {
            assert_eq!(read(media_type, text).await, Err(code), "{media_type:?}");
        }
    }

    #[test]
    fn only_json_media_types_are_read() {
        let given = |value: &'static str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
            require(&headers, is_json, "application/json").is_ok()
        };
        assert!(given("application/json"));
        assert!(given("Application/JSON; charset=utf-8"));
        assert!(given("application/merge-patch+json"));
        assert!(!given("text/plain"));
        assert!(!given("application/jsonp"));
        assert!(require(&HeaderMap::new(), is_json, "application/json").is_err());
    }
}
