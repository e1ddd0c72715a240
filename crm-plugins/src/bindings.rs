//! The host's side of the WIT package, generated from `wit/`.

wasmtime::component::bindgen!({
    path: "wit",
    world: "plugin",
    imports: {
        "crm:automation/log": trappable,
        default: async | trappable,
    },
    exports: { default: async },
});

pub(crate) use crm::automation::{log, records, types};
