//! What clients see of references: lists, any module, what a delete brings with it, expansion.

use crm_core::Builder;
use crm_core::module::ModuleSpec;
use serde_json::{Value, json};

use crate::app::{App, Database};

crate::on_both_databases! {
    lists_and_references_to_any_module_are_written_filtered_and_expanded
    a_delete_takes_along_what_the_declaration_says
    the_document_names_references_and_their_paths
}

const CLUBS: &str = r#"
name = "clubs"
singular = "club"
fields = [
    { name = "title", type = "text", required = true },
    { name = "member_ids", type = "references", module = "contacts" },
    { name = "parent_id", type = "reference", module = "clubs", on_delete = "cascade" },
]
"#;
const STORIES: &str = r#"
name = "stories"
singular = "story"
fields = [
    { name = "title", type = "text", required = true },
    { name = "subject", type = "any_reference", modules = ["clubs", "contacts"], on_delete = "set_null" },
]
"#;

fn modules(builder: Builder) -> Builder {
    builder.modules([CLUBS, STORIES].map(|text| ModuleSpec::from_toml(text).unwrap()))
}

async fn made(app: &App, module: &str, input: Value) -> Value {
    let path = format!("/api/v1/{module}");
    app.admin.post(&path, input).await.expect(201)
}

async fn lists_and_references_to_any_module_are_written_filtered_and_expanded(database: Database) {
    let app = App::with(database, modules).await;
    let navy = made(&app, "companies", json!({"name": "Navy"})).await;
    let ada = made(
        &app,
        "contacts",
        json!({"name": "Ada", "company_id": navy["id"]}),
    )
    .await;
    let bob = made(&app, "contacts", json!({"name": "Bob"})).await;
    let input = json!({"title": "chess", "member_ids": [bob["id"], ada["id"]]});
    let club = made(&app, "clubs", input).await;
    assert_eq!(club["member_ids"], json!([bob["id"], ada["id"]]));
    let (ada_id, club_id) = (ada["id"].as_str().unwrap(), club["id"].as_str().unwrap());
    let subject = format!("clubs/{club_id}");
    let story = made(&app, "stories", json!({"title": "won", "subject": subject})).await;
    assert_eq!(story["subject"], json!(subject));
    made(
        &app,
        "stories",
        json!({"title": "other", "subject": format!("contacts/{ada_id}")}),
    )
    .await;

    for (path, count) in [
        (format!("clubs?member_ids[has]={ada_id}"), 1),
        (format!("clubs?member_ids[has_any]={ada_id},{club_id}"), 1),
        (format!("clubs?member_ids[has_all]={ada_id},{club_id}"), 0),
        ("clubs?member_ids[is_null]=false".to_owned(), 1),
        ("stories?subject[starts]=clubs/".to_owned(), 1),
        (format!("stories?subject={subject}"), 1),
        (
            format!("stories?subject[in]={subject},contacts/{ada_id}"),
            2,
        ),
    ] {
        let page = app.admin.get(&format!("/api/v1/{path}")).await.expect(200);
        assert_eq!(page["data"].as_array().unwrap().len(), count, "{path}");
    }
    let paths = "subject.member_ids.company_id,subject.company_id";
    let page = format!("/api/v1/stories?sort=id&expand={paths}");
    let page = app.admin.get(&page).await.expect(200);
    let members = &page["data"][0]["subject_expanded"]["member_ids_expanded"];
    assert_eq!(members[0]["name"], "Bob");
    assert_eq!(members[1]["company_id_expanded"]["name"], "Navy");
    assert_eq!(
        page["data"][1]["subject_expanded"]["company_id_expanded"]["name"],
        "Navy"
    );
    let body =
        json!({"expand": ["subject.member_ids"], "filter": {"subject": {"starts": "clubs/"}}});
    let queried = app
        .admin
        .post("/api/v1/stories/query", body)
        .await
        .expect(200);
    let members = &queried["data"][0]["subject_expanded"]["member_ids_expanded"];
    assert_eq!(members[0]["name"], "Bob");

    let absent = "018f4e2a-7b6c-7d3e-9a1b-2c3d4e5f6071";
    let input = json!({"title": "x", "member_ids": [absent]});
    let refused = app.admin.post("/api/v1/clubs", input).await;
    assert_eq!(refused.problem().0, 422);
    let errors = refused.json()["errors"].clone();
    assert_eq!(
        (&errors[0]["pointer"], &errors[0]["code"]),
        (&json!("/member_ids"), &json!("unknown_reference"))
    );
    let input = json!({"title": "x", "subject": format!("deals/{absent}")});
    let refused = app.admin.post("/api/v1/stories", input).await;
    assert_eq!(refused.problem().0, 422);
    assert_eq!(refused.json()["errors"][0]["code"], "invalid_reference");
    let deep = "/api/v1/clubs?expand=parent_id.parent_id.parent_id.parent_id";
    assert_eq!(app.admin.get(deep).await.problem().0, 422);
    app.close().await;
}

