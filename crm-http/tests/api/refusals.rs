//! What a refusal says: which member, which module and field, and what would be taken instead.

use crm_core::module::ModuleSpec;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Database, Reply};

crate::on_both_databases! {
    a_number_stands_for_the_id_in_every_path_of_a_record
    a_batch_is_told_of_its_member_where_a_version_is_required
    a_delete_that_is_refused_names_the_module_and_the_field
    a_value_of_several_types_of_reference_is_told_its_form
    a_tenants_field_is_refused_by_the_member_that_is_wrong
    an_upsert_by_a_number_is_told_why_and_by_what
    a_module_with_records_is_told_how_to_destroy_them
}

fn module(toml: &str) -> ModuleSpec {
    ModuleSpec::from_toml(toml).unwrap()
}

fn modules() -> Vec<ModuleSpec> {
    vec![
        module(
            r#"
            name = "tickets"
            singular = "ticket"
            key = "number"
            soft_delete = true
            require_version = true
            duplicates = [["title"]]
            fields = [
                { name = "number", type = "serial" },
                { name = "title", type = "text", required = true },
                { name = "code", type = "text", unique = true },
            ]
            "#,
        ),
        module(
            r#"
            name = "firms"
            singular = "firm"
            fields = [{ name = "title", type = "text" }]
            "#,
        ),
        module(
            r#"
            name = "orders"
            singular = "order"
            fields = [
                { name = "title", type = "text" },
                { name = "firm_id", type = "reference", module = "firms" },
                { name = "agent_id", type = "reference", module = "firms", on_delete = "set_null" },
                { name = "subject", type = "any_reference", modules = ["firms", "contacts"] },
                { name = "status", type = "enum", values = ["new", "done"], default = "new", required = true },
            ]
            [[machines]]
            field = "status"
            initial = ["new"]
            edges = { new = ["done"] }
            open = ["title"]
            "#,
        ),
    ]
}

async fn start(database: Database) -> App {
    App::with(database, |builder| builder.modules(modules())).await
}

/// The details of what is refused, with their pointers.
fn told(reply: &Reply) -> Vec<(String, String)> {
    let errors = reply.json()["errors"].as_array().cloned();
    let text = |error: &Value, member: &str| error[member].as_str().unwrap().to_owned();
    let errors = errors.unwrap_or_default();
    let told = errors.iter();
    told.map(|one| (text(one, "pointer"), text(one, "detail")))
        .collect()
}

