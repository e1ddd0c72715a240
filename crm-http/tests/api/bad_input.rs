//! Bad input: each gets a clear answer with a stable code, and leaves nothing behind.

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::app::{App, Database, Reply};

crate::on_both_databases! {
    a_body_that_is_not_json_is_refused
    a_body_that_breaks_a_rule_names_every_field
    a_body_that_breaks_very_many_rules_has_a_short_answer
    a_byte_order_mark_is_no_part_of_a_body
    a_credential_without_its_scheme_is_told_the_scheme
    a_body_that_is_too_large_is_refused_announced_or_not
    protocol_errors_have_the_same_shape
    a_query_that_breaks_a_rule_names_every_parameter
    a_query_string_that_is_no_utf_8_is_refused_everywhere
    the_parts_of_a_query_string_mean_the_same_everywhere
    odd_text_is_kept_or_refused_but_never_breaks_anything
    a_reference_into_another_tenant_is_refused_like_none
}

async fn a_body_that_is_not_json_is_refused(database: Database) {
    let app = App::start(database).await;
    for (body, code) in [
        ("", "malformed_json"),
        ("{\"name\": \"Grace\"", "malformed_json"),
        ("{'name': 'Grace'}", "malformed_json"),
        ("{\"name\": \"a\", \"name\": \"b\"}", "duplicate_key"),
        (
            "{\"name\": \"a\", \"tags\": [{\"x\": 1, \"x\": 2}]}",
            "duplicate_key",
        ),
    ] {
        for path in ["/api/v1/contacts", "/api/v1/roles"] {
            let reply = post(&app, path, "application/json", body.as_bytes()).await;
            assert_eq!(reply.problem(), (400, code.into()), "{path} {body}");
        }
    }
    let deep = "[".repeat(100_000);
    let reply = post(
        &app,
        "/api/v1/contacts",
        "application/json",
        deep.as_bytes(),
    )
    .await;
    assert_eq!(reply.problem(), (400, "malformed_json".into()));
    for media_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let reply = post(&app, "/api/v1/contacts", media_type, b"{}").await;
        assert_eq!(
            reply.problem(),
            (415, "unsupported_media_type".into()),
            "{media_type}"
        );
    }
    nothing_was_written(&app).await;
    app.close().await;
}

async fn a_body_that_breaks_a_rule_names_every_field(database: Database) {
    let app = App::start(database).await;
    let body = json!({
        "name": null, "email": "nobody", "phone": 1, "score": 101, "status": "unknown",
        "tags": "vip", "company_id": "x", "surname": "Hopper",
    });
    let reply = app.admin.post("/api/v1/contacts", body).await;
    assert_eq!(reply.problem(), (422, "validation_failed".into()));
    let mut pointers = pointers(&reply);
    pointers.sort_unstable();
    assert_eq!(
        pointers,
        [
            "/company_id",
            "/email",
            "/name",
            "/phone",
            "/score",
            "/status",
            "/surname",
            "/tags"
        ]
    );
    let reply = app.admin.post("/api/v1/contacts", json!([])).await;
    assert_eq!(reply.problem(), (422, "validation_failed".into()));
    let role = json!({"permissions": ["moons.read"], "boss": true});
    let reply = app.admin.post("/api/v1/roles", role).await;
    assert_eq!(pointers_of(&reply), ["/name", "/boss"]);
    nothing_was_written(&app).await;
    app.close().await;
}

async fn a_body_that_breaks_very_many_rules_has_a_short_answer(database: Database) {
    let app = App::start(database).await;
    let unknown = (0..5_000).map(|number| (format!("unknown_{number}"), json!(1)));
    let body: serde_json::Map<_, _> = unknown.collect();
    let reply = app.admin.post("/api/v1/contacts", body.into()).await;
    let answer = reply.expect(422);
    assert_eq!(answer["errors"].as_array().unwrap().len(), 100);
    let detail = answer["detail"].as_str().unwrap();
    assert!(
        detail.contains("5001 places") || detail.contains("5000 places"),
        "{detail}"
    );
    app.close().await;
}

