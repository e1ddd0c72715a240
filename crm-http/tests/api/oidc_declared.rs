//! Declaring providers: what could never work is refused at once, and what is declared twice is the
//! same.

use crm_core::egress::Egress;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Caller, Database, PASSWORD, Reply};
use crate::local_provider::{
    BACK, LocalProvider, agreed, declare, entered, login, member, start, tenant,
};

const PROVIDERS: &str = "/api/v1/identity_providers";
const DISCOVERY: &str = "/.well-known/openid-configuration";

crate::on_both_databases! {
    an_issuer_at_which_nobody_could_log_in_is_refused_with_the_reason
    a_provider_that_is_switched_off_is_asked_when_it_is_switched_on
    a_provider_is_replaced_by_what_it_is
    a_login_page_learns_names_of_providers_and_nothing_of_tenants
    login_pages_are_limited
    whoever_has_a_passkey_links_an_identity_with_it
}

fn body(issuer: &str) -> Value {
    json!({"name": "other", "issuer": issuer, "client_id": "x", "redirect_uris": [BACK]})
}

/// The code of a refused issuer, and what is said of it.
#[track_caller]
fn refused(reply: &Reply) -> (String, String) {
    assert_eq!(reply.status, 422, "{reply}");
    let error = &reply.json()["errors"][0];
    assert_eq!(error["pointer"], "/issuer", "{reply}");
    let text = |member: &str| error[member].as_str().unwrap().to_owned();
    (text("code"), text("detail"))
}

async fn an_issuer_at_which_nobody_could_log_in_is_refused_with_the_reason(database: Database) {
    let (app, provider, _) = start(database).await;
    let create = async |issuer: &str| refused(&app.admin.post(PROVIDERS, body(issuer)).await);
    for inside in ["https://10.0.0.1", "http://127.0.0.2:9999", "https://[::1]"] {
        let (code, detail) = create(inside).await;
        assert_eq!(code, "address_refused", "{inside}");
        assert!(detail.contains("--egress-allow"), "{detail}");
    }
    // Nobody listens there, and where somebody does it is no provider.
    let (code, detail) = create("http://127.0.0.1:1025").await;
    assert_eq!(code, "unreachable", "{detail}");
    let (code, detail) = create(&app.url).await;
    assert_eq!(code, "no_discovery");
    assert!(detail.contains("404"), "{detail}");
    for (document, reason) in [
        (json!({"issuer": "https://evil.example"}), "another issuer"),
        (json!({"jwks_uri": "file:///x"}), "no https URL"),
        (json!({"token_endpoint": null}), "no discovery document"),
    ] {
        provider.set(|state| state.document = document);
        let (code, detail) = create(&provider.issuer).await;
        assert_eq!(code, "no_discovery");
        assert!(detail.contains(reason), "{detail}");
    }
    provider.set(|state| state.document = json!({}));
    let all = app.admin.get(PROVIDERS).await.expect(200);
    assert_eq!(all["data"], json!([]), "none was made");
    declare(&app.admin, &provider, json!({})).await;
    app.close().await;
}

async fn a_provider_that_is_switched_off_is_asked_when_it_is_switched_on(database: Database) {
    let (app, provider, _) = start(database).await;
    provider.set(|state| state.document = json!({"issuer": "https://evil.example"}));
    let path = declare(&app.admin, &provider, json!({"enabled": false})).await;
    assert_eq!(provider.asked(DISCOVERY), 0);
    let of_provider = path.replace("/auth/oidc/", "/identity_providers/");
    let put = async |enabled: bool| {
        let settings = json!({
            "name": "Corporate login", "client_id": "crm of acme", "redirect_uris": [BACK],
            "domains": ["acme.example"], "trusts_second_factor": false, "enabled": enabled,
        });
        app.admin
            .send(Method::PUT, &of_provider, Some(settings))
            .await
    };
    put(false).await.expect(200);
    assert_eq!(refused(&put(true).await).0, "no_discovery");
    provider.set(|state| state.document = json!({}));
    put(true).await.expect(200);
    let asked = provider.asked(DISCOVERY);
    put(true).await.expect(200);
    assert_eq!(provider.asked(DISCOVERY), asked, "it is on already");
    entered(&app, login(&app, &provider, &path).await);
    app.close().await;
}

async fn a_provider_is_replaced_by_what_it_is(database: Database) {
    let (app, provider, _) = start(database).await;
    let path = declare(&app.admin, &provider, json!({})).await;
    let of_provider = path.replace("/auth/oidc/", "/identity_providers/");
    let before = app.admin.get(&of_provider).await.expect(200);
    let mut settings = json!({
        "name": "Corporate login", "issuer": provider.issuer, "client_id": "crm of acme",
        "redirect_uris": [BACK], "domains": [], "trusts_second_factor": false, "enabled": true,
    });
    let put = async |settings: &Value| {
        let settings = Some(settings.clone());
        app.admin.send(Method::PUT, &of_provider, settings).await
    };
    assert_eq!(put(&settings).await.expect(200), before);
    assert_eq!(put(&settings).await.expect(200), before);
    settings["issuer"] = json!("https://id.example");
    assert_eq!(refused(&put(&settings).await).0, "immutable");
    app.close().await;
}