async fn a_delete_takes_along_what_the_declaration_says(database: Database) {
    let app = App::with(database, modules).await;
    let ada = made(&app, "contacts", json!({"name": "Ada"})).await;
    let top = made(
        &app,
        "clubs",
        json!({"title": "top", "member_ids": [ada["id"]]}),
    )
    .await;
    let part = made(
        &app,
        "clubs",
        json!({"title": "part", "parent_id": top["id"]}),
    )
    .await;
    let subject = format!("clubs/{}", part["id"].as_str().unwrap());
    let story = made(&app, "stories", json!({"title": "s", "subject": subject})).await;
    let at =
        |module: &str, one: &Value| format!("/api/v1/{module}/{}", one["id"].as_str().unwrap());
    app.admin.delete(&at("contacts", &ada)).await.expect(204);
    let top = app.admin.get(&at("clubs", &top)).await.expect(200);
    assert_eq!(
        (&top["member_ids"], &top["version"]),
        (&json!([]), &json!(2))
    );
    app.admin.delete(&at("clubs", &top)).await.expect(204);
    app.admin.get(&at("clubs", &part)).await.expect(404);
    let story = app.admin.get(&at("stories", &story)).await.expect(200);
    assert_eq!(
        (&story["subject"], &story["version"]),
        (&Value::Null, &json!(2))
    );

    let navy = made(&app, "companies", json!({"name": "Navy"})).await;
    made(
        &app,
        "contacts",
        json!({"name": "Bob", "company_id": navy["id"]}),
    )
    .await;
    let refused = app.admin.delete(&at("companies", &navy)).await;
    assert_eq!(refused.problem(), (409, "has_dependents".to_owned()));
    app.close().await;
}

async fn the_document_names_references_and_their_paths(database: Database) {
    let app = App::with(database, modules).await;
    let schemas = &app.document()["components"]["schemas"];
    let members = &schemas["Club"]["properties"]["member_ids"];
    assert_eq!(
        members["items"],
        json!({"type": "string", "format": "uuid"})
    );
    assert_eq!(members["maxItems"], 100);
    let subject = &schemas["Story"]["properties"]["subject"];
    assert!(
        subject["pattern"]
            .as_str()
            .unwrap()
            .starts_with("^(clubs|contacts)/")
    );
    let view = &schemas["StoryView"]["properties"]["subject_expanded"];
    assert_eq!(
        view["anyOf"].as_array().unwrap().len(),
        3,
        "two modules, and null"
    );
    let expand = &schemas["StoryQuery"]["properties"]["expand"]["items"]["enum"];
    let paths: Vec<_> = expand.as_array().unwrap().iter().collect();
    assert!(
        paths.contains(&&json!("subject.member_ids.company_id")),
        "{paths:?}"
    );
    let words = &app.document()["paths"]["/api/v1/clubs/{id}"]["delete"]["description"];
    assert!(
        words.as_str().unwrap().contains("too_many_dependents"),
        "{words}"
    );
    app.close().await;
}
