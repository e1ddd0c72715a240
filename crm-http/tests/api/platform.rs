//! Operators of the platform: who they are, what they reach, and the life of tenants in their
//! hands.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crm_core::RequestContext;
use crm_core::platform::{NewOperator, PLATFORM, PlatformPermission};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::access;
use crate::account;
use crate::app::{App, Caller, Database, PASSWORD};
use crate::second_factor::Device;

const TENANTS: &str = "/api/v1/platform/tenants";
const OPERATORS: &str = "/api/v1/platform/operators";
const OPS: &str = "ops@crm.example";

crate::on_both_databases! {
    at_07_an_operator_belongs_to_no_tenant_and_logs_in_with_a_second_factor
    an_operators_token_opens_no_tenants_data
    whoever_is_no_operator_finds_no_platform
    an_operator_does_what_they_hold_and_nothing_else
    ag_85_a_tenant_lives_over_http_and_both_logs_tell_of_it
    a_tenant_is_exported_as_one_file_without_secrets
    a_tenant_is_erased_when_its_name_is_given_once_more
    operators_are_made_by_operators_within_their_own_rights
    an_operator_who_is_a_member_too_chooses_where_to_log_in
    the_platform_is_no_tenant
}

pub(crate) fn request() -> RequestContext {
    RequestContext {
        id: "operator".into(),
        address: None,
    }
}

/// An operator who may do this, logged in without a second factor.
pub(crate) async fn operator(app: &App, email: &str, permissions: &[&str]) -> Caller {
    let operators = app.crm.operators();
    operators
        .require_second_factor(false, request())
        .await
        .unwrap();
    make(app, email, permissions).await;
    app.login(email).await
}

async fn make(app: &App, email: &str, permissions: &[&str]) -> Uuid {
    let input = NewOperator {
        email: email.into(),
        name: "Olga".into(),
        permissions: permissions.iter().map(ToString::to_string).collect(),
        password: Some(PASSWORD.into()),
    };
    let made = app.crm.operators().create(input, request()).await;
    made.unwrap().user_id.0
}

pub(crate) fn everything() -> Vec<&'static str> {
    PlatformPermission::ALL
        .iter()
        .map(|one| one.as_str())
        .collect()
}

/// What a token says.
pub(crate) fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

pub(crate) async fn acme(app: &App) -> String {
    let me = app.admin.get("/api/v1/auth/me").await.expect(200);
    me["tenant"]["id"].as_str().unwrap().to_owned()
}

/// The actions in the platform's log, the newest first.
async fn told(ops: &Caller) -> Vec<String> {
    let log = ops
        .get("/api/v1/platform/audit?limit=100")
        .await
        .expect(200);
    let log = log["data"].as_array().unwrap().iter();
    log.map(|entry| entry["action"].as_str().unwrap().to_owned())
        .collect()
}

async fn at_07_an_operator_belongs_to_no_tenant_and_logs_in_with_a_second_factor(
    database: Database,
) {
    let app = App::start(database).await;
    make(&app, OPS, &everything()).await;
    let body = json!({"email": OPS, "password": PASSWORD});
    let first = app.anonymous().post("/api/v1/auth/login", body).await;
    assert_eq!(first.problem(), (401, "second_factor_required".into()));
    let token = first.json()["mfa_token"].clone();
    let body = json!({"mfa_token": token});
    let enrolled = app.anonymous().post("/api/v1/auth/mfa/enroll", body).await;
    let enrolled = enrolled.expect(200);
    assert!(enrolled["uri"].as_str().unwrap().contains("/CRM:"));
    let device = Device::new(&enrolled["secret"]);
    let body = json!({"mfa_token": token, "code": device.code(&app)});
    let session = app
        .anonymous()
        .post("/api/v1/auth/mfa", body)
        .await
        .expect(200);
    let token = session["access_token"].as_str().unwrap();
    assert_eq!(
        claims(token)["tid"],
        Value::Null,
        "its token names no tenant"
    );
    let ops = app.with_token(Some(token));
    let me = ops.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(me["tenant"], Value::Null);
    assert_eq!(me["roles"], json!([]));
    let held = me["permissions"].as_array().unwrap();
    assert_eq!(held.len(), PlatformPermission::ALL.len());
    assert!(held.contains(&json!("tenants.erase")));

    let body = json!({"refresh_token": session["refresh_token"]});
    let renewed = app.anonymous().post("/api/v1/auth/refresh", body).await;
    let renewed = renewed.expect(200);
    let ops = app.with_token(renewed["access_token"].as_str());
    ops.get(TENANTS).await.expect(200);
    let sessions = ops.get("/api/v1/auth/sessions").await.expect(200);
    assert_eq!(sessions["data"][0]["tenant"], Value::Null);
    app.close().await;
}

