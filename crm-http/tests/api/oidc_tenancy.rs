//! The rule above all: a provider that a tenant declared is good for that tenant alone, whatever it
//! says and whoever it says it has in front of it.

use crm_core::egress::Egress;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Caller, Database, PASSWORD};
use crate::local_provider::{
    LocalProvider, agreed, declare, entered, link, login, login_by_token, login_to, member, start,
    tenant,
};
use crate::second_factor::require;

const ADA: &str = "ada@acme.example";
const MALLORY: &str = "mallory@evil.example";
const BO: &str = "bo@acme.example";

crate::on_both_databases! {
    asvs_8_4_1_a_foreign_issuer_lets_nobody_in_who_is_no_member
    asvs_8_4_1_a_session_of_a_provider_moves_to_no_other_tenant
    asvs_8_4_1_a_session_of_a_provider_sees_and_ends_no_session_elsewhere
    asvs_8_4_1_a_session_of_a_provider_changes_nothing_of_the_account
    asvs_8_4_1_a_session_of_a_provider_sees_and_touches_no_passkey
    a_session_of_a_provider_stays_bound_through_refreshes_and_second_factors
    nobody_sets_a_second_factor_up_by_a_tenants_word
    the_same_issuer_in_two_tenants_is_two_providers
    what_a_login_carries_is_good_at_its_provider_alone
    a_newcomer_of_one_tenant_is_nobody_in_another
}

/// `acme` of Ada and Bo; `evil` of Mallory, where Bo is a member too, with an issuer that says
/// whatever Mallory likes.
async fn world(database: Database) -> (App, LocalProvider, Caller, String) {
    let (app, provider, _) = start(database).await;
    tenant(&app, "evil").await;
    member(&app, "evil", MALLORY, "admin").await;
    member(&app, "acme", BO, "admin").await;
    member(&app, "evil", BO, "viewer").await;
    let mallory = login_to(&app, MALLORY, "evil").await;
    let everything = json!({
        "domains": ["acme.example", "evil.example"], "join_role": "admin",
        "trusts_second_factor": true,
    });
    let path = declare(&mallory, &provider, everything).await;
    (app, provider, mallory, path)
}

/// Has the issuer claim to have somebody in front of it.
fn claim(provider: &LocalProvider, email: &str) {
    provider.set(|state| {
        state.person = json!({
            "sub": format!("subject of {email}"), "email": email, "email_verified": true,
            "name": "Somebody", "amr": ["mfa"],
        });
    });
}

async fn tenant_id(caller: &Caller) -> String {
    let me = caller.get("/api/v1/auth/me").await.expect(200);
    me["tenant"]["id"].as_str().unwrap().to_owned()
}

async fn asvs_8_4_1_a_foreign_issuer_lets_nobody_in_who_is_no_member(database: Database) {
    let (app, provider, mallory, path) = world(database).await;
    let before = mallory.get("/api/v1/members").await.body;
    for email in [ADA, "Ada@ACME.example"] {
        claim(&provider, email);
        for reply in [
            login(&app, &provider, &path).await,
            login_by_token(&app, &provider, &path).await,
        ] {
            assert_eq!(
                reply.problem(),
                (401, "identity_not_linked".into()),
                "{email}"
            );
        }
    }
    // Not by her own subject at another provider either.
    let theirs = declare(&app.admin, &provider, json!({"domains": ["acme.example"]})).await;
    entered(&app, login(&app, &provider, &theirs).await);
    assert_eq!(login(&app, &provider, &path).await.status, 401);
    assert_eq!(
        mallory.get("/api/v1/members").await.body,
        before,
        "nobody joined"
    );
    // Ada cannot be made to link herself to a provider of a tenant she is not in.
    let refused = link(&app, &app.admin, &provider, &path).await;
    assert_eq!(refused.problem(), (404, "not_found".into()));
    app.close().await;
}

