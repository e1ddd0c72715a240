//! Logging in at a tenant's identity provider, as it should go.

use chrono::TimeDelta;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha1::Sha1;

use crate::app::{App, Caller, Database, PASSWORD};
use crate::local_provider::{
    Signer, agreed, audited, declare, entered, link, login, login_by_token, login_to, member,
    person, start, tenant,
};
use crate::second_factor::require;

const ADA: &str = "ada@acme.example";

crate::on_both_databases! {
    a_member_links_an_identity_with_their_password_and_logs_in_by_it
    a_proven_address_of_a_believed_domain_is_linked_at_the_first_login
    an_application_logs_in_with_an_id_token_of_its_own
    newcomers_become_members_where_the_tenant_says_so
    a_second_factor_is_asked_for_after_the_provider_too
    a_providers_second_factor_counts_where_the_tenant_says_so
    an_identity_is_one_members_and_a_member_has_one
    unlinking_ends_the_sessions_that_the_identity_opened
    unlinking_ends_the_login_that_waits_for_its_second_step
    switching_a_provider_off_ends_its_sessions
    whoever_declares_a_provider_holds_every_permission
    settings_that_break_a_rule_are_refused
    a_client_secret_is_never_shown
    keys_rotate
    an_erased_tenant_and_an_export_know_of_identities
}

async fn a_member_links_an_identity_with_their_password_and_logs_in_by_it(database: Database) {
    let (app, provider, mailbox) = start(database).await;
    let path = declare(&app.admin, &provider, json!({})).await;
    let reply = login(&app, &provider, &path).await;
    assert_eq!(reply.problem(), (401, "identity_not_linked".into()));

    let identity = link(&app, &app.admin, &provider, &path).await.expect(201);
    assert_eq!(identity["subject"], "subject of ada");
    assert_eq!(identity["tenant"]["name"], "acme");
    let mail = mailbox.latest(&app, ADA).await.unwrap();
    assert_eq!(mail.kind, crm_core::mail::MailKind::IdentityLinked);

    let session = entered(&app, login(&app, &provider, &path).await);
    let me = session.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(me["user"]["email"], ADA);
    session.get("/api/v1/contacts").await.expect(200);
    let own = session.get("/api/v1/auth/identities").await.expect(200);
    assert!(own["data"][0]["last_used_at"].is_string(), "{own}");
    let declared = app
        .admin
        .get("/api/v1/identity_providers")
        .await
        .expect(200);
    assert!(
        declared["data"][0]["last_used_at"].is_string(),
        "{declared}"
    );
    let log = audited(&app.admin).await;
    let expected = [
        "auth.login",
        "auth.identity_linked",
        "identity_providers.create",
    ];
    let told: Vec<_> = log
        .iter()
        .filter(|action| expected.contains(&action.as_str()))
        .collect();
    assert_eq!(told, expected);
    assert!(log.contains(&"auth.identity_refused".to_owned()), "{log:?}");
    assert_eq!(
        provider.asked("/.well-known/openid-configuration"),
        2,
        "at the declaration, and then it is kept"
    );
    assert_eq!(provider.asked("/jwks"), 1, "they are kept");
    app.close().await;
}

async fn a_proven_address_of_a_believed_domain_is_linked_at_the_first_login(database: Database) {
    let (app, provider, mailbox) = start(database).await;
    let domains = json!({"domains": ["ACME.example"]});
    let path = declare(&app.admin, &provider, domains).await;
    let session = entered(&app, login(&app, &provider, &path).await);
    let me = session.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(me["user"]["email"], ADA);
    assert!(mailbox.latest(&app, ADA).await.is_some(), "they are told");
    // From now on it is the subject that counts, whatever its address.
    provider.set(|state| state.person["email"] = json!("countess@other.example"));
    entered(&app, login(&app, &provider, &path).await);
    // Another subject with the same address is somebody else.
    provider.set(|state| {
        state.person = person("ada");
        state.person["sub"] = json!("another subject");
    });
    let reply = login(&app, &provider, &path).await;
    assert_eq!(reply.problem(), (401, "identity_not_linked".into()));
    app.close().await;
}

