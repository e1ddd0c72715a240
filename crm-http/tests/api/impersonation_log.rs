//! What the audit log tells of acting in another's name: its end, whoever ends it, and all that was
//! done.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::app::{App, Database};
use crate::impersonation::{BOB, acting, begin, id_of};

crate::on_both_databases! {
    an_impersonation_that_reaches_its_end_is_told_once
    an_impersonation_that_ends_with_its_session_is_told_once
    the_log_is_asked_for_what_somebody_did_in_others_names
    what_the_user_may_not_do_either_is_no_matter_of_acting
}

/// The ends that the log tells of, to the admin with a token of this moment.
async fn ends(app: &App) -> Vec<Value> {
    let admin = app.login("ada@acme.example").await;
    let path = "/api/v1/audit?action=auth.impersonation_end";
    let log = admin.get(path).await.expect(200);
    log["data"].as_array().unwrap().clone()
}

async fn an_impersonation_that_reaches_its_end_is_told_once(database: Database) {
    let app = App::start(database).await;
    app.member("bob", "member").await;
    let (caller, begun) = acting(&app, BOB).await;
    app.crm.upkeep_once().await.unwrap();
    assert_eq!(ends(&app).await, [] as [Value; 0], "it goes on");
    app.clock.advance(TimeDelta::minutes(15));
    assert_eq!(caller.get("/api/v1/contacts").await.status, 401);
    app.crm.upkeep_once().await.unwrap();
    app.crm.upkeep_once().await.unwrap();
    let told = ends(&app).await;
    assert_eq!(told.len(), 1, "{told:?}");
    let admin = app.login("ada@acme.example").await;
    let by = json!(format!("user:{}", id_of(&admin).await));
    assert_eq!(
        (&told[0]["actor"], &told[0]["entity_id"]),
        (&by, &begun["id"])
    );
    assert_eq!(told[0]["after"], json!({"expired": true}));
    // One that somebody ends is told by that, and by nothing else.
    let begun = begin(&admin, BOB).await.expect(201);
    let caller = app.with_token(begun["access_token"].as_str());
    let own = "/api/v1/auth/impersonation";
    caller.delete(own).await.expect(204);
    app.clock.advance(TimeDelta::minutes(15));
    app.crm.upkeep_once().await.unwrap();
    assert_eq!(ends(&app).await.len(), 2);
    app.close().await;
}

async fn an_impersonation_that_ends_with_its_session_is_told_once(database: Database) {
    let app = App::start(database).await;
    app.member("bob", "member").await;
    let (caller, begun) = acting(&app, BOB).await;
    let admin = app.login("ada@acme.example").await;
    admin
        .post("/api/v1/auth/logout-everywhere", Value::Null)
        .await
        .expect(204);
    assert_eq!(caller.get("/api/v1/contacts").await.status, 401);
    app.crm.upkeep_once().await.unwrap();
    app.crm.upkeep_once().await.unwrap();
    let told = ends(&app).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["entity_id"], begun["id"]);
    assert_eq!(told[0]["after"], json!({"session_ended": true}));
    app.close().await;
}

async fn the_log_is_asked_for_what_somebody_did_in_others_names(database: Database) {
    let app = App::start(database).await;
    let bob = app.member("bob", "member").await;
    let (acting, _) = acting(&app, BOB).await;
    for (caller, name) in [(&acting, "Grace"), (&bob, "Own"), (&app.admin, "Hers")] {
        let made = caller.post("/api/v1/contacts", json!({"name": name})).await;
        made.expect(201);
    }
    let ada = id_of(&app.admin).await;
    let of = |path: &str, by: &str| format!("/api/v1/audit{path}?impersonator={by}");
    let log = app
        .admin
        .get(&of("", &format!("user:{ada}")))
        .await
        .expect(200);
    let log = log["data"].as_array().unwrap();
    assert_eq!(log.len(), 1, "{log:?}");
    assert_eq!(log[0]["after"]["name"], "Grace");
    let file = app.admin.get(&of("/export", &format!("user:{ada}"))).await;
    assert_eq!(file.body.lines().count(), 1, "{file}");
    let none = app
        .admin
        .get(&of("", &format!("operator:{ada}")))
        .await
        .expect(200);
    assert_eq!(none["data"], json!([]));
    app.close().await;
}

async fn what_the_user_may_not_do_either_is_no_matter_of_acting(database: Database) {
    let app = App::start(database).await;
    app.member("vi", "viewer").await;
    let (acting, _) = acting(&app, "vi@acme.example").await;
    let created = acting
        .post("/api/v1/contacts", json!({"name": "Grace"}))
        .await;
    assert_eq!(created.problem(), (403, "forbidden".into()));
    assert!(created.body.contains("contacts.create"), "{created}");
    let role = json!({"name": "mine", "permissions": []});
    let administered = acting.post("/api/v1/roles", role).await;
    assert_eq!(administered.problem(), (403, "impersonating".into()));
    app.close().await;
}
