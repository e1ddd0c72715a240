//! A plugin on its way: uploaded, enabled, woken by a new contact, looked at, switched off.

use reqwest::Method;
use serde_json::{Value, json};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::app::{App, Caller, Database, Reply};

crate::on_both_databases! {
    an_enabled_plugin_runs_for_a_new_record_and_leaves_a_report
    what_is_no_component_is_refused_with_a_reason
}

async fn an_enabled_plugin_runs_for_a_new_record_and_leaves_a_report(database: Database) {
    let app = App::start(database).await;
    let plugin = upload(&app.admin).await.expect(201);
    assert_eq!(
        (&plugin["name"], &plugin["status"]),
        (&json!("idle"), &json!("uploaded"))
    );
    let path = format!("/api/v1/plugins/{}", plugin["id"].as_str().unwrap());
    assert_eq!(app.admin.get(&path).await.expect(200), plugin);
    assert_eq!(
        app.admin.get("/api/v1/plugins").await.expect(200),
        json!({"data": [plugin]})
    );

    let create = async |name: &str| {
        app.admin
            .post("/api/v1/contacts", json!({"name": name}))
            .await
            .expect(201);
        app.crm.dispatch_once().await.unwrap();
        let runs = app.admin.get(&format!("{path}/runs")).await.expect(200);
        runs["data"].as_array().unwrap().clone()
    };
    assert_eq!(create("before consent").await, [Value::Null; 0]);
    let enabled = app
        .admin
        .post(&format!("{path}/enable"), Value::Null)
        .await
        .expect(200);
    assert_eq!(enabled["status"], "enabled");
    let runs = create("awake").await;
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (&runs[0]["trigger"], &runs[0]["outcome"]),
        (&json!("contact.created"), &json!("succeeded"))
    );
    let disabled = app
        .admin
        .post(&format!("{path}/disable"), Value::Null)
        .await
        .expect(200);
    assert_eq!(disabled["status"], "disabled");
    assert_eq!(create("asleep").await.len(), 1);

    assert_eq!(app.admin.delete(&path).await.expect(204), Value::Null);
    assert_eq!(app.admin.get(&format!("{path}/runs")).await.status, 404);
    app.close().await;
}

async fn what_is_no_component_is_refused_with_a_reason(database: Database) {
    let app = App::start(database).await;
    let whole = idle();
    let core = wat::parse_str("(module)").unwrap();
    for (body, code) in [
        (Vec::new(), "truncated_component"),
        (b"not wasm".to_vec(), "not_a_component"),
        (core, "not_a_component"),
        (whole[..whole.len() / 2].to_vec(), "truncated_component"),
    ] {
        let reply = send(&app.admin, "application/wasm", body).await;
        assert_eq!(reply.status, 422, "{reply}");
        assert_eq!(reply.json()["errors"][0]["code"], code, "{reply}");
    }
    let reply = send(&app.admin, "application/json", whole).await;
    assert_eq!(reply.problem(), (415, "unsupported_media_type".into()));
    assert_eq!(
        app.admin.get("/api/v1/plugins").await.expect(200),
        json!({"data": []})
    );
    app.close().await;
}

/// Uploads a plugin that does nothing.
pub(crate) async fn upload(caller: &Caller) -> Reply {
    send(caller, "application/wasm", idle()).await
}

async fn send(caller: &Caller, media_type: &str, body: Vec<u8>) -> Reply {
    let request = caller.request(Method::POST, "/api/v1/plugins");
    caller
        .finish(request.header("Content-Type", media_type).body(body))
        .await
}

const MANIFEST: &str = "name = 'idle'\nversion = '1.0.0'\ntriggers = ['contact.created']\n";

/// A component that wakes for new contacts and succeeds.
pub(crate) fn idle() -> Vec<u8> {
    let mut module = wat::parse_str(
        r#"(module
            (memory (export "memory") 1)
            (global $next (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                (global.set $next (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
            (func (export "handle") (param i32) (result i32) (i32.const 0)))"#,
    )
    .unwrap();
    let mut resolve = Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../crm-plugins/wit");
    let (package, _) = resolve.push_path(wit).unwrap();
    let world = resolve.select_world(&[package], Some("plugin")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    append_section(&mut module, "crm:manifest", MANIFEST);
    crm_plugins::componentize(&module).unwrap()
}

/// Appends a custom section (WebAssembly core specification §5.5.3).
fn append_section(module: &mut Vec<u8>, name: &str, content: &str) {
    let mut section = length(name.len());
    section.extend_from_slice(name.as_bytes());
    section.extend_from_slice(content.as_bytes());
    module.push(0);
    module.extend(length(section.len()));
    module.extend(section);
}

/// An unsigned LEB128 number of one byte, which is all that this manifest needs.
fn length(value: usize) -> Vec<u8> {
    assert!(value < 0x80, "the manifest of this test has grown");
    vec![u8::try_from(value).unwrap()]
}
