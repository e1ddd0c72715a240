//! The bodies of the fixed resources' operations that the OpenAPI document shows, each sent as it
//! stands: they tell one story, in the order below. What names a secret is refused for that alone.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::{App, Caller, Database};
use crate::contract::Contract;
use crate::platform::{everything, operator};

crate::on_both_databases! {
    every_operation_with_a_json_body_shows_one
    every_body_of_a_fixed_resource_is_sent_as_it_stands
}

/// The operations in their order, and what each answers: its status, or the status and the code of
/// a refusal that a secret of somebody else's gets.
const STORY: &[(&str, u16, &str)] = &[
    ("login", 200, ""),
    ("register", 401, "setup_token_invalid"),
    ("confirm_registration", 403, "registration_closed"),
    ("refresh", 401, "token_invalid"),
    ("logout", 204, ""),
    ("create_role", 201, ""),
    ("update_role", 200, ""),
    ("create_group", 201, ""),
    ("update_group", 200, ""),
    ("create_member", 201, ""),
    ("set_member_roles", 200, ""),
    ("create_invitation", 201, ""),
    ("read_invitation", 422, "/token"),
    ("accept_invitation", 422, "/token"),
    ("create_service_account", 201, ""),
    ("create_api_key", 201, ""),
    ("create_impersonation", 201, ""),
    ("create_module", 201, ""),
    ("update_module", 200, ""),
    ("create_module_field", 201, ""),
    ("update_module_field", 200, ""),
    ("merge_contacts", 422, "/from/0"),
    ("merge_companies", 422, "/from/0"),
    ("merge_deals", 422, "/from/0"),
    ("create_identity_provider", 201, ""),
    ("replace_identity_provider", 200, ""),
    // It is switched off.
    ("begin_provider_login", 404, "not_found"),
    ("finish_provider_login", 404, "not_found"),
    ("login_with_id_token", 404, "not_found"),
    ("link_identity", 404, "not_found"),
    ("link_identity_by_token", 404, "not_found"),
    ("activate_plugin", 404, "not_found"),
    ("try_plugin", 404, "not_found"),
    ("rehearse_plugin_version", 404, "not_found"),
    ("set_plugin_secret", 404, "not_found"),
    ("set_plugin_settings", 200, ""),
    ("create_plugin_key", 201, ""),
    ("create_tenant", 201, ""),
    ("create_operator", 201, ""),
    ("create_operator_impersonation", 201, ""),
    ("erase_tenant", 200, ""),
    ("switch_tenant", 200, ""),
    ("set_username", 204, ""),
    ("change_email", 204, ""),
    ("verify_email", 422, "/token"),
    ("forgot_password", 204, ""),
    ("reset_password", 422, "/token"),
    // Whoever asks for one has one.
    ("set_login_requirements", 409, "second_factor_missing"),
    ("begin_totp", 200, ""),
    ("confirm_totp", 422, "/code"),
    ("disable_totp", 409, "no_second_factor"),
    ("renew_recovery_codes", 409, "no_second_factor"),
    ("finish_login", 422, "/mfa_token"),
    ("enroll_at_login", 422, "/mfa_token"),
    ("begin_passkey", 200, ""),
    ("create_passkey", 422, "/passkey_token"),
    ("update_passkey", 404, "not_found"),
    ("delete_passkey", 404, "not_found"),
    ("passkey_login", 401, "passkey_refused"),
    ("begin_passkey_step", 422, "/mfa_token"),
    ("finish_login_by_passkey", 422, "/mfa_token"),
    ("update_tenant_security", 200, ""),
    ("change_password", 200, ""),
];

struct Shown {
    method: Method,
    path: String,
    example: Option<Value>,
}

/// The operations with a JSON body, by their ids.
fn shown(document: &Value) -> BTreeMap<String, Shown> {
    let contract = Contract::new(document.clone());
    let mut all = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let content = &operation["requestBody"]["content"]["application/json"];
            if content.is_null() {
                continue;
            }
            let schema = contract.resolve(&content["schema"]);
            let example = content.get("example").or_else(|| schema.get("example"));
            let shown = Shown {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                example: example.cloned(),
            };
            all.insert(operation["operationId"].as_str().unwrap().to_owned(), shown);
        }
    }
    all
}

