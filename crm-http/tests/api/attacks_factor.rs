//! A password alone against an account with a second factor: a session that began without the
//! factor changes nothing by which the account is opened, so that it leads into no tenant that asks
//! for both.

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Caller, Database, PASSWORD, Reply};
use crate::attacks::{join, tenant_of};
use crate::authenticator::{Key, Manner};
use crate::local_provider::{self, declare, link};
use crate::passkey::{answer, ask, begin, enter, finish, register, start, step};
use crate::second_factor::{Device, require, set_up};

const ADA: &str = "ada@acme.example";

crate::on_both_databases! {
    a_password_alone_changes_no_account_that_has_a_passkey
    a_password_alone_finishes_nothing_that_it_began_before_there_was_a_factor
    codes_set_up_at_a_login_before_there_was_a_passkey_finish_nothing
    a_session_without_the_second_factor_changes_nothing_without_a_code
    a_session_without_the_second_factor_links_no_identity
    a_session_that_passed_the_second_factor_has_after_a_new_password
    tenants_are_named_after_the_second_factor
    a_passkey_comes_before_the_names_of_tenants
    a_factor_set_up_at_the_login_comes_before_the_names_of_tenants
    a_roaming_login_is_one_behind_its_second_step_too
}

/// Ada, a member of `acme`, which is to ask for two factors, and of `globex`, which does not.
async fn world(database: Database) -> App {
    let (app, _) = start(database).await;
    let hank = app.foreign_admin().await;
    join(&app, &tenant_of(&hank).await, ADA).await.unwrap();
    app
}

async fn login_to(app: &App, tenant: &str) -> Reply {
    let body = json!({"email": ADA, "password": PASSWORD, "tenant": tenant});
    app.anonymous().post("/api/v1/auth/login", body).await
}

/// What a password opens in `globex`.
async fn by_password(app: &App) -> Caller {
    let session = login_to(app, "globex").await.expect(200);
    app.with_token(session["access_token"].as_str())
}

#[track_caller]
fn refused(reply: &Reply, what: &str) {
    let expected = (409, "second_factor_required".to_owned());
    assert_eq!(reply.problem(), expected, "{what}: {reply}");
}

/// The doors that ask for no code, and what they are asked for.
fn doors() -> Vec<(Method, &'static str, Value)> {
    let change = json!({"current_password": PASSWORD, "password": "a new harpsichord"});
    let email = json!({"email": "mallory@evil.example", "password": PASSWORD});
    let username = json!({"username": "mallory", "password": PASSWORD});
    vec![
        (Method::POST, "password/change", change),
        (Method::POST, "email/change", email),
        (Method::PUT, "username", username),
        (Method::POST, "totp", json!({"password": PASSWORD})),
        (Method::POST, "totp/confirm", json!({"code": "123456"})),
    ]
}

async fn knock(caller: &Caller) {
    for (method, path, body) in doors() {
        let path = format!("/api/v1/auth/{path}");
        refused(&caller.send(method, &path, Some(body)).await, &path);
    }
}

