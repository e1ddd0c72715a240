//! A record as the host application's own type.

use chrono::{DateTime, Utc};

use super::Record;
use crate::error::{Error, Result};
use crate::id::{RecordId, UserId};
use crate::module::Module;

/// A record whose declared fields are a value of `T`.
#[derive(Debug, Clone, PartialEq)]
pub struct Typed<T> {
    /// Its id.
    pub id: RecordId,
    /// Counted up by every change, from 1.
    pub version: i64,
    /// The user whose row it is.
    pub owner_id: Option<UserId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// The declared fields.
    pub data: T,
}

impl<T: Module> TryFrom<Record> for Typed<T> {
    type Error = Error;

    fn try_from(record: Record) -> Result<Self> {
        Ok(Self {
            id: record.id,
            version: record.version,
            owner_id: record.owner_id,
            created_at: record.created_at,
            updated_at: record.updated_at,
            data: data(&record)?,
        })
    }
}

/// The declared fields as a value of `T`.
///
/// # Errors
/// [`Error::Internal`] when the type is not that of the module.
pub(super) fn data<T: Module>(record: &Record) -> Result<T> {
    let fields = record.module().declared_fields();
    let fields = fields.iter().zip(record.values().iter().cloned());
    let stored = record.values().len();
    let places = stored..stored + record.module().declared_computed();
    let computed = places.filter_map(|place| record.module().compute(place, record.values()));
    let fields = fields.chain(computed);
    let object: serde_json::Map<_, _> = fields
        .map(|(field, value)| Ok((field.name.to_string(), serde_json::to_value(&value)?)))
        .collect::<serde_json::Result<_>>()
        .map_err(Error::internal)?;
    serde_json::from_value(object.into()).map_err(Error::internal)
}
