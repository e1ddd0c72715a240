//! The audit log over the API: every administrative act is in it, and it leaves as a file.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Database, PASSWORD};

crate::on_both_databases! {
    every_administrative_act_leaves_an_entry_with_before_and_after
    the_log_leaves_as_a_file_of_all_that_the_filters_let_through
}

/// Each act with whether its entry tells the state before and after.
const ACTS: &[(&str, bool, bool)] = &[
    ("api_keys.create", false, true),
    ("api_keys.delete", true, true),
    ("auth.impersonation_end", false, false),
    ("auth.impersonation_start", false, true),
    ("groups.create", false, true),
    ("groups.delete", true, false),
    ("groups.update", true, true),
    ("invitations.create", false, true),
    ("invitations.delete", false, false),
    ("jobs.cancel", true, false),
    ("jobs.create", false, true),
    ("members.create", false, true),
    ("members.delete", true, false),
    ("members.session_end", false, true),
    ("members.unlock", false, false),
    ("members.update", true, true),
    ("modules.create", false, true),
    ("modules.delete", true, true),
    ("modules.update", true, true),
    ("plugins.delete", true, false),
    ("plugins.disable", true, true),
    ("plugins.enable", true, true),
    ("plugins.upload", false, true),
    ("roles.create", false, true),
    ("roles.delete", true, false),
    ("roles.update", true, true),
    ("tenants.create", false, true),
    ("tenants.resume", true, true),
    ("tenants.suspend", true, true),
    ("tenants.update", true, true),
];

fn id(reply: &Value) -> String {
    reply["id"].as_str().unwrap().to_owned()
}

async fn every_administrative_act_leaves_an_entry_with_before_and_after(database: Database) {
    let app = App::start(database).await;
    let admin = &app.admin;
    let role = json!({"name": "clerk", "permissions": ["contacts.read"]});
    let role = admin.post("/api/v1/roles", role).await.expect(201);
    let role = format!("/api/v1/roles/{}", id(&role));
    admin
        .patch(&role, json!({"name": "scribe"}))
        .await
        .expect(200);
    admin.delete(&role).await.expect(204);

    let member = json!({"email": "bo@acme.example", "name": "Bo", "password": PASSWORD,
        "roles": ["viewer"]});
    let member = admin.post("/api/v1/members", member).await.expect(201);
    assert!(member["password_score"].as_u64().unwrap() >= 3);
    let member = member["user_id"].as_str().unwrap();
    let member = format!("/api/v1/members/{member}");
    let roles = Some(json!({"roles": ["member"]}));
    let path = format!("{member}/roles");
    admin.send(Method::PUT, &path, roles).await.expect(200);
    admin.delete(&member).await.expect(204);

    people(&app).await;

    let key = json!({"name": "key", "role": "viewer"});
    let key = admin.post("/api/v1/api_keys", key).await.expect(201);
    let key = format!("/api/v1/api_keys/{}", id(&key["api_key"]));
    admin.delete(&key).await.expect(204);

    let plan = json!({"name": "plan", "type": "text"});
    let fields = "/api/v1/modules/contacts/fields";
    admin.post(fields, plan).await.expect(201);
    let visits = json!({"name": "visits", "singular": "visit",
        "fields": [{"name": "plan", "type": "text"}]});
    admin.post("/api/v1/modules", visits).await.expect(201);
    let field = format!("{fields}/plan");
    let said = json!({"description": "The plan."});
    admin.patch(&field, said).await.expect(200);
    admin.delete("/api/v1/modules/visits").await.expect(200);

    let plugin = crate::plugin::upload(admin).await.expect(201);
    let enable = format!("enable?sha256={}", plugin["sha256"].as_str().unwrap());
    let plugin = format!("/api/v1/plugins/{}", id(&plugin));
    for act in [&*enable, "disable"] {
        let path = format!("{plugin}/{act}");
        let done = admin.send(Method::POST, &path, None).await;
        done.expect(200);
    }
    admin.delete(&plugin).await.expect(204);

    let import = admin
        .request(Method::POST, "/api/v1/contacts/import?format=csv")
        .header("Content-Type", "text/csv")
        .body("name\nGrace\n");
    let job = id(&admin.finish(import).await.expect(202));
    let cancel = format!("/api/v1/jobs/{job}/cancel");
    admin.send(Method::POST, &cancel, None).await.expect(200);

    let request = || crm_core::RequestContext {
        id: "operator".into(),
        address: None,
    };
    let tenants = app.crm.tenants();
    let acme = tenants.find_by_name("acme").await.unwrap().unwrap().id;
    tenants.suspend(acme, request()).await.unwrap();
    tenants.resume(acme, request()).await.unwrap();

    let file = admin.get("/api/v1/audit/export").await;
    let mut told = BTreeMap::<String, (bool, bool)>::new();
    for line in file.body.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert!(entry["request_id"].is_string() && entry["actor"].is_string());
        let action = entry["action"].as_str().unwrap();
        if !action.starts_with("auth.") || action.contains("impersonation") {
            let (before, after) = told.entry(action.to_owned()).or_insert((true, true));
            *before &= !entry["before"].is_null();
            *after &= !entry["after"].is_null();
        }
    }
    // A tenant that registers itself is told of by the registration.
    told.entry("tenants.create".to_owned())
        .or_insert((false, true));
    // A field is declared, and changed, by changes of its module.
    told.insert("modules.update".to_owned(), (true, true));
    let told: Vec<_> = told
        .iter()
        .map(|(action, (before, after))| (action.as_str(), *before, *after))
        .collect();
    assert_eq!(told, ACTS);
    app.close().await;
}