async fn an_application_logs_in_with_an_id_token_of_its_own(database: Database) {
    let (app, provider, _) = start(database).await;
    let path = declare(&app.admin, &provider, json!({"domains": ["acme.example"]})).await;
    entered(&app, login_by_token(&app, &provider, &path).await);
    let nonce = |app: &App, path: &str| {
        let (caller, path) = (app.anonymous(), format!("{path}/nonce"));
        async move {
            let reply = caller
                .send(reqwest::Method::POST, &path, None)
                .await
                .expect(200);
            reply["nonce"].as_str().unwrap().to_owned()
        }
    };
    // Somebody without an identity links one the same way.
    let bob = app.member("bob", "viewer").await;
    provider.set(|state| state.person = person("bob"));
    let fresh = nonce(&app, &path).await;
    let mut body = json!({"id_token": provider.id_token(&fresh), "nonce": fresh});
    body["password"] = json!(PASSWORD);
    bob.post(&format!("{path}/link-token"), body)
        .await
        .expect(201);
    entered(&app, login_by_token(&app, &provider, &path).await);
    app.close().await;
}

async fn newcomers_become_members_where_the_tenant_says_so(database: Database) {
    let (app, provider, _) = start(database).await;
    let closed = declare(&app.admin, &provider, json!({"domains": ["acme.example"]})).await;
    provider.set(|state| state.person = person("grace"));
    let reply = login(&app, &provider, &closed).await;
    assert_eq!(reply.problem(), (401, "identity_not_linked".into()));

    let open = json!({"name": "open", "domains": ["acme.example"], "join_role": "viewer"});
    let open = declare(&app.admin, &provider, open).await;
    for refused in [
        json!({"email_verified": false}),
        json!({"email_verified": "true"}),
        json!({"email": "grace@acme.example.evil.example"}),
        json!({"email": "grace@sub.acme.example"}),
        json!({"email": null}),
    ] {
        provider.set(|state| state.claims = refused.clone());
        let reply = login(&app, &provider, &open).await;
        assert_eq!(
            reply.problem(),
            (401, "identity_not_linked".into()),
            "{refused}"
        );
    }
    provider.set(|state| state.claims = json!({}));
    let session = entered(&app, login(&app, &provider, &open).await);
    let me = session.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(me["user"]["email"], "grace@acme.example");
    assert_eq!(me["roles"][0]["name"], "viewer");
    assert_eq!(
        me["user"]["email_verified_at"],
        Value::Null,
        "a tenant's word proves nothing"
    );
    entered(&app, login(&app, &provider, &open).await);
    let log = audited(&app.admin).await;
    assert_eq!(
        log.iter()
            .filter(|action| *action == "members.create")
            .count(),
        1
    );
    let body = json!({"email": "grace@acme.example", "password": ""});
    let reply = app.anonymous().post("/api/v1/auth/login", body).await;
    let refused = (401, "invalid_credentials".to_owned());
    assert_eq!(reply.problem(), refused, "there is no password");
    app.close().await;
}

