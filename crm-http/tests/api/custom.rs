//! Fields and modules of tenants' own over HTTP: declared, used, documented, and nobody else's.

use serde_json::{Value, json};

use crate::app::{App, Database};

crate::on_both_databases! {
    a_custom_field_is_in_the_records_and_the_document_of_its_tenant_alone
    a_custom_field_is_declared_changed_removed_brought_back_and_purged
    a_module_is_declared_used_and_destroyed_over_the_api
    a_reference_of_a_tenants_own_is_in_its_records_and_its_document
    computed_and_copied_fields_of_a_tenants_own_are_in_its_records_and_its_document
    each_operation_of_a_batch_fills_the_copies_of_a_tenants_own
    declarations_that_cannot_be_are_refused_with_their_place
}

const FIELDS: &str = "/api/v1/modules/contacts/fields";

fn plan() -> Value {
    json!({"name": "plan", "type": "enum", "values": ["free", "paid"], "sort": true,
        "description": "What they pay for."})
}

async fn a_custom_field_is_in_the_records_and_the_document_of_its_tenant_alone(database: Database) {
    let app = App::start(database).await;
    let foreign = app.foreign_admin().await;
    let public = app.document();
    assert_eq!(&app.admin.get("/openapi.json").await.expect(200), public);
    app.admin.post(FIELDS, plan()).await.expect(201);

    let own = app.admin.get("/openapi.json").await.expect(200);
    let schemas = &own["components"]["schemas"];
    assert_eq!(schemas["ContactPlan"]["enum"], json!(["free", "paid"]));
    for schema in ["Contact", "ContactCreate", "ContactUpdate", "ContactView"] {
        let property = &schemas[schema]["properties"]["plan"];
        assert_eq!(property["description"], "What they pay for.", "{schema}");
    }
    let list = own["paths"]["/api/v1/contacts"]["get"]["parameters"].to_string();
    assert!(
        list.contains("plan[in]") && list.contains("-plan"),
        "{list}"
    );
    for caller in [&app.anonymous(), &foreign] {
        assert_eq!(&caller.get("/openapi.json").await.expect(200), public);
    }
    let broken = app.bare(reqwest::Method::GET, "/openapi.json");
    let broken = broken.bearer_auth("nonsense").send().await.unwrap();
    assert_eq!(broken.status(), 401);

    // Every reply is held against the tenant's document from here on.
    let ada = app.admin.informed().await;
    let body = json!({"name": "Grace", "plan": "paid"});
    let made = ada.post("/api/v1/contacts", body).await.expect(201);
    assert_eq!(made["plan"], "paid");
    ada.post("/api/v1/contacts", json!({"name": "Alan"}))
        .await
        .expect(201);
    let refused = ada
        .post("/api/v1/contacts", json!({"name": "x", "plan": "gold"}))
        .await;
    assert_eq!(refused.expect(422)["errors"][0]["pointer"], "/plan");
    for (query, names) in [
        ("plan=paid", vec!["Grace"]),
        ("plan[is_null]=true", vec!["Alan"]),
        ("sort=-plan,name", vec!["Grace", "Alan"]),
        ("fields=name,plan&plan[in]=free,paid", vec!["Grace"]),
    ] {
        let page = ada
            .get(&format!("/api/v1/contacts?{query}"))
            .await
            .expect(200);
        let found: Vec<_> = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["name"])
            .collect();
        assert_eq!(found, names, "{query}");
    }
    let body = json!({"filter": {"plan": {"in": ["paid"]}}, "sort": ["plan"], "fields": ["plan"]});
    let page = ada.post("/api/v1/contacts/query", body).await.expect(200);
    assert_eq!(page["data"][0]["plan"], "paid");
    let groups = ada
        .get("/api/v1/contacts/aggregate?group_by=plan&metrics=count")
        .await;
    assert!(groups.expect(200)["data"].to_string().contains("\"paid\""));
    let export = ada.get("/api/v1/contacts/export?format=csv").await;
    assert!(
        export.body.contains(",plan") && export.body.contains(",paid"),
        "{export}"
    );
    let import = ada
        .request(reqwest::Method::POST, "/api/v1/contacts/import?format=csv")
        .header("Content-Type", "text/csv")
        .body("name,plan\nMargaret,free\nKay,gold\n");
    let job = ada.finish(import).await.expect(202);
    app.crm.run_jobs_once().await.unwrap();
    let job = format!("/api/v1/jobs/{}", job["id"].as_str().unwrap());
    let done = ada.get(&job).await.expect(200);
    assert_eq!(
        (&done["result"]["created"], &done["result"]["failed"]),
        (&json!(1), &json!(1))
    );
    let audit = ada
        .get("/api/v1/audit?entity=contacts&action=contacts.create")
        .await
        .expect(200);
    assert!(audit["data"].to_string().contains("\"plan\":\"free\""));

    for path in ["/api/v1/contacts?plan=paid", "/api/v1/contacts?sort=plan"] {
        let refused = foreign.get(path).await;
        assert_eq!(refused.status, 422, "{refused}");
    }
    let refused = foreign
        .post("/api/v1/contacts", json!({"name": "x", "plan": "paid"}))
        .await;
    assert_eq!(refused.expect(422)["errors"][0]["code"], "unknown_field");
    assert_eq!(foreign.get(FIELDS).await.expect(200)["data"], json!([]));
    app.close().await;
}

