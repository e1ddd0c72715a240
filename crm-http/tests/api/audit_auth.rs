//! The audit log of what happens to accounts and at their doors: every act that the library's
//! source names is played here, and leaves its entry.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use chrono::TimeDelta;
use crm_core::egress::Egress;
use crm_core::id::TenantId;
use crm_core::identity::RegistrationPolicy;
use crm_core::mail::MailOptions;
use crm_core::platform::PLATFORM;
use crm_core::{AuditQuery, Read};
use reqwest::Method;
use serde_json::{Value, json};

use crate::account::Mailbox;
use crate::app::{App, Caller, Database, PASSWORD};
use crate::attacks::{join, tenant_of};
use crate::authenticator::{Manner, ORIGIN};
use crate::local_provider::{LocalProvider, declare, link, login as login_by_provider, request};
use crate::passkey::{answer, ask, enter, owner, register, relying_party};
use crate::second_factor::set_up;

crate::on_both_databases! {
    every_act_of_an_account_leaves_an_entry
    asvs_16_3_1_a_passkey_without_a_challenge_is_told_of
    asvs_16_3_1_a_wrong_code_in_a_session_is_told_of
    asvs_16_3_1_a_wrong_password_at_an_invitation_is_told_of
}

/// Each act: who is told to have done it, about what, and whether the entry says which one.
const ACTS: &[(&str, &str, &str, bool)] = &[
    ("auth.confirmation_failed", "user", "users", true),
    ("auth.email_change_requested", "user", "users", true),
    ("auth.email_changed", "user", "users", true),
    ("auth.email_verified", "user", "users", true),
    ("auth.identity_linked", "user", "users", true),
    (
        "auth.identity_refused",
        "anonymous",
        "identity_providers",
        true,
    ),
    ("auth.identity_unlinked", "user", "users", true),
    ("auth.impersonation_end", "user", "sessions", true),
    ("auth.impersonation_start", "user", "users", true),
    ("auth.locked", "user", "users", true),
    ("auth.login", "user", "users", true),
    ("auth.login_failed", "anonymous", "users", false),
    ("auth.login_failed", "user", "users", true),
    ("auth.logout", "user", "users", true),
    ("auth.logout_everywhere", "user", "users", true),
    ("auth.operator_token", "operator", "users", true),
    ("auth.passkey_copied", "user", "users", true),
    ("auth.passkey_registered", "user", "users", true),
    ("auth.passkey_removed", "user", "users", true),
    ("auth.passkey_renamed", "user", "users", true),
    ("auth.password_changed", "user", "users", true),
    ("auth.password_reset", "user", "users", true),
    ("auth.password_reset_failed", "anonymous", "users", false),
    ("auth.password_reset_failed", "user", "users", true),
    ("auth.password_reset_requested", "user", "users", true),
    ("auth.recovery_codes_renewed", "user", "users", true),
    ("auth.refresh_reuse", "user", "users", true),
    ("auth.register", "user", "users", true),
    ("auth.registration_requested", "anonymous", "users", false),
    ("auth.second_factor_failed", "user", "users", true),
    ("auth.session_end", "user", "sessions", true),
    ("auth.switch_tenant", "user", "sessions", true),
    ("auth.totp_disabled", "user", "users", true),
    ("auth.totp_enabled", "user", "users", true),
    ("auth.totp_reset", "user", "users", true),
    ("auth.username_changed", "user", "users", true),
];

async fn start(database: Database) -> (App, LocalProvider, Arc<Mailbox>) {
    let egress = Egress::builder().allow("127.0.0.1").unwrap();
    let egress = egress.build().unwrap();
    let mailbox = Arc::new(Mailbox::default());
    let options = MailOptions {
        mailer: Some(mailbox.clone()),
        public_url: ORIGIN.into(),
    };
    let more = |builder: crm_core::Builder| {
        let builder = builder.egress(egress).mail(options);
        let builder = builder.passkeys(relying_party());
        builder.registration(RegistrationPolicy::Verified)
    };
    let app = App::with(database, more).await;
    let provider = LocalProvider::start(app.crm.clock()).await;
    (app, provider, mailbox)
}

/// The entries of accounts in a tenant's log.
async fn entries(app: &App, tenant: TenantId) -> Vec<Value> {
    // Failed logins are told of behind the answer; sending mails waits for that.
    app.crm.send_mails_once().await.unwrap();
    let permit = app.crm.operator(tenant, request());
    let permit = permit.permit::<Read>("audit").unwrap();
    let audit = app.crm.audit();
    let mut file = audit.export(&permit, AuditQuery::default()).unwrap();
    let mut text = String::new();
    while let Some(piece) = file.next().await.unwrap() {
        text.push_str(&piece);
    }
    let entries = text.lines().map(|line| serde_json::from_str(line).unwrap());
    entries
        .filter(|entry: &Value| entry["action"].as_str().unwrap().starts_with("auth."))
        .collect()
}

