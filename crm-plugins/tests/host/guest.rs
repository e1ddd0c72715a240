//! Assembles guests from the text format.

use crm_core::plugin::Manifest;
use crm_plugins::embed_manifest;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A guest in the making: its exports, each with the body of its function.
pub(crate) struct Guest {
    exports: Vec<(&'static str, String)>,
    manifest: Option<String>,
    /// Of a guest that is another than its manifest says.
    world: Option<String>,
    more: &'static str,
}

impl Guest {
    pub(crate) fn new(export: &'static str, body: &str) -> Self {
        Self {
            exports: vec![(export, body.to_owned())],
            manifest: None,
            world: None,
            more: "",
        }
    }

    pub(crate) fn and(mut self, export: &'static str, body: &str) -> Self {
        self.exports.push((export, body.to_owned()));
        self
    }

    /// With this manifest, whatever the guest imports and exports.
    pub(crate) fn manifest(mut self, manifest: &str) -> Self {
        self.manifest = Some(manifest.to_owned());
        self
    }

    /// With this world, whatever its manifest says.
    pub(crate) fn world(mut self, change: impl FnOnce(String) -> String) -> Self {
        self.world = Some(change(self.natural_world()));
        self
    }

    /// With more items in its module.
    pub(crate) fn more(mut self, items: &'static str) -> Self {
        self.more = items;
        self
    }

    fn natural_manifest(&self) -> String {
        manifest(self.exports.iter().map(|(export, _)| *export))
    }

    fn natural_world(&self) -> String {
        let manifest = Manifest::parse(&self.natural_manifest()).unwrap();
        crm_plugins::world(&manifest).unwrap()
    }

    /// Its core module, without a manifest.
    pub(crate) fn core_module(&self) -> Vec<u8> {
        let mut imports = String::new();
        let mut functions = String::new();
        for (export, body) in &self.exports {
            let parameters = EXPORTS.iter().find(|(name, _)| name == export).unwrap().1;
            functions.push_str(&format!(
                r#"(func (export "{export}") {parameters} (result i32) (local $n i32) {body})"#
            ));
        }
        for (function, interface, name, parameters) in IMPORTS {
            if functions.contains(&format!("call ${function}\n"))
                || functions.contains(&format!("call ${function} "))
                || functions.contains(&format!("call ${function})"))
            {
                imports.push_str(&format!(
                    r#"(import "crm:automation/{interface}@1.0.0" "{name}"
                        (func ${function} {parameters}))"#
                ));
            }
        }
        let text = format!(
            r#"(module
                {imports}
                (memory (export "memory") 1)
                (global $next (mut i32) (i32.const 8192))
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                    (local $at i32)
                    (local.set $at
                        (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                    (global.set $next (i32.add (local.get $at) (local.get 3)))
                    (local.get $at))
                {functions}
                (func $deeper (param i32) (result i32)
                    (i32.add (i32.const 1) (call $deeper (local.get 0))))
                {})"#,
            self.more
        );
        let mut module = wat::parse_str(&text).unwrap();
        let world = self.world.clone().unwrap_or_else(|| self.natural_world());
        embed(&mut module, &world, "plugin");
        module
    }

    /// The component, with its manifest.
    pub(crate) fn component(&self) -> Vec<u8> {
        let natural = self.natural_manifest();
        let manifest = self.manifest.as_deref().unwrap_or(&natural);
        let mut module = self.core_module();
        embed_manifest(&mut module, manifest);
        encode(&module)
    }
}

/// A component whose `handle` runs `body`, which leaves the address of the answer; at address 0
/// lies success. The event's address is `$event`.
pub(crate) fn component(body: &str) -> Vec<u8> {
    Guest::new("handle", body).component()
}

/// The manifest of a guest that asks for everything and exports these functions.
pub(crate) fn manifest<'a>(exports: impl IntoIterator<Item = &'a str>) -> String {
    let mut triggers = String::new();
    let mut jobs = "";
    for export in exports {
        triggers.push_str(match export {
            "handle" => "{ on = 'contact.created' },",
            "before" => "{ before = ['contact.create'] },",
            "run" => "{ action = 'rescore', module = 'contacts', label = 'Score again' },",
            "cron" => {
                jobs = "jobs = ['later']";
                "{ cron = 'nightly', schedule = '0 3 * * *' },"
            }
            "inbound" => "{ webhook = 'payments' },",
            _ => "",
        });
    }
    format!(
        "name = 'probe'
        version = '1.0.0'
        triggers = [{triggers}]
        hosts = ['api.example.com']
        secrets = ['token']
        kv = true
        emits = ['scored']
        {jobs}
        [[grants]]
        module = 'contacts'
        actions = ['read', 'create', 'update', 'delete']"
    )
}