async fn a_custom_field_is_declared_changed_removed_brought_back_and_purged(database: Database) {
    let app = App::start(database).await;
    let made = app.admin.post(FIELDS, plan()).await.expect(201);
    assert_eq!(
        (&made["declaration"], &made["indexed"]),
        (&plan(), &json!(true))
    );
    let again = app.admin.post(FIELDS, plan()).await;
    assert_eq!(again.problem(), (409, "already_exists".into()));
    let path = format!("{FIELDS}/plan");
    let change = json!({"values": ["free", "paid", "gold"], "required": true, "default": "free"});
    let changed = app.admin.patch(&path, change).await.expect(200);
    assert_eq!(
        changed["declaration"]["values"],
        json!(["free", "paid", "gold"])
    );
    let narrower = app.admin.patch(&path, json!({"values": ["free"]})).await;
    assert_eq!(narrower.expect(422)["errors"][0]["code"], "narrowed");
    for (member, code) in [
        ("sort", "immutable"),
        ("on_delete", "immutable"),
        ("size", "unknown_field"),
    ] {
        let refused = app.admin.patch(&path, json!({member: true})).await;
        let error = refused.expect(422)["errors"][0].clone();
        assert_eq!(
            (&error["pointer"], &error["code"]),
            (&json!(format!("/{member}")), &json!(code))
        );
    }
    let cleared = app
        .admin
        .patch(&path, json!({"default": null}))
        .await
        .expect(200);
    assert_eq!(cleared["declaration"].get("default"), None);

    let ada = app.admin.informed().await;
    ada.post("/api/v1/contacts", json!({"name": "Grace", "plan": "gold"}))
        .await
        .expect(201);
    let early = ada.post(&format!("{path}/purge"), Value::Null).await;
    assert_eq!(early.problem(), (409, "field_in_use".into()));
    ada.delete(&path).await.expect(204);
    let listed = ada.get(FIELDS).await.expect(200);
    assert_eq!(listed["data"][0]["removed_at"], "2026-01-31T09:30:00Z");
    let page = app.admin.get("/api/v1/contacts").await.expect(200);
    assert_eq!(page["data"][0].get("plan"), None);
    let other = json!({"name": "plan", "type": "integer"});
    let refused = app.admin.post(FIELDS, other.clone()).await;
    assert_eq!(refused.problem(), (409, "field_not_purged".into()));
    for _ in 0..2 {
        let trial = format!("{path}/purge?dry_run=true");
        let told = app.admin.post(&trial, Value::Null).await.expect(200);
        assert_eq!(told["purged_records"], 1, "nothing is gone");
    }
    let purged = app
        .admin
        .post(&format!("{path}/purge"), Value::Null)
        .await
        .expect(200);
    assert_eq!(purged["purged_records"], 1);
    app.admin.post(FIELDS, other).await.expect(201);
    let audit = app
        .admin
        .get("/api/v1/audit?entity=modules&entity_id=contacts.plan")
        .await;
    assert_eq!(audit.expect(200)["data"].as_array().unwrap().len(), 6);
    let viewer = app.member("vi", "viewer").await;
    let refused = viewer.post(FIELDS, plan()).await;
    assert_eq!(refused.problem(), (403, "forbidden".into()));
    app.close().await;
}

