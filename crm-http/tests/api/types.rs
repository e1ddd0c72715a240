//! Fields of every type over HTTP: documented, written, read, compared, refused by name.

use crm_core::module::ModuleSpec;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Database};

crate::on_both_databases! {
    a_record_of_every_type_is_written_as_the_document_shows
    every_type_is_compared_by_its_documented_parameters
    amounts_that_are_none_are_refused_by_name
    figures_about_amounts_keep_currencies_apart
    the_nearest_records_are_found_by_their_vectors
    a_nearest_search_is_refused_by_the_member_that_is_wrong
    modules_without_vectors_have_no_nearest_search
}

const KINDS: &str = include_str!("../../../crm-core/tests/records/kinds.toml");

pub(crate) fn kinds() -> ModuleSpec {
    ModuleSpec::from_toml(KINDS).unwrap()
}

async fn start(database: Database) -> App {
    App::with(database, |builder| builder.modules([kinds()])).await
}

async fn a_record_of_every_type_is_written_as_the_document_shows(database: Database) {
    let app = start(database).await;
    let schemas = &app.document()["components"]["schemas"];
    let body = schemas["KindCreate"]["example"].clone();
    for (name, example) in [
        ("opens", json!("09:30:00")),
        ("closes", json!("12:00:00")),
        ("amount", json!("1.000")),
        ("fee", json!("1.00")),
        ("currency", json!("EUR")),
        ("site", json!("https://example.com/")),
        ("meets", json!("2026-03-01T09:30:00[Europe/Berlin]")),
        ("shape", json!([0.5, 0.5, 0.5])),
        ("key", json!("018f4e2a-7b6c-7d3e-9a1b-2c3d4e5f6071")),
    ] {
        assert_eq!(body[name], example, "{name}");
    }
    let made = app
        .admin
        .post("/api/v1/kinds", body.clone())
        .await
        .expect(201);
    for (name, sent) in body.as_object().unwrap() {
        assert_eq!(made[name], *sent, "{name}");
    }
    let path = format!("/api/v1/kinds/{}", made["id"].as_str().unwrap());
    assert_eq!(app.admin.get(&path).await.expect(200), made);
    let properties = &schemas["Kind"]["properties"];
    for (name, member, value) in [
        ("code", "minLength", json!(2)),
        ("story", "maxLength", json!(20_000)),
        ("site", "format", json!("uri")),
        ("key", "format", json!("uuid")),
        (
            "born",
            "description",
            json!("From 1900-01-01 to 2099-12-31."),
        ),
        (
            "closes",
            "description",
            json!("A local time of day. From 12:00:00 to 23:30:00."),
        ),
    ] {
        assert_eq!(properties[name][member], value, "{name} {member}");
    }
    assert!(
        properties["opens"]["pattern"].is_string() && properties["site"]["pattern"].is_string()
    );
}

async fn every_type_is_compared_by_its_documented_parameters(database: Database) {
    let app = start(database).await;
    let body = app.document()["components"]["schemas"]["KindCreate"]["example"].clone();
    app.admin
        .post("/api/v1/kinds", body.clone())
        .await
        .expect(201);
    let operation = &app.document()["paths"]["/api/v1/kinds"]["get"];
    let named = operation["parameters"].as_array().unwrap().iter();
    let named: Vec<&str> = named
        .filter_map(|parameter| parameter["name"].as_str())
        .collect();
    for (name, value) in body.as_object().unwrap() {
        let Some(text) = value.as_str() else { continue };
        for (parameter, found) in [(name.clone(), 1), (format!("{name}[ne]"), 0)] {
            if !named.contains(&parameter.as_str()) {
                assert_eq!(name, "story");
                continue;
            }
            let mut url = reqwest::Url::parse("http://a/api/v1/kinds").unwrap();
            url.query_pairs_mut().append_pair(&parameter, text);
            let path = format!("{}?{}", url.path(), url.query().unwrap());
            let page = app.admin.get(&path).await.expect(200);
            assert_eq!(page["data"].as_array().unwrap().len(), found, "{path}");
        }
    }
    assert!(named.contains(&"opens[gte]") && !named.contains(&"story[eq]"));
    assert!(named.contains(&"story[contains]") && !named.contains(&"key[gt]"));
}

