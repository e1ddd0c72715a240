//! JSON as strangers write it.

use std::fmt;

use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value as Json};

/// A JSON object that names no member twice at its top.
///
/// # Errors
/// For what is no such object.
pub(crate) fn object(text: &[u8]) -> serde_json::Result<Map<String, Json>> {
    let mut parser = serde_json::Deserializer::from_slice(text);
    let object = parser.deserialize_map(Members)?;
    parser.end()?;
    Ok(object)
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Map<String, Json>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format!("it names {name:?} twice")));
            }
            object.insert(name, members.next_value()?);
        }
        Ok(object)
    }
}