async fn a_byte_order_mark_is_no_part_of_a_body(database: Database) {
    let app = App::start(database).await;
    let body = "\u{feff}{\"name\": \"Grace\"}".as_bytes();
    let reply = post(&app, "/api/v1/contacts", "application/json", body).await;
    assert_eq!(reply.expect(201)["name"], "Grace");
    app.close().await;
}

async fn a_credential_without_its_scheme_is_told_the_scheme(database: Database) {
    let app = App::start(database).await;
    let token = app.admin.token.clone().unwrap();
    for credential in [token.as_str(), "Bearer", "Basic YTpi"] {
        let request = app.anonymous().request(Method::GET, "/api/v1/auth/me");
        let request = request.header("authorization", credential);
        let reply = app.anonymous().finish(request).await;
        assert_eq!(reply.problem(), (401, "token_invalid".into()));
        let detail = reply.json()["detail"].to_string();
        assert!(detail.contains("Authorization: Bearer"), "{detail}");
    }
    app.close().await;
}

async fn a_body_that_is_too_large_is_refused_announced_or_not(database: Database) {
    let app = App::start(database).await;
    let large = vec![b' '; 1024 * 1024 + 1];
    let reply = post(&app, "/api/v1/contacts", "application/json", &large).await;
    assert_eq!(reply.problem(), (413, "body_too_large".into()));
    assert_eq!(chunked(&app, 20 * 64).await, "HTTP/1.1 413");
    nothing_was_written(&app).await;
    app.close().await;
}

async fn protocol_errors_have_the_same_shape(database: Database) {
    let app = App::start(database).await;
    for path in [
        "/",
        "/api/v1",
        "/api/v1/",
        "/api/v1/moons",
        "/api/v2/contacts",
        "/health/x",
    ] {
        assert_eq!(
            app.admin.get(path).await.problem(),
            (404, "not_found".into()),
            "{path}"
        );
    }
    let id = "/api/v1/contacts/01890a5d-ac96-774b-bcce-b302099a8057";
    let absent = app.admin.get(id).await;
    for odd in [
        "7",
        "x/y",
        "",
        "%00",
        "01890a5dac96774bbcceb302099a8057",
        "..%2F..%2Fhealth",
    ] {
        let reply = app.admin.get(&format!("/api/v1/contacts/{odd}")).await;
        assert_eq!((reply.status, &reply.body), (404, &absent.body), "{odd}");
        let merge = format!("/api/v1/contacts/{odd}/merge");
        let reply = app.admin.post(&merge, json!({})).await;
        assert_eq!(reply.problem(), (404, "not_found".into()), "{merge}");
        let reply = app.admin.get(&format!("/api/v1/roles/{odd}")).await;
        assert_eq!(
            reply.status,
            if odd.is_empty() { reply.status } else { 404 },
            "{odd}"
        );
    }
    for (method, path, allow) in [
        (Method::PUT, "/api/v1/contacts", "GET, HEAD, POST"),
        (Method::POST, id, "DELETE, GET, HEAD, PATCH, PUT"),
        (Method::DELETE, "/api/v1/roles", "GET, HEAD, POST"),
        (Method::POST, "/health", "GET, HEAD"),
        (Method::POST, "/openapi.json", "GET, HEAD"),
        (Method::OPTIONS, "/api/v1/contacts", "GET, HEAD, POST"),
    ] {
        let reply = app.admin.send(method.clone(), path, None).await;
        assert_eq!(
            reply.problem(),
            (405, "method_not_allowed".into()),
            "{method} {path}"
        );
        assert_eq!(reply.header("allow"), allow, "{method} {path}");
    }
    for credential in [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "Bearer x",
        "Bearer a.b.c",
    ] {
        let request = app.anonymous().request(Method::GET, "/api/v1/contacts");
        let reply = app
            .admin
            .finish(request.header("Authorization", credential))
            .await;
        assert_eq!(reply.status, 401, "{credential:?} {reply}");
    }
    app.close().await;
}

