//! Passkeys as their users meet them: registering, logging in, losing.

use std::sync::Arc;

use crm_core::RequestContext;
use crm_core::identity::RelyingParty;
use crm_core::mail::{MailKind, MailOptions};
use reqwest::Method;
use serde_json::{Value, json};

use crate::account::Mailbox;
use crate::app::{App, Caller, Database, PASSWORD, Reply};
use crate::authenticator::{Key, Manner, ORIGIN, bytes};
use crate::second_factor::{Device, require, set_up};

const ADA: &str = "ada@acme.example";

crate::on_both_databases! {
    a_passkey_opens_a_session_without_a_name_or_a_password
    asvs_6_3_registering_needs_password_and_code_again
    a_passkey_is_renamed_and_removed_by_its_owner_alone
    a_passkey_takes_the_second_step_of_a_login
    a_passkey_is_both_factors_that_a_tenant_requires
    a_lock_after_wrong_passwords_keeps_no_passkey_out
    a_passkey_opens_the_tenants_of_its_owner_and_no_other
    passkeys_outlive_a_new_password_and_what_waits_for_them_does_not
    while_somebody_else_set_the_password_there_is_no_passkey
    factors_of_whoever_made_the_account_go_with_its_first_reset
    the_operator_takes_lost_passkeys_away
    where_the_operator_names_no_application_there_are_no_passkeys
    programs_have_no_passkeys
    a_user_has_twenty_passkeys_at_most
}

pub(crate) fn relying_party() -> RelyingParty {
    RelyingParty::new(ORIGIN).name("Acme CRM")
}

pub(crate) async fn start(database: Database) -> (App, Arc<Mailbox>) {
    let mailbox = Arc::new(Mailbox::default());
    let options = MailOptions {
        mailer: Some(mailbox.clone()),
        public_url: ORIGIN.into(),
    };
    let more = |builder: crm_core::Builder| builder.mail(options).passkeys(relying_party());
    (App::with(database, more).await, mailbox)
}

/// The options and token of a registration.
pub(crate) async fn begin(caller: &Caller) -> Value {
    let body = json!({"password": PASSWORD});
    let path = "/api/v1/auth/passkeys/options";
    caller.post(path, body).await.expect(200)
}

pub(crate) async fn finish(caller: &Caller, begun: &Value, credential: Value) -> Reply {
    let body = json!({"passkey_token": begun["passkey_token"], "name": "Phone",
        "credential": credential});
    caller.post("/api/v1/auth/passkeys", body).await
}

/// Registers a new passkey.
pub(crate) async fn register(caller: &Caller) -> Key {
    let begun = begin(caller).await;
    let (key, credential) = Key::create(&begun["public_key"], &Manner::default());
    finish(caller, &begun, credential).await.expect(201);
    key
}

/// The options and token of a login.
pub(crate) async fn ask(app: &App) -> Value {
    let path = "/api/v1/auth/passkeys/login/options";
    let request = app.anonymous().request(Method::POST, path);
    app.anonymous().finish(request).await.expect(200)
}

pub(crate) async fn answer(app: &App, asked: &Value, credential: &Value, tenant: Value) -> Reply {
    let body = json!({"passkey_token": asked["passkey_token"], "credential": credential,
        "tenant": tenant});
    app.anonymous()
        .post("/api/v1/auth/passkeys/login", body)
        .await
}

/// Logs in with a passkey.
pub(crate) async fn enter(app: &App, key: &mut Key) -> Reply {
    let asked = ask(app).await;
    let credential = key.sign(&asked["public_key"], &Manner::default());
    answer(app, &asked, &credential, Value::Null).await
}

pub(crate) async fn login(app: &App, password: &str) -> Reply {
    let body = json!({"email": ADA, "password": password});
    app.anonymous().post("/api/v1/auth/login", body).await
}

async fn list(caller: &Caller) -> Vec<Value> {
    let list = caller.get("/api/v1/auth/passkeys").await.expect(200);
    list["data"].as_array().unwrap().clone()
}

async fn remove(caller: &Caller, id: &Value, body: Value) -> Reply {
    let id = id.as_str().unwrap();
    let path = format!("/api/v1/auth/passkeys/{id}/remove");
    caller.post(&path, body).await
}

#[track_caller]
fn refused(reply: &Reply) -> (String, String) {
    assert_eq!(reply.status, 422, "{reply}");
    let error = &reply.json()["errors"][0];
    let text = |key: &str| error[key].as_str().unwrap().to_owned();
    (text("pointer"), text("code"))
}

