//! Every operation of the OpenAPI document, called by those who may not: without a credential, from
//! another tenant, and with a role that lacks the permission.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::{App, Caller, Database, Reply};
use crate::contract::Contract;

/// Operations that answer whoever asks. This list only shrinks.
const OPEN: &[&str] = &[
    "get_health",
    "get_readiness",
    "get_public_keys",
    "register",
    "login",
    "refresh",
    "logout",
    // The token of a mail is the credential.
    "forgot_password",
    "reset_password",
    "read_invitation",
    "accept_invitation",
    "confirm_registration",
    // The token of the first step is.
    "finish_login",
    "enroll_at_login",
    "begin_passkey_step",
    "finish_login_by_passkey",
    // A passkey is the credential.
    "begin_passkey_login",
    "passkey_login",
    // Before anybody has logged in.
    "list_login_providers",
    // The provider's word is.
    "begin_provider_login",
    "finish_provider_login",
    "create_provider_nonce",
    "login_with_id_token",
];

/// Operations that any credential will do for. This list only shrinks.
const ANY_CALLER: &[&str] = &[
    "me",
    "list_sessions",
    "delete_sessions",
    "delete_session",
    "switch_tenant",
    "end_impersonation",
    // One's own account.
    "change_password",
    "logout_everywhere",
    "send_email_verification",
    "verify_email",
    "change_email",
    "set_username",
    "begin_totp",
    "confirm_totp",
    "disable_totp",
    "renew_recovery_codes",
    "list_passkeys",
    "begin_passkey",
    "create_passkey",
    "update_passkey",
    "delete_passkey",
    "link_identity",
    "link_identity_by_token",
    "list_identities",
    "unlink_identity",
    "list_sessions",
    "delete_sessions",
    "delete_session",
    "switch_tenant",
    // One's own; everybody's with a permission.
    "list_jobs",
    "get_job",
    "cancel_job",
    "get_job_errors",
];

/// One operation of the document, ready to be called.
#[derive(Clone)]
pub(crate) struct Operation {
    pub(crate) id: String,
    method: Method,
    path: String,
    permission: Option<String>,
    /// What operators need for it.
    pub(crate) platform: Option<String>,
    /// What it needs beside the permission, always or sometimes.
    pub(crate) further: Vec<String>,
    body: Option<Body>,
}

#[derive(Clone)]
enum Body {
    Json(Value),
    Bytes(Vec<u8>),
}

impl Operation {
    pub(crate) async fn call(&self, caller: &Caller, ids: &BTreeMap<&str, String>) -> Reply {
        let mut path = self.path.clone();
        for (collection, id) in ids {
            if path.starts_with(&format!("/api/v1/{collection}/{{")) {
                let (start, end) = (path.find('{').unwrap(), path.find('}').unwrap());
                path.replace_range(start..=end, id);
            }
        }
        if let Some(name) = ids.get("fields") {
            path = path.replace("{name}", name);
        }
        if let Some(id) = ids.get("auth/sessions") {
            path = path.replace("{session_id}", id);
        }
        path = path.replace("{run_id}", &Uuid::from_u128(9).to_string());
        path = path.replace("{sha256}", "ab");
        assert!(!path.contains('{'), "no id for {path}");
        if self.id == "explain_access" {
            let nobody = Uuid::nil();
            path.push_str(&format!("?subject=user:{nobody}&action=contacts.read"));
        }
        if self.id == "enable_plugin" {
            path.push_str(&format!("?sha256={}", "0".repeat(64)));
        }
        let request = caller.request(self.method.clone(), &path);
        let request = match &self.body {
            Some(Body::Json(body)) => request.json(body),
            Some(Body::Bytes(bytes)) => request
                .header("Content-Type", "application/octet-stream")
                .body(bytes.clone()),
            None => request,
        };
        caller.finish(request).await
    }

    pub(crate) fn permission(&self) -> Option<&str> {
        self.permission.as_deref()
    }

    /// The same operation, asked for so.
    pub(crate) fn with_body(self, body: Value) -> Self {
        Self {
            body: Some(Body::Json(body)),
            ..self
        }
    }

    /// The same operation with this file.
    pub(crate) fn with_file(self, bytes: Vec<u8>) -> Self {
        Self {
            body: Some(Body::Bytes(bytes)),
            ..self
        }
    }

    /// The same operation with query parameters.
    pub(crate) fn with_query(self, query: &str) -> Self {
        Self {
            path: format!("{}?{query}", self.path),
            ..self
        }
    }

