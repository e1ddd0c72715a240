//! Bad tokens from outside: one status and one body for all of them, so that nothing tells why.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Database, PASSWORD};

crate::on_both_databases! {
    every_bad_token_gets_the_same_401
    two_credentials_are_none
    tokens_are_good_for_one_use_each
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// The parts of a good token: header, payload, signature.
fn parts(token: &str) -> [String; 3] {
    let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts.try_into().unwrap()
}

async fn every_bad_token_gets_the_same_401(database: Database) {
    let app = App::start(database).await;
    let good = app.admin.token.clone().unwrap();
    let [header, payload, signature] = parts(&good);
    let decoded = |part: &str| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let (head, claims) = (decoded(&header), decoded(&payload));
    let with_head = |name: &str, value: Value| {
        let mut head = head.clone();
        head[name] = value;
        format!("{}.{payload}.{signature}", encoded(&head))
    };
    let with_claim = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        format!("{header}.{}.{signature}", encoded(&claims))
    };
    let foreign = app.foreign_admin().await;
    let [_, foreign_payload, _] = parts(foreign.token.as_deref().unwrap());
    let session = json!({"email": "ada@acme.example", "password": PASSWORD});
    let session = app
        .anonymous()
        .post("/api/v1/auth/login", session)
        .await
        .expect(200);
    let refresh = session["refresh_token"].as_str().unwrap();
    let body = json!({"refresh_token": refresh});
    app.anonymous()
        .post("/api/v1/auth/logout", body)
        .await
        .expect(204);

    let bad = [
        (
            "alg none",
            format!(
                "{}.{payload}.",
                encoded(&json!({"alg": "none", "typ": "at+jwt"}))
            ),
        ),
        ("alg none with the kid", with_head("alg", json!("none"))),
        ("alg confusion", with_head("alg", json!("RS256"))),
        ("kid as a path", with_head("kid", json!("../../etc/passwd"))),
        ("kid as SQL", with_head("kid", json!("' OR 1=1 --"))),
        ("unknown kid", with_head("kid", json!("AAAAAAAAAAAA"))),
        ("wrong typ", with_head("typ", json!("JWT"))),
        ("no signature", format!("{header}.{payload}.")),
        (
            "another signature",
            format!("{header}.{payload}.{}", "A".repeat(43)),
        ),
        ("later exp", with_claim("exp", json!(4_000_000_000_u64))),
        ("another sub", with_claim("sub", json!(uuid::Uuid::nil()))),
        ("another tid", with_claim("tid", json!(uuid::Uuid::nil()))),
        (
            "the claims of another",
            format!("{header}.{foreign_payload}.{signature}"),
        ),
        (
            "the token of an ended session",
            session["access_token"].as_str().unwrap().to_owned(),
        ),
        ("a refresh token", refresh.to_owned()),
        ("no token", "hello".to_owned()),
        ("too long", "A".repeat(20_000)),
        ("dots", "..".to_owned()),
    ];
    let expected = app.with_token(Some("hello")).get("/api/v1/contacts").await;
    assert_eq!(expected.problem(), (401, "token_invalid".into()));
    for (name, token) in bad {
        let caller = app.with_token(Some(&token));
        for path in ["/api/v1/contacts", "/api/v1/auth/me"] {
            let reply = caller.get(path).await;
            assert_eq!(reply.status, 401, "{name} at {path}: {reply}");
            assert_eq!(reply.body, expected.body, "{name} at {path}");
        }
        // The document does not describe itself.
        let document = caller.request(Method::GET, "/openapi.json");
        let document = document.send().await.unwrap();
        assert_eq!(document.status(), 401, "{name}");
        assert_eq!(document.text().await.unwrap(), expected.body, "{name}");
    }
    assert_eq!(app.admin.get("/api/v1/contacts").await.status, 200);
    app.close().await;
}

async fn two_credentials_are_none(database: Database) {
    let app = App::start(database).await;
    let token = app.admin.token.clone().unwrap();
    for second in [
        format!("Bearer {token}"),
        "Bearer x".into(),
        "Basic YTpi".into(),
    ] {
        let request = app.admin.request(Method::GET, "/api/v1/contacts");
        let reply = app
            .admin
            .finish(request.header("Authorization", second))
            .await;
        assert_eq!(reply.problem(), (401, "token_invalid".into()));
    }
    app.close().await;
}

async fn tokens_are_good_for_one_use_each(database: Database) {
    let app = App::start(database).await;
    let refresh = json!({"refresh_token": app.admin.token.clone().unwrap()});
    let reply = app.anonymous().post("/api/v1/auth/refresh", refresh).await;
    assert_eq!(
        reply.problem(),
        (401, "token_invalid".into()),
        "access as refresh"
    );
    let elsewhere = app.with_token(Some("hello")).get("/api/v1/contacts").await;
    assert_eq!(reply.body, elsewhere.body);
    app.close().await;
}