/// The actions of the audit log, the latest first.
pub(crate) async fn audited(caller: &Caller) -> Vec<String> {
    let log = caller.get("/api/v1/audit?limit=100").await.expect(200);
    let rows = log["data"].as_array().unwrap().iter();
    rows.map(|row| row["action"].as_str().unwrap().to_owned())
        .collect()
}

async fn a_passkey_opens_a_session_without_a_name_or_a_password(database: Database) {
    let (app, mailbox) = start(database).await;
    let begun = begin(&app.admin).await;
    let options = &begun["public_key"];
    assert_eq!(
        options["rp"],
        json!({"id": "crm.example", "name": "Acme CRM"})
    );
    assert_eq!(options["authenticatorSelection"]["residentKey"], "required");
    assert_eq!(
        options["authenticatorSelection"]["userVerification"],
        "required"
    );
    let me = app.admin.get("/api/v1/auth/me").await.expect(200);
    let id: uuid::Uuid = me["user"]["id"].as_str().unwrap().parse().unwrap();
    let handle = bytes(&options["user"]["id"]);
    assert!(
        handle.len() == 16 && handle != id.as_bytes(),
        "the handle is random"
    );
    let (mut key, credential) = Key::create(options, &Manner::default());
    let made = finish(&app.admin, &begun, credential).await.expect(201);
    assert_eq!(made["last_used_at"], Value::Null);
    let told = mailbox.latest(&app, ADA).await.unwrap();
    assert_eq!(told.kind, MailKind::PasskeysChanged);

    let asked = ask(&app).await;
    assert_eq!(asked["public_key"]["allowCredentials"], json!([]));
    let credential = key.sign(&asked["public_key"], &Manner::default());
    let session = answer(&app, &asked, &credential, Value::Null)
        .await
        .expect(200);
    let ada = app.with_token(session["access_token"].as_str());
    assert_eq!(ada.get("/api/v1/contacts").await.status, 200);
    let again = begin(&app.admin).await;
    assert_eq!(
        again["public_key"]["user"]["id"],
        begun["public_key"]["user"]["id"]
    );
    let known = again["public_key"]["excludeCredentials"]
        .as_array()
        .unwrap();
    assert_eq!(known.len(), 1);
    let listed = list(&ada).await;
    assert_eq!(
        (&listed[0]["id"], &listed[0]["name"]),
        (&made["id"], &json!("Phone"))
    );
    assert!(listed[0]["last_used_at"].is_string());
    let log = audited(&ada).await;
    assert_eq!(log[..2], ["auth.login", "auth.passkey_registered"]);
    app.close().await;
}

async fn asvs_6_3_registering_needs_password_and_code_again(database: Database) {
    let (app, _) = start(database).await;
    let path = "/api/v1/auth/passkeys/options";
    for (body, code) in [
        (json!({}), "required"),
        (json!({"password": "not the password"}), "wrong_password"),
    ] {
        let reply = app.admin.post(path, body).await;
        assert_eq!(refused(&reply), ("/password".into(), code.into()));
    }
    let (device, _): (Device, _) = set_up(&app, &app.admin).await;
    let without = app.admin.post(path, json!({"password": PASSWORD})).await;
    assert_eq!(refused(&without), ("/code".into(), "required".into()));
    let wrong = json!({"password": PASSWORD, "code": "000"});
    let wrong = app.admin.post(path, wrong).await;
    assert_eq!(refused(&wrong), ("/code".into(), "wrong_code".into()));
    let code = device.code(&app);
    let body = json!({"password": PASSWORD, "code": code});
    let begun = app.admin.post(path, body.clone()).await.expect(200);
    let spent = app.admin.post(path, body).await;
    assert_eq!(refused(&spent).0, "/code");
    let (_, credential) = Key::create(&begun["public_key"], &Manner::default());
    let made = finish(&app.admin, &begun, credential).await.expect(201);
    let without = json!({"password": PASSWORD});
    let reply = remove(&app.admin, &made["id"], without).await;
    assert_eq!(refused(&reply), ("/code".into(), "required".into()));
    app.clock.advance(chrono::TimeDelta::seconds(30));
    let proof = json!({"password": PASSWORD, "code": device.code(&app)});
    remove(&app.admin, &made["id"], proof).await.expect(204);
    app.close().await;
}

