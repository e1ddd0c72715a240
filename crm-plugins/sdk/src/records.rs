//! The tenant's records, as far as the manifest's grants and the installer's rights reach.
//!
//! Records come and go as anything serde can read and write: a struct of the fields that matter, or
//! a [`Value`](crate::Value).

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::crm::automation::records as host;

pub use host::FieldError;

/// Why a call did nothing.
#[derive(Debug)]
pub enum Error {
    /// The named permission, such as `contacts.update`, is missing.
    Denied(String),
    /// Absent, or not visible to this plugin.
    NotFound,
    /// The values or the query break a rule; every broken rule is listed.
    Invalid(Vec<FieldError>),
    /// The state of the data does not allow it, such as another version or a taken unique value.
    Conflict(String),
    /// A limit of the library, named in the sentence.
    LimitExceeded(String),
    /// The library failed; the reason is in the operator's log.
    Internal,
    /// The value does not fit the plugin's own type.
    Json(serde_json::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(permission) => write!(f, "the plugin lacks the permission {permission}"),
            Self::NotFound => f.write_str("there is no such record"),
            Self::Invalid(fields) => {
                f.write_str("the values are not valid:")?;
                fields
                    .iter()
                    .try_for_each(|field| write!(f, " {}: {}", field.pointer, field.message))
            }
            Self::Conflict(message) | Self::LimitExceeded(message) => f.write_str(message),
            Self::Internal => f.write_str("the library failed"),
            Self::Json(error) => write!(f, "the record does not fit the plugin's type: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<host::Error> for Error {
    fn from(error: host::Error) -> Self {
        match error {
            host::Error::Denied(permission) => Self::Denied(permission),
            host::Error::NotFound => Self::NotFound,
            host::Error::Invalid(fields) => Self::Invalid(fields),
            host::Error::Conflict(message) => Self::Conflict(message),
            host::Error::LimitExceeded(message) => Self::LimitExceeded(message),
            host::Error::Internal => Self::Internal,
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

/// Which records [`list`] answers.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// A filter; absent for all records.
    pub filter: Option<serde_json::Value>,
    /// At most so many records.
    pub limit: u32,
    /// Where the page before this one ended.
    pub cursor: Option<String>,
}

/// A page of records.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The records.
    pub records: Vec<T>,
    /// Where the next page begins; absent on the last one.
    pub next_cursor: Option<String>,
}

/// The record with this id.
///
/// # Errors
///
/// [`Error::NotFound`] or [`Error::Denied`]; [`Error::Json`] when the record does not fit `T`.
pub fn get<T: DeserializeOwned>(module: &str, id: &str) -> Result<T, Error> {
    Ok(serde_json::from_str(&host::get(module, id)?)?)
}

/// A page of records.
///
/// # Errors
///
/// [`Error::Invalid`] for a filter or cursor the module does not understand, [`Error::Denied`].
pub fn list<T: DeserializeOwned>(module: &str, query: &Query) -> Result<Page<T>, Error> {
    let page = host::list(
        module,
        &host::Query {
            filter: query.filter.as_ref().map(ToString::to_string),
            limit: query.limit,
            cursor: query.cursor.clone(),
        },
    )?;
    let records = page
        .records
        .iter()
        .map(|record| serde_json::from_str(record));
    Ok(Page {
        records: records.collect::<Result<_, _>>()?,
        next_cursor: page.next_cursor,
    })
}

/// Creates a record and answers it as stored.
///
/// # Errors
///
/// [`Error::Invalid`], [`Error::Conflict`] for a taken unique value, [`Error::Denied`].
pub fn create<T: DeserializeOwned>(module: &str, values: &impl Serialize) -> Result<T, Error> {
    Ok(serde_json::from_str(&host::create(
        module,
        &serde_json::to_string(values)?,
    )?)?)
}

/// Sets fields of a record, whatever version it has, and answers it as stored.
///
/// # Errors
///
/// [`Error::NotFound`], [`Error::Invalid`], [`Error::Conflict`], [`Error::Denied`].
pub fn update<T: DeserializeOwned>(
    module: &str,
    id: &str,
    values: &impl Serialize,
) -> Result<T, Error> {
    let values = serde_json::to_string(values)?;
    Ok(serde_json::from_str(&host::update(
        module, id, None, &values,
    )?)?)
}

/// Sets fields of a record that still has this version, and answers it as stored.
///
/// # Errors
///
/// As [`update`]; [`Error::Conflict`] when the record has changed since.
pub fn update_version<T: DeserializeOwned>(
    module: &str,
    id: &str,
    version: i64,
    values: &impl Serialize,
) -> Result<T, Error> {
    let values = serde_json::to_string(values)?;
    Ok(serde_json::from_str(&host::update(
        module,
        id,
        Some(version),
        &values,
    )?)?)
}
