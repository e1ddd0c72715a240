//! Logins at providers that lie, answers that come from elsewhere, and providers that misbehave.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use crm_core::egress::{Egress, Resolve};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::app::{App, Database};
use crate::local_provider::{
    BACK, LocalProvider, Signer, agreed, declare, entered, link, login, login_by_token, login_to,
    member, person, start, start_within, tenant,
};

crate::on_both_databases! {
    asvs_10_5_tokens_that_do_not_fit_open_nothing
    asvs_9_1_2_other_algorithms_and_forged_keys_open_nothing
    asvs_10_5_1_a_token_and_its_nonce_work_once
    asvs_10_1_2_a_login_is_finished_by_who_began_it_and_once
    asvs_10_2_2_an_answer_of_another_issuer_is_refused
    a_login_ends_after_ten_minutes
    a_login_returns_where_the_provider_was_declared_to
    unverified_and_foreign_addresses_join_no_account
    unknown_keys_at_volume_fetch_no_storm
    a_provider_that_misbehaves_is_away
    a_provider_that_does_not_answer_is_away
    logins_of_one_identity_are_limited
    slow_names_of_one_tenant_hold_up_no_login_of_another
}

async fn open(database: Database) -> (App, LocalProvider, String) {
    let (app, provider, _) = start(database).await;
    let path = declare(&app.admin, &provider, json!({"domains": ["acme.example"]})).await;
    (app, provider, path)
}

async fn asvs_10_5_tokens_that_do_not_fit_open_nothing(database: Database) {
    let (app, provider, path) = open(database).await;
    let now = app.crm.clock().now().timestamp();
    for claims in [
        json!({"iss": "https://evil.example"}),
        json!({"iss": format!("{}/", provider.issuer)}),
        json!({"iss": null}),
        json!({"aud": "another client"}),
        json!({"aud": ["crm of acme", "another client"]}),
        json!({"aud": []}),
        json!({"aud": null}),
        json!({"azp": "another client"}),
        json!({"exp": now - 60}),
        json!({"exp": "never"}),
        json!({"exp": null}),
        json!({"iat": now + 120}),
        json!({"iat": null}),
        json!({"nbf": now + 120}),
        json!({"nonce": "another"}),
        json!({"nonce": null}),
        json!({"sub": ""}),
        json!({"sub": null}),
        json!({"sub": ["subject of ada"]}),
    ] {
        provider.set(|state| state.claims = claims.clone());
        for reply in [
            login(&app, &provider, &path).await,
            login_by_token(&app, &provider, &path).await,
        ] {
            assert_eq!(
                reply.problem(),
                (401, "identity_refused".into()),
                "{claims}"
            );
        }
    }
    provider.set(|state| state.claims = json!({}));
    entered(&app, login(&app, &provider, &path).await);
    app.close().await;
}

async fn asvs_9_1_2_other_algorithms_and_forged_keys_open_nothing(database: Database) {
    let (app, provider, path) = open(database).await;
    let right = provider.set(|state| state.signer.clone());
    let public = right.public();
    let x = public["x"].as_str().unwrap().to_owned();
    let forged = Signer::ec("first");
    for (signer, header) in [
        (right.clone(), json!({"alg": "none"})),
        (right.clone(), json!({"alg": "HS256"})),
        (right.clone(), json!({"alg": "ES384"})),
        (right.clone(), json!({"kid": "unknown"})),
        (right.clone(), json!({"typ": "at+jwt"})),
        (right.clone(), json!({"crit": ["b64"], "b64": false})),
        (Signer::hmac("first", &public.to_string()), json!({})),
        (Signer::hmac("first", &x), json!({})),
        (Signer::hmac("first", &x), json!({"alg": "ES256"})),
        (forged.clone(), json!({})),
        (forged.clone(), json!({"jwk": forged.public()})),
        (forged, json!({"jku": format!("{}/evil", provider.issuer)})),
    ] {
        provider.set(|state| (state.signer, state.header) = (signer, header.clone()));
        for reply in [
            login(&app, &provider, &path).await,
            login_by_token(&app, &provider, &path).await,
        ] {
            assert_eq!(
                reply.problem(),
                (401, "identity_refused".into()),
                "{header}"
            );
        }
    }
    // Without a signature at all.
    let nonce = nonce(&app, &path).await;
    provider.set(|state| (state.signer, state.header) = (right, json!({"alg": "none"})));
    let token = provider.id_token(&nonce);
    let (unsigned, _) = token.rsplit_once('.').unwrap();
    for token in [format!("{unsigned}."), unsigned.to_owned(), String::new()] {
        let body = json!({"id_token": token, "nonce": nonce});
        let reply = app.anonymous().post(&format!("{path}/token"), body).await;
        assert_eq!(reply.problem(), (401, "identity_refused".into()));
    }
    assert_eq!(provider.asked("/evil"), 0);
    app.close().await;
}