/// The code of an authenticator application (RFC 6238) at this moment.
fn code(app: &App, secret: &Value) -> String {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for letter in secret.as_str().unwrap().chars() {
        let value = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(letter).unwrap();
        bits = bits << 5 | u32::try_from(value).unwrap();
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    let step = app.crm.clock().now().timestamp() / 30;
    let mut mac = Hmac::<Sha1>::new_from_slice(&bytes).unwrap();
    mac.update(&step.to_be_bytes());
    let digest: [u8; 20] = mac.finalize().into_bytes().into();
    let at = usize::from(digest[19] & 15);
    let word: [u8; 4] = digest[at..at + 4].try_into().unwrap();
    format!(
        "{:06}",
        (u32::from_be_bytes(word) & 0x7fff_ffff) % 1_000_000
    )
}

/// Sets a second factor up; answers its secret.
async fn set_factor_up(app: &App, caller: &Caller) -> Value {
    let body = json!({"password": PASSWORD});
    let begun = caller.post("/api/v1/auth/totp", body).await.expect(200);
    let body = json!({"code": code(app, &begun["secret"])});
    caller
        .post("/api/v1/auth/totp/confirm", body)
        .await
        .expect(200);
    app.clock.advance(TimeDelta::seconds(30));
    begun["secret"].clone()
}

async fn a_second_factor_is_asked_for_after_the_provider_too(database: Database) {
    let (app, provider, _) = start(database).await;
    let trusting = json!({"domains": ["acme.example"], "trusts_second_factor": true});
    let path = declare(&app.admin, &provider, trusting).await;
    let secret = set_factor_up(&app, &app.admin).await;
    // Even where the provider asked for one: the member's own is the member's wish.
    provider.set(|state| state.claims = json!({"amr": ["pwd", "mfa"]}));
    let reply = login(&app, &provider, &path).await;
    assert_eq!(reply.problem(), (401, "second_factor_required".into()));
    let body = json!({"mfa_token": reply.json()["mfa_token"], "code": code(&app, &secret)});
    let session = entered(&app, app.anonymous().post("/api/v1/auth/mfa", body).await);
    session.get("/api/v1/contacts").await.expect(200);
    // The session is bound all the same.
    let reply = session
        .send(
            reqwest::Method::POST,
            "/api/v1/auth/logout-everywhere",
            None,
        )
        .await;
    assert_eq!(reply.problem(), (409, "bound_session".into()));
    // A login that waits for the second step ends with the provider.
    let waiting = login(&app, &provider, &path).await.json();
    let id = path.rsplit('/').next().unwrap();
    app.admin
        .delete(&format!("/api/v1/identity_providers/{id}"))
        .await
        .expect(204);
    app.clock.advance(TimeDelta::seconds(30));
    let body = json!({"mfa_token": waiting["mfa_token"], "code": code(&app, &secret)});
    let reply = app.anonymous().post("/api/v1/auth/mfa", body).await;
    assert_eq!(reply.status, 422, "{reply}");
    app.close().await;
}

async fn a_providers_second_factor_counts_where_the_tenant_says_so(database: Database) {
    let (app, provider, _) = start(database).await;
    let domains = json!({"domains": ["acme.example"]});
    let strict = declare(&app.admin, &provider, domains).await;
    let trusting = json!({
        "name": "trusting", "domains": ["acme.example"], "trusts_second_factor": true,
    });
    let trusting = declare(&app.admin, &provider, trusting).await;
    let with_factor = json!({"amr": ["pwd", "otp", "mfa"]});
    provider.set(|state| state.claims = with_factor.clone());
    let shown = entered(&app, login(&app, &provider, &trusting).await);
    provider.set(|state| state.claims = json!({}));
    let unshown = entered(&app, login(&app, &provider, &trusting).await);
    require(&app, "acme").await;
    shown.get("/api/v1/contacts").await.expect(200);
    assert_eq!(unshown.get("/api/v1/contacts").await.status, 401);
    for (path, claims, status) in [
        (&strict, json!({}), 409),
        (&strict, with_factor.clone(), 409),
        (&trusting, json!({}), 409),
        (&trusting, json!({"amr": ["pwd"]}), 409),
        (&trusting, with_factor, 200),
    ] {
        provider.set(|state| state.claims = claims.clone());
        let reply = login(&app, &provider, path).await;
        assert_eq!(reply.status, status, "{claims}: {reply}");
        if status == 409 {
            assert_eq!(reply.problem().1, "second_factor_missing");
        }
    }
    app.close().await;
}

async fn an_identity_is_one_members_and_a_member_has_one(database: Database) {
    let (app, provider, _) = start(database).await;
    let path = declare(&app.admin, &provider, json!({})).await;
    let bob = app.member("bob", "viewer").await;
    link(&app, &app.admin, &provider, &path).await.expect(201);
    let taken = link(&app, &bob, &provider, &path).await;
    assert_eq!(taken.problem(), (409, "identity_taken".into()));
    provider.set(|state| state.person = person("somebody else"));
    let second = link(&app, &app.admin, &provider, &path).await;
    assert_eq!(second.problem(), (409, "identity_exists".into()));
    // Only with the password.
    let mut body = agreed(&app, &provider, &path).await;
    body["password"] = json!("not the password");
    let refused = bob.post(&format!("{path}/link"), body.clone()).await;
    assert_eq!(
        refused.json()["errors"][0]["pointer"],
        "/password",
        "{refused}"
    );
    body["password"] = json!(PASSWORD);
    bob.post(&format!("{path}/link"), body).await.expect(201);
    let program = app.program("admin").await;
    let refused = link(&app, &program, &provider, &path).await;
    assert_eq!(refused.problem(), (409, "not_a_user".into()));
    let none = program.get("/api/v1/auth/identities").await.expect(200);
    assert_eq!(none["data"], json!([]));
    app.close().await;
}

async fn unlinking_ends_the_sessions_that_the_identity_opened(database: Database) {
    let (app, provider, _) = start(database).await;
    let path = declare(&app.admin, &provider, json!({})).await;
    let id = link(&app, &app.admin, &provider, &path).await.expect(201)["id"].clone();
    let session = entered(&app, login(&app, &provider, &path).await);
    let own = format!("/api/v1/auth/identities/{}", id.as_str().unwrap());
    let bob = app.member("bob", "admin").await;
    assert_eq!(bob.delete(&own).await.status, 404, "it is not his");
    assert_eq!(
        session.delete(&own).await.problem(),
        (409, "bound_session".into())
    );
    app.admin.delete(&own).await.expect(204);
    assert_eq!(session.get("/api/v1/auth/me").await.status, 401);
    assert_eq!(app.admin.delete(&own).await.status, 404);
    let reply = login(&app, &provider, &path).await;
    assert_eq!(reply.problem(), (401, "identity_not_linked".into()));
    assert!(
        audited(&app.admin)
            .await
            .contains(&"auth.identity_unlinked".to_owned())
    );
    app.close().await;
}

async fn unlinking_ends_the_login_that_waits_for_its_second_step(database: Database) {
    let (app, provider, _) = start(database).await;
    let path = declare(&app.admin, &provider, json!({})).await;
    let id = link(&app, &app.admin, &provider, &path).await.expect(201)["id"].clone();
    let secret = set_factor_up(&app, &app.admin).await;
    let by_provider = login(&app, &provider, &path).await;
    assert_eq!(
        by_provider.problem(),
        (401, "second_factor_required".into())
    );
    let body = json!({"email": ADA, "password": PASSWORD});
    let by_password = app.anonymous().post("/api/v1/auth/login", body).await;
    let own = format!("/api/v1/auth/identities/{}", id.as_str().unwrap());
    app.admin.delete(&own).await.expect(204);
    let second = async |waiting: &Value| {
        let body = json!({"mfa_token": waiting["mfa_token"], "code": code(&app, &secret)});
        app.anonymous().post("/api/v1/auth/mfa", body).await
    };
    let late = second(&by_provider.json()).await;
    assert_eq!(late.status, 422, "{late}");
    assert_eq!(late.json()["errors"][0]["pointer"], "/mfa_token", "{late}");
    // The member's own login goes on.
    second(&by_password.json()).await.expect(200);
    app.close().await;
}

async fn switching_a_provider_off_ends_its_sessions(database: Database) {
    let (app, provider, _) = start(database).await;
    let path = declare(&app.admin, &provider, json!({"domains": ["acme.example"]})).await;
    let of_provider = path.replace("/auth/oidc/", "/identity_providers/");
    let session = entered(&app, login(&app, &provider, &path).await);
    let mut settings = json!({
        "name": "Renamed", "client_id": "crm of acme", "redirect_uris": [crate::local_provider::BACK],
        "domains": ["acme.example"], "trusts_second_factor": false, "enabled": true,
    });
    let put = |body: &Value| {
        app.admin
            .send(reqwest::Method::PUT, &of_provider, Some(body.clone()))
    };
    let renamed = put(&settings).await.expect(200);
    assert_eq!(
        (&renamed["name"], &renamed["has_client_secret"]),
        (&json!("Renamed"), &json!(true))
    );
    session.get("/api/v1/auth/me").await.expect(200);
    let begun = agreed(&app, &provider, &path).await;
    settings["enabled"] = json!(false);
    put(&settings).await.expect(200);
    assert_eq!(session.get("/api/v1/auth/me").await.status, 401);
    app.admin.get("/api/v1/auth/me").await.expect(200);
    for (operation, body) in [("start", json!({})), ("callback", begun)] {
        let reply = app
            .anonymous()
            .post(&format!("{path}/{operation}"), body)
            .await;
        assert_eq!(reply.problem(), (404, "not_found".into()), "{operation}");
    }
    settings["enabled"] = json!(true);
    put(&settings).await.expect(200);
    let session = entered(&app, login(&app, &provider, &path).await);
    app.admin.delete(&of_provider).await.expect(204);
    assert_eq!(session.get("/api/v1/auth/me").await.status, 401);
    assert_eq!(app.admin.delete(&of_provider).await.status, 404);
    let own = app.admin.get("/api/v1/auth/identities").await.expect(200);
    assert_eq!(own["data"], json!([]));
    app.close().await;
}

async fn whoever_declares_a_provider_holds_every_permission(database: Database) {
    let (app, provider, _) = start(database).await;
    let path = declare(&app.admin, &provider, json!({})).await;
    let of_provider = path.replace("/auth/oidc/", "/identity_providers/");
    // All but one thing: who may be let in as the admin could do that too.
    let role = json!({"name": "nearly", "permissions": ["*.*", "!jobs.purge"]});
    app.admin.post("/api/v1/roles", role).await.expect(201);
    let nearly = app.member("nearly", "nearly").await;
    let body = json!({"name": "mine", "issuer": provider.issuer, "client_id": "x"});
    let reply = nearly.post("/api/v1/identity_providers", body).await;
    assert_eq!(reply.problem(), (403, "forbidden".into()));
    assert!(reply.body.contains("jobs.purge"), "{reply}");
    let settings = json!({
        "name": "x", "client_id": "x", "redirect_uris": [], "domains": ["acme.example"],
        "trusts_second_factor": false, "enabled": true,
    });
    let reply = nearly
        .send(reqwest::Method::PUT, &of_provider, Some(settings))
        .await;
    assert_eq!(reply.problem(), (403, "forbidden".into()));
    let reply = nearly.delete(&of_provider).await;
    assert_eq!(reply.problem(), (403, "forbidden".into()));
    nearly.get("/api/v1/identity_providers").await.expect(200);
    app.close().await;
}

async fn settings_that_break_a_rule_are_refused(database: Database) {
    let (app, provider, _) = start(database).await;
    declare(&app.admin, &provider, json!({})).await;
    let right = json!({"name": "other", "issuer": provider.issuer, "client_id": "x"});
    for (name, value, pointer) in [
        ("name", json!(" "), "/name"),
        ("issuer", json!("id.example"), "/issuer"),
        ("issuer", json!("https://id.example?x"), "/issuer"),
        ("client_id", json!(""), "/client_id"),
        ("client_id", json!("a\nb"), "/client_id"),
        ("client_secret", json!(""), "/client_secret"),
        (
            "redirect_uris",
            json!(["https://a.example", "javascript:x"]),
            "/redirect_uris/1",
        ),
        ("domains", json!(["nodot"]), "/domains/0"),
        ("join_role", json!("nobody"), "/join_role"),
    ] {
        let mut body = right.clone();
        body[name] = value;
        let reply = app.admin.post("/api/v1/identity_providers", body).await;
        assert_eq!(reply.status, 422, "{name}: {reply}");
        assert_eq!(reply.json()["errors"][0]["pointer"], pointer, "{reply}");
    }
    let mut same = right.clone();
    same["name"] = json!("Corporate login");
    let reply = app.admin.post("/api/v1/identity_providers", same).await;
    assert_eq!(reply.problem(), (409, "already_exists".into()));
    for number in 1..10 {
        let mut body = right.clone();
        body["name"] = json!(format!("number {number}"));
        app.admin
            .post("/api/v1/identity_providers", body)
            .await
            .expect(201);
    }
    let reply = app.admin.post("/api/v1/identity_providers", right).await;
    assert_eq!(reply.problem(), (409, "too_many_providers".into()));
    app.close().await;
    // A role that newcomers get stays.
    let (app, provider, _) = start(database).await;
    let role = json!({"name": "newcomer", "permissions": ["contacts.read"]});
    let role = app.admin.post("/api/v1/roles", role).await.expect(201)["id"].clone();
    declare(&app.admin, &provider, json!({"join_role": "newcomer"})).await;
    let gone = app
        .admin
        .delete(&format!("/api/v1/roles/{}", role.as_str().unwrap()))
        .await;
    assert_eq!(gone.status, 409, "{gone}");
    app.close().await;
}

async fn a_client_secret_is_never_shown(database: Database) {
    let (app, provider, _) = start(database).await;
    let path = declare(&app.admin, &provider, json!({"domains": ["acme.example"]})).await;
    let secret = "a secret: of the client's";
    let of_provider = path.replace("/auth/oidc/", "/identity_providers/");
    for place in [
        "/api/v1/identity_providers",
        &of_provider,
        "/api/v1/audit?limit=100",
    ] {
        let reply = app.admin.get(place).await;
        assert!(
            reply.status == 200 && !reply.body.contains(secret),
            "{reply}"
        );
    }
    // In the body, for providers that take it there alone.
    provider.set(|state| {
        let methods = json!(["client_secret_post"]);
        state.document = json!({"token_endpoint_auth_methods_supported": methods});
    });
    entered(&app, login(&app, &provider, &path).await);
    app.close().await;
}

async fn keys_rotate(database: Database) {
    let (app, provider, _) = start(database).await;
    let path = declare(&app.admin, &provider, json!({"domains": ["acme.example"]})).await;
    entered(&app, login(&app, &provider, &path).await);
    for (number, signer) in [
        Signer::rsa("second", jsonwebtoken::Algorithm::RS256),
        Signer::ec("third"),
        Signer::rsa("fourth", jsonwebtoken::Algorithm::PS256),
    ]
    .into_iter()
    .enumerate()
    {
        app.clock.advance(TimeDelta::minutes(1));
        provider.set(|state| {
            state.published = vec![signer.clone()];
            state.signer = signer;
        });
        entered(&app, login(&app, &provider, &path).await);
        assert_eq!(
            provider.asked("/jwks"),
            number + 2,
            "a new key is fetched once"
        );
        entered(&app, login(&app, &provider, &path).await);
        assert_eq!(provider.asked("/jwks"), number + 2);
    }
    // A key that is published no more ends when what is known is an hour old.
    let old = provider.set(|state| state.signer.clone());
    provider.set(|state| state.published = vec![Signer::ec("fifth")]);
    entered(&app, login(&app, &provider, &path).await);
    app.clock.advance(TimeDelta::hours(1));
    provider.set(|state| state.signer = old);
    assert_eq!(
        login(&app, &provider, &path).await.problem().1,
        "identity_refused"
    );
    app.close().await;
}

async fn an_erased_tenant_and_an_export_know_of_identities(database: Database) {
    let (app, provider, _) = start(database).await;
    tenant(&app, "globex").await;
    member(&app, "globex", "hank@globex.example", "admin").await;
    member(&app, "globex", ADA, "viewer").await;
    let hank = login_to(&app, "hank@globex.example", "globex").await;
    let path = declare(&hank, &provider, json!({"domains": ["acme.example"]})).await;
    entered(&app, login(&app, &provider, &path).await);
    let id = app
        .crm
        .tenants()
        .find_by_name("globex")
        .await
        .unwrap()
        .unwrap()
        .id;
    let request = crate::local_provider::request;
    let mut export = app.crm.export_tenant(id, request()).await.unwrap();
    let mut files = std::collections::BTreeMap::<String, String>::new();
    while let Some(piece) = export.next().await.unwrap() {
        files.entry(piece.file).or_default().push_str(&piece.text);
    }
    assert!(files["identity_providers.ndjson"].contains(&provider.issuer));
    assert!(files["user_identities.ndjson"].contains("subject of ada"));
    assert!(!files.values().any(|text| text.contains("of the client's")));
    // A member who leaves takes the identity along.
    let me = app.admin.get("/api/v1/auth/me").await.expect(200);
    let ada = me["user"]["id"].as_str().unwrap();
    hank.delete(&format!("/api/v1/members/{ada}"))
        .await
        .expect(204);
    let reply = login(&app, &provider, &path).await;
    assert_eq!(reply.problem(), (401, "identity_not_linked".into()));
    app.crm
        .tenants()
        .erase(id, "globex", request())
        .await
        .unwrap();
    let reply = app
        .anonymous()
        .post(&format!("{path}/start"), json!({}))
        .await;
    assert_eq!(reply.problem(), (404, "not_found".into()));
    app.close().await;
}