    fn names_a_resource(&self) -> bool {
        self.path.contains('{')
    }
}

/// The operations of the document.
pub(crate) fn operations(contract: &Contract) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in contract.document()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let content = operation["requestBody"]["content"].as_object();
            let body = content.and_then(|content| content.iter().next());
            operations.push(Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                permission: operation["x-permission"].as_str().map(str::to_owned),
                platform: operation["x-platform-permission"]
                    .as_str()
                    .map(str::to_owned),
                further: further_of(operation),
                body: body.map(|(media_type, content)| match media_type.as_str() {
                    "application/json" => Body::Json(contract.sample(&content["schema"])),
                    _ => Body::Bytes(b"sample".to_vec()),
                }),
            });
        }
    }
    operations
}

fn further_of(operation: &Value) -> Vec<String> {
    let further = operation["x-further-permissions"].as_array();
    let further = further.into_iter().flatten();
    let permissions = further.map(|one| one["permission"].as_str().unwrap().to_owned());
    permissions.collect()
}

/// With a module that has every option, and so every operation.
pub(crate) async fn start(database: Database) -> App {
    App::with(database, |builder| {
        builder
            .modules([crate::trash::papers(), crate::types::kinds()])
            .passkeys(crate::passkey::relying_party())
    })
    .await
}

/// The id of something of `acme` in each collection.
pub(crate) async fn something_of_each(app: &App) -> BTreeMap<&'static str, String> {
    let id = |reply: &Value| reply["id"].as_str().unwrap().to_owned();
    let mut ids = BTreeMap::new();
    for (collection, body) in [
        ("contacts", json!({"name": "Grace"})),
        ("companies", json!({"name": "Navy"})),
        ("deals", json!({"title": "Compiler"})),
        ("papers", json!({"title": "Deed"})),
        ("kinds", json!({"code": "one"})),
        ("roles", json!({"name": "own role", "permissions": []})),
        ("groups", json!({"name": "own group"})),
    ] {
        let path = format!("/api/v1/{collection}");
        ids.insert(
            collection,
            id(&app.admin.post(&path, body).await.expect(201)),
        );
    }
    let key = json!({"name": "key", "role": "viewer"});
    let key = app.admin.post("/api/v1/api_keys", key).await.expect(201);
    ids.insert("api_keys", id(&key["api_key"]));
    let invitation = json!({"email": "new@acme.example", "name": "New", "roles": ["viewer"]});
    let invitation = app.admin.post("/api/v1/invitations", invitation).await;
    ids.insert("invitations", id(&invitation.expect(201)));
    let provider = json!({"name": "login", "issuer": "https://127.0.0.1", "client_id": "crm",
        "enabled": false});
    let provider = app.admin.post("/api/v1/identity_providers", provider).await;
    ids.insert("identity_providers", id(&provider.expect(201)));
    ids.insert("auth/oidc", ids["identity_providers"].clone());
    ids.insert("auth/identities", Uuid::from_u128(8).to_string());
    let me = app.admin.get("/api/v1/auth/me").await.expect(200);
    ids.insert("members", id(&me["user"]));
    let sessions = app.admin.get("/api/v1/auth/sessions").await.expect(200);
    ids.insert("auth/sessions", id(&sessions["data"][0]));
    crate::passkey::register(&app.admin).await;
    let passkeys = app.admin.get("/api/v1/auth/passkeys").await.expect(200);
    ids.insert("auth/passkeys", id(&passkeys["data"][0]));
    let import = app
        .admin
        .request(Method::POST, "/api/v1/contacts/import?format=csv")
        .header("Content-Type", "text/csv")
        .body("name\nGrace\n");
    ids.insert("jobs", id(&app.admin.finish(import).await.expect(202)));
    let visits = json!({"name": "visits", "singular": "visit",
        "fields": [{"name": "plan", "type": "text"}]});
    app.admin.post("/api/v1/modules", visits).await.expect(201);
    ids.insert("modules", "visits".to_owned());
    ids.insert("fields", "plan".to_owned());
    app.member("impersonated", "viewer").await;
    let body = json!({"user": "impersonated@acme.example", "reason": "ticket 7"});
    let begun = app.admin.post("/api/v1/impersonations", body).await;
    ids.insert("impersonations", id(&begun.expect(201)["impersonation"]));
    let tenant = app.admin.get("/api/v1/auth/me").await.expect(200);
    ids.insert("platform/tenants", id(&tenant["tenant"]));
    ids.insert("platform/operators", id(&tenant["user"]));
    let plugin = crate::plugin::upload(&app.admin).await.expect(201);
    ids.insert("plugins", id(&plugin));
    ids.insert("hooks", "idle".to_owned());
    let key = json!({"name": "vendor", "public_key": crate::plugin_versions::PUBLIC_KEY});
    let key = app.admin.post("/api/v1/plugins/keys", key).await;
    ids.insert("plugins/keys", id(&key.expect(201)));
    ids
}

