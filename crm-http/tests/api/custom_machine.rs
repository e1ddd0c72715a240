//! State machines of tenants' own modules over HTTP: declared, documented, obeyed and changed.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Database};

crate::on_both_databases! {
    a_pipeline_is_declared_documented_obeyed_and_changed
    a_field_of_a_pipeline_is_kept_and_the_pipeline_is_nobody_elses
    a_machine_that_cannot_be_is_refused_by_its_place
}

const MODULES: &str = "/api/v1/modules";
const PROJECTS: &str = "/api/v1/projects";

fn stage() -> Value {
    json!({
        "field": "stage", "initial": ["idea"],
        "edges": {"idea": ["offer"], "offer": ["idea", "won"]},
        "ordered": true, "back": {"permission": "delete"},
        "needs": {"won": [{"field": "budget", "gt": 0}]},
        "sets": {"won": {"closed": true}}, "open": ["title"],
    })
}

fn projects() -> Value {
    json!({"name": "projects", "singular": "project", "fields": [
        {"name": "title", "type": "text", "required": true},
        {"name": "budget", "type": "integer"},
        {"name": "closed", "type": "bool", "required": true, "default": false},
        {"name": "stage", "type": "enum", "values": ["idea", "offer", "won"], "required": true,
            "default": "idea", "description": "Where it stands."},
    ], "machines": [stage()]})
}

fn path(record: &Value) -> String {
    format!("{PROJECTS}/{}", record["id"].as_str().unwrap())
}