async fn a_query_that_breaks_a_rule_names_every_parameter(database: Database) {
    let app = App::start(database).await;
    let query = "limit=x&count=7&sort=notes&colour=red&score[gte]=many&tags[lt]=a&limit=3&name[=1";
    let reply = app.admin.get(&format!("/api/v1/contacts?{query}")).await;
    assert_eq!(reply.problem(), (422, "validation_failed".into()));
    assert_eq!(
        pointers_of(&reply),
        [
            "/limit",
            "/count",
            "/sort",
            "/colour",
            "/score[gte]",
            "/tags[lt]",
            "/limit",
            "/name[]"
        ]
    );
    for query in [
        "limit=0",
        "limit=101",
        "cursor=x",
        "search=%00",
        "sort=",
        "fields=",
        "fields=name,",
        "expand=",
        "score[in]=",
    ] {
        let reply = app.admin.get(&format!("/api/v1/contacts?{query}")).await;
        assert_eq!(
            reply.problem(),
            (422, "validation_failed".into()),
            "{query}"
        );
    }
    let elsewhere = app
        .admin
        .get("/api/v1/contacts?limit=1&cursor=eyJxIjpb")
        .await;
    assert_eq!(elsewhere.json()["errors"][0]["code"], "invalid_cursor");
    for path in [
        "/api/v1/roles?a=b",
        "/api/v1/members?a=b",
        "/api/v1/audit?limit=0",
    ] {
        assert_eq!(app.admin.get(path).await.status, 422, "{path}");
    }
    let reply = app
        .admin
        .post("/api/v1/contacts?a=b", json!({"name": "x"}))
        .await;
    assert_eq!(pointers_of(&reply), ["/a"]);
    nothing_was_written(&app).await;
    app.close().await;
}

async fn a_query_string_that_is_no_utf_8_is_refused_everywhere(database: Database) {
    let app = App::start(database).await;
    for path in [
        "/api/v1/contacts",
        "/api/v1/contacts/aggregate",
        "/api/v1/contacts/export",
        "/api/v1/roles",
        "/api/v1/audit",
        "/api/v1/auth/me",
    ] {
        for query in [
            "name=%ff",
            "%C3=1",
            "name=%c3%28",
            "a=%ed%a0%80",
            "a=%c3&b=%a9",
        ] {
            let reply = app.admin.get(&format!("{path}?{query}")).await;
            let told = reply.problem();
            assert_eq!(told, (400, "malformed_query".into()), "{path}?{query}");
        }
    }
    for query in [
        "name=%c3%a9",
        "name=100%",
        "name=%zz",
        "name=%2",
        "name=a%25ff",
    ] {
        let reply = app.admin.get(&format!("/api/v1/contacts?{query}")).await;
        assert_eq!(reply.status, 200, "{query}");
    }
    app.close().await;
}

async fn the_parts_of_a_query_string_mean_the_same_everywhere(database: Database) {
    let app = App::start(database).await;
    let contact = json!({"name": "Ada"});
    let contact = app
        .admin
        .post("/api/v1/contacts", contact)
        .await
        .expect(201);
    let contact = format!("/api/v1/contacts/{}", contact["id"].as_str().unwrap());
    for path in [
        "/api/v1/contacts",
        &*contact,
        "/api/v1/audit",
        "/api/v1/roles",
    ] {
        for nothing in ["", "&", "&&"] {
            let reply = app.admin.get(&format!("{path}?{nothing}")).await;
            assert_eq!(reply.status, 200, "{path}?{nothing}");
        }
        let reply = app.admin.get(&format!("{path}?=1")).await;
        assert_eq!(reply.status, 422, "{path}");
    }
    for path in ["/api/v1/contacts", "/api/v1/audit"] {
        for (query, code) in [
            ("limit=", "invalid"),
            ("limit", "invalid"),
            ("limit=5&limit=5", "repeated"),
        ] {
            let reply = app.admin.get(&format!("{path}?{query}")).await;
            let errors = reply.expect(422)["errors"].clone();
            let told = json!([errors[0]["pointer"], errors[0]["code"]]);
            assert_eq!(told, json!(["/limit", code]), "{path}?{query}");
        }
        let reply = app.admin.get(&format!("{path}?cursor=")).await;
        assert_eq!(reply.status, 422, "{path}: {reply}");
    }
    app.close().await;
}

