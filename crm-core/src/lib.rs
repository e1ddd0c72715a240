//! A multi-tenant CRM back end from declarations.

// The derive macro writes absolute paths, which must also hold in here.
extern crate self as crm_core;

pub mod clock;
mod db;
pub mod error;
pub mod event;
pub mod id;
pub mod identity;
pub mod module;
pub mod policy;
pub mod registry;
pub mod value;

pub use db::{DatabaseOptions, Dialect, Durability, ddl};
pub use error::{Error, FieldError, Result};
pub use module::Module;
