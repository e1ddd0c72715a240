//! Values between the library and guests, both ways.

use chrono::{DateTime, NaiveDate, NaiveTime};
use crm_core::hook::Fields;
use crm_core::value::{Value, instant, time};
use crm_core::{Error, FieldError, Result};
use rust_decimal::Decimal;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::bindings::types;

/// Most bytes of a guest's JSON for one record: read, it takes many times as much of the host's
/// memory.
const MAX_JSON: usize = 256 << 10;

/// The fields as the guest sees them.
pub(crate) fn to_guest(fields: Fields) -> Vec<types::Field> {
    let fields = fields.into_iter().map(|(name, value)| types::Field {
        name,
        value: guest_value(value),
    });
    fields.collect()
}

fn guest_value(value: Value) -> types::Value {
    match value {
        Value::Null | Value::Bytes(_) => types::Value::Null,
        Value::Bool(value) => types::Value::Boolean(value),
        Value::Int(value) => types::Value::Integer(value),
        Value::Decimal(value) => types::Value::Decimal(value.to_string()),
        Value::Text(value) => types::Value::Text(value),
        Value::Instant(value) => types::Value::Instant(instant(&value)),
        Value::Date(value) => types::Value::Date(value.to_string()),
        Value::Time(value) => types::Value::Time(time(&value)),
        Value::Uuid(value) => types::Value::Id(value.to_string()),
        Value::Tags(value) => types::Value::Texts(value),
        Value::Vector(value) => types::Value::Vector(value),
        Value::Json(value) => types::Value::Json(value.to_string()),
    }
}

/// The fields that a guest wrote.
///
/// # Errors
///
/// [`Error::Invalid`] with every value that is not what its case says, and with `too_long` for
/// JSON beyond [`MAX_JSON`].
pub(crate) fn of_guest(fields: Vec<types::Field>) -> Result<Fields> {
    let mut refused = Vec::new();
    let mut read = Vec::with_capacity(fields.len());
    let mut json = 0;
    for types::Field { name, value } in fields {
        if let types::Value::Json(text) = &value {
            json += text.len();
            if json > MAX_JSON {
                let message = "A record takes at most 256 KiB of JSON from a plugin.";
                refused.push(FieldError::new(&name, "too_long", message));
                continue;
            }
        }
        match library_value(value) {
            Ok(value) => read.push((name, value)),
            Err((code, message)) => refused.push(FieldError::new(&name, code, message)),
        }
    }
    if refused.is_empty() {
        Ok(read)
    } else {
        Err(Error::Invalid(refused))
    }
}

fn library_value(value: types::Value) -> Result<Value, (&'static str, &'static str)> {
    Ok(match value {
        types::Value::Null => Value::Null,
        types::Value::Boolean(value) => Value::Bool(value),
        types::Value::Integer(value) => Value::Int(value),
        types::Value::Decimal(text) => Value::Decimal(
            Decimal::from_str_exact(&text)
                .map_err(|_| ("invalid_decimal", "Write an exact number such as 12.50."))?,
        ),
        types::Value::Text(text) => Value::Text(text),
        types::Value::Instant(text) => Value::Instant(
            DateTime::parse_from_rfc3339(&text)
                .map_err(|_| ("invalid_instant", "Write RFC 3339: 2030-01-31T12:00:00Z."))?
                .to_utc(),
        ),
        types::Value::Date(text) => Value::Date(
            NaiveDate::parse_from_str(&text, "%Y-%m-%d")
                .map_err(|_| ("invalid_date", "Write YYYY-MM-DD."))?,
        ),
        types::Value::Time(text) => Value::Time(
            NaiveTime::parse_from_str(&text, "%H:%M:%S%.f")
                .map_err(|_| ("invalid_time", "Write HH:MM:SS."))?,
        ),
        types::Value::Id(text) => {
            Value::Uuid(Uuid::parse_str(&text).map_err(|_| ("invalid_id", "Write a UUID."))?)
        }
        types::Value::Texts(texts) => Value::Tags(texts),
        types::Value::Vector(numbers) if numbers.iter().all(|number| number.is_finite()) => {
            Value::Vector(numbers)
        }
        types::Value::Vector(_) => return Err(("invalid_vector", "Write finite numbers.")),
        types::Value::Json(text) => Value::Json(
            serde_json::from_str(&text).map_err(|_| ("invalid_json", "Write JSON text."))?,
        ),
    })
}

/// The fields as the text of a JSON object, in the form of the HTTP API. What is no JSON in a
/// guest's `json` becomes a string.
pub(crate) fn to_json(fields: &[types::Field]) -> String {
    serde_json::to_string(&Object(fields)).unwrap_or_default()
}

