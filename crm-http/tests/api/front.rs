//! What holds for every request, and the pages that are no resources.

use std::sync::Arc;
use std::time::Duration;

use crm_core::DatabaseOptions;
use crm_core::event::ChangeKind;
use crm_core::record::When;
use crm_http::HttpOptions;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::app::{App, Database};
use crate::contract;

crate::on_both_databases! {
    xc_06_every_answer_carries_the_request_id
    xc_20_who_waits_too_long_for_the_database_is_asked_to_come_again
    xc_07_health_needs_no_credential
    xc_08_the_reference_pages_are_served_from_the_binary
    xc_22_only_named_origins_may_read_and_a_preflight_needs_no_credential
    xc_23_every_answer_carries_the_security_headers
    a_request_that_takes_too_long_is_shed
}

async fn xc_06_every_answer_carries_the_request_id(database: Database) {
    let app = App::start(database).await;
    let id_of = async |path: &str, given: &str| {
        let request = app.bare(Method::GET, path).header("X-Request-Id", given);
        let reply = request.send().await.unwrap();
        reply.headers()["x-request-id"].to_str().unwrap().to_owned()
    };
    for path in [
        "/health",
        "/nowhere",
        "/api/v1/contacts",
        "/docs",
        "/openapi.json",
    ] {
        assert_eq!(
            id_of(path, "from-the-caller.1").await,
            "from-the-caller.1",
            "{path}"
        );
        let made = id_of(path, "not an id").await;
        assert_eq!(made.len(), 32, "{path} made {made}");
    }
    app.close().await;
}

async fn xc_07_health_needs_no_credential(database: Database) {
    let app = App::start(database).await;
    for path in ["/health", "/health/ready"] {
        assert_eq!(
            app.anonymous().get(path).await.expect(200),
            json!({"status": "ok"})
        );
    }
    let crm = app.crm.clone();
    crm.close().await;
    assert_eq!(app.anonymous().get("/health").await.status, 200);
    let reply = app.anonymous().get("/health/ready").await;
    assert_eq!(reply.problem(), (503, "unavailable".into()));
    assert_eq!(reply.header("retry-after"), "1");
    app.abandon().await;
}

async fn xc_20_who_waits_too_long_for_the_database_is_asked_to_come_again(database: Database) {
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let app = App::with(database, |builder| {
        builder
            .database_options(DatabaseOptions {
                max_connections: Some(2),
                min_connections: 1,
                acquire_timeout: Duration::from_secs(3),
                write_queue: 1,
                group_commit: 1,
                ..DatabaseOptions::default()
            })
            .hook("contacts", When::Before, ChangeKind::Created, move |_| {
                let held = held.clone();
                Box::pin(async move {
                    let _open = held.acquire().await;
                    Ok(())
                })
            })
    })
    .await;
    let post = || app.admin.post("/api/v1/contacts", json!({"name": "Ada"}));
    let mut waiting: FuturesUnordered<_> = (0..6).map(|_| post()).collect();
    // Those that have the connections keep them until somebody who waits has been sent away.
    let mut replies = vec![waiting.next().await.unwrap()];
    gate.add_permits(1);
    replies.extend(waiting.collect::<Vec<_>>().await);
    let (made, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|one| one.status == 201);
    assert!(!made.is_empty() && !refused.is_empty());
    for reply in refused {
        assert_eq!(reply.problem(), (503, "unavailable".into()));
        assert_eq!(reply.header("retry-after"), "1");
    }
    let list = app
        .admin
        .get("/api/v1/contacts?count=exact")
        .await
        .expect(200);
    assert_eq!(list["total"]["count"], made.len());
    post().await.expect(201);
    app.close().await;
}

async fn xc_08_the_reference_pages_are_served_from_the_binary(database: Database) {
    let app = App::start(database).await;
    for page in ["/docs", "/redoc"] {
        let reply = app.anonymous().get(page).await;
        assert_eq!(reply.status, 200);
        let sources = reply
            .body
            .split(['"', '\''])
            .filter(|text| text.ends_with(".js"));
        let mut count = 0;
        for source in sources {
            let script = app.anonymous().get(&format!("/{source}")).await;
            assert_eq!(script.status, 200, "{source}");
            assert_eq!(
                script.header("content-type"),
                "text/javascript; charset=utf-8"
            );
            count += 1;
        }
        assert_eq!(count, 2, "{page} has two scripts");
    }
    app.close().await;
}

