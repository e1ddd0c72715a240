//! A multi-tenant CRM back end from declarations.
pub mod clock;
pub mod error;
pub mod event;
pub mod id;
pub mod identity;
pub mod module;
pub mod value;

pub use error::{Error, FieldError, Result};
