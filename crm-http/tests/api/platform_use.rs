//! The platform in the hands of people: what they are told, and what they cannot do by mistake.

use crm_core::mail::MailKind;
use serde_json::{Value, json};

use crate::account;
use crate::app::{App, Database};
use crate::platform::{acme, everything, operator};

const TENANTS: &str = "/api/v1/platform/tenants";
const OPERATORS: &str = "/api/v1/platform/operators";
const OPS: &str = "ops@crm.example";

crate::on_both_databases! {
    a_tenant_that_cannot_be_made_is_refused_with_all_reasons
    names_of_tenants_that_differ_in_case_only_are_one
    the_last_operator_stays
    a_new_operator_is_told_what_they_are
    an_invitation_names_the_tenant_and_who_invites
    an_invitation_too_soon_says_when_to_try_again
    operations_of_the_platform_take_no_tenant
    cursors_of_logs_and_tenants_are_opaque
}

async fn a_tenant_that_cannot_be_made_is_refused_with_all_reasons(database: Database) {
    let app = App::start(database).await;
    let ops = operator(&app, OPS, &everything()).await;
    let body = json!({"name": "", "admin": {"email": "no address", "name": "a\nb"}});
    let refused = ops.post(TENANTS, body).await.expect(422);
    let pointers = refused["errors"].as_array().unwrap().iter();
    let pointers: Vec<_> = pointers.map(|error| error["pointer"].clone()).collect();
    assert_eq!(pointers, ["/name", "/admin/email", "/admin/name"]);
    app.close().await;
}

async fn names_of_tenants_that_differ_in_case_only_are_one(database: Database) {
    let app = App::start(database).await;
    let ops = operator(&app, OPS, &everything()).await;
    let make = async |name: &str| {
        let admin = json!({"email": "pe@initech.example", "name": "Peter"});
        ops.post(TENANTS, json!({"name": name, "admin": admin}))
            .await
    };
    for name in ["Acme", "ACME", " acMe "] {
        let refused = make(name).await;
        assert_eq!(refused.problem(), (409, "already_exists".into()), "{name}");
        assert!(refused.body.contains("acme"), "{refused}");
    }
    for name in ["acme 2", "Ärzte", "ärzte"] {
        make(name).await.expect(201);
    }
    app.close().await;
}

async fn the_last_operator_stays(database: Database) {
    let app = App::start(database).await;
    let ops = operator(&app, OPS, &everything()).await;
    let own = |all: &Value| {
        let all = all["data"].as_array().unwrap().iter();
        let mut own = all.filter(|one| one["email"] == OPS);
        let id = own.next().unwrap()["user_id"].as_str().unwrap().to_owned();
        format!("{OPERATORS}/{id}")
    };
    let own = own(&ops.get(OPERATORS).await.expect(200));
    let refused = ops.delete(&own).await;
    assert_eq!(refused.problem(), (409, "last_operator".into()));
    ops.get(TENANTS).await.expect(200);
    operator(&app, "other@crm.example", &["tenants.read"]).await;
    ops.delete(&own).await.expect(204);
    assert_eq!(ops.get(TENANTS).await.status, 401);
    app.close().await;
}

async fn a_new_operator_is_told_what_they_are(database: Database) {
    let (app, mailbox) = account::start(database).await;
    let ops = operator(&app, OPS, &everything()).await;
    let body = json!({
        "email": "bo@crm.example", "name": "Bo", "permissions": ["tenants.read"],
    });
    ops.post(OPERATORS, body).await.expect(201);
    let mail = mailbox.latest(&app, "bo@crm.example").await.unwrap();
    assert_eq!(mail.kind, MailKind::NewOperator);
    assert_eq!(mail.subject, "You are an operator of the CRM now");
    assert!(
        mail.text.contains("You were made an operator"),
        "{}",
        mail.text
    );
    let link = mail.link.unwrap();
    assert!(link.contains("/reset-password#token="), "{link}");
    app.close().await;
}

async fn an_invitation_names_the_tenant_and_who_invites(database: Database) {
    let (app, mailbox) = account::start(database).await;
    let body = json!({"email": "new@acme.example", "name": "New", "roles": ["viewer"]});
    app.admin
        .post("/api/v1/invitations", body)
        .await
        .expect(201);
    let mail = mailbox.latest(&app, "new@acme.example").await.unwrap();
    assert_eq!(mail.subject, "You are invited to acme");
    let words = "Ada invites you to become a member of acme.";
    assert!(mail.text.contains(words), "{}", mail.text);
    let ops = operator(&app, OPS, &everything()).await;
    let admin = json!({"email": "pe@initech.example", "name": "Peter"});
    let body = json!({"name": "initech", "admin": admin});
    ops.post(TENANTS, body).await.expect(201);
    let mail = mailbox.latest(&app, "pe@initech.example").await.unwrap();
    let words = "You are invited to become a member of initech.";
    assert!(mail.text.contains(words), "{}", mail.text);
    app.close().await;
}

async fn an_invitation_too_soon_says_when_to_try_again(database: Database) {
    let app = App::start(database).await;
    let invite = async || {
        let body = json!({"email": "new@acme.example", "name": "New", "roles": ["viewer"]});
        app.admin.post("/api/v1/invitations", body).await
    };
    invite().await.expect(201);
    app.clock.advance(chrono::TimeDelta::milliseconds(500));
    let soon = invite().await;
    assert_eq!(soon.problem(), (429, "rate_limited".into()));
    let detail = soon.json()["detail"].as_str().unwrap().to_owned();
    let wait = soon.header("retry-after").parse::<i64>().unwrap();
    assert!(
        detail.contains(&format!("try again in {wait} s")),
        "{detail}"
    );
    app.clock.advance(chrono::TimeDelta::seconds(wait));
    invite().await.expect(201);
    app.close().await;
}

async fn operations_of_the_platform_take_no_tenant(database: Database) {
    let app = App::start(database).await;
    let mut seen = 0;
    for (path, item) in app.document()["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let mut names = parameters.map(|parameter| &parameter["name"]);
            let takes = names.any(|name| name == "X-Tenant");
            let platform = path.starts_with("/api/v1/platform/");
            let expected = operation["security"].is_array() && !platform;
            assert_eq!(takes, expected, "{path}");
            seen += usize::from(platform);
        }
    }
    assert_eq!(seen, 13);
    app.close().await;
}

async fn cursors_of_logs_and_tenants_are_opaque(database: Database) {
    let app = App::start(database).await;
    let ops = operator(&app, OPS, &everything()).await;
    app.foreign_admin().await;
    app.member("bob", "viewer").await;
    for (caller, path) in [
        (&ops, TENANTS),
        (&ops, "/api/v1/platform/audit"),
        (&app.admin, "/api/v1/audit"),
    ] {
        let first = caller.get(&format!("{path}?limit=1")).await.expect(200);
        let cursor = first["next_cursor"].as_str().unwrap();
        assert!(!cursor.contains('-'), "{path}: {cursor}");
        let next = caller.get(&format!("{path}?limit=1&cursor={cursor}")).await;
        let next = next.expect(200);
        assert_ne!(first["data"], next["data"], "{path}");
        for odd in [acme(&app).await.as_str(), "x", ""] {
            let refused = caller
                .get(&format!("{path}?cursor={odd}"))
                .await
                .expect(422);
            let error = &refused["errors"][0];
            assert_eq!(
                (&error["pointer"], &error["code"]),
                (&json!("/cursor"), &json!("invalid_cursor")),
                "{path}"
            );
        }
    }
    app.close().await;
}
