//! Fields as anything serde can read and write: a struct of the fields that matter, or a
//! [`Value`](crate::Value). Their form is that of the HTTP API: decimals, instants, dates, times and
//! ids are strings.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use crate::{Error, Field, FieldValue};

/// The fields as a type of the plugin's own.
///
/// # Errors
///
/// [`Error::Json`] when they do not fit.
pub fn read<T: DeserializeOwned>(fields: &[Field]) -> Result<T, Error> {
    Ok(serde_json::from_value(json(fields))?)
}

/// The fields as a JSON object.
pub fn json(fields: &[Field]) -> Json {
    let fields = fields.iter();
    let object: Map<_, _> = fields
        .map(|field| (field.name.clone(), json_value(&field.value)))
        .collect();
    Json::Object(object)
}

/// The value of one field.
pub fn get<'a>(fields: &'a [Field], name: &str) -> Option<&'a FieldValue> {
    let field = fields.iter().find(|field| field.name == name)?;
    Some(&field.value)
}

/// Fields to write, from anything that is a JSON object.
///
/// # Errors
///
/// [`Error::Json`] for anything else.
pub fn write(values: &impl Serialize) -> Result<Vec<Field>, Error> {
    let object: Map<String, Json> = serde_json::from_value(serde_json::to_value(values)?)?;
    let fields = object.into_iter();
    Ok(fields
        .map(|(name, json)| Field {
            name,
            value: field_value(json),
        })
        .collect())
}

fn json_value(value: &FieldValue) -> Json {
    match value {
        FieldValue::Null => Json::Null,
        FieldValue::Boolean(value) => Json::from(*value),
        FieldValue::Integer(value) => Json::from(*value),
        FieldValue::Decimal(text)
        | FieldValue::Text(text)
        | FieldValue::Instant(text)
        | FieldValue::Date(text)
        | FieldValue::Time(text)
        | FieldValue::Id(text) => Json::from(text.as_str()),
        FieldValue::Texts(texts) => Json::from(texts.clone()),
        FieldValue::Vector(numbers) => Json::from(numbers.clone()),
        FieldValue::Json(text) => serde_json::from_str(text).unwrap_or_default(),
    }
}

fn field_value(json: Json) -> FieldValue {
    match json {
        Json::Null => FieldValue::Null,
        Json::Bool(value) => FieldValue::Boolean(value),
        Json::String(text) => FieldValue::Text(text),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => FieldValue::Integer(integer),
            None => FieldValue::Json(number.to_string()),
        },
        Json::Array(_) | Json::Object(_) => FieldValue::Json(json.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let values = json!({
            "name": "Ada", "score": 7, "vip": true, "owner_id": null,
            "tags": ["a", "b"], "extra": {"x": [1.5]},
        });
        let fields = write(&values).unwrap();
        assert_eq!(get(&fields, "score"), Some(&FieldValue::Integer(7)));
        assert_eq!(read::<Json>(&fields).unwrap(), values);
    }

    #[test]
    fn only_an_object_is_fields() {
        assert!(write(&json!([1])).is_err());
    }
}
