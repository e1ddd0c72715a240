//! A field's value, as it travels between the wire, the rules and both databases.

use std::cmp::Ordering;

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, Timelike, Utc};
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};
use uuid::Uuid;

/// A value of one field. On the wire: decimals are strings (exact), instants RFC 3339 in UTC,
/// dates `YYYY-MM-DD`, times `HH:MM:SS`, tags an array of strings.
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
    /// A local time of day, to the microsecond.
    Time(NaiveTime),
    /// A UUID: the id of a record or user.
    Uuid(Uuid),
    /// A list of distinct texts.
    Tags(Vec<String>),
    /// Numbers of 32 bits.
    Vector(Vec<f32>),
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

    /// How two values of one type order; none for others, and for types without an order.
    pub(crate) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(left), Self::Bool(right)) => left.partial_cmp(right),
            (Self::Int(left), Self::Int(right)) => left.partial_cmp(right),
            (Self::Decimal(left), Self::Decimal(right)) => left.partial_cmp(right),
            (Self::Text(left), Self::Text(right)) => left.partial_cmp(right),
            (Self::Instant(left), Self::Instant(right)) => left.partial_cmp(right),
            (Self::Date(left), Self::Date(right)) => left.partial_cmp(right),
            (Self::Time(left), Self::Time(right)) => left.partial_cmp(right),
            (Self::Uuid(left), Self::Uuid(right)) => left.partial_cmp(right),
            _ => None,
        }
    }

    /// The wire form of what is a text there, and JSON of everything else.
    pub(crate) fn to_text(&self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(text)) => text,
            Ok(json) => json.to_string(),
            Err(_) => String::new(),
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
            Self::Time(value) => serializer.serialize_str(&time(value)),
            Self::Uuid(value) => value.serialize(serializer),
            Self::Tags(value) => value.serialize(serializer),
            Self::Vector(value) => serializer.collect_seq(value.iter().map(shortest)),
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

/// The wire form of a time of day, which orders as times do: `HH:MM:SS`, with six digits of a
/// fraction only where there is one.
pub fn time(value: &NaiveTime) -> String {
    let form = match value.nanosecond() / 1_000 {
        0 => "%H:%M:%S",
        _ => "%H:%M:%S%.6f",
    };
    value.format(form).to_string()
}

/// The double whose shortest decimal is that of the number: 0.1 stays 0.1.
fn shortest(number: &f32) -> f64 {
    number
        .to_string()
        .parse()
        .unwrap_or_else(|_| f64::from(*number))
}
