//! A multi-tenant CRM back end from declarations.
pub mod clock;
pub mod error;
pub mod event;
pub mod hook;
pub mod id;
pub mod module;
pub mod plugin;
pub mod value;

pub use error::{Error, FieldError, Result};
