//! What clients see of read-only, immutable and write-only fields.

use crm_core::Builder;
use crm_core::module::ModuleSpec;
use serde_json::{Value, json};

use crate::app::{App, Database};

crate::on_both_databases! {
    the_document_says_who_sets_and_who_sees_a_field
    a_write_only_secret_is_in_no_answer
    computed_and_copied_values_are_shown_and_not_taken
    a_condition_that_is_computed_of_hidden_fields_is_not_asked
    a_record_is_read_changed_and_deleted_by_its_number
}

const VAULTS: &str = r#"
    name = "vaults"
    singular = "vault"
    fields = [
        { name = "title", type = "text", required = true, search = true, sort = true },
        { name = "code", type = "text", max = 40, ignore_case = true, unique = true, sort = true },
        { name = "origin", type = "text", max = 40, immutable = true },
        { name = "pin", type = "text", max = 40, write_only = true },
        { name = "verdict", type = "text", max = 40, read_only = true },
        { name = "label", type = "text", computed = "{title} ({code})" },
        { name = "coded", type = "bool", computed = { code = { is_null = false } } },
        { name = "contact_id", type = "reference", module = "contacts" },
        { name = "email", type = "email", copied = "contact_id.email" },
    ]
"#;

fn vaults(builder: Builder) -> Builder {
    builder.modules([ModuleSpec::from_toml(VAULTS).unwrap()])
}

async fn the_document_says_who_sets_and_who_sees_a_field(database: Database) {
    let app = App::with(database, vaults).await;
    let schemas = &app.document()["components"]["schemas"];
    let has = |schema: &str, field: &str| schemas[schema]["properties"].get(field).is_some();
    for schema in ["VaultCreate", "VaultUpdate"] {
        assert!(has(schema, "pin") && has(schema, "origin"));
        assert!(!has(schema, "verdict"), "clients do not set it");
        assert_eq!(schemas[schema]["properties"]["pin"]["writeOnly"], true);
    }
    for schema in ["Vault", "VaultView", "VaultFilter"] {
        assert!(has(schema, "verdict") && has(schema, "origin"));
        assert!(!has(schema, "pin"), "nobody sees it");
    }
    assert_eq!(schemas["Vault"]["properties"]["verdict"]["readOnly"], true);
    for derived in ["label", "email"] {
        assert!(!has("VaultCreate", derived) && !has("VaultUpdate", derived));
        assert_eq!(
            schemas["VaultView"]["properties"][derived]["readOnly"],
            true
        );
    }
    assert!(has("VaultFilter", "email") && !has("VaultFilter", "label"));
    let list = app.document()["paths"]["/api/v1/vaults"]["get"].to_string();
    assert!(!list.contains("pin"), "{list}");
    app.close().await;
}

async fn a_write_only_secret_is_in_no_answer(database: Database) {
    let app = App::with(database, vaults).await;
    let mut answers = Vec::new();
    let sent = json!({"title": "a", "code": "A-1", "origin": "x", "pin": "s3cr3t", "verdict": 1});
    let reply = app.admin.post("/api/v1/vaults", sent.clone()).await;
    answers.push(reply.body.clone());
    let made = reply.expect(201);
    let path = format!("/api/v1/vaults/{}", made["id"].as_str().unwrap());

    let taken = app.admin.post("/api/v1/vaults", sent).await;
    assert_eq!(taken.problem(), (409, "already_exists".into()));
    answers.push(taken.body);
    let fixed = app.admin.patch(&path, json!({"origin": "y"})).await;
    assert_eq!(fixed.problem(), (422, "validation_failed".into()));
    assert_eq!(fixed.json()["errors"][0]["code"], "immutable");
    let changed = app
        .admin
        .patch(&path, json!({"pin": "s3cr3t-2", "origin": "x"}))
        .await;
    assert_eq!(changed.json()["version"], 2);
    answers.push(changed.body);
    for query in ["pin=s3cr3t", "sort=pin", "fields=pin", "pin[is_null]=true"] {
        let refused = app.admin.get(&format!("/api/v1/vaults?{query}")).await;
        assert_eq!(refused.status, 422, "{query}: {refused}");
        assert!(refused.body.contains("write-only"), "{refused}");
    }
    for path in [
        path.as_str(),
        "/api/v1/vaults",
        "/api/v1/vaults?search=s3cr3t",
        "/api/v1/vaults/export?format=csv",
        "/api/v1/vaults/export?format=json",
        "/api/v1/audit",
    ] {
        let reply = app.admin.get(path).await;
        assert_eq!(reply.status, 200, "{path}: {reply}");
        answers.push(reply.body);
    }
    for answer in answers {
        assert!(
            !answer.contains("s3cr3t") && !answer.contains("\"pin\""),
            "{answer}"
        );
    }
    app.close().await;
}