async fn a_passkey_is_renamed_and_removed_by_its_owner_alone(database: Database) {
    let (app, _) = start(database).await;
    let mut key = register(&app.admin).await;
    let id = list(&app.admin).await[0]["id"].clone();
    let path = format!("/api/v1/auth/passkeys/{}", id.as_str().unwrap());
    let bob = app.member("bob", "admin").await;
    let name = json!({"name": "Mine now"});
    assert_eq!(bob.patch(&path, name.clone()).await.status, 404);
    let proof = json!({"password": PASSWORD});
    assert_eq!(remove(&bob, &id, proof.clone()).await.status, 404);
    assert!(list(&bob).await.is_empty());
    let renamed = app.admin.patch(&path, json!({"name": " Key ring "})).await;
    assert_eq!(renamed.expect(200)["name"], "Key ring");
    let blank = app.admin.patch(&path, json!({"name": " "})).await;
    assert_eq!(refused(&blank), ("/name".into(), "required".into()));
    let wrong = remove(&app.admin, &id, json!({"password": "wrong"})).await;
    assert_eq!(refused(&wrong).0, "/password");
    remove(&app.admin, &id, proof.clone()).await.expect(204);
    assert_eq!(remove(&app.admin, &id, proof).await.status, 404);
    let gone = enter(&app, &mut key).await;
    assert_eq!(gone.problem(), (401, "passkey_refused".into()));
    app.close().await;
}

/// The second step of a login, by a passkey.
pub(crate) async fn step(app: &App, mfa_token: &Value, key: &mut Key, manner: &Manner) -> Reply {
    let body = json!({"mfa_token": mfa_token});
    let path = "/api/v1/auth/mfa/passkey/options";
    let asked = app.anonymous().post(path, body).await.expect(200);
    let credential = key.sign(&asked["public_key"], manner);
    let body = json!({"mfa_token": mfa_token, "passkey_token": asked["passkey_token"],
        "credential": credential});
    app.anonymous().post("/api/v1/auth/mfa/passkey", body).await
}

async fn a_passkey_takes_the_second_step_of_a_login(database: Database) {
    let (app, _) = start(database).await;
    let mut key = register(&app.admin).await;
    login(&app, PASSWORD).await.expect(200);
    let bob = owner(&app, "bob", "admin").await;
    let mut foreign = register(&bob).await;
    let path = "/api/v1/auth/totp";
    let begun = app.admin.post(path, json!({"password": PASSWORD})).await;
    let device = Device::new(&begun.expect(200)["secret"]);
    let body = json!({"code": device.code(&app)});
    app.admin
        .post("/api/v1/auth/totp/confirm", body)
        .await
        .expect(200);

    let waiting = login(&app, PASSWORD).await;
    assert_eq!(waiting.problem(), (401, "second_factor_required".into()));
    let waiting = waiting.json();
    assert_eq!(
        (&waiting["mfa_enrolled"], &waiting["mfa_passkey"]),
        (&json!(true), &json!(true))
    );
    let token = &waiting["mfa_token"];
    let unseen = Manner {
        flags: crate::authenticator::PRESENT,
        ..Manner::default()
    };
    for (key, manner) in [(&mut foreign, Manner::default()), (&mut key, unseen)] {
        let wrong = step(&app, token, key, &manner).await;
        assert_eq!(
            refused(&wrong),
            ("/credential".into(), "passkey_refused".into())
        );
    }
    let session = step(&app, token, &mut key, &Manner::default())
        .await
        .expect(200);
    let ada = app.with_token(session["access_token"].as_str());
    assert_eq!(ada.get("/api/v1/contacts").await.status, 200);
    let body = json!({"mfa_token": token});
    let over = app
        .anonymous()
        .post("/api/v1/auth/mfa/passkey/options", body)
        .await;
    assert_eq!(refused(&over).0, "/mfa_token");
    let log = audited(&ada).await;
    let failures = log
        .iter()
        .filter(|action| *action == "auth.second_factor_failed");
    assert_eq!(failures.count(), 2);
    app.close().await;
}

