//! Writes: conditions on versions, upserts, batches and repeated requests.

use serde_json::json;

use crate::app::{App, Database};

crate::on_both_databases! {
    one_of_several_tags_is_enough_and_a_weak_one_is_not
    a_known_version_is_not_sent_again
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
    for refused in ["\"7\", \"1\"", "W/\"2\"", "2", "\"x\""] {
        let problem = change(refused, 2).await.problem();
        assert_eq!(problem, (412, "version_mismatch".into()), "{refused}");
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
    for known in ["\"1\"", "W/\"1\"", "\"9\", \"1\"", "*"] {
        let reply = get(&path, known).await;
        assert_eq!((reply.status, reply.body.as_str()), (304, ""), "{known}");
        assert_eq!(reply.header("etag"), "\"1\"");
    }
    get(&path, "\"2\"").await.expect(200);
    // A company may change without the contact that names it.
    get(&format!("{path}?expand=company_id"), "\"1\"")
        .await
        .expect(200);
    app.close().await;
}
