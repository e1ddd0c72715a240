//! What a caller may ask of an import.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::is_target;
use super::mapping::Preset;
use crate::error::FieldError;
use crate::module::CompiledModule;
use crate::record::Key;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Comma-separated values (RFC 4180) with a header; semicolons and tabs are recognised.
    Csv,
    /// One JSON object per line.
    Ndjson,
    /// One JSON array of objects.
    Json,
    /// vCard 3.0 and 4.0 (RFC 2426, RFC 6350); for imports only.
    Vcard,
}

/// What an import does with what is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportMode {
    /// Every entry is a new record; a taken unique value is an error of its line.
    #[default]
    Create,
    /// An entry whose key is known changes that record: what it leaves out or empty stays.
    Upsert,
}

/// What an import does at a refused entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Notes it and goes on.
    #[default]
    Continue,
    /// Stops there; what came before stays.
    Abort,
}

/// Which column of a file is which field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MappingOption {
    /// A ready one: `google_contacts` or `outlook`.
    Ready(String),
    /// From column to field, or to null for a column that is left out. Columns of one field are
    /// joined by a space; columns not named here are matched by name.
    Columns(BTreeMap<String, Option<String>>),
}

impl FromStr for MappingOption {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        if !text.trim_start().starts_with('{') {
            return Ok(Self::Ready(text.to_owned()));
        }
        serde_json::from_str(text).map(Self::Columns).map_err(|_| {
            let message = "must be google_contacts, outlook, or a JSON object from column to \
                           field such as {\"Full name\": \"name\", \"Fax\": null}";
            FieldError::new("mapping", "invalid", message)
        })
    }
}

macro_rules! named {
    ($type:ty, $name:literal, $($text:literal => $variant:ident),+) => {
        impl FromStr for $type {
            type Err = FieldError;

            fn from_str(text: &str) -> Result<Self, FieldError> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => {
                        let message = concat!("must be one of:" $(, " ", $text)+);
                        Err(FieldError::new($name, "not_allowed", message))
                    }
                }
            }
        }
    };
}

named!(Format, "format", "csv" => Csv, "ndjson" => Ndjson, "json" => Json, "vcard" => Vcard);
named!(ImportMode, "mode", "create" => Create, "upsert" => Upsert);
named!(OnError, "on_error", "continue" => Continue, "abort" => Abort);

/// An import's options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportOptions {
    /// How the file is written.
    pub format: Format,
    /// What to do with what is there already.
    #[serde(default)]
    pub mode: ImportMode,
    /// The unique field that an upsert finds records by.
    #[serde(default)]
    pub key: Option<String>,
    /// Whether to check every entry and write nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Which column is which field; by name when left out.
    #[serde(default)]
    pub mapping: Option<MappingOption>,
    /// What to do at a refused entry.
    #[serde(default)]
    pub on_error: OnError,
}

impl Format {
    /// The format that `text` names for an export.
    ///
    /// # Errors
    /// A [`FieldError`] on `format` for what is none, and for vCard.
    pub fn of_export(text: &str) -> Result<Self, FieldError> {
        match text.parse() {
            Ok(Self::Vcard) | Err(_) => Err(Self::not_exported()),
            Ok(format) => Ok(format),
        }
    }

    /// The refusal of a file that only an import reads.
    pub(super) fn not_exported() -> FieldError {
        FieldError::new("format", "not_allowed", "must be one of: csv ndjson json")
    }
}

impl ImportOptions {
    /// An import of new records from a file of this format.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            mode: ImportMode::default(),
            key: None,
            dry_run: false,
            mapping: None,
            on_error: OnError::default(),
        }
    }

    /// What does not fit the module.
    pub(super) fn check(&self, module: &CompiledModule) -> Vec<FieldError> {
        let mut refused = Vec::new();
        match (self.mode, &self.key) {
            (ImportMode::Create, None) => {}
            (ImportMode::Create, Some(_)) => refused.push(FieldError::new(
                "key",
                "not_allowed",
                "goes with mode=upsert only",
            )),
            (ImportMode::Upsert, key) => {
                let names: Vec<&str> = Key::names(module).collect();
                if !key.as_deref().is_some_and(|key| names.contains(&key)) {
                    let message = match names.is_empty() {
                        true => format!("{} has no unique field to upsert by", module.name()),
                        false => format!("must be a unique field: {}", names.join(", ")),
                    };
                    refused.push(FieldError::new("key", "not_allowed", message));
                }
            }
        }
        match &self.mapping {
            Some(MappingOption::Ready(name)) if Preset::named(name).is_none() => {
                let message = "must be google_contacts, outlook, or a JSON object";
                refused.push(FieldError::new("mapping", "not_allowed", message));
            }
            Some(MappingOption::Columns(columns)) => {
                for field in columns.values().flatten() {
                    if !is_target(module, field) {
                        let message = format!("{field:?} is not a field of {}", module.name());
                        refused.push(FieldError::new("mapping", "unknown_field", message));
                    }
                }
            }
            _ => {}
        }
        refused
    }
}

/// The stored input of an import job.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) module: String,
    #[serde(flatten)]
    pub(super) options: ImportOptions,
}
