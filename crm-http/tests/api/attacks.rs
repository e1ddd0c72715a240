//! Ways around what a login asks for: each is closed.

use crm_core::id::TenantId;
use crm_core::identity::NewUser;
use crm_core::{Create, RequestContext};
use reqwest::Method;
use serde_json::{Value, json};

use crate::account::start;
use crate::app::{App, Caller, Database, PASSWORD, Reply};
use crate::second_factor::require;

crate::on_both_databases! {
    a_tenant_that_asks_for_a_second_factor_is_not_entered_through_another
    a_login_that_waits_for_its_second_step_ends_with_the_password
    an_account_that_nobody_has_proven_gets_no_rights_elsewhere
    a_lock_is_lifted_only_by_whoever_has_the_whole_account
    whoever_was_removed_leaves_no_invitation_behind
    nobody_is_invited_twice_in_a_minute
    only_who_manages_members_speaks_as_a_service_account
    a_password_is_not_guessed_through_an_open_session
}

const ADA: &str = "ada@acme.example";

fn request() -> RequestContext {
    RequestContext {
        id: "operator".into(),
        address: None,
    }
}

async fn login(app: &App, more: Value) -> Reply {
    let mut body = json!({"email": ADA, "password": PASSWORD});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    app.anonymous().post("/api/v1/auth/login", body).await
}

pub(crate) async fn tenant_of(caller: &Caller) -> String {
    let me = caller.get("/api/v1/auth/me").await.expect(200);
    me["tenant"]["id"].as_str().unwrap().to_owned()
}

/// Makes a user of this address a member, as the operator does.
pub(crate) async fn join(app: &App, tenant: &str, email: &str) -> crm_core::Result<()> {
    let scope = app
        .crm
        .operator(TenantId(tenant.parse().unwrap()), request());
    let user = NewUser {
        email: email.into(),
        name: "Joined".into(),
        password: PASSWORD.into(),
        roles: vec!["viewer".into()],
    };
    let permit = scope.permit::<Create>("members")?;
    app.crm.accounts().create_user(&permit, user).await?;
    Ok(())
}

async fn a_tenant_that_asks_for_a_second_factor_is_not_entered_through_another(database: Database) {
    let app = App::start(database).await;
    let hank = app.foreign_admin().await;
    join(&app, &tenant_of(&hank).await, ADA).await.unwrap();
    require(&app, "globex").await;
    let session = login(&app, json!({"tenant": "acme"})).await.expect(200);
    let ada = app.with_token(session["access_token"].as_str());
    let switched = ada.post("/api/v1/auth/tenant", json!({"tenant": "globex"}));
    assert_eq!(
        switched.await.problem(),
        (409, "second_factor_required".into())
    );
    let roaming = json!({"tenant": "acme", "roaming": true});
    assert_eq!(
        login(&app, roaming).await.problem(),
        (401, "second_factor_required".into())
    );
    app.close().await;
}

async fn a_login_that_waits_for_its_second_step_ends_with_the_password(database: Database) {
    let (app, mailbox) = start(database).await;
    require(&app, "acme").await;
    let waiting = login(&app, json!({})).await;
    let token = waiting.json()["mfa_token"].clone();
    let body = json!({"email": ADA});
    let path = "/api/v1/auth/password/forgot";
    app.anonymous().post(path, body).await.expect(204);
    let link = mailbox.token(&app, ADA).await;
    let body = json!({"token": link, "password": "a new harpsichord"});
    let path = "/api/v1/auth/password/reset";
    app.anonymous().post(path, body).await.expect(200);
    let body = json!({"mfa_token": token});
    let enrolled = app.anonymous().post("/api/v1/auth/mfa/enroll", body).await;
    assert_eq!(enrolled.status, 422, "{enrolled}");
    assert_eq!(enrolled.json()["errors"][0]["pointer"], "/mfa_token");
    app.close().await;
}

async fn an_account_that_nobody_has_proven_gets_no_rights_elsewhere(database: Database) {
    let app = App::start(database).await;
    let hank = app.foreign_admin().await;
    let globex = tenant_of(&hank).await;
    let cfo = json!({"email": "cfo@globex.example", "name": "Cfo", "password": PASSWORD,
        "roles": ["viewer"]});
    app.admin.post("/api/v1/members", cfo).await.expect(201);
    let refused = join(&app, &globex, "cfo@globex.example").await;
    assert_eq!(refused.unwrap_err().code(), "address_unproven");
    let members = hank.get("/api/v1/members").await.expect(200);
    assert!(!members.to_string().contains("cfo@globex.example"));
    join(&app, &globex, ADA).await.unwrap();
    app.close().await;
}