async fn a_module_is_declared_used_and_destroyed_over_the_api(database: Database) {
    let app = App::start(database).await;
    let foreign = app.foreign_admin().await;
    let visits = json!({"name": "visits", "singular": "visit", "description": "Who came when.",
    "fields": [
        {"name": "place", "type": "text", "required": true, "search": true},
        {"name": "day", "type": "date", "sort": true},
    ]});
    let made = app
        .admin
        .post("/api/v1/modules", visits.clone())
        .await
        .expect(201);
    assert_eq!(
        (&made["is_custom"], &made["fields"][1]["type"]),
        (&json!(true), &json!("date"))
    );
    let again = app.admin.post("/api/v1/modules", visits).await;
    let error = again.expect(422)["errors"][0].clone();
    assert_eq!(
        (&error["pointer"], &error["code"]),
        (&json!("/name"), &json!("duplicate"))
    );

    let ada = app.admin.informed().await;
    let list = ada.get("/api/v1/modules").await.expect(200);
    let names: Vec<_> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["contacts", "companies", "deals", "visits"]);
    let body = json!({"place": "Ulm", "day": "2026-01-30"});
    let one = ada.post("/api/v1/visits", body).await.expect(201);
    let path = format!("/api/v1/visits/{}", one["id"].as_str().unwrap());
    assert_eq!(ada.get(&path).await.expect(200), one);
    let changed = ada.patch(&path, json!({"place": "Bonn"})).await.expect(200);
    assert_eq!(changed["version"], 2);
    let batch = json!({"operations": [
        {"op": "create", "values": {"place": "Kiel"}}, {"op": "create", "values": {"place": "Aachen"}},
    ]});
    ada.post("/api/v1/visits/batch", batch).await;
    let import = ada
        .request(reqwest::Method::POST, "/api/v1/visits/import?format=csv")
        .header("Content-Type", "text/csv")
        .body("place,day\nHof,2026-01-01\n");
    ada.finish(import).await.expect(202);
    app.crm.run_jobs_once().await.unwrap();
    let page = ada
        .get("/api/v1/visits?sort=day&day[lt]=2026-02-01")
        .await
        .expect(200);
    assert_eq!(page["data"][0]["place"], "Hof");
    let body = json!({"filter": {"place": {"contains": "ON"}}});
    let page = ada.post("/api/v1/visits/query", body).await.expect(200);
    assert_eq!(page["data"].as_array().unwrap().len(), 1);

    // Its permissions are given as any others; nobody else has such a module.
    let role = json!({"name": "porter", "permissions": ["visits.read"]});
    app.admin.post("/api/v1/roles", role).await.expect(201);
    let porter = app.member("pat", "porter").await.informed().await;
    assert_eq!(porter.get(&path).await.status, 200);
    let refused = porter.delete(&path).await;
    assert_eq!(refused.problem(), (403, "forbidden".into()));
    for stranger in [&foreign, &app.anonymous()] {
        assert_eq!(
            stranger.get("/api/v1/visits").await.problem(),
            (404, "not_found".into())
        );
        assert_eq!(
            stranger.get(&path).await.problem(),
            (404, "not_found".into())
        );
    }
    assert!(
        !foreign
            .get("/openapi.json")
            .await
            .body
            .contains("/api/v1/visits")
    );

    let refused = ada.delete("/api/v1/modules/visits").await;
    assert_eq!(refused.problem(), (409, "module_not_empty".into()));
    let count = ada.get("/api/v1/visits?count=exact").await.expect(200)["total"]["count"].clone();
    let detail = refused.json()["detail"].to_string();
    assert!(
        detail.contains(&format!("visits has {count} records")),
        "{detail}"
    );
    for more in ["", "&destroy_data=true"] {
        let trial = format!("/api/v1/modules/visits?dry_run=true{more}");
        let told = ada.delete(&trial).await.expect(200);
        assert_eq!(told["destroyed_records"], count, "nothing is gone");
    }
    let gone = ada
        .delete("/api/v1/modules/visits?destroy_data=true")
        .await
        .expect(200);
    assert_eq!(gone["destroyed_records"], count);
    assert_eq!(
        app.admin.get(&path).await.problem(),
        (404, "not_found".into())
    );
    let declared = app.admin.delete("/api/v1/modules/contacts").await;
    assert_eq!(declared.problem(), (404, "not_found".into()));
    app.close().await;
}