/// The actions that the source of the library names.
fn named() -> BTreeSet<String> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../crm-core/src")];
    let mut named = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let source = std::fs::read_to_string(path).unwrap();
                let parts = source.split("\"auth.").skip(1);
                let names = parts.map(|part| part.split('"').next().unwrap());
                named.extend(names.map(|name| format!("auth.{name}")));
            }
        }
    }
    named
}

async fn every_act_of_an_account_leaves_an_entry(database: Database) {
    let told: BTreeSet<_> = ACTS.iter().map(|act| act.0.to_owned()).collect();
    assert_eq!(named(), told, "an act without a row, or a row without one");

    let (app, provider, mailbox) = start(database).await;
    let acme = TenantId(tenant_of(&app.admin).await.parse().unwrap());
    account(&app, &mailbox).await;
    sessions(&app, &mailbox).await;
    second_factor(&app).await;
    passkeys(&app).await;
    identities(&app, &provider).await;
    strangers(&app).await;
    app.member("lou", "viewer").await;
    let (_, begun) = crate::impersonation::acting(&app, "lou@acme.example").await;
    let path = format!("/api/v1/impersonations/{}", begun["id"].as_str().unwrap());
    app.admin.delete(&path).await.expect(204);
    let accounts = app.crm.accounts();
    let token = accounts.operator_token("acme", "lou@acme.example", request());
    token.await.unwrap();
    locked(&app).await;
    // A link of an hour ago is known still, and whose it was.
    forget(&app, "bob@new.example").await;
    let late = mailbox.token(&app, "bob@new.example").await;
    app.clock.advance(TimeDelta::hours(1));
    assert_eq!(reset(&app, &late).await, 422);

    let mut log = entries(&app, acme).await;
    log.extend(entries(&app, PLATFORM).await);
    let mut seen = BTreeSet::new();
    for entry in &log {
        let text = |name: &str| entry[name].as_str().unwrap();
        assert!(!text("request_id").is_empty(), "{entry}");
        let (kind, id) = text("actor").split_once(':').unwrap_or((text("actor"), ""));
        if kind == "user" && text("entity") == "users" && !text("action").contains("impersonation")
        {
            assert_eq!(entry["entity_id"], id, "it is their own: {entry}");
        }
        let known = entry["entity_id"].is_string();
        seen.insert((text("action"), kind, text("entity"), known));
    }
    assert_eq!(seen, ACTS.iter().copied().collect());
    app.close().await;
}

async fn forget(app: &App, email: &str) {
    let path = "/api/v1/auth/password/forgot";
    let asked = app.anonymous().post(path, json!({"email": email})).await;
    asked.expect(204);
}

async fn reset(app: &App, token: &str) -> u16 {
    let body = json!({"token": token, "password": "another harpsichord"});
    let path = "/api/v1/auth/password/reset";
    app.anonymous().post(path, body).await.status
}

async fn verify(app: &App, mailbox: &Mailbox, caller: &Caller, email: &str) {
    let body = json!({"token": mailbox.token(app, email).await});
    let path = "/api/v1/auth/email/verify";
    caller.post(path, body).await.expect(204);
}

async fn prove(app: &App, mailbox: &Mailbox, caller: &Caller, email: &str) {
    let path = "/api/v1/auth/email/verification";
    caller.post(path, json!({})).await.expect(204);
    verify(app, mailbox, caller, email).await;
}

/// Addresses, names and passwords.
async fn account(app: &App, mailbox: &Mailbox) {
    let bob = app.member("bob", "viewer").await;
    prove(app, mailbox, &bob, "bob@acme.example").await;
    let change = json!({"email": "bob@new.example", "password": PASSWORD});
    let asked = bob.post("/api/v1/auth/email/change", change).await;
    assert!(asked.status < 300, "{asked}");
    verify(app, mailbox, &bob, "bob@new.example").await;
    let name = Some(json!({"username": "bob.one", "password": PASSWORD}));
    let path = "/api/v1/auth/username";
    bob.send(Method::PUT, path, name).await.expect(204);

    let new = "a new harpsichord";
    let change = |current: &str| json!({"current_password": current, "password": new});
    let path = "/api/v1/auth/password/change";
    let wrong = bob.post(path, change("not the password")).await;
    assert_eq!(wrong.status, 422, "{wrong}");
    let changed = bob.post(path, change(PASSWORD)).await.expect(200);
    let bob = app.with_token(changed["session"]["access_token"].as_str());
    let everywhere = bob.post("/api/v1/auth/logout-everywhere", json!({})).await;
    everywhere.expect(204);

    forget(app, "bob@new.example").await;
    let token = mailbox.token(app, "bob@new.example").await;
    assert_eq!(reset(app, &token).await, 200);
    assert_eq!(reset(app, &token).await, 422, "nobody knows whose it was");
    app.clock.advance(TimeDelta::seconds(61));
}

