//! Open sessions and published keys, as their users meet them.

use crm_core::id::TenantId;
use crm_core::identity::{NewUser, Rotation, TokenAlgorithm};
use crm_core::{Create, RequestContext};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Database, PASSWORD};

crate::on_both_databases! {
    sessions_are_listed_and_ended_by_their_owner
    an_admin_sees_and_ends_the_sessions_of_a_member
    a_locked_account_is_unlocked_by_an_admin
    public_keys_are_published_and_rotated
    a_tenant_is_named_by_header_or_by_the_session
}

async fn sessions_are_listed_and_ended_by_their_owner(database: Database) {
    let app = App::start(database).await;
    let login = app
        .anonymous()
        .request(Method::POST, "/api/v1/auth/login")
        .header("User-Agent", "Phone/1.0")
        .json(&json!({"email": "ada@acme.example", "password": PASSWORD}));
    let phone = app.anonymous().finish(login).await.expect(200);
    let phone = app.with_token(phone["access_token"].as_str());
    let list = app.admin.get("/api/v1/auth/sessions").await.expect(200);
    let other = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["current"] == false);
    let other = other.unwrap();
    assert_eq!(other["user_agent"], "Phone/1.0");
    assert_eq!(other["address"], "127.0.0.1");
    assert_eq!(other["tenant"]["name"], "acme");

    let path = format!("/api/v1/auth/sessions/{}", other["id"].as_str().unwrap());
    app.admin.delete(&path).await.expect(204);
    assert_eq!(
        phone.get("/api/v1/auth/me").await.problem(),
        (401, "token_invalid".into())
    );
    assert_eq!(app.admin.delete(&path).await.status, 404);

    let again = app.login("ada@acme.example").await;
    let path = "/api/v1/auth/sessions?except_current=true";
    again.delete(path).await.expect(204);
    assert_eq!(app.admin.get("/api/v1/auth/me").await.status, 401);
    again.delete("/api/v1/auth/sessions").await.expect(204);
    assert_eq!(again.get("/api/v1/auth/me").await.status, 401);

    let ada = app.login("ada@acme.example").await;
    let key = json!({"name": "key", "role": "viewer"});
    let key = ada.post("/api/v1/api_keys", key).await.expect(201);
    let program = app.with_token(key["key"].as_str());
    let none = program.get("/api/v1/auth/sessions").await.expect(200);
    assert_eq!(none, json!({"data": []}));
    program.delete("/api/v1/auth/sessions").await.expect(204);
    assert_eq!(ada.get("/api/v1/auth/me").await.status, 200);
    app.close().await;
}

async fn an_admin_sees_and_ends_the_sessions_of_a_member(database: Database) {
    let app = App::start(database).await;
    let bo = app.member("bo", "viewer").await;
    let me = bo.get("/api/v1/auth/me").await.expect(200);
    let path = format!(
        "/api/v1/members/{}/sessions",
        me["user"]["id"].as_str().unwrap()
    );
    let list = app.admin.get(&path).await.expect(200);
    assert_eq!(list["data"][0]["current"], false);
    assert_eq!(bo.get(&path).await.status, 403);
    let one = format!("{path}/{}", list["data"][0]["id"].as_str().unwrap());
    app.admin.delete(&one).await.expect(204);
    assert_eq!(bo.get("/api/v1/contacts").await.status, 401);
    let bo = app.login("bo@acme.example").await;
    app.admin.delete(&path).await.expect(204);
    assert_eq!(bo.get("/api/v1/contacts").await.status, 401);
    app.close().await;
}

async fn a_locked_account_is_unlocked_by_an_admin(database: Database) {
    let app = App::start(database).await;
    let bo = app.member("bo", "viewer").await;
    let me = bo.get("/api/v1/auth/me").await.expect(200);
    let login = async |password: &str| {
        let body = json!({"email": "bo@acme.example", "password": password});
        app.anonymous().post("/api/v1/auth/login", body).await
    };
    for _ in 0..10 {
        app.clock.advance(chrono::TimeDelta::seconds(20));
        assert_eq!(login("not the password").await.status, 401);
    }
    let locked = login(PASSWORD).await;
    assert_eq!(locked.problem(), (429, "rate_limited".into()));
    assert_eq!(locked.header("retry-after"), "900");
    assert_eq!(locked.header("ratelimit"), "", "a lock is no limit");
    assert_eq!(
        bo.get("/api/v1/contacts").await.status,
        200,
        "the open session goes on"
    );
    let path = format!(
        "/api/v1/members/{}/unlock",
        me["user"]["id"].as_str().unwrap()
    );
    app.admin.send(Method::POST, &path, None).await.expect(204);
    assert_eq!(login(PASSWORD).await.status, 200);
    app.close().await;
}

