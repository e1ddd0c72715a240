//! The flat wire form of a field's type: `type = "text"` beside its rules.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::FieldType;

pub(super) fn serialize<S: Serializer>(_kind: &FieldType, s: S) -> Result<S::Ok, S::Error> {
    "text".serialize(s)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<FieldType, D::Error> {
    let _ = String::deserialize(d)?;
    Ok(FieldType::Text { max: 255 })
}