/// Refreshing, logging out, and moving to another tenant.
async fn sessions(app: &App, mailbox: &Mailbox) {
    let dan = app.member("dan", "viewer").await;
    prove(app, mailbox, &dan, "dan@acme.example").await;
    let post = async |path: &str, body: Value| {
        let path = format!("/api/v1/auth/{path}");
        app.anonymous().post(&path, body).await
    };
    let login = async || {
        let body = json!({"email": "dan@acme.example", "password": PASSWORD});
        post("login", body).await.expect(200)
    };
    let first = login().await;
    let token = |session: &Value| json!({"refresh_token": session["refresh_token"]});
    let second = post("refresh", token(&first)).await.expect(200);
    post("refresh", token(&second)).await.expect(200);
    let reused = post("refresh", token(&first)).await;
    assert_eq!(reused.problem(), (401, "token_reused".into()));
    post("logout", token(&login().await)).await.expect(204);
    login().await;
    let others = "/api/v1/auth/sessions?except_current=true";
    dan.delete(others).await.expect(204);

    let hank = app.foreign_admin().await;
    let globex = tenant_of(&hank).await;
    join(app, &globex, "dan@acme.example").await.unwrap();
    let mut dan = dan;
    for tenant in ["globex", "acme"] {
        let body = json!({"tenant": tenant});
        let moved = dan.post("/api/v1/auth/tenant", body).await.expect(200);
        dan = app.with_token(moved["access_token"].as_str());
    }
}

/// Time-based codes, and the codes that stand in for them.
async fn second_factor(app: &App) {
    let email = "fay@acme.example";
    let fay = app.member("fay", "viewer").await;
    let (device, _) = set_up(app, &fay).await;
    let body = json!({"email": email, "password": PASSWORD});
    let waiting = app.anonymous().post("/api/v1/auth/login", body).await;
    assert_eq!(waiting.problem(), (401, "second_factor_required".into()));
    let wrong = json!({"mfa_token": waiting.json()["mfa_token"], "code": "000"});
    let wrong = app.anonymous().post("/api/v1/auth/mfa", wrong).await;
    assert_eq!(wrong.status, 422, "{wrong}");
    for (path, status) in [("recovery-codes", 200), ("disable", 204)] {
        let proof = json!({"password": PASSWORD, "code": device.code(app)});
        let path = format!("/api/v1/auth/totp/{path}");
        fay.post(&path, proof).await.expect(status);
        app.clock.advance(TimeDelta::seconds(30));
    }
    set_up(app, &fay).await;
    let reset = app.crm.accounts();
    reset.reset_second_factor(email, request()).await.unwrap();
}

/// Passkeys, one of which was copied.
async fn passkeys(app: &App) {
    let kim = owner(app, "kim", "viewer").await;
    let mut key = register(&kim).await;
    enter(app, &mut key).await.expect(200);
    let asked = ask(app).await;
    let copied = Manner {
        step: 0,
        ..Manner::default()
    };
    let credential = key.sign(&asked["public_key"], &copied);
    let refused = answer(app, &asked, &credential, Value::Null).await;
    assert_eq!(refused.status, 401, "{refused}");
    let path = only_passkey(&kim).await;
    kim.patch(&path, json!({"name": "Key ring"}))
        .await
        .expect(200);
    let path = format!("{path}/remove");
    kim.post(&path, json!({"password": PASSWORD}))
        .await
        .expect(204);
}

async fn only_passkey(caller: &Caller) -> String {
    let list = caller.get("/api/v1/auth/passkeys").await.expect(200);
    let id = list["data"][0]["id"].as_str().unwrap();
    format!("/api/v1/auth/passkeys/{id}")
}

/// An identity at a provider: refused, linked, unlinked.
async fn identities(app: &App, provider: &LocalProvider) {
    let path = declare(&app.admin, provider, json!({})).await;
    let refused = login_by_provider(app, provider, &path).await;
    assert_eq!(refused.problem(), (401, "identity_not_linked".into()));
    let made = link(app, &app.admin, provider, &path).await.expect(201);
    let path = format!("/api/v1/auth/identities/{}", made["id"].as_str().unwrap());
    app.admin.delete(&path).await.expect(204);
}

