//! A field's value, as it travels between the wire, the rules and both databases.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};
use uuid::Uuid;

/// A value of one field. On the wire: decimals are strings (exact), instants RFC 3339 in UTC,
/// dates `YYYY-MM-DD`, tags an array of strings.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// Absent.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// An exact decimal number, rescaled to the field's scale.
    Decimal(Decimal),
    /// Text of any kind: also e-mail addresses, phone numbers, enum values.
    Text(String),
    /// An instant in UTC, to the microsecond.
    Instant(DateTime<Utc>),
    /// A calendar date.
    Date(NaiveDate),
    /// A UUID: the id of a record or user.
    Uuid(Uuid),
    /// A list of distinct texts.
    Tags(Vec<String>),
    /// Any JSON value.
    Json(serde_json::Value),
    /// Raw bytes; the library's own tables only.
    Bytes(Vec<u8>),
}

impl Value {
    /// Whether this is [`Value::Null`].
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The text, when it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null | Self::Bytes(_) => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Decimal(value) => serializer.collect_str(value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Instant(value) => serializer.serialize_str(&instant(value)),
            Self::Date(value) => serializer.collect_str(value),
            Self::Uuid(value) => value.serialize(serializer),
            Self::Tags(value) => value.serialize(serializer),
            Self::Json(value) => value.serialize(serializer),
        }
    }
}

/// The wire form of an instant: RFC 3339, UTC, `Z`, with microseconds only where there are any.
pub fn instant(value: &DateTime<Utc>) -> String {
    let form = match value.timestamp_subsec_micros() {
        0 => SecondsFormat::Secs,
        _ => SecondsFormat::Micros,
    };
    value.to_rfc3339_opts(form, true)
}