async fn xc_22_only_named_origins_may_read_and_a_preflight_needs_no_credential(database: Database) {
    let app = App::start(database).await;
    let origins = vec!["https://app.example".to_owned()];
    let open = app
        .also(HttpOptions {
            cors_origins: origins,
            ..HttpOptions::default()
        })
        .await;
    let preflight = |caller: &crate::app::Caller, origin: &str| {
        let request = caller.request(Method::OPTIONS, "/api/v1/contacts");
        request
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "POST")
            .send()
    };
    let allowed = preflight(&open, "https://app.example").await.unwrap();
    assert_eq!(allowed.status(), 204);
    assert_eq!(
        allowed.headers()["access-control-allow-origin"],
        "https://app.example"
    );
    assert_eq!(
        preflight(&open, "https://evil.example")
            .await
            .unwrap()
            .status(),
        405
    );
    assert_eq!(
        preflight(&app.admin, "https://app.example")
            .await
            .unwrap()
            .status(),
        405
    );

    let request = open.request(Method::GET, "/api/v1/contacts");
    let reply = open
        .finish(request.header("Origin", "https://app.example"))
        .await;
    assert_eq!(
        reply.header("access-control-allow-origin"),
        "https://app.example"
    );
    assert_eq!(reply.header("vary"), "Origin");
    let request = open.request(Method::GET, "/api/v1/contacts");
    let reply = open
        .finish(request.header("Origin", "https://evil.example"))
        .await;
    assert_eq!(reply.header("access-control-allow-origin"), "");
    app.close().await;
}

async fn xc_23_every_answer_carries_the_security_headers(database: Database) {
    let app = App::start(database).await;
    for path in [
        "/health",
        "/nowhere",
        "/api/v1/contacts",
        "/docs",
        "/openapi.json",
    ] {
        let reply = app.admin.get(path).await;
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(reply.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(reply.header("referrer-policy"), "no-referrer", "{path}");
        assert!(
            reply
                .header("content-security-policy")
                .contains("default-src 'none'"),
            "{path}"
        );
        assert_eq!(reply.header("strict-transport-security"), "", "{path}");
    }
    assert_eq!(
        app.admin
            .get("/api/v1/contacts")
            .await
            .header("cache-control"),
        "no-store"
    );
    let secure = app
        .also(HttpOptions {
            hsts: true,
            ..HttpOptions::default()
        })
        .await;
    let reply = secure.get("/health").await;
    assert_eq!(
        reply.header("strict-transport-security"),
        "max-age=63072000"
    );
    app.close().await;
}

async fn a_request_that_takes_too_long_is_shed(database: Database) {
    let app = App::start(database).await;
    let hasty = app
        .also(HttpOptions {
            deadline: Duration::ZERO,
            ..HttpOptions::default()
        })
        .await;
    // A body that never comes.
    let mut client = TcpStream::connect(hasty.url.trim_start_matches("http://"))
        .await
        .unwrap();
    let head = "POST /api/v1/auth/login HTTP/1.1\r\nHost: crm\r\nConnection: close\r\n\
                Content-Type: application/json\r\nContent-Length: 10\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let answer = answer.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 503"), "{answer}");
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("\"code\":\"unavailable\""), "{answer}");
    app.close().await;
}