async fn nonce(app: &App, path: &str) -> String {
    let path = format!("{path}/nonce");
    let reply = app
        .anonymous()
        .send(reqwest::Method::POST, &path, None)
        .await;
    reply.expect(200)["nonce"].as_str().unwrap().to_owned()
}

#[track_caller]
fn refused_field(reply: &crate::app::Reply) -> String {
    assert_eq!(reply.status, 422, "{reply}");
    let error = &reply.json()["errors"][0];
    assert_eq!(error["code"], "invalid_token", "{reply}");
    error["pointer"].as_str().unwrap().to_owned()
}

async fn asvs_10_5_1_a_token_and_its_nonce_work_once(database: Database) {
    let (app, provider, path) = open(database).await;
    let own = nonce(&app, &path).await;
    let token = |nonce: &str| json!({"id_token": provider.id_token(nonce), "nonce": nonce});
    let send = |body: Value| {
        let (caller, path) = (app.anonymous(), format!("{path}/token"));
        async move { caller.post(&path, body).await }
    };
    // Somebody who has seen a nonce cannot use it up.
    let body = json!({"id_token": "a.b.c", "nonce": own});
    assert_eq!(send(body).await.problem().1, "identity_refused");
    let body = token(&own);
    let racing = (0..5).map(|_| send(body.clone()));
    let replies = futures::future::join_all(racing).await;
    assert_eq!(
        replies.iter().filter(|reply| reply.status == 200).count(),
        1
    );
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        assert_eq!(refused_field(reply), "/nonce");
    }
    assert_eq!(refused_field(&send(token(&own)).await), "/nonce");
    // Nonces that are not ours.
    for other in ["", "n", "a nonce of the attacker's", &own[1..]] {
        assert_eq!(
            refused_field(&send(token(other)).await),
            "/nonce",
            "{other}"
        );
    }
    let late = nonce(&app, &path).await;
    app.clock.advance(TimeDelta::minutes(10));
    assert_eq!(refused_field(&send(token(&late)).await), "/nonce");
    app.close().await;
}

async fn asvs_10_1_2_a_login_is_finished_by_who_began_it_and_once(database: Database) {
    let (app, provider, path) = open(database).await;
    let callback = |body: Value| {
        let (caller, path) = (app.anonymous(), format!("{path}/callback"));
        async move { caller.post(&path, body).await }
    };
    // The attacker's own answer, brought to a victim's browser, meets no secret that it goes with.
    let (attacker, victim) = (
        agreed(&app, &provider, &path).await,
        agreed(&app, &provider, &path).await,
    );
    let mut forced = attacker.clone();
    forced["login_secret"] = victim["login_secret"].clone();
    assert_eq!(refused_field(&callback(forced.clone()).await), "/state");
    forced["state"] = victim["state"].clone();
    // The attacker's code at the victim's login: the challenge is another one.
    assert_eq!(callback(forced).await.problem().1, "identity_refused");
    // And that used the victim's login up.
    assert_eq!(refused_field(&callback(victim).await), "/login_secret");
    let attacker = agreed(&app, &provider, &path).await;
    for (name, value, pointer) in [
        ("login_secret", "", "/login_secret"),
        ("login_secret", "crm_ol_AAAA", "/login_secret"),
        ("state", "", "/state"),
        ("state", "x", "/state"),
    ] {
        let mut body = attacker.clone();
        body[name] = json!(value);
        assert_eq!(refused_field(&callback(body).await), pointer);
    }
    let racing = (0..5).map(|_| callback(attacker.clone()));
    let replies = futures::future::join_all(racing).await;
    assert_eq!(
        replies.iter().filter(|reply| reply.status == 200).count(),
        1
    );
    assert_eq!(provider.asked("/token"), 2, "each login asks once");
    assert_eq!(refused_field(&callback(attacker).await), "/login_secret");
    // A wrong code.
    let mut body = agreed(&app, &provider, &path).await;
    body["code"] = json!("a guess");
    assert_eq!(callback(body).await.problem().1, "identity_refused");
    app.close().await;
}

