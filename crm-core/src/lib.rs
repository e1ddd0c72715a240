//! A multi-tenant CRM back end from declarations.
pub mod clock;
pub mod error;
pub mod event;
pub mod id;
pub mod module;
#[cfg(feature = "testing")]
pub mod testing;
pub mod value;

pub use error::{Error, FieldError, Result};
