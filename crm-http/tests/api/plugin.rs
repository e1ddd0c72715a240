//! A plugin on its way: uploaded, enabled, woken by a new contact, looked at, switched off.

use std::time::Duration;

use crm_http::HttpOptions;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::app::{App, Caller, Database, Reply};

crate::on_both_databases! {
    an_enabled_plugin_runs_for_a_new_record_and_leaves_a_report
    what_is_no_component_is_refused_with_a_reason
    a_slow_upload_has_a_deadline_of_its_own
}

async fn an_enabled_plugin_runs_for_a_new_record_and_leaves_a_report(database: Database) {
    let app = App::start(database).await;
    let mut plugin = upload(&app.admin).await.expect(201);
    let uploaded = plugin.as_object_mut().unwrap().remove("uploaded").unwrap();
    assert_eq!(uploaded["receipt"], json!(["run on contact.created"]));
    assert_eq!(
        (&plugin["name"], &plugin["status"]),
        (&json!("idle"), &json!("uploaded"))
    );
    let path = format!("/api/v1/plugins/{}", plugin["id"].as_str().unwrap());
    let sha256 = plugin["sha256"].as_str().unwrap().to_owned();
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
        .post(&format!("{path}/enable?sha256={sha256}"), Value::Null)
        .await
        .expect(200);
    assert_eq!(enabled["status"], "enabled");
    let runs = create("awake").await;
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (&runs[0]["trigger"], &runs[0]["outcome"]),
        (&json!("contact.created"), &json!("succeeded"))
    );
    for (query, words) in [
        ("limit=0", "is outside the bounds"),
        ("limit=some", "has not the form"),
        ("outcome=odd", "has none of the values"),
    ] {
        let refused = app.admin.get(&format!("{path}/runs?{query}")).await;
        assert!(refused.body.contains(words), "{refused}");
    }
    let refused = app.admin.post(&format!("{path}/enable"), Value::Null).await;
    assert!(
        refused.body.contains("This parameter is required."),
        "{refused}"
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

async fn a_slow_upload_has_a_deadline_of_its_own(database: Database) {
    let app = App::start(database).await;
    let deadline = Duration::from_secs(1);
    let hasty = app
        .also(HttpOptions {
            deadline,
            ..HttpOptions::default()
        })
        .await;
    let answer = slowly(&hasty, "plugins", "application/wasm", &idle(), deadline * 2).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let body = br#"{"name": "Ada"}"#;
    let answer = slowly(&hasty, "contacts", "application/json", body, deadline * 2).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");

    let both = HttpOptions {
        deadline,
        upload_deadline: deadline,
        ..HttpOptions::default()
    };
    let hasty = app.also(both).await;
    let answer = slowly(&hasty, "plugins", "application/wasm", &idle(), deadline * 2).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    app.close().await;
}

/// The answer to a body whose second half takes so long.
async fn slowly(
    caller: &Caller,
    collection: &str,
    media_type: &str,
    body: &[u8],
    pause: Duration,
) -> String {
    let address = caller.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /api/v1/{collection} HTTP/1.1\r\nHost: crm\r\nConnection: close\r\n\
         Content-Type: {media_type}\r\nContent-Length: {}\r\nAuthorization: Bearer {}\r\n\r\n",
        body.len(),
        caller.token.as_deref().unwrap()
    );
    let (first, second) = body.split_at(body.len() / 2);
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(first).await.unwrap();
    let mut answer = Vec::new();
    let early = tokio::time::timeout(pause, stream.read_to_end(&mut answer)).await;
    if early.is_err() {
        stream.write_all(second).await.unwrap();
        stream.read_to_end(&mut answer).await.unwrap();
    }
    String::from_utf8_lossy(&answer).into_owned()
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
    let handle = r#"(func (export "handle") (param i32) (result i32) (i32.const 0))"#;
    crate::guest::component(MANIFEST, handle)
}

/// Uploads and enables a plugin, and answers its path.
pub(crate) async fn install(caller: &Caller, component: Vec<u8>) -> String {
    let plugin = send(caller, "application/wasm", component)
        .await
        .expect(201);
    let path = format!("/api/v1/plugins/{}", plugin["id"].as_str().unwrap());
    let sha256 = plugin["sha256"].as_str().unwrap();
    let enable = format!("{path}/enable?sha256={sha256}");
    caller.post(&enable, Value::Null).await.expect(200);
    path
}
