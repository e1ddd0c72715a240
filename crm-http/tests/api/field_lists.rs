//! Roles that reach some fields only, over HTTP.

use serde_json::{Value, json};

use crate::app::{App, Database};

crate::on_both_databases! {
    a_role_with_a_field_list_is_made_read_and_obeyed
    a_list_that_names_no_field_is_refused_at_its_place
    a_key_that_reads_less_is_shown_less_by_the_audit_log
    a_condition_on_a_field_that_its_author_does_not_read_is_refused
    a_dry_import_and_an_explanation_tell_nothing_of_a_hidden_field
}

async fn a_role_with_a_field_list_is_made_read_and_obeyed(database: Database) {
    let app = App::start(database).await;
    let ada = json!({"name": "Ada", "email": "ada@acme.example", "score": 7, "notes": "private"});
    let ada = app.admin.post("/api/v1/contacts", ada).await.expect(201);
    let path = format!("/api/v1/contacts/{}", ada["id"].as_str().unwrap());
    let permissions = json!([
        {"permission": "contacts.read", "fields": ["name", "phone"]},
        {"permission": "contacts.update", "except": ["email", "owner_id"]},
        "contacts.create", "audit.read",
    ]);
    let role = json!({"name": "front", "permissions": permissions});
    let role = app.admin.post("/api/v1/roles", role).await.expect(201);
    let stated = role["permissions"].as_array().unwrap();
    for permission in permissions.as_array().unwrap() {
        assert!(stated.contains(permission), "{role}");
    }
    let caller = app.member("bo", "front").await;
    let names = |record: &Value| -> Vec<String> {
        let members = record.as_object().unwrap();
        let mut names: Vec<_> = members.keys().cloned().collect();
        names.sort_unstable();
        names
    };
    let shown = ["created_at", "id", "name", "phone", "updated_at", "version"];
    let one = caller.get(&path).await.expect(200);
    assert_eq!(names(&one), shown);
    let page = caller.get("/api/v1/contacts").await.expect(200);
    assert_eq!(names(&page["data"][0]), shown);
    for query in [
        "score[gt]=1",
        "sort=-score",
        "fields=name,score",
        "owner_id[is_null]=true",
        "search=ada",
    ] {
        let refused = caller.get(&format!("/api/v1/contacts?{query}")).await;
        assert_eq!(refused.status, 422, "{query}: {}", refused.body);
    }
    let unknown = caller.get("/api/v1/contacts?colour=red").await;
    let hidden = caller.get("/api/v1/contacts?score=7").await;
    let told = |reply: &crate::app::Reply, name: &str| {
        let error = &reply.json()["errors"][0];
        let message = error["detail"].as_str().unwrap();
        (error["code"].clone(), message.replace(name, "x"))
    };
    assert_eq!(told(&unknown, "colour"), told(&hidden, "score"));
    let sum = caller
        .get("/api/v1/contacts/aggregate?metrics=sum:score")
        .await;
    assert_eq!(sum.status, 422, "{}", sum.body);
    let filter = json!({"filter": {"score": {"gt": 1}}});
    let query = caller.post("/api/v1/contacts/query", filter).await;
    assert_eq!(query.status, 422, "{}", query.body);

    let refused = caller
        .patch(&path, json!({"email": "x@acme.example"}))
        .await;
    let problem = refused.json();
    assert_eq!(problem["errors"][0]["pointer"], "/email");
    assert_eq!(problem["errors"][0]["code"], "not_allowed");
    let changed = caller.patch(&path, json!({"score": 8})).await.expect(200);
    assert_eq!(names(&changed), shown);
    let new = json!({"name": "Bo", "email": "bo@acme.example"});
    let new = caller.post("/api/v1/contacts", new).await.expect(201);
    assert_eq!(names(&new), shown);
    let audit = caller
        .get("/api/v1/audit?entity=contacts")
        .await
        .expect(200);
    for entry in audit["data"].as_array().unwrap() {
        assert_eq!(names(&entry["after"]), shown);
    }
    assert_eq!(audit["data"][0]["rule"], "role front: contacts.create");
    assert_eq!(
        audit["data"][1]["rule"],
        "role front: contacts.update except email,owner_id"
    );

    let me = caller.get("/api/v1/auth/me").await.expect(200);
    let subject = me["user"]["id"].as_str().unwrap();
    let path = format!("/api/v1/access/explain?subject=user:{subject}&action=contacts.read");
    let explained = app.admin.get(&path).await.expect(200);
    assert_eq!(explained["rules"][0]["permission"], permissions[0]);
    app.close().await;
}