async fn a_password_alone_changes_no_account_that_has_a_passkey(database: Database) {
    let app = world(database).await;
    let mut key = register(&app.admin).await;
    require(&app, "acme").await;
    let attacker = by_password(&app).await;
    knock(&attacker).await;
    let passkeys = "/api/v1/auth/passkeys";
    let proof = || json!({"password": PASSWORD});
    let options = format!("{passkeys}/options");
    refused(&attacker.post(&options, proof()).await, &options);
    let own = app.admin.get(passkeys).await.expect(200)["data"][0].clone();
    let own = format!("{passkeys}/{}", own["id"].as_str().unwrap());
    let removed = attacker.post(&format!("{own}/remove"), proof()).await;
    refused(&removed, "removing");
    let renamed = attacker.patch(&own, json!({"name": "Mine"})).await;
    refused(&renamed, "renaming");
    for path in ["totp/disable", "totp/recovery-codes"] {
        let body = json!({"password": PASSWORD, "code": "123456"});
        let path = format!("/api/v1/auth/{path}");
        let reply = attacker.post(&path, body).await;
        assert_eq!(reply.problem(), (409, "no_second_factor".into()));
    }
    let moved = json!({"tenant": "acme"});
    let moved = attacker.post("/api/v1/auth/tenant", moved).await;
    refused(&moved, "moving");

    // The other tenant asks for the owner's passkey still, and offers nothing else.
    let waiting = login_to(&app, "acme").await.json();
    assert_eq!(
        (&waiting["mfa_enrolled"], &waiting["mfa_passkey"]),
        (&json!(true), &json!(true))
    );
    let body = json!({"mfa_token": waiting["mfa_token"]});
    let enroll = app.anonymous().post("/api/v1/auth/mfa/enroll", body).await;
    assert_eq!(enroll.problem(), (409, "second_factor_exists".into()));

    // The owner, by the passkey, does all of it, in any tenant.
    let asked = ask(&app).await;
    let credential = key.sign(&asked["public_key"], &Manner::default());
    let session = answer(&app, &asked, &credential, json!("globex"))
        .await
        .expect(200);
    let ada = app.with_token(session["access_token"].as_str());
    register(&ada).await;
    let begun = ada.post("/api/v1/auth/totp", proof()).await.expect(200);
    let code = Device::new(&begun["secret"]).code(&app);
    let path = "/api/v1/auth/totp/confirm";
    ada.post(path, json!({"code": code})).await.expect(200);
    app.close().await;
}

async fn a_password_alone_finishes_nothing_that_it_began_before_there_was_a_factor(
    database: Database,
) {
    let app = world(database).await;
    let attacker = by_password(&app).await;
    let begun = begin(&attacker).await;
    let (_, credential) = Key::create(&begun["public_key"], &Manner::default());
    let secret = attacker.post("/api/v1/auth/totp", json!({"password": PASSWORD}));
    let device = Device::new(&secret.await.expect(200)["secret"]);
    register(&app.admin).await;
    refused(
        &finish(&attacker, &begun, credential).await,
        "the device of somebody else",
    );
    let body = json!({"code": device.code(&app)});
    let confirmed = attacker.post("/api/v1/auth/totp/confirm", body).await;
    refused(&confirmed, "the codes of somebody else");
    let own = app.admin.get("/api/v1/auth/passkeys").await.expect(200);
    assert_eq!(own["data"].as_array().unwrap().len(), 1);
    app.close().await;
}

async fn codes_set_up_at_a_login_before_there_was_a_passkey_finish_nothing(database: Database) {
    let app = world(database).await;
    require(&app, "acme").await;
    let waiting = login_to(&app, "acme").await.json();
    let body = json!({"mfa_token": waiting["mfa_token"]});
    let enroll = app.anonymous().post("/api/v1/auth/mfa/enroll", body).await;
    let device = Device::new(&enroll.expect(200)["secret"]);
    register(&by_password(&app).await).await;
    let body = json!({"mfa_token": waiting["mfa_token"], "code": device.code(&app)});
    let reply = app.anonymous().post("/api/v1/auth/mfa", body).await;
    assert_eq!(reply.status, 422, "{reply}");
    app.close().await;
}

async fn a_session_without_the_second_factor_changes_nothing_without_a_code(database: Database) {
    let (app, _) = start(database).await;
    let early = app.login(ADA).await;
    let begun = begin(&early).await;
    let (device, _) = set_up(&app, &app.admin).await;
    knock(&early).await;
    let (_, credential) = Key::create(&begun["public_key"], &Manner::default());
    refused(&finish(&early, &begun, credential).await, "a passkey");

    // With the code it goes on, and from then on the session has shown both.
    let body = json!({"password": PASSWORD, "code": device.code(&app)});
    let path = "/api/v1/auth/passkeys/options";
    let begun = early.post(path, body).await.expect(200);
    let (mut key, credential) = Key::create(&begun["public_key"], &Manner::default());
    finish(&early, &begun, credential).await.expect(201);
    let name = Some(json!({"username": "ada.the.first", "password": PASSWORD}));
    let path = "/api/v1/auth/username";
    let named = early.send(Method::PUT, path, name).await;
    assert!((200..300).contains(&named.status), "{named}");
    enter(&app, &mut key).await.expect(200);
    app.close().await;
}

