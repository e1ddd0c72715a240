//! Fields as anything serde can read and write: a struct of the fields that matter, or a
//! [`Value`](crate::Value). Their form is that of the HTTP API: decimals, instants, dates, times
//! and ids are strings.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use crate::reader::Reader;
use crate::{Error, Field, FieldValue};

/// The fields as a type of the plugin's own.
///
/// # Errors
///
/// [`Error::Json`] when they do not fit.
pub fn read<T: DeserializeOwned>(fields: &[Field]) -> Result<T, Error> {
    Ok(T::deserialize(Reader(fields))?)
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
    let fields = object(values)?.into_iter().map(|(name, json)| Field {
        name,
        value: field_value(json),
    });
    Ok(fields.collect())
}

/// The values as a JSON object.
pub(crate) fn object(values: &impl Serialize) -> Result<Map<String, Json>, Error> {
    match serde_json::to_value(values)? {
        Json::Object(object) => Ok(object),
        other => Ok(serde_json::from_value(other)?),
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
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    fn field(name: &str, value: FieldValue) -> Field {
        let name = name.to_owned();
        Field { name, value }
    }

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
    fn every_value_has_the_form_of_the_api() {
        let text = |text: &str| text.to_owned();
        let fields = [
            field("nothing", FieldValue::Null),
            field("below", FieldValue::Integer(-7)),
            field("amount", FieldValue::Decimal(text("1.50"))),
            field("tags", FieldValue::Texts(vec![text("a"), text("b")])),
            field("likeness", FieldValue::Vector(vec![0.5, -1.0])),
            field("extra", FieldValue::Json(text(r#"{"x":[null,1]}"#))),
        ];
        let values = json!({
            "nothing": null, "below": -7, "amount": "1.50", "tags": ["a", "b"],
            "likeness": [0.5, -1.0], "extra": {"x": [null, 1]},
        });
        assert_eq!(read::<Json>(&fields).unwrap(), values);
    }

    #[test]
    fn fields_become_a_type_of_the_plugin() {
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Status {
            Lead,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Cents(u32);
        #[derive(Debug, PartialEq, Deserialize)]
        struct Extra {
            x: Vec<i64>,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Contact {
            status: Status,
            phone: Option<String>,
            price: Option<Cents>,
            extra: Option<Extra>,
            weight: f64,
        }
        let values = json!({
            "status": "lead", "phone": null, "price": 5, "extra": {"x": [1]}, "weight": 2,
            "unknown": [{}],
        });
        let fields = write(&values).unwrap();
        let contact = Contact {
            status: Status::Lead,
            phone: None,
            price: Some(Cents(5)),
            extra: Some(Extra { x: vec![1] }),
            weight: 2.0,
        };
        assert_eq!(read::<Option<Contact>>(&fields).unwrap(), Some(contact));
    }

    #[test]
    fn what_does_not_fit_says_so() {
        #[derive(Debug, Deserialize)]
        struct Contact {
            #[expect(dead_code, reason = "it is never made")]
            score: u8,
        }
        let refused = |value| {
            let fields = [field("score", value)];
            read::<Contact>(&fields).unwrap_err().to_string()
        };
        assert!(refused(FieldValue::Integer(300)).contains("expected u8"));
        assert!(refused(FieldValue::Text("7".to_owned())).contains("expected u8"));
        assert!(refused(FieldValue::Json("{}".to_owned())).contains("expected u8"));
        assert!(
            read::<Contact>(&[])
                .unwrap_err()
                .to_string()
                .contains("`score`")
        );
    }

    #[test]
    fn only_an_object_is_fields() {
        assert!(write(&json!([1])).is_err());
    }
}
