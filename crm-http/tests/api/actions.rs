//! Actions that plugins offer on records: operations of the tenant's document, answered at once.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Caller, Database};
use crate::contract;
use crate::plugin::install;

crate::on_both_databases! {
    an_action_is_an_operation_of_its_tenants_document
    an_action_answers_what_the_plugin_says
    an_action_that_fails_names_its_run
    an_action_is_there_for_those_who_may_alone
}

const MANIFEST: &str = "name = 'nurse'\nversion = '1.0.0'\ndescription = 'Looks after contacts.'\n\
    [[triggers]]\naction = 'nod'\nmodule = 'contacts'\nlabel = 'Nod'\n\
    [[triggers]]\naction = 'speak'\nmodule = 'contacts'\ndescription = 'Says something.'\n\
    input = { required = ['tone'], properties = { tone = { type = 'string', enum = ['low', 'loud'] } } }\n\
    [[triggers]]\naction = 'refuse'\nmodule = 'contacts'\n\
    [[triggers]]\naction = 'collapse'\nmodule = 'contacts'\n";

/// What it does it knows by the length of the action's name.
const RUN: &str = r#"
    (data (i32.const 1024) "\00\00\00\00\01\00\00\00\90\04\00\00\10\00\00\00")
    (data (i32.const 1168) "{\"said\":\"hello\"}")
    (data (i32.const 2048) "\01\00\00\00\90\08\00\00\09\00\00\00")
    (data (i32.const 2192) "not today")
    (func (export "run") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
        (if (i32.eq (local.get 1) (i32.const 5)) (then (return (i32.const 1024))))
        (if (i32.eq (local.get 1) (i32.const 6)) (then (return (i32.const 2048))))
        (if (i32.eq (local.get 1) (i32.const 8)) (then (unreachable)))
        (i32.const 0))"#;

/// A plugin with those actions.
pub(crate) fn nurse() -> Vec<u8> {
    crate::guest::component(MANIFEST, RUN)
}

/// An application with that plugin, its admin, who knows the document, the plugin's path and a
/// contact.
async fn begin(database: Database) -> (App, Caller, String, String) {
    let app = App::start(database).await;
    let plugin = install(&app.admin, nurse()).await;
    let contact = json!({"name": "Grace"});
    let contact = app
        .admin
        .post("/api/v1/contacts", contact)
        .await
        .expect(201);
    let contact = contact["id"].as_str().unwrap().to_owned();
    let admin = app.admin.informed().await;
    (app, admin, plugin, contact)
}