async fn a_passkey_is_both_factors_that_a_tenant_requires(database: Database) {
    let (app, _) = start(database).await;
    let hank = app.foreign_admin().await;
    crate::attacks::join(&app, &crate::attacks::tenant_of(&hank).await, ADA)
        .await
        .unwrap();
    let mut key = register(&app.admin).await;
    require(&app, "acme").await;
    require(&app, "globex").await;
    let asked = ask(&app).await;
    let credential = key.sign(&asked["public_key"], &Manner::default());
    let session = answer(&app, &asked, &credential, json!("acme"))
        .await
        .expect(200);
    let ada = app.with_token(session["access_token"].as_str());
    let moved = ada.post("/api/v1/auth/tenant", json!({"tenant": "globex"}));
    moved.await.expect(200);

    let body = json!({"email": ADA, "password": PASSWORD, "tenant": "acme"});
    let waiting = app
        .anonymous()
        .post("/api/v1/auth/login", body)
        .await
        .json();
    assert_eq!(
        (&waiting["mfa_enrolled"], &waiting["mfa_passkey"]),
        (&json!(true), &json!(true))
    );
    let session = step(&app, &waiting["mfa_token"], &mut key, &Manner::default()).await;
    let session = session.expect(200);
    let ada = app.with_token(session["access_token"].as_str());
    let moved = ada.post("/api/v1/auth/tenant", json!({"tenant": "globex"}));
    moved.await.expect(200);
    app.close().await;
}

async fn a_lock_after_wrong_passwords_keeps_no_passkey_out(database: Database) {
    let (app, _) = start(database).await;
    let mut key = register(&app.admin).await;
    while login(&app, "not the password").await.status != 429 {}
    assert_eq!(login(&app, PASSWORD).await.status, 429);
    enter(&app, &mut key).await.expect(200);
    assert_eq!(login(&app, PASSWORD).await.status, 429, "the lock stays");
    app.close().await;
}

async fn a_passkey_opens_the_tenants_of_its_owner_and_no_other(database: Database) {
    let (app, _) = start(database).await;
    let hank = app.foreign_admin().await;
    let mut key = register(&app.admin).await;
    let asked = ask(&app).await;
    let credential = key.sign(&asked["public_key"], &Manner::default());
    let foreign = answer(&app, &asked, &credential, json!("globex")).await;
    assert_eq!(refused(&foreign), ("/tenant".into(), "unknown".into()));
    assert!(!foreign.body.contains("globex"), "{foreign}");

    crate::attacks::join(&app, &crate::attacks::tenant_of(&hank).await, ADA)
        .await
        .unwrap();
    let unsaid = answer(&app, &asked, &credential, Value::Null).await;
    assert_eq!(refused(&unsaid), ("/tenant".into(), "required".into()));
    let session = answer(&app, &asked, &credential, json!("globex")).await;
    let ada = app.with_token(session.expect(200)["access_token"].as_str());
    let me = ada.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(me["tenant"]["name"], "globex");
    let again = answer(&app, &asked, &credential, json!("acme")).await;
    assert_eq!(again.problem(), (401, "passkey_refused".into()));

    let tenants = app.crm.tenants();
    for tenant in tenants.list().await.unwrap() {
        let request = RequestContext {
            id: "operator".into(),
            address: None,
        };
        tenants.suspend(tenant.id, request).await.unwrap();
    }
    let suspended = enter(&app, &mut key).await;
    assert_eq!(
        suspended.body, again.body,
        "a suspended tenant is no other answer"
    );
    app.close().await;
}

async fn passkeys_outlive_a_new_password_and_what_waits_for_them_does_not(database: Database) {
    let (app, mailbox) = start(database).await;
    let mut key = register(&app.admin).await;
    let begun = begin(&app.admin).await;
    let body = json!({"email": ADA});
    let path = "/api/v1/auth/password/forgot";
    app.anonymous().post(path, body).await.expect(204);
    let token = mailbox.token(&app, ADA).await;
    let body = json!({"token": token, "password": "a new harpsichord"});
    let path = "/api/v1/auth/password/reset";
    app.anonymous().post(path, body).await.expect(200);
    let session = enter(&app, &mut key).await.expect(200);
    let ada = app.with_token(session["access_token"].as_str());
    let (_, credential) = Key::create(&begun["public_key"], &Manner::default());
    let late = finish(&ada, &begun, credential).await;
    assert_eq!(
        refused(&late),
        ("/passkey_token".into(), "invalid_token".into())
    );
    let everywhere = ada.request(Method::POST, "/api/v1/auth/logout-everywhere");
    ada.finish(everywhere).await.expect(204);
    assert_eq!(ada.get("/api/v1/auth/me").await.status, 401);
    enter(&app, &mut key).await.expect(200);
    app.close().await;
}

