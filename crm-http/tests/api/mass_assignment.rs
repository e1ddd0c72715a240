//! Bodies that set more than is theirs to set: refused by name, or read past where a client sends
//! back what it read; nothing of it is stored.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::{App, Caller, Database, PASSWORD, Reply};

crate::on_both_databases! {
    nobody_sets_more_of_an_account_than_is_asked_for
    nobody_sets_the_tenant_the_owner_or_the_version_of_a_record
    a_file_sets_no_more_than_a_body
}

/// Refused, each extra member by its name.
#[track_caller]
fn refused_by_name(reply: &Reply, under: &str, names: &[&str]) {
    assert_eq!(reply.status, 422, "{reply}");
    let errors = reply.json()["errors"].as_array().unwrap().clone();
    for name in names {
        let pointer = format!("{under}/{name}");
        let named = |error: &Value| error["pointer"] == pointer.as_str();
        assert!(errors.iter().any(named), "{pointer}: {reply}");
    }
}

fn with(body: &Value, more: &Value) -> Value {
    let mut body = body.as_object().unwrap().clone();
    body.extend(more.as_object().unwrap().clone());
    body.into()
}

async fn tenant_of(caller: &Caller) -> Value {
    caller.get("/api/v1/auth/me").await.expect(200)["tenant"]["id"].clone()
}

async fn user_of(caller: &Caller) -> Value {
    caller.get("/api/v1/auth/me").await.expect(200)["user"]["id"].clone()
}

async fn nobody_sets_more_of_an_account_than_is_asked_for(database: Database) {
    let app = App::start(database).await;
    let foreign = tenant_of(&app.foreign_admin().await).await;
    let member = app.member("bo", "viewer").await;
    let before = member.get("/api/v1/auth/me").await.expect(200);
    let more = json!({
        "roles": ["admin"], "tenant_id": foreign, "status": "active", "kind": "service",
        "email_verified_at": "2030-01-01T00:00:00Z", "id": Uuid::nil(), "platform": true,
    });
    // What the operation asks for itself is no extra.
    let own = |body: &Value| {
        let mut more = more.clone();
        let names = body.as_object().unwrap().keys();
        names.for_each(|name| drop(more.as_object_mut().unwrap().remove(name)));
        more
    };
    let secret = "crm_unknown";
    let other = "seven harpsichords, tuned";
    let anonymous = app.anonymous();
    for (caller, method, path, body) in [
        (
            &anonymous,
            Method::POST,
            "/auth/register",
            json!({
                "setup_token": secret, "tenant": "other", "name": "Eve", "email": "eve@acme.example",
                "password": PASSWORD,
            }),
        ),
        (
            &anonymous,
            Method::POST,
            "/auth/login",
            json!({
                "email": "bo@acme.example", "password": PASSWORD, "platform": false,
            }),
        ),
        (
            &anonymous,
            Method::POST,
            "/auth/invitation/accept",
            json!({
                "token": secret, "password": PASSWORD, "name": "Eve",
            }),
        ),
        (
            &anonymous,
            Method::POST,
            "/auth/password/reset",
            json!({
                "token": secret, "password": other,
            }),
        ),
        (
            &member,
            Method::POST,
            "/auth/email/verify",
            json!({"token": secret}),
        ),
        (
            &member,
            Method::POST,
            "/auth/email/change",
            json!({
                "email": "new@acme.example", "password": PASSWORD,
            }),
        ),
        (
            &member,
            Method::POST,
            "/auth/password/change",
            json!({
                "current_password": PASSWORD, "password": other,
            }),
        ),
        (
            &member,
            Method::PUT,
            "/auth/username",
            json!({
                "username": "bobby", "password": PASSWORD,
            }),
        ),
        (
            &app.admin,
            Method::POST,
            "/members",
            json!({
                "email": "eve@acme.example", "name": "Eve", "password": PASSWORD, "roles": ["viewer"],
            }),
        ),
        (
            &app.admin,
            Method::POST,
            "/invitations",
            json!({
                "email": "eve@acme.example", "name": "Eve", "roles": ["viewer"],
            }),
        ),
        (
            &app.admin,
            Method::POST,
            "/api_keys",
            json!({"name": "key", "role": "viewer"}),
        ),
    ] {
        let extra = own(&body);
        let path = format!("/api/v1{path}");
        let reply = caller.send(method, &path, Some(with(&body, &extra))).await;
        let names: Vec<_> = extra
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        refused_by_name(&reply, "", &names);
    }
    assert_eq!(member.get("/api/v1/auth/me").await.expect(200), before);
    for (path, count) in [("members", 2), ("invitations", 0), ("api_keys", 0)] {
        let list = app.admin.get(&format!("/api/v1/{path}")).await.expect(200);
        assert_eq!(list["data"].as_array().unwrap().len(), count, "{path}");
    }
    app.close().await;
}

