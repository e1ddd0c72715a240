//! A multi-tenant CRM back end from declarations.
pub mod clock;
mod db;
pub mod error;
pub mod event;
pub mod id;
pub mod identity;
pub mod module;
pub mod policy;
pub mod value;

pub use db::{DatabaseOptions, Dialect, Durability};
pub use error::{Error, FieldError, Result};
