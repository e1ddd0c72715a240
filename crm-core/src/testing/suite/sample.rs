//! Valid values of any field, a different one for each number as far as the type has that many.

use chrono::{DateTime, Days, NaiveDate, TimeDelta};
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};

use crate::module::FieldType;

/// The sample number `n` of a field of this kind; references have none of their own.
pub(super) fn of(kind: &FieldType, n: u64) -> Json {
    match kind {
        FieldType::Text { max } => text(n, *max).into(),
        FieldType::Email => format!("sample{n}@example.com").into(),
        FieldType::Phone => format!("+1 555 {n:06}").into(),
        FieldType::Integer { min, max } => {
            let (low, high) = (i128::from(*min), i128::from(*max));
            let start = low.max(0).min(high);
            let value = start + i128::from(n) % (high - start + 1);
            i64::try_from(value).unwrap_or(*min).into()
        }
        FieldType::Decimal { precision, scale } => {
            let unscaled = i128::from(n) % 10_i128.pow((*precision).min(18));
            Decimal::from_i128_with_scale(unscaled, *scale)
                .to_string()
                .into()
        }
        FieldType::Bool => n.is_multiple_of(2).into(),
        FieldType::Instant => {
            let at = DateTime::UNIX_EPOCH + TimeDelta::seconds(step(n));
            crate::value::instant(&at).into()
        }
        FieldType::Date => {
            let date = NaiveDate::default().checked_add_days(Days::new(n % 100_000));
            date.unwrap_or_default().to_string().into()
        }
        FieldType::Enum { values } => {
            let count = values.len().max(1) as u64;
            let at = usize::try_from(n % count).unwrap_or_default();
            values.get(at).cloned().unwrap_or_default().into()
        }
        FieldType::Tags { max_length, .. } => json!([text(n, *max_length)]),
        FieldType::Json { .. } => json!({"sample": n}),
        FieldType::Reference { .. }
        | FieldType::References { .. }
        | FieldType::AnyReference { .. } => Json::Null,
    }
}

/// A short text that ends in the number, or in as many of its digits as there is room for.
fn text(n: u64, max: u32) -> String {
    let (long, digits) = (format!("Sample {n}"), n.to_string());
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    if long.len() <= max {
        return long;
    }
    digits[digits.len().saturating_sub(max)..].to_owned()
}

fn step(n: u64) -> i64 {
    i64::try_from(n % 1_000_000_000).unwrap_or_default()
}