async fn listed(app: &App, tenant: &str) -> Reply {
    let caller = app.anonymous();
    let request = caller.request(Method::GET, "/api/v1/auth/oidc");
    caller.finish(request.query(&[("tenant", tenant)])).await
}

async fn a_login_page_learns_names_of_providers_and_nothing_of_tenants(database: Database) {
    let (app, provider, _) = start(database).await;
    tenant(&app, "globex").await;
    member(&app, "globex", "hank@globex.example", "admin").await;
    let path = declare(&app.admin, &provider, json!({})).await;
    let off = json!({"name": "off", "enabled": false});
    declare(&app.admin, &provider, off).await;
    let seen = listed(&app, " acme ").await.expect(200);
    let id = path.rsplit('/').next().unwrap();
    assert_eq!(
        seen,
        json!({"data": [{"id": id, "name": "Corporate login"}]})
    );
    for tenant in ["globex", "nowhere", "", " platform", "*", "acme'--"] {
        let reply = listed(&app, tenant).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "{\"data\":[]}"));
    }
    assert_eq!(listed(&app, &"a".repeat(101)).await.status, 422);
    let unnamed = app.anonymous().get("/api/v1/auth/oidc").await;
    assert_eq!(unnamed.status, 422, "{unnamed}");
    let acme = app.crm.tenants().find_by_name("acme").await.unwrap();
    let (tenants, request) = (app.crm.tenants(), crate::local_provider::request());
    tenants.suspend(acme.unwrap().id, request).await.unwrap();
    assert_eq!(listed(&app, "acme").await.body, "{\"data\":[]}");
    app.close().await;
}

async fn login_pages_are_limited(database: Database) {
    let app = App::start(database).await;
    let options = crm_http::HttpOptions {
        sign_in_limit: 2,
        ..crm_http::HttpOptions::default()
    };
    let mut caller = app.also(options).await;
    caller.token = None;
    let path = "/api/v1/auth/oidc?tenant=acme";
    for _ in 0..2 {
        caller.get(path).await.expect(200);
    }
    assert_eq!(
        caller.get(path).await.problem(),
        (429, "rate_limited".into())
    );
    app.close().await;
}

/// A challenge for any passkey, as a member gets it who links an identity.
async fn asked(caller: &Caller) -> Value {
    let path = "/api/v1/auth/passkeys/login/options";
    caller.send(Method::POST, path, None).await.expect(200)
}

async fn whoever_has_a_passkey_links_an_identity_with_it(database: Database) {
    let egress = Egress::builder().allow("127.0.0.1").unwrap();
    let egress = egress.build().unwrap();
    let party = crate::passkey::relying_party();
    let app = App::with(database, |builder| builder.egress(egress).passkeys(party)).await;
    let provider = LocalProvider::start(app.crm.clock()).await;
    let path = declare(&app.admin, &provider, json!({})).await;
    let early = app.login("ada@acme.example").await;
    let mut key = crate::passkey::register(&app.admin).await;
    let manner = crate::authenticator::Manner::default();
    let link = async |proof: Value| {
        let mut body = agreed(&app, &provider, &path).await;
        for (name, value) in proof.as_object().unwrap() {
            body[name] = value.clone();
        }
        early.post(&format!("{path}/link"), body).await
    };
    // Neither, both, or half of it.
    let both = json!({"password": PASSWORD, "passkey_token": "x", "credential": {}});
    for odd in [json!({}), json!({"passkey_token": "x"}), both] {
        let reply = link(odd).await;
        assert_eq!(reply.json()["errors"][0]["pointer"], "/password", "{reply}");
    }
    let options = asked(&early).await;
    let other = asked(&early).await;
    let credential = key.sign(&other["public_key"], &manner);
    let wrong = json!({"passkey_token": options["passkey_token"], "credential": credential});
    let wrong = link(wrong).await;
    assert_eq!(
        wrong.json()["errors"][0]["pointer"],
        "/credential",
        "{wrong}"
    );
    let credential = key.sign(&options["public_key"], &manner);
    let late = json!({"passkey_token": options["passkey_token"], "credential": credential});
    let late = link(late).await;
    assert_eq!(
        late.json()["errors"][0]["pointer"],
        "/passkey_token",
        "{late}"
    );
    let options = asked(&early).await;
    let credential = key.sign(&options["public_key"], &manner);
    let right = json!({"passkey_token": options["passkey_token"], "credential": credential});
    link(right).await.expect(201);
    entered(&app, login(&app, &provider, &path).await);
    // The session has passed both factors now.
    let name = Some(json!({"username": "ada.the.first", "password": PASSWORD}));
    let named = early.send(Method::PUT, "/api/v1/auth/username", name).await;
    assert!((200..300).contains(&named.status), "{named}");
    app.close().await;
}
