//! What `strict_authentication` changes, requirement by requirement of ASVS 5.

use std::sync::Arc;

use chrono::TimeDelta;
use crm_core::identity::NewInvitation;
use crm_core::mail::MailOptions;
use crm_core::platform::NewOperator;
use crm_core::{Builder, Create};
use reqwest::Method;
use serde_json::{Value, json};

use crate::account::Mailbox;
use crate::app::{App, Caller, Database, PASSWORD, Reply};
use crate::platform::request;
use crate::second_factor::{Device, enroll};

const BO: &str = "bo@acme.example";
const OPS: &str = "ops@crm.example";
const OWN: &str = "nine purple harpsichords";
const REQUIREMENTS: &str = "/api/v1/auth/requirements";

crate::on_both_databases! {
    asvs_6_3_3_everybody_needs_a_second_factor
    asvs_6_4_1_a_first_password_is_replaced_at_the_first_login
    asvs_6_4_1_a_first_password_dies_after_seven_days
    asvs_6_4_1_a_dead_first_password_accepts_no_invitation
    asvs_6_4_1_a_first_password_is_replaced_behind_the_second_factor
    asvs_6_5_5_a_code_is_good_in_its_own_30_seconds
    asvs_7_5_2_other_sessions_end_by_a_login_of_just_now
    unless_it_is_strict_a_login_takes_no_new_password
}

async fn start(database: Database) -> App {
    App::with(database, Builder::strict_authentication).await
}

async fn login(app: &App, email: &str, password: &str) -> Reply {
    let body = json!({"email": email, "password": password});
    app.anonymous().post("/api/v1/auth/login", body).await
}

/// A login that brings a new password.
async fn renew(app: &App, email: &str, password: &str, new: &str) -> Reply {
    let body = json!({"email": email, "password": password, "new_password": new});
    app.anonymous().post("/api/v1/auth/login", body).await
}

async fn make_bo(app: &App) {
    let body = json!({"email": BO, "name": "Bo", "password": PASSWORD, "roles": ["viewer"]});
    app.admin.post("/api/v1/members", body).await.expect(201);
}

/// Has the operator make another one.
async fn make_operator(app: &App) {
    let input = NewOperator {
        email: OPS.into(),
        name: "Olga".into(),
        permissions: vec!["tenants.read".into()],
        password: Some(PASSWORD.into()),
    };
    let operators = app.crm.operators();
    operators.create(input, request()).await.unwrap();
}

#[track_caller]
fn waits(reply: &Reply, enrolled: bool) -> Value {
    assert_eq!(reply.problem(), (401, "second_factor_required".into()));
    let body = reply.json();
    assert_eq!(body["mfa_enrolled"], enrolled);
    body
}

#[track_caller]
fn must_replace(reply: &Reply) {
    let required = (403, "password_change_required".to_owned());
    assert_eq!(reply.problem(), required, "{reply}");
}

#[track_caller]
fn wrong(reply: &Reply) {
    let wrong = (401, "invalid_credentials".to_owned());
    assert_eq!(reply.problem(), wrong, "{reply}");
}

#[track_caller]
fn refused(reply: &Reply) -> (String, String) {
    assert_eq!(reply.status, 422, "{reply}");
    let error = &reply.json()["errors"][0];
    let text = |name: &str| error[name].as_str().unwrap().to_owned();
    (text("pointer"), text("code"))
}

/// Bo's first login, with a password of their own and a new device.
async fn enter(app: &App) -> (Device, Caller) {
    let waiting = waits(&renew(app, BO, PASSWORD, OWN).await, false);
    assert!(waiting["password_score"].as_u64().unwrap() >= 3);
    let (device, session) = enroll(&app.crm, &app.anonymous(), &waiting).await;
    (device, app.with_token(session["access_token"].as_str()))
}

/// The second step of a login of Bo's, by a code of the step after the last one.
async fn enter_again(app: &App, device: &Device) -> Caller {
    app.clock.advance(TimeDelta::seconds(30));
    let waiting = waits(&login(app, BO, OWN).await, true);
    let session = finish(app, &waiting, &device.code(app)).await.expect(200);
    app.with_token(session["access_token"].as_str())
}

