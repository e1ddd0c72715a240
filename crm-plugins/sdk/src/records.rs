//! The tenant's records, as far as the manifest's grants and the rights of the people behind the
//! plugin reach.
//!
//! Records come and go as anything serde can read and write (see [`fields`]), or as a type of their
//! module (see [`record`](mod@crate::record)).

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::imports::crm::automation::records as host;
use crate::{Error, Field, fields};

/// Which records [`list`] answers.
#[derive(Debug, Clone)]
pub struct Query {
    /// A filter, as in `POST /{module}/query`; absent for all records.
    pub filter: Option<serde_json::Value>,
    /// Fields to sort by, such as `-created_at`; newest first when empty.
    pub sort: Vec<String>,
    /// At most so many records, 1 to 100. Default 100.
    pub limit: u32,
    /// Where the page before this one ended.
    pub cursor: Option<String>,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            filter: None,
            sort: Vec::new(),
            limit: 100,
            cursor: None,
        }
    }
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
    fields::read(&get_fields(module, id)?)
}

/// A page of records.
///
/// # Errors
///
/// [`Error::Invalid`] for a filter, order or cursor the module does not understand and for a limit
/// out of 1 to 100, [`Error::Denied`]; [`Error::Json`] when a record does not fit `T`.
pub fn list<T: DeserializeOwned>(module: &str, query: &Query) -> Result<Page<T>, Error> {
    let page = list_fields(module, query)?;
    let records = page.records.iter().map(|record| fields::read(record));
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
    fields::read(&create_fields(module, &fields::write(values)?)?)
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
    fields::read(&update_fields(module, id, None, &fields::write(values)?)?)
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
    let values = fields::write(values)?;
    fields::read(&update_fields(module, id, Some(version), &values)?)
}

pub(crate) fn get_fields(module: &str, id: &str) -> Result<Vec<Field>, Error> {
    Ok(host::get(module, id)?)
}

pub(crate) fn list_fields(module: &str, query: &Query) -> Result<host::Page, Error> {
    let query = host::Query {
        filter: query.filter.as_ref().map(ToString::to_string),
        sort: query.sort.clone(),
        limit: query.limit,
        cursor: query.cursor.clone(),
    };
    Ok(host::list(module, &query)?)
}

pub(crate) fn create_fields(module: &str, values: &[Field]) -> Result<Vec<Field>, Error> {
    Ok(host::create(module, values)?)
}

pub(crate) fn update_fields(
    module: &str,
    id: &str,
    version: Option<i64>,
    values: &[Field],
) -> Result<Vec<Field>, Error> {
    Ok(host::update(module, id, version, values)?)
}

/// Deletes a record; with a version, only when it still has it.
///
/// # Errors
///
/// [`Error::NotFound`], [`Error::Conflict`], [`Error::Denied`].
pub fn delete(module: &str, id: &str, version: Option<i64>) -> Result<(), Error> {
    Ok(host::delete(module, id, version)?)
}

/// Figures, asked for by `{"metrics": ["count"], "group_by": ["status"], "filter": {…},
/// "search": "…"}`, of which only the metrics are required, and answered as by
/// `GET /{module}/aggregate`, as a type of the plugin's own.
///
/// # Errors
///
/// [`Error::Invalid`], [`Error::Denied`]; [`Error::Json`] when the figures do not fit `T`.
pub fn aggregate<T: DeserializeOwned>(
    module: &str,
    query: &serde_json::Value,
) -> Result<T, Error> {
    let figures = host::aggregate(module, &query.to_string())?;
    Ok(serde_json::from_str(&figures)?)
}
