//! The trash and required versions over HTTP.

use crm_core::module::ModuleSpec;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Caller, Database};

crate::on_both_databases! {
    a_deleted_record_is_listed_in_the_trash_restored_and_purged
    a_module_without_a_trash_has_none
    a_tenants_own_module_has_the_trash_it_declares
    a_restore_is_repeated_by_its_idempotency_key
    a_taken_unique_value_keeps_a_record_in_the_trash
    a_change_without_a_version_is_428_where_one_is_required
    the_document_names_the_trash_and_the_required_header
}

/// A module with every option.
pub(crate) fn papers() -> ModuleSpec {
    let toml = r#"
        name = "papers"
        singular = "paper"
        soft_delete = true
        duplicates = [["title"], ["company_id", "code"]]
        fields = [
            { name = "title", type = "text", required = true, search = true, sort = true },
            { name = "code", type = "text", max = 40, unique = true },
            { name = "company_id", type = "reference", module = "companies" },
            { name = "labels", type = "tags" },
        ]
    "#;
    ModuleSpec::from_toml(toml).unwrap()
}

fn seals() -> ModuleSpec {
    let toml = r#"
        name = "seals"
        singular = "seal"
        require_version = true
        fields = [{ name = "title", type = "text", required = true }]
    "#;
    ModuleSpec::from_toml(toml).unwrap()
}

async fn start(database: Database) -> App {
    App::with(database, |builder| builder.modules([papers(), seals()])).await
}

async fn paper(caller: &Caller, body: Value) -> String {
    let made = caller.post("/api/v1/papers", body).await.expect(201);
    format!("/api/v1/papers/{}", made["id"].as_str().unwrap())
}

async fn a_deleted_record_is_listed_in_the_trash_restored_and_purged(database: Database) {
    let app = start(database).await;
    let admin = &app.admin;
    let path = paper(admin, json!({"title": "Deed"})).await;
    paper(admin, json!({"title": "Kept"})).await;
    admin.delete(&path).await.expect(204);
    assert_eq!(admin.get(&path).await.problem(), (404, "not_found".into()));
    let trash = admin
        .get("/api/v1/papers/trash?count=true&search=deed")
        .await
        .expect(200);
    assert_eq!(trash["total"]["count"], 1);
    assert_eq!(
        (&trash["data"][0]["title"], &trash["data"][0]["version"]),
        (&json!("Deed"), &json!(2))
    );
    assert_eq!(trash["data"][0]["deleted_at"], "2026-01-31T09:30:00Z");
    let shown = admin
        .get("/api/v1/papers/trash?fields=title&sort=-title")
        .await
        .expect(200);
    assert_eq!(shown["data"].as_array().unwrap().len(), 1);

    let restore = format!("{path}/restore");
    let stale = admin
        .request(Method::POST, &restore)
        .header("If-Match", "\"1\"");
    assert_eq!(
        admin.finish(stale).await.problem(),
        (412, "version_mismatch".into())
    );
    let reply = admin.send(Method::POST, &restore, None).await;
    assert_eq!(reply.header("etag"), "\"3\"");
    let back = reply.expect(200);
    assert_eq!(back, admin.get(&path).await.expect(200));
    assert!(back.get("deleted_at").is_none());

    let purge = format!("{path}/purge");
    assert_eq!(
        admin.delete(&purge).await.problem(),
        (409, "not_in_trash".into())
    );
    admin.delete(&path).await.expect(204);
    admin.delete(&purge).await.expect(204);
    assert_eq!(
        admin.delete(&purge).await.problem(),
        (404, "not_found".into())
    );
    assert_eq!(admin.send(Method::POST, &restore, None).await.status, 404);
    let audit = admin.get("/api/v1/audit?entity=papers").await.expect(200);
    let actions: Vec<_> = audit["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["action"])
        .collect();
    assert_eq!(
        actions[..4],
        [
            "papers.purge",
            "papers.delete",
            "papers.restore",
            "papers.delete"
        ]
    );
    assert_eq!(admin.get(&purge).await.status, 405);
    app.close().await;
}

async fn a_tenants_own_module_has_the_trash_it_declares(database: Database) {
    let app = start(database).await;
    let visits = json!({"name": "visits", "singular": "visit", "soft_delete": true,
        "fields": [{"name": "place", "type": "text"}]});
    let made = app.admin.post("/api/v1/modules", visits).await.expect(201);
    assert_eq!(made["soft_delete"], true);
    // Every reply is held against the tenant's document from here on.
    let ada = app.admin.informed().await;
    let made = ada.post("/api/v1/visits", json!({"place": "Ulm"})).await;
    let path = format!(
        "/api/v1/visits/{}",
        made.expect(201)["id"].as_str().unwrap()
    );
    ada.delete(&path).await.expect(204);
    assert_eq!(ada.get(&path).await.problem(), (404, "not_found".into()));
    let trash = ada.get("/api/v1/visits/trash").await.expect(200);
    assert_eq!(trash["data"][0]["place"], "Ulm");
    let restore = format!("{path}/restore");
    ada.send(Method::POST, &restore, None).await.expect(200);
    assert_eq!(ada.get(&path).await.expect(200)["version"], 3);
    let purge = format!("{path}/purge");
    assert_eq!(
        ada.delete(&purge).await.problem(),
        (409, "not_in_trash".into())
    );
    ada.delete(&path).await.expect(204);
    ada.delete(&purge).await.expect(204);
    let trash = ada.get("/api/v1/visits/trash").await.expect(200);
    assert_eq!(trash["data"], json!([]));
    let foreign = app.foreign_admin().await;
    assert_eq!(foreign.get("/api/v1/visits/trash").await.status, 404);
    app.close().await;
}

async fn a_module_without_a_trash_has_none(database: Database) {
    let app = start(database).await;
    let made = app
        .admin
        .post("/api/v1/contacts", json!({"name": "Ada"}))
        .await
        .expect(201);
    let path = format!("/api/v1/contacts/{}", made["id"].as_str().unwrap());
    assert_eq!(app.admin.get("/api/v1/contacts/trash").await.status, 404);
    assert_eq!(app.admin.delete(&format!("{path}/purge")).await.status, 404);
    app.admin.delete(&path).await.expect(204);
    app.close().await;
}

async fn a_restore_is_repeated_by_its_idempotency_key(database: Database) {
    let app = start(database).await;
    let path = paper(&app.admin, json!({"title": "Deed"})).await;
    app.admin.delete(&path).await.expect(204);
    let restore = || {
        let request = app.admin.request(Method::POST, &format!("{path}/restore"));
        app.admin.finish(request.header("Idempotency-Key", "once"))
    };
    let first = restore().await.expect(200);
    let again = restore().await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.expect(200), first);
    app.close().await;
}

