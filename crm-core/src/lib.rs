//! A multi-tenant CRM back end from declarations.

// The derive macro names this crate by its outside name, also in its own tests.
extern crate self as crm_core;

pub mod access;
mod audit;
pub mod clock;
pub mod count;
mod crm;
pub mod custom;
mod db;
mod dispatch;
pub mod egress;
pub mod error;
pub mod event;
mod field_list;
mod generation;
pub mod group;
pub mod guide;
pub mod hook;
pub mod id;
pub mod identity;
pub mod job;
mod journal;
mod json;
mod lease;
pub mod mail;
mod mask;
pub mod member;
pub mod module;
pub mod platform;
pub mod plugin;
pub mod policy;
mod reach;
pub mod record;
mod registry;
mod retention;
pub mod role;
mod schema;
mod scope;
mod states;
pub mod tenant;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transfer;
mod upkeep;
pub mod value;

pub use audit::{
    Audit, AuditEntry, AuditExport, AuditFault, AuditFaultKind, AuditHead, AuditPage, AuditQuery,
    AuditSeal, PrunedAudit, Verification,
};
pub use crm::{Builder, Crm, read_module};
pub use crm_derive::Module;
pub use db::ddl::Step;
pub use db::migrate::MigrationStatus;
pub use db::{DatabaseOptions, Dialect, Durability};
pub use dispatch::Subscriber;
pub use error::{Error, FieldError, RateLimit, Refusal, Result};
pub use module::Module;
pub use record::Records;
pub use registry::Registry;
pub use retention::{Removed, Retention};
pub use schema::{DataLoss, Hidden, Review, Schema};
pub use scope::{
    Action, Actor, Create, Delete, Permit, Purge, Read, RequestContext, Scope, Update,
};

/// What the derive macro's code needs; not for use by hand.
#[doc(hidden)]
pub mod __private {
    pub use crate::module::with_bounds;
    pub use serde_json::json;
}
