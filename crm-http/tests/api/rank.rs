//! Whom a member with some rights may act on, over HTTP: nobody who holds more.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Caller, Database};

crate::on_both_databases! {
    sa_33_whoever_holds_more_is_not_removed_changed_unlocked_or_logged_out
}

async fn id_of(caller: &Caller) -> String {
    let me = caller.get("/api/v1/auth/me").await.expect(200);
    me["user"]["id"].as_str().unwrap().to_owned()
}

async fn sa_33_whoever_holds_more_is_not_removed_changed_unlocked_or_logged_out(
    database: Database,
) {
    let app = App::start(database).await;
    let clerk = json!({"name": "clerk", "permissions": ["members.*"]});
    app.admin.post("/api/v1/roles", clerk).await.expect(201);
    let bo = app.member("bo", "clerk").await;
    let cy = app.member("cy", "viewer").await;
    let beyond = (403, "beyond_your_rights".to_owned());
    for above in [id_of(&app.admin).await, id_of(&cy).await] {
        let member = format!("/api/v1/members/{above}");
        let sessions = format!("{member}/sessions");
        let open = bo.get(&sessions).await.expect(200);
        let one = format!("{sessions}/{}", open["data"][0]["id"].as_str().unwrap());
        for path in [&member, &sessions, &one] {
            assert_eq!(bo.delete(path).await.problem(), beyond, "{path}");
        }
        let roles = Some(json!({"roles": ["clerk"]}));
        let path = format!("{member}/roles");
        let set = bo.send(Method::PUT, &path, roles).await;
        assert_eq!(set.problem(), beyond);
        let path = format!("{member}/unlock");
        let unlocked = bo.send(Method::POST, &path, None).await;
        assert_eq!(unlocked.problem(), beyond);
    }
    cy.get("/api/v1/contacts").await.expect(200);
    app.admin.get("/api/v1/contacts").await.expect(200);

    // Whoever holds no more, and oneself.
    let dee = json!({"email": "dee@acme.example", "name": "Dee",
        "password": crate::app::PASSWORD, "roles": []});
    let dee: Value = app.admin.post("/api/v1/members", dee).await.expect(201);
    let path = format!("/api/v1/members/{}", dee["user_id"].as_str().unwrap());
    bo.delete(&path).await.expect(204);
    let own = format!("/api/v1/members/{}", id_of(&bo).await);
    bo.delete(&own).await.expect(204);
    app.close().await;
}
