//! The rules of each field type: which JSON value is a value of the field, and which text is one.
//!
//! Exact or refused: nothing is rounded, cut or guessed. The one change made is trimming, and a
//! text that is empty afterwards is no value at all.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Timelike, Utc};
use rust_decimal::Decimal;
use serde_json::Value as Json;
use uuid::Uuid;

use super::{FieldType, Ident, MoneyCurrency, currency, email, vector, zoned};
use crate::count::told;
use crate::error::FieldError;
use crate::value::Value;

/// Most digits of a decimal: what 64 bits hold of any number.
pub(super) const MAX_PRECISION: u32 = 18;

/// Why a value is not one of its field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Stable machine code, such as `too_long`.
    pub code: &'static str,
    /// What the value must be.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The refusal as that of the field called `name`.
    pub fn of(self, name: &str) -> FieldError {
        FieldError::new(name, self.code, self.message)
    }
}

type Ruled<T = Value> = Result<T, Refusal>;

/// Most characters of a URL.
pub(super) const URL_MAX: usize = 2_048;

/// The value that `json` gives to a field of type `kind`; null is [`Value::Null`].
pub(crate) fn from_json(kind: &FieldType, json: Json) -> Ruled {
    kind.admit(read_json(kind, json)?)
}

/// [`from_json`] without the bounds, which limit what is stored, not what it is compared with.
pub(super) fn read_json(kind: &FieldType, json: Json) -> Ruled {
    let expected = match (kind, json) {
        (_, Json::Null) => return Ok(Value::Null),
        (FieldType::Json { max_bytes }, json) => return document(json, *max_bytes),
        (FieldType::Bool, Json::Bool(value)) => return Ok(Value::Bool(value)),
        (FieldType::Bool, _) => "true or false",
        (FieldType::Integer { .. }, Json::Number(number)) => {
            return integer(&number).map(Value::Int);
        }
        (FieldType::Integer { .. }, _) => "a whole number",
        (
            FieldType::Decimal {
                precision, scale, ..
            },
            Json::Number(number),
        ) => {
            return decimal(&exact_text(&number)?, *precision, *scale);
        }
        (
            FieldType::Decimal {
                precision, scale, ..
            },
            Json::String(text),
        ) => {
            return match text.trim() {
                "" => Ok(Value::Null),
                text => decimal(text, *precision, *scale),
            };
        }
        (kind @ FieldType::Money { .. }, Json::Number(number)) => {
            return read_text(kind, exact_text(&number)?);
        }
        (FieldType::Money { .. }, json) if !json.is_string() => {
            "an amount, best sent as a text such as \"12.50\""
        }
        (FieldType::Decimal { .. }, _) => "a decimal number, best sent as a text such as \"12.50\"",
        (
            FieldType::Tags {
                max_items,
                max_length,
            },
            Json::Array(items),
        ) => {
            return tags(items, *max_items, *max_length);
        }
        (FieldType::Vector { dimensions }, Json::Array(items)) => {
            return vector::read(&items, *dimensions).map(Value::Vector);
        }
        (FieldType::Vector { .. }, _) => "a list of numbers",
        (FieldType::Tags { .. }, _) => "a list of texts",
        (FieldType::References { max_items, .. }, Json::Array(items)) => {
            return ids(items, *max_items);
        }
        (FieldType::References { .. }, _) => "a list of ids",
        (kind, Json::String(text)) => {
            let trimmed = trim(&text);
            let text = if trimmed.len() == text.len() {
                text
            } else {
                trimmed.to_owned()
            };
            return if text.is_empty() {
                Ok(Value::Null)
            } else {
                read_text(kind, text)
            };
        }
        (_, _) => "a text",
    };
    Err(Refusal::new("wrong_type", format!("must be {expected}")))
}

/// The text without the white space around it; nothing where it shows nothing at all.
pub(crate) fn trim(text: &str) -> &str {
    let trimmed = text.trim();
    let shows_nothing = |char: char| char.is_whitespace() || is_invisible(char);
    match trimmed.chars().all(shows_nothing) {
        true => "",
        false => trimmed,
    }
}