/// What admins do about the people of their tenant, beside their roles.
async fn people(app: &App) {
    let admin = &app.admin;
    let group = admin.post("/api/v1/groups", json!({"name": "crew"})).await;
    let group = format!("/api/v1/groups/{}", id(&group.expect(201)));
    let renamed = json!({"name": "team"});
    admin.patch(&group, renamed).await.expect(200);
    admin.delete(&group).await.expect(204);
    let invited = json!({"email": "di@acme.example", "name": "Di", "roles": ["viewer"]});
    let invited = admin.post("/api/v1/invitations", invited).await.expect(201);
    let invited = format!("/api/v1/invitations/{}", id(&invited));
    admin.delete(&invited).await.expect(204);
    let account = json!({"name": "sync", "roles": ["viewer"]});
    let account = admin.post("/api/v1/service_accounts", account).await;
    account.expect(201);
    let cy = app.member("cy", "viewer").await;
    let begun = json!({"user": "cy@acme.example", "reason": "ticket 7"});
    let begun = admin.post("/api/v1/impersonations", begun).await;
    let begun = id(&begun.expect(201)["impersonation"]);
    let path = format!("/api/v1/impersonations/{begun}");
    admin.delete(&path).await.expect(204);
    let wrong = json!({"email": "cy@acme.example", "password": "not the password"});
    app.anonymous().post("/api/v1/auth/login", wrong).await;
    let me = cy.get("/api/v1/auth/me").await.expect(200);
    let member = format!("/api/v1/members/{}", id(&me["user"]));
    let unlock = format!("{member}/unlock");
    admin.send(Method::POST, &unlock, None).await.expect(204);
    let sessions = format!("{member}/sessions");
    admin.delete(&sessions).await.expect(204);
    let security = json!({"operator_impersonation": false});
    let path = "/api/v1/auth/security";
    admin.patch(path, security).await.expect(200);
}

async fn the_log_leaves_as_a_file_of_all_that_the_filters_let_through(database: Database) {
    let app = App::start(database).await;
    for number in 0..130 {
        let contact = json!({"name": format!("n {number}")});
        app.admin
            .post("/api/v1/contacts", contact)
            .await
            .expect(201);
    }
    let file = app
        .admin
        .get("/api/v1/audit/export?entity=contacts&action=contacts.create")
        .await;
    assert_eq!(file.status, 200);
    assert_eq!(file.header("content-type"), "text/x-ndjson");
    let entries: Vec<Value> = file
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(entries.len(), 130);
    assert_eq!(entries[0]["after"]["name"], "n 129");
    assert_eq!(entries[129]["after"]["name"], "n 0");
    let list = app.admin.get("/api/v1/audit?entity=contacts&limit=1").await;
    assert_eq!(list.expect(200)["data"][0], entries[0], "as in the list");
    let none = app.admin.get("/api/v1/audit/export?entity=nothing").await;
    assert_eq!((none.status, none.body.as_str()), (200, ""));
    let odd = app.admin.get("/api/v1/audit/export?colour=blue").await;
    assert_eq!(odd.status, 422);
    let viewer = app.member("vi", "viewer").await;
    let refused = viewer.get("/api/v1/audit/export").await;
    assert_eq!(refused.problem(), (403, "forbidden".into()));
    app.close().await;
}