async fn asvs_10_2_2_an_answer_of_another_issuer_is_refused(database: Database) {
    let (app, provider, path) = open(database).await;
    for issuer in [json!("https://evil.example"), json!(""), json!(null)] {
        let mut body = agreed(&app, &provider, &path).await;
        match issuer.clone() {
            Value::Null => drop(body.as_object_mut().unwrap().remove("iss")),
            issuer => body["iss"] = issuer,
        }
        let asked = provider.asked("/token");
        let reply = app
            .anonymous()
            .post(&format!("{path}/callback"), body)
            .await;
        assert_eq!(
            reply.problem(),
            (401, "identity_refused".into()),
            "{issuer}"
        );
        assert_eq!(provider.asked("/token"), asked, "the code went nowhere");
    }
    // A provider that does not promise to name itself need not.
    provider.set(|state| {
        state.document = json!({"authorization_response_iss_parameter_supported": null});
    });
    app.clock.advance(TimeDelta::hours(1));
    let mut body = agreed(&app, &provider, &path).await;
    body.as_object_mut().unwrap().remove("iss");
    app.anonymous()
        .post(&format!("{path}/callback"), body)
        .await
        .expect(200);
    app.close().await;
}

async fn a_login_ends_after_ten_minutes(database: Database) {
    let (app, provider, path) = open(database).await;
    let body = agreed(&app, &provider, &path).await;
    app.clock.advance(TimeDelta::minutes(10));
    let reply = app
        .anonymous()
        .post(&format!("{path}/callback"), body)
        .await;
    assert_eq!(refused_field(&reply), "/login_secret");
    app.close().await;
}

async fn a_login_returns_where_the_provider_was_declared_to(database: Database) {
    let (app, provider, path) = open(database).await;
    let begin = |uri: Value| {
        let (caller, path) = (app.anonymous(), format!("{path}/start"));
        async move { caller.post(&path, json!({"redirect_uri": uri})).await }
    };
    begin(json!(BACK)).await.expect(200);
    for uri in [
        "https://evil.example/back",
        "https://app.acme.example/back/",
        "https://app.acme.example/back?x",
        "https://app.acme.example.evil.example/back",
        "",
    ] {
        let reply = begin(json!(uri)).await;
        assert_eq!(
            reply.json()["errors"][0]["pointer"],
            "/redirect_uri",
            "{reply}"
        );
    }
    let two = json!({"name": "two", "redirect_uris": [BACK, "https://app.acme.example/other"]});
    let two = declare(&app.admin, &provider, two).await;
    let reply = app
        .anonymous()
        .post(&format!("{two}/start"), json!({}))
        .await;
    assert_eq!(reply.status, 422, "{reply}");
    app.close().await;
}

async fn unverified_and_foreign_addresses_join_no_account(database: Database) {
    let (app, provider, path) = open(database).await;
    // Believed about no domain at all.
    let plain = declare(&app.admin, &provider, json!({"name": "plain"})).await;
    let joining = json!({"name": "joining", "join_role": "admin", "domains": ["other.example"]});
    let joining = declare(&app.admin, &provider, joining).await;
    for path in [&plain, &joining] {
        let reply = login(&app, &provider, path).await;
        assert_eq!(reply.problem(), (401, "identity_not_linked".into()));
    }
    for claims in [
        json!({"email_verified": false}),
        json!({"email_verified": null}),
        json!({"email_verified": "true"}),
        json!({"email_verified": 1}),
        json!({"email": null}),
        json!({"email": "ada@acme.example "}),
    ] {
        provider.set(|state| state.claims = claims.clone());
        let reply = login(&app, &provider, &path).await;
        let trimmed = claims["email"].is_string();
        assert_eq!(
            reply.status,
            if trimmed { 200 } else { 401 },
            "{claims}: {reply}"
        );
    }
    provider.set(|state| state.claims = json!({}));
    // An account whose address nobody has proven is not joined: somebody else may have made it.
    app.member("bob", "admin").await;
    provider.set(|state| state.person = person("bob"));
    let reply = login(&app, &provider, &path).await;
    assert_eq!(reply.problem(), (401, "identity_not_linked".into()));
    app.close().await;
}