async fn computed_and_copied_values_are_shown_and_not_taken(database: Database) {
    let app = App::with(database, vaults).await;
    let contact = json!({"name": "Ada", "email": "ada@example.com"});
    let contact = app
        .admin
        .post("/api/v1/contacts", contact)
        .await
        .expect(201);
    let sent = json!({
        "title": "a", "code": "1", "contact_id": contact["id"], "label": "x", "email": "x@y.z",
    });
    let made = app.admin.post("/api/v1/vaults", sent).await.expect(201);
    assert_eq!(made["label"], "a (1)");
    assert_eq!(made["email"], "ada@example.com");
    let list = app
        .admin
        .get("/api/v1/vaults?fields=label&email=ADA@example.com")
        .await
        .expect(200);
    let one = json!({"id": made["id"], "version": 1, "label": "a (1)"});
    assert_eq!(list["data"], json!([one]));
    for (asked, found) in [("coded=true", 1), ("coded=false", 0), ("coded[ne]=true", 0)] {
        let list = app.admin.get(&format!("/api/v1/vaults?{asked}")).await;
        let list = list.expect(200);
        assert_eq!(
            list["data"].as_array().map(Vec::len),
            Some(found),
            "{asked}"
        );
    }
    assert_eq!(made["coded"], true);
    let refused = app.admin.get("/api/v1/vaults?label=x").await;
    assert!(
        refused.status == 422 && refused.body.contains("is computed"),
        "{refused}"
    );
    app.close().await;
}

async fn a_condition_that_is_computed_of_hidden_fields_is_not_asked(database: Database) {
    let app = App::with(database, vaults).await;
    let vault = json!({"title": "a", "code": "1"});
    let vault = app.admin.post("/api/v1/vaults", vault).await.expect(201);
    for (name, permission, shown) in [
        (
            "front",
            json!({"permission": "vaults.read", "except": ["code"]}),
            Value::Null,
        ),
        (
            "desk",
            json!({"permission": "vaults.read", "fields": ["title", "coded"]}),
            json!(true),
        ),
    ] {
        let role = json!({"name": name, "permissions": [permission]});
        app.admin.post("/api/v1/roles", role).await.expect(201);
        let caller = app.member(name, name).await;
        let path = format!("/api/v1/vaults/{}", vault["id"].as_str().unwrap());
        assert_eq!(
            caller.get(&path).await.expect(200)["coded"],
            shown,
            "{name}"
        );
        for query in ["coded=true", "coded[ne]=true", "code=1"] {
            let refused = caller.get(&format!("/api/v1/vaults?{query}")).await;
            assert_eq!(refused.status, 422, "{name} {query}: {}", refused.body);
        }
        let filter = json!({"filter": {"not": {"coded": true}}});
        let refused = caller.post("/api/v1/vaults/query", filter).await;
        assert_eq!(refused.status, 422, "{name}: {}", refused.body);
    }
    app.close().await;
}

async fn a_record_is_read_changed_and_deleted_by_its_number(database: Database) {
    let tickets = r#"
        name = "tickets"
        singular = "ticket"
        key = "number"
        fields = [
            { name = "number", type = "serial" },
            { name = "title", type = "text", required = true },
        ]
    "#;
    let app = App::with(database, |builder| {
        builder.modules([ModuleSpec::from_toml(tickets).unwrap()])
    })
    .await;
    let (admin, sent) = (&app.admin, json!({"title": "a", "number": 5}));
    let made = admin.post("/api/v1/tickets", sent).await.expect(201);
    assert_eq!(made["number"], 1);
    let by_id = format!("/api/v1/tickets/{}", made["id"].as_str().unwrap());
    let path = "/api/v1/tickets/1";
    assert_eq!(admin.get(path).await.expect(200), made);
    assert_eq!(admin.get(&by_id).await.expect(200), made);
    let changed = admin.patch(path, json!({"title": "b"})).await.expect(200);
    assert_eq!(
        (&changed["title"], &changed["version"]),
        (&json!("b"), &json!(2))
    );

    let foreign = app.foreign_admin().await;
    let viewer = app.member("vera", "viewer").await;
    for odd in [
        "/api/v1/tickets/2",
        "/api/v1/tickets/01",
        "/api/v1/tickets/-1",
    ] {
        assert_eq!(admin.get(odd).await.status, 404, "{odd}");
    }
    assert_eq!(admin.get("/api/v1/contacts/1").await.status, 404, "no key");
    assert_eq!(app.anonymous().get(path).await.status, 401);
    assert_eq!(foreign.get(path).await.status, 404);
    assert_eq!(foreign.delete(path).await.status, 404);
    assert_eq!(viewer.get(path).await.status, 200);
    assert_eq!(viewer.delete(path).await.status, 403);
    assert_eq!(viewer.delete("/api/v1/tickets/2").await.status, 403);
    assert_eq!(admin.delete(path).await.status, 204);
    assert_eq!(admin.get(path).await.status, 404);
    app.close().await;
}
