//! Reads fields into any type, without a copy between.

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Error;

use crate::{Field, FieldValue};

/// The fields of a record, as an object.
pub(crate) struct Reader<'a>(pub(crate) &'a [Field]);

/// The value of a field, in the form of the HTTP API.
struct Value<'a>(&'a FieldValue);

impl<'de> Reader<'de> {
    fn map(&self) -> impl MapAccess<'de, Error = Error> + use<'de> {
        let fields = self.0.iter();
        MapDeserializer::new(fields.map(|field| (field.name.as_str(), Value(&field.value))))
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(self.map())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(MapAccessDeserializer::new(self.map()))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for Value<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            FieldValue::Null => visitor.visit_unit(),
            FieldValue::Boolean(value) => visitor.visit_bool(*value),
            FieldValue::Integer(value) => visitor.visit_i64(*value),
            FieldValue::Decimal(text)
            | FieldValue::Text(text)
            | FieldValue::Instant(text)
            | FieldValue::Date(text)
            | FieldValue::Time(text)
            | FieldValue::Id(text) => visitor.visit_borrowed_str(text),
            FieldValue::Texts(texts) => {
                let texts = texts.iter().map(String::as_str);
                visitor.visit_seq(SeqDeserializer::new(texts))
            }
            FieldValue::Vector(numbers) => {
                let numbers = numbers.iter().copied();
                visitor.visit_seq(SeqDeserializer::new(numbers))
            }
            FieldValue::Json(text) => {
                serde_json::Deserializer::from_str(text).deserialize_any(visitor)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            FieldValue::Null => visitor.visit_none(),
            FieldValue::Json(text) => {
                serde_json::Deserializer::from_str(text).deserialize_option(visitor)
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            FieldValue::Text(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            FieldValue::Json(text) => {
                let mut json = serde_json::Deserializer::from_str(text);
                json.deserialize_enum(name, variants, visitor)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier
    }
}
