//! What tenants settle for themselves, and what is told of logins that fail for nobody.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::account;
use crate::app::{App, Caller, Database, PASSWORD};
use crate::platform::{everything, operator};
use crate::second_factor::set_up;

const SECURITY: &str = "/api/v1/auth/security";
const REQUIREMENTS: &str = "/api/v1/auth/requirements";

crate::on_both_databases! {
    at_53_a_tenant_asks_more_of_its_members_passwords
    a_tenant_that_begins_to_ask_for_a_second_factor_ends_the_sessions_without_one
    a_roaming_session_without_a_second_factor_does_not_open_a_tenant_that_asks_for_one
    asvs_16_3_1_a_login_that_fails_for_nobody_is_told_without_the_address
    a_member_is_a_person_or_a_program
    mails_of_many_tenants_go_in_turn
}

async fn at_53_a_tenant_asks_more_of_its_members_passwords(database: Database) {
    let (app, mailbox) = account::start(database).await;
    let before = app.admin.get(SECURITY).await.expect(200);
    assert_eq!(
        before,
        json!({"operator_impersonation": true, "password_policy": null})
    );
    let set = async |policy: Value| {
        let body = json!({"operator_impersonation": true, "password_policy": policy});
        app.admin.patch(SECURITY, body).await
    };
    for (weak, pointer) in [
        (json!({"min_chars": 7}), "/password_policy/min_chars"),
        (json!({"min_chars": 65}), "/password_policy/min_chars"),
        (json!({"min_score": 5}), "/password_policy/min_score"),
    ] {
        let refused = &set(weak).await.expect(422)["errors"][0];
        assert_eq!(refused["pointer"], pointer);
        assert_eq!(refused["code"], "out_of_range");
    }
    let policy = json!({"min_chars": 12, "classes": ["upper", "digit"], "min_score": 2});
    let stored = set(policy.clone()).await.expect(200);
    assert_eq!(stored["password_policy"], policy);
    assert_eq!(app.admin.get(SECURITY).await.expect(200), stored);

    let codes = |reply: Value| {
        let errors = reply["errors"].as_array().unwrap().iter();
        errors
            .map(|error| error["code"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let create = async |password: &str| {
        let body = json!({"email": "bo@acme.example", "name": "Bo", "password": password,
            "roles": ["viewer"]});
        app.admin.post("/api/v1/members", body).await
    };
    let refused = codes(create("harpsichord").await.expect(422));
    assert_eq!(refused, ["too_short", "composition", "composition"]);
    create("Harpsichord-9-glacier").await.expect(201);

    // One's own new password, and that of an invitation.
    let body = json!({"current_password": PASSWORD, "password": "only small letters"});
    let refused = app
        .admin
        .post("/api/v1/auth/password/change", body)
        .await
        .expect(422);
    assert_eq!(codes(refused), ["composition", "composition"]);
    let body = json!({"email": "cy@acme.example", "name": "Cy", "roles": ["viewer"]});
    app.admin
        .post("/api/v1/invitations", body)
        .await
        .expect(201);
    let token = mailbox.token(&app, "cy@acme.example").await;
    let accept = async |password: &str| {
        let body = json!({"token": token, "password": password});
        app.anonymous()
            .post("/api/v1/auth/invitation/accept", body)
            .await
    };
    accept("only small letters").await.expect(422);
    accept("Harpsichord-9-glacier").await.expect(201);

    // Another tenant asks what the installation asks.
    let rival = app.foreign_admin().await;
    let body = json!({"email": "di@globex.example", "name": "Di", "password": PASSWORD,
        "roles": ["viewer"]});
    rival.post("/api/v1/members", body).await.expect(201);
    let log = app
        .admin
        .get("/api/v1/audit?action=tenants.update")
        .await
        .expect(200);
    assert_eq!(log["data"][0]["after"]["password_policy"], policy);
    app.close().await;
}

async fn a_tenant_that_begins_to_ask_for_a_second_factor_ends_the_sessions_without_one(
    database: Database,
) {
    let (app, _) = account::start(database).await;
    let bo = app.member("bo", "admin").await;
    let (device, _) = set_up(&app, &bo).await;
    let body = json!({"email": "bo@acme.example", "password": PASSWORD});
    let first = app
        .anonymous()
        .post("/api/v1/auth/login", body)
        .await
        .json();
    let body = json!({"mfa_token": first["mfa_token"], "code": device.code(&app)});
    let proven = app
        .anonymous()
        .post("/api/v1/auth/mfa", body)
        .await
        .expect(200);
    let proven = app.with_token(proven["access_token"].as_str());
    let program = app.program("admin").await;
    let body = json!({"email": "ada@acme.example", "password": PASSWORD, "roaming": true});
    let roaming = app
        .anonymous()
        .post("/api/v1/auth/login", body)
        .await
        .expect(200);
    let refresh = roaming["refresh_token"].clone();
    let roaming = app.with_token(roaming["access_token"].as_str());

    let require = |required: bool| Some(json!({"second_factor": required}));
    proven
        .send(Method::PUT, REQUIREMENTS, require(true))
        .await
        .expect(200);
    for (caller, lives) in [
        (&proven, true),
        (&program, true),
        // It confirmed the codes itself.
        (&bo, true),
        (&app.admin, false),
        // In acme it was.
        (&roaming, false),
    ] {
        let reply = caller.get("/api/v1/contacts").await;
        assert_eq!(reply.status, if lives { 200 } else { 401 }, "{reply}");
    }
    let body = json!({"refresh_token": refresh});
    assert_eq!(
        app.anonymous()
            .post("/api/v1/auth/refresh", body)
            .await
            .status,
        401
    );
    proven
        .send(Method::PUT, REQUIREMENTS, require(false))
        .await
        .expect(200);
    assert_eq!(
        app.admin.get("/api/v1/contacts").await.status,
        401,
        "an end is for good"
    );
    app.login("ada@acme.example").await;
    app.close().await;
}

async fn a_roaming_session_without_a_second_factor_does_not_open_a_tenant_that_asks_for_one(
    database: Database,
) {
    let (app, mailbox) = account::start(database).await;
    let hank = app.foreign_admin().await;
    let globex = hank.get("/api/v1/auth/me").await.expect(200)["tenant"]["id"].clone();
    let (device, _) = set_up(&app, &hank).await;
    let body = json!({"email": "hank@globex.example", "password": PASSWORD});
    let first = app
        .anonymous()
        .post("/api/v1/auth/login", body)
        .await
        .json();
    let body = json!({"mfa_token": first["mfa_token"], "code": device.code(&app)});
    let hank = app
        .anonymous()
        .post("/api/v1/auth/mfa", body)
        .await
        .expect(200);
    let hank = app.with_token(hank["access_token"].as_str());
    let body = Some(json!({"second_factor": true}));
    hank.send(Method::PUT, REQUIREMENTS, body).await.expect(200);

    // One that is a member of nothing else yet.
    let body = json!({"email": "ada@acme.example", "password": PASSWORD, "roaming": true});
    let roaming = app
        .anonymous()
        .post("/api/v1/auth/login", body)
        .await
        .expect(200);
    let roaming = app.with_token(roaming["access_token"].as_str());
    roaming.get("/api/v1/contacts").await.expect(200);
    let body = json!({"email": "ada@acme.example", "name": "Ada", "roles": ["admin"]});
    hank.post("/api/v1/invitations", body).await.expect(201);
    let token = mailbox.token(&app, "ada@acme.example").await;
    let body = json!({"token": token, "password": PASSWORD});
    app.anonymous()
        .post("/api/v1/auth/invitation/accept", body)
        .await
        .expect(201);
    app.crm.follow_once().await.unwrap();
    let request = roaming.request(Method::GET, "/api/v1/contacts");
    let request = request.header("X-Tenant", globex.as_str().unwrap());
    assert_eq!(
        roaming.finish(request).await.problem(),
        (403, "second_factor_required".into())
    );
    roaming.get("/api/v1/contacts").await.expect(200);
    app.admin.get("/api/v1/contacts").await.expect(200);
    app.close().await;
}

async fn asvs_16_3_1_a_login_that_fails_for_nobody_is_told_without_the_address(database: Database) {
    let app = App::start(database).await;
    let ops = operator(&app, "ops@crm.example", &everything()).await;
    let fail = async |email: &str| {
        let body = json!({"email": email, "password": "not the password"});
        let reply = app.anonymous().post("/api/v1/auth/login", body).await;
        assert_eq!(reply.problem(), (401, "invalid_credentials".into()));
        reply.body
    };
    let unknown = fail("nobody@nowhere.example").await;
    assert_eq!(
        unknown,
        fail("ada@acme.example").await,
        "the answer tells nothing"
    );
    fail("NOBODY@nowhere.example").await;
    fail("somebody@nowhere.example").await;
    app.crm.send_mails_once().await.unwrap();
    let log = ops
        .get("/api/v1/platform/audit?action=auth.login_failed")
        .await
        .expect(200);
    let log = log["data"].as_array().unwrap();
    assert_eq!(log.len(), 3);
    let addresses = log
        .iter()
        .map(|entry| entry["after"]["address"].to_string());
    let addresses: BTreeSet<_> = addresses.collect();
    assert_eq!(
        addresses.len(),
        2,
        "one address is known again, and another is another"
    );
    assert!(
        log.iter().all(|entry| entry["actor"] == "anonymous"),
        "{log:?}"
    );
    let text = serde_json::to_string(log).unwrap();
    assert!(!text.contains("nowhere"), "{text}");
    let known = app
        .admin
        .get("/api/v1/audit?action=auth.login_failed")
        .await
        .expect(200);
    assert_eq!(
        known["data"].as_array().unwrap().len(),
        1,
        "the tenant's is the tenant's"
    );
    app.close().await;
}

async fn a_member_is_a_person_or_a_program(database: Database) {
    let app = App::start(database).await;
    let body = json!({"name": "sync", "roles": ["viewer"]});
    let account = app
        .admin
        .post("/api/v1/service_accounts", body)
        .await
        .expect(201);
    let kind = async |id: &Value| {
        let path = format!("/api/v1/members/{}", id.as_str().unwrap());
        app.admin.get(&path).await.expect(200)["kind"].clone()
    };
    assert_eq!(kind(&account["user_id"]).await, "service");
    let me = app.admin.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(kind(&me["user"]["id"]).await, "person");
    app.close().await;
}

async fn mails_of_many_tenants_go_in_turn(database: Database) {
    let (app, mailbox) = account::start(database).await;
    let rival = app.foreign_admin().await;
    let invite = async |caller: &Caller, email: String| {
        let body = json!({"email": email, "name": "New", "roles": ["viewer"]});
        caller.post("/api/v1/invitations", body).await.expect(201);
    };
    for number in 0..20 {
        invite(&app.admin, format!("new-{number}@acme.example")).await;
    }
    invite(&rival, "new@globex.example".to_owned()).await;
    app.clock.advance(chrono::TimeDelta::seconds(1));
    app.crm.send_mails_once().await.unwrap();
    let order = mailbox.recipients();
    assert_eq!(order.len(), 21);
    let place = order.iter().position(|to| to == "new@globex.example");
    // It goes second; of those that go at once any may be quicker.
    assert!(place.is_some_and(|place| place < 10), "{order:?}");
    app.close().await;
}
