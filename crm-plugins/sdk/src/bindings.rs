//! What `wit-bindgen` makes of the WIT package: the imports with every type, and each export apart,
//! so that a plugin exports only the functions it has.

#[doc(hidden)]
pub mod imports {
    wit_bindgen::generate!({
        path: "../wit",
        world: "imports",
        runtime_path: "crm_plugin_sdk::rt",
        pub_export_macro: true,
        generate_unused_types: true,
        additional_derives: [PartialEq],
    });
}

/// One export: a world of its own.
macro_rules! export {
    ($module:ident, $wit:literal, $path:literal) => {
        #[doc(hidden)]
        pub mod $module {
            wit_bindgen::generate!({
                inline: $wit,
                path: "../wit",
                with: {
                    "crm:automation/types@1.0.0":
                        crate::bindings::imports::crm::automation::types,
                },
                runtime_path: "crm_plugin_sdk::rt",
                default_bindings_module: $path,
                pub_export_macro: true,
            });
        }
    };
}

export!(
    describe,
    "package crm:sdk-describe;
     world on-describe {
         use crm:automation/types@1.0.0.{description};
         export describe: func() -> description;
     }",
    "crm_plugin_sdk::bindings::describe"
);
export!(
    handle,
    "package crm:sdk-handle;
     world on-handle {
         use crm:automation/types@1.0.0.{event};
         export handle: func(event: event) -> result<_, string>;
     }",
    "crm_plugin_sdk::bindings::handle"
);
export!(
    before,
    "package crm:sdk-before;
     world on-before {
         use crm:automation/types@1.0.0.{change, verdict};
         export before: func(change: change) -> result<verdict, string>;
     }",
    "crm_plugin_sdk::bindings::before"
);
export!(
    run,
    "package crm:sdk-run;
     world on-run {
         use crm:automation/types@1.0.0.{action};
         export run: func(action: action) -> result<option<string>, string>;
     }",
    "crm_plugin_sdk::bindings::run"
);
export!(
    cron,
    "package crm:sdk-cron;
     world on-cron {
         use crm:automation/types@1.0.0.{tick};
         export cron: func(tick: tick) -> result<_, string>;
     }",
    "crm_plugin_sdk::bindings::cron"
);
export!(
    inbound,
    "package crm:sdk-inbound;
     world on-inbound {
         use crm:automation/types@1.0.0.{webhook};
         export inbound: func(webhook: webhook) -> result<_, string>;
     }",
    "crm_plugin_sdk::bindings::inbound"
);
