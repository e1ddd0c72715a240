//! Assembles guests from the text format.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

pub(super) const MANIFEST: &str = r#"
    name = "probe"
    version = "1.0.0"
    triggers = ["contact.created"]
    [[grants]]
    module = "contacts"
    actions = ["read", "create", "update"]
"#;

/// A component whose `handle` runs `body`, which leaves the address of the answer; at address 0 lies
/// success. The event's address is `$event`.
pub(super) fn component(body: &str) -> Vec<u8> {
    with_manifest(body, Some(MANIFEST))
}

/// The same, with another manifest or none.
pub(super) fn with_manifest(body: &str, manifest: Option<&str>) -> Vec<u8> {
    let mut module = core_module(body);
    if let Some(manifest) = manifest {
        custom_section(&mut module, "crm:manifest", manifest.as_bytes());
    }
    encode(&module)
}

/// The core module of such a guest. It imports the functions that its body calls.
pub(super) fn core_module(body: &str) -> Vec<u8> {
    let mut imports = String::new();
    for (function, import) in IMPORTS {
        if body.contains(&format!("call ${function}")) {
            imports.push_str(import);
        }
    }
    let text = format!(
        r#"(module
            {imports}
            (memory (export "memory") 1)
            (global $next (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                (global.set $next (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
            (func (export "handle") (param $event i32) (result i32)
                (local $n i32)
                {body})
            (func $deeper (param i32) (result i32)
                (i32.add (i32.const 1) (call $deeper (local.get 0)))))"#
    );
    let mut module = wat::parse_str(&text).unwrap();
    let mut resolve = Resolve::default();
    let (package, _) = resolve
        .push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/wit"))
        .unwrap();
    let world = resolve.select_world(&[package], Some("plugin")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    module
}

pub(super) fn encode(module: &[u8]) -> Vec<u8> {
    ComponentEncoder::default()
        .module(module)
        .unwrap()
        .validate(true)
        .encode()
        .unwrap()
}

/// Appends a custom section to a module or component.
pub(super) fn custom_section(binary: &mut Vec<u8>, name: &str, data: &[u8]) {
    let mut section = Vec::new();
    leb(&mut section, name.len());
    section.extend(name.as_bytes());
    section.extend(data);
    binary.push(0);
    leb(binary, section.len());
    binary.extend(section);
}

fn leb(out: &mut Vec<u8>, mut value: usize) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

const IMPORTS: [(&str, &str); 4] = [
    (
        "log",
        r#"(import "crm:automation/log@1.0.0" "log" (func $log (param i32 i32 i32)))"#,
    ),
    (
        "get",
        r#"(import "crm:automation/records@1.0.0" "get"
            (func $get (param i32 i32 i32 i32 i32)))"#,
    ),
    (
        "create",
        r#"(import "crm:automation/records@1.0.0" "create"
            (func $create (param i32 i32 i32 i32 i32)))"#,
    ),
    (
        "update",
        r#"(import "crm:automation/records@1.0.0" "update"
            (func $update (param i32 i32 i32 i32 i32 i64 i32 i32 i32)))"#,
    ),
];

pub(super) const SUCCEED: &str = "(i32.const 0)";

pub(super) const LOOP: &str = "(loop $on (br $on)) (i32.const 0)";

/// Logs the event's kind.
pub(super) const LOG_KIND: &str = "
    (call $log (i32.const 1)
        (i32.load offset=32 (local.get $event)) (i32.load offset=36 (local.get $event)))
    (i32.const 0)";

/// Reads the event's record and logs it; a refusal's text becomes the run's error.
pub(super) const GET_AND_LOG: &str = "
    (call $get
        (i32.load offset=24 (local.get $event)) (i32.load offset=28 (local.get $event))
        (i32.load offset=40 (local.get $event)) (i32.load offset=44 (local.get $event))
        (i32.const 1024))
    (if (result i32) (i32.load8_u (i32.const 1024))
        (then
            (i32.store8 (i32.const 512) (i32.const 1))
            (i32.store (i32.const 516) (i32.load (i32.const 1032)))
            (i32.store (i32.const 520) (i32.load (i32.const 1036)))
            (i32.const 512))
        (else
            (call $log (i32.const 1) (i32.load (i32.const 1028)) (i32.load (i32.const 1032)))
            (i32.const 0)))";

/// Sets `{"score":7}` on the event's record, expecting version 1.
pub(super) const SET_SCORE: &str = r#"
    (i64.store (i32.const 64) (i64.const 0x2265726f6373227b)) ;; {"score"
    (i64.store (i32.const 72) (i64.const 0x00000000007d373a)) ;; :7}
    (call $update
        (i32.load offset=24 (local.get $event)) (i32.load offset=28 (local.get $event))
        (i32.load offset=40 (local.get $event)) (i32.load offset=44 (local.get $event))
        (i32.const 1) (i64.const 1)
        (i32.const 64) (i32.const 11)
        (i32.const 1024))
    (if (result i32) (i32.load8_u (i32.const 1024))
        (then
            (i32.store8 (i32.const 512) (i32.const 1))
            (i32.store (i32.const 516) (i32.load (i32.const 1032)))
            (i32.store (i32.const 520) (i32.load (i32.const 1036)))
            (i32.const 512))
        (else (i32.const 0)))"#;
