//! The WebAssembly component host for tenant automation.
//!
//! [`Host`] implements [`crm_core::hook::PluginHost`]: it judges uploaded components and runs them,
//! each call in a fresh store, inside [`Limits`] that a guest can neither lift nor catch. Guests
//! import `crm:automation` (see `wit/`) and nothing else: no WASI, no files, no clock, no sockets.
//! [`build()`] and [`componentize`] make a component from a guest's source.

mod bindings;
mod compile;
mod engine;
mod guest;
mod host;
mod inspect;
mod limits;
mod outcome;
mod run;

#[cfg(test)]
mod tests;

pub use guest::{build, componentize};
pub use host::Host;
pub use inspect::check;
pub use limits::Limits;