async fn odd_text_is_kept_or_refused_but_never_breaks_anything(database: Database) {
    let app = App::start(database).await;
    for name in [
        "O'Brien; DROP TABLE contacts --",
        "名前 🙂",
        "a\\b\"c",
        "%_%",
        "\u{202e}x",
    ] {
        let created = app
            .admin
            .post("/api/v1/contacts", json!({"name": name}))
            .await
            .expect(201);
        assert_eq!(created["name"], name);
        let request = app.admin.request(Method::GET, "/api/v1/contacts");
        let found = app
            .admin
            .finish(request.query(&[("search", name)]))
            .await
            .expect(200);
        assert_eq!(found["data"].as_array().unwrap().len(), 1, "{name}");
    }
    let reply = app
        .admin
        .post("/api/v1/contacts", json!({"name": "a\u{0}b"}))
        .await;
    assert_eq!(pointers_of(&reply), ["/name"]);
    let reply = post(
        &app,
        "/api/v1/contacts",
        "application/json",
        b"{\"name\": \"\xff\"}",
    )
    .await;
    assert_eq!(reply.problem(), (400, "malformed_json".into()));
    app.close().await;
}

async fn a_reference_into_another_tenant_is_refused_like_none(database: Database) {
    let app = App::start(database).await;
    let company = app
        .admin
        .post("/api/v1/companies", json!({"name": "Navy"}))
        .await
        .expect(201);
    let foreign = app.foreign_admin().await;
    let body = json!({"name": "Grace", "company_id": company["id"]});
    let refused = foreign.post("/api/v1/contacts", body).await;
    assert_eq!(pointers_of(&refused), ["/company_id"]);
    let absent = uuid::Uuid::from_u128(7).to_string();
    let body = json!({"name": "Grace", "company_id": absent});
    assert_eq!(
        foreign.post("/api/v1/contacts", body).await.body,
        refused.body
    );
    app.close().await;
}

async fn post(app: &App, path: &str, media_type: &str, body: &[u8]) -> Reply {
    let mut request = app.admin.request(Method::POST, path).body(body.to_vec());
    if !media_type.is_empty() {
        request = request.header("Content-Type", media_type);
    }
    app.admin.finish(request).await
}

/// The status line of a body sent in chunks of 1 KiB, without saying how many.
async fn chunked(app: &App, count: usize) -> String {
    let mut stream = TcpStream::connect(app.url.trim_start_matches("http://"))
        .await
        .unwrap();
    let token = app.admin.token.as_deref().unwrap();
    let head = format!(
        "POST /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("400\r\n{}\r\n", " ".repeat(1024));
    for _ in 0..count {
        // The server may stop reading as soon as it has seen enough.
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    String::from_utf8_lossy(&status).into_owned()
}

async fn nothing_was_written(app: &App) {
    let page = app.admin.get("/api/v1/contacts").await.expect(200);
    assert_eq!(page["data"], json!([]));
    let trail = app
        .admin
        .get("/api/v1/audit?entity=contacts")
        .await
        .expect(200);
    assert_eq!(trail["data"], json!([]));
}

fn pointers(reply: &Reply) -> Vec<String> {
    let errors = reply.json()["errors"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    errors
        .iter()
        .map(|error| error["pointer"].as_str().unwrap().to_owned())
        .collect()
}

#[track_caller]
fn pointers_of(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 422, "{reply}");
    pointers(reply)
}