async fn a_pipeline_is_declared_documented_obeyed_and_changed(database: Database) {
    let app = App::start(database).await;
    let made = app.admin.post(MODULES, projects()).await.expect(201);
    assert_eq!(made["machines"], json!([stage()]));
    let ada = app.admin.informed().await;
    let list = ada.get(MODULES).await.expect(200);
    let modules = list["data"].as_array().unwrap();
    let own = modules.iter().find(|one| one["name"] == "projects");
    assert_eq!(own.unwrap()["machines"], json!([stage()]));
    let contacts = modules.iter().find(|one| one["name"] == "contacts");
    assert_eq!(contacts.unwrap()["machines"], json!([]));
    let words = |document: Value| {
        let project = &document["components"]["schemas"]["Project"];
        project["properties"]["stage"]["description"].to_string()
    };
    let told = words(app.admin.get("/openapi.json").await.expect(200));
    assert!(
        told.contains("Where it stands. Begins as idea.") && told.contains("offer → idea, won"),
        "{told}"
    );

    let early = json!({"title": "a", "stage": "won"});
    let early = ada.post(PROJECTS, early).await.expect(422);
    assert_eq!(early["errors"][0]["code"], "invalid_initial_state");
    let one = ada.post(PROJECTS, json!({"title": "a"})).await.expect(201);
    let one = path(&one);
    let leap = ada.patch(&one, json!({"stage": "won"})).await;
    assert_eq!(leap.problem(), (409, "invalid_transition".into()));
    ada.patch(&one, json!({"stage": "offer"})).await.expect(200);
    let bare = ada.patch(&one, json!({"stage": "won"})).await.expect(422);
    assert_eq!(bare["errors"][0]["pointer"], "/budget");
    let won = json!({"stage": "won", "budget": 3});
    let won = ada.patch(&one, won).await.expect(200);
    assert_eq!(won["closed"], true);
    let late = ada.patch(&one, json!({"budget": 4})).await;
    assert_eq!(late.problem(), (409, "final_state".into()));

    // Back goes who may delete, too; a batch and an import are held to the same.
    let role = json!({"name": "seller", "permissions":
        ["projects.read", "projects.create", "projects.update"]});
    app.admin.post("/api/v1/roles", role).await.expect(201);
    let seller = app.member("sally", "seller").await.informed().await;
    let two = seller.post(PROJECTS, json!({"title": "b"})).await;
    let two = path(&two.expect(201));
    let offer = seller.patch(&two, json!({"stage": "offer"})).await;
    offer.expect(200);
    let back = seller.patch(&two, json!({"stage": "idea"})).await;
    assert_eq!(back.problem(), (403, "forbidden".into()));
    ada.patch(&two, json!({"stage": "idea"})).await.expect(200);
    let leap = json!({"atomic": true, "operations": [
        {"op": "update", "id": two.rsplit('/').next(), "values": {"stage": "won"}}]});
    let refused = ada.post(&format!("{PROJECTS}/batch"), leap).await;
    let refused = refused.expect(409);
    assert_eq!(refused["code"], "invalid_transition");
    let told = json!([{"pointer": "/operations/0", "code": "invalid_transition",
        "detail": "stage cannot change from idea to won, only to offer"}]);
    assert_eq!(refused["errors"], told);
    let import = ada
        .request(Method::POST, &format!("{PROJECTS}/import?format=csv"))
        .header("Content-Type", "text/csv")
        .body("title,stage\nc,idea\nd,won\n");
    let job = ada.finish(import).await.expect(202);
    app.crm.run_jobs_once().await.unwrap();
    let job = format!("/api/v1/jobs/{}", job["id"].as_str().unwrap());
    let result = ada.get(&job).await.expect(200)["result"].clone();
    let counts = (&result["created"], &result["failed"]);
    assert_eq!(counts, (&json!(1), &json!(1)));

    // Another pipeline holds at once, and is in the document.
    let target = format!("{MODULES}/projects");
    let other = json!([{"field": "stage", "edges": {"idea": ["won"]}}]);
    let change = json!({"description": "What we sell.", "machines": other});
    let changed = app.admin.patch(&target, change).await.expect(200);
    assert_eq!(
        (&changed["machines"], &changed["description"]),
        (&other, &json!("What we sell."))
    );
    assert_eq!(
        (&changed["is_custom"], &changed["fields"]),
        (&json!(true), &made["fields"])
    );
    let told = words(app.admin.get("/openapi.json").await.expect(200));
    assert!(told.contains("Changes: idea → won."), "{told}");
    let ada = app.admin.informed().await;
    let won = ada.patch(&two, json!({"stage": "won"})).await;
    assert_eq!(won.expect(200)["closed"], false);
    let kept = json!({"description": "Sold."});
    let kept = app.admin.patch(&target, kept).await.expect(200);
    assert_eq!(kept["machines"], other);
    let null = json!({"machines": null, "description": "Sold again."});
    let null = app.admin.patch(&target, null).await.expect(422);
    assert_eq!(null["errors"][0]["pointer"], "/machines");
    let kept = app.admin.patch(&target, json!({})).await.expect(200);
    assert_eq!(
        (&kept["machines"], &kept["description"]),
        (&other, &json!("Sold."))
    );
    let refused = seller.patch(&target, json!({"machines": []})).await;
    assert_eq!(refused.problem(), (403, "forbidden".into()));
    for name in ["contacts", "moons"] {
        let target = format!("{MODULES}/{name}");
        let refused = app.admin.patch(&target, json!({})).await;
        assert_eq!(refused.problem(), (404, "not_found".into()), "{name}");
    }
    app.close().await;
}