async fn unknown_keys_at_volume_fetch_no_storm(database: Database) {
    let (app, provider, path) = open(database).await;
    entered(&app, login(&app, &provider, &path).await);
    let right = provider.set(|state| state.signer.clone());
    let nonce = nonce(&app, &path).await;
    for round in 1..=3 {
        app.clock.advance(TimeDelta::minutes(1));
        let attempts = (0..20).map(|number| {
            let kid = json!({"kid": format!("unknown {number}")});
            provider.set(|state| state.header = kid);
            let body = json!({"id_token": provider.id_token(&nonce), "nonce": nonce});
            let (caller, path) = (app.anonymous(), format!("{path}/token"));
            async move { caller.post(&path, body).await.status }
        });
        let attempts: Vec<_> = attempts.collect();
        for status in futures::future::join_all(attempts).await {
            assert_eq!(status, 401);
        }
        assert_eq!(provider.asked("/jwks"), 1 + round, "one fetch a minute");
    }
    provider.set(|state| (state.signer, state.header) = (right, json!({})));
    entered(&app, login(&app, &provider, &path).await);
    app.close().await;
}

async fn a_provider_that_misbehaves_is_away(database: Database) {
    let (app, provider, path) = open(database).await;
    let discovery = "/.well-known/openid-configuration";
    let elsewhere = format!("{}/elsewhere", provider.issuer);
    let away = (503, "unavailable".to_owned());
    let begin = || async {
        app.anonymous()
            .post(&format!("{path}/start"), json!({}))
            .await
    };
    let set = |path: &'static str, status: u16, body: String| {
        let answer = (status, elsewhere.clone(), body);
        provider.set(|state| drop(state.instead.insert(path, answer)));
        // Past the pause after the failure before.
        app.clock.advance(TimeDelta::seconds(10));
    };
    for (status, body) in [
        (200, "not json".to_owned()),
        (200, "{}".to_owned()),
        (200, format!("{{\"x\":\"{}\"}}", "a".repeat(100_000))),
        (302, String::new()),
        (404, "{}".to_owned()),
        (500, "{}".to_owned()),
    ] {
        set(discovery, status, body);
        let reply = begin().await;
        assert_eq!(reply.problem(), away, "{status}");
        assert!(
            reply.header("retry-after") == "1" && !reply.body.contains("127.0.0.1"),
            "{reply}"
        );
    }
    // One that failed is left in peace for a while.
    let asked = provider.asked(discovery);
    for _ in 0..10 {
        assert_eq!(begin().await.problem(), away);
    }
    assert_eq!(provider.asked(discovery), asked);
    provider.set(|state| state.instead.clear());
    for document in [
        json!({"issuer": "https://evil.example"}),
        json!({"issuer": format!("{}/", provider.issuer)}),
        json!({"token_endpoint": "file:///etc/passwd"}),
        json!({"jwks_uri": null}),
    ] {
        provider.set(|state| state.document = document.clone());
        app.clock.advance(TimeDelta::seconds(10));
        assert_eq!(begin().await.problem(), away, "{document}");
    }
    provider.set(|state| state.document = json!({}));
    app.clock.advance(TimeDelta::seconds(10));

    // Keys and tokens.
    let giant = vec![Signer::ec("giant").public(); 4_000];
    for (at, status, body) in [
        ("/jwks", 200, "[]".to_owned()),
        ("/jwks", 200, json!({ "keys": giant }).to_string()),
        ("/jwks", 302, String::new()),
        ("/token", 200, "{}".to_owned()),
        (
            "/token",
            200,
            format!("{{\"id_token\":\"{}\"}}", "a".repeat(100_000)),
        ),
        ("/token", 302, String::new()),
        ("/token", 500, String::new()),
    ] {
        let begun = agreed(&app, &provider, &path).await;
        set(at, status, body);
        let reply = app
            .anonymous()
            .post(&format!("{path}/callback"), begun)
            .await;
        assert_eq!(reply.problem(), away, "{at} {status}");
        provider.set(|state| state.instead.clear());
    }
    app.clock.advance(TimeDelta::seconds(10));
    entered(&app, login(&app, &provider, &path).await);
    assert_eq!(provider.asked("/elsewhere"), 0, "no redirect was followed");
    app.close().await;
}

