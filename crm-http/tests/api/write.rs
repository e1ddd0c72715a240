//! Writes: conditions on versions, upserts, batches and repeated requests.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Caller, Database, Reply};

crate::on_both_databases! {
    one_of_several_tags_is_enough_and_a_weak_one_is_not
    a_known_version_is_not_sent_again
    an_upsert_makes_a_record_once_and_changes_it_after
    sixteen_racing_upserts_make_one_record
    an_upsert_needs_both_permissions_and_a_unique_field
    an_atomic_batch_is_done_whole_or_not_at_all
    operations_of_another_batch_stand_alone
    a_batch_is_bounded_and_read_strictly
    a_repeated_request_is_answered_as_before
    a_key_is_good_for_one_request_of_one_actor
    racing_equal_requests_write_once
    a_refused_request_leaves_its_key_free_and_keys_expire
}

async fn one_of_several_tags_is_enough_and_a_weak_one_is_not(database: Database) {
    let app = App::start(database).await;
    let created = app.admin.post("/api/v1/contacts", json!({"name": "Ada"}));
    let path = created.await.header("location").to_owned();
    let change = async |condition: &str, score: i64| {
        let request = app.admin.request(reqwest::Method::PATCH, &path);
        let request = request.header("If-Match", condition);
        app.admin
            .finish(request.json(&json!({"score": score})))
            .await
    };
    change("\"7\", \"1\"", 1).await.expect(200);
    for refused in ["\"7\", \"1\"", "W/\"2\"", "\"x\""] {
        let problem = change(refused, 2).await.problem();
        assert_eq!(problem, (412, "version_mismatch".into()), "{refused}");
    }
    for odd in ["2", "abc", "*, \"2\""] {
        let answer = change(odd, 2).await;
        assert_eq!(answer.problem(), (422, "validation_failed".into()), "{odd}");
        assert_eq!(answer.json()["errors"][0]["pointer"], "/If-Match", "{odd}");
    }
    change("W/\"2\", \"2\"", 3).await.expect(200);
    change("*", 4).await.expect(200);
    app.close().await;
}

async fn a_known_version_is_not_sent_again(database: Database) {
    let app = App::start(database).await;
    let created = app.admin.post("/api/v1/contacts", json!({"name": "Ada"}));
    let path = created.await.header("location").to_owned();
    let get = async |path: &str, condition: &str| {
        let request = app.admin.request(reqwest::Method::GET, path);
        app.admin
            .finish(request.header("If-None-Match", condition))
            .await
    };
    let tag = app.admin.get(&path).await.header("etag").to_owned();
    for known in [&tag, &format!("W/{tag}"), &format!("\"9\", {tag}"), "*"] {
        let reply = get(&path, known).await;
        assert_eq!((reply.status, reply.body.as_str()), (304, ""), "{known}");
        assert_eq!(reply.header("etag"), tag);
    }
    for other in ["\"2\"", "\"1\""] {
        get(&path, other).await.expect(200);
    }
    // A company may change without the contact that names it.
    get(&format!("{path}?expand=company_id"), &tag)
        .await
        .expect(200);
    // So may what is shown of it: a field more makes it another answer, of the same version.
    let field = json!({"name": "shoe_size", "type": "integer"});
    let fields = "/api/v1/modules/contacts/fields";
    app.admin.post(fields, field).await.expect(201);
    let informed = app.admin.informed().await;
    let request = informed.request(reqwest::Method::GET, &path);
    let reply = informed.finish(request.header("If-None-Match", &tag)).await;
    let newer = reply.header("etag").to_owned();
    assert_eq!(reply.expect(200)["shoe_size"], Value::Null);
    assert_ne!(newer, tag);
    // Both name the version that a change is meant for.
    let request = informed.request(reqwest::Method::PATCH, &path);
    let request = request.header("If-Match", &tag).json(&json!({"score": 1}));
    informed.finish(request).await.expect(200);
    let request = informed.request(reqwest::Method::PATCH, &path);
    let request = request
        .header("If-Match", &newer)
        .json(&json!({"score": 2}));
    let late = informed.finish(request).await;
    assert_eq!(late.problem(), (412, "version_mismatch".into()));
    app.close().await;
}