/// Whoever is nobody here.
async fn strangers(app: &App) {
    let wrong = json!({"email": "nobody@nowhere.example", "password": PASSWORD});
    let wrong = app.anonymous().post("/api/v1/auth/login", wrong).await;
    assert_eq!(wrong.status, 401, "{wrong}");
    let eve = json!({"email": "eve@initech.example", "password": PASSWORD, "name": "Eve",
        "tenant": "initech"});
    let asked = app.anonymous().post("/api/v1/auth/register", eve).await;
    assert_eq!(asked.status, 202, "{asked}");
}

/// A member whose password somebody guesses.
async fn locked(app: &App) {
    app.member("gus", "viewer").await;
    for _ in 0..10 {
        app.clock.advance(TimeDelta::seconds(20));
        let wrong = json!({"email": "gus@acme.example", "password": "not the password"});
        let wrong = app.anonymous().post("/api/v1/auth/login", wrong).await;
        assert_eq!(wrong.status, 401, "{wrong}");
    }
}

async fn asvs_16_3_1_a_passkey_without_a_challenge_is_told_of(database: Database) {
    let (app, _, _) = start(database).await;
    let acme = TenantId(tenant_of(&app.admin).await.parse().unwrap());
    let kim = owner(&app, "kim", "viewer").await;
    let mut key = register(&kim).await;
    let asked = ask(&app).await;
    let known = key.sign(&asked["public_key"], &Manner::default());
    let opened = answer(&app, &asked, &known, Value::Null).await;
    opened.expect(200);
    let stranger = Manner {
        handle: Some(vec![7; 16]),
        ..Manner::default()
    };
    let unknown = key.sign(&asked["public_key"], &stranger);
    for credential in [&known, &unknown] {
        let spent = answer(&app, &asked, credential, Value::Null).await;
        assert_eq!(spent.problem(), (401, "passkey_refused".into()));
    }
    let failed = async |tenant| {
        let log = entries(&app, tenant).await.into_iter();
        let failed = log.filter(|entry| entry["action"] == "auth.login_failed");
        failed.collect::<Vec<_>>()
    };
    let (own, nobodys) = (failed(acme).await, failed(PLATFORM).await);
    assert_eq!((own.len(), nobodys.len()), (1, 1));
    let me = kim.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(own[0]["entity_id"], me["user"]["id"]);
    assert_eq!(nobodys[0]["actor"], "anonymous");
    app.close().await;
}

/// How many wrong passwords and codes of sessions and invitations a tenant was told of.
async fn unconfirmed(app: &App, tenant: TenantId) -> usize {
    let log = entries(app, tenant).await.into_iter();
    let failed = log.filter(|entry| entry["action"] == "auth.confirmation_failed");
    failed.count()
}

async fn asvs_16_3_1_a_wrong_code_in_a_session_is_told_of(database: Database) {
    let (app, _, _) = start(database).await;
    let acme = TenantId(tenant_of(&app.admin).await.parse().unwrap());
    let fay = app.member("fay", "viewer").await;
    let refused = async |path: &str, body: Value| {
        let refused = fay.post(&format!("/api/v1/auth/{path}"), body).await;
        assert_eq!(refused.status, 422, "{refused}");
        unconfirmed(&app, acme).await
    };
    let begin = json!({"password": PASSWORD});
    fay.post("/api/v1/auth/totp", begin).await.expect(200);
    assert_eq!(refused("totp/confirm", json!({"code": "000"})).await, 1);
    set_up(&app, &fay).await;
    let proof = json!({"password": PASSWORD, "code": "000"});
    assert_eq!(refused("totp/disable", proof.clone()).await, 2);
    assert_eq!(refused("totp/recovery-codes", proof).await, 3);
    let switch = json!({"tenant": "acme", "code": "000"});
    assert_eq!(refused("tenant", switch).await, 4);
    app.close().await;
}

async fn asvs_16_3_1_a_wrong_password_at_an_invitation_is_told_of(database: Database) {
    let (app, _, mailbox) = start(database).await;
    let hank = app.foreign_admin().await;
    let globex = TenantId(tenant_of(&hank).await.parse().unwrap());
    let email = "hank@globex.example";
    let invite = json!({"email": email, "name": "H", "roles": ["viewer"]});
    let invited = app.admin.post("/api/v1/invitations", invite).await;
    invited.expect(201);
    let token = mailbox.token(&app, email).await;
    let body = json!({"token": token, "password": "not the password"});
    let path = "/api/v1/auth/invitation/accept";
    let refused = app.anonymous().post(path, body).await;
    assert_eq!(refused.problem(), (401, "invalid_credentials".into()));
    assert_eq!(unconfirmed(&app, globex).await, 1);
    app.close().await;
}
