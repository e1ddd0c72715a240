//! The main job: records of modules behind the documented API.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Database};

crate::on_both_databases! {
    a_record_lives_from_create_to_delete
    lists_filter_sort_search_count_and_page
    a_version_guards_a_change
    everybody_sees_what_their_role_reaches
    what_happened_stands_in_the_audit_log
    head_answers_like_get_without_the_body
}

async fn a_record_lives_from_create_to_delete(database: Database) {
    let app = App::start(database).await;
    let body = json!({"name": "Grace Hopper", "email": "grace@example.com", "tags": ["vip"]});
    let created = app.admin.post("/api/v1/contacts", body).await;
    let path = created.header("location").to_owned();
    assert_eq!(created.header("etag"), "\"1\"");
    let created = created.expect(201);
    assert_eq!(
        path,
        format!("/api/v1/contacts/{}", created["id"].as_str().unwrap())
    );
    assert_eq!(created["status"], "lead", "a default is filled in");

    let got = app.admin.get(&path).await;
    assert!(got.header("etag").starts_with("\"1-"));
    assert_eq!(got.header("cache-control"), "no-store");
    assert_eq!(got.expect(200), created);

    let changed = app
        .admin
        .patch(&path, json!({"job_title": "Admiral", "tags": null}))
        .await;
    assert_eq!(changed.header("etag"), "\"2\"");
    let changed = changed.expect(200);
    assert_eq!(
        (&changed["job_title"], &changed["tags"]),
        (&json!("Admiral"), &Value::Null)
    );
    assert_eq!(changed["name"], "Grace Hopper", "XC-03: absent fields stay");

    let sent_back = app
        .admin
        .send(Method::PUT, &path, Some(changed.clone()))
        .await;
    assert_eq!(
        sent_back.expect(200),
        changed,
        "XC-04: what was read can be sent back"
    );

    assert_eq!(app.admin.delete(&path).await.expect(204), Value::Null);
    assert_eq!(
        app.admin.get(&path).await.problem(),
        (404, "not_found".into())
    );
    app.close().await;
}