async fn a_provider_that_does_not_answer_is_away(database: Database) {
    let (app, provider, _) = start_within(database, Duration::from_millis(300)).await;
    let path = declare(&app.admin, &provider, json!({})).await;
    provider.set(|state| state.stalled = Some("/.well-known/openid-configuration"));
    let attempts = (0..10).map(|_| {
        let (caller, path) = (app.anonymous(), format!("{path}/start"));
        async move { caller.post(&path, json!({})).await.problem() }
    });
    for problem in futures::future::join_all(attempts).await {
        assert_eq!(problem, (503, "unavailable".into()));
    }
    assert_eq!(
        provider.asked("/.well-known/openid-configuration"),
        2,
        "at the declaration, and then one waits for all"
    );
    app.close().await;
}

async fn logins_of_one_identity_are_limited(database: Database) {
    let egress = crm_core::egress::Egress::builder()
        .allow("127.0.0.1")
        .unwrap();
    let egress = egress.build().unwrap();
    let app = App::with(database, |builder| builder.egress(egress).login_limit(3)).await;
    let provider = LocalProvider::start(app.crm.clock()).await;
    let path = declare(&app.admin, &provider, json!({})).await;
    link(&app, &app.admin, &provider, &path).await.expect(201);
    for _ in 0..3 {
        entered(&app, login(&app, &provider, &path).await);
    }
    let reply = login(&app, &provider, &path).await;
    assert_eq!(reply.problem(), (429, "rate_limited".into()));
    app.clock.advance(TimeDelta::minutes(1));
    entered(&app, login(&app, &provider, &path).await);
    app.close().await;
}

/// Leads to this machine; once it has begun, look-ups of names of `evil.example` never end.
#[derive(Default)]
struct Slow {
    begun: AtomicBool,
    asked: AtomicUsize,
}

impl Resolve for Slow {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            if host.ends_with(".evil.example") && self.begun.load(Ordering::SeqCst) {
                self.asked.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            Ok(vec![IpAddr::from(Ipv4Addr::LOCALHOST)])
        })
    }
}

async fn slow_names_of_one_tenant_hold_up_no_login_of_another(database: Database) {
    let resolver = Arc::new(Slow::default());
    let egress = Egress::builder().allow("127.0.0.1").unwrap();
    let egress = egress.resolver(resolver.clone());
    let egress = egress.timeout(Duration::from_millis(500)).build().unwrap();
    let app = App::with(database, |builder| builder.egress(egress)).await;
    tenant(&app, "evil").await;
    member(&app, "evil", "mallory@evil.example", "admin").await;
    let mallory = login_to(&app, "mallory@evil.example", "evil").await;
    let provider = LocalProvider::start(app.crm.clock()).await;
    let mut evil = Vec::new();
    for number in 0..10 {
        let name = format!("{number}.evil.example");
        let issuer = json!({"issuer": provider.issuer.replace("127.0.0.1", &name)});
        provider.set(|state| state.document = issuer.clone());
        let mut declared = issuer;
        declared["name"] = json!(name);
        evil.push(declare(&mallory, &provider, declared).await);
    }
    resolver.begun.store(true, Ordering::SeqCst);
    let begin = |path: String| {
        let caller = app.anonymous();
        async move { caller.post(&format!("{path}/start"), json!({})).await }
    };
    for _ in 0..2 {
        let all = evil.iter().map(|path| begin(path.clone()));
        for reply in futures::future::join_all(all).await {
            assert_eq!(reply.problem(), (503, "unavailable".into()));
        }
        app.clock.advance(TimeDelta::seconds(10));
    }
    assert_eq!(
        resolver.asked.load(Ordering::SeqCst),
        2,
        "look-ups under way"
    );
    let issuer = provider.issuer.replace("127.0.0.1", "id.acme.example");
    let named = json!({"issuer": issuer});
    provider.set(|state| state.document = named.clone());
    let honest = declare(&app.admin, &provider, named).await;
    begin(honest).await.expect(200);
    app.close().await;
}