async fn a_taken_unique_value_keeps_a_record_in_the_trash(database: Database) {
    let app = start(database).await;
    let path = paper(&app.admin, json!({"title": "Deed", "code": "A"})).await;
    app.admin.delete(&path).await.expect(204);
    paper(&app.admin, json!({"title": "Other", "code": "A"})).await;
    let taken = app
        .admin
        .send(Method::POST, &format!("{path}/restore"), None)
        .await;
    assert_eq!(taken.problem(), (409, "already_exists".into()));
    app.close().await;
}

async fn a_change_without_a_version_is_428_where_one_is_required(database: Database) {
    let app = start(database).await;
    let made = app
        .admin
        .post("/api/v1/seals", json!({"title": "x"}))
        .await
        .expect(201);
    let path = format!("/api/v1/seals/{}", made["id"].as_str().unwrap());
    let demanded = (428, "precondition_required".to_owned());
    let body = json!({"title": "y"});
    assert_eq!(
        app.admin.patch(&path, body.clone()).await.problem(),
        demanded
    );
    assert_eq!(app.admin.delete(&path).await.problem(), demanded);
    // Any version is none.
    let any = app
        .admin
        .request(Method::PUT, &path)
        .header("If-Match", "*");
    assert_eq!(app.admin.finish(any.json(&body)).await.problem(), demanded);
    let batch = json!({"atomic": false, "operations": [
        {"op": "update", "id": made["id"], "values": body},
        {"op": "update", "id": made["id"], "version": 1, "values": body},
    ]});
    let results = app
        .admin
        .post("/api/v1/seals/batch", batch)
        .await
        .expect(200);
    assert_eq!(results["results"][0]["status"], 428);
    assert_eq!(results["results"][1]["record"]["version"], 2);
    let named = app
        .admin
        .request(Method::DELETE, &path)
        .header("If-Match", "\"2\"");
    app.admin.finish(named).await.expect(204);
    app.close().await;
}

async fn the_document_names_the_trash_and_the_required_header(database: Database) {
    let app = start(database).await;
    let paths = &app.document()["paths"];
    assert!(paths["/api/v1/papers/trash"]["get"].is_object());
    assert!(paths["/api/v1/contacts/trash"].is_null());
    let required = |path: &str| {
        let operation = &paths[path]["patch"];
        let mut parameters = operation["parameters"].as_array().unwrap().iter();
        let header = parameters.find(|one| one["name"] == "If-Match").unwrap();
        (
            header["required"] == true,
            operation["responses"]["428"].is_object(),
        )
    };
    assert_eq!(required("/api/v1/seals/{id}"), (true, true));
    assert_eq!(required("/api/v1/papers/{id}"), (false, false));
    app.close().await;
}