async fn a_number_stands_for_the_id_in_every_path_of_a_record(database: Database) {
    let app = start(database).await;
    let (admin, path) = (&app.admin, "/api/v1/tickets");
    let mut ids = Vec::new();
    for title in ["a", "a", "b"] {
        let made = admin.post(path, json!({"title": title})).await.expect(201);
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    let others = admin.get(&format!("{path}/1/duplicates")).await.expect(200);
    assert_eq!(others["data"][0]["records"][0]["id"], ids[1]);
    let merge = json!({"from": [ids[1]]});
    let merged = admin.post(&format!("{path}/1/merge"), merge).await;
    assert_eq!(merged.expect(200)["number"], 1);
    for (method, act, status) in [
        (Method::POST, "restore", 200),
        (Method::DELETE, "purge", 409),
    ] {
        let path = format!("{path}/2/{act}");
        let reply = admin.send(method, &path, None).await;
        assert_eq!(reply.status, status, "{act}: {}", reply.body);
    }
    let foreign = app.foreign_admin().await;
    for act in ["restore", "merge"] {
        let path = format!("{path}/1/{act}");
        let body = (act == "merge").then(|| json!({"from": [ids[2]]}));
        let reply = foreign.send(Method::POST, &path, body).await;
        assert_eq!(reply.status, 404, "{act}");
    }
    let absent = admin.get(&format!("{path}/9/duplicates")).await;
    assert_eq!(absent.problem(), (404, "not_found".into()));
    let operation = &app.document()["paths"]["/api/v1/tickets/{id}/merge"]["post"];
    assert_eq!(
        operation["parameters"][0]["schema"],
        json!({"type": "string"})
    );
    app.close().await;
}

async fn a_batch_is_told_of_its_member_where_a_version_is_required(database: Database) {
    let app = start(database).await;
    let made = app.admin.post("/api/v1/tickets", json!({"title": "x"}));
    let made = made.await.expect(201);
    let batch = |atomic: bool| {
        let change = json!({"op": "update", "id": made["id"], "values": {"title": "y"}});
        json!({"atomic": atomic, "operations": [change]})
    };
    let path = "/api/v1/tickets/batch";
    let each = app.admin.post(path, batch(false)).await.expect(200);
    let all = app.admin.post(path, batch(true)).await;
    assert_eq!(all.problem(), (428, "precondition_required".into()));
    for detail in [&each["results"][0]["detail"], &all.json()["detail"]] {
        let detail = detail.as_str().unwrap();
        assert!(detail.contains("member `version`"), "{detail}");
        assert!(!detail.contains("If-Match"), "{detail}");
    }
    app.close().await;
}

async fn a_delete_that_is_refused_names_the_module_and_the_field(database: Database) {
    let app = start(database).await;
    let admin = &app.admin;
    let mut firms = Vec::new();
    for title in ["bound", "agent"] {
        let made = admin.post("/api/v1/firms", json!({"title": title})).await;
        firms.push(made.expect(201)["id"].as_str().unwrap().to_owned());
    }
    let order = json!({"firm_id": firms[0], "agent_id": firms[1]});
    let order = admin.post("/api/v1/orders", order).await.expect(201);
    let order = format!("/api/v1/orders/{}", order["id"].as_str().unwrap());
    let refused = admin.delete(&format!("/api/v1/firms/{}", firms[0])).await;
    assert_eq!(refused.problem(), (409, "has_dependents".into()));
    assert!(
        refused.body.contains("orders (firm_id)"),
        "{}",
        refused.body
    );

    let done = admin.patch(&order, json!({"status": "done"})).await;
    done.expect(200);
    let refused = admin.delete(&format!("/api/v1/firms/{}", firms[1])).await;
    assert_eq!(refused.problem(), (409, "final_state".into()));
    let text = "a record of orders would lose its agent_id: done is final";
    assert!(refused.body.contains(text), "{}", refused.body);
    app.close().await;
}

async fn a_value_of_several_types_of_reference_is_told_its_form(database: Database) {
    let app = start(database).await;
    for odd in ["firms/7", "018f4e2a-7b6c-7d3e-9a1b-2c3d4e5f6071", "deals/1"] {
        let refused = app
            .admin
            .post("/api/v1/orders", json!({"subject": odd}))
            .await;
        let told = told(&refused);
        let (pointer, detail) = &told[0];
        assert_eq!(pointer, "/subject", "{odd}");
        assert!(detail.contains("as firms/018f"), "{odd}: {detail}");
    }
    app.close().await;
}

async fn a_tenants_field_is_refused_by_the_member_that_is_wrong(database: Database) {
    let app = start(database).await;
    for (sent, pointer, part) in [
        (
            json!({"name": "a", "type": "vector"}),
            "/type",
            "its types are text",
        ),
        (
            json!({"name": "a", "type": "references"}),
            "/type",
            "its types are text",
        ),
        (
            json!({"name": "a", "type": "reference"}),
            "/module",
            "needs",
        ),
        (
            json!({"name": "a", "type": "email", "max": 3}),
            "/max",
            "does not belong",
        ),
        (json!({"name": "a", "type": "enum"}), "/values", "needs"),
        (json!({"name": "A b", "type": "text"}), "/name", "name"),
        (
            json!({"name": "format", "type": "text"}),
            "/name",
            "a word of the query string",
        ),
    ] {
        let path = "/api/v1/modules/contacts/fields";
        let refused = app.admin.post(path, sent.clone()).await;
        let found = told(&refused);
        assert_eq!(found[0].0, pointer, "{sent}");
        assert!(found[0].1.contains(part), "{}", found[0].1);
        let module = json!({"name": "visits", "singular": "visit", "fields": [sent]});
        let refused = app.admin.post("/api/v1/modules", module).await;
        assert_eq!(told(&refused)[0].0, format!("/fields/0{pointer}"));
    }
    app.close().await;
}

async fn an_upsert_by_a_number_is_told_why_and_by_what(database: Database) {
    let app = start(database).await;
    let path = "/api/v1/tickets/upsert?by=number";
    let refused = app
        .admin
        .post(path, json!({"number": 1, "title": "x"}))
        .await;
    let told = told(&refused);
    assert_eq!(told[0].0, "/by");
    let detail = &told[0].1;
    assert!(
        detail.contains("number is given to a record") && detail.contains("code"),
        "{detail}"
    );
    app.close().await;
}

async fn a_module_with_records_is_told_how_to_destroy_them(database: Database) {
    let app = start(database).await;
    let module = json!({
        "name": "visits", "singular": "visit", "fields": [{"name": "day", "type": "date"}],
    });
    app.admin.post("/api/v1/modules", module).await.expect(201);
    let admin = app.admin.informed().await;
    let made = admin.post("/api/v1/visits", json!({})).await;
    assert_eq!(made.status, 201);
    let refused = admin.delete("/api/v1/modules/visits").await;
    assert_eq!(refused.problem(), (409, "module_not_empty".into()));
    assert!(refused.body.contains("destroy_data=true"));
    app.close().await;
}
