//! Sessions, members, roles and keys, as their users meet them.

use serde_json::{Value, json};

use crate::app::{App, Database, PASSWORD};

crate::on_both_databases! {
    the_setup_token_works_once
    a_login_opens_a_session_that_a_logout_ends
    a_wrong_password_and_an_unknown_address_get_the_same_answer
    an_expired_access_token_is_refused_until_refreshed
    roles_are_made_given_and_taken
    nobody_gives_away_what_they_do_not_hold
    a_revoked_key_opens_nothing
    me_tells_who_the_caller_is
}

async fn the_setup_token_works_once(database: Database) {
    let app = App::start(database).await;
    let body = json!({
        "setup_token": "crm_setup_unknown", "tenant": "evil", "name": "Eve",
        "email": "eve@evil.example", "password": PASSWORD,
    });
    let reply = app.anonymous().post("/api/v1/auth/register", body).await;
    assert_eq!(reply.problem(), (401, "setup_token_invalid".into()));
    assert!(
        app.crm.ensure_setup_token().await.unwrap().is_none(),
        "there is a user already"
    );
    app.close().await;
}

async fn a_login_opens_a_session_that_a_logout_ends(database: Database) {
    let app = App::start(database).await;
    let anonymous = app.anonymous();
    let body = json!({"email": "Ada@Acme.example", "password": PASSWORD});
    let session = anonymous.post("/api/v1/auth/login", body).await.expect(200);
    assert_eq!(session["expires_in"], 600);
    let refresh = async |session: &Value| {
        let body = json!({"refresh_token": session["refresh_token"]});
        anonymous.post("/api/v1/auth/refresh", body).await
    };
    let next = refresh(&session).await.expect(200);
    assert_ne!(next["refresh_token"], session["refresh_token"]);
    let body = json!({"refresh_token": next["refresh_token"]});
    anonymous
        .post("/api/v1/auth/logout", body)
        .await
        .expect(204);
    assert_eq!(refresh(&next).await.status, 401);
    app.close().await;
}

async fn a_wrong_password_and_an_unknown_address_get_the_same_answer(database: Database) {
    let app = App::start(database).await;
    let login = async |email: &str, password: &str| {
        let body = json!({"email": email, "password": password});
        app.anonymous().post("/api/v1/auth/login", body).await
    };
    let wrong = login("ada@acme.example", "not the password").await;
    let unknown = login("eve@acme.example", PASSWORD).await;
    assert_eq!(wrong.problem(), (401, "invalid_credentials".into()));
    assert_eq!(wrong.body, unknown.body);
    app.close().await;
}

async fn an_expired_access_token_is_refused_until_refreshed(database: Database) {
    let app = App::start(database).await;
    assert_eq!(app.admin.get("/api/v1/contacts").await.status, 200);
    app.clock.advance(chrono::TimeDelta::minutes(11));
    let reply = app.admin.get("/api/v1/contacts").await;
    assert_eq!(reply.problem(), (401, "token_expired".into()));
    assert_eq!(
        reply.header("www-authenticate"),
        "Bearer realm=\"crm\", error=\"invalid_token\""
    );
    app.close().await;
}

async fn roles_are_made_given_and_taken(database: Database) {
    let app = App::start(database).await;
    let body = json!({"name": "caller", "permissions": ["contacts.read", "contacts.update:own"]});
    let role = app.admin.post("/api/v1/roles", body).await.expect(201);
    let path = format!("/api/v1/roles/{}", role["id"].as_str().unwrap());
    let bo = app.member("bo", "caller").await;
    assert_eq!(bo.get("/api/v1/contacts").await.status, 200);
    assert_eq!(bo.get("/api/v1/deals").await.status, 403);

    let change = json!({"permissions": ["deals.read"], "parent_id": null});
    app.admin.patch(&path, change).await.expect(200);
    assert_eq!(
        bo.get("/api/v1/contacts").await.status,
        403,
        "a change holds at once"
    );
    assert_eq!(bo.get("/api/v1/deals").await.status, 200);
    assert_eq!(
        app.admin.delete(&path).await.problem(),
        (409, "role_in_use".into())
    );

    let me = bo.get("/api/v1/auth/me").await.expect(200);
    let member = format!("/api/v1/members/{}", me["user"]["id"].as_str().unwrap());
    let roles = format!("{member}/roles");
    let put = app.admin.send(
        reqwest::Method::PUT,
        &roles,
        Some(json!({"roles": ["viewer"]})),
    );
    assert_eq!(put.await.expect(200)["roles"][0]["name"], "viewer");
    app.admin.delete(&path).await.expect(204);
    assert_eq!(app.admin.delete(&member).await.expect(204), Value::Null);
    assert_eq!(
        bo.get("/api/v1/contacts").await.status,
        401,
        "a member no more"
    );
    app.close().await;
}

async fn nobody_gives_away_what_they_do_not_hold(database: Database) {
    let app = App::start(database).await;
    let permissions = json!(["members.*", "roles.*", "api_keys.*", "contacts.read"]);
    let body = json!({"name": "helper", "permissions": permissions});
    app.admin.post("/api/v1/roles", body).await.expect(201);
    let helper = app.member("helper", "helper").await;
    let role = json!({"name": "more", "permissions": ["contacts.delete"]});
    assert_eq!(helper.post("/api/v1/roles", role).await.status, 403);
    let key = json!({"name": "more", "role": "admin"});
    assert_eq!(helper.post("/api/v1/api_keys", key).await.status, 403);
    let user = json!({
        "email": "x@acme.example", "name": "X", "password": PASSWORD, "roles": ["admin"],
    });
    assert_eq!(helper.post("/api/v1/members", user).await.status, 403);
    app.close().await;
}

async fn a_revoked_key_opens_nothing(database: Database) {
    let app = App::start(database).await;
    let program = app.program("viewer").await;
    assert_eq!(program.get("/api/v1/contacts").await.status, 200);
    let keys = app.admin.get("/api/v1/api_keys").await.expect(200);
    let path = format!(
        "/api/v1/api_keys/{}",
        keys["data"][0]["id"].as_str().unwrap()
    );
    app.admin.delete(&path).await.expect(204);
    let reply = program.get("/api/v1/contacts").await;
    assert_eq!(reply.problem(), (401, "api_key_invalid".into()));
    app.close().await;
}

async fn me_tells_who_the_caller_is(database: Database) {
    let app = App::start(database).await;
    let me = app.admin.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(
        (&me["user"]["email"], &me["tenant"]["name"]),
        (&json!("ada@acme.example"), &json!("acme"))
    );
    let program = app
        .program("viewer")
        .await
        .get("/api/v1/auth/me")
        .await
        .expect(200);
    assert_eq!(program["user"], Value::Null);
    assert_eq!(
        program["permissions"],
        json!(["contacts.read", "companies.read", "deals.read"])
    );
    app.close().await;
}
