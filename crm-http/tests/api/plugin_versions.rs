//! The versions, the runs and the settings of plugins, from outside.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Caller, Database, Reply};

crate::on_both_databases! {
    versions_are_uploaded_activated_tried_and_rolled_back
    runs_are_found_followed_and_replayed
    a_tenant_settles_signatures_keys_and_fuel
    a_version_is_rehearsed_on_what_happened
}

/// An Ed25519 public key: the first of RFC 8032 §7.1.
pub(crate) const PUBLIC_KEY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

/// The plugin that does nothing, in another version with a number of the same length.
fn version(number: &str) -> Vec<u8> {
    let mut bytes = crate::plugin::idle();
    let old = b"1.0.0";
    // The manifest is the last part of it.
    let at = bytes
        .windows(old.len())
        .rposition(|part| part == old)
        .unwrap();
    bytes[at..at + old.len()].copy_from_slice(number.as_bytes());
    bytes
}

async fn upload(caller: &Caller, bytes: Vec<u8>, signature: Option<&str>) -> Reply {
    let mut request = caller
        .request(Method::POST, "/api/v1/plugins")
        .header("Content-Type", "application/wasm");
    if let Some(signature) = signature {
        request = request.header("X-Plugin-Signature", signature);
    }
    caller.finish(request.body(bytes)).await
}

/// Where to consent to an uploaded version.
fn enable(plugin: &Value) -> String {
    let (id, sha256) = (&plugin["id"], &plugin["sha256"]);
    let [id, sha256] = [id, sha256].map(|text| text.as_str().unwrap());
    format!("/api/v1/plugins/{id}/enable?sha256={sha256}")
}

async fn put(caller: &Caller, path: &str, body: Value) -> Reply {
    caller.send(Method::PUT, path, Some(body)).await
}

async fn versions_are_uploaded_activated_tried_and_rolled_back(database: Database) {
    let app = App::start(database).await;
    let first = upload(&app.admin, version("1.0.0"), None).await.expect(201);
    let path = format!("/api/v1/plugins/{}", first["id"].as_str().unwrap());
    let blind = app.admin.post(&format!("{path}/enable"), Value::Null).await;
    assert_eq!(
        blind.status, 422,
        "nobody consents to what they do not name"
    );
    app.admin
        .post(&enable(&first), Value::Null)
        .await
        .expect(200);

    let second = upload(&app.admin, version("1.1.0"), None).await.expect(201);
    assert_eq!(
        (&second["version"], &second["uploaded"]["version"]),
        (&json!("1.0.0"), &json!("1.1.0"))
    );
    assert_eq!(
        second["uploaded"]["receipt"],
        json!(["run on contact.created"])
    );
    let versions = app.admin.get(&format!("{path}/versions")).await.expect(200);
    let seen = versions["data"].as_array().unwrap();
    assert_eq!(seen.len(), 2);
    for one in seen {
        let consented = one["version"] == "1.0.0";
        assert_eq!(one["consented_at"] != Value::Null, consented, "{one}");
    }

    let meant = json!({"sha256": second["uploaded"]["sha256"]});
    let activate = format!("{path}/activate");
    let active = app.admin.post(&activate, meant.clone()).await.expect(200);
    assert_eq!(active["version"], "1.1.0");
    assert_eq!(active["previous_sha256"], first["sha256"]);
    let back = app
        .admin
        .post(&format!("{path}/roll_back"), Value::Null)
        .await;
    assert_eq!(back.expect(200)["version"], "1.0.0");
    for (hash, status, code) in [
        ("ab".to_owned(), 422, "validation_failed"),
        ("ab".repeat(32), 409, "unknown_version"),
    ] {
        let unknown = app.admin.post(&activate, json!({"sha256": hash})).await;
        assert_eq!(unknown.problem(), (status, code.into()));
    }

    let mut tried = meant.clone();
    tried["percent"] = json!(20);
    let canary = put(&app.admin, &format!("{path}/canary"), tried.clone())
        .await
        .expect(200);
    assert_eq!(canary["canary"]["percent"], 20);
    let sha256 = meant["sha256"].as_str().unwrap();
    let delete = format!("{path}/versions/{sha256}");
    let in_use = app.admin.delete(&delete).await;
    assert_eq!(in_use.problem(), (409, "version_in_use".into()));
    tried["percent"] = json!(0);
    let none = put(&app.admin, &format!("{path}/canary"), tried.clone())
        .await
        .expect(200);
    assert_eq!(none["canary"], Value::Null);
    tried["percent"] = json!(101);
    let much = put(&app.admin, &format!("{path}/canary"), tried).await;
    assert_eq!(much.status, 422, "{much}");
    app.admin.delete(&delete).await.expect(204);
    app.close().await;
}

