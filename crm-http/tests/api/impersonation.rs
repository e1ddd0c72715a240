//! Acting in another's name: what it shows, and what it cannot do.

use crm_core::Read;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Caller, Database, PASSWORD, Reply};
use crate::platform::{acme, claims, request};

pub(crate) const BEGIN: &str = "/api/v1/impersonations";
pub(crate) const BOB: &str = "bob@acme.example";

crate::on_both_databases! {
    an_admin_acts_in_a_members_name_and_everything_says_so
    nobody_gains_by_acting_in_anothers_name
    own_rows_of_the_one_are_not_own_rows_of_the_other
    nobody_administers_in_anothers_name
    answers_kept_for_somebody_are_not_given_to_who_acts_in_their_name
}

pub(crate) async fn begin(caller: &Caller, user: &str) -> Reply {
    let body = json!({"user": user, "reason": "ticket 4711"});
    caller.post(BEGIN, body).await
}

/// The admin, acting in a member's name; and the impersonation.
pub(crate) async fn acting(app: &App, user: &str) -> (Caller, Value) {
    let begun = begin(&app.admin, user).await.expect(201);
    let caller = app.with_token(begun["access_token"].as_str());
    (caller, begun["impersonation"].clone())
}

pub(crate) async fn me(caller: &Caller) -> Value {
    caller.get("/api/v1/auth/me").await.expect(200)
}

pub(crate) async fn id_of(caller: &Caller) -> String {
    me(caller).await["user"]["id"].as_str().unwrap().to_owned()
}

#[track_caller]
pub(crate) fn out(reply: &Reply) {
    assert_eq!(reply.problem(), (401, "token_invalid".into()), "{reply}");
}