async fn an_operators_token_opens_no_tenants_data(database: Database) {
    let app = access::start(database).await;
    let ids = access::something_of_each(&app).await;
    let body = json!({"name": "nothing", "permissions": []});
    app.admin.post("/api/v1/roles", body).await.expect(201);
    let powerless = app.member("nobody", "nothing").await;
    let ops = operator(&app, OPS, &everything()).await;
    for operation in access::operations(app.contract()) {
        if let Some(permission) = operation.permission() {
            let refused = operation.call(&ops, &ids).await;
            let other = operation.call(&powerless, &ids).await;
            assert_eq!(refused.status, 403, "{}: {refused}", operation.id);
            assert!(refused.body.contains(permission), "{}", operation.id);
            assert_eq!(refused.body, other.body, "{}", operation.id);
        }
    }
    let jobs = ops.get("/api/v1/jobs").await.expect(200);
    assert_eq!(jobs["data"], json!([]));
    for named in [acme(&app).await, Uuid::nil().to_string()] {
        let bent = ops.request(Method::GET, "/api/v1/contacts");
        let bent = ops.finish(bent.header("X-Tenant", named)).await;
        assert_eq!(bent.problem(), (401, "token_invalid".into()));
    }
    let body = json!({"tenant": "acme"});
    let switched = ops.post("/api/v1/auth/tenant", body).await;
    assert_eq!(switched.status, 422, "{switched}");
    app.close().await;
}

async fn whoever_is_no_operator_finds_no_platform(database: Database) {
    let app = access::start(database).await;
    let ids = access::something_of_each(&app).await;
    let program = app.program("admin").await;
    let body = json!({"user": "impersonated@acme.example", "reason": "ticket 8"});
    let begun = app
        .admin
        .post("/api/v1/impersonations", body)
        .await
        .expect(201);
    let acting = app.with_token(begun["access_token"].as_str());
    let mut seen = 0;
    for operation in access::operations(app.contract()) {
        if operation.platform.is_none() {
            continue;
        }
        seen += 1;
        let anonymous = operation.call(&app.anonymous(), &ids).await;
        assert_eq!(anonymous.problem(), (401, "token_missing".into()));
        let absent = app.admin.get("/api/v1/nothing/at/all").await.body;
        for caller in [&app.admin, &program, &acting] {
            let hidden = operation.call(caller, &ids).await;
            assert_eq!(hidden.status, 404, "{}: {hidden}", operation.id);
            assert_eq!(hidden.body, absent, "{}", operation.id);
        }
    }
    assert_eq!(seen, 13);
    app.close().await;
}

async fn an_operator_does_what_they_hold_and_nothing_else(database: Database) {
    let app = access::start(database).await;
    let ids = access::something_of_each(&app).await;
    let ops = operator(&app, OPS, &["audit.read"]).await;
    for operation in access::operations(app.contract()) {
        let Some(permission) = &operation.platform else {
            continue;
        };
        let reply = operation.call(&ops, &ids).await;
        match permission.as_str() {
            "audit.read" => assert_eq!(reply.status, 200, "{reply}"),
            lacked => {
                assert_eq!(
                    reply.problem(),
                    (403, "forbidden".into()),
                    "{}",
                    operation.id
                );
                assert!(reply.body.contains(lacked), "{}: {reply}", operation.id);
            }
        }
    }
    let unknown = NewOperator {
        email: "other@crm.example".into(),
        name: "Other".into(),
        permissions: vec!["*.*".into()],
        password: Some(PASSWORD.into()),
    };
    let refused = app.crm.operators().create(unknown, request()).await;
    assert_eq!(refused.unwrap_err().code(), "validation_failed");
    app.close().await;
}