async fn lists_filter_sort_search_count_and_page(database: Database) {
    let app = App::start(database).await;
    for (name, score) in [("Ada", 90), ("Bo", 10), ("Cy", 50), ("Ada Two", 70)] {
        app.admin
            .post("/api/v1/contacts", json!({"name": name, "score": score}))
            .await
            .expect(201);
    }
    let names = async |query: &str| -> Vec<String> {
        let page = app
            .admin
            .get(&format!("/api/v1/contacts?{query}"))
            .await
            .expect(200);
        let data = page["data"].as_array().unwrap();
        data.iter()
            .map(|record| record["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names("").await,
        ["Ada Two", "Cy", "Bo", "Ada"],
        "newest first"
    );
    assert_eq!(names("sort=score").await, ["Bo", "Cy", "Ada Two", "Ada"]);
    assert_eq!(
        names("sort=-name&score[gte]=50&score[lt]=90").await,
        ["Cy", "Ada Two"]
    );
    assert_eq!(names("search=ada&sort=name").await, ["Ada", "Ada Two"]);
    assert_eq!(names("name=Bo").await, ["Bo"]);
    assert_eq!(names("name[in]=Bo,Cy&sort=name").await, ["Bo", "Cy"]);
    assert_eq!(names("email[is_null]=false").await, [""; 0]);

    let counted = app
        .admin
        .get("/api/v1/contacts?count=true&limit=1&search=ada")
        .await
        .expect(200);
    assert_eq!(counted["total"], json!({"count": 2, "capped": false}));

    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/contacts?limit=3&sort=name{cursor}");
        let page = app.admin.get(&path).await.expect(200);
        seen.extend(
            page["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["name"].clone()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["Ada", "Ada Two", "Bo", "Cy"]);
    app.close().await;
}

async fn a_version_guards_a_change(database: Database) {
    let app = App::start(database).await;
    let created = app
        .admin
        .post("/api/v1/contacts", json!({"name": "Grace"}))
        .await;
    let path = created.header("location").to_owned();
    let change = async |method: Method, version: &str| {
        let request = app.admin.request(method, &path).header("If-Match", version);
        app.admin.finish(request.json(&json!({"score": 7}))).await
    };
    assert_eq!(change(Method::PATCH, "\"1\"").await.status, 200);
    let stale = change(Method::PATCH, "\"1\"").await;
    assert_eq!(stale.problem(), (412, "version_mismatch".into()));
    assert_eq!(change(Method::PUT, "W/\"2\"").await.status, 412);
    assert_eq!(change(Method::PUT, "*").await.status, 200);
    let request = app
        .admin
        .request(Method::DELETE, &path)
        .header("If-Match", "\"1\"");
    assert_eq!(app.admin.finish(request).await.status, 412);
    let request = app
        .admin
        .request(Method::DELETE, &path)
        .header("If-Match", "\"2\"");
    assert_eq!(app.admin.finish(request).await.status, 204);
    app.close().await;
}

async fn everybody_sees_what_their_role_reaches(database: Database) {
    let app = App::start(database).await;
    let of_admin = app
        .admin
        .post("/api/v1/contacts", json!({"name": "of admin"}))
        .await;
    let of_admin = of_admin.header("location").to_owned();

    let member = app.member("bo", "member").await;
    let own = member
        .post("/api/v1/contacts", json!({"name": "of bo"}))
        .await;
    let own = own.header("location").to_owned();
    let seen = member.get("/api/v1/contacts").await.expect(200);
    assert_eq!(
        seen["data"].as_array().unwrap().len(),
        1,
        "own rows only: {seen}"
    );
    assert_eq!(member.get(&of_admin).await.status, 404);
    assert_eq!(
        member.patch(&of_admin, json!({"score": 1})).await.status,
        404
    );
    assert_eq!(member.patch(&own, json!({"score": 1})).await.status, 200);

    let viewer = app.member("vi", "viewer").await;
    assert_eq!(viewer.get(&own).await.status, 200);
    assert_eq!(
        viewer.patch(&own, json!({"score": 2})).await.problem().0,
        403
    );
    assert_eq!(viewer.get("/api/v1/members").await.problem().0, 403);

    let program = app.program("viewer").await;
    assert_eq!(program.get(&own).await.status, 200);
    assert_eq!(program.delete(&own).await.problem().0, 403);
    app.close().await;
}

async fn what_happened_stands_in_the_audit_log(database: Database) {
    let app = App::start(database).await;
    let created = app
        .admin
        .post("/api/v1/contacts", json!({"name": "Grace"}))
        .await;
    let path = created.header("location").to_owned();
    let id = created.expect(201)["id"].as_str().unwrap().to_owned();
    app.admin
        .patch(&path, json!({"score": 9}))
        .await
        .expect(200);
    let trail = app
        .admin
        .get(&format!(
            "/api/v1/audit?entity=contacts&entity_id={id}&limit=1"
        ))
        .await;
    let trail = trail.expect(200);
    let entry = &trail["data"][0];
    assert_eq!(entry["action"], "contacts.update");
    assert_eq!(
        (&entry["before"]["score"], &entry["after"]["score"]),
        (&Value::Null, &json!(9))
    );
    assert_eq!(
        (&entry["request_id"], &entry["address"]),
        (&json!("test"), &json!("127.0.0.1"))
    );
    let cursor = trail["next_cursor"].as_str().unwrap();
    let older = app
        .admin
        .get(&format!("/api/v1/audit?entity=contacts&cursor={cursor}"))
        .await;
    assert_eq!(older.expect(200)["data"][0]["action"], "contacts.create");
    app.close().await;
}

async fn head_answers_like_get_without_the_body(database: Database) {
    let app = App::start(database).await;
    let created = app
        .admin
        .post("/api/v1/contacts", json!({"name": "Grace"}))
        .await;
    let path = created.header("location").to_owned();
    let head = app.admin.send(Method::HEAD, &path, None).await;
    assert_eq!(
        (head.status, head.body.as_str(), head.header("etag")),
        (200, "", app.admin.get(&path).await.header("etag"))
    );
    assert_eq!(
        app.anonymous().send(Method::HEAD, &path, None).await.status,
        401
    );
    app.close().await;
}
