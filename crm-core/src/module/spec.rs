//! What a module declares: the one description from which table, rules, permissions, events and
//! endpoints follow. It owns no behaviour; [`check`](super::check()) judges it.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{Bounds, Ident, MachineSpec, MoneyCurrency, OnDelete, rule};
use crate::error::{Error, Result};
use crate::value::Value;

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
    /// Whether the substring search has an index.
    #[serde(default, skip_serializing_if = "SearchMode::is_scan")]
    pub search: SearchMode,
    /// Further indexes, each an ordered list of fields; the library puts the tenant first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<Vec<Ident>>,
    /// The state machines of its enum fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<MachineSpec>,
    /// Whether a deleted record goes to the trash, from where it can be restored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub soft_delete: bool,
    /// Whether a change or delete of one record must name the version that it is meant for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_version: bool,
    /// The serial field whose number stands for the id in the path of a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Ident>,
    /// The reference to the record that one of this module is part of: permissions on rows
    /// `:parent` reach what is part of an own record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Ident>,
    /// Keys by which records are taken for duplicates of each other: those that agree in all fields
    /// of one, texts without regard to case. Each key gets an index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub duplicates: Vec<Vec<Ident>>,
    /// How many seconds figures about its records may be old where a request does not say: 1 to
    /// 3,600. Left out, they are computed for each request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate_ttl: Option<u32>,
}

/// How the substring search finds its records.
///
/// Results are the same either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchMode {
    /// Reading the tenant's records one by one: for modules that stay small.
    #[default]
    Scan,
    /// By an index of trigrams, for texts of three characters and more. Searchable fields cannot be
    /// tags then.
    ///
    /// SQLite keeps the index behind the writes, and only of tenants that searched in more than
    /// [`large_tenant`](crate::DatabaseOptions::large_tenant) records; PostgreSQL keeps it with the
    /// writes.
    Indexed,
}

impl SearchMode {
    fn is_scan(&self) -> bool {
        *self == Self::Scan
    }
}

/// The declaration of one field; on the wire its type and rules stand flat beside its name.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldSpec {
    /// The column and wire name.
    pub name: Ident,
    /// The type with its rules.
    pub kind: FieldType,
    /// Whether the value is never null. A create that leaves it out needs a default.
    pub required: bool,
    /// Whether the value is unique within its tenant; e-mail addresses and texts that ignore case
    /// compare without it.
    pub unique: bool,
    /// Whether the substring search looks at this field.
    pub search: bool,
    /// Whether lists may be ordered by this field; it gets an index.
    pub sort: bool,
    /// The value of a field that a create leaves out.
    pub default: Option<serde_json::Value>,
    /// One sentence for the documentation.
    pub description: String,
    /// Whether clients cannot set the value: a body that carries it is read past. Defaults, state
    /// machines and hooks set it.
    pub read_only: bool,
    /// Whether the value stays what it was when the record was made.
    pub immutable: bool,
    /// Whether the value is stored and never shown: in no answer, event, audit row or export.
    pub write_only: bool,
    /// Whether a text compares and sorts without ASCII case, as e-mail addresses always do.
    pub ignore_case: bool,
    /// How the value is made of other fields whenever it is read.
    pub computed: Option<Formula>,
    /// From which reference and which field there the value is copied, whenever the reference gets
    /// another value: `company_id.region`.
    pub copied: Option<String>,
    /// Whether a new record gets the next number, from 1 upwards in its tenant; numbers of records
    /// that were not made in the end are left out.
    pub serial: bool,
}

/// How a computed field is made of others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Formula {
    /// A text with fields in it: `{first_name} {last_name}`.
    Template(String),
    /// Whether the record meets a condition of the query language:
    /// `{"done": false, "due": {"lt": "today"}}`.
    Condition(serde_json::Map<String, serde_json::Value>),
}

/// A JSON object is a condition, every other text a template.
impl From<&str> for Formula {
    fn from(text: &str) -> Self {
        match serde_json::from_str(text) {
            Ok(condition) => Self::Condition(condition),
            Err(_) => Self::Template(text.to_owned()),
        }
    }
}