async fn ag_85_a_tenant_lives_over_http_and_both_logs_tell_of_it(database: Database) {
    let (app, mailbox) = account::start(database).await;
    let ops = operator(&app, OPS, &everything()).await;
    let body =
        json!({"name": "initech", "admin": {"email": "pe@initech.example", "name": "Peter"}});
    let made = ops.post(TENANTS, body.clone()).await.expect(201);
    let id = made["tenant"]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        ops.post(TENANTS, body).await.problem(),
        (409, "already_exists".into())
    );
    let body = json!({"name": "half", "admin": {"email": "no address", "name": "Half"}});
    let refused = ops.post(TENANTS, body).await.expect(422);
    assert_eq!(refused["errors"][0]["pointer"], "/admin/email");
    let half = ops.get(&format!("{TENANTS}?name=half")).await.expect(200);
    assert_eq!(half["data"], json!([]), "both or neither");

    let token = mailbox.token(&app, "pe@initech.example").await;
    let body = json!({"token": token, "password": "a stapler, red"});
    let path = "/api/v1/auth/invitation/accept";
    app.anonymous().post(path, body).await.expect(201);
    let login = async || {
        let body = json!({"email": "pe@initech.example", "password": "a stapler, red"});
        app.anonymous().post("/api/v1/auth/login", body).await
    };
    let session = login().await.expect(200);
    let peter = app.with_token(session["access_token"].as_str());
    let made = peter
        .post("/api/v1/contacts", json!({"name": "Milton"}))
        .await;
    made.expect(201);

    let first = ops.get(&format!("{TENANTS}?limit=1")).await.expect(200);
    assert_eq!(first["data"][0]["name"], "acme");
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = ops
        .get(&format!("{TENANTS}?cursor={cursor}"))
        .await
        .expect(200);
    assert_eq!(rest["data"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&rest["data"][0]["id"], &rest["next_cursor"]),
        (&json!(id), &Value::Null)
    );

    let path = format!("{TENANTS}/{id}");
    let suspended = ops.post(&format!("{path}/suspend"), json!({})).await;
    let suspended = suspended.expect(200);
    assert_eq!(suspended["is_active"], false);
    for door in [
        "/api/v1/contacts",
        "/api/v1/auth/me",
        "/api/v1/impersonations",
    ] {
        assert_eq!(
            peter.get(door).await.problem(),
            (401, "token_invalid".into())
        );
    }
    assert_eq!(login().await.problem(), (401, "invalid_credentials".into()));
    let body = json!({"user": "pe@initech.example", "reason": "ticket 1"});
    let acting = ops.post(&format!("{path}/impersonations"), body).await;
    assert_eq!(acting.problem(), (409, "tenant_suspended".into()));
    let resumed = ops.post(&format!("{path}/resume"), json!({})).await;
    assert_eq!(resumed.expect(200)["is_active"], true);
    peter.get("/api/v1/contacts").await.expect(200);

    let me = ops.get("/api/v1/auth/me").await.expect(200);
    let actor = format!("operator:{}", me["user"]["id"].as_str().unwrap());
    let log = peter.get("/api/v1/audit?entity=tenants").await.expect(200);
    let log: Vec<_> = log["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["action"].clone(), entry["actor"].clone()))
        .collect();
    let expected = ["tenants.resume", "tenants.suspend", "tenants.create"];
    assert_eq!(log, expected.map(|action| (json!(action), json!(actor))));
    let told = told(&ops).await;
    for action in expected {
        assert!(told.contains(&action.to_owned()), "{action}: {told:?}");
    }
    app.crm.seal_audit_once().await.unwrap();
    let permit = app
        .crm
        .operator(PLATFORM, request())
        .permit("audit")
        .unwrap();
    let verified = app.crm.audit().verify(&permit, None).await.unwrap();
    assert_eq!(verified.fault, None, "the platform's log has a chain too");
    app.close().await;
}

