//! Roles that reach some fields only, over HTTP.

use serde_json::{Value, json};

use crate::app::{App, Database};

crate::on_both_databases! {
    a_role_with_a_field_list_is_made_read_and_obeyed
    a_list_that_names_no_field_is_refused_at_its_place
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
        let message = error["message"].as_str().unwrap();
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