async fn a_reference_of_a_tenants_own_is_in_its_records_and_its_document(database: Database) {
    let app = App::start(database).await;
    let foreign = app.foreign_admin().await;
    let projects = json!({"name": "projects", "singular": "project", "fields": [
        {"name": "title", "type": "text", "required": true},
        {"name": "lead_id", "type": "reference", "module": "contacts", "on_delete": "set_null"},
        {"name": "above_id", "type": "reference", "module": "projects"},
    ]});
    app.admin
        .post("/api/v1/modules", projects)
        .await
        .expect(201);
    let field = json!({"name": "project_id", "type": "reference", "module": "projects"});
    let made = app.admin.post(FIELDS, field.clone()).await.expect(201);
    assert_eq!(
        (&made["declaration"], &made["indexed"]),
        (&field, &json!(true))
    );

    // Every reply is held against the tenant's document from here on.
    let ada = app.admin.informed().await;
    let own = app.admin.get("/openapi.json").await.expect(200);
    let view = &own["components"]["schemas"]["ContactView"]["properties"]["project"];
    assert_eq!(view["anyOf"][0]["$ref"], "#/components/schemas/ProjectView");
    let list = own["paths"]["/api/v1/contacts"]["get"]["parameters"].to_string();
    assert!(
        list.contains("project_id.title[contains]") && list.contains("project_id.lead_id"),
        "{list}"
    );
    let alpha = json!({"title": "Alpha"});
    let alpha = ada.post("/api/v1/projects", alpha).await.expect(201);
    let body = json!({"name": "Grace", "project_id": alpha["id"]});
    let grace = ada.post("/api/v1/contacts", body).await.expect(201);
    let lead = json!({"lead_id": grace["id"], "above_id": null});
    let path = format!("/api/v1/projects/{}", alpha["id"].as_str().unwrap());
    ada.patch(&path, lead).await.expect(200);
    let asked = "/api/v1/contacts?project_id.title[contains]=lph&expand=project_id.lead_id";
    let page = ada.get(asked).await.expect(200);
    assert_eq!(page["data"][0]["project"]["lead"]["name"], "Grace");
    let body = json!({"filter": {"project_id.title": "Alpha"}, "expand": ["project_id"]});
    let page = ada.post("/api/v1/contacts/query", body).await.expect(200);
    assert_eq!(page["data"][0]["project"]["title"], "Alpha");
    let export = ada.get("/api/v1/contacts/export?format=csv").await;
    let id = alpha["id"].as_str().unwrap().to_owned();
    assert!(
        export.body.contains(",project_id") && export.body.contains(&id),
        "{export}"
    );

    let refused = ada.delete(&path).await;
    assert_eq!(refused.problem(), (409, "has_dependents".into()));
    for asked in ["destroy_data=true", "dry_run=true"] {
        let path = format!("/api/v1/modules/projects?{asked}");
        let refused = ada.delete(&path).await;
        assert_eq!(refused.problem(), (409, "module_in_use".into()), "{asked}");
    }
    let grace = format!("/api/v1/contacts/{}", grace["id"].as_str().unwrap());
    ada.delete(&grace).await.expect(204);
    let left = ada.get(&path).await.expect(200);
    assert_eq!(
        (&left["lead_id"], &left["version"]),
        (&Value::Null, &json!(3))
    );

    // The record of another tenant is none.
    let same = json!({"name": "projects", "singular": "project", "fields": [
        {"name": "title", "type": "text"}]});
    foreign.post("/api/v1/modules", same).await.expect(201);
    let foreign = foreign.informed().await;
    let theirs = foreign
        .post("/api/v1/projects", json!({"title": "theirs"}))
        .await;
    let theirs = theirs.expect(201)["id"].clone();
    for id in [theirs, json!("018f4e2a-0000-7000-8000-000000000000")] {
        let body = json!({"name": "Eve", "project_id": id});
        let refused = ada.post("/api/v1/contacts", body).await.expect(422);
        let error = &refused["errors"][0];
        assert_eq!(error["pointer"], "/project_id");
        assert_eq!(error["code"], "unknown_reference");
    }
    app.close().await;
}

