//! What a stored wire form stands for: typed by the field, held against no rule. Rules change; what
//! an event says of a record stays.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use rust_decimal::Decimal;
use serde_json::Value as Json;
use uuid::Uuid;

use super::FieldType;
use crate::value::Value;

/// The value of a field of type `kind`; what the type does not know keeps the type of its JSON.
pub(crate) fn stored(kind: &FieldType, json: Json) -> Value {
    let text = json.as_str();
    let typed = match kind {
        _ if json.is_null() => Some(Value::Null),
        FieldType::Json { .. } => return Value::Json(json),
        FieldType::Decimal { .. } | FieldType::Money { .. } => {
            text.and_then(parsed::<Decimal>).map(Value::Decimal)
        }
        FieldType::Instant(_) => text.and_then(parsed::<DateTime<Utc>>).map(Value::Instant),
        FieldType::Date(_) => text.and_then(parsed::<NaiveDate>).map(Value::Date),
        FieldType::Time(_) => text.and_then(parsed::<NaiveTime>).map(Value::Time),
        FieldType::Uuid | FieldType::Reference { .. } => {
            text.and_then(parsed::<Uuid>).map(Value::Uuid)
        }
        FieldType::Tags { .. } | FieldType::References { .. } => texts(&json).map(Value::Tags),
        FieldType::Vector { .. } => numbers(&json).map(Value::Vector),
        // The type of the JSON is theirs.
        FieldType::Text { .. }
        | FieldType::LongText { .. }
        | FieldType::Url
        | FieldType::Email
        | FieldType::Phone
        | FieldType::Integer { .. }
        | FieldType::Currency
        | FieldType::Bool
        | FieldType::Zoned
        | FieldType::Enum { .. }
        | FieldType::AnyReference { .. } => None,
    };
    typed.unwrap_or_else(|| untyped(json))
}

/// The value whose type is that of the JSON itself.
pub(crate) fn untyped(json: Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(value),
        Json::String(text) => Value::Text(text),
        json => json.as_i64().map_or(Value::Json(json), Value::Int),
    }
}

fn parsed<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn texts(json: &Json) -> Option<Vec<String>> {
    let items = json.as_array()?.iter();
    items.map(|item| item.as_str().map(str::to_owned)).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the wire form is that of a number of 32 bits"
)]
fn numbers(json: &Json) -> Option<Vec<f32>> {
    let items = json.as_array()?.iter();
    items.map(|item| item.as_f64().map(|n| n as f32)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::module::Bounds;

    #[test]
    fn what_is_stored_is_typed_by_its_field_and_held_against_no_rule() {
        let date = FieldType::Date(Bounds::NONE);
        let day = NaiveDate::from_ymd_opt(2026, 3, 1).unwrap();
        assert_eq!(stored(&date, json!("2026-03-01")), Value::Date(day));
        assert_eq!(stored(&date, json!("soon")), Value::Text("soon".into()));
        assert_eq!(stored(&date, Json::Null), Value::Null);
        let short = FieldType::Text { min: 1, max: 1 };
        assert_eq!(stored(&short, json!("long")), Value::Text("long".into()));
        let vector = FieldType::Vector { dimensions: 2 };
        assert_eq!(stored(&vector, json!([0.1])), Value::Vector(vec![0.1]));
        let any = FieldType::Json { max_bytes: 1 };
        assert_eq!(stored(&any, json!("x")), Value::Json(json!("x")));
        assert_eq!(stored(&FieldType::Bool, json!(true)), Value::Bool(true));
    }
}