async fn an_upsert_makes_a_record_once_and_changes_it_after(database: Database) {
    let app = App::start(database).await;
    let path = "/api/v1/contacts/upsert?by=email";
    let body =
        json!({"name": "Ada", "email": "ada@example.com", "score": 1, "job_title": "Countess"});
    let made = app.admin.post(path, body).await;
    assert_eq!((made.status, made.header("etag")), (201, "\"1\""), "{made}");
    let location = made.header("location").to_owned();
    let body = json!({"name": "Ada King", "email": "ADA@example.com", "score": 2});
    let changed = app.admin.post(path, body.clone()).await;
    assert_eq!(
        (changed.header("etag"), changed.header("location")),
        ("\"2\"", "")
    );
    let changed = changed.expect(200);
    assert_eq!(changed["job_title"], "Countess", "absent fields stay");
    assert_eq!(changed, app.admin.get(&location).await.expect(200));
    let same = app.admin.post(path, body).await;
    assert_eq!(same.header("etag"), "\"2\"", "nothing changes");
    app.close().await;
}

async fn sixteen_racing_upserts_make_one_record(database: Database) {
    let app = App::start(database).await;
    let race = (0..16).map(|number| {
        let body = json!({"name": format!("Ada {number}"), "email": "ada@example.com"});
        app.admin.post("/api/v1/contacts/upsert?by=email", body)
    });
    let mut statuses: Vec<u16> = futures::future::join_all(race)
        .await
        .iter()
        .map(|reply| reply.status)
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![200; 15], vec![201]].concat());
    let page = app.admin.get("/api/v1/contacts").await.expect(200);
    assert_eq!(page["data"].as_array().unwrap().len(), 1);
    assert_eq!(page["data"][0]["version"], 16);
    app.close().await;
}

async fn an_upsert_needs_both_permissions_and_a_unique_field(database: Database) {
    let app = App::start(database).await;
    let body = json!({"name": "maker", "permissions": ["contacts.create"]});
    app.admin.post("/api/v1/roles", body).await.expect(201);
    let maker = app.member("maker", "maker").await;
    let body = json!({"name": "Ada", "email": "ada@example.com"});
    let refused = maker
        .post("/api/v1/contacts/upsert?by=email", body.clone())
        .await;
    assert_eq!(refused.problem(), (403, "forbidden".into()));
    for query in [
        "",
        "?by=name",
        "?by=nothing",
        "?by=email&by=email",
        "?by=email&x=1",
    ] {
        let path = format!("/api/v1/contacts/upsert{query}");
        let refused = app.admin.post(&path, body.clone()).await;
        assert_eq!(
            refused.problem(),
            (422, "validation_failed".into()),
            "{query}"
        );
    }
    let nobody = json!({"name": "Ada"});
    let refused = app
        .admin
        .post("/api/v1/contacts/upsert?by=email", nobody)
        .await;
    assert_eq!(refused.expect(422)["errors"][0]["pointer"], "/email");
    app.close().await;
}