async fn amounts_that_are_none_are_refused_by_name(database: Database) {
    let app = start(database).await;
    for (body, pointer, code) in [
        (json!({"amount": "NaN"}), "/amount", "wrong_type"),
        (json!({"amount": "1e27"}), "/amount", "out_of_range"),
        (json!({"amount": 1e27}), "/amount", "out_of_range"),
        (
            json!({"amount": "1.005", "currency": "EUR"}),
            "/amount",
            "too_precise",
        ),
        (
            json!({"amount": "1.5", "currency": "JPY"}),
            "/amount",
            "too_precise",
        ),
        (json!({"fee": "0.5"}), "/fee", "too_precise"),
        (json!({"currency": "DEM"}), "/currency", "unknown_currency"),
        (json!({"currency": 978}), "/currency", "wrong_type"),
        (json!({"opens": "24:00"}), "/opens", "invalid_time"),
        (json!({"closes": "09:00"}), "/closes", "out_of_range"),
        (
            json!({"site": "javascript:alert(1)"}),
            "/site",
            "invalid_url",
        ),
        (json!({"key": "1"}), "/key", "invalid_id"),
        (json!({"code": "x"}), "/code", "too_short"),
        (
            json!({"meets": "2026-03-29T02:30[Europe/Berlin]"}),
            "/meets",
            "skipped_time",
        ),
        (json!({"shape": [1, 2]}), "/shape", "wrong_dimensions"),
        (json!({"shape": [0, 0, 0]}), "/shape", "zero_vector"),
    ] {
        let reply = app
            .admin
            .send(Method::POST, "/api/v1/kinds", Some(body.clone()))
            .await;
        let problem = reply.expect(422);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
        assert_eq!(problem["errors"][0]["code"], code, "{body}");
    }
    let none = app.admin.get("/api/v1/kinds").await.expect(200);
    assert_eq!(none["data"], json!([]));
}

async fn figures_about_amounts_keep_currencies_apart(database: Database) {
    let app = start(database).await;
    for (amount, currency) in [("0.10", "EUR"), ("0.20", "EUR"), ("5", "JPY")] {
        let body = json!({"amount": amount, "currency": currency});
        app.admin.post("/api/v1/kinds", body).await.expect(201);
    }
    let path = "/api/v1/kinds/aggregate?metrics=sum:amount";
    let problem = app.admin.get(path).await.expect(422);
    assert_eq!(problem["errors"][0]["code"], "mixed_currencies");
    let message = problem["errors"][0]["detail"].as_str().unwrap();
    assert!(message.contains("group by currency"), "{message}");
    let funnel = "/api/v1/kinds/funnel?field=stage&sum=amount";
    let problem = app.admin.get(funnel).await.expect(422);
    assert_eq!(problem["errors"][0]["pointer"], "/sum", "{problem}");
    app.admin
        .get(&format!("{funnel}&currency=EUR"))
        .await
        .expect(200);
    let sums = |answer: Value| answer["data"].clone();
    let grouped = app
        .admin
        .get(&format!("{path}&group_by=currency"))
        .await
        .expect(200);
    assert_eq!(
        sums(grouped),
        json!([
            {"group": {"currency": "EUR"}, "metrics": {"sum:amount": "0.300"}},
            {"group": {"currency": "JPY"}, "metrics": {"sum:amount": "5.000"}},
        ])
    );
    let pinned = app
        .admin
        .get(&format!("{path}&currency=eur"))
        .await
        .expect(200);
    assert_eq!(
        sums(pinned),
        json!([{"group": {}, "metrics": {"sum:amount": "0.300"}}])
    );
}

const NEAREST: &str = "/api/v1/kinds/nearest";