async fn an_admin_acts_in_a_members_name_and_everything_says_so(database: Database) {
    let app = App::start(database).await;
    let bob = app.member("bob", "member").await;
    let (ada_id, bob_id) = (id_of(&app.admin).await, id_of(&bob).await);
    let begun = begin(&app.admin, BOB).await.expect(201);
    assert_eq!(begun["expires_in"], 900);
    assert_eq!(begun["impersonation"]["user_id"], json!(bob_id));
    let by = json!(format!("user:{ada_id}"));
    assert_eq!(begun["impersonation"]["impersonated_by"], by);
    let token = begun["access_token"].as_str().unwrap();
    let said = claims(token);
    assert_eq!(
        (&said["sub"], &said["act"]),
        (&json!(bob_id), &json!({"sub": ada_id}))
    );
    assert_eq!(claims(bob.token.as_deref().unwrap())["act"], Value::Null);

    let acting = app.with_token(Some(token));
    let shown = me(&acting).await;
    assert_eq!(shown["user"]["id"], json!(bob_id));
    assert_eq!(
        shown["impersonated_by"],
        json!({"actor": by, "name": "Ada"})
    );
    assert_eq!(me(&bob).await["impersonated_by"], Value::Null);
    let made = acting
        .post("/api/v1/contacts", json!({"name": "Grace"}))
        .await;
    let made = made.expect(201);
    assert_eq!(made["owner_id"], json!(bob_id));
    bob.post("/api/v1/contacts", json!({"name": "Own"}))
        .await
        .expect(201);

    let log = app
        .admin
        .get("/api/v1/audit?action=contacts.create")
        .await
        .expect(200);
    let log: Vec<_> = log["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["actor"].clone(), entry["impersonator"].clone()))
        .collect();
    let actor = json!(format!("user:{bob_id}"));
    assert_eq!(log, [(actor.clone(), Value::Null), (actor, by.clone())]);
    let start = app
        .admin
        .get("/api/v1/audit?action=auth.impersonation_start")
        .await;
    let start = start.expect(200)["data"][0].clone();
    assert_eq!(
        (&start["actor"], &start["entity_id"]),
        (&by, &json!(bob_id))
    );
    assert_eq!(start["after"]["reason"], "ticket 4711");

    let listed = app.admin.get(BEGIN).await.expect(200);
    assert_eq!(listed["data"], json!([begun["impersonation"]]));
    let sessions = bob.get("/api/v1/auth/sessions").await.expect(200);
    let sessions = sessions["data"].as_array().unwrap();
    assert!(
        sessions.iter().any(|session| session["impersonator"] == by),
        "{sessions:?}"
    );

    app.crm.seal_audit_once().await.unwrap();
    let tenant = acme(&app).await.parse().unwrap();
    let permit = app
        .crm
        .operator(tenant, request())
        .permit::<Read>("audit")
        .unwrap();
    let verified = app.crm.audit().verify(&permit, None).await.unwrap();
    assert_eq!(verified.fault, None);

    acting
        .delete("/api/v1/auth/impersonation")
        .await
        .expect(204);
    out(&acting.get("/api/v1/auth/me").await);
    let end = app
        .admin
        .get("/api/v1/audit?action=auth.impersonation_end")
        .await;
    let end = end.expect(200)["data"][0].clone();
    assert_eq!(end["impersonator"], by);
    bob.get("/api/v1/contacts").await.expect(200);
    let none = bob.delete("/api/v1/auth/impersonation").await;
    assert_eq!(none.problem(), (409, "not_impersonating".into()));
    app.close().await;
}

async fn nobody_gains_by_acting_in_anothers_name(database: Database) {
    let app = App::start(database).await;
    let role = async |name: &str, permissions: &[&str]| {
        let body = json!({"name": name, "permissions": permissions});
        app.admin.post("/api/v1/roles", body).await.expect(201)
    };
    role("support", &["contacts.read", "impersonations.create"]).await;
    role("reader", &["contacts.read:own"]).await;
    role("writer", &["contacts.read", "contacts.update"]).await;
    let support = app.member("support", "support").await;
    let reader = app.member("reader", "reader").await;
    app.member("writer", "writer").await;
    for (user, why) in [
        ("writer@acme.example", "may do more"),
        ("ada@acme.example", "may do everything"),
        ("support@acme.example", "oneself"),
    ] {
        let refused = begin(&support, user).await;
        assert_eq!(refused.problem(), (403, "not_impersonable".into()), "{why}");
    }
    for user in ["nobody@acme.example", "nobody", "", &"x".repeat(200)] {
        let refused = begin(&support, user).await.expect(422);
        assert_eq!(refused["errors"][0]["pointer"], "/user");
    }
    let rival = app.foreign_admin().await;
    let foreign = id_of(&rival).await;
    assert_eq!(
        begin(&app.admin, &foreign).await.status,
        422,
        "a user of another tenant"
    );
    let begun = begin(&support, "reader@acme.example").await.expect(201);
    let acting = app.with_token(begun["access_token"].as_str());
    acting.get("/api/v1/contacts").await.expect(200);
    assert_eq!(
        acting
            .post("/api/v1/contacts", json!({"name": "x"}))
            .await
            .status,
        403
    );

    // What the reader is given later is not the impersonator's either.
    let path = format!("/api/v1/members/{}/roles", id_of(&reader).await);
    let body = Some(json!({"roles": ["admin"]}));
    app.admin.send(Method::PUT, &path, body).await.expect(200);
    assert_eq!(
        acting
            .post("/api/v1/contacts", json!({"name": "x"}))
            .await
            .status,
        403
    );
    assert_eq!(acting.get("/api/v1/deals").await.status, 403);
    reader.get("/api/v1/deals").await.expect(200);

    let program = app.program("admin").await;
    assert_eq!(
        begin(&program, BOB).await.problem(),
        (409, "no_session".into())
    );
    let body = json!({"name": "sync", "roles": ["viewer"]});
    let account = app
        .admin
        .post("/api/v1/service_accounts", body)
        .await
        .expect(201);
    let refused = begin(&app.admin, account["user_id"].as_str().unwrap()).await;
    assert_eq!(
        refused.problem(),
        (403, "not_impersonable".into()),
        "a program"
    );
    for reason in ["", "  ", "a\nb"] {
        let body = json!({"user": "reader@acme.example", "reason": reason});
        let refused = app.admin.post(BEGIN, body).await.expect(422);
        assert_eq!(refused["errors"][0]["pointer"], "/reason");
    }
    app.close().await;
}

async fn own_rows_of_the_one_are_not_own_rows_of_the_other(database: Database) {
    let app = App::start(database).await;
    let permissions = [
        "contacts.read:own",
        "contacts.create",
        "impersonations.create",
    ];
    let body = json!({"name": "owner", "permissions": permissions});
    app.admin.post("/api/v1/roles", body).await.expect(201);
    let body = json!({"name": "own", "permissions": ["contacts.read:own"]});
    app.admin.post("/api/v1/roles", body).await.expect(201);
    let one = app.member("one", "owner").await;
    app.member("other", "own").await;
    let refused = begin(&one, "other@acme.example").await;
    assert_eq!(refused.problem(), (403, "not_impersonable".into()));
    app.close().await;
}

async fn nobody_administers_in_anothers_name(database: Database) {
    let app = App::start(database).await;
    let body = json!({"email": "eve@acme.example", "name": "Eve", "password": PASSWORD,
        "roles": ["admin"]});
    let eve = app.admin.post("/api/v1/members", body).await.expect(201);
    let eve = eve["user_id"].as_str().unwrap();
    let viewer = app.member("vi", "viewer").await;
    let viewer = id_of(&viewer).await;
    let (acting, _) = acting(&app, "eve@acme.example").await;
    for path in [
        "members",
        "roles",
        "groups",
        "audit",
        "api_keys",
        "contacts",
        "impersonations",
    ] {
        acting.get(&format!("/api/v1/{path}")).await.expect(200);
    }
    let role = json!({"name": "mine", "permissions": ["*.*"]});
    let user = json!({"email": "new@acme.example", "name": "New", "password": PASSWORD,
        "roles": ["admin"]});
    let invited = json!({"email": "new@acme.example", "name": "New", "roles": ["admin"]});
    let proof = json!({"password": PASSWORD, "code": "123456"});
    let acts = [
        (
            "POST",
            "auth/password/change".to_owned(),
            json!({"current_password": PASSWORD, "password": "a new harpsichord"}),
        ),
        (
            "POST",
            "auth/email/change".into(),
            json!({"email": "evil@acme.example", "password": PASSWORD}),
        ),
        ("POST", "auth/email/verification".into(), Value::Null),
        (
            "PUT",
            "auth/username".into(),
            json!({"username": "evil", "password": PASSWORD}),
        ),
        ("POST", "auth/totp".into(), json!({"password": PASSWORD})),
        (
            "POST",
            "auth/totp/confirm".into(),
            json!({"code": "123456"}),
        ),
        ("POST", "auth/totp/disable".into(), proof.clone()),
        ("POST", "auth/totp/recovery-codes".into(), proof),
        ("GET", "auth/sessions".into(), Value::Null),
        ("GET", "auth/passkeys".into(), Value::Null),
        ("DELETE", "auth/sessions".into(), Value::Null),
        (
            "DELETE",
            "auth/sessions?except_current=true".into(),
            Value::Null,
        ),
        ("DELETE", format!("auth/sessions/{eve}"), Value::Null),
        ("POST", "auth/logout-everywhere".into(), Value::Null),
        ("POST", "auth/tenant".into(), json!({"tenant": "acme"})),
        (
            "PUT",
            "auth/requirements".into(),
            json!({"second_factor": true}),
        ),
        (
            "PATCH",
            "auth/security".into(),
            json!({"operator_impersonation": true}),
        ),
        ("POST", "members".into(), user),
        ("DELETE", format!("members/{viewer}"), Value::Null),
        (
            "PUT",
            format!("members/{viewer}/roles"),
            json!({"roles": ["admin"]}),
        ),
        ("DELETE", format!("members/{viewer}/sessions"), Value::Null),
        ("POST", format!("members/{viewer}/unlock"), Value::Null),
        ("POST", "invitations".into(), invited),
        (
            "POST",
            "service_accounts".into(),
            json!({"name": "sync", "roles": ["admin"]}),
        ),
        (
            "POST",
            "api_keys".into(),
            json!({"name": "key", "role": "admin"}),
        ),
        ("POST", "roles".into(), role),
        ("POST", "groups".into(), json!({"name": "crew"})),
        (
            "POST",
            "impersonations".into(),
            json!({"user": viewer, "reason": "further"}),
        ),
        ("DELETE", format!("impersonations/{viewer}"), Value::Null),
        (
            "POST",
            "modules".into(),
            json!({"name": "visits", "singular": "visit",
            "fields": [{"name": "plan", "type": "text"}]}),
        ),
    ];
    for (method, path, body) in acts {
        let body = (!body.is_null()).then_some(body);
        let path = format!("/api/v1/{path}");
        let refused = acting.send(method.parse().unwrap(), &path, body).await;
        let code = (403, "impersonating".to_owned());
        assert_eq!(refused.problem(), code, "{method} {path}: {refused}");
    }
    let import = acting.request(Method::POST, "/api/v1/contacts/import?format=csv");
    let import = import
        .header("Content-Type", "text/csv")
        .body("name\nGrace\n");
    let import = acting.finish(import).await;
    assert_eq!(
        import.problem(),
        (403, "impersonating".into()),
        "a job would go on by itself"
    );
    let upload = crate::plugin::upload(&acting).await;
    assert_eq!(upload.status, 403, "{upload}");
    acting.get("/api/v1/contacts").await.expect(200);
    app.login("eve@acme.example").await;
    app.close().await;
}

async fn answers_kept_for_somebody_are_not_given_to_who_acts_in_their_name(database: Database) {
    let app = App::start(database).await;
    let bob = app.member("bob", "member").await;
    let (acting, _) = acting(&app, BOB).await;
    let mut ids = Vec::new();
    for caller in [&bob, &acting, &bob] {
        let create = caller.request(Method::POST, "/api/v1/contacts");
        let create = create
            .header("Idempotency-Key", "one")
            .json(&json!({"name": "Grace"}));
        ids.push(caller.finish(create).await.expect(201)["id"].clone());
    }
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids[0], ids[2]);
    app.close().await;
}
