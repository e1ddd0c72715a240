//! What the author of a plugin needs.
//!
//! A plugin is one type that handles events, and a `plugin.toml` beside its `Cargo.toml`:
//!
//! ```ignore
//! use crm_plugin_sdk::{Event, Plugin, Result, log, plugin};
//!
//! struct Greeter;
//!
//! impl Plugin for Greeter {
//!     fn handle(event: Event) -> Result {
//!         log::info(format!("{} happened to {}", event.kind, event.record_id));
//!         Ok(())
//!     }
//! }
//!
//! plugin!(Greeter);
//! ```
//!
//! ```toml
//! name = "greeter"
//! version = "1.0.0"
//! triggers = ["contact.created"]
//! ```
//!
//! The crate is a `cdylib`; `crm plugin build DIR` makes the one file that is uploaded.

// The generated code names this crate by its outside name, here and in the author's crate.
extern crate self as crm_plugin_sdk;

pub mod log;
pub mod records;

#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "plugin",
        pub_export_macro: true,
        default_bindings_module: "crm_plugin_sdk::bindings",
        runtime_path: "crm_plugin_sdk::rt",
    });
}

#[doc(hidden)]
pub use wit_bindgen::rt;

pub use bindings::Event;
pub use serde_json::{Value, json};

/// What handling an event comes to. The error's text lands in the run's record.
pub type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// A plugin.
pub trait Plugin {
    /// Handles one event, in an instance made for this event alone.
    ///
    /// # Errors
    ///
    /// Any; the run then counts as failed, and nothing the plugin wrote is undone.
    fn handle(event: Event) -> Result;
}

/// Makes a type this crate's plugin and embeds the `plugin.toml` beside its `Cargo.toml`.
#[macro_export]
macro_rules! plugin {
    ($plugin:ty) => {
        const _: () = {
            struct Component;

            impl $crate::bindings::Guest for Component {
                fn handle(event: $crate::Event) -> ::core::result::Result<(), String> {
                    $crate::log::panics();
                    <$plugin as $crate::Plugin>::handle(event).map_err(|error| error.to_string())
                }
            }

    $crate::bindings::export!(Component with_types_in $crate::bindings);

            const MANIFEST: &[u8] =
                include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/plugin.toml"));

            #[cfg(target_arch = "wasm32")]
            #[used]
            #[unsafe(link_section = "crm:manifest")]
            static SECTION: [u8; MANIFEST.len()] = {
                let mut section = [0; MANIFEST.len()];
                section.copy_from_slice(MANIFEST);
                section
            };
        };
    };
}
