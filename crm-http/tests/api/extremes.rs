//! More of something than anybody needs, and names that mean something elsewhere.

use reqwest::Method;
use serde_json::{Value, json};

use crate::account::start;
use crate::app::{App, Caller, Database, PASSWORD, Reply};

crate::on_both_databases! {
    passwords_of_megabytes_are_refused_everywhere_alike
    tokens_of_unknown_keys_at_volume_are_refused_alike
    of_fifty_parallel_resets_with_one_token_one_wins
    role_names_with_commas_line_feeds_and_stars_mean_nothing
}

const ADA: &str = "ada@acme.example";

async fn passwords_of_megabytes_are_refused_everywhere_alike(database: Database) {
    let app = App::start(database).await;
    let login = async |password: &str| {
        let body = json!({"email": ADA, "password": password});
        app.anonymous().post("/api/v1/auth/login", body).await
    };
    let wrong = login("not the password").await;
    assert_eq!(wrong.problem(), (401, "invalid_credentials".into()));
    for megabytes in [10_000_000, 900_000] {
        let long = "x".repeat(megabytes);
        let refused = |reply: &Reply| match megabytes {
            10_000_000 => assert_eq!(reply.problem(), (413, "body_too_large".into())),
            _ => assert_eq!(reply.status, 422, "{reply}"),
        };
        match megabytes {
            10_000_000 => refused(&login(&long).await),
            _ => assert_eq!(login(&long).await.body, wrong.body),
        }
        for (path, body) in [
            (
                "password/change",
                json!({"current_password": PASSWORD, "password": long}),
            ),
            (
                "password/change",
                json!({"current_password": long, "password": PASSWORD}),
            ),
            ("totp", json!({"password": long})),
            ("totp/disable", json!({"password": long, "code": "000000"})),
        ] {
            refused(&app.admin.post(&format!("/api/v1/auth/{path}"), body).await);
        }
        let body = json!({"token": "crm_pr_x", "password": long});
        refused(
            &app.anonymous()
                .post("/api/v1/auth/password/reset", body)
                .await,
        );
        let body = json!({"email": "new@acme.example", "name": "New", "password": long,
            "roles": ["viewer"]});
        refused(&app.admin.post("/api/v1/members", body).await);
    }
    let me = app.admin.get("/api/v1/auth/me").await;
    assert_eq!(me.status, 200, "a session goes on");
    app.close().await;
}

async fn tokens_of_unknown_keys_at_volume_are_refused_alike(database: Database) {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let app = App::start(database).await;
    let good = app.admin.token.clone().unwrap();
    let (_, rest) = good.split_once('.').unwrap();
    let mut bodies = Vec::new();
    for number in 0..500 {
        let header = json!({"typ": "at+jwt", "alg": "HS256", "kid": format!("kid-{number}")});
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        let forged = app.with_token(Some(&format!("{header}.{rest}")));
        let reply = forged.get("/api/v1/auth/me").await;
        assert_eq!(reply.problem(), (401, "token_invalid".into()));
        bodies.push(reply.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
    assert_eq!(app.admin.get("/api/v1/auth/me").await.status, 200);
    app.close().await;
}

async fn of_fifty_parallel_resets_with_one_token_one_wins(database: Database) {
    let (app, mailbox) = start(database).await;
    let body = json!({"email": ADA});
    let path = "/api/v1/auth/password/forgot";
    app.anonymous().post(path, body).await.expect(204);
    let token = mailbox.token(&app, ADA).await;
    let reset = |number: usize| {
        let body = json!({"token": token, "password": format!("harpsichord number {number}")});
        let caller = app.anonymous();
        async move { caller.post("/api/v1/auth/password/reset", body).await }
    };
    let replies = futures::future::join_all((0..50).map(reset)).await;
    let won: Vec<usize> = (0..50).filter(|at| replies[*at].status == 200).collect();
    let [winner] = won[..] else {
        panic!("{} resets won", won.len());
    };
    for (number, reply) in replies.iter().enumerate().filter(|(at, _)| *at != winner) {
        // Either the token is gone, or the password was changed meanwhile, or others hash.
        assert!([409, 422, 503].contains(&reply.status), "{number}: {reply}");
    }
    let login = async |number: usize| {
        let password = format!("harpsichord number {number}");
        let body = json!({"email": ADA, "password": password});
        app.anonymous()
            .post("/api/v1/auth/login", body)
            .await
            .status
    };
    assert_eq!(login(winner).await, 200);
    assert_eq!(login((winner + 1) % 50).await, 401);
    app.close().await;
}

async fn role_names_with_commas_line_feeds_and_stars_mean_nothing(database: Database) {
    let app = App::start(database).await;
    let create = async |name: &str| {
        let body = json!({"name": name, "permissions": []});
        app.admin.post("/api/v1/roles", body).await
    };
    for name in [
        "admin\np, admin, *, *",
        "a\rb",
        "a\u{0}b",
        "admin\u{2028}x\u{7}",
    ] {
        let refused = create(name).await;
        assert_eq!(refused.status, 422, "{name:?}: {refused}");
        let error = &refused.json()["errors"][0];
        assert_eq!(error["code"], "invalid_character", "{name:?}");
    }
    let names = [
        "*",
        "admin, *",
        "role:admin",
        "p, admin, *, *, allow",
        "*/*",
        "admin;viewer",
    ];
    for (number, name) in names.into_iter().enumerate() {
        create(name).await.expect(201);
        let caller: Caller = app.member(&format!("n{number}"), name).await;
        let me = caller.get("/api/v1/auth/me").await.expect(200);
        assert_eq!(me["roles"][0]["name"], name);
        assert_eq!(me["permissions"], json!([]), "{name}");
        let reply = caller.get("/api/v1/contacts").await;
        assert_eq!(reply.problem(), (403, "forbidden".into()), "{name}");
    }
    let roles: Value = app.admin.get("/api/v1/roles").await.expect(200);
    let held: Vec<&str> = roles["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|role| role["name"].as_str().unwrap())
        .collect();
    assert!(names.iter().all(|name| held.contains(name)), "{held:?}");
    let body = Some(json!({"roles": ["admin, viewer"]}));
    let me = app.admin.get("/api/v1/auth/me").await.expect(200);
    let path = format!("/api/v1/members/{}", me["user"]["id"].as_str().unwrap());
    let split = app.admin.send(Method::PATCH, &path, body).await;
    assert_eq!(split.status, 422, "a name is never split: {split}");
    app.close().await;
}
