//! Guests in the text format, and those that are compiled from source.

use std::path::{Path, PathBuf};

use crm_core::Result;
use crm_plugins::Language;

const MANIFEST: &str = r#"
    name = "probe"
    version = "1.0.0"
    triggers = ["contact.created"]
    [[grants]]
    module = "contacts"
    actions = ["read", "update"]
"#;

/// Reads the event's record, sets its score, logs the event's kind.
pub(crate) const WORK: &str = "
    (call $get
        (i32.load offset=24 (local.get $event)) (i32.load offset=28 (local.get $event))
        (i32.load offset=40 (local.get $event)) (i32.load offset=44 (local.get $event))
        (i32.const 1024))
    (i64.store (i32.const 64) (i64.const 0x65726f6373)) ;; score
    (i32.store (i32.const 128) (i32.const 64))
    (i32.store (i32.const 132) (i32.const 5))
    (i32.store8 (i32.const 136) (i32.const 2)) ;; the case integer
    (i64.store (i32.const 144) (i64.const 7))
    (call $update
        (i32.load offset=24 (local.get $event)) (i32.load offset=28 (local.get $event))
        (i32.load offset=40 (local.get $event)) (i32.load offset=44 (local.get $event))
        (i32.const 0) (i64.const 0) (i32.const 128) (i32.const 1) (i32.const 1024))
    (call $log (i32.const 1)
        (i32.load offset=32 (local.get $event)) (i32.load offset=36 (local.get $event)))
    (i32.const 0)";

pub(crate) const SPIN: &str = "(loop $on (br $on)) (i32.const 0)";
pub(crate) const GROW: &str =
    "(loop $on (drop (memory.grow (i32.const 16))) (br $on)) (i32.const 0)";
pub(crate) const RECURSE: &str = "(call $deeper (i32.const 0))";
pub(crate) const LOG: &str =
    "(loop $on (call $log (i32.const 1) (i32.const 0) (i32.const 1000)) (br $on)) (i32.const 0)";
pub(crate) const GIANT_LOG: &str = "(drop (memory.grow (i32.const 256)))
    (call $log (i32.const 1) (i32.const 0) (i32.const 16777216)) (i32.const 0)";
pub(crate) const TABLE: &str =
    "(loop $on (drop (table.grow (ref.null func) (i32.const 1000))) (br $on)) (i32.const 0)";
pub(crate) const CALLS: &str =
    "(loop $on (call $log (i32.const 1) (i32.const 0) (i32.const 0)) (br $on)) (i32.const 0)";
pub(crate) const READS: &str = "(loop $on (call $get
        (i32.load offset=24 (local.get $event)) (i32.load offset=28 (local.get $event))
        (i32.load offset=40 (local.get $event)) (i32.load offset=44 (local.get $event))
        (i32.const 1024)) (global.set $next (i32.const 4096)) (br $on)) (i32.const 0)";
pub(crate) const TRAP: &str = "(unreachable)";

/// A component whose `handle` runs this body, with its manifest.
pub(crate) fn component(body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (import "crm:automation/log@1.0.0" "log" (func $log (param i32 i32 i32)))
            (import "crm:automation/records@1.0.0" "get"
                (func $get (param i32 i32 i32 i32 i32)))
            (import "crm:automation/records@1.0.0" "update"
                (func $update (param i32 i32 i32 i32 i32 i64 i32 i32 i32)))
            (memory (export "memory") 1)
            (table 1 funcref)
            (global $next (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                (global.set $next (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
            (func (export "handle") (param $event i32) (result i32) {body})
            (func $deeper (param i32) (result i32)
                (i32.add (i32.const 1) (call $deeper (local.get 0)))))"#
    );
    let manifest = crm_core::plugin::Manifest::parse(MANIFEST).unwrap();
    let world = crm_plugins::world(&manifest).unwrap();
    let module = wat::parse_str(&text).unwrap();
    crm_plugins::testing::assemble(module, &world, MANIFEST).unwrap()
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/plugins")
}

/// The example, whose work is more than that of the others.
pub(crate) fn lead_scoring() -> Result<Vec<u8>> {
    crm_plugins::build(&examples().join("lead-scoring"))
}

/// A guest in this language that does the work of [`WORK`], made of the language's template: below
/// the examples, where the compilers of all of them are.
pub(crate) fn built(language: Language) -> Result<Vec<u8>> {
    let target = examples().join("target-guest");
    std::fs::create_dir_all(&target).unwrap();
    let folder = tempfile::tempdir_in(target).unwrap();
    let plugin = folder.path().join("bench");
    crm_plugins::create(&plugin, language, &"bench_guest".parse().unwrap())?;
    let (place, source) = match language {
        Language::Rust => ("src/lib.rs", include_str!("guests/lib.rs")),
        Language::Python => ("app.py", include_str!("guests/app.py")),
        _ => ("plugin.js", include_str!("guests/plugin.js")),
    };
    std::fs::write(plugin.join(place), source).unwrap();
    std::fs::write(
        plugin.join("plugin.toml"),
        include_str!("guests/plugin.toml"),
    )
    .unwrap();
    crm_plugins::build(&plugin)
}
