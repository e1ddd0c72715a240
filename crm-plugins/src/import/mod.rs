//! What the host lends a guest: one file for each kind of it.

mod events;
mod http;
mod kv;
mod quiet;
mod records;

use crm_core::error::RefusalKind;
use crm_core::{Error, FieldError};

use crate::bindings::types;
use crate::run::Run;

/// A trap outside, an answer for the guest inside.
type Answer<T> = wasmtime::Result<Result<T, types::Error>>;

impl types::Host for Run {}

/// What the guest learns of an error: its own mistakes in full, ours not at all.
fn answer(error: Error) -> types::Error {
    match error {
        Error::Forbidden { permission } => types::Error::Denied(permission),
        Error::NotFound => types::Error::NotFound,
        Error::Invalid(fields) => {
            types::Error::Invalid(fields.into_iter().map(field_error).collect())
        }
        Error::Conflict { message, .. } => types::Error::Conflict(message.into_owned()),
        Error::PreconditionFailed | Error::PreconditionRequired => {
            types::Error::Conflict(error.to_string())
        }
        Error::Refused(refusal) => match (refusal.kind(), refusal.field()) {
            (RefusalKind::Forbidden, _) => types::Error::Denied(refusal.to_string()),
            (_, Some(field)) => types::Error::Invalid(vec![field_error(field)]),
            (_, None) => types::Error::Conflict(refusal.to_string()),
        },
        Error::LimitExceeded { message, .. } => types::Error::LimitExceeded(message.into_owned()),
        Error::TooMany { .. } => types::Error::LimitExceeded(error.to_string()),
        Error::Unavailable { message, source } => {
            tracing::warn!(error = source.as_deref(), "a plugin's call got no answer");
            types::Error::Unavailable(message.into_owned())
        }
        other => {
            tracing::error!(
                error = &other as &dyn std::error::Error,
                "a plugin's call failed"
            );
            types::Error::Internal
        }
    }
}

fn field_error(field: FieldError) -> types::FieldError {
    types::FieldError {
        pointer: field.pointer,
        code: field.code.to_owned(),
        message: field.message,
    }
}