async fn finish(app: &App, waiting: &Value, code: &str) -> Reply {
    let body = json!({"mfa_token": waiting["mfa_token"], "code": code});
    app.anonymous().post("/api/v1/auth/mfa", body).await
}

async fn asvs_6_3_3_everybody_needs_a_second_factor(database: Database) {
    // The first user got their session behind one, which the caller of every test has set up.
    let app = start(database).await;
    app.admin.get("/api/v1/contacts").await.expect(200);
    let waiting = waits(&login(&app, "ada@acme.example", PASSWORD).await, true);
    assert_eq!(waiting["password_score"], Value::Null, "none was set");

    let asked = app.admin.get(REQUIREMENTS).await.expect(200);
    assert_eq!(asked["second_factor"], true);
    let strict = (409, "strict_authentication".to_owned());
    let off = Some(json!({"second_factor": false}));
    let off = app.admin.send(Method::PUT, REQUIREMENTS, off).await;
    assert_eq!(off.problem(), strict);
    let on = Some(json!({"second_factor": true}));
    let on = app.admin.send(Method::PUT, REQUIREMENTS, on).await;
    on.expect(200);

    make_bo(&app).await;
    let (_, bo) = enter(&app).await;
    bo.get("/api/v1/contacts").await.expect(200);
    waits(&login(&app, BO, OWN).await, true);

    let operators = app.crm.operators();
    let off = operators.require_second_factor(false, request()).await;
    assert_eq!(off.unwrap_err().code(), strict.1);
    make_operator(&app).await;
    waits(&renew(&app, OPS, PASSWORD, OWN).await, false);
    app.close().await;
}

async fn asvs_6_4_1_a_first_password_is_replaced_at_the_first_login(database: Database) {
    let app = start(database).await;
    make_bo(&app).await;
    must_replace(&login(&app, BO, PASSWORD).await);
    wrong(&login(&app, BO, OWN).await);
    wrong(&renew(&app, BO, "not the password", OWN).await);
    wrong(&renew(&app, "nobody@acme.example", PASSWORD, OWN).await);
    for new in ["short", "12345678", PASSWORD] {
        let reply = renew(&app, BO, PASSWORD, new).await;
        assert_eq!(refused(&reply).0, "/new_password", "{new}: {reply}");
    }
    let (device, bo) = enter(&app).await;
    bo.get("/api/v1/contacts").await.expect(200);
    wrong(&login(&app, BO, PASSWORD).await);
    let again = renew(&app, BO, OWN, "another harpsichord").await;
    assert_eq!(
        refused(&again),
        ("/new_password".into(), "not_needed".into())
    );
    enter_again(&app, &device).await;

    make_operator(&app).await;
    must_replace(&login(&app, OPS, PASSWORD).await);
    app.close().await;
}

async fn asvs_6_4_1_a_first_password_dies_after_seven_days(database: Database) {
    let app = start(database).await;
    make_bo(&app).await;
    app.clock
        .advance(TimeDelta::days(7) - TimeDelta::seconds(1));
    must_replace(&login(&app, BO, PASSWORD).await);
    app.clock.advance(TimeDelta::seconds(1));
    wrong(&login(&app, BO, PASSWORD).await);
    wrong(&renew(&app, BO, PASSWORD, OWN).await);
    app.close().await;
}

async fn asvs_6_4_1_a_dead_first_password_accepts_no_invitation(database: Database) {
    let mailbox = Arc::new(Mailbox::default());
    let mail = MailOptions {
        mailer: Some(mailbox.clone()),
        public_url: "https://crm.example/".into(),
    };
    let strict = |builder: Builder| builder.strict_authentication().mail(mail);
    let app = App::with(database, strict).await;
    make_bo(&app).await;
    app.clock.advance(TimeDelta::days(7));
    let tenant = app.crm.tenants().create("globex", request()).await.unwrap();
    let globex = app.crm.operator(tenant.id, request());
    let invitation = NewInvitation {
        email: BO.into(),
        name: "Bo".into(),
        roles: vec!["viewer".into()],
    };
    let permit = globex.permit::<Create>("members").unwrap();
    let made = app.crm.invitations().create(&permit, invitation).await;
    made.unwrap();
    let token = mailbox.token(&app, BO).await;
    let body = json!({"token": token, "password": PASSWORD});
    let path = "/api/v1/auth/invitation/accept";
    wrong(&app.anonymous().post(path, body).await);
    app.close().await;
}

