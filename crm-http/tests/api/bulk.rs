//! Bulk writes over HTTP.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Caller, Database};

crate::on_both_databases! {
    a_bulk_update_answers_how_many_matched_and_changed
    a_bulk_write_needs_a_condition_and_names_what_is_wrong
    a_bulk_delete_of_another_number_than_expected_is_refused
    a_bulk_write_needs_the_right_to_read_too
    a_bulk_write_is_done_once_for_its_key
}

async fn contacts(caller: &Caller, scores: std::ops::Range<i64>) {
    for score in scores {
        let body = json!({"name": format!("C{score}"), "score": score});
        caller.post("/api/v1/contacts", body).await.expect(201);
    }
}

async fn send(caller: &Caller, verb: &str, body: Value) -> crate::app::Reply {
    caller
        .post(&format!("/api/v1/contacts/bulk-{verb}"), body)
        .await
}

async fn a_bulk_update_answers_how_many_matched_and_changed(database: Database) {
    let app = App::start(database).await;
    contacts(&app.admin, 0..5).await;
    let body = json!({"filter": {"score": {"gte": 2}}, "set": {"score": 4}, "expected_count": 3});
    let done = send(&app.admin, "update", body).await.expect(200);
    assert_eq!(done, json!({"matched": 3, "changed": 2}));
    let list = app
        .admin
        .get("/api/v1/contacts?score=4&count=true")
        .await
        .expect(200);
    assert_eq!(list["total"]["count"], 3);
    let done = send(&app.admin, "delete", json!({"filter": {"score": 4}}))
        .await
        .expect(200);
    assert_eq!(done, json!({"matched": 3, "changed": 3}));
    app.close().await;
}

async fn a_bulk_write_needs_a_condition_and_names_what_is_wrong(database: Database) {
    let app = App::start(database).await;
    contacts(&app.admin, 0..1).await;
    for (verb, body, pointer, code) in [
        ("delete", json!({}), "/filter", "required"),
        ("delete", json!({"filter": {}}), "/filter", "required"),
        (
            "delete",
            json!({"filter": {"scor": 1}}),
            "/filter/scor",
            "unknown_field",
        ),
        (
            "delete",
            json!({"filter": {"score": 1}, "set": {}}),
            "/set",
            "unknown_field",
        ),
        (
            "delete",
            json!({"filter": {"score": 1}, "expected_count": "1"}),
            "/expected_count",
            "wrong_type",
        ),
        (
            "update",
            json!({"filter": {"score": 1}}),
            "/set",
            "required",
        ),
        (
            "update",
            json!({"filter": {"score": 1}, "set": {}}),
            "/set",
            "required",
        ),
        (
            "update",
            json!({"filter": {"score": 1}, "set": {"score": "x"}}),
            "/set/score",
            "wrong_type",
        ),
        (
            "update",
            json!({"filter": {"score": 1}, "set": {"owner_id": 1}}),
            "/set/owner_id",
            "wrong_type",
        ),
    ] {
        let reply = send(&app.admin, verb, body).await;
        assert_eq!(reply.problem(), (422, "validation_failed".into()));
        let error = &reply.json()["errors"][0];
        assert_eq!(
            (&error["pointer"], &error["code"]),
            (&json!(pointer), &json!(code)),
            "{reply}"
        );
    }
    app.close().await;
}

async fn a_bulk_delete_of_another_number_than_expected_is_refused(database: Database) {
    let app = App::start(database).await;
    contacts(&app.admin, 0..3).await;
    let body = json!({"filter": {"score": {"gte": 0}}, "expected_count": 2});
    let reply = send(&app.admin, "delete", body).await;
    assert_eq!(reply.problem(), (409, "count_mismatch".into()));
    assert!(
        reply.json()["detail"]
            .as_str()
            .unwrap()
            .contains("3 records, not 2"),
        "{reply}"
    );
    app.close().await;
}

async fn a_bulk_write_needs_the_right_to_read_too(database: Database) {
    let app = App::start(database).await;
    contacts(&app.admin, 0..1).await;
    let role = json!({"name": "blind", "permissions": ["contacts.update", "contacts.delete"]});
    app.admin.post("/api/v1/roles", role).await.expect(201);
    let blind = app.member("blind", "blind").await;
    let body = json!({"filter": {"score": 0}, "set": {"score": 1}});
    let reply = send(&blind, "update", body).await;
    assert_eq!(reply.problem(), (403, "forbidden".into()));
    assert!(reply.body.contains("contacts.read"), "{reply}");
    app.close().await;
}

async fn a_bulk_write_is_done_once_for_its_key(database: Database) {
    let app = App::start(database).await;
    contacts(&app.admin, 0..2).await;
    let send = |score: i64| {
        let request = app
            .admin
            .request(Method::POST, "/api/v1/contacts/bulk-update");
        let body = json!({"filter": {"score": {"gte": 0}}, "set": {"score": score}});
        app.admin
            .finish(request.header("Idempotency-Key", "k").json(&body))
    };
    let first = send(7).await.expect(200);
    let again = send(7).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.expect(200), first);
    assert_eq!(
        send(8).await.problem(),
        (422, "idempotency_key_reused".into())
    );
    app.close().await;
}
