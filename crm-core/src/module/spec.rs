//! What a module declares: the one description from which table, rules, permissions, events and
//! endpoints follow. It owns no behaviour; [`check`](crate::module::check) judges it.

use serde::{Deserialize, Serialize};

use super::Ident;

/// The declaration of a module.
///
/// The same value comes from `#[derive(Module)]`, from a TOML file and from JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleSpec {
    /// Plural name: the table, the path segment and the permission prefix (`contacts`).
    pub name: Ident,
    /// Singular name: the prefix of its events (`contact` in `contact.created`).
    pub singular: Ident,
    /// One sentence for the documentation.
    #[serde(default)]
    pub description: String,
    /// The declared fields, in wire order.
    pub fields: Vec<FieldSpec>,
    /// Further indexes, each an ordered list of fields; the library puts the tenant first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<Vec<Ident>>,
}

/// The declaration of one field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldSpec {
    /// The column and wire name.
    pub name: Ident,
    /// The type with its rules.
    #[serde(rename = "type", with = "super::field_type")]
    pub kind: FieldType,
    /// Whether a value must be present.
    #[serde(default, skip_serializing_if = "is_false")]
    pub required: bool,
    /// Whether the value is unique within its tenant; e-mail addresses compare without case.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unique: bool,
    /// Whether the substring search looks at this field.
    #[serde(default, skip_serializing_if = "is_false")]
    pub search: bool,
    /// Whether lists may be ordered by this field; it gets an index.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sort: bool,
    /// The value of a field that a create leaves out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Value>,
    /// One sentence for the documentation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// The type of a field, with the rules its values obey.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldType {
    /// Text, trimmed, of at most so many characters.
    Text {
        /// Most characters.
        max: u32,
    },
    /// An e-mail address, at most 254 characters (RFC 5321 §4.5.3.1.3).
    Email,
    /// A telephone number: digits, spaces and `+-().x/`, at most 40 characters.
    Phone,
    /// A whole number within bounds.
    Integer {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// An exact decimal number.
    Decimal {
        /// Digits in all, 1 to 18.
        precision: u32,
        /// Digits after the point, at most `precision`.
        scale: u32,
    },
    /// True or false.
    Bool,
    /// An instant in UTC, to the microsecond.
    Instant,
    /// A calendar date.
    Date,
    /// One of a closed list of texts.
    Enum {
        /// The allowed values, in order.
        values: Vec<String>,
    },
    /// A list of distinct texts.
    Tags {
        /// Most entries.
        max_items: u32,
        /// Most characters of one entry.
        max_length: u32,
    },
    /// Any JSON value up to a size.
    Json {
        /// Most bytes of its compact form.
        max_bytes: u32,
    },
    /// The id of a record of another module in the same tenant.
    Reference {
        /// The module referred to.
        module: Ident,
    },
}

fn is_false(value: &bool) -> bool {
    !value
}
