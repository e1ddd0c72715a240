//! The macro that makes functions a plugin.

/// Makes these functions this crate's plugin and embeds the `plugin.toml` beside its `Cargo.toml`:
/// `plugin!(handle = score, cron = nightly)`.
#[macro_export]
macro_rules! plugin {
    ($($export:ident = $function:path),+ $(,)?) => {
        const _: () = {
            struct Component;

            $( $crate::__export!($export, $function); )+

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

#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    (describe, $function:path) => {
        impl $crate::bindings::describe::Guest for Component {
            fn describe() -> $crate::Description {
                $function()
            }
        }

        $crate::bindings::describe::export!(
            Component with_types_in $crate::bindings::describe);
    };
    (handle, $function:path) => {
        $crate::__export!(handle, handle($crate::Event), (), $function, |done| done);
    };
    (before, $function:path) => {
        $crate::__export!(before, before($crate::Change), $crate::Verdict, $function, |done| done);
    };
    (run, $function:path) => {
        $crate::__export!(
            run, run($crate::Action), ::core::option::Option<::std::string::String>, $function,
            |answer: ::core::option::Option<$crate::Value>| answer.map(|json| json.to_string()));
    };
    (cron, $function:path) => {
        $crate::__export!(cron, cron($crate::Tick), (), $function, |done| done);
    };
    (inbound, $function:path) => {
        $crate::__export!(inbound, inbound($crate::Webhook), (), $function, |done| done);
    };
    ($module:ident, $name:ident($input:ty), $answer:ty, $function:path, $convert:expr) => {
        impl $crate::bindings::$module::Guest for Component {
            fn $name(input: $input) -> ::core::result::Result<$answer, ::std::string::String> {
                $crate::log::panics();
                let done: $crate::Result<_> = $function(input);
                done.map($convert).map_err(|error| error.to_string())
            }
        }

        $crate::bindings::$module::export!(Component with_types_in $crate::bindings::$module);
    };
}
