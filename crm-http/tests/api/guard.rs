//! Rate limits, as clients meet them.

use crm_http::{HttpOptions, TrustedProxies};
use reqwest::Method;
use serde_json::json;

use crate::app::{App, Database, PASSWORD};

crate::on_both_databases! {
    xc_15_sign_in_is_limited_by_address
    a_refusal_tells_of_the_limit_that_refused
    xc_15_the_limit_of_logins_tells_of_itself_as_the_others_do
    xc_15_requests_are_limited_by_user_and_by_key
    xc_15_forwarded_addresses_count_only_behind_a_trusted_proxy
    bad_credentials_are_limited_by_address
}

fn options(sign_in_limit: u32, rate_limit: u32) -> HttpOptions {
    HttpOptions {
        sign_in_limit,
        rate_limit,
        ..HttpOptions::default()
    }
}

async fn xc_15_sign_in_is_limited_by_address(database: Database) {
    let app = App::start(database).await;
    let caller = app.also(options(3, 0)).await;
    for (path, body) in [
        (
            "login",
            json!({"email": "ada@acme.example", "password": PASSWORD}),
        ),
        ("refresh", json!({"refresh_token": "crm_rt_unknown"})),
        ("logout", json!({"refresh_token": "crm_rt_unknown"})),
    ] {
        let reply = caller.post(&format!("/api/v1/auth/{path}"), body).await;
        assert_ne!(reply.status, 429);
        assert_eq!(reply.header("ratelimit-policy"), "\"sign-in\";q=3;w=60");
    }
    let body = json!({"email": "ada@acme.example", "password": PASSWORD});
    let reply = caller.post("/api/v1/auth/login", body.clone()).await;
    assert_eq!(reply.problem(), (429, "rate_limited".into()));
    assert_eq!(reply.header("retry-after"), "20");
    assert_eq!(reply.header("ratelimit"), "\"sign-in\";r=0;t=60");
    assert_eq!(caller.get("/api/v1/contacts").await.status, 200);
    assert_eq!(caller.get("/health").await.status, 200);
    app.clock.advance(chrono::TimeDelta::seconds(20));
    assert_eq!(caller.post("/api/v1/auth/login", body).await.status, 200);
    app.close().await;
}

async fn a_refusal_tells_of_the_limit_that_refused(database: Database) {
    let app = App::start(database).await;
    let caller = app.also(options(100, 1)).await;
    assert_eq!(caller.get("/api/v1/auth/me").await.status, 200);
    let path = "/api/v1/auth/logout-everywhere";
    // It is of the sign-ins too, of which there are many left.
    let reply = caller.post(path, json!({})).await;
    assert_eq!(reply.problem(), (429, "rate_limited".into()));
    assert_eq!(reply.header("ratelimit-policy"), "\"requests\";q=1;w=60");
    assert_eq!(reply.header("ratelimit"), "\"requests\";r=0;t=60");
    app.close().await;
}

async fn xc_15_the_limit_of_logins_tells_of_itself_as_the_others_do(database: Database) {
    let app = App::with(database, |builder| builder.login_limit(2)).await;
    let login = async || {
        let body = json!({"email": "ada@acme.example", "password": "not the password"});
        app.anonymous().post("/api/v1/auth/login", body).await
    };
    for _ in 0..2 {
        let reply = login().await;
        assert_eq!(reply.status, 401);
        assert_eq!(reply.header("ratelimit-policy"), "\"sign-in\";q=300;w=60");
        app.clock.advance(chrono::TimeDelta::seconds(10));
    }
    let refused = login().await;
    assert_eq!(refused.problem(), (429, "rate_limited".into()));
    assert_eq!(refused.header("ratelimit-policy"), "\"login\";q=2;w=60");
    // The first attempt was 20 seconds ago, the last one ten.
    assert_eq!(refused.header("retry-after"), "40");
    assert_eq!(refused.header("ratelimit"), "\"login\";r=0;t=50");
    app.close().await;
}

async fn xc_15_requests_are_limited_by_user_and_by_key(database: Database) {
    let app = App::start(database).await;
    let mut program = app.program("viewer").await;
    let caller = app.also(options(0, 2)).await;
    program.url.clone_from(&caller.url);
    for left in [1, 0] {
        let reply = caller.get("/api/v1/contacts").await;
        assert_eq!(reply.status, 200);
        assert!(
            reply
                .header("ratelimit")
                .starts_with(&format!("\"requests\";r={left};"))
        );
    }
    assert_eq!(
        caller.get("/api/v1/deals").await.problem(),
        (429, "rate_limited".into())
    );
    assert_eq!(caller.get("/api/v1/auth/me").await.status, 429);
    assert_eq!(
        program.get("/api/v1/contacts").await.status,
        200,
        "counted by itself"
    );
    for path in ["/health", "/health/ready"] {
        assert_eq!(caller.get(path).await.status, 200, "XC-07");
    }
    app.close().await;
}

async fn xc_15_forwarded_addresses_count_only_behind_a_trusted_proxy(database: Database) {
    let app = App::start(database).await;
    let body = json!({"refresh_token": "crm_rt_unknown"});
    let refresh = async |caller: &crate::app::Caller, forwarded: &str| {
        let request = caller.request(Method::POST, "/api/v1/auth/refresh");
        let request = request.header("X-Forwarded-For", forwarded).json(&body);
        caller.finish(request).await.status
    };
    let direct = app.also(options(1, 0)).await;
    assert_eq!(refresh(&direct, "198.51.100.1").await, 401);
    assert_eq!(
        refresh(&direct, "198.51.100.2").await,
        429,
        "the header is ignored"
    );

    let trusted_proxies = TrustedProxies::default().with("127.0.0.0/8").unwrap();
    let proxied = app
        .also(HttpOptions {
            trusted_proxies,
            ..options(1, 0)
        })
        .await;
    assert_eq!(refresh(&proxied, "203.0.113.9, 198.51.100.1").await, 401);
    assert_eq!(refresh(&proxied, "203.0.113.8, 198.51.100.1").await, 429);
    assert_eq!(refresh(&proxied, "198.51.100.2").await, 401);
    let login = proxied
        .request(Method::POST, "/api/v1/auth/login")
        .header("X-Forwarded-For", "198.51.100.3")
        .json(&json!({"email": "ada@acme.example", "password": PASSWORD}));
    proxied.finish(login).await.expect(200);
    let audit = app
        .admin
        .get("/api/v1/audit?action=auth.login")
        .await
        .expect(200);
    assert_eq!(audit["data"][0]["address"], "198.51.100.3");
    app.close().await;
}

async fn bad_credentials_are_limited_by_address(database: Database) {
    let app = App::start(database).await;
    let caller = app.also(options(0, 2)).await;
    let mut stranger = caller.clone();
    stranger.token = Some("hello".into());
    for expected in [401, 401, 429] {
        assert_eq!(stranger.get("/api/v1/contacts").await.status, expected);
    }
    assert_eq!(caller.get("/api/v1/contacts").await.status, 200);
    app.close().await;
}