async fn an_action_is_an_operation_of_its_tenants_document(database: Database) {
    let (app, admin, plugin, _) = begin(database).await;
    let document = admin.get("/openapi.json").await.expect(200);
    assert_eq!(contract::meaningless(&document, ""), [""; 0]);
    let path = "/api/v1/contacts/{id}/actions/nurse/speak";
    let one = &document["paths"][path]["post"];
    assert_eq!(one["operationId"], "run_nurse_speak_on_contact");
    assert_eq!(one["summary"], "speak");
    assert!(
        one["description"]
            .as_str()
            .unwrap()
            .starts_with("Says something.")
    );
    assert_eq!(one["x-permission"], "contacts.read");
    assert_eq!(
        one["x-further-permissions"],
        json!([{"permission": "plugin_runs.create"}])
    );
    let body = &one["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["required"], json!(["input"]));
    for (path, required) in [
        ("{id}/actions/nurse/speak", true),
        ("{id}/actions/nurse/nod", false),
        ("actions/nurse/nod", true),
    ] {
        let operation = &document["paths"][format!("/api/v1/contacts/{path}")]["post"];
        assert_eq!(operation["requestBody"]["required"], required, "{path}");
    }
    let tone = &body["properties"]["input"]["properties"]["tone"];
    assert_eq!(tone["enum"], json!(["low", "loud"]));
    let some = &document["paths"]["/api/v1/contacts/actions/nurse/nod"]["post"];
    assert_eq!(some["operationId"], "run_nurse_nod_on_contacts");
    assert_eq!(some["summary"], "Nod");

    for other in [app.anonymous(), app.foreign_admin().await] {
        let document = other.get("/openapi.json").await.body;
        assert!(!document.contains("nurse"), "others do not hear of it");
    }
    let disable = format!("{plugin}/disable");
    app.admin.post(&disable, Value::Null).await.expect(200);
    let document = app.admin.get("/openapi.json").await.body;
    assert!(!document.contains("nurse"), "it is offered no more");
    app.close().await;
}

async fn an_action_answers_what_the_plugin_says(database: Database) {
    let (app, admin, plugin, contact) = begin(database).await;
    let path = format!("/api/v1/contacts/{contact}/actions/nurse");
    let nod = admin
        .post(&format!("{path}/nod"), json!({}))
        .await
        .expect(200);
    assert_eq!(nod["answer"], Value::Null);
    let path_of_run = format!("{plugin}/runs/{}", nod["run_id"].as_str().unwrap());
    let run = admin.get(&path_of_run).await.expect(200);
    assert_eq!(
        (&run["trigger"], &run["outcome"], &run["event_id"]),
        (&json!("action nod"), &json!("succeeded"), &Value::Null)
    );
    let me = admin.get("/api/v1/auth/me").await.expect(200);
    let me = format!("user:{}", me["user"]["id"].as_str().unwrap());
    assert_eq!(
        (&run["caused_by"], &run["module"], &run["record_id"]),
        (&json!(me), &json!("contacts"), &json!(contact))
    );
    assert_eq!(run["input"]["kind"], "action");
    assert_eq!(run["input"]["records"], json!([contact]));
    assert_eq!(
        (&run["transcript"]["truncated"], &run["withheld"]),
        (&json!(false), &Value::Null)
    );
    let role = json!({"name": "looker", "permissions": ["contacts.read", "plugins.read"]});
    app.admin.post("/api/v1/roles", role).await.expect(201);
    let looker = app.member("lo", "looker").await;
    let seen = looker.get(&path_of_run).await.expect(200);
    assert_eq!(seen["caused_by"], run["caused_by"]);
    assert_eq!(
        (&seen["input"], &seen["transcript"], &seen["withheld"]),
        (&Value::Null, &Value::Null, &json!("rights"))
    );
    for (filter, count) in [
        (format!("module=contacts&record_id={contact}"), 1),
        ("module=companies".to_owned(), 0),
    ] {
        let runs = admin.get(&format!("{plugin}/runs?{filter}")).await;
        let runs = runs.expect(200);
        assert_eq!(runs["data"].as_array().unwrap().len(), count, "{filter}");
    }
    let keyed = async |body: Value| {
        let keyed = admin.request(Method::POST, &format!("{path}/nod"));
        let keyed = keyed.header("Idempotency-Key", "once").json(&body);
        admin.finish(keyed).await
    };
    let first = keyed(json!({})).await;
    let again = keyed(json!({})).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(first.expect(200), again.expect(200));
    let reused = keyed(json!({"input": {}})).await.problem();
    assert_eq!(reused, (422, "idempotency_key_reused".to_owned()));
    let bare = admin
        .request(Method::POST, &format!("{path}/nod"))
        .header("Idempotency-Key", "once");
    let bare = admin.finish(bare).await;
    assert_eq!(bare.header("idempotency-replayed"), "true");
    let without = async |path: &str| admin.send(Method::POST, path, None).await;
    without(&format!("{path}/nod")).await.expect(200);
    let untyped = admin
        .request(Method::POST, &format!("{path}/nod"))
        .body("x");
    let untyped = admin.finish(untyped).await.problem();
    assert_eq!(untyped, (415, "unsupported_media_type".to_owned()));
    let speak = format!("{path}/speak");
    for (path, pointer) in [
        (speak.as_str(), "/input/tone"),
        ("/api/v1/contacts/actions/nurse/nod", "/ids"),
    ] {
        let refused = without(path).await;
        assert_eq!(refused.status, 422, "{refused}");
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer, "{refused}");
    }
    let low = json!({"input": {"tone": "low"}});
    let said = admin.post(&speak, low.clone()).await.expect(200);
    assert_eq!(said["answer"], json!({"said": "hello"}));
    for (body, pointer) in [
        (json!({}), "/input/tone"),
        (json!({"input": {"tone": "high"}}), "/input/tone"),
        (json!({"input": 7}), "/input"),
        (json!({"input": {"tone": "low"}, "ids": [contact]}), "/ids"),
    ] {
        let refused = admin.post(&speak, body).await;
        assert_eq!(refused.status, 422, "{refused}");
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer, "{refused}");
    }
    let some = "/api/v1/contacts/actions/nurse/nod";
    for body in [
        json!({"ids": [contact]}),
        json!({"filter": {"name": "Grace"}}),
    ] {
        admin.post(some, body).await.expect(200);
    }
    for (body, pointer) in [
        (json!({}), "/ids"),
        (json!({"ids": []}), "/ids"),
        (json!({"ids": [contact, "x"]}), "/ids/1"),
        (json!({"ids": [uuid::Uuid::nil()]}), "/ids/0"),
        (json!({"filter": {"colour": "red"}}), "/filter/colour"),
        (json!({"ids": [contact], "filter": {"name": "x"}}), "/ids"),
    ] {
        let refused = admin.post(some, body).await;
        assert_eq!(refused.status, 422, "{refused}");
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer, "{refused}");
    }
    let none = admin
        .post(some, json!({"filter": {"name": "Nobody"}}))
        .await;
    assert_eq!(none.problem(), (409, "no_match".into()));
    app.close().await;
}

