//! Every example in the OpenAPI document works when it is sent as it stands.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Caller, Database};

crate::on_both_databases! {
    every_body_given_as_an_example_is_accepted
    every_parameter_given_as_an_example_is_understood
    every_example_of_a_value_fits_its_schema
}

/// The operations of the document with their path and method.
fn operations(document: &Value) -> impl Iterator<Item = (&String, &String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| {
        let operations = item.as_object().unwrap().iter();
        operations.map(move |(method, operation)| (path, method, operation))
    })
}

/// The path with a new record's id in it.
async fn filled(admin: &Caller, path: &str) -> String {
    let Some((collection, _)) = path.split_once("/{id}") else {
        return path.to_owned();
    };
    let module = collection.rsplit('/').next().unwrap();
    let body = match module {
        "deals" => json!({"title": "New"}),
        _ => json!({"name": "New"}),
    };
    let made = admin.post(collection, body).await.expect(201);
    path.replace("{id}", made["id"].as_str().unwrap())
}

async fn every_body_given_as_an_example_is_accepted(database: Database) {
    let app = App::start(database).await;
    let mut tried = 0;
    for (path, method, operation) in operations(app.document()) {
        // Those of the fixed resources tell a story of their own; a merge names records.
        let modules = ["contacts", "companies", "deals"];
        let of_module = |name: &&str| path.starts_with(&format!("/api/v1/{name}"));
        if !modules.iter().any(of_module) || path.ends_with("/merge") {
            continue;
        }
        let content = &operation["requestBody"]["content"]["application/json"];
        let schema = app.contract().resolve(&content["schema"]);
        let Some(example) = content.get("example").or_else(|| schema.get("example")) else {
            continue;
        };
        let mut target = filled(&app.admin, path).await;
        if path.ends_with("/upsert") {
            if path.contains("contacts") {
                target.push_str("?by=email");
            } else {
                continue;
            }
        }
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let reply = app
            .admin
            .send(method.clone(), &target, Some(example.clone()))
            .await;
        assert!(
            (200..300).contains(&reply.status),
            "{method} {path} with its example {example} answers {reply}"
        );
        // A unique value can be made once only.
        if method == Method::POST && reply.status == 201 {
            let id = reply.json()["id"].as_str().unwrap().to_owned();
            let made = format!("{}/{id}", path.trim_end_matches("/upsert"));
            app.admin.delete(&made).await.expect(204);
        }
        if path.ends_with("/batch") {
            let id = reply.json()["results"][0]["record"]["id"].clone();
            let made = format!(
                "{}/{}",
                path.trim_end_matches("/batch"),
                id.as_str().unwrap()
            );
            app.admin.delete(&made).await.expect(204);
        }
        tried += 1;
    }
    assert!(tried >= 15, "only {tried} examples of bodies");
    app.close().await;
}

async fn every_parameter_given_as_an_example_is_understood(database: Database) {
    let app = App::start(database).await;
    let mut tried = 0;
    for (path, method, operation) in operations(app.document()) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let example = parameter
                .get("example")
                .or_else(|| parameter["schema"].get("example"));
            let (Some(example), Some(name)) = (example, parameter["name"].as_str()) else {
                continue;
            };
            let text = example
                .as_str()
                .map_or_else(|| example.to_string(), str::to_owned);
            let target = filled(&app.admin, path).await;
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let mut request = app.admin.request(method.clone(), &target);
            request = match parameter["in"].as_str().unwrap() {
                "header" => request.header(name, &text),
                _ => request.query(&[(name, text.as_str())]),
            };
            if path.ends_with("/import") {
                request = request
                    .query(&[("format", "csv")])
                    .header("content-type", "text/csv")
                    .body("name\nAda\n");
            } else if ["PUT", "PATCH"].contains(&method.as_str()) {
                request = request.json(&json!({}));
            }
            let reply = app.admin.finish(request).await;
            // A version of a new record that is not its own is the one refusal to expect.
            let understood = (200..300).contains(&reply.status) || reply.status == 412;
            assert!(
                understood,
                "{method} {path} with {name}={text} answers {reply}"
            );
            tried += 1;
        }
    }
    assert!(tried >= 10, "only {tried} examples of parameters");
    app.close().await;
}

async fn every_example_of_a_value_fits_its_schema(database: Database) {
    let app = App::start(database).await;
    let schemas = app.document()["components"]["schemas"].as_object().unwrap();
    let mut tried = 0;
    for (name, schema) in schemas {
        let properties = schema["properties"].as_object().into_iter().flatten();
        let within = properties.map(|(property, schema)| (format!("{name}/{property}"), schema));
        for (place, schema) in within.chain([(name.clone(), schema)]) {
            if let Some(example) = schema.get("example") {
                app.contract().fit(schema, example, &place);
                tried += 1;
            }
        }
    }
    assert!(tried >= 20, "only {tried} examples of values");
    app.close().await;
}