struct Object<'a>(&'a [types::Field]);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for field in self.0 {
            map.serialize_entry(&field.name, &Wire(&field.value))?;
        }
        map.end()
    }
}

/// Decimals, instants, dates, times and ids are text on the wire as they are in the guest.
struct Wire<'a>(&'a types::Value);

impl Serialize for Wire<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            types::Value::Null => serializer.serialize_unit(),
            types::Value::Boolean(value) => serializer.serialize_bool(*value),
            types::Value::Integer(value) => serializer.serialize_i64(*value),
            types::Value::Decimal(text)
            | types::Value::Text(text)
            | types::Value::Instant(text)
            | types::Value::Date(text)
            | types::Value::Time(text)
            | types::Value::Id(text) => serializer.serialize_str(text),
            types::Value::Texts(texts) => texts.serialize(serializer),
            types::Value::Vector(numbers) => Value::Vector(numbers.clone()).serialize(serializer),
            types::Value::Json(text) => match serde_json::from_str::<&RawValue>(text) {
                Ok(json) => json.serialize(serializer),
                Err(_) => serializer.serialize_str(text),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one_of_each() -> Fields {
        let values = [
            ("nothing", Value::Null),
            ("flag", Value::Bool(true)),
            ("count", Value::Int(i64::MIN)),
            ("amount", Value::Decimal("12.50".parse().unwrap())),
            ("name", Value::Text("Ada \u{1F980}\0".into())),
            (
                "at",
                Value::Instant("2030-01-31T12:00:00.000001Z".parse().unwrap()),
            ),
            ("day", Value::Date("2030-01-31".parse().unwrap())),
            ("hour", Value::Time("23:59:59.5".parse().unwrap())),
            ("id", Value::Uuid(Uuid::from_u128(7))),
            ("tags", Value::Tags(vec!["vip".into()])),
            ("place", Value::Vector(vec![0.1, -2.0])),
            ("extra", Value::Json(json!({"a": [1, null]}))),
        ];
        values
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec()
    }

    #[test]
    fn every_value_comes_back_from_a_guest_as_it_went() {
        let fields = one_of_each();
        assert_eq!(of_guest(to_guest(fields.clone())).unwrap(), fields);
    }

    #[test]
    fn the_json_of_a_guest_is_that_of_the_http_api() {
        let fields = one_of_each();
        let text = to_json(&to_guest(fields.clone()));
        let ours: serde_json::Map<_, _> = fields
            .iter()
            .map(|(name, value)| (name.clone(), serde_json::to_value(value).unwrap()))
            .collect();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            serde_json::Value::Object(ours)
        );
    }

    #[test]
    fn the_json_of_all_fields_together_is_bounded_before_it_is_read() {
        let text = format!("\"{}\"", "a".repeat(MAX_JSON / 2));
        let field = |name: &str| types::Field {
            name: name.to_owned(),
            value: types::Value::Json(text.clone()),
        };
        assert!(of_guest(vec![field("a")]).is_ok());
        let Err(Error::Invalid(refused)) = of_guest(vec![field("a"), field("b")]) else {
            panic!("it is too much");
        };
        let [refused] = refused.as_slice() else {
            panic!("one field is too much: {refused:?}");
        };
        assert_eq!((&*refused.pointer, refused.code), ("/b", "too_long"));
    }

    #[test]
    fn every_value_that_is_not_what_it_says_is_named() {
        let bad = [
            ("a", types::Value::Decimal("1,5".into()), "invalid_decimal"),
            ("b", types::Value::Instant("now".into()), "invalid_instant"),
            ("c", types::Value::Date("2030-02-30".into()), "invalid_date"),
            ("d", types::Value::Time("25:00:00".into()), "invalid_time"),
            ("e", types::Value::Id("7".into()), "invalid_id"),
            ("f", types::Value::Vector(vec![f32::NAN]), "invalid_vector"),
            ("g", types::Value::Json("{".into()), "invalid_json"),
        ];
        let fields = bad.iter().map(|(name, value, _)| types::Field {
            name: (*name).into(),
            value: value.clone(),
        });
        let Err(Error::Invalid(refused)) = of_guest(fields.collect()) else {
            panic!("all of them are wrong");
        };
        let codes: Vec<_> = refused
            .iter()
            .map(|field| (&*field.pointer, field.code))
            .collect();
        let expected: Vec<_> = bad
            .iter()
            .map(|(name, _, code)| (format!("/{name}"), *code))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, code)| (&**name, *code))
            .collect();
        assert_eq!(codes, expected);
    }
}
