//! The WebAssembly component host for tenant automation.
//!
//! [`Host`] implements [`crm_core::hook::PluginHost`]: it judges uploaded components and runs them,
//! each call in a fresh store, inside [`Limits`] that a guest can neither lift nor catch. Guests
//! import `crm:automation` (see `wit/`) and nothing else: no WASI, no files, no clock, no sockets.
//! What they are lent there, the manifest they carry asks for.
//!
//! Uploads are compiled by a [`Worker`], a process of its own. [`build()`] and [`componentize`]
//! make a component from a guest's source, against the [`world()`] that its manifest needs.

mod bindings;
mod closed;
mod compile;
mod engine;
mod export;
mod guest;
mod host;
mod import;
mod inspect;
mod limits;
mod memory_door;
mod outcome;
mod run;
mod template;
pub mod testing;
mod turn;
mod types;
mod value;
mod worker;
mod world;

pub use compile::compile_worker;
pub use guest::{build, componentize, embed_manifest};
pub use host::Host;
pub use inspect::check;
pub use limits::Limits;
pub use memory_door::MemoryDoor;
pub use template::{Language, create};
pub use types::types;
pub use worker::{CacheFolder, Worker};
pub use world::world;
