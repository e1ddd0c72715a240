//! What a tenant settles takes nobody by surprise: not who settles it, and not whoever is a member
//! elsewhere too.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Caller, Database, PASSWORD, Reply};
use crate::attacks::{join, tenant_of};
use crate::second_factor::{Device, require, set_up};

const ADA: &str = "ada@acme.example";
const SECURITY: &str = "/api/v1/auth/security";
const REQUIREMENTS: &str = "/api/v1/auth/requirements";

crate::on_both_databases! {
    what_a_tenant_settles_and_a_change_leaves_out_stays
    whoever_asks_for_a_second_factor_has_passed_one
    a_login_without_a_factor_says_where_to_set_one_up
    a_tenant_that_asks_for_a_second_factor_leaves_sessions_elsewhere_alone
    a_code_moves_a_session_to_a_tenant_that_asks_for_it
    a_wrong_code_moves_no_session_where_none_is_needed
    asvs_6_3_1_wrong_codes_in_a_session_lock_the_account_and_leave_the_session
    asvs_6_3_1_logins_that_fail_elsewhere_lock_no_codes_of_a_session
}

async fn what_a_tenant_settles_and_a_change_leaves_out_stays(database: Database) {
    let app = App::start(database).await;
    let policy = json!({"min_chars": 12, "classes": ["digit"], "min_score": 2});
    let change = async |body: Value| app.admin.patch(SECURITY, body).await.expect(200);
    change(json!({"password_policy": policy})).await;
    let changed = change(json!({"operator_impersonation": false})).await;
    let both = json!({"operator_impersonation": false, "password_policy": policy});
    assert_eq!(changed, both);
    assert_eq!(change(json!({})).await, both);
    let without = change(json!({"password_policy": null})).await;
    assert_eq!(
        without,
        json!({"operator_impersonation": false, "password_policy": null})
    );
    let put = Some(json!({"operator_impersonation": true}));
    let put = app.admin.send(Method::PUT, SECURITY, put).await;
    assert_eq!(put.problem(), (405, "method_not_allowed".into()));
    app.close().await;
}

async fn asks(caller: &Caller) -> Reply {
    let body = Some(json!({"second_factor": true}));
    caller.send(Method::PUT, REQUIREMENTS, body).await
}

async fn whoever_asks_for_a_second_factor_has_passed_one(database: Database) {
    let app = App::start(database).await;
    let early = app.login(ADA).await;
    let missing = (409, "second_factor_missing".to_owned());
    assert_eq!(asks(&app.admin).await.problem(), missing);
    let asked = app.admin.get(REQUIREMENTS).await.expect(200);
    assert_eq!(asked["second_factor"], false, "nothing has changed");
    set_up(&app, &app.admin).await;
    let required = (409, "second_factor_required".to_owned());
    assert_eq!(asks(&early).await.problem(), required);
    asks(&app.admin).await.expect(200);
    app.admin.get("/api/v1/contacts").await.expect(200);
    assert_eq!(early.get("/api/v1/contacts").await.status, 401);
    // Asking again changes nothing, and taking it back is free.
    asks(&app.admin).await.expect(200);
    app.close().await;
}

async fn a_login_without_a_factor_says_where_to_set_one_up(database: Database) {
    let app = App::start(database).await;
    require(&app, "acme").await;
    let body = json!({"email": ADA, "password": PASSWORD});
    let waiting = app.anonymous().post("/api/v1/auth/login", body).await;
    assert_eq!(waiting.problem(), (401, "second_factor_required".into()));
    let waiting = waiting.json();
    assert_eq!(waiting["mfa_enrolled"], false);
    let detail = waiting["detail"].as_str().unwrap();
    assert!(detail.contains("POST /api/v1/auth/mfa/enroll"), "{detail}");
    app.close().await;
}

/// Ada, logged in to `acme` and roaming, a member of `globex` too; with what her roaming session is
/// answered there.
async fn roaming(app: &App) -> (Caller, String) {
    let hank = app.foreign_admin().await;
    let globex = tenant_of(&hank).await;
    join(app, &globex, ADA).await.unwrap();
    let body = json!({"email": ADA, "password": PASSWORD, "tenant": "acme", "roaming": true});
    let session = app.anonymous().post("/api/v1/auth/login", body).await;
    let session = session.expect(200);
    (app.with_token(session["access_token"].as_str()), globex)
}

async fn there(caller: &Caller, tenant: &str) -> Reply {
    let request = caller.request(Method::GET, "/api/v1/auth/me");
    caller.finish(request.header("X-Tenant", tenant)).await
}

async fn a_tenant_that_asks_for_a_second_factor_leaves_sessions_elsewhere_alone(
    database: Database,
) {
    let app = App::start(database).await;
    let (ada, globex) = roaming(&app).await;
    there(&ada, &globex).await.expect(200);
    require(&app, "globex").await;
    ada.get("/api/v1/contacts").await.expect(200);
    let refused = (403, "second_factor_required".to_owned());
    assert_eq!(there(&ada, &globex).await.problem(), refused);
    // Another process knows nothing of either yet.
    app.crm.follow_once().await.unwrap();
    assert_eq!(there(&ada, &globex).await.problem(), refused);
    ada.get("/api/v1/contacts").await.expect(200);
    app.close().await;
}

