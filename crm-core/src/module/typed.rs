//! Modules declared as Rust types.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ModuleSpec;

/// A record of a module as a Rust type; `#[derive(Module)]` writes the declaration.
///
/// Serde's view of the type is its wire form: it must carry the declared field names.
pub trait Module: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The declaration.
    fn spec() -> ModuleSpec;
}