#[tokio::test]
async fn problems_have_one_shape() {
    let app = App::start(Database::Sqlite).await;
    insta::assert_snapshot!(app.anonymous().get("/api/v1/contacts").await, @r#"401 {"type":"about:blank","title":"Unauthorized","status":401,"detail":"send an access token or an API key in the header Authorization: Bearer","code":"token_missing","request_id":"test"}"#);
    insta::assert_snapshot!(app.admin.get("/api/v1/contacts/7").await, @r#"404 {"type":"about:blank","title":"Not Found","status":404,"detail":"there is no such resource","code":"not_found","request_id":"test"}"#);
    let body = json!({"name": "Grace", "score": 101});
    insta::assert_snapshot!(app.admin.post("/api/v1/contacts", body).await, @r#"422 {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"the input is not valid; see errors","code":"validation_failed","request_id":"test","errors":[{"pointer":"/score","code":"out_of_range","detail":"must be between 0 and 100"}]}"#);
    let viewer = app.member("vi", "viewer").await;
    let body = json!({"name": "Grace"});
    insta::assert_snapshot!(viewer.post("/api/v1/contacts", body).await, @r#"403 {"type":"about:blank","title":"Forbidden","status":403,"detail":"you lack the permission contacts.create","code":"forbidden","request_id":"test"}"#);
    app.close().await;
}

#[tokio::test]
async fn the_document_says_nothing_that_has_no_meaning() {
    let app = App::start(Database::Sqlite).await;
    let document = app.document();
    assert_eq!(contract::meaningless(document, ""), [""; 0]);
    let day = &document["components"]["schemas"]["PluginUsage"]["properties"]["day"];
    assert_eq!(day["format"], "date");
    let canary = &document["components"]["schemas"]["Plugin"]["properties"]["canary"];
    let nothing = json!({"type": "object", "nullable": true, "enum": [null]});
    let reference = json!({"$ref": "#/components/schemas/PluginCanary"});
    assert_eq!(canary["anyOf"], json!([reference, nothing]));
    app.close().await;
}

#[tokio::test]
async fn the_operations_are_these() {
    let app = App::start(Database::Sqlite).await;
    let mut lines = Vec::new();
    for (path, item) in app.document()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let platform = operation["x-platform-permission"].as_str();
            let permission = operation["x-permission"].as_str().or(platform);
            let mut permission = permission.unwrap_or("-").to_owned();
            let further = operation["x-further-permissions"].as_array();
            for one in further.into_iter().flatten() {
                let sometimes = if one["when"].is_string() { "?" } else { "" };
                let one = one["permission"].as_str().unwrap();
                permission.push_str(&format!(" + {one}{sometimes}"));
            }
            let id = operation["operationId"].as_str().unwrap();
            lines.push(format!(
                "{} {path} {id} {permission}",
                method.to_uppercase()
            ));
        }
    }
    insta::assert_snapshot!(lines.join("\n"), @r#"
    GET /.well-known/jwks.json get_public_keys -
    GET /api/v1/access/explain explain_access access.read
    GET /api/v1/access/permissions list_permissions roles.read
    GET /api/v1/api_keys list_api_keys api_keys.read
    POST /api/v1/api_keys create_api_key api_keys.create + members.update?
    DELETE /api/v1/api_keys/{id} delete_api_key api_keys.delete
    GET /api/v1/audit list_audit audit.read
    GET /api/v1/audit/export export_audit audit.read
    POST /api/v1/auth/email/change change_email -
    POST /api/v1/auth/email/verification send_email_verification -
    POST /api/v1/auth/email/verify verify_email -
    GET /api/v1/auth/identities list_identities -
    DELETE /api/v1/auth/identities/{id} unlink_identity -
    DELETE /api/v1/auth/impersonation end_impersonation -
    POST /api/v1/auth/invitation/accept accept_invitation -
    POST /api/v1/auth/invitation/read read_invitation -
    POST /api/v1/auth/login login -
    POST /api/v1/auth/logout logout -
    POST /api/v1/auth/logout-everywhere logout_everywhere -
    GET /api/v1/auth/me me -
    POST /api/v1/auth/mfa finish_login -
    POST /api/v1/auth/mfa/enroll enroll_at_login -
    POST /api/v1/auth/mfa/passkey finish_login_by_passkey -
    POST /api/v1/auth/mfa/passkey/options begin_passkey_step -
    GET /api/v1/auth/oidc list_login_providers -
    POST /api/v1/auth/oidc/{provider}/callback finish_provider_login -
    POST /api/v1/auth/oidc/{provider}/link link_identity -
    POST /api/v1/auth/oidc/{provider}/link-token link_identity_by_token -
    POST /api/v1/auth/oidc/{provider}/nonce create_provider_nonce -
    POST /api/v1/auth/oidc/{provider}/start begin_provider_login -
    POST /api/v1/auth/oidc/{provider}/token login_with_id_token -
    GET /api/v1/auth/passkeys list_passkeys -
    POST /api/v1/auth/passkeys create_passkey -
    POST /api/v1/auth/passkeys/login passkey_login -
    POST /api/v1/auth/passkeys/login/options begin_passkey_login -
    POST /api/v1/auth/passkeys/options begin_passkey -
    PATCH /api/v1/auth/passkeys/{passkey_id} update_passkey -
    POST /api/v1/auth/passkeys/{passkey_id}/remove delete_passkey -
    POST /api/v1/auth/password/change change_password -
    POST /api/v1/auth/password/forgot forgot_password -
    POST /api/v1/auth/password/reset reset_password -
    POST /api/v1/auth/refresh refresh -
    POST /api/v1/auth/register register -
    POST /api/v1/auth/register/confirm confirm_registration -
    GET /api/v1/auth/requirements get_login_requirements members.read
    PUT /api/v1/auth/requirements set_login_requirements members.update
    GET /api/v1/auth/security get_tenant_security members.read
    PATCH /api/v1/auth/security update_tenant_security members.update
    DELETE /api/v1/auth/sessions delete_sessions -
    GET /api/v1/auth/sessions list_sessions -
    DELETE /api/v1/auth/sessions/{id} delete_session -
    POST /api/v1/auth/tenant switch_tenant -
    POST /api/v1/auth/totp begin_totp -
    POST /api/v1/auth/totp/confirm confirm_totp -
    POST /api/v1/auth/totp/disable disable_totp -
    POST /api/v1/auth/totp/recovery-codes renew_recovery_codes -
    PUT /api/v1/auth/username set_username -
    GET /api/v1/companies list_companies companies.read
    POST /api/v1/companies create_company companies.create
    GET /api/v1/companies/aggregate aggregate_companies companies.read
    POST /api/v1/companies/batch batch_companies companies.create + companies.update? + companies.delete?
    POST /api/v1/companies/bulk-delete bulk_delete_companies companies.delete + companies.read
    POST /api/v1/companies/bulk-update bulk_update_companies companies.update + companies.read
    GET /api/v1/companies/export export_companies companies.read
    POST /api/v1/companies/import import_companies companies.create + companies.update?
    POST /api/v1/companies/query query_companies companies.read
    POST /api/v1/companies/upsert upsert_company companies.create + companies.update
    DELETE /api/v1/companies/{id} delete_company companies.delete
    GET /api/v1/companies/{id} get_company companies.read
    PATCH /api/v1/companies/{id} update_company companies.update
    PUT /api/v1/companies/{id} replace_company companies.update
    GET /api/v1/companies/{id}/contacts list_contacts_of_company contacts.read + companies.read
    GET /api/v1/companies/{id}/deals list_deals_of_company deals.read + companies.read
    POST /api/v1/companies/{id}/merge merge_companies companies.update + companies.delete + companies.read
    GET /api/v1/contacts list_contacts contacts.read
    POST /api/v1/contacts create_contact contacts.create
    GET /api/v1/contacts/aggregate aggregate_contacts contacts.read
    POST /api/v1/contacts/batch batch_contacts contacts.create + contacts.update? + contacts.delete?
    POST /api/v1/contacts/bulk-delete bulk_delete_contacts contacts.delete + contacts.read
    POST /api/v1/contacts/bulk-update bulk_update_contacts contacts.update + contacts.read
    GET /api/v1/contacts/export export_contacts contacts.read
    GET /api/v1/contacts/funnel funnel_contacts contacts.read
    POST /api/v1/contacts/import import_contacts contacts.create + contacts.update?
    POST /api/v1/contacts/query query_contacts contacts.read
    POST /api/v1/contacts/upsert upsert_contact contacts.create + contacts.update
    DELETE /api/v1/contacts/{id} delete_contact contacts.delete
    GET /api/v1/contacts/{id} get_contact contacts.read
    PATCH /api/v1/contacts/{id} update_contact contacts.update
    PUT /api/v1/contacts/{id} replace_contact contacts.update
    GET /api/v1/contacts/{id}/deals list_deals_of_contact deals.read + contacts.read
    POST /api/v1/contacts/{id}/merge merge_contacts contacts.update + contacts.delete + contacts.read
    GET /api/v1/deals list_deals deals.read
    POST /api/v1/deals create_deal deals.create
    GET /api/v1/deals/aggregate aggregate_deals deals.read
    POST /api/v1/deals/batch batch_deals deals.create + deals.update? + deals.delete?
    POST /api/v1/deals/bulk-delete bulk_delete_deals deals.delete + deals.read
    POST /api/v1/deals/bulk-update bulk_update_deals deals.update + deals.read
    GET /api/v1/deals/export export_deals deals.read
    GET /api/v1/deals/funnel funnel_deals deals.read
    POST /api/v1/deals/import import_deals deals.create + deals.update?
    POST /api/v1/deals/query query_deals deals.read
    POST /api/v1/deals/upsert upsert_deal deals.create + deals.update
    DELETE /api/v1/deals/{id} delete_deal deals.delete
    GET /api/v1/deals/{id} get_deal deals.read
    PATCH /api/v1/deals/{id} update_deal deals.update
    PUT /api/v1/deals/{id} replace_deal deals.update
    POST /api/v1/deals/{id}/merge merge_deals deals.update + deals.delete + deals.read
    GET /api/v1/groups list_groups groups.read
    POST /api/v1/groups create_group groups.create
    DELETE /api/v1/groups/{id} delete_group groups.delete
    GET /api/v1/groups/{id} get_group groups.read
    PATCH /api/v1/groups/{id} update_group groups.update
    POST /api/v1/hooks/{plugin}/{name} send_plugin_message plugin_runs.create
    GET /api/v1/identity_providers list_identity_providers identity_providers.read
    POST /api/v1/identity_providers create_identity_provider identity_providers.create + *.*
    DELETE /api/v1/identity_providers/{id} delete_identity_provider identity_providers.delete + *.*
    GET /api/v1/identity_providers/{id} get_identity_provider identity_providers.read
    PUT /api/v1/identity_providers/{id} replace_identity_provider identity_providers.update + *.*
    GET /api/v1/impersonations list_impersonations impersonations.read
    POST /api/v1/impersonations create_impersonation impersonations.create
    DELETE /api/v1/impersonations/{id} delete_impersonation impersonations.delete
    GET /api/v1/invitations list_invitations members.read
    POST /api/v1/invitations create_invitation members.create
    DELETE /api/v1/invitations/{id} delete_invitation members.delete
    GET /api/v1/jobs list_jobs -
    GET /api/v1/jobs/{id} get_job - + jobs.read?
    POST /api/v1/jobs/{id}/cancel cancel_job - + jobs.read? + jobs.update?
    GET /api/v1/jobs/{id}/errors get_job_errors - + jobs.read?
    GET /api/v1/members list_members members.read
    POST /api/v1/members create_member members.create
    DELETE /api/v1/members/{user_id} delete_member members.delete
    GET /api/v1/members/{user_id} get_member members.read
    PUT /api/v1/members/{user_id}/roles set_member_roles members.update
    DELETE /api/v1/members/{user_id}/sessions delete_member_sessions members.update
    GET /api/v1/members/{user_id}/sessions list_member_sessions members.read
    DELETE /api/v1/members/{user_id}/sessions/{session_id} delete_member_session members.update
    POST /api/v1/members/{user_id}/unlock unlock_member members.update
    GET /api/v1/modules list_modules modules.read
    POST /api/v1/modules create_module modules.create
    DELETE /api/v1/modules/{module} delete_module modules.delete
    GET /api/v1/modules/{module} get_module modules.read
    PATCH /api/v1/modules/{module} update_module modules.update
    GET /api/v1/modules/{module}/fields list_module_fields modules.read
    POST /api/v1/modules/{module}/fields create_module_field modules.update
    DELETE /api/v1/modules/{module}/fields/{name} delete_module_field modules.update
    PATCH /api/v1/modules/{module}/fields/{name} update_module_field modules.update
    POST /api/v1/modules/{module}/fields/{name}/purge purge_module_field modules.delete
    GET /api/v1/platform/audit list_platform_audit audit.read
    GET /api/v1/platform/erased_tenants list_erased_tenants tenants.read
    GET /api/v1/platform/operators list_operators operators.read
    POST /api/v1/platform/operators create_operator operators.create
    DELETE /api/v1/platform/operators/{user_id} delete_operator operators.delete
    GET /api/v1/platform/tenants list_tenants tenants.read
    POST /api/v1/platform/tenants create_tenant tenants.create
    GET /api/v1/platform/tenants/{id} get_tenant tenants.read
    POST /api/v1/platform/tenants/{id}/erase erase_tenant tenants.erase
    POST /api/v1/platform/tenants/{id}/export export_tenant tenants.export
    POST /api/v1/platform/tenants/{id}/impersonations create_operator_impersonation tenants.impersonate
    POST /api/v1/platform/tenants/{id}/resume resume_tenant tenants.resume
    POST /api/v1/platform/tenants/{id}/suspend suspend_tenant tenants.suspend
    GET /api/v1/plugins list_plugins plugins.read
    POST /api/v1/plugins upload_plugin plugins.create + plugins.update?
    GET /api/v1/plugins/keys list_plugin_keys plugins.read
    POST /api/v1/plugins/keys create_plugin_key plugins.update
    DELETE /api/v1/plugins/keys/{id} delete_plugin_key plugins.update
    GET /api/v1/plugins/settings get_plugin_settings plugins.read
    PUT /api/v1/plugins/settings set_plugin_settings plugins.update
    GET /api/v1/plugins/usage list_plugin_usage plugins.read
    DELETE /api/v1/plugins/{id} delete_plugin plugins.delete
    GET /api/v1/plugins/{id} get_plugin plugins.read
    POST /api/v1/plugins/{id}/activate activate_plugin plugins.update
    PUT /api/v1/plugins/{id}/canary try_plugin plugins.update
    POST /api/v1/plugins/{id}/disable disable_plugin plugins.update
    POST /api/v1/plugins/{id}/enable enable_plugin plugins.update
    GET /api/v1/plugins/{id}/hooks list_plugin_hooks plugins.read
    POST /api/v1/plugins/{id}/hooks/{name}/secret renew_plugin_hook_secret plugins.update
    POST /api/v1/plugins/{id}/roll_back roll_back_plugin plugins.update
    GET /api/v1/plugins/{id}/runs list_plugin_runs plugins.read
    GET /api/v1/plugins/{id}/runs/follow follow_plugin_runs plugins.read
    GET /api/v1/plugins/{id}/runs/{run_id} get_plugin_run plugins.read
    POST /api/v1/plugins/{id}/runs/{run_id}/replay replay_plugin_run plugins.update
    GET /api/v1/plugins/{id}/secrets list_plugin_secrets plugins.read
    DELETE /api/v1/plugins/{id}/secrets/{name} delete_plugin_secret plugins.update
    PUT /api/v1/plugins/{id}/secrets/{name} set_plugin_secret plugins.update
    GET /api/v1/plugins/{id}/versions list_plugin_versions plugins.read
    DELETE /api/v1/plugins/{id}/versions/{sha256} delete_plugin_version plugins.delete
    POST /api/v1/plugins/{id}/versions/{sha256}/rehearsals rehearse_plugin_version plugins.create
    GET /api/v1/roles list_roles roles.read
    POST /api/v1/roles create_role roles.create
    DELETE /api/v1/roles/{id} delete_role roles.delete
    GET /api/v1/roles/{id} get_role roles.read
    PATCH /api/v1/roles/{id} update_role roles.update
    POST /api/v1/service_accounts create_service_account members.create
    GET /health get_health -
    GET /health/ready get_readiness -
    "#);
    app.close().await;
}