async fn the_nearest_records_are_found_by_their_vectors(database: Database) {
    let app = start(database).await;
    for (code, shape) in [
        ("east", [2, 0, 0]),
        ("north", [0, 3, 0]),
        ("both", [1, 1, 0]),
    ] {
        let body = json!({"code": code, "shape": shape});
        app.admin.post("/api/v1/kinds", body).await.expect(201);
    }
    let found = async |body: Value| {
        let answer = app.admin.post(NEAREST, body).await.expect(200);
        let data = answer["data"].as_array().unwrap().clone();
        let codes = data
            .iter()
            .map(|one| one["record"]["code"].as_str().unwrap().to_owned());
        (codes.collect::<Vec<_>>(), data)
    };
    let (codes, data) = found(json!({"field": "shape", "vector": [1, 0.1, 0]})).await;
    assert_eq!(codes, ["east", "both", "north"]);
    assert!(data[0]["score"].as_f64().unwrap() > 0.99);
    assert_eq!(data[0]["record"]["shape"], json!([2.0, 0.0, 0.0]));
    let some = json!({
        "field": "shape", "vector": [1, 0.1, 0], "limit": 1,
        "filter": {"code": {"ne": "east"}}, "min_score": 0.2,
    });
    assert_eq!(found(some).await.0, ["both"]);
    let none = json!({"field": "shape", "vector": [0, 0, 1], "min_score": 0.5});
    assert!(found(none).await.0.is_empty());
    let example = &app.document()["components"]["schemas"]["KindNearest"]["example"];
    assert_eq!(found(example.clone()).await.0[0], "both");
}

async fn a_nearest_search_is_refused_by_the_member_that_is_wrong(database: Database) {
    let app = start(database).await;
    for (body, pointer, code) in [
        (json!({"vector": [1, 0, 0]}), "/field", "required"),
        (json!({"field": "shape"}), "/vector", "required"),
        (
            json!({"field": "shape", "vector": "1"}),
            "/vector",
            "required",
        ),
        (
            json!({"field": "code", "vector": [1, 0, 0]}),
            "/field",
            "unknown_field",
        ),
        (
            json!({"field": "shape", "vector": [1]}),
            "/vector",
            "wrong_dimensions",
        ),
        (
            json!({"field": "shape", "vector": [0, 0, 0]}),
            "/vector",
            "zero_vector",
        ),
        (
            json!({"field": "shape", "vector": [1, 0, 0], "limit": 0}),
            "/limit",
            "out_of_range",
        ),
        (
            json!({"field": "shape", "vector": [1, 0, 0], "limit": "9"}),
            "/limit",
            "wrong_type",
        ),
        (
            json!({"field": "shape", "vector": [1, 0, 0], "min_score": 2}),
            "/min_score",
            "out_of_range",
        ),
        (
            json!({"field": "shape", "vector": [1, 0, 0], "filter": []}),
            "/filter",
            "wrong_type",
        ),
        (
            json!({"field": "shape", "vector": [1, 0, 0], "filter": {"shape": [1, 0, 0]}}),
            "/filter/shape",
            "unknown_operator",
        ),
        (
            json!({"field": "shape", "vector": [1, 0, 0], "sort": "id"}),
            "/sort",
            "unknown_field",
        ),
    ] {
        let problem = app.admin.post(NEAREST, body.clone()).await.expect(422);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
        assert_eq!(problem["errors"][0]["code"], code, "{body}");
    }
    let listed = app.admin.get("/api/v1/kinds?shape=1").await;
    assert_eq!(listed.status, 422);
    let sorted = app.admin.get("/api/v1/kinds?sort=meets").await;
    assert_eq!(sorted.status, 422);
}

async fn modules_without_vectors_have_no_nearest_search(database: Database) {
    let app = start(database).await;
    let body = json!({"field": "name", "vector": [1]});
    let reply = app
        .admin
        .send(Method::POST, "/api/v1/contacts/nearest", Some(body))
        .await;
    assert_eq!(reply.status, 405, "{reply}");
    assert!(
        app.document()["paths"]
            .get("/api/v1/contacts/nearest")
            .is_none()
    );
}