async fn public_keys_are_published_and_rotated(database: Database) {
    let app = App::start(database).await;
    let path = "/.well-known/jwks.json";
    assert_eq!(
        app.anonymous().get(path).await.expect(200),
        json!({"keys": []})
    );
    let rotation = |algorithm| Rotation {
        algorithm,
        lead: chrono::TimeDelta::zero(),
        overlap: chrono::TimeDelta::minutes(10),
    };
    let request = || RequestContext {
        id: "operator".into(),
        address: None,
    };
    let keys = app.crm.token_keys();
    for algorithm in [TokenAlgorithm::EdDsa, TokenAlgorithm::Es256] {
        keys.rotate(rotation(algorithm), request()).await.unwrap();
        let session = app.login("ada@acme.example").await;
        assert_eq!(session.get("/api/v1/contacts").await.status, 200);
    }
    let published = app.anonymous().get(path).await;
    assert_eq!(published.header("cache-control"), "public, max-age=60");
    let published = published.expect(200);
    let of = |name: &str| -> Vec<Value> {
        let keys = published["keys"].as_array().unwrap();
        keys.iter().map(|key| key[name].clone()).collect()
    };
    assert_eq!(of("kty"), ["OKP", "EC"]);
    assert_eq!(of("alg"), ["EdDSA", "ES256"]);
    assert_eq!(of("use"), ["sig", "sig"]);
    assert_eq!(
        app.admin.get("/api/v1/contacts").await.status,
        200,
        "the overlap"
    );
    let kid = published["keys"][1]["kid"].as_str().unwrap();
    let last = app.login("ada@acme.example").await;
    keys.revoke(kid, request()).await.unwrap();
    assert_eq!(
        last.get("/api/v1/contacts").await.problem(),
        (401, "token_invalid".into())
    );
    app.close().await;
}

async fn a_tenant_is_named_by_header_or_by_the_session(database: Database) {
    let app = App::start(database).await;
    let hank = app.foreign_admin().await;
    let id = async |caller: &crate::app::Caller| {
        let me = caller.get("/api/v1/auth/me").await.expect(200);
        me["tenant"]["id"].as_str().unwrap().to_owned()
    };
    let (acme, globex) = (id(&app.admin).await, id(&hank).await);
    let ada = NewUser {
        email: "ada@acme.example".into(),
        name: "Ada".into(),
        password: PASSWORD.into(),
        roles: vec!["viewer".into()],
    };
    let request = RequestContext {
        id: "operator".into(),
        address: None,
    };
    let tenant = TenantId(globex.parse().unwrap());
    let there = app.crm.operator(tenant, request);
    let permit = there.permit::<Create>("members").unwrap();
    app.crm.accounts().create_user(&permit, ada).await.unwrap();
    let body = json!({"email": "ada@acme.example", "password": PASSWORD, "roaming": true});
    let session = app
        .anonymous()
        .post("/api/v1/auth/login", body)
        .await
        .expect(200);
    let roaming = app.with_token(session["access_token"].as_str());
    let named = async |caller: &crate::app::Caller, tenants: &[&str]| {
        let mut request = caller.request(Method::GET, "/api/v1/auth/me");
        for tenant in tenants {
            request = request.header("X-Tenant", *tenant);
        }
        caller.finish(request).await
    };
    for tenant in [&acme, &globex] {
        let me = named(&roaming, &[tenant]).await.expect(200);
        assert_eq!(me["tenant"]["id"], json!(tenant));
    }
    let nowhere = uuid::Uuid::nil().to_string();
    let refused = named(&roaming, &[&nowhere]).await;
    assert_eq!(refused.problem(), (401, "token_invalid".into()));
    assert_eq!(named(&app.admin, &[&acme]).await.status, 200);
    let reply = named(&app.admin, &[&globex]).await;
    assert_eq!(reply.body, refused.body);
    let mut answers = Vec::new();
    for tenants in [
        vec!["acme"],
        vec!["globex"],
        vec!["nowhere"],
        vec![&acme, &acme],
        vec![""],
    ] {
        for caller in [&app.admin, &roaming] {
            let reply = named(caller, &tenants).await;
            assert_eq!(reply.problem(), (422, "validation_failed".into()));
            answers.push(reply.body);
        }
    }
    assert!(answers[0].contains("/X-Tenant"), "{}", answers[0]);
    answers.dedup();
    assert_eq!(answers.len(), 1, "they tell of no tenant: {answers:?}");
    let unknown = app.with_token(Some("crm_ak_none"));
    let unknown = named(&unknown, &["acme"]).await;
    assert_eq!(unknown.problem(), (401, "api_key_invalid".into()));

    let body = json!({"tenant": "Globex"});
    let moved = app
        .admin
        .post("/api/v1/auth/tenant", body.clone())
        .await
        .expect(200);
    assert_eq!(moved["expires_in"], 600);
    assert_eq!(app.admin.get("/api/v1/auth/me").await.status, 401);
    let moved = app.with_token(moved["access_token"].as_str());
    assert_eq!(id(&moved).await, globex);
    let key = json!({"name": "key", "role": "viewer"});
    let key = hank.post("/api/v1/api_keys", key).await.expect(201);
    let program = app.with_token(key["key"].as_str());
    let reply = program.post("/api/v1/auth/tenant", body).await;
    assert_eq!(reply.problem(), (409, "no_session".into()));
    app.close().await;
}