/// Characters that show nothing by themselves: what joins, breaks or turns the text around them
/// (of Unicode's `Default_Ignorable_Code_Point`, those that are written on purpose).
fn is_invisible(char: char) -> bool {
    matches!(char,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

/// The value that a non-empty `text` gives to a field of type `kind`, whatever its JSON form.
/// Bounds are not held.
pub(super) fn read_text(kind: &FieldType, text: String) -> Ruled {
    match kind {
        FieldType::Text { max, .. } | FieldType::LongText { max, .. } => {
            limited(text, *max).map(Value::Text)
        }
        FieldType::Email if email::is_email(&text) => Ok(Value::Text(text)),
        FieldType::Email => Err(Refusal::new(
            "invalid_email",
            "must be an e-mail address such as ada@example.com",
        )),
        FieldType::Phone => phone(text),
        FieldType::Url => url(text),
        FieldType::Integer { .. } => match text.parse() {
            Ok(number) => Ok(Value::Int(number)),
            Err(_) => Err(Refusal::new(
                "wrong_type",
                "must be a whole number of 64 bits",
            )),
        },
        FieldType::Decimal {
            precision, scale, ..
        } => decimal(&text, *precision, *scale),
        FieldType::Money {
            precision,
            scale,
            currency,
            ..
        } => {
            let amount = decimal(&text, *precision, *scale)?;
            if let (MoneyCurrency::Fixed(code), Value::Decimal(amount)) = (currency, &amount) {
                currency::admit(*amount, code)?;
            }
            Ok(amount)
        }
        FieldType::Currency => currency::code(&text).map(Value::Text),
        FieldType::Bool => match text.as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(Refusal::new("wrong_type", "must be true or false")),
        },
        FieldType::Instant(_) => instant(&text),
        FieldType::Date(_) => date(&text),
        FieldType::Time(_) => time(&text),
        FieldType::Zoned => zoned::canonical(&text).map(Value::Text),
        FieldType::Enum { values } if values.contains(&text) => Ok(Value::Text(text)),
        FieldType::Enum { values } => {
            let list = values.join(", ");
            Err(Refusal::new(
                "not_allowed",
                format!("must be one of: {list}"),
            ))
        }
        FieldType::Tags { max_length, .. } => limited(text, *max_length).map(Value::Text),
        FieldType::Json { .. } | FieldType::Vector { .. } => Err(Refusal::new(
            "not_comparable",
            "such a field cannot be compared with a text",
        )),
        FieldType::Uuid | FieldType::Reference { .. } => uuid(&text).map(Value::Uuid),
        FieldType::References { .. } => uuid(&text).map(|id| Value::Text(id.to_string())),
        FieldType::AnyReference { modules, .. } => subject(&text, modules),
    }
}

/// What an id looks like.
const ANY_ID: &str = "018f4e2a-7b6c-7d3e-9a1b-2c3d4e5f6071";

/// A UUID in its hyphenated form (RFC 9562 §4).
pub(super) fn uuid(text: &str) -> Ruled<Uuid> {
    let hyphenated = (text.len() == 36)
        .then(|| Uuid::try_parse(text).ok())
        .flatten();
    hyphenated.ok_or_else(|| Refusal::new("invalid_id", format!("must be a UUID such as {ANY_ID}")))
}

/// A text without NUL, of at most `max` characters.
pub(super) fn limited(text: String, max: u32) -> Ruled<String> {
    if text.contains('\0') {
        return Err(nul());
    }
    // Bytes are at least characters, so the short text, the common one, is not counted.
    let max_len = usize::try_from(max).unwrap_or(usize::MAX);
    if text.len() > max_len && text.chars().count() > max_len {
        return Err(Refusal::new(
            "too_long",
            format!("must have at most {}", told(max, "character", "characters")),
        ));
    }
    Ok(text)
}

fn nul() -> Refusal {
    Refusal::new("invalid_character", "must not contain the NUL character")
}

fn phone(text: String) -> Ruled {
    let allowed = text
        .bytes()
        .all(|b| b.is_ascii_digit() || b" +-().x/".contains(&b));
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if allowed && digits >= 2 && text.len() <= 40 {
        return Ok(Value::Text(text));
    }
    Err(Refusal::new(
        "invalid_phone",
        "must be a telephone number of at most 40 characters: digits, spaces and + - ( ) . x /",
    ))
}

fn integer(number: &serde_json::Number) -> Ruled<i64> {
    match number.as_i64() {
        Some(value) => Ok(value),
        None if is_large(number) => Err(Refusal::new(
            "out_of_range",
            format!("must be between {} and {}", i64::MIN, i64::MAX),
        )),
        None => Err(Refusal::new(
            "wrong_type",
            "must be a whole number, without a point",
        )),
    }
}

/// Whether a number is beyond 64 bits: in JSON such a one has no point either.
fn is_large(number: &serde_json::Number) -> bool {
    let beyond = |number: f64| number.abs() >= -(i64::MIN as f64);
    number.as_f64().is_some_and(beyond)
}

/// An absolute URL of a web page: RFC 3986 in its ASCII form, and understood by browsers too.
fn url(text: String) -> Ruled {
    let written = |scheme: &str| {
        let start = text.get(..scheme.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic())
        && !text.contains(['\\', '<', '>', '"', '^', '`', '{', '|', '}']);
    let absolute = (written("http://") || written("https://")) && plain;
    if absolute && text.len() <= URL_MAX && url::Url::parse(&text).is_ok_and(|url| url.has_host()) {
        return Ok(Value::Text(text));
    }
    let message = "must be an absolute URL such as https://example.com/, of at most 2048 \
                   characters, with all but ASCII percent-encoded";
    Err(Refusal::new("invalid_url", message))
}

/// The digits the client wrote. A fraction arrives as a double, and 15 digits are what a double
/// keeps of any decimal number (IEEE 754 binary64); with more, what was written is no longer known.
fn exact_text(number: &serde_json::Number) -> Ruled<String> {
    let text = number.to_string();
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let digits = mantissa
        .bytes()
        .filter(u8::is_ascii_digit)
        .skip_while(|digit| *digit == b'0');
    if number.is_f64() && digits.count() > 15 {
        let message = "must be sent as a text such as \"12.50\": a JSON number of so many digits \
                       is not exact";
        return Err(Refusal::new("inexact_number", message));
    }
    Ok(text)
}

/// `[-]digits[.digits][e[±]digits]`, rescaled; zeros at the end do not count as decimals.
fn decimal(text: &str, precision: u32, scale: u32) -> Ruled {
    let malformed = || Refusal::new("wrong_type", "must be a decimal number such as 12.50");
    let (sign, rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i16>().map_err(|_| malformed())?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let digits_only = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if text.len() > 64 || !digits_only(whole) || !digits_only(fraction) {
        return Err(malformed());
    }
    let written = format!("{whole}{fraction}");
    let digits = written.trim_end_matches('0');
    if digits.is_empty() {
        return scaled(0, scale);
    }
    // The number is digits × 10^point; both lengths are at most 64.
    let point = i64::from(exponent) + length(&written) - length(digits) - length(fraction);
    let digits = digits.trim_start_matches('0');
    let zeros = point + i64::from(scale);
    if zeros < 0 {
        let message = match scale {
            0 => "must be a whole number".to_owned(),
            scale => {
                let digits = told(scale, "digit", "digits");
                format!("must have at most {digits} after the point")
            }
        };
        return Err(Refusal::new("too_precise", message));
    }
    let precision = precision.min(MAX_PRECISION);
    if length(digits) + zeros > i64::from(precision) {
        let whole = precision.saturating_sub(scale);
        let digits = told(whole, "digit", "digits");
        let message = format!("must have at most {digits} before the point");
        return Err(Refusal::new("out_of_range", message));
    }
    let padded = format!(
        "{digits}{}",
        "0".repeat(usize::try_from(zeros).unwrap_or_default())
    );
    scaled(
        sign * padded.parse::<i64>().map_err(|_| malformed())?,
        scale,
    )
}

fn scaled(unscaled: i64, scale: u32) -> Ruled {
    Decimal::try_new(unscaled, scale)
        .map(Value::Decimal)
        .map_err(|_| Refusal::new("out_of_range", "has a scale that no decimal has"))
}

fn length(digits: &str) -> i64 {
    i64::try_from(digits.len()).unwrap_or(i64::MAX)
}

/// RFC 3339 with an offset; what is finer than a microsecond is below the clock's precision.
fn instant(text: &str) -> Ruled {
    let instant = DateTime::parse_from_rfc3339(text)
        .ok()
        .and_then(|instant| DateTime::<Utc>::from_timestamp_micros(instant.timestamp_micros()))
        .filter(|instant| (1..=9999).contains(&instant.year()));
    instant.map(Value::Instant).ok_or_else(|| {
        let form = "2026-03-01T09:30:00Z";
        Refusal::new(
            "invalid_instant",
            format!("must be an RFC 3339 instant such as {form}"),
        )
    })
}

fn date(text: &str) -> Ruled {
    let shaped = text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let date = shaped
        .then(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok())
        .flatten();
    date.filter(|date| date.year() >= 1)
        .map(Value::Date)
        .ok_or_else(|| {
            Refusal::new(
                "invalid_date",
                "must be a date of the calendar such as 2026-03-01",
            )
        })
}

/// `HH:MM`, with seconds and up to six digits of a fraction where there are any.
fn time(text: &str) -> Ruled {
    let shaped = matches!(text.len(), 5 | 8 | 10..=15)
        && text.bytes().enumerate().all(|(at, byte)| match at {
            2 | 5 => byte == b':',
            8 => byte == b'.',
            _ => byte.is_ascii_digit(),
        });
    let form = if text.len() == 5 {
        "%H:%M"
    } else {
        "%H:%M:%S%.f"
    };
    let time = shaped
        .then(|| NaiveTime::parse_from_str(text, form).ok())
        .flatten();
    // A leap second is one of an instant, not of every day.
    time.filter(|time| time.nanosecond() < 1_000_000_000)
        .map(Value::Time)
        .ok_or_else(|| {
            Refusal::new(
                "invalid_time",
                "must be a time of day such as 09:30 or 09:30:00.25",
            )
        })
}

fn tags(items: Vec<Json>, max_items: u32, max_length: u32) -> Ruled {
    if items.len() > usize::try_from(max_items).unwrap_or(usize::MAX) {
        return Err(Refusal::new(
            "too_many",
            format!("must have at most {}", told(max_items, "entry", "entries")),
        ));
    }
    let mut seen = Vec::with_capacity(items.len());
    for item in items {
        let Json::String(text) = item else {
            return Err(Refusal::new("wrong_type", "must be a list of texts"));
        };
        let tag = limited(text.trim().to_owned(), max_length).map_err(|refusal| {
            Refusal::new(refusal.code, format!("each entry {}", refusal.message))
        })?;
        if tag.is_empty() {
            return Err(Refusal::new("empty_entry", "must not have an empty entry"));
        }
        seen.push(tag);
    }
    let mut sorted: Vec<&str> = seen.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Refusal::new(
            "duplicate",
            format!("must not have {:?} twice", pair[0]),
        ));
    }
    Ok(Value::Tags(seen))
}

/// A list of distinct ids, in their lower-case form; none at all is null.
fn ids(items: Vec<Json>, max_items: u32) -> Ruled {
    if items.len() > usize::try_from(max_items).unwrap_or(usize::MAX) {
        let message = format!("must have at most {}", told(max_items, "entry", "entries"));
        return Err(Refusal::new("too_many", message));
    }
    let mut ids = Vec::with_capacity(items.len());
    let mut seen = HashSet::with_capacity(items.len());
    for item in items {
        let Json::String(text) = item else {
            return Err(Refusal::new("wrong_type", "must be a list of ids"));
        };
        let id = uuid(text.trim())?;
        if !seen.insert(id) {
            return Err(Refusal::new(
                "duplicate",
                format!("must not have {id} twice"),
            ));
        }
        ids.push(id.to_string());
    }
    Ok(match ids.is_empty() {
        true => Value::Null,
        false => Value::Tags(ids),
    })
}

/// Most characters of a reference to any module: the longest name, a slash, and a UUID.
pub(super) const MAX_SUBJECT: usize = 48 + 1 + 36;

/// A record of one of these modules, such as `contacts/018f4e2a-7b6c-7d3e-9a1b-2c3d4e5f6071`.
fn subject(text: &str, modules: &[Ident]) -> Ruled {
    let named = text.split_once('/').and_then(|(name, id)| {
        let module = modules.iter().find(|module| module.as_str() == name)?;
        Some((module, id))
    });
    let read = named.and_then(|(module, id)| Some((module, uuid(id).ok()?)));
    let Some((module, id)) = read else {
        let known: Vec<_> = modules
            .iter()
            .map(|name| format!("{name}/{ANY_ID}"))
            .collect();
        let message = format!(
            "must name a module and a record's id, as {}",
            known.join(" or ")
        );
        return Err(Refusal::new("invalid_reference", message));
    };
    Ok(Value::Text(format!("{module}/{id}")))
}

fn document(json: Json, max_bytes: u32) -> Ruled {
    let text = json.to_string();
    if text.len() > usize::try_from(max_bytes).unwrap_or(usize::MAX) {
        let message = format!("must be at most {max_bytes} bytes of compact JSON");
        return Err(Refusal::new("too_long", message));
    }
    // In compact JSON a NUL can only stand as this escape, and a backslash before it is doubled.
    if text.contains("\\u0000") && has_nul(&json) {
        return Err(nul());
    }
    Ok(Value::Json(json))
}

pub(crate) fn has_nul(json: &Json) -> bool {
    match json {
        Json::String(text) => text.contains('\0'),
        Json::Array(items) => items.iter().any(has_nul),
        Json::Object(entries) => entries
            .iter()
            .any(|(key, value)| key.contains('\0') || has_nul(value)),
        Json::Null | Json::Bool(_) | Json::Number(_) => false,
    }
}