async fn a_session_without_the_second_factor_links_no_identity(database: Database) {
    let (app, provider, _) = local_provider::start(database).await;
    let path = declare(&app.admin, &provider, json!({})).await;
    let early = app.login(ADA).await;
    app.clock.advance(TimeDelta::seconds(1));
    set_up(&app, &app.admin).await;
    refused(&link(&app, &early, &provider, &path).await, "linking");
    let linked = link(&app, &app.admin, &provider, &path).await.expect(201);
    let own = format!("/api/v1/auth/identities/{}", linked["id"].as_str().unwrap());
    refused(&early.delete(&own).await, "unlinking");
    app.admin.delete(&own).await.expect(204);
    app.close().await;
}

async fn a_session_that_passed_the_second_factor_has_after_a_new_password(database: Database) {
    let app = world(database).await;
    register(&app.admin).await;
    require(&app, "globex").await;
    let path = "/api/v1/auth/password/change";
    let body = json!({"current_password": PASSWORD, "password": "a new harpsichord"});
    let session = app.admin.post(path, body).await.expect(200);
    let ada = app.with_token(session["session"]["access_token"].as_str());
    let moved = ada.post("/api/v1/auth/tenant", json!({"tenant": "globex"}));
    moved.await.expect(200);
    app.close().await;
}

/// The token of a login that tells no tenant.
async fn untold(app: &App, tenant: Value) -> Value {
    let body = json!({"email": ADA, "password": PASSWORD, "tenant": tenant});
    let first = app.anonymous().post("/api/v1/auth/login", body).await;
    assert_eq!(first.problem(), (401, "second_factor_required".into()));
    assert!(!first.body.contains("globex"), "{first}");
    first.json()["mfa_token"].clone()
}

async fn second(app: &App, body: Value) -> Reply {
    app.anonymous().post("/api/v1/auth/mfa", body).await
}

#[track_caller]
fn asks_for(reply: &Reply, pointer: &str) {
    assert_eq!(reply.status, 422, "{reply}");
    assert_eq!(reply.json()["errors"][0]["pointer"], pointer, "{reply}");
    let told = reply.body.contains("acme, globex");
    assert_eq!(told, pointer == "/tenant", "{reply}");
}

async fn enters(app: &App, session: Reply, tenant: &str) {
    let session = session.expect(200);
    let caller = app.with_token(session["access_token"].as_str());
    let me = caller.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(me["tenant"]["name"], tenant);
}

async fn tenants_are_named_after_the_second_factor(database: Database) {
    let app = world(database).await;
    let (device, _) = set_up(&app, &app.admin).await;
    for named in [Value::Null, json!("nowhere")] {
        let token = untold(&app, named).await;
        let early = json!({"mfa_token": token, "tenant": "globex"});
        asks_for(&second(&app, early).await, "/code");
        let wrong = json!({"mfa_token": token, "code": "000", "tenant": "nowhere"});
        asks_for(&second(&app, wrong).await, "/code");
        let passed = json!({"mfa_token": token, "code": device.code(&app)});
        asks_for(&second(&app, passed).await, "/tenant");
        let foreign = json!({"mfa_token": token, "tenant": "nowhere"});
        asks_for(&second(&app, foreign).await, "/tenant");
        let chosen = json!({"mfa_token": token, "tenant": "globex"});
        enters(&app, second(&app, chosen.clone()).await, "globex").await;
        asks_for(&second(&app, chosen).await, "/mfa_token");
        app.clock.advance(TimeDelta::seconds(30));
    }
    let token = untold(&app, Value::Null).await;
    let at_once = json!({"mfa_token": token, "code": device.code(&app), "tenant": "acme"});
    enters(&app, second(&app, at_once).await, "acme").await;
    app.close().await;
}