async fn a_tenant_is_exported_as_one_file_without_secrets(database: Database) {
    let app = App::start(database).await;
    let ops = operator(&app, OPS, &everything()).await;
    app.admin
        .post("/api/v1/contacts", json!({"name": "Grace"}))
        .await
        .expect(201);
    app.program("viewer").await;
    let path = format!("{TENANTS}/{}/export", acme(&app).await);
    let file = ops.send(Method::POST, &path, None).await;
    assert_eq!(file.status, 200, "{file}");
    let mut files = BTreeMap::<String, usize>::new();
    for line in file.body.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["row"].is_object(), "{line}");
        *files
            .entry(line["file"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    for (name, rows) in [
        ("tenant", 1),
        ("members", 1),
        ("contacts", 1),
        ("api_keys", 1),
    ] {
        assert_eq!(files.get(&format!("{name}.ndjson")), Some(&rows), "{name}");
    }
    for secret in [PASSWORD, "$argon2", "crm_rt_"] {
        assert!(!file.body.contains(secret), "{secret}");
    }
    let log = app
        .admin
        .get("/api/v1/audit?action=tenants.export")
        .await
        .expect(200);
    assert_eq!(
        log["data"].as_array().unwrap().len(),
        1,
        "the tenant learns of it"
    );
    app.close().await;
}

async fn a_tenant_is_erased_when_its_name_is_given_once_more(database: Database) {
    let app = App::start(database).await;
    let ops = operator(&app, OPS, &everything()).await;
    let rival = app.foreign_admin().await;
    let path = format!("{TENANTS}/{}", acme(&app).await);
    let erase = async |confirm: &str| {
        let body = json!({"confirm": confirm});
        ops.post(&format!("{path}/erase"), body).await
    };
    assert_eq!(
        erase("globex").await.problem(),
        (409, "name_differs".into())
    );
    app.admin.get("/api/v1/auth/me").await.expect(200);
    let grave = erase("acme").await.expect(200);
    assert_ne!(grave["erased_at"], Value::Null);
    assert_eq!(app.admin.get("/api/v1/auth/me").await.status, 401);
    assert_eq!(ops.get(&path).await.status, 404);
    assert_eq!(erase("acme").await.expect(200), grave, "again");
    let erased = ops.get("/api/v1/platform/erased_tenants").await.expect(200);
    assert_eq!(erased["data"], json!([grave]));
    rival.get("/api/v1/auth/me").await.expect(200);
    let log = ops.get("/api/v1/platform/audit?action=tenants.erase").await;
    assert!(!log.body.contains("acme"), "the log keeps no name: {log}");
    app.close().await;
}

async fn operators_are_made_by_operators_within_their_own_rights(database: Database) {
    let (app, mailbox) = account::start(database).await;
    let rights = [
        "operators.create",
        "operators.read",
        "operators.delete",
        "tenants.read",
    ];
    let ops = operator(&app, OPS, &rights).await;
    let create = async |permissions: &[&str]| {
        let body = json!({"email": "bo@crm.example", "name": "Bo", "permissions": permissions});
        ops.post(OPERATORS, body).await
    };
    let beyond = create(&["tenants.read", "tenants.erase"]).await;
    assert_eq!(beyond.problem(), (403, "forbidden".into()));
    assert!(beyond.body.contains("tenants.erase"), "{beyond}");
    assert_eq!(create(&[]).await.status, 422);
    let made = create(&["tenants.read"]).await.expect(201);
    assert!(
        made["created_by"]
            .as_str()
            .unwrap()
            .starts_with("operator:")
    );
    assert_eq!(
        create(&["tenants.read"]).await.problem(),
        (409, "already_operator".into())
    );

    let token = mailbox.token(&app, "bo@crm.example").await;
    let body = json!({"token": token, "password": PASSWORD});
    let path = "/api/v1/auth/password/reset";
    app.anonymous().post(path, body).await.expect(200);
    let bo = app.login("bo@crm.example").await;
    bo.get(TENANTS).await.expect(200);
    assert_eq!(bo.get(OPERATORS).await.status, 403);

    // An account that an admin made, and knows the password of, is taken over by nobody.
    app.member("cy", "viewer").await;
    let body = json!({"email": "cy@acme.example", "name": "Cy", "permissions": ["tenants.read"]});
    let unproven = ops.post(OPERATORS, body).await;
    assert_eq!(unproven.problem(), (409, "address_unproven".into()));

    // Nor is one taken away who may do more.
    operator(&app, "eve@crm.example", &["tenants.erase"]).await;
    let all = ops.get(OPERATORS).await.expect(200);
    let mut all = all["data"].as_array().unwrap().iter();
    let eve = all.find(|one| one["email"] == "eve@crm.example").unwrap();
    let path = format!("{OPERATORS}/{}", eve["user_id"].as_str().unwrap());
    let beyond = ops.delete(&path).await;
    assert_eq!(beyond.problem(), (403, "forbidden".into()));
    assert!(beyond.body.contains("tenants.erase"), "{beyond}");

    let path = format!("{OPERATORS}/{}", made["user_id"].as_str().unwrap());
    ops.delete(&path).await.expect(204);
    assert_eq!(
        bo.get(TENANTS).await.problem(),
        (401, "token_invalid".into())
    );
    let body = json!({"email": "bo@crm.example", "password": PASSWORD});
    let login = app.anonymous().post("/api/v1/auth/login", body).await;
    assert_eq!(login.problem(), (401, "invalid_credentials".into()));
    assert_eq!(ops.delete(&path).await.status, 404);
    let all = ops.get(OPERATORS).await.expect(200);
    assert_eq!(all["data"].as_array().unwrap().len(), 2, "itself and Eve");
    app.close().await;
}

async fn an_operator_who_is_a_member_too_chooses_where_to_log_in(database: Database) {
    let app = App::start(database).await;
    operator(&app, "x@crm.example", &["tenants.read"]).await;
    // Ada registered with the setup token, so that her address counts as proven.
    make(&app, "ada@acme.example", &["tenants.read"]).await;
    let ada = app.login("ada@acme.example").await;
    ada.get("/api/v1/contacts").await.expect(200);
    assert_eq!(
        ada.get(TENANTS).await.status,
        404,
        "a session is of one place"
    );
    let login = async |body: Value| {
        let session = app.anonymous().post("/api/v1/auth/login", body).await;
        let session = session.expect(200);
        app.with_token(session["access_token"].as_str())
    };
    let (email, password) = ("ada@acme.example", PASSWORD);
    let ops = login(json!({"email": email, "password": password, "platform": true})).await;
    ops.get(TENANTS).await.expect(200);
    assert_eq!(ops.get("/api/v1/contacts").await.status, 403);
    let roaming = login(json!({"email": email, "password": password, "roaming": true})).await;
    roaming.get("/api/v1/contacts").await.expect(200);
    let bent = roaming.request(Method::GET, TENANTS);
    let bent = roaming
        .finish(bent.header("X-Tenant", Uuid::nil().to_string()))
        .await;
    assert_eq!(bent.problem(), (401, "token_invalid".into()));
    let body = json!({"email": email, "password": password, "platform": true, "roaming": true});
    let ops = login(body).await;
    let bent = ops.request(Method::GET, "/api/v1/contacts");
    let bent = ops.finish(bent.header("X-Tenant", acme(&app).await)).await;
    assert_eq!(bent.problem(), (401, "token_invalid".into()));
    let body = json!({"email": "nobody@acme.example", "password": password, "platform": true});
    let nobody = app.anonymous().post("/api/v1/auth/login", body).await;
    assert_eq!(nobody.problem(), (401, "invalid_credentials".into()));
    app.close().await;
}

async fn the_platform_is_no_tenant(database: Database) {
    let app = App::start(database).await;
    let ops = operator(&app, OPS, &everything()).await;
    let all = ops.get(TENANTS).await.expect(200);
    assert_eq!(all["data"].as_array().unwrap().len(), 1);
    let path = format!("{TENANTS}/{}", Uuid::nil());
    assert_eq!(ops.get(&path).await.status, 404);
    for act in ["suspend", "resume", "export"] {
        let reply = ops.send(Method::POST, &format!("{path}/{act}"), None).await;
        assert_eq!(reply.status, 404, "{act}");
    }
    let body = json!({"confirm": "platform"});
    assert_eq!(ops.post(&format!("{path}/erase"), body).await.status, 404);
    let body = json!({"user": OPS, "reason": "ticket 2"});
    let path = format!("{path}/impersonations");
    assert_eq!(ops.post(&path, body).await.status, 404);
    let found = ops
        .get(&format!("{TENANTS}?name=%20platform"))
        .await
        .expect(200);
    assert_eq!(found["data"], json!([]));
    let body = json!({"tenant": " platform"});
    assert_eq!(ops.post("/api/v1/auth/tenant", body).await.status, 422);
    app.close().await;
}