async fn nobody_sets_the_tenant_the_owner_or_the_version_of_a_record(database: Database) {
    let app = App::start(database).await;
    let stranger = app.foreign_admin().await;
    let (foreign, owner) = (tenant_of(&stranger).await, user_of(&stranger).await);
    let grace = json!({"name": "Grace", "email": "grace@example.com"});
    let made = app
        .admin
        .post("/api/v1/contacts", grace.clone())
        .await
        .expect(201);
    let at = format!("/api/v1/contacts/{}", made["id"].as_str().unwrap());
    let forged = json!({"tenant_id": foreign, "owner_id": owner, "roles": ["admin"]});
    // An owner is looked for once the body is known to be in order.
    let names = ["tenant_id", "roles"];
    let operation = |op: &str| {
        let mut one = json!({"op": op, "values": with(&grace, &forged)});
        match op {
            "update" => one["id"] = made["id"].clone(),
            "upsert" => one["by"] = "email".into(),
            _ => {}
        }
        one
    };
    for (method, path, body) in [
        (Method::POST, "/api/v1/contacts", grace.clone()),
        (Method::PUT, at.as_str(), grace.clone()),
        (Method::PATCH, at.as_str(), json!({"score": 7})),
    ] {
        let reply = app
            .admin
            .send(method.clone(), path, Some(with(&body, &forged)))
            .await;
        refused_by_name(&reply, "", &names);
        let taken = json!({"email": "other@example.com", "owner_id": owner});
        let reply = app
            .admin
            .send(method, path, Some(with(&body, &taken)))
            .await;
        refused_by_name(&reply, "", &["owner_id"]);
    }
    for op in ["create", "update", "upsert"] {
        let body = json!({"atomic": true, "operations": [operation(op)]});
        let reply = app.admin.post("/api/v1/contacts/batch", body).await;
        refused_by_name(&reply, "/operations/0/values", &names);
    }
    let body = json!({"filter": {"name": "Grace"}, "set": forged});
    let reply = app.admin.post("/api/v1/contacts/bulk-update", body).await;
    refused_by_name(&reply, "/set", &["roles"]);
    assert_eq!(app.admin.get(&at).await.expect(200), made);
    // What the library writes is read past, so that a client may send back what it read.
    let written = json!({
        "id": Uuid::nil(), "version": 7, "created_at": "2000-01-01T00:00:00Z",
        "updated_at": "2000-01-01T00:00:00Z",
    });
    let body = with(&json!({"name": "Ada"}), &written);
    let ada = app.admin.post("/api/v1/contacts", body).await.expect(201);
    assert_eq!(ada["version"], 1);
    assert_eq!(ada["created_at"], made["created_at"]);
    assert_ne!(ada["id"], written["id"]);
    let body = with(&json!({"score": 7}), &written);
    let changed = app.admin.patch(&at, body).await.expect(200);
    assert_eq!(
        (&changed["id"], &changed["version"]),
        (&made["id"], &json!(2))
    );
    assert_eq!(changed["created_at"], made["created_at"]);
    let theirs = stranger.get("/api/v1/contacts").await.expect(200);
    assert_eq!(theirs["data"], json!([]));
    app.close().await;
}

async fn a_file_sets_no_more_than_a_body(database: Database) {
    let app = App::start(database).await;
    let stranger = app.foreign_admin().await;
    let (foreign, owner) = (tenant_of(&stranger).await, user_of(&stranger).await);
    let import = async |file: String| {
        let path = "/api/v1/contacts/import?format=csv";
        let request = app.admin.request(Method::POST, path);
        let request = request.header("Content-Type", "text/csv").body(file);
        let reply = app.admin.finish(request).await;
        app.crm.run_jobs_once().await.unwrap();
        reply
    };
    for (column, value) in [
        ("owner_id", owner),
        ("tenant_id", foreign),
        ("roles", "admin".into()),
    ] {
        let value = value.as_str().unwrap();
        import(format!("name,{column}\nEve,{value}\n")).await;
        let made = app.admin.get("/api/v1/contacts?name=Eve").await.expect(200);
        for one in made["data"].as_array().unwrap() {
            // A column that is none of the module's may be left out, never taken.
            assert_eq!(column, "roles", "{one}");
            assert_eq!(one.get(column), None);
        }
    }
    import("name,version,created_at\nAda,7,2000-01-01T00:00:00Z\n".into()).await;
    let made = app.admin.get("/api/v1/contacts?name=Ada").await.expect(200);
    for one in made["data"].as_array().unwrap() {
        assert_eq!(one["version"], 1);
        assert!(!one["created_at"].as_str().unwrap().starts_with("2000"));
    }
    let theirs = stranger.get("/api/v1/contacts").await.expect(200);
    assert_eq!(theirs["data"], json!([]));
    app.close().await;
}
