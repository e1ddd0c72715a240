//! The host's side of the WIT package, generated from `wit/`.
//!
//! Its `Plugin` would demand every export; [`Exports`](crate::export::Exports) finds those that a
//! component has.

wasmtime::component::bindgen!({
    path: "wit",
    world: "plugin",
    imports: {
        "crm:automation/clock": trappable,
        "crm:automation/log": trappable,
        "crm:automation/random": trappable,
        default: async | trappable,
    },
    exports: { default: async },
});

pub(crate) use crm::automation::{
    clock, events, http, jobs, kv, log, random, records, secrets, types,
};