/// The type of a field, with the rules its values obey.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldType {
    /// Text, trimmed, of so many characters.
    Text {
        /// Fewest characters, 1 when nothing is said: a text without any is no value.
        min: u32,
        /// Most characters.
        max: u32,
    },
    /// Text of many lines; searched, but neither unique nor a key of orders and indexes.
    LongText {
        /// Fewest characters.
        min: u32,
        /// Most characters.
        max: u32,
    },
    /// An absolute `http` or `https` URL, at most 2,048 ASCII characters (RFC 3986).
    Url,
    /// An e-mail address, at most 254 characters (RFC 5321 §4.5.3.1.3).
    Email,
    /// A telephone number: digits, spaces and `+-().x/`, at most 40 characters.
    Phone,
    /// A whole number within bounds, by default those of 64 bits. Clients that read JSON numbers as
    /// doubles (JavaScript) are exact up to 2^53 only: bound a field that they count with.
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
        /// Smallest and largest value.
        bounds: Bounds<Decimal>,
    },
    /// An exact amount of money, with no more decimals than its currency has.
    Money {
        /// Digits in all, 1 to 18.
        precision: u32,
        /// Digits after the point, at most `precision`.
        scale: u32,
        /// Smallest and largest amount.
        bounds: Bounds<Decimal>,
        /// Its currency, or the field that names it.
        currency: MoneyCurrency,
    },
    /// The code of a currency in use (ISO 4217), in upper case.
    Currency,
    /// True or false.
    Bool,
    /// An instant in UTC, to the microsecond.
    Instant(Bounds<DateTime<Utc>>),
    /// A calendar date.
    Date(Bounds<NaiveDate>),
    /// A local time of day, to the microsecond.
    Time(Bounds<NaiveTime>),
    /// A local time with its IANA zone, in the form of RFC 9557 without an offset.
    Zoned,
    /// Any UUID (RFC 9562), hyphenated.
    Uuid,
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
    /// So many 32-bit floating-point numbers, compared by their direction.
    Vector {
        /// How many, 1 to 4,096.
        dimensions: u32,
    },
    /// The id of a record of another module in the same tenant.
    Reference {
        /// The module referred to.
        module: Ident,
        /// What becomes of the record when the other one is deleted.
        on_delete: OnDelete,
    },
    /// The ids of records of another module in the same tenant: a list of distinct ones in an order
    /// of its own, empty when there are none.
    References {
        /// The module referred to.
        module: Ident,
        /// Most entries.
        max_items: u32,
        /// What becomes of the record when one of the others is deleted; one that is nulled leaves
        /// the list.
        on_delete: OnDelete,
    },
    /// A record of one of several modules in the same tenant, as `contacts/018f4e2a-…`.
    AnyReference {
        /// The modules that may be referred to.
        modules: Vec<Ident>,
        /// What becomes of the record when the other one is deleted.
        on_delete: OnDelete,
    },
}

impl FieldSpec {
    /// An optional field without further rules.
    pub fn new(name: Ident, kind: FieldType) -> Self {
        Self {
            name,
            kind,
            required: false,
            unique: false,
            search: false,
            sort: false,
            default: None,
            description: String::new(),
            read_only: false,
            immutable: false,
            write_only: false,
            ignore_case: false,
            computed: None,
            copied: None,
            serial: false,
        }
    }

    /// A number that each new record gets: the next one of its tenant, from 1 upwards. It is
    /// unique, sortable, and read-only.
    pub fn serial(name: Ident) -> Self {
        let (min, max) = (1, i64::MAX);
        Self {
            unique: true,
            sort: true,
            serial: true,
            ..Self::new(name, FieldType::Integer { min, max })
        }
    }

    /// Whether a create must carry this field: it is required and has no default.
    pub fn required_on_create(&self) -> bool {
        self.required && self.default.is_none()
    }

    /// Whether clients cannot set the value.
    pub fn is_read_only(&self) -> bool {
        self.read_only || self.serial || self.is_derived()
    }

    /// Whether the value follows from other fields.
    pub fn is_derived(&self) -> bool {
        self.computed.is_some() || self.copied.is_some()
    }

    /// Whether records can be known by the value: it is unique, and clients give it.
    pub fn is_key(&self) -> bool {
        self.unique && !self.is_read_only()
    }

    /// Whether values compare and sort without ASCII case.
    pub fn folds(&self) -> bool {
        self.ignore_case || matches!(self.kind, FieldType::Email)
    }

    /// The value of a create that leaves this field out; null also for a default that breaks the
    /// field's rules, which [`check`](super::check()) refuses.
    pub fn default_value(&self) -> Value {
        let default = self
            .default
            .clone()
            .map(|json| rule::from_json(&self.kind, json));
        default.and_then(|value| value.ok()).unwrap_or_default()
    }
}

impl ModuleSpec {
    /// Reads a declaration from TOML. [`check`](super::check()) judges what it says.
    ///
    /// # Errors
    /// [`Error::Configuration`] with the line and the sentence that mends it.
    pub fn from_toml(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text
                .bytes()
                .take(start)
                .filter(|byte| *byte == b'\n')
                .count()
                + 1;
            Error::Configuration(format!("line {line}: {}", error.message()).into())
        })
    }
}

impl FieldType {
    /// The word that stands for this type in a declaration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Text { .. } => "text",
            Self::LongText { .. } => "long_text",
            Self::Url => "url",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Integer { .. } => "integer",
            Self::Decimal { .. } => "decimal",
            Self::Money { .. } => "money",
            Self::Currency => "currency",
            Self::Bool => "bool",
            Self::Instant(_) => "instant",
            Self::Date(_) => "date",
            Self::Time(_) => "time",
            Self::Zoned => "zoned",
            Self::Uuid => "uuid",
            Self::Enum { .. } => "enum",
            Self::Tags { .. } => "tags",
            Self::Json { .. } => "json",
            Self::Vector { .. } => "vector",
            Self::Reference { .. } => "reference",
            Self::References { .. } => "references",
            Self::AnyReference { .. } => "any_reference",
        }
    }
}
