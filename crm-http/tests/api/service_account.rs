//! Programs: service accounts, the rights of keys, and users taken over from another system.

use crm_core::identity::ImportedUser;
use crm_core::{Create, RequestContext};
use serde_json::{Value, json};

use crate::app::{App, Database};

crate::on_both_databases! {
    a_key_may_do_what_it_lists_of_its_role
    a_service_account_owns_what_its_key_makes
    a_service_account_has_no_login_and_is_no_last_admin
    a_key_never_acts_as_a_person
    xc_09_an_imported_bcrypt_user_logs_in_and_is_rehashed
}

async fn a_key_may_do_what_it_lists_of_its_role(database: Database) {
    let app = App::start(database).await;
    let permissions = json!(["contacts.*", "companies.*", "deals.*"]);
    let body = json!({"name": "sales", "permissions": permissions});
    app.admin.post("/api/v1/roles", body).await.expect(201);
    let make = async |permissions: Value| {
        let body = json!({"name": "key", "role": "sales", "permissions": permissions});
        app.admin.post("/api/v1/api_keys", body).await
    };
    let made = make(json!(["contacts.read", "deals.*"])).await.expect(201);
    let listed = json!(["contacts.read", "deals.*"]);
    assert_eq!(made["api_key"]["permissions"], listed);
    let program = app.with_token(made["key"].as_str());
    assert_eq!(program.get("/api/v1/contacts").await.status, 200);
    assert_eq!(program.get("/api/v1/deals").await.status, 200);
    assert_eq!(program.get("/api/v1/companies").await.status, 403);
    let body = json!({"name": "Grace"});
    assert_eq!(program.post("/api/v1/contacts", body).await.status, 403);
    for (permission, code) in [
        ("roles.create", "beyond_role"),
        ("moons.read", "unknown_permission"),
        ("contacts.read:own", "unknown_permission"),
        ("!contacts.read", "unknown_permission"),
    ] {
        let refused = make(json!([permission])).await.expect(422);
        let error = &refused["errors"][0];
        assert_eq!(
            (&error["pointer"], &error["code"]),
            (&json!("/permissions/0"), &json!(code)),
            "{permission}"
        );
    }
    app.close().await;
}

async fn a_service_account_owns_what_its_key_makes(database: Database) {
    let app = App::start(database).await;
    let permissions = json!([
        "contacts.create",
        "contacts.read:own",
        "contacts.update:own"
    ]);
    let body = json!({"name": "own contacts", "permissions": permissions});
    app.admin.post("/api/v1/roles", body).await.expect(201);
    let body = json!({"name": "Importer", "roles": ["own contacts"]});
    let account = app.admin.post("/api/v1/service_accounts", body).await;
    let account = account.expect(201)["user_id"].clone();
    let body = json!({"name": "key", "role": "own contacts", "service_account_id": account});
    let key = app.admin.post("/api/v1/api_keys", body).await.expect(201);
    assert_eq!(key["api_key"]["service_account_id"], account);
    let program = app.with_token(key["key"].as_str());
    let body = json!({"name": "Grace"});
    let made = program.post("/api/v1/contacts", body).await.expect(201);
    assert_eq!(made["owner_id"], account);
    let body = json!({"name": "Ada's"});
    app.admin.post("/api/v1/contacts", body).await.expect(201);
    let seen = program.get("/api/v1/contacts").await.expect(200);
    assert_eq!(seen["data"].as_array().unwrap().len(), 1);

    let path = format!("/api/v1/members/{}", account.as_str().unwrap());
    app.admin.delete(&path).await.expect(204);
    assert_eq!(program.get("/api/v1/contacts").await.status, 401);
    app.close().await;
}

async fn a_service_account_has_no_login_and_is_no_last_admin(database: Database) {
    let app = App::start(database).await;
    let body = json!({"name": "Robot", "roles": ["admin"]});
    let path = "/api/v1/service_accounts";
    let account = app.admin.post(path, body).await.expect(201);
    let id = account["user_id"].as_str().unwrap();
    let login = json!({"email": format!("{id}@service.invalid"), "password": ""});
    let login = app.anonymous().post("/api/v1/auth/login", login).await;
    assert_eq!(login.problem(), (401, "invalid_credentials".into()));
    let body = json!({"email": format!("{id}@service.invalid")});
    let forgot = "/api/v1/auth/password/forgot";
    app.anonymous().post(forgot, body).await.expect(204);
    let me = app.admin.get("/api/v1/auth/me").await.expect(200);
    let ada = format!("/api/v1/members/{}", me["user"]["id"].as_str().unwrap());
    assert_eq!(
        app.admin.delete(&ada).await.problem(),
        (409, "last_admin".into())
    );
    let body = json!({"name": "key", "role": "admin", "service_account_id": id});
    let key = app.admin.post("/api/v1/api_keys", body).await.expect(201);
    let robot = app.with_token(key["key"].as_str());
    let change = json!({"current_password": "", "password": "a new harpsichord"});
    let change = robot.post("/api/v1/auth/password/change", change).await;
    assert_eq!(change.problem(), (409, "not_a_user".into()));
    app.close().await;
}

async fn a_key_never_acts_as_a_person(database: Database) {
    let app = App::start(database).await;
    let me = app.admin.get("/api/v1/auth/me").await.expect(200);
    let body = json!({"name": "key", "role": "admin", "service_account_id": me["user"]["id"]});
    let refused = app.admin.post("/api/v1/api_keys", body).await.expect(422);
    assert_eq!(refused["errors"][0]["pointer"], "/service_account_id");
    app.close().await;
}

async fn xc_09_an_imported_bcrypt_user_logs_in_and_is_rehashed(database: Database) {
    let app = App::start(database).await;
    let tenants = app.crm.tenants();
    let acme = tenants.find_by_name("acme").await.unwrap().unwrap();
    let request = RequestContext {
        id: "operator".into(),
        address: None,
    };
    let operator = app.crm.operator(acme.id, request);
    let permit = operator.permit::<Create>("members").unwrap();
    let user = |hash: &str| ImportedUser {
        email: "old@acme.example".into(),
        name: "Old".into(),
        username: Some("Old.User".into()),
        password_hash: hash.into(),
        roles: vec!["viewer".into()],
    };
    let accounts = app.crm.accounts();
    for unknown in [
        "secret",
        "5f4dcc3b5aa765d61d8327deb882cf99",
        "$2b$31$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i",
    ] {
        let refused = accounts.import_user(&permit, user(unknown)).await;
        assert_eq!(refused.unwrap_err().code(), "validation_failed");
    }
    // The hash of "abc", a test vector of jBCrypt.
    let hash = "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";
    accounts.import_user(&permit, user(hash)).await.unwrap();
    let login = async |name: &str, password: &str| {
        let body = json!({"email": name, "password": password});
        app.anonymous().post("/api/v1/auth/login", body).await
    };
    assert_eq!(login("old.user", "abd").await.status, 401);
    login("old.user", "abc").await.expect(200);
    login("old@acme.example", "abc").await.expect(200);
    let again = accounts.import_user(&permit, user(hash)).await;
    assert_eq!(again.unwrap_err().code(), "already_member");
    app.close().await;
}