async fn asvs_8_4_1_a_session_of_a_provider_moves_to_no_other_tenant(database: Database) {
    let (app, provider, mallory, path) = world(database).await;
    claim(&provider, BO);
    let session = login(&app, &provider, &path).await.expect(200);
    let bound = app.with_token(session["access_token"].as_str());
    assert_eq!(
        tenant_id(&bound).await,
        tenant_id(&mallory).await,
        "it is in evil"
    );
    let reply = bound
        .post("/api/v1/auth/tenant", json!({"tenant": "acme"}))
        .await;
    assert_eq!(reply.problem(), (409, "bound_session".into()));
    let same = bound
        .post("/api/v1/auth/tenant", json!({"tenant": "evil"}))
        .await;
    assert_eq!(same.problem(), (409, "bound_session".into()));
    let acme = tenant_id(&app.admin).await;
    for path in ["/api/v1/contacts", "/api/v1/auth/me"] {
        let request = bound.request(Method::GET, path).header("X-Tenant", &acme);
        let reply = bound.finish(request).await;
        assert_eq!(reply.problem(), (401, "token_invalid".into()), "{path}");
    }
    // Nor does a roaming login: there is none at a provider.
    let mut body = agreed(&app, &provider, &path).await;
    body["roaming"] = json!(true);
    let reply = app
        .anonymous()
        .post(&format!("{path}/callback"), body)
        .await;
    assert_eq!(reply.status, 422, "{reply}");
    let mut body = agreed(&app, &provider, &path).await;
    body["tenant"] = json!("acme");
    let reply = app
        .anonymous()
        .post(&format!("{path}/callback"), body)
        .await;
    assert_eq!(reply.status, 422, "{reply}");
    // Bo's own session moves as before.
    let own = login_to(&app, BO, "evil").await;
    own.post("/api/v1/auth/tenant", json!({"tenant": "acme"}))
        .await
        .expect(200);
    app.close().await;
}

async fn asvs_8_4_1_a_session_of_a_provider_sees_and_ends_no_session_elsewhere(database: Database) {
    let (app, provider, _, path) = world(database).await;
    let in_acme = login_to(&app, BO, "acme").await;
    claim(&provider, BO);
    let bound = entered(&app, login(&app, &provider, &path).await);
    let seen = bound.get("/api/v1/auth/sessions").await.expect(200);
    for session in seen["data"].as_array().unwrap() {
        assert_eq!(session["tenant"]["name"], "evil", "{seen}");
    }
    let all = in_acme.get("/api/v1/auth/sessions").await.expect(200);
    let all = all["data"].as_array().unwrap();
    let elsewhere = all
        .iter()
        .find(|session| session["current"] == true)
        .unwrap();
    let path_of = format!(
        "/api/v1/auth/sessions/{}",
        elsewhere["id"].as_str().unwrap()
    );
    assert_eq!(bound.delete(&path_of).await.status, 404);
    bound
        .delete("/api/v1/auth/sessions?except_current=true")
        .await
        .expect(204);
    bound.get("/api/v1/auth/me").await.expect(200);
    bound.delete("/api/v1/auth/sessions").await.expect(204);
    assert_eq!(bound.get("/api/v1/auth/me").await.status, 401);
    in_acme.get("/api/v1/auth/me").await.expect(200);
    // Identities of other tenants stay out of sight too.
    let theirs = json!({"name": "of acme"});
    let theirs = declare(&in_acme, &provider, theirs).await;
    link(&app, &in_acme, &provider, &theirs).await.expect(201);
    let bound = entered(&app, login(&app, &provider, &path).await);
    let seen = bound.get("/api/v1/auth/identities").await.expect(200);
    assert_eq!(seen["data"].as_array().unwrap().len(), 1, "{seen}");
    let all = in_acme.get("/api/v1/auth/identities").await.expect(200);
    assert_eq!(all["data"].as_array().unwrap().len(), 2, "{all}");
    app.close().await;
}