async fn computed_and_copied_fields_of_a_tenants_own_are_in_its_records_and_its_document(
    database: Database,
) {
    let app = App::start(database).await;
    let foreign = app.foreign_admin().await;
    let label = json!({"name": "label", "type": "text", "computed": "{name}, {job_title}"});
    let hot = json!({"name": "hot", "type": "bool", "computed": {"score": {"gte": 80}}});
    let industry = json!({"name": "industry", "type": "text", "max": 100, "sort": true,
        "copied": "company_id.industry"});
    for field in [label, hot, industry] {
        let made = app.admin.post(FIELDS, field.clone()).await.expect(201);
        for said in ["computed", "copied"] {
            assert_eq!(made["declaration"].get(said), field.get(said));
        }
    }
    let own = app.admin.get("/openapi.json").await.expect(200);
    let schemas = &own["components"]["schemas"];
    for (name, shown) in [
        ("label", "string"),
        ("hot", "boolean"),
        ("industry", "string"),
    ] {
        let property = schemas["Contact"]["properties"][name].to_string();
        assert!(property.contains(shown), "{name}: {property}");
        for input in ["ContactCreate", "ContactUpdate"] {
            assert_eq!(schemas[input]["properties"].get(name), None, "{input}");
        }
    }
    let list = own["paths"]["/api/v1/contacts"]["get"]["parameters"].to_string();
    assert!(
        list.contains("\"hot\"") && list.contains("-industry"),
        "{list}"
    );
    assert!(!list.contains("label[contains]"), "{list}");
    let theirs = foreign.get("/openapi.json").await.expect(200);
    assert_eq!(&theirs, app.document());

    // Every reply is held against the tenant's document from here on.
    let ada = app.admin.informed().await;
    let acme = json!({"name": "Acme", "industry": "steel"});
    let acme = ada.post("/api/v1/companies", acme).await.expect(201);
    let body = json!({"name": "Grace", "score": 90, "company_id": acme["id"]});
    let grace = ada.post("/api/v1/contacts", body).await.expect(201);
    assert_eq!(grace["label"], "Grace");
    assert_eq!(grace["hot"], true);
    assert_eq!(grace["industry"], "steel");
    for query in ["hot=true", "hot=true&industry=steel&sort=-industry"] {
        let page = ada.get(&format!("/api/v1/contacts?{query}")).await;
        assert_eq!(page.expect(200)["data"][0]["id"], grace["id"], "{query}");
    }
    let refused = app.admin.get("/api/v1/contacts?label=Grace").await;
    assert_eq!(refused.expect(422)["errors"][0]["code"], "unknown_field");

    let module = ada.get("/api/v1/modules/contacts").await.expect(200);
    let list = ada.get("/api/v1/modules").await.expect(200);
    assert_eq!(module, list["data"][0]);
    let names = module["fields"].to_string();
    assert!(names.contains("\"label\"") && names.contains("company_id.industry"));
    let theirs = foreign.get("/api/v1/modules/contacts").await.expect(200);
    assert!(!theirs.to_string().contains("company_id.industry"));
    let absent = ada.get("/api/v1/modules/visits").await;
    assert_eq!(absent.problem(), (404, "not_found".into()));

    let source = json!({"name": "grade", "type": "integer"});
    app.admin.post(FIELDS, source).await.expect(201);
    let made = json!({"name": "good", "type": "bool", "computed": {"grade": {"gte": 2}}});
    app.admin.post(FIELDS, made).await.expect(201);
    let grade = format!("{FIELDS}/grade");
    let refused = app.admin.delete(&grade).await;
    assert_eq!(refused.problem(), (409, "named_by_field".into()));
    let removed = app.admin.delete(&format!("{FIELDS}/good")).await;
    removed.expect(204);
    app.admin.delete(&grade).await.expect(204);
    app.close().await;
}