crate::on_both_databases! {
    every_operation_refuses_a_caller_without_a_credential
    every_operation_hides_what_belongs_to_another_tenant
    every_operation_refuses_a_role_that_lacks_the_permission
    operations_have_unique_ids_and_declare_what_they_need
}

async fn every_operation_refuses_a_caller_without_a_credential(database: Database) {
    let app = start(database).await;
    let ids = something_of_each(&app).await;
    for operation in operations(app.contract()) {
        let reply = operation.call(&app.anonymous(), &ids).await;
        let open = OPEN.contains(&operation.id.as_str());
        let refused = reply.body.contains("token_missing");
        assert_eq!(refused, !open, "{} answers {reply}", operation.id);
        if refused {
            assert_eq!(reply.status, 401, "{}", operation.id);
            assert_eq!(reply.header("www-authenticate"), "Bearer realm=\"crm\"");
        }
    }
    app.close().await;
}

async fn every_operation_hides_what_belongs_to_another_tenant(database: Database) {
    let app = start(database).await;
    let ids = something_of_each(&app).await;
    let absent = ids
        .keys()
        .map(|name| (*name, Uuid::from_u128(7).to_string()))
        .collect();
    let foreign = app.foreign_admin().await;
    let before = snapshot(&app).await;
    for operation in operations(app.contract())
        .iter()
        .filter(|one| one.names_a_resource() && !OPEN.contains(&one.id.as_str()))
    {
        let hidden = operation.call(&foreign, &ids).await;
        assert_eq!(hidden.status, 404, "{} answers {hidden}", operation.id);
        let nothing = operation.call(&foreign, &absent).await;
        assert_eq!(
            hidden.body, nothing.body,
            "{} tells the two apart",
            operation.id
        );
    }
    assert_eq!(
        snapshot(&app).await,
        before,
        "a foreign caller changed something"
    );
    app.close().await;
}

async fn every_operation_refuses_a_role_that_lacks_the_permission(database: Database) {
    let app = start(database).await;
    let ids = something_of_each(&app).await;
    let powerless = app.member("nobody", "own role").await;
    for operation in operations(app.contract()) {
        let Some(permission) = &operation.permission else {
            continue;
        };
        let reply = operation.call(&powerless, &ids).await;
        assert_eq!(
            reply.problem(),
            (403, "forbidden".into()),
            "{}: {reply}",
            operation.id
        );
        assert!(
            reply.body.contains(permission.as_str()),
            "{}: {reply}",
            operation.id
        );
    }
    app.close().await;
}

async fn operations_have_unique_ids_and_declare_what_they_need(database: Database) {
    let app = start(database).await;
    let operations = operations(app.contract());
    let mut ids: Vec<&str> = operations
        .iter()
        .map(|operation| operation.id.as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(
        ids.len(),
        operations.len(),
        "an operation id is given twice"
    );
    for operation in &operations {
        let id = operation.id.as_str();
        let exempt = OPEN.contains(&id) || ANY_CALLER.contains(&id) || operation.platform.is_some();
        assert_eq!(operation.permission.is_none(), exempt, "{id}");
    }
    let items = app.document()["paths"].as_object().unwrap().values();
    for operation in items.flat_map(|item| item.as_object().unwrap().values()) {
        let said = |name: &str| operation.get(name).is_some();
        let said = said("x-permission") ^ said("x-platform-permission");
        assert!(said, "null at least: {}", operation["operationId"]);
    }
    app.close().await;
}

/// What the admin of `acme` sees.
async fn snapshot(app: &App) -> Vec<String> {
    let mut seen = Vec::new();
    for collection in [
        "contacts",
        "companies",
        "deals",
        "papers",
        "roles",
        "groups",
        "members",
        "api_keys",
    ] {
        seen.push(app.admin.get(&format!("/api/v1/{collection}")).await.body);
    }
    seen
}
