//! Operators in the name of members: that the tenant sees it, forbids it, and when it ends.

use serde_json::json;

use crate::app::{App, Database, PASSWORD};
use crate::impersonation::{BEGIN, BOB, acting, id_of, me, out};
use crate::platform::{acme, everything, operator};

crate::on_both_databases! {
    an_operator_acts_in_a_members_name_and_the_tenant_sees_it
    a_tenant_forbids_operators_to_act_in_its_members_names
    an_operators_impersonation_ends_with_the_operator_and_the_tenant
}

async fn an_operator_acts_in_a_members_name_and_the_tenant_sees_it(database: Database) {
    let app = App::start(database).await;
    let bob = app.member("bob", "member").await;
    let ops = operator(&app, "ops@crm.example", &everything()).await;
    let ops_id = id_of(&ops).await;
    let path = format!(
        "/api/v1/platform/tenants/{}/impersonations",
        acme(&app).await
    );
    let body = json!({"user": BOB, "reason": "ticket 7"});
    let begun = ops.post(&path, body).await.expect(201);
    let acting = app.with_token(begun["access_token"].as_str());
    let by = json!(format!("operator:{ops_id}"));
    assert_eq!(
        me(&acting).await["impersonated_by"],
        json!({"actor": by, "name": "Olga"})
    );
    acting
        .post("/api/v1/contacts", json!({"name": "Grace"}))
        .await
        .expect(201);
    let log = app
        .admin
        .get("/api/v1/audit?action=contacts.create")
        .await
        .expect(200);
    assert_eq!(log["data"][0]["impersonator"], by);
    assert_eq!(
        log["data"][0]["actor"],
        json!(format!("user:{}", id_of(&bob).await))
    );
    let start = app
        .admin
        .get("/api/v1/audit?action=auth.impersonation_start")
        .await;
    assert_eq!(start.expect(200)["data"][0]["actor"], by);
    let own = ops
        .get("/api/v1/platform/audit?action=auth.impersonation_start")
        .await;
    let own = own.expect(200);
    assert_eq!(own["data"][0]["entity_id"], json!(acme(&app).await));
    assert!(!own.to_string().contains(BOB));
    assert_eq!(acting.get("/api/v1/platform/tenants").await.status, 404);
    assert_eq!(
        acting
            .post("/api/v1/roles", json!({"name": "x", "permissions": []}))
            .await
            .status,
        403
    );
    assert_eq!(
        ops.get("/api/v1/contacts").await.status,
        403,
        "only in a member's name"
    );

    // The member's rights bound it, also when they are less than the operator's.
    let viewer = json!({"email": "vi@acme.example", "name": "Vi", "password": PASSWORD,
        "roles": ["viewer"]});
    app.admin.post("/api/v1/members", viewer).await.expect(201);
    let body = json!({"user": "vi@acme.example", "reason": "ticket 8"});
    let begun = ops.post(&path, body).await.expect(201);
    let viewing = app.with_token(begun["access_token"].as_str());
    assert_eq!(
        viewing
            .post("/api/v1/contacts", json!({"name": "x"}))
            .await
            .status,
        403
    );

    let listed = app.admin.get(BEGIN).await.expect(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
    let id = listed["data"][1]["id"].as_str().unwrap();
    app.admin.delete(&format!("{BEGIN}/{id}")).await.expect(204);
    out(&acting.get("/api/v1/auth/me").await);
    app.close().await;
}

async fn a_tenant_forbids_operators_to_act_in_its_members_names(database: Database) {
    let app = App::start(database).await;
    app.member("bob", "member").await;
    let ops = operator(&app, "ops@crm.example", &everything()).await;
    let path = format!(
        "/api/v1/platform/tenants/{}/impersonations",
        acme(&app).await
    );
    let body = json!({"user": BOB, "reason": "ticket 7"});
    let begun = ops.post(&path, body.clone()).await.expect(201);
    let operating = app.with_token(begun["access_token"].as_str());
    let (helping, _) = acting(&app, BOB).await;
    let settings = "/api/v1/auth/security";
    let forbid = json!({"operator_impersonation": false});
    app.admin.patch(settings, forbid).await.expect(200);
    out(&operating.get("/api/v1/contacts").await);
    helping.get("/api/v1/contacts").await.expect(200);
    let refused = ops.post(&path, body.clone()).await;
    assert_eq!(refused.problem(), (403, "operators_excluded".into()));
    let admit = json!({"operator_impersonation": true});
    app.admin.patch(settings, admit).await.expect(200);
    out(&operating.get("/api/v1/contacts").await);
    ops.post(&path, body).await.expect(201);
    app.close().await;
}

async fn an_operators_impersonation_ends_with_the_operator_and_the_tenant(database: Database) {
    let app = App::start(database).await;
    app.member("bob", "member").await;
    let chief = operator(&app, "chief@crm.example", &everything()).await;
    let ops = operator(&app, "ops@crm.example", &everything()).await;
    let tenant = format!("/api/v1/platform/tenants/{}", acme(&app).await);
    let path = format!("{tenant}/impersonations");
    let body = || json!({"user": BOB, "reason": "ticket 7"});
    let begun = ops.post(&path, body()).await.expect(201);
    let acting = app.with_token(begun["access_token"].as_str());
    chief
        .post(&format!("{tenant}/suspend"), json!({}))
        .await
        .expect(200);
    out(&acting.get("/api/v1/contacts").await);
    chief
        .post(&format!("{tenant}/resume"), json!({}))
        .await
        .expect(200);
    acting.get("/api/v1/contacts").await.expect(200);

    // Nobody acts in the name of an operator, also where they are a member.
    operator(&app, "ada@acme.example", &["tenants.read"]).await;
    let body_of_ada = json!({"user": "ada@acme.example", "reason": "ticket 9"});
    let refused = ops.post(&path, body_of_ada).await;
    assert_eq!(refused.problem(), (403, "not_impersonable".into()));
    let path_of_ops = format!("/api/v1/platform/operators/{}", id_of(&ops).await);
    chief.delete(&path_of_ops).await.expect(204);
    out(&acting.get("/api/v1/contacts").await);
    out(&ops.post(&path, body()).await);
    app.close().await;
}