async fn asvs_6_4_1_a_first_password_is_replaced_behind_the_second_factor(database: Database) {
    let app = start(database).await;
    make_bo(&app).await;
    // Nothing has changed before the second step, which may also be the next login's.
    let waiting = waits(&renew(&app, BO, PASSWORD, OWN).await, false);
    must_replace(&login(&app, BO, PASSWORD).await);
    wrong(&login(&app, BO, OWN).await);
    let later = waits(
        &renew(&app, BO, PASSWORD, "another harpsichord").await,
        false,
    );
    enroll(&app.crm, &app.anonymous(), &waiting).await;
    wrong(&login(&app, BO, "another harpsichord").await);
    waits(&login(&app, BO, OWN).await, true);
    // What else was begun with the old password is over.
    let late = finish(&app, &later, "000 000").await;
    assert_eq!(refused(&late).0, "/mfa_token");
    app.close().await;
}

async fn asvs_6_5_5_a_code_is_good_in_its_own_30_seconds(database: Database) {
    let app = start(database).await;
    make_bo(&app).await;
    let (device, _) = enter(&app).await;
    app.clock.advance(TimeDelta::seconds(30));
    let early = device.code(&app);
    app.clock.advance(TimeDelta::seconds(30));
    let waiting = waits(&login(&app, BO, OWN).await, true);
    let late = finish(&app, &waiting, &early).await;
    assert_eq!(refused(&late).0, "/code");
    let code = device.code(&app);
    finish(&app, &waiting, &code).await.expect(200);
    app.close().await;
}

async fn asvs_7_5_2_other_sessions_end_by_a_login_of_just_now(database: Database) {
    let app = start(database).await;
    make_bo(&app).await;
    let (device, first) = enter(&app).await;
    let second = enter_again(&app, &device).await;
    let sessions = "/api/v1/auth/sessions";
    let id = async |caller: &Caller, current: bool| {
        let list = caller.get(sessions).await.expect(200);
        let mut all = list["data"].as_array().unwrap().iter();
        let one = all.find(|one| one["current"] == current).unwrap();
        format!("{sessions}/{}", one["id"].as_str().unwrap())
    };
    let other = id(&second, false).await;
    app.clock.advance(TimeDelta::minutes(5));
    let others = "/api/v1/auth/sessions?except_current=true";
    let required = (403, "recent_login_required".to_owned());
    for path in [other.as_str(), others, sessions] {
        assert_eq!(second.delete(path).await.problem(), required, "{path}");
    }
    let everywhere = second.send(Method::POST, "/api/v1/auth/logout-everywhere", None);
    assert_eq!(everywhere.await.problem(), required);
    // Nor by the right to end those of all members.
    let me = app.admin.get("/api/v1/auth/me").await.expect(200);
    let ada = format!(
        "/api/v1/members/{}/sessions",
        me["user"]["id"].as_str().unwrap()
    );
    assert_eq!(app.admin.delete(&ada).await.problem(), required);
    first.get("/api/v1/auth/me").await.expect(200);
    // One's own ends at any time.
    let own = id(&second, true).await;
    second.delete(&own).await.expect(204);

    let third = enter_again(&app, &device).await;
    third.delete(&other).await.expect(204);
    assert_eq!(first.get("/api/v1/auth/me").await.status, 401);
    let fourth = enter_again(&app, &device).await;
    fourth.delete(others).await.expect(204);
    assert_eq!(third.get("/api/v1/auth/me").await.status, 401);
    fourth.delete(sessions).await.expect(204);
    assert_eq!(fourth.get("/api/v1/auth/me").await.status, 401);
    app.close().await;
}

async fn unless_it_is_strict_a_login_takes_no_new_password(database: Database) {
    let app = App::start(database).await;
    make_bo(&app).await;
    wrong(&renew(&app, BO, "not the password", OWN).await);
    let reply = renew(&app, BO, PASSWORD, OWN).await;
    assert_eq!(
        refused(&reply),
        ("/new_password".into(), "not_needed".into())
    );
    login(&app, BO, PASSWORD).await.expect(200);
    app.close().await;
}
