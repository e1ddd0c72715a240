//! How acting in another's name ends.

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::json;

use crate::app::{App, Caller, Database};
use crate::impersonation::{BEGIN, BOB, acting, begin, id_of, out};

crate::on_both_databases! {
    an_impersonation_ends_at_once_with_whatever_it_rests_on
    an_impersonation_lasts_a_quarter_of_an_hour_and_cannot_be_prolonged
}

async fn an_impersonation_ends_at_once_with_whatever_it_rests_on(database: Database) {
    let app = App::start(database).await;
    let bob = app.member("bob", "member").await;
    let permissions = ["*.*"];
    let body = json!({"name": "second admin", "permissions": permissions});
    app.admin.post("/api/v1/roles", body).await.expect(201);
    let eve = app.member("eve", "second admin").await;
    let (bob_id, eve_id) = (id_of(&bob).await, id_of(&eve).await);
    let as_bob = async |by: &Caller| {
        let begun = begin(by, BOB).await.expect(201);
        let caller = app.with_token(begun["access_token"].as_str());
        caller.get("/api/v1/contacts").await.expect(200);
        (
            caller,
            begun["impersonation"]["id"].as_str().unwrap().to_owned(),
        )
    };
    let dead = async |caller: &Caller| out(&caller.get("/api/v1/contacts").await);

    let (caller, id) = as_bob(&eve).await;
    let path = format!("{BEGIN}/{id}");
    app.admin.delete(&path).await.expect(204);
    dead(&caller).await;
    assert_eq!(app.admin.delete(&path).await.status, 404);
    let own = app.admin.get("/api/v1/auth/sessions").await.expect(200);
    let own = own["data"][0]["id"].as_str().unwrap();
    assert_eq!(
        app.admin.delete(&format!("{BEGIN}/{own}")).await.status,
        404,
        "a plain session"
    );

    let (caller, id) = as_bob(&eve).await;
    bob.delete(&format!("/api/v1/auth/sessions/{id}"))
        .await
        .expect(204);
    dead(&caller).await;

    let (caller, _) = as_bob(&eve).await;
    app.admin
        .delete(&format!("/api/v1/members/{bob_id}/sessions"))
        .await
        .expect(204);
    dead(&caller).await;

    let (caller, _) = as_bob(&eve).await;
    app.admin
        .delete(&format!("/api/v1/members/{eve_id}/sessions"))
        .await
        .expect(204);
    dead(&caller).await;

    let eve = app.login("eve@acme.example").await;
    let (caller, _) = as_bob(&eve).await;
    eve.delete("/api/v1/auth/sessions").await.expect(204);
    dead(&caller).await;

    let eve = app.login("eve@acme.example").await;
    let (caller, _) = as_bob(&eve).await;
    let path = format!("/api/v1/members/{eve_id}/roles");
    let body = Some(json!({"roles": ["viewer"]}));
    app.admin.send(Method::PUT, &path, body).await.expect(200);
    dead(&caller).await;
    let body = Some(json!({"roles": ["second admin"]}));
    app.admin.send(Method::PUT, &path, body).await.expect(200);

    let (caller, _) = as_bob(&eve).await;
    app.admin
        .delete(&format!("/api/v1/members/{eve_id}"))
        .await
        .expect(204);
    dead(&caller).await;

    let (caller, _) = as_bob(&app.admin).await;
    app.admin
        .delete(&format!("/api/v1/members/{bob_id}"))
        .await
        .expect(204);
    dead(&caller).await;
    app.close().await;
}

async fn an_impersonation_lasts_a_quarter_of_an_hour_and_cannot_be_prolonged(database: Database) {
    let app = App::with(database, |builder| {
        builder.access_lifetime(TimeDelta::hours(1))
    })
    .await;
    app.member("bob", "member").await;
    let (caller, impersonation) = acting(&app, BOB).await;
    app.clock.advance(TimeDelta::minutes(14));
    caller.get("/api/v1/contacts").await.expect(200);
    let further = begin(&caller, BOB).await;
    assert_eq!(further.status, 403, "{further}");
    app.clock.advance(TimeDelta::minutes(1));
    assert_eq!(caller.get("/api/v1/contacts").await.status, 401);
    assert_eq!(app.admin.get(BEGIN).await.expect(200)["data"], json!([]));
    let path = format!("{BEGIN}/{}", impersonation["id"].as_str().unwrap());
    app.admin.delete(&path).await.expect(204);
    app.close().await;
}