async fn a_wrong_code_moves_no_session_where_none_is_needed(database: Database) {
    let app = App::start(database).await;
    let (ada, globex) = roaming(&app).await;
    let moves = async |caller: &Caller, code: Option<&str>| {
        let body = json!({"tenant": "globex", "code": code});
        caller.post("/api/v1/auth/tenant", body).await
    };
    let wrong = async |caller: &Caller| {
        let wrong = moves(caller, Some("123 456")).await;
        assert_eq!(wrong.status, 422, "{wrong}");
        assert_eq!(wrong.json()["errors"][0]["pointer"], "/code", "{wrong}");
    };
    let none = moves(&ada, Some("123 456")).await;
    assert_eq!(none.problem(), (409, "no_second_factor".into()));
    let (_, recovery): (Device, _) = set_up(&app, &app.admin).await;
    wrong(&ada).await;
    let moved = moves(&ada, Some(&recovery[0])).await.expect(200);
    // This session has shown both factors now.
    let moved = app.with_token(moved["access_token"].as_str());
    wrong(&moved).await;
    let moved = moves(&moved, None).await.expect(200);
    let moved = app.with_token(moved["access_token"].as_str());
    there(&moved, &globex).await.expect(200);
    app.close().await;
}

async fn asvs_6_3_1_wrong_codes_in_a_session_lock_the_account_and_leave_the_session(
    database: Database,
) {
    let app = App::start(database).await;
    let (ada, _) = roaming(&app).await;
    let (device, recovery): (Device, _) = set_up(&app, &app.admin).await;
    let moves = async |code: Option<&str>| {
        let body = json!({"tenant": "globex", "code": code});
        ada.post("/api/v1/auth/tenant", body).await
    };
    // A right code ends the failures in a row.
    for _ in 0..4 {
        assert_eq!(moves(Some("123 456")).await.status, 422);
    }
    moves(Some(&recovery[0])).await.expect(200);
    for _ in 0..10 {
        app.clock.advance(chrono::TimeDelta::seconds(20));
        assert_eq!(moves(Some("123 456")).await.status, 422);
    }
    let locked = moves(Some(&device.code(&app))).await;
    assert_eq!(locked.problem(), (429, "rate_limited".into()));
    assert_eq!(locked.header("retry-after"), "900");
    let login = async || {
        let body = json!({"email": ADA, "password": PASSWORD});
        app.anonymous().post("/api/v1/auth/login", body).await
    };
    assert_eq!(login().await.problem().0, 429, "as after wrong passwords");
    // The session goes on, wherever no code is needed.
    ada.get("/api/v1/auth/me").await.expect(200);
    moves(None).await.expect(200);
    for (action, entries) in [("confirmation_failed", 14), ("locked", 1)] {
        let path = format!("/api/v1/audit?action=auth.{action}");
        let told = app.admin.get(&path).await.expect(200);
        assert_eq!(told["data"].as_array().unwrap().len(), entries, "{action}");
    }
    app.clock.advance(chrono::TimeDelta::minutes(15));
    let waiting = login().await.problem();
    assert_eq!(waiting, (401, "second_factor_required".into()));
    app.close().await;
}

async fn a_code_moves_a_session_to_a_tenant_that_asks_for_it(database: Database) {
    let app = App::start(database).await;
    let (ada, globex) = roaming(&app).await;
    let single = app.anonymous();
    let body = json!({"email": ADA, "password": PASSWORD, "tenant": "acme"});
    let session = single.post("/api/v1/auth/login", body).await.expect(200);
    let single = app.with_token(session["access_token"].as_str());
    let (device, recovery): (Device, _) = set_up(&app, &app.admin).await;
    require(&app, "globex").await;
    let moves = async |caller: &Caller, code: Option<&str>| {
        let body = json!({"tenant": "globex", "code": code});
        caller.post("/api/v1/auth/tenant", body).await
    };
    let required = (409, "second_factor_required".to_owned());
    for caller in [&ada, &single] {
        assert_eq!(moves(caller, None).await.problem(), required);
        let wrong = moves(caller, Some("123 456")).await;
        assert_eq!(wrong.json()["errors"][0]["pointer"], "/code", "{wrong}");
    }
    moves(&ada, Some(&device.code(&app))).await.expect(200);
    there(&ada, &globex).await.expect(200);
    let again = moves(&single, Some(&device.code(&app))).await;
    assert_eq!(again.status, 422, "a code works once: {again}");
    let moved = moves(&single, Some(&recovery[0])).await.expect(200);
    let moved = app.with_token(moved["access_token"].as_str());
    assert_eq!(tenant_of(&moved).await, globex);
    app.close().await;
}

async fn asvs_6_3_1_logins_that_fail_elsewhere_lock_no_codes_of_a_session(database: Database) {
    let app = App::start(database).await;
    let (ada, _) = roaming(&app).await;
    let (_, recovery): (Device, _) = set_up(&app, &app.admin).await;
    let login = async |password: &str| {
        let body = json!({"email": ADA, "password": password});
        app.anonymous().post("/api/v1/auth/login", body).await
    };
    for _ in 0..10 {
        app.clock.advance(chrono::TimeDelta::seconds(20));
        assert_eq!(login("no password of hers").await.status, 401);
    }
    assert_eq!(login(PASSWORD).await.problem().0, 429);
    let body = json!({"tenant": "globex", "code": recovery[0]});
    ada.post("/api/v1/auth/tenant", body).await.expect(200);
    // Who knows a code of hers is who she is.
    let waiting = login(PASSWORD).await.problem();
    assert_eq!(waiting, (401, "second_factor_required".into()));
    app.close().await;
}
