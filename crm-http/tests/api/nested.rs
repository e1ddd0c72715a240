//! The records that refer to one record, listed under its path.

use crm_core::Builder;
use crm_core::module::ModuleSpec;
use serde_json::{Value, json};

use crate::app::{App, Caller, Database};

crate::on_both_databases! {
    the_records_that_refer_to_one_are_the_list_with_that_filter
    a_module_that_refers_by_several_fields_is_named_with_one
    who_may_not_see_the_record_or_what_refers_to_it_is_told_nothing
    a_tenants_own_module_is_listed_under_what_it_refers_to
    no_two_operations_of_a_document_have_one_name
}

const CALLS: &str = r#"
name = "calls"
singular = "call"
fields = [
    { name = "title", type = "text", required = true },
    { name = "caller_id", type = "reference", module = "contacts" },
    { name = "callee_id", type = "reference", module = "contacts" },
    { name = "subject", type = "any_reference", modules = ["companies", "deals"] },
    { name = "deal_ids", type = "references", module = "deals" },
    { name = "above_id", type = "reference", module = "calls" },
]
"#;

fn modules(builder: Builder) -> Builder {
    builder.modules([ModuleSpec::from_toml(CALLS).unwrap()])
}

async fn made(caller: &Caller, module: &str, input: Value) -> String {
    let path = format!("/api/v1/{module}");
    let record = caller.post(&path, input).await.expect(201);
    record["id"].as_str().unwrap().to_owned()
}

/// The titles of a page, or the status of a refusal.
async fn titles(caller: &Caller, path: &str) -> Result<Vec<String>, u16> {
    let reply = caller.get(&format!("/api/v1/{path}")).await;
    if reply.status != 200 {
        return Err(reply.status);
    }
    let page = reply.json();
    let records = page["data"].as_array().unwrap().iter();
    Ok(records
        .map(|record| record["title"].as_str().unwrap().to_owned())
        .collect())
}

fn some(titles: &[&str]) -> Result<Vec<String>, u16> {
    Ok(titles.iter().map(ToString::to_string).collect())
}

async fn the_records_that_refer_to_one_are_the_list_with_that_filter(database: Database) {
    let app = App::start(database).await;
    let navy = made(&app.admin, "companies", json!({"name": "Navy"})).await;
    let army = made(&app.admin, "companies", json!({"name": "Army"})).await;
    for (title, company) in [("a", &navy), ("b", &navy), ("c", &army)] {
        let deal = json!({"title": title, "company_id": company});
        made(&app.admin, "deals", deal).await;
    }
    let under = format!("companies/{navy}/deals");
    assert_eq!(
        titles(&app.admin, &format!("{under}?sort=title")).await,
        some(&["a", "b"])
    );
    for more in [
        "",
        "sort=-title&limit=1&count=exact",
        "title=b",
        "stage[in]=won,lost",
        "company_id.name=Navy",
        "fields=title&expand=company_id",
        "page=1&per_page=1&sort=title",
    ] {
        let nested = app.admin.get(&format!("/api/v1/{under}?{more}")).await;
        let list = format!("/api/v1/deals?company_id={navy}&{more}");
        let list = app.admin.get(list.trim_end_matches('&')).await.expect(200);
        let nested = nested.expect(200);
        assert_eq!(nested["data"], list["data"], "{more}");
        assert_eq!(nested["total"], list["total"], "{more}");
    }
    let first = app
        .admin
        .get(&format!("/api/v1/{under}?sort=title&limit=1"))
        .await;
    let cursor = first.expect(200)["next_cursor"]
        .as_str()
        .unwrap()
        .to_owned();
    let next = format!("{under}?sort=title&limit=1&cursor={cursor}");
    assert_eq!(titles(&app.admin, &next).await, some(&["b"]));
    // Behind another record it is the cursor of another query.
    let other = format!("companies/{army}/deals?sort=title&limit=1&cursor={cursor}");
    assert_eq!(titles(&app.admin, &other).await, Err(422));
    assert_eq!(
        titles(&app.admin, &format!("{under}?colour=red")).await,
        Err(422)
    );
    let posted = app.admin.post(&format!("/api/v1/{under}"), json!({})).await;
    assert_eq!(posted.status, 405);
    for nothing in [
        format!("companies/{navy}/companies"),
        format!("companies/{navy}/roles"),
        format!("companies/{navy}/deals/x"),
        format!("companies/{navy}/deals.company_id"),
        "companies/x/deals".to_owned(),
        "companies/018f4e2a-0000-7000-8000-000000000000/deals".to_owned(),
    ] {
        assert_eq!(titles(&app.admin, &nothing).await, Err(404), "{nothing}");
    }
    app.close().await;
}

