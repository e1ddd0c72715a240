//! Conditions on the records behind references over HTTP: documented, taken wherever conditions
//! are, and blind to what the caller may not read.

use serde_json::{Value, json};

use crate::app::{App, Caller, Database};

crate::on_both_databases! {
    every_operation_with_conditions_takes_those_behind_references
    the_document_names_the_fields_behind_references
    what_cannot_be_asked_behind_a_reference_is_refused_by_name
    xc_02_records_that_a_caller_may_not_see_meet_no_condition
}

/// A company called Acme with one contact, and a contact of none.
async fn people(by: &Caller) -> (Value, Value) {
    let company = json!({"name": "Acme", "employees": 12});
    let company = by.post("/api/v1/companies", company).await.expect(201);
    let ada = json!({"name": "Ada", "company_id": company["id"]});
    let ada = by.post("/api/v1/contacts", ada).await.expect(201);
    by.post("/api/v1/contacts", json!({"name": "Bob"}))
        .await
        .expect(201);
    (company, ada)
}

async fn every_operation_with_conditions_takes_those_behind_references(database: Database) {
    let app = App::start(database).await;
    let (_, ada) = people(&app.admin).await;
    let by = &app.admin;
    let condition = "company_id.name[contains]=cm&company_id.employees=12";
    let filter = json!({"company_id.name": {"contains": "cm"}, "company_id.employees": 12});
    let page = by
        .get(&format!("/api/v1/contacts?{condition}&count=true"))
        .await
        .expect(200);
    assert_eq!(
        (&page["data"][0]["id"], &page["total"]["count"]),
        (&ada["id"], &json!(1))
    );
    let body = json!({"filter": filter, "search": "ada", "count": true});
    let page = by.post("/api/v1/contacts/query", body).await.expect(200);
    assert_eq!(
        (&page["data"][0]["id"], &page["total"]["count"]),
        (&ada["id"], &json!(1))
    );
    let path = format!("/api/v1/contacts/aggregate?metrics=count&{condition}");
    let figures = by.get(&path).await.expect(200);
    assert_eq!(figures["data"][0]["metrics"]["count"], 1);
    let path = format!("/api/v1/contacts/funnel?field=status&{condition}");
    let funnel = by.get(&path).await.expect(200);
    assert_eq!(funnel["data"][0]["count"], 1);
    let export = by
        .get(&format!(
            "/api/v1/contacts/export?format=ndjson&{condition}"
        ))
        .await;
    assert_eq!(export.body.lines().count(), 1);
    let body = json!({"filter": filter, "set": {"score": 9}, "expected_count": 1});
    let done = by
        .post("/api/v1/contacts/bulk-update", body)
        .await
        .expect(200);
    assert_eq!(done["changed"], 1);
    let body = json!({"filter": filter, "expected_count": 1});
    by.post("/api/v1/contacts/bulk-delete", body)
        .await
        .expect(200);
    let page = by
        .get(&format!("/api/v1/contacts?{condition}"))
        .await
        .expect(200);
    assert_eq!(page["data"], json!([]));
}

async fn the_document_names_the_fields_behind_references(database: Database) {
    let app = App::start(database).await;
    for path in ["", "/aggregate", "/funnel", "/export"] {
        let operation = &app.document()["paths"][format!("/api/v1/contacts{path}")]["get"];
        let parameters = operation["parameters"].as_array().unwrap();
        let named = |name: &str| parameters.iter().find(|one| one["name"] == name);
        let contains = named("company_id.name[contains]").unwrap();
        assert_eq!(contains["description"], "company_id: name contains this.");
        assert!(named("company_id.employees[gte]").is_some());
        assert!(named("company.name").is_none());
    }
    let schemas = &app.document()["components"]["schemas"];
    let there = &schemas["ContactFilter"]["properties"]["company_id.name"];
    assert_eq!(*there, schemas["CompanyFilter"]["properties"]["name"]);
    assert!(
        schemas["CompanyFilter"]["properties"]
            .get("company_id.name")
            .is_none()
    );
}

async fn what_cannot_be_asked_behind_a_reference_is_refused_by_name(database: Database) {
    let app = App::start(database).await;
    for (parameter, pointer, code) in [
        ("company_id.nme=x", "/company_id.nme", "unknown_field"),
        ("status.name=x", "/status.name", "unknown_field"),
        (
            "company_id.owner_id.name=x",
            "/company_id.owner_id.name",
            "too_deep",
        ),
        (
            "company_id.employees=x",
            "/company_id.employees",
            "wrong_type",
        ),
        (
            "company_id.name[has]=x",
            "/company_id.name[has]",
            "unknown_operator",
        ),
    ] {
        for path in ["?", "/aggregate?metrics=count&", "/export?"] {
            let reply = app
                .admin
                .get(&format!("/api/v1/contacts{path}{parameter}"))
                .await;
            let problem = reply.expect(422);
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
            assert_eq!(problem["errors"][0]["code"], code, "{problem}");
        }
    }
    let fields = [
        "name",
        "domain",
        "phone",
        "website",
        "industry",
        "notes[contains]",
    ];
    let conditions = fields
        .map(|field| format!("company_id.{field}=x"))
        .join("&");
    let reply = app
        .admin
        .get(&format!("/api/v1/contacts?{conditions}"))
        .await;
    let problem = reply.expect(422);
    assert_eq!(problem["errors"][0]["code"], "too_many", "{problem}");
    let filter = json!({"filter": {"company_id.nme": "x"}});
    let problem = app
        .admin
        .post("/api/v1/contacts/query", filter)
        .await
        .expect(422);
    assert_eq!(problem["errors"][0]["pointer"], "/filter/company_id.nme");
}

async fn xc_02_records_that_a_caller_may_not_see_meet_no_condition(database: Database) {
    let app = App::start(database).await;
    people(&app.admin).await;
    let role = json!({"name": "caller", "permissions": ["contacts.read", "companies.read:own"]});
    app.admin.post("/api/v1/roles", role).await.expect(201);
    let role = json!({"name": "blind", "permissions": ["contacts.read"]});
    app.admin.post("/api/v1/roles", role).await.expect(201);
    let caller = app.member("cal", "caller").await;
    for condition in [
        "company_id.name=Acme",
        "company_id.name[ne]=Acme",
        "company_id.phone[is_null]=true",
    ] {
        let page = caller
            .get(&format!("/api/v1/contacts?{condition}"))
            .await
            .expect(200);
        assert_eq!(page["data"], json!([]), "{condition}");
    }
    let blind = app.member("bea", "blind").await;
    let refused = async |name: &str| {
        let problem = blind
            .get(&format!("/api/v1/contacts?{name}=x"))
            .await
            .expect(422);
        problem["errors"][0].to_string().replace(name, "NAME")
    };
    assert_eq!(
        refused("company_id.name").await,
        refused("company_id.absent").await
    );
    let foreign = app.foreign_admin().await;
    let page = foreign
        .get("/api/v1/contacts?company_id.name=Acme")
        .await
        .expect(200);
    assert_eq!(page["data"], json!([]));
}