/// Changes a password; the session goes on as another one.
async fn change_password(app: &App, caller: &Caller, [current, new]: [&str; 2]) -> Caller {
    let body = json!({"current_password": current, "password": new});
    let path = "/api/v1/auth/password/change";
    let changed = caller.post(path, body).await.expect(200);
    app.with_token(changed["session"]["access_token"].as_str())
}

/// A member whose password is one of their own.
pub(crate) async fn owner(app: &App, name: &str, role: &str) -> Caller {
    let member = app.member(name, role).await;
    let member = change_password(app, &member, [PASSWORD, "a new harpsichord"]).await;
    change_password(app, &member, ["a new harpsichord", PASSWORD]).await
}

/// Whoever made the account knows its first password, and could have a way in that outlives that.
async fn while_somebody_else_set_the_password_there_is_no_passkey(database: Database) {
    let (app, _) = start(database).await;
    let bob = app.member("bob", "viewer").await;
    let path = "/api/v1/auth/passkeys/options";
    let refused = bob.post(path, json!({"password": PASSWORD})).await;
    assert_eq!(refused.problem(), (403, "password_change_required".into()));
    let bob = change_password(&app, &bob, [PASSWORD, "a new harpsichord"]).await;
    let body = json!({"password": "a new harpsichord"});
    bob.post(path, body).await.expect(200);
    app.close().await;
}

async fn factors_of_whoever_made_the_account_go_with_its_first_reset(database: Database) {
    let (app, mailbox) = start(database).await;
    // The admin knows the first password of the account they made, and makes it theirs.
    let admin = owner(&app, "bob", "viewer").await;
    let mut key = register(&admin).await;
    set_up(&app, &admin).await;
    enter(&app, &mut key).await.expect(200);
    let body = json!({"email": "bob@acme.example"});
    let path = "/api/v1/auth/password/forgot";
    app.anonymous().post(path, body).await.expect(204);
    let token = mailbox.token(&app, "bob@acme.example").await;
    let body = json!({"token": token, "password": "another harpsichord"});
    let path = "/api/v1/auth/password/reset";
    app.anonymous().post(path, body).await.expect(200);
    let late = enter(&app, &mut key).await;
    assert_eq!(late.problem(), (401, "passkey_refused".into()));
    let body = json!({"email": "bob@acme.example", "password": "another harpsichord"});
    let path = "/api/v1/auth/login";
    app.anonymous().post(path, body).await.expect(200);
    app.close().await;
}

async fn the_operator_takes_lost_passkeys_away(database: Database) {
    let (app, _) = start(database).await;
    let mut key = register(&app.admin).await;
    let request = RequestContext {
        id: "operator".into(),
        address: None,
    };
    let accounts = app.crm.accounts();
    accounts.reset_second_factor(ADA, request).await.unwrap();
    assert!(list(&app.admin).await.is_empty());
    assert_eq!(enter(&app, &mut key).await.status, 401);
    app.close().await;
}

async fn where_the_operator_names_no_application_there_are_no_passkeys(database: Database) {
    let app = App::start(database).await;
    let proof = json!({"password": PASSWORD});
    let begun = app.admin.post("/api/v1/auth/passkeys/options", proof).await;
    let path = "/api/v1/auth/passkeys/login/options";
    let asked = app.anonymous().request(Method::POST, path);
    let asked = app.anonymous().finish(asked).await;
    for reply in [begun, asked] {
        assert_eq!(reply.problem(), (409, "passkeys_unavailable".into()));
    }
    app.close().await;
}

async fn programs_have_no_passkeys(database: Database) {
    let (app, _) = start(database).await;
    let program = app.program("admin").await;
    assert!(list(&program).await.is_empty());
    let proof = json!({"password": PASSWORD});
    let begun = program.post("/api/v1/auth/passkeys/options", proof).await;
    assert_eq!(begun.problem(), (409, "not_a_user".into()));
    app.close().await;
}

async fn a_user_has_twenty_passkeys_at_most(database: Database) {
    let (app, _) = start(database).await;
    let early = begin(&app.admin).await;
    for _ in 0..20 {
        register(&app.admin).await;
    }
    let body = json!({"password": PASSWORD});
    let more = app.admin.post("/api/v1/auth/passkeys/options", body).await;
    assert_eq!(more.problem(), (409, "too_many_passkeys".into()));
    let (_, credential) = Key::create(&early["public_key"], &Manner::default());
    let more = finish(&app.admin, &early, credential).await;
    assert_eq!(more.problem(), (409, "too_many_passkeys".into()));
    app.close().await;
}
