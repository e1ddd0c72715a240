//! Groups, roles that end, and permissions that say more than text can, over HTTP.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Database};

crate::on_both_databases! {
    pl_72_a_group_is_made_read_changed_and_deleted
    a_permission_with_a_condition_is_an_object_and_limits_what_is_seen
    every_refused_place_of_a_permission_is_named
    a_role_until_an_instant_is_given_shown_and_gone
}

fn id(reply: &Value) -> String {
    reply["id"].as_str().unwrap().to_owned()
}

async fn pl_72_a_group_is_made_read_changed_and_deleted(database: Database) {
    let app = App::start(database).await;
    let contact = json!({"name": "Ada"});
    let contact = app
        .admin
        .post("/api/v1/contacts", contact)
        .await
        .expect(201);
    let me = app.admin.get("/api/v1/auth/me").await.expect(200);
    let sent = json!({
        "name": "Field team",
        "roles": ["viewer"],
        "members": [{"user_id": me["user"]["id"], "until": "2999-01-01T00:00:00Z"}],
        "records": [{"module": "contacts", "id": contact["id"]}],
    });
    let made = app.admin.post("/api/v1/groups", sent).await.expect(201);
    assert_eq!(made["roles"][0]["name"], "viewer");
    assert_eq!(made["members"][0]["until"], "2999-01-01T00:00:00Z");
    let path = format!("/api/v1/groups/{}", id(&made));
    assert_eq!(app.admin.get(&path).await.expect(200), made);
    let list = app.admin.get("/api/v1/groups?limit=1").await.expect(200);
    assert_eq!(list, json!({"data": [made], "next_cursor": null}));
    let fewer = json!({"members": [], "records": []});
    let changed = app.admin.patch(&path, fewer).await.expect(200);
    assert_eq!(
        (&changed["members"], &changed["records"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(changed["roles"], made["roles"]);
    let wrong = json!({"members": [{"user_id": "x", "role": 1}]});
    let refused = app.admin.patch(&path, wrong).await.expect(422);
    let pointers: Vec<_> = refused["errors"].as_array().unwrap().iter().collect();
    assert_eq!(pointers.len(), 2);
    assert_eq!(app.admin.delete(&path).await.status, 204);
    assert_eq!(app.admin.get(&path).await.status, 404);
    app.close().await;
}

async fn a_permission_with_a_condition_is_an_object_and_limits_what_is_seen(database: Database) {
    let app = App::start(database).await;
    let condition = json!({"permission": "deals.read", "where": {"amount": {"gte": "100.00"}}});
    let role = json!({"name": "big deals", "permissions": ["contacts.read:team", condition]});
    let role = app.admin.post("/api/v1/roles", role).await.expect(201);
    assert_eq!(
        role["permissions"],
        json!(["contacts.read:team", condition])
    );
    let path = format!("/api/v1/roles/{}", id(&role));
    assert_eq!(app.admin.get(&path).await.expect(200), role);
    for (title, amount) in [("small", "99.99"), ("big", "100.00")] {
        let deal = json!({"title": title, "amount": amount});
        app.admin.post("/api/v1/deals", deal).await.expect(201);
    }
    let caller = app.member("closer", "big deals").await;
    let seen = caller.get("/api/v1/deals?count=exact").await.expect(200);
    assert_eq!(seen["data"].as_array().unwrap().len(), 1);
    assert_eq!(seen["data"][0]["title"], "big");
    let me = caller.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(
        me["permissions"],
        json!([
            "contacts.read:team",
            r#"deals.read where {"amount":{"gte":"100.00"}}"#
        ])
    );
    let none = json!({"permissions": ["deals.read:own"]});
    app.admin.patch(&path, none).await.expect(200);
    let seen = caller.get("/api/v1/deals").await.expect(200);
    assert_eq!(seen["data"], json!([]));
    app.close().await;
}

async fn every_refused_place_of_a_permission_is_named(database: Database) {
    let app = App::start(database).await;
    let cases = [
        (
            json!("deals.read:all"),
            "/permissions/0",
            "invalid_permission",
        ),
        (
            json!("nothing.read"),
            "/permissions/0",
            "unknown_permission",
        ),
        (json!(7), "/permissions/0", "wrong_type"),
        (
            json!({"where": {"title": "x"}}),
            "/permissions/0/permission",
            "required",
        ),
        (
            json!({"permission": "deals.read", "where": {"nothing": 1}}),
            "/permissions/0/where/nothing",
            "unknown_field",
        ),
        (
            json!({"permission": "records.read", "where": {"title": "x"}}),
            "/permissions/0/where",
            "not_allowed",
        ),
        (
            json!({"permission": "!deals.read", "where": {"title": "x"}}),
            "/permissions/0/where",
            "not_allowed",
        ),
        (
            json!({"permission": "deals.read", "where": {}, "colour": 1}),
            "/permissions/0/colour",
            "unknown_field",
        ),
    ];
    for (permission, pointer, code) in cases {
        let role = json!({"name": "r", "permissions": [permission]});
        let refused = app.admin.post("/api/v1/roles", role).await.expect(422);
        let found = (
            &refused["errors"][0]["pointer"],
            &refused["errors"][0]["code"],
        );
        assert_eq!(found, (&json!(pointer), &json!(code)), "{permission}");
    }
    app.close().await;
}

async fn a_role_until_an_instant_is_given_shown_and_gone(database: Database) {
    let app = App::start(database).await;
    let caller = app.member("temp", "viewer").await;
    let me = caller.get("/api/v1/auth/me").await.expect(200);
    let path = format!(
        "/api/v1/members/{}/roles",
        me["user"]["id"].as_str().unwrap()
    );
    let until = app.crm.clock().now() + chrono::TimeDelta::seconds(90);
    let until = crm_core::value::instant(&until);
    let roles = json!({"roles": ["viewer", {"role": "manager", "until": until}]});
    let set = app
        .admin
        .send(Method::PUT, &path, Some(roles))
        .await
        .expect(200);
    let untils: Vec<_> = set["roles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|role| &role["until"])
        .collect();
    assert_eq!(untils, [&json!(until), &Value::Null]);
    assert_eq!(caller.get("/api/v1/audit").await.status, 200);
    app.clock.advance(chrono::TimeDelta::seconds(90));
    assert_eq!(caller.get("/api/v1/audit").await.status, 403);
    assert_eq!(caller.get("/api/v1/contacts").await.status, 200);
    app.close().await;
}
