//! Small plugins for the tests, written in WebAssembly's text form.

/// A component with this manifest and these functions beside its memory.
pub(crate) fn component(manifest: &str, functions: &str) -> Vec<u8> {
    component_that_calls(manifest, "", functions)
}

/// As [`component`], with functions of the host that it calls.
pub(crate) fn component_that_calls(manifest: &str, imports: &str, functions: &str) -> Vec<u8> {
    let module = wat::parse_str(format!(
        r#"(module
            {imports}
            (memory (export "memory") 8)
            (global $next (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                (global.set $next (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
            {functions})"#,
    ))
    .unwrap();
    let parsed = crm_core::plugin::Manifest::parse(manifest).unwrap();
    let world = crm_plugins::world(&parsed).unwrap();
    crm_plugins::testing::assemble(module, &world, manifest).unwrap()
}

/// A function that takes in a message and is content.
pub(crate) const INBOUND: &str = r#"
    (func (export "inbound") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
        (i32.const 0))"#;

/// A plugin with a webhook for signed messages, `payments`, and one for messages with an API key,
/// `orders`.
pub(crate) fn listener() -> Vec<u8> {
    let manifest = "name = 'listener'\nversion = '1.0.0'\n\
        [[triggers]]\nwebhook = 'payments'\n[[triggers]]\nwebhook = 'orders'\nauth = 'api_key'\n";
    component(manifest, INBOUND)
}
