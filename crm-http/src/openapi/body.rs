//! Request bodies of the fixed resources that can be sent as they stand: one for each operation, here so
//! that they tell one story. A new operation with a body gets its line here; a test sends them all.

use serde_json::{Map, Value, json};

const PASSWORD: &str = "correct horse battery staple";
/// Where a secret stands that only its owner has.
const TOKEN: &str = "crm_…";
const ID: &str = "018f4e2a-7b6c-7d3e-9a1b-2c3d4e5f6071";

/// Adds the example of an operation's body.
pub(super) fn declare(operation: &mut Map<String, Value>) {
    let id = operation.get("operationId").and_then(Value::as_str);
    let Some(example) = id.and_then(example) else {
        return;
    };
    let content = operation
        .get_mut("requestBody")
        .and_then(|body| body.pointer_mut("/content/application~1json"));
    if let Some(content) = content {
        content["example"] = example;
    }
}

fn example(operation: &str) -> Option<Value> {
    let of_account = account(operation).or_else(|| passkey(operation));
    let of_provider = of_account.or_else(|| provider(operation));
    of_provider
        .or_else(|| plugin(operation))
        .or_else(|| administration(operation))
}

fn plugin(operation: &str) -> Option<Value> {
    let sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    Some(match operation {
        "activate_plugin" => json!({"sha256": sha256}),
        "try_plugin" => json!({"sha256": sha256, "percent": 10}),
        "rehearse_plugin_version" => json!({"last": 100}),
        "set_plugin_secret" => json!({"value": "a token of another system"}),
        "set_plugin_settings" => {
            json!({"require_signature": false, "daily_fuel": 1_000_000_000_000_u64})
        }
        "create_plugin_key" => json!({
            "name": "vendor", "public_key": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        }),
        _ => return None,
    })
}

/// Logging in, and one's own account.
fn account(operation: &str) -> Option<Value> {
    let email = "ada@acme.example";
    Some(match operation {
        "register" => json!({
            "setup_token": TOKEN, "tenant": "acme", "name": "Ada Lovelace", "email": email,
            "password": PASSWORD,
        }),
        "confirm_registration" => json!({"token": TOKEN, "password": PASSWORD}),
        "login" => json!({"email": email, "password": PASSWORD}),
        "refresh" | "logout" => json!({"refresh_token": TOKEN}),
        "switch_tenant" => json!({"tenant": "acme"}),
        "finish_login" => json!({"mfa_token": TOKEN, "code": "123456"}),
        "enroll_at_login" => json!({"mfa_token": TOKEN}),
        "begin_totp" => json!({"password": PASSWORD}),
        "confirm_totp" => json!({"code": "123456"}),
        "disable_totp" | "renew_recovery_codes" => json!({"password": PASSWORD, "code": "123456"}),
        "forgot_password" => json!({"email": email}),
        "reset_password" => json!({"token": TOKEN, "password": "seven harpsichords, tuned"}),
        "change_password" => {
            json!({"current_password": PASSWORD, "password": "seven harpsichords, tuned"})
        }
        "change_email" => json!({"email": "ada@lovelace.example", "password": PASSWORD}),
        "verify_email" | "read_invitation" => json!({"token": TOKEN}),
        "accept_invitation" => json!({"token": TOKEN, "password": "seven harpsichords, tuned"}),
        "set_username" => json!({"username": "ada.lovelace", "password": PASSWORD}),
        _ => return None,
    })
}

fn passkey(operation: &str) -> Option<Value> {
    // As `toJSON()` of what `navigator.credentials` answers.
    let answer = |response: Value| {
        json!({"id": "AAEC", "rawId": "AAEC", "type": "public-key", "response": response,
            "clientExtensionResults": {}})
    };
    let signed = answer(json!({
        "clientDataJSON": "e30", "authenticatorData": "AAEC", "signature": "AAEC", "userHandle": "AAEC",
    }));
    Some(match operation {
        "begin_passkey" | "delete_passkey" => json!({"password": PASSWORD}),
        "create_passkey" => json!({
            "passkey_token": TOKEN, "name": "Ada's phone",
            "credential": answer(json!({"clientDataJSON": "e30", "attestationObject": "AAEC"})),
        }),
        "update_passkey" => json!({"name": "Ada's old phone"}),
        "passkey_login" => json!({"passkey_token": TOKEN, "credential": signed}),
        "begin_passkey_step" => json!({"mfa_token": TOKEN}),
        "finish_login_by_passkey" => {
            json!({"mfa_token": TOKEN, "passkey_token": TOKEN, "credential": signed})
        }
        _ => return None,
    })
}

