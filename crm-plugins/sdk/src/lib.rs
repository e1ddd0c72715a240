//! What the author of a plugin needs.
//!
//! A plugin is a function for each thing that wakes it, and a `plugin.toml` beside its
//! `Cargo.toml`:
//!
//! ```ignore
//! use crm_plugin_sdk::{Event, Result, log, plugin};
//!
//! fn greet(event: Event) -> Result {
//!     log::info(format!("{} happened to {}", event.kind, event.record_id));
//!     Ok(())
//! }
//!
//! plugin!(handle = greet);
//! ```
//!
//! ```toml
//! name = "greeter"
//! version = "1.0.0"
//! triggers = ["contact.created"]
//! ```
//!
//! | export | woken by | function |
//! |---|---|---|
//! | `handle` | an event | `fn(Event) -> Result` |
//! | `before` | a change that is not yet made | `fn(Change) -> Result<Verdict>` |
//! | `run` | somebody who asks for it | `fn(Action) -> Result<Option<Value>>` |
//! | `cron` | a time, or a job of its own | `fn(Tick) -> Result` |
//! | `inbound` | another system | `fn(Webhook) -> Result` |
//! | `describe` | the upload | `fn() -> Description` |
//!
//! The crate is a `cdylib`; `crm plugin build DIR` makes the one file that is uploaded. A call of
//! the host that the manifest does not ask for makes the upload refused.
//!
//! [`record!`] gives the records of a module a type of their own, and [`testing`] runs the plugin
//! in a whole CRM of one test.

// The generated code names this crate by its outside name, here and in the author's crate.
extern crate self as crm_plugin_sdk;

#[doc(hidden)]
pub mod bindings;
pub mod clock;
mod error;
pub mod events;
pub mod fields;
#[cfg(any(test, all(feature = "heap", target_arch = "wasm32")))]
mod heap;
pub mod http;
pub mod jobs;
pub mod kv;
pub mod log;
mod plugin;
pub mod random;
mod reader;
pub mod record;
pub mod records;
pub mod secrets;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod verdict;

#[doc(hidden)]
pub use serde;
#[doc(hidden)]
pub use wit_bindgen::rt;

pub use bindings::imports::crm::automation::types::{
    Action, Change, ChangeKind, Description, Event, Field, FieldError, Refusal, Tick,
    Value as FieldValue, Verdict, Webhook,
};
pub use error::Error;
pub use record::Record;
pub use serde_json::{Value, json};

/// What a plugin's function comes to. The error's text lands in the run's record.
pub type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