/// Says in a module which world it is built against.
pub(crate) fn embed(module: &mut Vec<u8>, wit: &str, world: &str) {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("plugin.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8).unwrap();
}

pub(crate) fn encode(module: &[u8]) -> Vec<u8> {
    ComponentEncoder::default()
        .module(module)
        .unwrap()
        .validate(true)
        .encode()
        .unwrap()
}

/// The exports with their parameters in the canonical ABI.
const EXPORTS: [(&str, &str); 6] = [
    ("describe", ""),
    ("handle", "(param $event i32)"),
    (
        "before",
        "(param $module i32) (param $module_len i32) (param $kind i32)
         (param $has_id i32) (param $id i32) (param $id_len i32)
         (param $has_before i32) (param $before i32) (param $before_len i32)
         (param $has_after i32) (param $after i32) (param $after_len i32)
         (param $actor i32) (param $actor_len i32) (param $request i32) (param $request_len i32)",
    ),
    (
        "run",
        "(param $name i32) (param $name_len i32)
         (param $has_module i32) (param $module i32) (param $module_len i32)
         (param $records i32) (param $records_len i32)
         (param $has_input i32) (param $input i32) (param $input_len i32)
         (param $actor i32) (param $actor_len i32) (param $request i32) (param $request_len i32)",
    ),
    (
        "cron",
        "(param $name i32) (param $name_len i32) (param $due i32) (param $due_len i32)
         (param $has_payload i32) (param $payload i32) (param $payload_len i32)",
    ),
    (
        "inbound",
        "(param $name i32) (param $name_len i32) (param $id i32) (param $id_len i32)
         (param $has_type i32) (param $type i32) (param $type_len i32)
         (param $body i32) (param $body_len i32) (param $at i32) (param $at_len i32)",
    ),
];

/// The imports that a body can call: its name here, interface, function and parameters.
pub(crate) const IMPORTS: [(&str, &str, &str, &str); 20] = [
    ("log", "log", "log", "(param i32 i32 i32)"),
    ("get", "records", "get", "(param i32 i32 i32 i32 i32)"),
    (
        "list",
        "records",
        "list",
        "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)",
    ),
    ("create", "records", "create", "(param i32 i32 i32 i32 i32)"),
    (
        "update",
        "records",
        "update",
        "(param i32 i32 i32 i32 i32 i64 i32 i32 i32)",
    ),
    (
        "delete",
        "records",
        "delete",
        "(param i32 i32 i32 i32 i32 i64 i32)",
    ),
    (
        "aggregate",
        "records",
        "aggregate",
        "(param i32 i32 i32 i32 i32)",
    ),
    ("to_json", "records", "to-json", "(param i32 i32 i32)"),
    ("emit", "events", "emit", "(param i32 i32 i32 i32 i32)"),
    ("kv_get", "kv", "get", "(param i32 i32 i32)"),
    ("kv_set", "kv", "set", "(param i32 i32 i32 i32 i32)"),
    ("kv_delete", "kv", "delete", "(param i32 i32 i32)"),
    ("kv_keys", "kv", "keys", "(param i32 i32 i32 i32 i32 i32)"),
    (
        "fetch",
        "http",
        "fetch",
        "(param i32 i32 i32 i32 i32 i32 i32 i32 i32)",
    ),
    ("secret", "secrets", "get", "(param i32 i32 i32)"),
    ("now", "clock", "now", "(param i32)"),
    ("now_millis", "clock", "now-millis", "(result i64)"),
    ("bytes", "random", "bytes", "(param i32 i32)"),
    ("number", "random", "number", "(result i64)"),
    (
        "schedule",
        "jobs",
        "schedule",
        "(param i32 i32 i64 i32 i32 i32 i32)",
    ),
];

pub(crate) const SUCCEED: &str = "(i32.const 0)";

pub(crate) const LOOP: &str = "(loop $on (br $on)) (i32.const 0)";

/// Logs the event's kind.
pub(crate) const LOG_KIND: &str = "
    (call $log (i32.const 1)
        (i32.load offset=32 (local.get $event)) (i32.load offset=36 (local.get $event)))
    (i32.const 0)";

/// Reads the event's record and logs it; a refusal's text becomes the run's error.
pub(crate) const GET_AND_LOG: &str = "
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
            (call $to_json (i32.load (i32.const 1028)) (i32.load (i32.const 1032))
                (i32.const 1040))
            (call $log (i32.const 1) (i32.load (i32.const 1040)) (i32.load (i32.const 1044)))
            (i32.const 0)))";

/// Sets the integer 7 as `score` on the event's record, expecting version 1.
pub(crate) const SET_SCORE: &str = r#"
    (i64.store (i32.const 64) (i64.const 0x65726f6373)) ;; score
    (i32.store (i32.const 128) (i32.const 64))
    (i32.store (i32.const 132) (i32.const 5))
    (i32.store8 (i32.const 136) (i32.const 2)) ;; the case integer
    (i64.store (i32.const 144) (i64.const 7))
    (call $update
        (i32.load offset=24 (local.get $event)) (i32.load offset=28 (local.get $event))
        (i32.load offset=40 (local.get $event)) (i32.load offset=44 (local.get $event))
        (i32.const 1) (i64.const 1)
        (i32.const 128) (i32.const 1)
        (i32.const 1024))
    (if (result i32) (i32.load8_u (i32.const 1024))
        (then
            (i32.store8 (i32.const 512) (i32.const 1))
            (i32.store (i32.const 516) (i32.load (i32.const 1032)))
            (i32.store (i32.const 520) (i32.load (i32.const 1036)))
            (i32.const 512))
        (else (i32.const 0)))"#;