async fn asvs_8_4_1_a_session_of_a_provider_changes_nothing_of_the_account(database: Database) {
    let (app, provider, _, path) = world(database).await;
    claim(&provider, BO);
    let bound = entered(&app, login(&app, &provider, &path).await);
    let link = agreed(&app, &provider, &path).await;
    let identities = bound.get("/api/v1/auth/identities").await.expect(200);
    let identity = identities["data"][0]["id"].as_str().unwrap().to_owned();
    let password = || json!({"password": PASSWORD});
    let with = |mut body: Value, name: &str, value: &str| {
        body[name] = json!(value);
        body
    };
    for (method, path, body) in [
        (
            Method::POST,
            "/api/v1/auth/password/change".to_owned(),
            Some(json!({
            "current_password": PASSWORD, "password": "another harpsichord"})),
        ),
        (
            Method::POST,
            "/api/v1/auth/email/change".into(),
            Some(with(password(), "email", MALLORY)),
        ),
        (Method::POST, "/api/v1/auth/email/verification".into(), None),
        (
            Method::PUT,
            "/api/v1/auth/username".into(),
            Some(with(password(), "username", "mallory")),
        ),
        (Method::POST, "/api/v1/auth/totp".into(), Some(password())),
        (
            Method::POST,
            "/api/v1/auth/totp/confirm".into(),
            Some(json!({"code": "123456"})),
        ),
        (
            Method::POST,
            "/api/v1/auth/totp/disable".into(),
            Some(with(password(), "code", "123456")),
        ),
        (
            Method::POST,
            "/api/v1/auth/totp/recovery-codes".into(),
            Some(with(password(), "code", "123456")),
        ),
        (Method::POST, "/api/v1/auth/logout-everywhere".into(), None),
        (
            Method::POST,
            format!("{path}/link"),
            Some(with(link, "password", PASSWORD)),
        ),
        (
            Method::DELETE,
            format!("/api/v1/auth/identities/{identity}"),
            None,
        ),
    ] {
        let reply = bound.send(method, &path, body).await;
        assert_eq!(
            reply.problem(),
            (409, "bound_session".into()),
            "{path}: {reply}"
        );
    }
    // All is as it was.
    let own = login_to(&app, BO, "acme").await;
    let me = own.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(
        (&me["user"]["email"], &me["user"]["username"]),
        (&json!(BO), &Value::Null)
    );
    app.close().await;
}

async fn asvs_8_4_1_a_session_of_a_provider_sees_and_touches_no_passkey(database: Database) {
    let egress = Egress::builder().allow("127.0.0.1").unwrap();
    let egress = egress.build().unwrap();
    let party = crate::passkey::relying_party();
    let app = App::with(database, |builder| builder.egress(egress).passkeys(party)).await;
    let provider = LocalProvider::start(app.crm.clock()).await;
    let path = declare(&app.admin, &provider, json!({"domains": ["acme.example"]})).await;
    crate::passkey::register(&app.admin).await;
    let passkeys = "/api/v1/auth/passkeys";
    let own = app.admin.get(passkeys).await.expect(200);
    let own = own["data"].as_array().unwrap();
    assert_eq!(own.len(), 1);
    claim(&provider, ADA);
    let bound = entered(&app, login(&app, &provider, &path).await);
    let seen = bound.get(passkeys).await.expect(200);
    assert_eq!(seen, json!({"data": []}));
    let one = format!("{passkeys}/{}", own[0]["id"].as_str().unwrap());
    let proof = || json!({"password": PASSWORD});
    let mine = json!({"name": "Mine"});
    for (method, path, body) in [
        (Method::POST, format!("{passkeys}/options"), proof()),
        (Method::POST, format!("{one}/remove"), proof()),
        (Method::PATCH, one, mine),
    ] {
        let reply = bound.send(method, &path, Some(body)).await;
        assert_eq!(reply.problem(), (409, "bound_session".into()), "{path}");
    }
    app.close().await;
}

async fn a_session_of_a_provider_stays_bound_through_refreshes_and_second_factors(
    database: Database,
) {
    let (app, provider, _, path) = world(database).await;
    claim(&provider, BO);
    let session = login(&app, &provider, &path).await.expect(200);
    let refresh = json!({"refresh_token": session["refresh_token"]});
    let reply = app.anonymous().post("/api/v1/auth/refresh", refresh).await;
    let bound = entered(&app, reply);
    let reply = bound
        .post("/api/v1/auth/tenant", json!({"tenant": "acme"}))
        .await;
    assert_eq!(reply.problem(), (409, "bound_session".into()));
    // A process that knows nothing of the session yet.
    app.crm.follow_once().await.unwrap();
    let reply = bound
        .post("/api/v1/auth/tenant", json!({"tenant": "acme"}))
        .await;
    assert_eq!(reply.problem(), (409, "bound_session".into()));
    app.close().await;
}

