//! One result row, read column by column in the order of the select list.

use std::vec;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::value::Value;

/// A decoded result row. Each getter takes the next column.
#[derive(Debug)]
pub(crate) struct Row(vec::IntoIter<Value>);

/// A column of another type than the statement promised: a bug, never bad input.
#[derive(Debug, thiserror::Error)]
#[error("a result column holds {found}, not {expected}")]
struct Mismatch {
    found: String,
    expected: &'static str,
}

macro_rules! getters {
    ($($name:ident: $variant:ident($type:ty), $expected:literal;)*) => {$(
        #[doc = concat!("The next column, ", $expected, ".")]
        pub(crate) fn $name<T: From<$type>>(&mut self) -> Result<T> {
            match self.next() {
                Value::$variant(value) => Ok(value.into()),
                other => Err(mismatch(&other, $expected)),
            }
        }
    )*};
}

macro_rules! optional_getters {
    ($($name:ident: $variant:ident($type:ty), $expected:literal;)*) => {$(
        #[doc = concat!("The next column, ", $expected, " or null.")]
        pub(crate) fn $name<T: From<$type>>(&mut self) -> Result<Option<T>> {
            match self.next() {
                Value::Null => Ok(None),
                Value::$variant(value) => Ok(Some(value.into())),
                other => Err(mismatch(&other, $expected)),
            }
        }
    )*};
}

impl Row {
    pub(crate) fn new(values: Vec<Value>) -> Self {
        Self(values.into_iter())
    }

    /// The next column, whatever it holds.
    pub(crate) fn next(&mut self) -> Value {
        self.0.next().unwrap_or_default()
    }

    /// All columns not read yet.
    pub(crate) fn rest(self) -> Vec<Value> {
        self.0.collect()
    }

    getters! {
        uuid: Uuid(Uuid), "a UUID";
        text: Text(String), "text";
        int: Int(i64), "a whole number";
        bool: Bool(bool), "true or false";
        instant: Instant(DateTime<Utc>), "an instant";
        json: Json(serde_json::Value), "JSON";
        bytes: Bytes(Vec<u8>), "bytes";
    }

    optional_getters! {
        opt_uuid: Uuid(Uuid), "a UUID";
        opt_text: Text(String), "text";
        opt_int: Int(i64), "a whole number";
        opt_instant: Instant(DateTime<Utc>), "an instant";
        opt_bytes: Bytes(Vec<u8>), "bytes";
        opt_json: Json(serde_json::Value), "JSON";
    }
}

fn mismatch(found: &Value, expected: &'static str) -> Error {
    // The kind only: the value may be a secret.
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Int(_) => "a whole number",
        Value::Decimal(_) => "a decimal",
        Value::Text(_) => "text",
        Value::Instant(_) => "an instant",
        Value::Date(_) => "a date",
        Value::Time(_) => "a time of day",
        Value::Uuid(_) => "a UUID",
        Value::Tags(_) => "tags",
        Value::Vector(_) => "a vector",
        Value::Json(_) => "JSON",
        Value::Bytes(_) => "bytes",
    };
    Error::internal(Mismatch {
        found: found.to_owned(),
        expected,
    })
}