async fn a_lock_is_lifted_only_by_whoever_has_the_whole_account(database: Database) {
    let app = App::start(database).await;
    let me = app.admin.get("/api/v1/auth/me").await.expect(200);
    let hank = app.foreign_admin().await;
    join(&app, &tenant_of(&hank).await, ADA).await.unwrap();
    let id = me["user"]["id"].as_str().unwrap();
    let path = format!("/api/v1/members/{id}/unlock");
    let unlocked = hank.send(Method::POST, &path, None).await;
    assert_eq!(unlocked.problem(), (409, "member_elsewhere".into()));
    app.close().await;
}

async fn whoever_was_removed_leaves_no_invitation_behind(database: Database) {
    let (app, mailbox) = start(database).await;
    let bo = app.member("bo", "admin").await;
    let me = bo.get("/api/v1/auth/me").await.expect(200);
    let cy = json!({"email": "cy@new.example", "name": "Cy", "roles": ["admin"]});
    bo.post("/api/v1/invitations", cy).await.expect(201);
    let token = mailbox.token(&app, "cy@new.example").await;
    let path = format!("/api/v1/members/{}", me["user"]["id"].as_str().unwrap());
    app.admin.delete(&path).await.expect(204);
    let body = json!({"token": token, "password": "a new harpsichord"});
    let path = "/api/v1/auth/invitation/accept";
    let accepted = app.anonymous().post(path, body).await;
    assert_eq!(accepted.status, 422, "{accepted}");
    app.close().await;
}

async fn nobody_is_invited_twice_in_a_minute(database: Database) {
    let (app, _) = start(database).await;
    let invite = async || {
        let cy = json!({"email": "cy@new.example", "name": "Cy", "roles": ["viewer"]});
        app.admin.post("/api/v1/invitations", cy).await
    };
    invite().await.expect(201);
    assert_eq!(invite().await.problem(), (429, "rate_limited".into()));
    app.clock.advance(chrono::TimeDelta::minutes(1));
    invite().await.expect(201);
    app.close().await;
}

async fn only_who_manages_members_speaks_as_a_service_account(database: Database) {
    let app = App::start(database).await;
    let account = json!({"name": "Sync", "roles": []});
    let account = app.admin.post("/api/v1/service_accounts", account).await;
    let account = account.expect(201);
    let permissions = json!(["api_keys.create", "contacts.read:own"]);
    let role = json!({"name": "keymaker", "permissions": permissions});
    app.admin.post("/api/v1/roles", role).await.expect(201);
    let bo = app.member("bo", "keymaker").await;
    let key = json!({"name": "key", "role": "keymaker", "service_account_id": account["user_id"]});
    let made = bo.post("/api/v1/api_keys", key.clone()).await;
    assert_eq!(made.problem(), (403, "forbidden".into()));
    app.admin
        .post("/api/v1/api_keys", key.clone())
        .await
        .expect(201);

    // Nor as one that may do more.
    let permissions = json!(["api_keys.create", "members.update", "contacts.read:own"]);
    let role = json!({"name": "speaker", "permissions": permissions});
    app.admin.post("/api/v1/roles", role).await.expect(201);
    let cy = app.member("cy", "speaker").await;
    let above = json!({"name": "Report", "roles": ["viewer"]});
    let above = app.admin.post("/api/v1/service_accounts", above).await;
    let above = above.expect(201);
    let other = json!({"name": "key", "role": "speaker", "service_account_id": above["user_id"]});
    let made = cy.post("/api/v1/api_keys", other).await;
    assert_eq!(made.problem(), (403, "beyond_your_rights".into()));
    let mut key = key;
    key["role"] = json!("speaker");
    cy.post("/api/v1/api_keys", key).await.expect(201);
    app.close().await;
}

async fn a_password_is_not_guessed_through_an_open_session(database: Database) {
    let app = App::with(database, |builder| builder.login_limit(5)).await;
    let guess = async || {
        let body = json!({"current_password": "a guess", "password": "a new harpsichord"});
        let path = "/api/v1/auth/password/change";
        app.admin.post(path, body).await
    };
    for _ in 0..5 {
        assert_eq!(guess().await.status, 422);
    }
    assert_eq!(guess().await.problem(), (429, "rate_limited".into()));
    app.close().await;
}
