//! Why somebody may do something, over HTTP.

use serde_json::{Value, json};

use crate::app::{App, Database};

crate::on_both_databases! {
    an_explanation_names_the_rule_and_the_way_to_it
    only_whoever_may_asks_and_foreign_subjects_are_absent
    what_roles_can_be_given_is_listed_with_the_tenants_own_modules
    keys_are_explained_by_the_rights_of_their_requests
}

async fn an_explanation_names_the_rule_and_the_way_to_it(database: Database) {
    let app = App::start(database).await;
    let caller = app.member("bo", "member").await;
    let me = caller.get("/api/v1/auth/me").await.expect(200);
    let subject = format!("user:{}", me["user"]["id"].as_str().unwrap());
    let hers = json!({"name": "Ada"});
    let hers = app.admin.post("/api/v1/contacts", hers).await.expect(201);
    let his = json!({"name": "Grace"});
    let his = caller.post("/api/v1/contacts", his).await.expect(201);
    for (record, allowed, reason) in [(&hers, false, "other_rows"), (&his, true, "allowed")] {
        let id = record["id"].as_str().unwrap();
        let path =
            format!("/api/v1/access/explain?subject={subject}&action=contacts.update&record={id}");
        let answer = app.admin.get(&path).await.expect(200);
        assert_eq!(
            (&answer["allowed"], &answer["reason"]),
            (&json!(allowed), &json!(reason))
        );
        let rule = &answer["rules"][0];
        assert_eq!(rule["permission"], "records.*:own");
        assert_eq!(rule["role"], "member");
        assert_eq!(
            (&rule["covers"], &rule["void"]),
            (&json!(allowed), &Value::Null)
        );
        assert_eq!(rule["through"][0]["kind"], "role");
    }
    let path = format!("/api/v1/access/explain?subject={subject}&action=contacts.update");
    let some = app.admin.get(&path).await.expect(200);
    assert_eq!(
        (&some["allowed"], &some["reason"]),
        (&json!(true), &json!("allowed"))
    );
    assert_eq!(
        some["rules"][0]["covers"],
        Value::Null,
        "no record was asked about"
    );
    let role = some["rules"][0]["role_id"].as_str().unwrap();
    let id = his["id"].as_str().unwrap();
    let path = format!("/api/v1/access/explain?subject=role:{role}&action=contacts.update");
    let some = app.admin.get(&path).await.expect(200);
    assert_eq!(some["allowed"], true);
    let one = app
        .admin
        .get(&format!("{path}&record={id}"))
        .await
        .expect(200);
    assert_eq!(
        (&one["allowed"], &one["reason"]),
        (&json!(false), &json!("other_rows"))
    );
    assert_eq!(
        one["rules"][0]["covers"], false,
        "a role by itself owns nothing"
    );
    app.close().await;
}

async fn only_whoever_may_asks_and_foreign_subjects_are_absent(database: Database) {
    let app = App::start(database).await;
    let me = app.admin.get("/api/v1/auth/me").await.expect(200);
    let id = me["user"]["id"].as_str().unwrap();
    let path = format!("/api/v1/access/explain?subject=user:{id}&action=contacts.read");
    assert_eq!(app.admin.get(&path).await.status, 200);
    let member = app.member("bo", "manager").await;
    assert_eq!(member.get(&path).await.problem(), (403, "forbidden".into()));
    let foreign = app.foreign_admin().await;
    assert_eq!(
        foreign.get(&path).await.problem(),
        (404, "not_found".into())
    );
    for query in [
        format!("subject={id}&action=contacts.read"),
        format!("subject=user:{id}&action=contacts.approve"),
        format!("subject=user:{id}&action=contacts.read&record=1"),
        "action=contacts.read".to_owned(),
    ] {
        let refused = app
            .admin
            .get(&format!("/api/v1/access/explain?{query}"))
            .await;
        assert_eq!(refused.status, 422, "{query}: {}", refused.body);
    }
    app.close().await;
}

async fn what_roles_can_be_given_is_listed_with_the_tenants_own_modules(database: Database) {
    let app = App::start(database).await;
    let visits = json!({"name": "visits", "singular": "visit",
        "fields": [{"name": "plan", "type": "text"}]});
    app.admin.post("/api/v1/modules", visits).await.expect(201);
    let listed = async |caller: &crate::app::Caller| {
        let answer = caller.get("/api/v1/access/permissions").await.expect(200);
        answer["data"].as_array().unwrap().clone()
    };
    let ours = listed(&app.admin).await;
    let actions = ["read", "create", "update", "delete", "purge"];
    let visits = json!({"object": "visits", "module": true, "actions": actions,
        "scopes": ["all", "team", "parent", "own"]});
    assert_eq!(ours.last(), Some(&visits));
    let members = json!({"object": "members", "module": false, "actions": actions,
        "scopes": ["all"]});
    assert!(ours.contains(&members));
    let theirs = listed(&app.foreign_admin().await).await;
    assert!(!theirs.contains(&visits) && theirs.contains(&members));
    let member = app.member("bo", "manager").await;
    let roles = member.get("/api/v1/roles").await.status;
    assert_eq!(member.get("/api/v1/access/permissions").await.status, roles);
    app.close().await;
}

async fn keys_are_explained_by_the_rights_of_their_requests(database: Database) {
    let app = App::start(database).await;
    let key = json!({"name": "key", "role": "admin", "permissions": ["contacts.read"]});
    let key = app.admin.post("/api/v1/api_keys", key).await.expect(201);
    let id = key["api_key"]["id"].as_str().unwrap();
    for (action, reason) in [("contacts.read", "allowed"), ("deals.delete", "unlisted")] {
        let path = format!("/api/v1/access/explain?subject=api_key:{id}&action={action}");
        let answer = app.admin.get(&path).await.expect(200);
        assert_eq!(answer["reason"], reason);
        assert_eq!(answer["allowed"], reason == "allowed");
    }
    app.close().await;
}