async fn a_list_that_names_no_field_is_refused_at_its_place(database: Database) {
    let app = App::start(database).await;
    for (permission, pointer) in [
        (
            json!({"permission": "contacts.read", "fields": ["name", "wage"]}),
            "/permissions/0/fields/1",
        ),
        (
            json!({"permission": "contacts.read", "except": []}),
            "/permissions/0/except",
        ),
        (
            json!({"permission": "contacts.delete", "fields": ["name"]}),
            "/permissions/0/fields",
        ),
    ] {
        let role = json!({"name": "odd", "permissions": [permission]});
        let refused = app.admin.post("/api/v1/roles", role).await;
        assert_eq!(refused.status, 422, "{}", refused.body);
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer);
    }
    app.close().await;
}

/// A member who reads the names of contacts, with these permissions beside.
async fn reader_of_names(app: &App, beside: &[&str]) -> crate::app::Caller {
    let mut permissions = vec![json!({"permission": "contacts.read", "fields": ["name"]})];
    permissions.extend(beside.iter().map(|permission| json!(permission)));
    let role = json!({"name": "front", "permissions": permissions});
    app.admin.post("/api/v1/roles", role).await.expect(201);
    app.member("bo", "front").await
}

async fn a_key_that_reads_less_is_shown_less_by_the_audit_log(database: Database) {
    let app = App::start(database).await;
    let ada = json!({"name": "Ada", "score": 7});
    app.admin.post("/api/v1/contacts", ada).await.expect(201);
    let bo = reader_of_names(&app, &["audit.read", "api_keys.create"]).await;
    let key = json!({"name": "key", "role": "front", "permissions": ["audit.read"]});
    let key = bo.post("/api/v1/api_keys", key).await.expect(201);
    let key = app.with_token(key["key"].as_str());
    let audit = key.get("/api/v1/audit?entity=contacts").await.expect(200);
    assert_eq!(audit["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(audit["data"][0]["after"], Value::Null, "{audit}");
    let file = key.get("/api/v1/audit/export?entity=contacts").await;
    assert_eq!(file.status, 200);
    assert!(!file.body.contains("score"), "{}", file.body);
    let own = bo.get("/api/v1/audit?entity=contacts").await.expect(200);
    assert_eq!(own["data"][0]["after"]["name"], "Ada", "{own}");
    app.close().await;
}

async fn a_condition_on_a_field_that_its_author_does_not_read_is_refused(database: Database) {
    let app = App::start(database).await;
    let bo = reader_of_names(&app, &["roles.create", "api_keys.create"]).await;
    for (condition, status) in [
        (json!({"score": {"gt": 5}}), 422),
        (json!({"name": "Ada"}), 201),
    ] {
        let permission =
            json!({"permission": "contacts.read", "where": condition, "fields": ["name"]});
        let role = json!({"name": "oracle", "permissions": [permission]});
        let reply = bo.post("/api/v1/roles", role).await;
        assert_eq!(reply.status, status, "{}", reply.body);
        if status == 422 {
            let error = &reply.json()["errors"][0];
            assert_eq!(error["pointer"], "/permissions/0/where/score");
            assert_eq!(error["code"], "unknown_field");
        }
    }
    app.close().await;
}

async fn a_dry_import_and_an_explanation_tell_nothing_of_a_hidden_field(database: Database) {
    let app = App::start(database).await;
    let ada = json!({"name": "Ada", "email": "ada@acme.example", "score": 7});
    let ada = app.admin.post("/api/v1/contacts", ada).await.expect(201);
    let beside = [
        "contacts.create",
        "contacts.update",
        "jobs.*",
        "access.read",
    ];
    let bo = reader_of_names(&app, &beside).await;
    let path = "/api/v1/contacts/import?format=csv&mode=upsert&key=email&dry_run=true";
    let file = bo
        .request(reqwest::Method::POST, path)
        .header("Content-Type", "text/csv")
        .body("email,score\nada@acme.example,7\n");
    let refused = bo.finish(file).await;
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(!refused.body.contains("email"), "{}", refused.body);

    let condition = json!({"permission": "contacts.update", "where": {"score": {"gt": 5}}});
    let role = json!({"name": "high", "permissions": [condition]});
    let role = app.admin.post("/api/v1/roles", role).await.expect(201);
    let path = format!(
        "/api/v1/access/explain?subject=role:{}&action=contacts.update&record={}",
        role["id"].as_str().unwrap(),
        ada["id"].as_str().unwrap(),
    );
    for (caller, covers, reason) in [
        (&bo, Value::Null, "undisclosed"),
        (&app.admin, json!(true), "allowed"),
    ] {
        let explained = caller.get(&path).await.expect(200);
        assert_eq!(explained["rules"][0]["covers"], covers, "{explained}");
        assert_eq!(explained["reason"], reason);
    }
    app.close().await;
}