async fn a_passkey_comes_before_the_names_of_tenants(database: Database) {
    let app = world(database).await;
    let mut key = register(&app.admin).await;
    let token = untold(&app, Value::Null).await;
    let passed = step(&app, &token, &mut key, &Manner::default()).await;
    asks_for(&passed, "/tenant");
    let chosen = json!({"mfa_token": token, "tenant": "globex"});
    enters(&app, second(&app, chosen).await, "globex").await;
    app.close().await;
}

async fn a_factor_set_up_at_the_login_comes_before_the_names_of_tenants(database: Database) {
    let app = world(database).await;
    require(&app, "acme").await;
    let token = untold(&app, Value::Null).await;
    let body = json!({"mfa_token": token});
    let begun = app.anonymous().post("/api/v1/auth/mfa/enroll", body).await;
    let begun = begun.expect(200);
    let uri = begun["uri"].as_str().unwrap();
    assert!(uri.starts_with("otpauth://totp/Acme%20CRM:ada@"), "{uri}");
    let code = Device::new(&begun["secret"]).code(&app);
    let passed = json!({"mfa_token": token, "code": code});
    asks_for(&second(&app, passed).await, "/tenant");
    let chosen = json!({"mfa_token": token, "tenant": "acme"});
    enters(&app, second(&app, chosen).await, "acme").await;
    app.close().await;
}

/// Where a session of Ada's gets in that names this tenant.
async fn named(app: &App, session: &Value, tenant: &str) -> u16 {
    let caller = app.with_token(session["access_token"].as_str());
    let request = caller.request(Method::GET, "/api/v1/auth/me");
    caller
        .finish(request.header("X-Tenant", tenant))
        .await
        .status
}

async fn a_roaming_login_is_one_behind_its_second_step_too(database: Database) {
    let (app, _) = start(database).await;
    let hank = app.foreign_admin().await;
    let globex = tenant_of(&hank).await;
    join(&app, &globex, ADA).await.unwrap();
    require(&app, "globex").await;
    let mut key = register(&app.admin).await;
    let waits = async |tenant: Value, roaming: bool| {
        let body = json!({"email": ADA, "password": PASSWORD, "tenant": tenant,
            "roaming": roaming});
        let first = app.anonymous().post("/api/v1/auth/login", body).await;
        assert_eq!(first.problem(), (401, "second_factor_required".into()));
        first.json()["mfa_token"].clone()
    };
    let manner = Manner::default();

    let token = waits(json!("acme"), true).await;
    let session = step(&app, &token, &mut key, &manner).await.expect(200);
    assert_eq!(named(&app, &session, &globex).await, 200);
    let refresh = json!({"refresh_token": session["refresh_token"]});
    let refreshed = app.anonymous().post("/api/v1/auth/refresh", refresh).await;
    assert_eq!(named(&app, &refreshed.expect(200), &globex).await, 200);

    // The tenant is chosen after the factor.
    let token = waits(json!("nowhere"), true).await;
    asks_for(&step(&app, &token, &mut key, &manner).await, "/tenant");
    let chosen = json!({"mfa_token": token, "tenant": "acme"});
    let session = second(&app, chosen).await.expect(200);
    assert_eq!(named(&app, &session, &globex).await, 200);

    // By a code.
    let ada = app.with_token(session["access_token"].as_str());
    let (device, _): (Device, _) = set_up(&app, &ada).await;
    let token = waits(Value::Null, true).await;
    let body = json!({"mfa_token": token, "code": device.code(&app)});
    let session = second(&app, body).await.expect(200);
    assert_eq!(named(&app, &session, &globex).await, 200);

    // Whoever did not ask gets one tenant.
    app.clock.advance(TimeDelta::seconds(30));
    let token = waits(json!("acme"), false).await;
    let body = json!({"mfa_token": token, "code": device.code(&app)});
    let session = second(&app, body).await.expect(200);
    assert_eq!(named(&app, &session, &globex).await, 401);
    app.close().await;
}
