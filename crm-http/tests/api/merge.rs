//! Duplicates and merging over HTTP.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Caller, Database};

crate::on_both_databases! {
    duplicates_are_listed_and_merged
    a_merge_names_what_is_wrong_with_it
    a_merge_is_bound_to_versions_and_done_once_for_its_key
    a_module_without_keys_has_no_duplicates
}

async fn start(database: Database) -> App {
    App::with(database, |builder| {
        builder.modules([crate::trash::papers()])
    })
    .await
}

async fn paper(caller: &Caller, body: Value) -> String {
    let made = caller.post("/api/v1/papers", body).await.expect(201);
    made["id"].as_str().unwrap().to_owned()
}

async fn duplicates_are_listed_and_merged(database: Database) {
    let app = start(database).await;
    let admin = &app.admin;
    let first = paper(admin, json!({"title": "Deed", "labels": ["a"]})).await;
    let second = paper(
        admin,
        json!({"title": "DEED", "code": "7", "labels": ["b"]}),
    )
    .await;
    let third = paper(admin, json!({"title": "deed"})).await;
    paper(admin, json!({"title": "Other"})).await;
    let groups = admin
        .get("/api/v1/papers/duplicates?limit=1")
        .await
        .expect(200);
    assert_eq!(
        (&groups["data"][0]["key"], &groups["data"][0]["count"]),
        (&json!({"title": "deed"}), &json!(3))
    );
    assert_eq!(groups["data"][0]["records"][1]["id"], json!(second));
    assert!(groups["next_cursor"].is_null());
    let of = admin
        .get(&format!("/api/v1/papers/{third}/duplicates"))
        .await
        .expect(200);
    assert_eq!(of["data"][0]["count"], 2);

    let path = format!("/api/v1/papers/{first}/merge");
    let body = json!({"from": [second, third], "take": {"title": third}});
    let reply = admin.post(&path, body).await;
    assert_eq!(reply.header("etag"), "\"2\"");
    let merged = reply.expect(200);
    assert_eq!(
        (&merged["title"], &merged["code"], &merged["labels"]),
        (&json!("deed"), &json!("7"), &json!(["a", "b"]))
    );
    let groups = admin.get("/api/v1/papers/duplicates").await.expect(200);
    assert_eq!(groups["data"], json!([]));
    let trash = admin.get("/api/v1/papers/trash").await.expect(200);
    assert_eq!(trash["data"].as_array().unwrap().len(), 2);
    for odd in [
        "limit=0",
        "limit=x",
        "cursor=x",
        "sort=title",
        "limit=1&limit=2",
    ] {
        let reply = admin.get(&format!("/api/v1/papers/duplicates?{odd}")).await;
        assert_eq!(reply.problem(), (422, "validation_failed".into()), "{odd}");
    }
    app.close().await;
}

async fn a_merge_names_what_is_wrong_with_it(database: Database) {
    let app = start(database).await;
    let one = paper(&app.admin, json!({"title": "One"})).await;
    let two = paper(&app.admin, json!({"title": "Two"})).await;
    let absent = uuid::Uuid::from_u128(7).to_string();
    let path = format!("/api/v1/papers/{one}/merge");
    for (body, pointer, code) in [
        (json!({}), "/from", "required"),
        (json!({"from": []}), "/from", "wrong_count"),
        (json!({"from": vec![&two; 21]}), "/from", "wrong_count"),
        (json!({"from": ["x"]}), "/from/0", "invalid"),
        (json!({"from": [one]}), "/from/0", "duplicate"),
        (json!({"from": [absent]}), "/from/0", "unknown_reference"),
        (
            json!({"from": [two], "take": {"titel": two}}),
            "/take/titel",
            "unknown_field",
        ),
        (
            json!({"from": [two], "take": {"title": absent}}),
            "/take/title",
            "unknown_reference",
        ),
        (
            json!({"from": [two], "take": {"title": 1}}),
            "/take/title",
            "invalid",
        ),
        (json!({"from": [two], "take": 1}), "/take", "wrong_type"),
        (
            json!({"from": [two], "versions": {&two: "1"}}),
            format!("/versions/{two}").leak(),
            "wrong_type",
        ),
        (
            json!({"from": [two], "versions": {"x": 1}}),
            "/versions/x",
            "unknown_reference",
        ),
        (
            json!({"from": [two], "into": one}),
            "/into",
            "unknown_field",
        ),
    ] {
        let reply = app.admin.post(&path, body).await;
        assert_eq!(
            reply.problem(),
            (422, "validation_failed".into()),
            "{reply}"
        );
        let error = &reply.json()["errors"][0];
        assert_eq!(
            (&error["pointer"], &error["code"]),
            (&json!(pointer), &json!(code)),
            "{reply}"
        );
    }
    app.close().await;
}

async fn a_merge_is_bound_to_versions_and_done_once_for_its_key(database: Database) {
    let app = start(database).await;
    let one = paper(&app.admin, json!({"title": "One"})).await;
    let two = paper(&app.admin, json!({"title": "Two"})).await;
    let path = format!("/api/v1/papers/{one}/merge");
    let send = |tag: &'static str, body: Value| {
        let request = app.admin.request(Method::POST, &path).json(&body);
        let request = request
            .header("If-Match", tag)
            .header("Idempotency-Key", "k");
        app.admin.finish(request)
    };
    let body = |version: i64| json!({"from": [two], "versions": {&two: version}});
    let mismatch = (412, "version_mismatch".to_owned());
    assert_eq!(send("\"2\"", body(1)).await.problem(), mismatch);
    assert_eq!(send("\"1\"", body(2)).await.problem(), mismatch);
    let merged = send("\"1\"", body(1)).await.expect(200);
    let again = send("\"1\"", body(1)).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.expect(200), merged);
    app.close().await;
}

async fn a_module_without_keys_has_no_duplicates(database: Database) {
    let app = start(database).await;
    let made = app
        .admin
        .post("/api/v1/contacts", json!({"name": "Ada"}))
        .await
        .expect(201);
    let path = format!(
        "/api/v1/contacts/{}/duplicates",
        made["id"].as_str().unwrap()
    );
    assert_eq!(app.admin.get(&path).await.status, 404);
    assert_eq!(
        app.admin.get("/api/v1/contacts/duplicates").await.status,
        404
    );
    app.close().await;
}