async fn a_module_that_refers_by_several_fields_is_named_with_one(database: Database) {
    let app = App::with(database, modules).await;
    let admin = &app.admin;
    let navy = made(admin, "companies", json!({"name": "Navy"})).await;
    let ada = made(admin, "contacts", json!({"name": "Ada"})).await;
    let bob = made(admin, "contacts", json!({"name": "Bob"})).await;
    let deal = made(admin, "deals", json!({"title": "ships"})).await;
    let one = json!({"title": "one", "caller_id": ada, "callee_id": bob, "deal_ids": [deal]});
    let one = made(admin, "calls", one).await;
    let two = json!({"title": "two", "caller_id": bob, "above_id": one,
        "subject": format!("companies/{navy}")});
    made(admin, "calls", two).await;
    let three = json!({"title": "three", "subject": format!("deals/{deal}")});
    made(admin, "calls", three).await;
    for (path, found) in [
        (format!("contacts/{ada}/calls.caller_id"), some(&["one"])),
        (format!("contacts/{ada}/calls.callee_id"), some(&[])),
        (format!("contacts/{bob}/calls.callee_id"), some(&["one"])),
        (format!("contacts/{ada}/calls"), Err(404)),
        (format!("contacts/{ada}/calls.subject"), Err(404)),
        // The only field that leads there.
        (format!("companies/{navy}/calls"), some(&["two"])),
        (format!("deals/{deal}/calls.subject"), some(&["three"])),
        (format!("deals/{deal}/calls.deal_ids"), some(&["one"])),
        (format!("calls/{one}/calls"), some(&["two"])),
    ] {
        assert_eq!(titles(admin, &path).await, found, "{path}");
    }
    let paths = &app.document()["paths"];
    for (path, id) in [
        (
            "contacts/{id}/calls.caller_id",
            "list_calls_of_contact_by_caller_id",
        ),
        ("companies/{id}/calls", "list_calls_of_company"),
        ("companies/{id}/deals", "list_deals_of_company"),
        ("calls/{id}/calls", "list_calls_of_call"),
    ] {
        let operation = &paths[format!("/api/v1/{path}")]["get"];
        assert_eq!(operation["operationId"], id, "{path}");
        let parameters = operation["parameters"].to_string();
        assert!(parameters.contains("\"sort\"") && parameters.contains("\"id\""));
    }
    app.close().await;
}

async fn who_may_not_see_the_record_or_what_refers_to_it_is_told_nothing(database: Database) {
    let app = App::start(database).await;
    let navy = made(&app.admin, "companies", json!({"name": "Navy"})).await;
    let deal = json!({"title": "ships", "company_id": navy});
    made(&app.admin, "deals", deal).await;
    let path = format!("companies/{navy}/deals");
    let foreign = app.foreign_admin().await;
    assert_eq!(titles(&foreign, &path).await, Err(404));
    assert_eq!(titles(&app.anonymous(), &path).await, Err(401));
    for (name, permissions, told) in [
        (
            "both",
            json!(["companies.read", "deals.read"]),
            some(&["ships"]),
        ),
        ("deals", json!(["deals.read"]), Err(403)),
        ("companies", json!(["companies.read"]), Err(403)),
        // The company is not theirs; the deal is not.
        (
            "own companies",
            json!(["companies.read:own", "deals.read"]),
            Err(404),
        ),
        (
            "own deals",
            json!(["companies.read", "deals.read:own"]),
            some(&[]),
        ),
        // What they do not read of a deal tells them nothing.
        (
            "titles",
            json!(["companies.read", {"permission": "deals.read", "fields": ["title"]}]),
            Err(404),
        ),
    ] {
        let role = json!({"name": name, "permissions": permissions});
        app.admin.post("/api/v1/roles", role).await.expect(201);
        let caller = app.member(&name.replace(' ', "."), name).await;
        assert_eq!(titles(&caller, &path).await, told, "{name}");
    }
    app.close().await;
}

async fn a_tenants_own_module_is_listed_under_what_it_refers_to(database: Database) {
    let app = App::start(database).await;
    let visits = json!({"name": "visits", "singular": "visit", "fields": [
        {"name": "title", "type": "text"},
        {"name": "company_id", "type": "reference", "module": "companies"},
    ]});
    app.admin.post("/api/v1/modules", visits).await.expect(201);
    let ada = app.admin.informed().await;
    let navy = made(&ada, "companies", json!({"name": "Navy"})).await;
    let path = format!("companies/{navy}/visits");
    let visit = json!({"title": "first", "company_id": navy});
    let visit = made(&ada, "visits", visit).await;
    made(&ada, "visits", json!({"title": "other"})).await;
    assert_eq!(titles(&ada, &path).await, some(&["first"]));

    // And under a record of that module, by a field of the tenant's own on a declared one.
    let field = json!({"name": "visit_id", "type": "reference", "module": "visits"});
    let fields = "/api/v1/modules/deals/fields";
    app.admin.post(fields, field).await.expect(201);
    let ada = app.admin.informed().await;
    made(&ada, "deals", json!({"title": "ships", "visit_id": visit})).await;
    assert_eq!(
        titles(&ada, &format!("visits/{visit}/deals")).await,
        some(&["ships"])
    );
    let own = app.admin.get("/openapi.json").await.expect(200);
    for path in ["/api/v1/companies/{id}/visits", "/api/v1/visits/{id}/deals"] {
        assert!(own["paths"][path]["get"].is_object(), "{path}");
    }
    let foreign = app.foreign_admin().await;
    assert_eq!(titles(&foreign, &path).await, Err(404));
    app.close().await;
}

async fn no_two_operations_of_a_document_have_one_name(database: Database) {
    let app = App::start(database).await;
    let title = json!({"name": "title", "type": "text"});
    let company = json!({"name": "company_id", "type": "reference", "module": "companies"});
    for (name, field) in [("visits_of_company", title), ("visits", company)] {
        let module = json!({"name": name, "singular": format!("{name}_one"), "fields": [field]});
        app.admin.post("/api/v1/modules", module).await.expect(201);
    }
    let document = app.admin.get("/openapi.json").await.expect(200);
    let name = |path: &str| &document["paths"][format!("/api/v1/{path}")]["get"]["operationId"];
    assert_eq!(name("visits_of_company"), "list_visits_of_company");
    assert_eq!(name("companies/{id}/visits"), "list_visits_of_company_2");
    let items = document["paths"].as_object().unwrap().values();
    let operations = items.flat_map(|item| item.as_object().unwrap().values());
    let mut ids: Vec<_> = operations
        .filter_map(|operation| operation["operationId"].as_str())
        .collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
    app.close().await;
}