async fn start(database: Database) -> App {
    let party = crate::passkey::relying_party();
    App::with(database, |builder| builder.passkeys(party)).await
}

async fn every_operation_with_a_json_body_shows_one(database: Database) {
    let app = start(database).await;
    for (operation, shown) in shown(app.document()) {
        let example = shown.example;
        assert!(
            example.is_some(),
            "{operation}: add an example to crm-http/src/openapi/body.rs"
        );
    }
    app.close().await;
}

/// Ids of what the story has made, by what stands before them in a path.
#[derive(Default)]
struct Made(BTreeMap<String, String>);

impl Made {
    fn fill(&self, path: &str) -> String {
        let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
        for at in 1..parts.len() {
            if parts[at].starts_with('{') {
                let nothing = Uuid::from_u128(7).to_string();
                parts[at] = self.0.get(&parts[at - 1]).cloned().unwrap_or(nothing);
            }
        }
        parts.join("/")
    }

    fn note(&mut self, path: &str, reply: &Value) {
        let collection = path.rsplit('/').next().unwrap().to_owned();
        let thing = match collection.as_str() {
            "tenants" => &reply["tenant"],
            _ => reply,
        };
        let ids = ["id", "user_id", "name"].map(|name| thing[name].as_str());
        if let Some(id) = ids.into_iter().flatten().next() {
            if collection == "identity_providers" {
                self.0.insert("oidc".into(), id.to_owned());
            }
            self.0.insert(collection, id.to_owned());
        }
    }
}

async fn every_body_of_a_fixed_resource_is_sent_as_it_stands(database: Database) {
    let app = start(database).await;
    let ops = operator(&app, "ops@crm.example", &everything()).await;
    let shown = shown(app.document());
    let mut made = Made::default();
    let first = async |caller: &Caller, path: &str, body: Value| {
        caller.post(path, body).await.expect(201)["id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for (module, body) in [
        ("contacts", json!({"name": "New"})),
        ("companies", json!({"name": "New"})),
        ("deals", json!({"title": "New"})),
    ] {
        let id = first(&app.admin, &format!("/api/v1/{module}"), body).await;
        made.0.insert(module.to_owned(), id);
    }
    for (operation, status, refusal) in STORY {
        let Shown {
            method,
            path,
            example,
        } = &shown[*operation];
        let is_module = path.starts_with("/api/v1/modules/{module}/fields");
        let target = match is_module {
            true => path
                .replace("{module}", "contacts")
                .replace("{name}", "plan"),
            false if path.ends_with("/impersonations") && path.contains("/platform/") => {
                path.replace("{id}", &crate::platform::acme(&app).await)
            }
            false => made.fill(path),
        };
        // Some of these end or move the session that they come in.
        let admin = app.login("ada@acme.example").await;
        let caller = match path.starts_with("/api/v1/platform/") {
            true => &ops,
            false => &admin,
        };
        let reply = caller.send(method.clone(), &target, example.clone()).await;
        assert_eq!(reply.status, *status, "{operation}: {reply}");
        if refusal.starts_with('/') {
            let errors = reply.json()["errors"].clone();
            assert_eq!(errors[0]["pointer"], *refusal, "{operation}: {reply}");
        } else if !refusal.is_empty() {
            assert_eq!(reply.problem().1, *refusal, "{operation}: {reply}");
        } else if *status == 201 {
            made.note(path, &reply.json());
        }
    }
    let told: BTreeSet<&str> = STORY.iter().map(|(operation, ..)| *operation).collect();
    let of_modules = ["contacts", "companies", "deals"];
    for (operation, Shown { path, .. }) in &shown {
        let module = of_modules
            .iter()
            .any(|name| path.starts_with(&format!("/api/v1/{name}")));
        assert!(
            module || told.contains(operation.as_str()),
            "{operation} is not sent by this test"
        );
    }
    app.close().await;
}
