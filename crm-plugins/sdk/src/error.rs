//! Why a call of the host did nothing.

use std::fmt;

use crate::FieldError;
use crate::bindings::imports::crm::automation::types as host;

/// Why a call of the host did nothing.
#[derive(Debug)]
pub enum Error {
    /// The named permission or grant, such as `contacts.update`, is missing.
    Denied(String),
    /// Absent, or not visible to this plugin.
    NotFound,
    /// What was given breaks a rule; every broken rule is listed.
    Invalid(Vec<FieldError>),
    /// The state of the data does not allow it, such as another version or a taken unique value.
    Conflict(String),
    /// A limit of the library, named in the sentence.
    LimitExceeded(String),
    /// What was asked for does not answer now, such as a host out of reach.
    Unavailable(String),
    /// The library failed; the reason is in the operator's log.
    Internal,
    /// The value does not fit the plugin's own type.
    Json(serde_json::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(permission) => write!(
                f,
                "{permission} is not allowed by the plugin's grants, or not to whoever enabled it or caused the run"
            ),
            Self::NotFound => f.write_str("there is no such thing"),
            Self::Invalid(fields) => {
                f.write_str("the values are not valid:")?;
                fields
                    .iter()
                    .try_for_each(|field| write!(f, " {}: {}", field.pointer, field.message))
            }
            Self::Conflict(message)
            | Self::LimitExceeded(message)
            | Self::Unavailable(message) => f.write_str(message),
            Self::Internal => f.write_str("the library failed"),
            Self::Json(error) => write!(f, "the value does not fit the plugin's type: {error}"),
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
            host::Error::Unavailable(message) => Self::Unavailable(message),
            host::Error::Internal => Self::Internal,
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}