async fn an_atomic_batch_is_done_whole_or_not_at_all(database: Database) {
    let app = App::start(database).await;
    let path = "/api/v1/contacts/batch";
    let ada = json!({"op": "create", "values": {"name": "Ada", "email": "ada@example.com"}});
    let bo =
        json!({"op": "upsert", "by": "email", "values": {"name": "Bo", "email": "bo@example.com"}});
    let taken = json!({"op": "create", "values": {"name": "Bob", "email": "bo@example.com"}});
    let body = json!({"atomic": true, "operations": [ada, bo, taken]});
    let refused = app.admin.post(path, body).await.expect(409);
    assert!(
        refused["detail"]
            .as_str()
            .unwrap()
            .starts_with("operation 2,"),
        "{refused}"
    );
    let error = &refused["errors"][0];
    assert_eq!(
        (&error["pointer"], &error["code"]),
        (&json!("/operations/2"), &json!("already_exists"))
    );
    let body =
        json!({"atomic": true, "operations": [ada, {"op": "create", "values": {"score": "x"}}]});
    let refused = app.admin.post(path, body).await.expect(422);
    assert_eq!(
        refused["errors"][0]["pointer"],
        "/operations/1/values/score"
    );
    let page = app.admin.get("/api/v1/contacts").await.expect(200);
    assert_eq!(page["data"], json!([]), "nothing is written");
    let body = json!({"atomic": true, "operations": [ada, bo, bo]});
    let done = app.admin.post(path, body).await.expect(200);
    let statuses: Vec<_> = done["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["status"])
        .collect();
    assert_eq!(statuses, [201, 201, 200]);
    app.close().await;
}

async fn operations_of_another_batch_stand_alone(database: Database) {
    let app = App::start(database).await;
    let path = "/api/v1/contacts/batch";
    let created = app.admin.post(
        "/api/v1/contacts",
        json!({"name": "Cy", "email": "cy@example.com"}),
    );
    let id = created.await.expect(201)["id"].clone();
    let operations = json!([
        {"op": "create", "values": {"name": "Ada"}},
        {"op": "create", "values": {"name": "Cyd", "email": "cy@example.com"}},
        {"op": "update", "id": id, "version": 7, "values": {"score": 1}},
        {"op": "update", "id": id, "version": 1, "values": {"score": 1}},
        {"op": "create", "values": {"name": 1}},
        {"op": "update", "id": id, "values": {"company_id": id}},
        {"op": "fly"},
        {"op": "delete", "id": id},
        {"op": "delete", "id": id},
    ]);
    let body = json!({"atomic": false, "operations": operations});
    let done = app.admin.post(path, body).await.expect(200);
    let results = done["results"].as_array().unwrap();
    let statuses: Vec<_> = results.iter().map(|one| &one["status"]).collect();
    assert_eq!(statuses, [201, 409, 412, 200, 422, 422, 422, 204, 404]);
    assert_eq!(results[0]["record"]["name"], "Ada");
    assert_eq!(results[1]["code"], "already_exists");
    assert_eq!(results[4]["errors"][0]["pointer"], "/values/name");
    assert_eq!(results[5]["errors"][0]["pointer"], "/values/company_id");
    assert_eq!(results[6]["errors"][0]["pointer"], "/op");
    let page = app.admin.get("/api/v1/contacts").await.expect(200);
    assert_eq!(page["data"].as_array().unwrap().len(), 1);
    let viewer = app.member("viewer", "viewer").await;
    let body = json!({"atomic": false, "operations": [{"op": "create", "values": {"name": "X"}}]});
    assert_eq!(
        viewer.post(path, body).await.problem(),
        (403, "forbidden".into())
    );
    app.close().await;
}

async fn a_batch_is_bounded_and_read_strictly(database: Database) {
    let app = App::start(database).await;
    let path = "/api/v1/contacts/batch";
    let one = json!({"op": "create", "values": {"name": "Ada"}});
    for refused in [
        json!({"atomic": true, "operations": []}),
        json!({"atomic": true, "operations": vec![&one; 1_001]}),
        json!({"operations": [one]}),
        json!({"atomic": true}),
        json!({"atomic": true, "operations": [one], "more": 1}),
        json!({"atomic": true, "operations": [{"op": "create", "id": "x", "values": {"name": "Ada"}}]}),
        json!({"atomic": true, "operations": [1]}),
    ] {
        let reply = app.admin.post(path, refused).await;
        assert_eq!(
            reply.problem(),
            (422, "validation_failed".into()),
            "{reply}"
        );
    }
    let full = json!({"atomic": true, "operations": vec![&one; 1_000]});
    let done = app.admin.post(path, full).await.expect(200);
    assert_eq!(done["results"].as_array().unwrap().len(), 1_000);
    app.close().await;
}

/// Sends a request with an idempotency key.
async fn keyed(caller: &Caller, method: Method, path: &str, key: &str, body: Value) -> Reply {
    let request = caller.request(method, path).header("Idempotency-Key", key);
    let request = if body.is_null() {
        request
    } else {
        request.json(&body)
    };
    caller.finish(request).await
}

/// The parts of a reply that a repeated one shares.
fn essence(reply: &Reply) -> (u16, String, String, String) {
    let header = |name| reply.header(name).to_owned();
    (
        reply.status,
        header("etag"),
        header("location"),
        reply.body.clone(),
    )
}

async fn a_repeated_request_is_answered_as_before(database: Database) {
    let app = App::start(database).await;
    let ada = json!({"name": "Ada", "email": "ada@example.com"});
    let created = keyed(
        &app.admin,
        Method::POST,
        "/api/v1/contacts",
        "c",
        ada.clone(),
    )
    .await;
    let path = created.header("location").to_owned();
    let batch =
        json!({"atomic": false, "operations": [{"op": "create", "values": {"name": "Bo"}}]});
    for (method, path, body, status) in [
        (Method::POST, "/api/v1/contacts", ada.clone(), 201),
        (Method::PATCH, &path, json!({"score": 1}), 200),
        (Method::PUT, &path, json!({"score": 2}), 200),
        (Method::POST, "/api/v1/contacts/upsert?by=email", ada, 200),
        (Method::POST, "/api/v1/contacts/batch", batch, 200),
        (Method::DELETE, &path, Value::Null, 204),
    ] {
        let key = if status == 201 {
            "c".to_owned()
        } else {
            format!("{method}{path}")
        };
        let first = keyed(&app.admin, method.clone(), path, &key, body.clone()).await;
        let again = keyed(&app.admin, method, path, &key, body).await;
        assert_eq!(
            (first.status, again.header("idempotency-replayed")),
            (status, "true")
        );
        assert_eq!(essence(&first), essence(&again));
        let new = if status == 201 { "true" } else { "" };
        assert_eq!(first.header("idempotency-replayed"), new, "{key}");
    }
    let page = app.admin.get("/api/v1/contacts").await.expect(200);
    assert_eq!(page["data"].as_array().unwrap().len(), 1, "Bo, once");
    app.close().await;
}

async fn a_key_is_good_for_one_request_of_one_actor(database: Database) {
    let app = App::start(database).await;
    let path = "/api/v1/contacts";
    let ada = json!({"name": "Ada"});
    keyed(&app.admin, Method::POST, path, "k", ada.clone())
        .await
        .expect(201);
    let other = keyed(&app.admin, Method::POST, path, "k", json!({"name": "Bo"})).await;
    assert_eq!(other.problem(), (422, "idempotency_key_reused".into()));
    let elsewhere = keyed(
        &app.admin,
        Method::POST,
        "/api/v1/companies",
        "k",
        ada.clone(),
    )
    .await;
    assert_eq!(elsewhere.problem(), (422, "idempotency_key_reused".into()));
    let program = app.program("admin").await;
    let theirs = keyed(&program, Method::POST, path, "k", ada.clone()).await;
    assert_eq!(
        (theirs.status, theirs.header("idempotency-replayed")),
        (201, "")
    );
    for odd in ["", "a b", &"x".repeat(256)] {
        let refused = keyed(&app.admin, Method::POST, path, odd, ada.clone()).await;
        assert_eq!(
            refused.problem(),
            (422, "validation_failed".into()),
            "{odd}"
        );
    }
    keyed(&app.admin, Method::POST, path, &"x".repeat(255), ada)
        .await
        .expect(201);
    app.close().await;
}

async fn racing_equal_requests_write_once(database: Database) {
    let app = App::start(database).await;
    let body = json!({"name": "Ada", "email": "ada@example.com"});
    let race = (0..16).map(|_| {
        keyed(
            &app.admin,
            Method::POST,
            "/api/v1/contacts",
            "race",
            body.clone(),
        )
    });
    let replies = futures::future::join_all(race).await;
    let new = replies
        .iter()
        .filter(|reply| reply.header("idempotency-replayed").is_empty());
    assert_eq!(new.count(), 1);
    for reply in &replies {
        assert_eq!(essence(reply), essence(&replies[0]));
        assert_eq!(reply.status, 201);
    }
    app.close().await;
}

async fn a_refused_request_leaves_its_key_free_and_keys_expire(database: Database) {
    let app = App::start(database).await;
    let path = "/api/v1/contacts";
    let taken = json!({"name": "Ada", "email": "ada@example.com"});
    app.admin.post(path, taken.clone()).await.expect(201);
    keyed(&app.admin, Method::POST, path, "k", taken)
        .await
        .expect(409);
    let bo = json!({"name": "Bo"});
    keyed(&app.admin, Method::POST, path, "k", bo.clone())
        .await
        .expect(201);
    app.clock.advance(chrono::TimeDelta::hours(25));
    let admin = app.login("ada@acme.example").await;
    let later = keyed(&admin, Method::POST, path, "k", bo).await;
    assert_eq!(
        (later.status, later.header("idempotency-replayed")),
        (201, "")
    );
    app.close().await;
}