async fn an_action_that_fails_names_its_run(database: Database) {
    let (app, admin, plugin, contact) = begin(database).await;
    for (action, status, code, outcome) in [
        ("refuse", 422, "action_refused", "failed"),
        ("collapse", 502, "action_failed", "trapped"),
    ] {
        let path = format!("/api/v1/contacts/{contact}/actions/nurse/{action}");
        let refused = admin.post(&path, json!({})).await;
        assert_eq!(refused.problem(), (status, code.into()), "{refused}");
        let problem = refused.json();
        if action == "refuse" {
            assert_eq!(problem["detail"], "not today");
        }
        let run = format!("{plugin}/runs/{}", problem["run_id"].as_str().unwrap());
        assert_eq!(admin.get(&run).await.expect(200)["outcome"], outcome);
    }
    app.close().await;
}

async fn an_action_is_there_for_those_who_may_alone(database: Database) {
    let (app, admin, _, contact) = begin(database).await;
    let nod = format!("/api/v1/contacts/{contact}/actions/nurse/nod");
    let anonymous = app.bare(Method::POST, &nod).json(&json!({})).send().await;
    assert_eq!(anonymous.unwrap().status(), 401);
    let viewer = app.member("viewer", "viewer").await.informed().await;
    let refused = viewer.post(&nod, json!({})).await;
    assert_eq!(refused.problem(), (403, "forbidden".into()));
    assert!(refused.body.contains("plugin_runs.create"), "{refused}");
    let role = json!({"name": "own", "permissions": ["contacts.read:own", "plugin_runs.create"]});
    app.admin.post("/api/v1/roles", role).await.expect(201);
    let own = app.member("own", "own").await.informed().await;
    let foreign = app.foreign_admin().await;
    let absent = format!("/api/v1/contacts/{}/actions/nurse/nod", uuid::Uuid::nil());
    let nothing = admin.post(&absent, json!({})).await;
    for caller in [&own, &foreign] {
        let hidden = caller.post(&nod, json!({})).await;
        assert_eq!(hidden.body, nothing.body);
        assert_eq!(hidden.status, 404);
    }
    for path in [
        format!("/api/v1/contacts/{contact}/actions/nurse/jump"),
        format!("/api/v1/contacts/{contact}/actions/doctor/nod"),
        format!("/api/v1/contacts/{contact}/actions/nurse"),
        format!("/api/v1/contacts/{contact}/actions/nurse/nod/more"),
        "/api/v1/companies/actions/nurse/nod".to_owned(),
    ] {
        let body = match path.contains("companies") {
            true => json!({"ids": [contact]}),
            false => json!({}),
        };
        let gone = admin.post(&path, body).await;
        assert!([404, 405].contains(&gone.status), "{path}: {gone}");
    }
    let wrong = admin.get(&nod).await;
    assert_eq!(wrong.status, 405, "{wrong}");
    app.close().await;
}
