//! The permissions that operations need beside their own: the document states them, and each is
//! really needed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use uuid::Uuid;

use crate::access::{Operation, operations, something_of_each, start};
use crate::app::{App, Caller, Database};

crate::on_both_databases! {
    each_permission_that_an_operation_states_is_needed
}

async fn each_permission_that_an_operation_states_is_needed(database: Database) {
    let app = start(database).await;
    let mut ids = something_of_each(&app).await;
    let robot = json!({"name": "robot", "roles": ["own role"]});
    let robot = app.admin.post("/api/v1/service_accounts", robot).await;
    let robot = robot.expect(201)["user_id"].as_str().unwrap().to_owned();
    ids.insert("robot", robot);
    let (mut stated, mut count) = (BTreeSet::new(), 0);
    let further = |operation: &Operation| !operation.further.is_empty();
    let mut all = operations(app.contract());
    all.retain(further);
    // What one deletes the others need.
    all.sort_by_key(|operation| operation.id.starts_with("delete_"));
    for operation in all {
        let id = operation.id.clone();
        let own = operation.permission().map(str::to_owned);
        let needed: Vec<String> = own.into_iter().chain(operation.further.clone()).collect();
        for lacking in needed.iter().map(Some).chain([None]) {
            count += 1;
            let caller = holder(&app, &format!("holder {count}"), &needed, lacking).await;
            let asked = asked(operation.clone(), lacking, &ids);
            let reply = asked.call(&caller, &ids).await;
            match lacking {
                // Whose job it is, is not told.
                Some(lacking) if lacking == "jobs.read" => assert_eq!(reply.status, 404, "{id}"),
                Some(lacking) => {
                    let forbidden = reply.problem() == (403, "forbidden".to_owned());
                    let named = lacking == "*.*" || reply.body.contains(lacking.as_str());
                    assert!(forbidden && named, "{id} without {lacking}: {reply}");
                }
                None => assert!(![401, 403].contains(&reply.status), "{id}: {reply}"),
            }
        }
        stated.insert(id);
    }
    for (operation, why) in [
        ("merge_contacts", "reads and deletes"),
        ("bulk_update_contacts", "reads"),
        ("bulk_delete_contacts", "reads"),
        ("upsert_contact", "updates"),
        ("batch_contacts", "updates and deletes"),
        ("import_contacts", "updates"),
        ("list_papers_trash", "reads"),
        ("list_deals_of_company", "reads the company"),
        ("create_api_key", "speaks for a member"),
        ("upload_plugin", "replaces"),
        ("create_identity_provider", "lets everybody in"),
        ("cancel_job", "stops another's work"),
    ] {
        assert!(
            stated.contains(operation),
            "{operation} {why}, and does not say so"
        );
    }
    app.close().await;
}

/// Somebody who holds these permissions, but for one.
async fn holder(app: &App, name: &str, needed: &[String], lacking: Option<&String>) -> Caller {
    let all = needed.iter().any(|permission| permission == "*.*");
    let mut permissions: Vec<String> = needed.to_vec();
    match lacking {
        Some(lacking) if lacking == "*.*" => permissions.push("!papers.purge".to_owned()),
        Some(lacking) if all => permissions.push(format!("!{lacking}")),
        Some(lacking) => permissions.retain(|one| one != lacking),
        None => {}
    }
    let role = json!({"name": name, "permissions": permissions});
    app.admin.post("/api/v1/roles", role).await.expect(201);
    app.program(name).await
}

/// A request of the operation that needs all that it states.
fn asked(
    operation: Operation,
    lacking: Option<&String>,
    ids: &BTreeMap<&'static str, String>,
) -> Operation {
    let verb = operation.id.split('_').next().unwrap_or_default();
    match (operation.id.as_str(), verb) {
        ("create_api_key", _) => operation.with_body(json!({
            "name": "speaker", "role": "own role", "service_account_id": ids["robot"],
        })),
        ("upload_plugin", _) => {
            // A custom section more makes it another component.
            let mut component = crate::plugin::idle();
            component.extend(b"\0\x05\x04test");
            operation.with_file(component)
        }
        (_, "import") => operation.with_query("format=ndjson&mode=upsert&key=id"),
        (_, "upsert") => operation.with_query("by=id"),
        (_, "batch") => {
            let lacks = |verb: &str| lacking.is_some_and(|one| one.ends_with(verb));
            let id = Uuid::nil();
            let one = if lacks("delete") {
                json!({"op": "delete", "id": id})
            } else if lacks("update") {
                json!({"op": "update", "id": id, "values": {}})
            } else {
                json!({"op": "create", "values": {}})
            };
            operation.with_body(json!({"atomic": true, "operations": [one]}))
        }
        _ => operation,
    }
}