/// Identity providers, and logins at them.
fn provider(operation: &str) -> Option<Value> {
    let back = "https://app.acme.example/back";
    let by_code = json!({
        "login_secret": "crm_ol_…", "state": "…", "code": "…", "iss": "https://id.acme.example",
    });
    let by_token = json!({"id_token": "eyJ…", "nonce": "…"});
    let with_password = |mut body: Value| {
        body["password"] = json!(PASSWORD);
        body
    };
    Some(match operation {
        "create_identity_provider" => json!({
            "name": "Corporate login", "issuer": "https://id.acme.example", "client_id": "crm",
            "client_secret": "a secret of the client's", "redirect_uris": [back],
            "domains": ["acme.example"], "join_role": "viewer", "enabled": false,
        }),
        "replace_identity_provider" => json!({
            "name": "Corporate login", "issuer": "https://id.acme.example", "client_id": "crm",
            "redirect_uris": [back], "domains": ["acme.example"], "join_role": "viewer",
            "trusts_second_factor": false, "enabled": false,
        }),
        "begin_provider_login" => json!({"redirect_uri": back}),
        "finish_provider_login" => by_code,
        "login_with_id_token" => by_token,
        "link_identity" => with_password(by_code),
        "link_identity_by_token" => with_password(by_token),
        _ => return None,
    })
}

/// The people of a tenant, what they may do, and the platform.
fn administration(operation: &str) -> Option<Value> {
    let grace = json!({"email": "grace@acme.example", "name": "Grace Hopper", "roles": ["viewer"]});
    let impersonation = json!({"user": "bo@acme.example", "reason": "ticket 4711"});
    Some(match operation {
        "set_login_requirements" => json!({"second_factor": true}),
        "update_tenant_security" => {
            json!({"password_policy": {"min_chars": 12, "classes": [], "min_score": 3}})
        }
        "create_member" => json!({
            "email": "bo@acme.example", "name": "Bo", "password": "seven harpsichords, tuned",
            "roles": ["member"],
        }),
        "set_member_roles" => {
            json!({"roles": ["member", {"role": "manager", "until": "2036-01-01T00:00:00Z"}]})
        }
        "create_invitation" => grace,
        "create_service_account" => json!({"name": "sync", "roles": ["viewer"]}),
        "create_api_key" => {
            json!({"name": "sync", "role": "viewer", "permissions": ["contacts.read"]})
        }
        "create_impersonation" | "create_operator_impersonation" => impersonation,
        "create_role" => json!({
            "name": "seller", "permissions": [
                "deals.*:team",
                {"permission": "contacts.read", "fields": ["name", "phone", "email"]},
                {"permission": "companies.read", "where": {"name": {"starts": "A"}}},
            ],
        }),
        "update_role" => json!({"permissions": ["deals.*:team", "contacts.read"]}),
        "create_group" => json!({"name": "field sales", "roles": ["seller"]}),
        "update_group" => json!({"roles": ["viewer"]}),
        "create_module" => json!({
            "name": "visits", "singular": "visit", "fields": [
                {"name": "day", "type": "date", "sort": true},
                {"name": "status", "type": "enum", "values": ["planned", "made", "missed"],
                    "required": true, "default": "planned"},
            ],
            "machines": [{
                "field": "status", "initial": ["planned"], "edges": {"planned": ["made", "missed"]},
            }],
        }),
        "update_module" => json!({"machines": [{
            "field": "status", "initial": ["planned"],
            "edges": {"planned": ["made", "missed"], "missed": ["planned"]},
            "needs": {"made": ["day"]}, "open": [],
        }]}),
        "create_module_field" => {
            json!({"name": "plan", "type": "enum", "values": ["free", "paid"], "sort": true})
        }
        "update_module_field" => json!({"values": ["free", "paid", "trial"]}),
        "create_tenant" => {
            json!({"name": "initech", "admin": {"email": "pe@initech.example", "name": "Peter"}})
        }
        "erase_tenant" => json!({"confirm": "initech"}),
        "create_operator" => json!({
            "email": "support@crm.example", "name": "Sam",
            "permissions": ["tenants.read", "tenants.impersonate"],
        }),
        merge if merge.starts_with("merge_") => json!({"from": [ID]}),
        _ => return None,
    })
}