async fn runs_are_found_followed_and_replayed(database: Database) {
    let app = App::start(database).await;
    let plugin = upload(&app.admin, version("1.0.0"), None).await.expect(201);
    let path = format!("/api/v1/plugins/{}", plugin["id"].as_str().unwrap());
    app.admin
        .post(&enable(&plugin), Value::Null)
        .await
        .expect(200);
    let contact = json!({"name": "awake"});
    app.admin
        .post("/api/v1/contacts", contact)
        .await
        .expect(201);
    app.crm.dispatch_once().await.unwrap();

    let runs = app
        .admin
        .get(&format!("{path}/runs?outcome=succeeded"))
        .await
        .expect(200);
    let run = runs["data"][0].clone();
    assert_eq!(run["sha256"], plugin["sha256"]);
    let one = format!("{path}/runs/{}", run["id"].as_str().unwrap());
    let mut details = app.admin.get(&one).await.expect(200);
    let mut story = |member: &str| {
        let told = details.as_object_mut().and_then(|run| run.remove(member));
        told.expect("a member of the details")
    };
    assert_eq!(story("answer"), Value::Null);
    assert_eq!(story("input")["event"]["kind"], "contact.created");
    assert_eq!(story("transcript")["calls"], json!([]));
    assert_eq!(story("withheld"), Value::Null);
    assert_eq!(details, run);
    for query in [
        "outcome=failed",
        "trigger=contact.updated",
        "since=2100-01-01T00:00:00Z",
    ] {
        let none = app
            .admin
            .get(&format!("{path}/runs?{query}"))
            .await
            .expect(200);
        assert_eq!(none["data"], json!([]), "{query}");
    }
    let heard = format!(
        "{path}/runs/follow?wait=0&after={}",
        run["id"].as_str().unwrap()
    );
    assert_eq!(app.admin.get(&heard).await.expect(200), json!({"data": []}));
    let replay = app
        .admin
        .post(&format!("{one}/replay"), Value::Null)
        .await
        .expect(200);
    assert_eq!(replay["identical"], true, "{replay}");
    assert_eq!(replay["fuel"], run["fuel"]);
    let usage = app.admin.get("/api/v1/plugins/usage").await.expect(200);
    assert_eq!(usage["data"][0]["runs"], 1);
    app.close().await;
}

async fn a_tenant_settles_signatures_keys_and_fuel(database: Database) {
    let app = App::start(database).await;
    let (settings, keys) = ("/api/v1/plugins/settings", "/api/v1/plugins/keys");
    let default = json!({"require_signature": false, "daily_fuel": null});
    assert_eq!(app.admin.get(settings).await.expect(200), default);
    let insist = json!({"require_signature": true, "daily_fuel": 1_000_000});
    let settled = put(&app.admin, settings, insist.clone()).await.expect(200);
    assert_eq!(settled, insist);
    let plugin = upload(&app.admin, version("1.0.0"), None).await.expect(201);
    let unsigned = app.admin.post(&enable(&plugin), Value::Null).await;
    assert_eq!(unsigned.problem(), (409, "signature_required".into()));

    let key = json!({"name": "vendor", "public_key": PUBLIC_KEY});
    let key = app.admin.post(keys, key).await.expect(201);
    assert_eq!(
        app.admin.get(keys).await.expect(200),
        json!({"data": [key]})
    );
    let forged = upload(&app.admin, version("1.1.0"), Some("AAAA")).await;
    assert_eq!(forged.status, 422, "{forged}");
    assert_eq!(forged.json()["errors"][0]["code"], "invalid_signature");
    let key = format!("{keys}/{}", key["id"].as_str().unwrap());
    app.admin.delete(&key).await.expect(204);
    assert_eq!(app.admin.delete(&key).await.status, 404);
    app.close().await;
}

async fn a_version_is_rehearsed_on_what_happened(database: Database) {
    let app = App::start(database).await;
    for name in ["one", "two"] {
        let contact = json!({"name": name});
        app.admin
            .post("/api/v1/contacts", contact)
            .await
            .expect(201);
    }
    let plugin = upload(&app.admin, version("1.0.0"), None).await.expect(201);
    let path = format!(
        "/api/v1/plugins/{}/versions/{}/rehearsals",
        plugin["id"].as_str().unwrap(),
        plugin["sha256"].as_str().unwrap()
    );
    let last = |last: u32| json!({"last": last});
    let rehearsal = app.admin.post(&path, last(10)).await.expect(200);
    assert_eq!(rehearsal["cut_off"], false);
    let runs = rehearsal["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2, "{rehearsal}");
    assert_eq!(
        (&runs[0]["outcome"], &runs[0]["changes"]),
        (&json!("succeeded"), &json!([]))
    );
    let one = app.admin.post(&path, last(1)).await.expect(200);
    assert_eq!(one["events"], 1);
    for odd in [0, 1_001] {
        assert_eq!(app.admin.post(&path, last(odd)).await.status, 422);
    }
    let absent = path.replace("/versions/", "/versions/0");
    assert_eq!(app.admin.post(&absent, last(1)).await.status, 404);
    let runs = format!("/api/v1/plugins/{}/runs", plugin["id"].as_str().unwrap());
    let none = app.admin.get(&runs).await.expect(200);
    assert_eq!(none["data"], json!([]), "nothing of it stays");
    app.close().await;
}