async fn each_operation_of_a_batch_fills_the_copies_of_a_tenants_own(database: Database) {
    let app = App::start(database).await;
    let industry = json!({"name": "industry", "type": "text", "max": 100,
        "copied": "company_id.industry"});
    app.admin.post(FIELDS, industry).await.expect(201);
    let ada = app.admin.informed().await;
    let company = async |industry: &str| {
        let body = json!({"name": industry, "industry": industry});
        let made = ada.post("/api/v1/companies", body).await.expect(201);
        made["id"].clone()
    };
    let (steel, tin) = (company("steel").await, company("tin").await);
    let known = json!({"name": "Bo", "email": "bo@example.com", "company_id": steel});
    let known = ada.post("/api/v1/contacts", known).await.expect(201);
    let other = json!({"name": "Cy", "company_id": steel});
    let other = ada.post("/api/v1/contacts", other).await.expect(201);
    let bo = json!({"name": "Bo", "email": "bo@example.com", "company_id": tin});
    let di = json!({"name": "Di", "email": "di@example.com", "company_id": steel});
    let batch = async |atomic: bool, operations: Value| {
        let body = json!({"atomic": atomic, "operations": operations});
        let done = ada.post("/api/v1/contacts/batch", body).await.expect(200);
        let results = done["results"].as_array().unwrap().iter();
        let copies = results.map(|one| one["record"]["industry"].clone());
        copies.collect::<Value>()
    };
    let operations = json!([
        {"op": "create", "values": {"name": "Ada", "company_id": tin}},
        {"op": "create", "values": {"name": "Eve"}},
        {"op": "update", "id": known["id"], "values": {"name": "Bob"}},
        {"op": "upsert", "by": "email", "values": bo},
        {"op": "upsert", "by": "email", "values": di},
        {"op": "update", "id": other["id"], "values": {"company_id": null}},
    ]);
    let told = json!(["tin", null, "steel", "tin", "steel", null]);
    assert_eq!(batch(false, operations).await, told);
    let operations = json!([
        {"op": "update", "id": known["id"], "values": {"company_id": steel}},
        {"op": "create", "values": {"name": "Flo", "company_id": tin}},
    ]);
    assert_eq!(batch(true, operations).await, json!(["steel", "tin"]));
    let page = ada.get("/api/v1/contacts?industry=steel").await.expect(200);
    assert_eq!(page["data"].as_array().unwrap().len(), 2, "{page}");
    app.close().await;
}

async fn declarations_that_cannot_be_are_refused_with_their_place(database: Database) {
    let app = App::start(database).await;
    for (body, pointer, code) in [
        (
            json!({"name": "email", "type": "text"}),
            "/name",
            "duplicate",
        ),
        (
            json!({"name": "cursor", "type": "text"}),
            "/name",
            "reserved",
        ),
        (
            json!({"name": "list", "type": "enum", "values": ["a"]}),
            "/name",
            "reserved",
        ),
        (json!({"name": "a", "type": "moon"}), "/type", "invalid"),
        (json!({"name": "A", "type": "text"}), "/name", "invalid"),
        (
            json!({"name": "a", "type": "text", "values": ["x"]}),
            "/values",
            "invalid",
        ),
        (
            json!({"name": "a", "type": "text", "size": 1}),
            "/size",
            "unknown_field",
        ),
        (
            json!({"name": "a", "type": "text", "max": 0}),
            "/max",
            "out_of_range",
        ),
        (
            json!({"name": "a", "type": "references", "module": "deals"}),
            "/type",
            "invalid",
        ),
        (
            json!({"name": "a", "type": "reference"}),
            "/module",
            "invalid",
        ),
        (
            json!({"name": "a", "type": "reference", "module": "moons"}),
            "/module",
            "unknown_module",
        ),
        (json!({"type": "text"}), "/name", "required"),
    ] {
        let refused = app.admin.post(FIELDS, body.clone()).await.expect(422);
        let error = &refused["errors"][0];
        assert_eq!(
            (&error["pointer"], &error["code"]),
            (&json!(pointer), &json!(code)),
            "{body}"
        );
    }
    for (name, singular, pointer) in [
        ("roles", "rank", "/name"),
        ("contacts", "person", "/name"),
        ("visits", "contact", "/singular"),
        ("visits", "member", "/singular"),
        ("visits", "contact_create", "/singular"),
        ("visits", "Visit", "/singular"),
    ] {
        let body =
            json!({"name": name, "singular": singular, "fields": [{"name": "a", "type": "text"}]});
        let refused = app.admin.post("/api/v1/modules", body).await.expect(422);
        assert_eq!(
            refused["errors"][0]["pointer"], pointer,
            "{name} {singular}"
        );
    }
    let absent = app.admin.post("/api/v1/modules/moons/fields", plan()).await;
    assert_eq!(absent.problem(), (404, "not_found".into()));
    app.close().await;
}
