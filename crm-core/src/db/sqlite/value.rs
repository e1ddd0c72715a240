//! How values lie in SQLite's columns.
//!
//! UUID as 16-byte BLOB, instant as microseconds since 1970, decimal as scaled integer, date as
//! `YYYY-MM-DD`, time as `HH:MM:SS` or `HH:MM:SS.ffffff`, vector as little-endian
//! numbers of 32 bits, tags and JSON as compact JSON text.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveTime};
use rusqlite::types::Value as Cell;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use uuid::Uuid;

use crate::db::error::Translate;
use crate::db::{ColumnType, Row};
use crate::error::{Error, Result};
use crate::value::Value;

/// The value as its column holds it.
pub(super) fn cell(value: Value, kind: ColumnType) -> Result<Cell> {
    Ok(match value {
        Value::Null => Cell::Null,
        Value::Bool(value) => Cell::Integer(i64::from(value)),
        Value::Int(value) => Cell::Integer(value),
        Value::Decimal(value) => Cell::Integer(scaled(value, kind)?),
        Value::Text(value) => Cell::Text(value),
        Value::Instant(value) => Cell::Integer(value.timestamp_micros()),
        Value::Date(value) => Cell::Text(value.to_string()),
        Value::Time(value) => Cell::Text(crate::value::time(&value)),
        Value::Uuid(value) => Cell::Blob(value.as_bytes().to_vec()),
        Value::Tags(value) => Cell::Text(serde_json::Value::from(value).to_string()),
        Value::Vector(value) => Cell::Blob(
            value
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect(),
        ),
        Value::Json(value) => Cell::Text(value.to_string()),
        Value::Bytes(value) => Cell::Blob(value),
    })
}

/// Binds the value as its column holds it, without a copy of texts and bytes in between.
pub(super) fn bind(
    statement: &mut rusqlite::Statement<'_>,
    index: usize,
    value: &Value,
    kind: ColumnType,
) -> Result<()> {
    match value {
        Value::Text(text) => statement.raw_bind_parameter(index, text.as_str()),
        Value::Uuid(id) => statement.raw_bind_parameter(index, id.as_bytes().as_slice()),
        Value::Bytes(bytes) => statement.raw_bind_parameter(index, bytes.as_slice()),
        value => statement.raw_bind_parameter(index, cell(value.clone(), kind)?),
    }
    .translate()
}

/// The integer that stands for a decimal: its digits without the point.
fn scaled(value: Decimal, kind: ColumnType) -> Result<i64> {
    let ColumnType::Decimal { scale } = kind else {
        return Err(Error::internal(
            "a decimal was bound to a column of another type",
        ));
    };
    let factor = Decimal::from(10_i64.checked_pow(scale).unwrap_or(i64::MAX));
    let scaled = value
        .checked_mul(factor)
        .filter(|number| number.fract().is_zero());
    scaled
        .and_then(|number| number.to_i64())
        .ok_or_else(|| Error::internal("a decimal does not fit its column"))
}

pub(super) fn decode(row: &rusqlite::Row<'_>, columns: &[ColumnType]) -> Result<Row> {
    let mut values = Vec::with_capacity(columns.len());
    for (index, kind) in columns.iter().enumerate() {
        values.push(decode_column(row, index, *kind)?.unwrap_or(Value::Null));
    }
    Ok(Row::new(values))
}

fn decode_column(row: &rusqlite::Row<'_>, index: usize, kind: ColumnType) -> Result<Option<Value>> {
    let cell = row.get_ref(index).translate()?;
    let int = || cell.as_i64_or_null().map_err(Error::internal);
    let text = || cell.as_str_or_null().map_err(Error::internal);
    let blob = || cell.as_blob_or_null().map_err(Error::internal);
    Ok(match kind {
        ColumnType::Bool => int()?.map(|value| Value::Bool(value != 0)),
        ColumnType::Int => int()?.map(Value::Int),
        ColumnType::Decimal { scale } => {
            int()?.map(|value| Value::Decimal(Decimal::new(value, scale)))
        }
        ColumnType::Text => text()?.map(|text| Value::Text(text.to_owned())),
        ColumnType::Instant => int()?.map(instant).transpose()?,
        ColumnType::Date => text()?
            .map(|text| NaiveDate::from_str(text).map(Value::Date))
            .transpose()
            .map_err(Error::internal)?,
        ColumnType::Time => text()?
            .map(|text| NaiveTime::from_str(text).map(Value::Time))
            .transpose()
            .map_err(Error::internal)?,
        ColumnType::Uuid => blob()?
            .map(|bytes| Uuid::from_slice(bytes).map(Value::Uuid))
            .transpose()
            .map_err(Error::internal)?,
        ColumnType::Tags => text()?
            .map(|text| serde_json::from_str(text).map(Value::Tags))
            .transpose()
            .map_err(Error::internal)?,
        ColumnType::Vector => blob()?.map(vector).transpose()?,
        ColumnType::Json => text()?
            .map(|text| serde_json::from_str(text).map(Value::Json))
            .transpose()
            .map_err(Error::internal)?,
        ColumnType::Bytes => blob()?.map(|bytes| Value::Bytes(bytes.to_vec())),
    })
}

fn vector(bytes: &[u8]) -> Result<Value> {
    match bytes.as_chunks() {
        (numbers, []) => {
            let numbers = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes));
            Ok(Value::Vector(numbers.collect()))
        }
        _ => Err(Error::internal("a vector is cut short")),
    }
}

fn instant(micros: i64) -> Result<Value> {
    DateTime::from_timestamp_micros(micros)
        .map(Value::Instant)
        .ok_or_else(|| Error::internal("an instant is out of range"))
}