async fn a_field_of_a_pipeline_is_kept_and_the_pipeline_is_nobody_elses(database: Database) {
    let app = App::start(database).await;
    let foreign = app.foreign_admin().await;
    let mut theirs = projects();
    theirs["machines"] = json!([]);
    app.admin.post(MODULES, projects()).await.expect(201);
    let made = foreign.post(MODULES, theirs).await.expect(201);
    assert_eq!(made["machines"], json!([]));
    let won = json!({"title": "a", "stage": "won"});
    let (ada, other) = (app.admin.informed().await, foreign.informed().await);
    other.post(PROJECTS, won.clone()).await.expect(201);
    ada.post(PROJECTS, won).await.expect(422);

    let stage = format!("{MODULES}/projects/fields/stage");
    for name in ["stage", "budget", "closed", "title"] {
        let field = format!("{MODULES}/projects/fields/{name}");
        let refused = app.admin.delete(&field).await;
        assert_eq!(refused.problem(), (409, "named_by_machine".into()));
        let detail = refused.json()["detail"].to_string();
        assert!(detail.contains("the state machine of stage"), "{detail}");
    }
    let optional = app.admin.patch(&stage, json!({"required": false})).await;
    assert_eq!(optional.problem(), (409, "named_by_machine".into()));
    let more = json!({"values": ["idea", "offer", "won", "lost"]});
    app.admin.patch(&stage, more).await.expect(200);
    foreign.delete(&stage).await.expect(204);
    let target = format!("{MODULES}/projects");
    let none = json!({"machines": []});
    app.admin.patch(&target, none).await.expect(200);
    app.admin.delete(&stage).await.expect(204);
    app.close().await;
}

async fn a_machine_that_cannot_be_is_refused_by_its_place(database: Database) {
    let app = App::start(database).await;
    app.admin.post(MODULES, projects()).await.expect(201);
    let target = format!("{MODULES}/projects");
    for (machine, pointer, code) in [
        (json!({"field": "title"}), "/field", "invalid"),
        (json!({"field": "No name"}), "/field", "invalid"),
        (json!({}), "/field", "required"),
        (
            json!({"field": "stage", "initial": ["nwe"]}),
            "/initial",
            "unknown_state",
        ),
        (
            json!({"field": "stage", "initial": ["offer"]}),
            "/initial",
            "default_not_initial",
        ),
        (
            json!({"field": "stage", "back": "anyone"}),
            "/back",
            "not_supported",
        ),
        (
            json!({"field": "stage", "needs": {"won": [{"field": "closed", "nin": [true, false]}]}}),
            "/needs",
            "never_met",
        ),
        (
            json!({"field": "stage", "edges": {"idea": "won"}}),
            "/edges/idea",
            "wrong_type",
        ),
        (
            json!({"field": "stage", "edges": {"nwe": []}}),
            "/edges",
            "unknown_state",
        ),
        (
            json!({"field": "stage", "needs": {"won": [{"field": "budget", "above": 1}]}}),
            "/needs/won/0/above",
            "unknown_field",
        ),
        (
            json!({"field": "stage", "needs": {"won": [7]}}),
            "/needs/won/0",
            "wrong_type",
        ),
        (
            json!({"field": "stage", "needs": {"won": ["nothing"]}}),
            "/needs",
            "unknown_field",
        ),
        (
            json!({"field": "stage", "sets": {"won": {"closed": "yes"}}}),
            "/sets",
            "wrong_type",
        ),
        (
            json!({"field": "stage", "back": "sometimes"}),
            "/back",
            "not_allowed",
        ),
        (
            json!({"field": "stage", "back": {"permission": "reopen"}}),
            "/back",
            "unknown_action",
        ),
        (
            json!({"field": "stage", "log": {"module": "deals"}}),
            "/log",
            "not_supported",
        ),
        (
            json!({"field": "stage", "edge": {}}),
            "/edge",
            "unknown_field",
        ),
    ] {
        let place = format!("/machines/0{pointer}");
        let change = json!({"machines": [machine]});
        let changed = app.admin.patch(&target, change).await.expect(422);
        let mut other = projects();
        other["name"] = json!("ventures");
        other["singular"] = json!("venture");
        other["machines"] = json!([machine]);
        let made = app.admin.post(MODULES, other).await.expect(422);
        for refused in [changed, made] {
            let error = &refused["errors"][0];
            assert_eq!(
                (&error["pointer"], &error["code"]),
                (&json!(place), &json!(code)),
                "{machine}"
            );
        }
    }
    app.close().await;
}
