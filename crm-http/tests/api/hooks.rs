//! What clients see of the application's hooks.

use crm_core::event::ChangeKind;
use crm_core::record::When;
use crm_core::{Builder, Refusal};
use serde_json::json;

use crate::app::{App, Database};

crate::on_both_databases! {
    a_refusal_of_a_hook_has_its_status_its_code_and_its_field
    a_refused_operation_of_a_batch_names_the_field_below_the_operation
    a_panicking_hook_is_a_500_that_tells_nothing
}

/// Names and deletes of contacts that the application refuses.
fn rules(builder: Builder) -> Builder {
    builder
        .hook("contacts", When::Before, ChangeKind::Created, |cx| {
            Box::pin(async move {
                let name = cx.record().and_then(|new| new.get("name")).cloned();
                let name = name.and_then(|name| name.as_text().map(str::to_owned));
                Err(match name.unwrap_or_default().as_str() {
                    "odd" => Refusal::bad_request("odd_name", "that makes no sense"),
                    "secret" => Refusal::forbidden("secret_name", "not by you"),
                    "busy" => Refusal::conflict("busy_name", "not now"),
                    "wrong" => Refusal::invalid("wrong_name", "choose another").on("name"),
                    "panic" => panic!("a bug of the application"),
                    _ => return Ok(()),
                }
                .into())
            })
        })
        .hook("contacts", When::Before, ChangeKind::Deleted, |_| {
            Box::pin(async { Err(Refusal::bad_request("kept", "contacts are kept").into()) })
        })
}

async fn a_refusal_of_a_hook_has_its_status_its_code_and_its_field(database: Database) {
    let app = App::with(database, rules).await;
    for (name, status, code) in [
        ("odd", 400, "odd_name"),
        ("secret", 403, "secret_name"),
        ("busy", 409, "busy_name"),
        ("wrong", 422, "wrong_name"),
    ] {
        let reply = app
            .admin
            .post("/api/v1/contacts", json!({"name": name}))
            .await;
        assert_eq!(reply.problem(), (status, code.into()));
        let errors = reply.json()["errors"].clone();
        match name {
            "wrong" => assert_eq!(
                errors,
                json!([{"pointer": "/name", "code": "wrong_name", "detail": "choose another"}])
            ),
            _ => assert!(errors.is_null(), "{errors}"),
        }
    }
    let made = app
        .admin
        .post("/api/v1/contacts", json!({"name": "Ada"}))
        .await
        .expect(201);
    let path = format!("/api/v1/contacts/{}", made["id"].as_str().unwrap());
    assert_eq!(
        app.admin.delete(&path).await.problem(),
        (400, "kept".into())
    );
    app.close().await;
}

async fn a_refused_operation_of_a_batch_names_the_field_below_the_operation(database: Database) {
    let app = App::with(database, rules).await;
    let batch = |atomic| {
        json!({"atomic": atomic, "operations": [
            {"op": "create", "values": {"name": "Ada"}},
            {"op": "create", "values": {"name": "wrong"}},
        ]})
    };
    let reply = app.admin.post("/api/v1/contacts/batch", batch(true)).await;
    assert_eq!(reply.problem(), (422, "wrong_name".into()));
    assert_eq!(
        reply.json()["errors"][0]["pointer"],
        "/operations/1/values/name"
    );
    let results = app
        .admin
        .post("/api/v1/contacts/batch", batch(false))
        .await
        .expect(200);
    assert_eq!(results["results"][1]["code"], "wrong_name");
    assert_eq!(
        results["results"][1]["errors"][0]["pointer"],
        "/values/name"
    );
    app.close().await;
}

async fn a_panicking_hook_is_a_500_that_tells_nothing(database: Database) {
    let app = App::with(database, rules).await;
    let reply = app
        .admin
        .post("/api/v1/contacts", json!({"name": "panic"}))
        .await;
    assert_eq!(reply.problem(), (500, "internal".into()));
    assert!(!reply.body.contains("bug"), "{reply}");
    app.admin
        .post("/api/v1/contacts", json!({"name": "Ada"}))
        .await
        .expect(201);
    app.close().await;
}
