//! Valid values of any field, a different one for each number as far as the type has that many.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Timelike};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde_json::{Value as Json, json};

use crate::module::{Bounds, FieldType};

/// The sample number `n` of a field of this kind; references have none of their own.
pub(in crate::testing) fn of(kind: &FieldType, n: u64) -> Json {
    match kind {
        FieldType::Text { min, max } => text(n, *min, *max).into(),
        FieldType::LongText { min, max } if *max < 40 => text(n, *min, *max).into(),
        FieldType::LongText { min, max } => {
            let lines = max - 16;
            format!("{}\nof many lines.", text(n, (*min).min(lines), lines)).into()
        }
        FieldType::Url => format!("https://example.com/sample/{n}").into(),
        FieldType::Uuid => format!("00000000-0000-4000-8000-{n:012x}").into(),
        FieldType::Email => format!("sample{n}@example.com").into(),
        FieldType::Phone => format!("+1 555 {n:06}").into(),
        FieldType::Integer { min, max } => {
            let value = within(n, (*min).into(), (*max).into());
            i64::try_from(value).unwrap_or(*min).into()
        }
        FieldType::Decimal {
            precision,
            scale,
            bounds,
        } => {
            let most = 10_i128.pow((*precision).min(18)) - 1;
            let unscaled = |bound: Option<Decimal>| {
                bound.map(|mut bound| {
                    bound.rescale(*scale);
                    bound.mantissa()
                })
            };
            let (min, max) = (unscaled(bounds.min), unscaled(bounds.max));
            let value = within(n, min.unwrap_or(-most), max.unwrap_or(most));
            Decimal::from_i128_with_scale(value, *scale)
                .to_string()
                .into()
        }
        // Whole amounts are amounts in every currency.
        FieldType::Money {
            precision,
            scale,
            bounds,
            ..
        } => {
            let most = 10_i128.pow((*precision).min(18).saturating_sub(*scale)) - 1;
            let whole = |bound: Option<Decimal>, up: bool| {
                let bound = bound.map(|bound| if up { bound.ceil() } else { bound.floor() });
                bound.and_then(|bound| bound.to_i128())
            };
            let (min, max) = (whole(bounds.min, true), whole(bounds.max, false));
            let value = within(n, min.unwrap_or(-most), max.unwrap_or(most));
            let mut amount = Decimal::from_i128_with_scale(value, 0);
            amount.rescale(*scale);
            amount.to_string().into()
        }
        FieldType::Currency => ["EUR", "USD", "GBP", "JPY", "BHD"][(n % 5) as usize].into(),
        FieldType::Bool => n.is_multiple_of(2).into(),
        FieldType::Instant(bounds) => {
            let seconds = |at: DateTime<_>, up| at.timestamp() + i64::from(up && micros(&at));
            let low = bounds.min.map_or(0, |at| seconds(at, true));
            let high = bounds
                .max
                .map_or((low.max(0) + SPAN).min(LAST_DAY * 86_400), |at| {
                    seconds(at, false)
                });
            let at = DateTime::UNIX_EPOCH + TimeDelta::seconds(step(n, low, high));
            crate::value::instant(&at).into()
        }
        FieldType::Date(bounds) => {
            let days = |date: NaiveDate| (date - NaiveDate::default()).num_days();
            let low = bounds.min.map_or(0, days);
            let high = bounds
                .max
                .map_or((low.max(0) + 100_000).min(LAST_DAY), days);
            let date = NaiveDate::default() + TimeDelta::days(step(n, low, high));
            date.to_string().into()
        }
        FieldType::Time(Bounds { min, max }) => {
            let seconds = |time: &NaiveTime| i64::from(time.num_seconds_from_midnight());
            let low = min.map_or(0, |time| seconds(&time) + i64::from(time.nanosecond() > 0));
            let high = max.map_or(86_399, |time| seconds(&time));
            let at = u32::try_from(step(n, low, high)).unwrap_or_default();
            let time = NaiveTime::from_num_seconds_from_midnight_opt(at, 0).unwrap_or_default();
            crate::value::time(&time).into()
        }
        FieldType::Zoned => {
            let day = NaiveDate::default() + TimeDelta::days(step(n, 0, 100_000));
            format!("{day}T12:00:00[Europe/Berlin]").into()
        }
        FieldType::Vector { dimensions } => {
            // Halves are exact, and no two samples near each other are alike.
            let first = f64::from(u32::try_from(n % 1_000).unwrap_or_default()) + 0.5;
            let numbers = (0..*dimensions).map(|at| if at == 0 { first } else { -0.5 });
            numbers.collect::<Vec<_>>().into()
        }
        FieldType::Enum { values } => {
            let count = values.len().max(1) as u64;
            let at = usize::try_from(n % count).unwrap_or_default();
            values.get(at).cloned().unwrap_or_default().into()
        }
        FieldType::Tags { max_length, .. } => json!([text(n, 1, *max_length)]),
        FieldType::Json { .. } => json!({"sample": n}),
        FieldType::Reference { .. }
        | FieldType::References { .. }
        | FieldType::AnyReference { .. } => Json::Null,
    }
}

/// A short text that ends in the number, or in as many of its digits as there is room for.
fn text(n: u64, min: u32, max: u32) -> String {
    let (long, digits) = (format!("Sample {n}"), n.to_string());
    let [min, max] = [min, max].map(|bound| usize::try_from(bound).unwrap_or(usize::MAX));
    if long.len() <= max {
        return format!("{}{long}", "S".repeat(min.saturating_sub(long.len())));
    }
    let short = &digits[digits.len().saturating_sub(max)..];
    format!("{}{short}", "0".repeat(min.saturating_sub(short.len())))
}

/// Seconds, when nothing else bounds them.
const SPAN: i64 = 1_000_000_000;
/// 9999-12-31, in days since 1970.
const LAST_DAY: i64 = 2_932_896;

fn micros<Tz: chrono::TimeZone>(at: &DateTime<Tz>) -> bool {
    at.timestamp_subsec_micros() > 0
}

fn step(n: u64, low: i64, high: i64) -> i64 {
    i64::try_from(within(n, low.into(), high.into())).unwrap_or(low)
}

/// The number `n` of those from `low` to `high`, from 0 on where that is one of them.
fn within(n: u64, low: i128, high: i128) -> i128 {
    let start = low.max(0).min(high);
    start + i128::from(n) % (high - start + 1)
}