async fn nobody_sets_a_second_factor_up_by_a_tenants_word(database: Database) {
    let (app, provider, _, path) = world(database).await;
    require(&app, "evil").await;
    // Bo has none. Mallory's provider does not get to choose one that acme would take for Bo's.
    claim(&provider, BO);
    provider.set(|state| state.claims = json!({"amr": null}));
    let reply = login(&app, &provider, &path).await;
    assert_eq!(reply.problem(), (409, "second_factor_missing".into()));
    assert_eq!(reply.json()["mfa_token"], Value::Null);
    let own = json!({"email": BO, "password": PASSWORD, "tenant": "acme"});
    app.anonymous()
        .post("/api/v1/auth/login", own)
        .await
        .expect(200);
    app.close().await;
}

async fn the_same_issuer_in_two_tenants_is_two_providers(database: Database) {
    let (app, provider, _, evil) = world(database).await;
    // Acme and evil use the same honest provider; Ada and Bo are linked in acme.
    let acme = declare(&app.admin, &provider, json!({})).await;
    claim(&provider, ADA);
    link(&app, &app.admin, &provider, &acme).await.expect(201);
    entered(&app, login(&app, &provider, &acme).await);
    let reply = login(&app, &provider, &evil).await;
    assert_eq!(reply.problem(), (401, "identity_not_linked".into()));
    // And the other way round: Bo's identity in evil is none in acme.
    claim(&provider, BO);
    entered(&app, login(&app, &provider, &evil).await);
    let reply = login(&app, &provider, &acme).await;
    assert_eq!(reply.problem(), (401, "identity_not_linked".into()));
    app.close().await;
}

async fn what_a_login_carries_is_good_at_its_provider_alone(database: Database) {
    let (app, provider, _, evil) = world(database).await;
    let acme = declare(&app.admin, &provider, json!({"domains": ["acme.example"]})).await;
    claim(&provider, ADA);
    for (from, to) in [(&evil, &acme), (&acme, &evil)] {
        let body = agreed(&app, &provider, from).await;
        let reply = app.anonymous().post(&format!("{to}/callback"), body).await;
        assert_eq!(
            reply.json()["errors"][0]["pointer"],
            "/login_secret",
            "{reply}"
        );
        let nonce = app
            .anonymous()
            .send(Method::POST, &format!("{from}/nonce"), None)
            .await;
        let nonce = nonce.expect(200)["nonce"].clone();
        let token = provider.id_token(nonce.as_str().unwrap());
        let body = json!({"id_token": token, "nonce": nonce});
        let reply = app.anonymous().post(&format!("{to}/token"), body).await;
        assert_eq!(reply.json()["errors"][0]["pointer"], "/nonce", "{reply}");
    }
    app.close().await;
}

async fn a_newcomer_of_one_tenant_is_nobody_in_another(database: Database) {
    let (app, provider, _, evil) = world(database).await;
    let acme = declare(&app.admin, &provider, json!({"domains": ["acme.example"]})).await;
    // Mallory makes an account for an address of acme's that has none.
    claim(&provider, "carol@acme.example");
    entered(&app, login(&app, &provider, &evil).await);
    // Acme's own provider does not take it for a member's, and its operator not for Carol's.
    let reply = login(&app, &provider, &acme).await;
    assert_eq!(reply.problem(), (401, "identity_not_linked".into()));
    let carol = json!({
        "email": "carol@acme.example", "name": "Carol", "password": PASSWORD, "roles": ["viewer"],
    });
    let reply = app.admin.post("/api/v1/members", carol).await;
    assert_eq!(reply.problem(), (409, "user_exists".into()));
    app.close().await;
}
