//! The guides of `crm-core`, taken at their word: their requests are sent, their files imported.

use reqwest::Method;
use serde_json::Value;

use crate::app::{App, Database};

const QUERY: &str = include_str!("../../../crm-core/src/guide/query.md");
const IMPORT: &str = include_str!("../../../crm-core/src/guide/import.md");

crate::on_both_databases! {
    the_query_guide_shows_requests_that_are_answered
    the_import_guide_shows_a_file_that_is_imported
}

/// The code blocks of a page in this language.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    let fence = format!("```{language}\n");
    let blocks: Vec<_> = page
        .split(&fence)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(!blocks.is_empty(), "no {language} in the guide");
    blocks
}

async fn the_query_guide_shows_requests_that_are_answered(database: Database) {
    let app = App::start(database).await;
    for line in blocks(QUERY, "http").iter().flat_map(|block| block.lines()) {
        let path = line.strip_prefix("GET ").unwrap();
        app.admin.get(path).await.expect(200);
    }
    for body in blocks(QUERY, "json") {
        let body: Value = serde_json::from_str(body).unwrap();
        app.admin
            .post("/api/v1/contacts/query", body)
            .await
            .expect(200);
    }
    app.close().await;
}

async fn the_import_guide_shows_a_file_that_is_imported(database: Database) {
    let app = App::start(database).await;
    let requests: Vec<_> = blocks(IMPORT, "http")
        .iter()
        .flat_map(|block| block.lines())
        .collect();
    let (import, export) = (requests[0], requests[1]);
    let request = app
        .admin
        .request(Method::POST, import.strip_prefix("POST ").unwrap())
        .header("Content-Type", "text/csv")
        .body(blocks(IMPORT, "csv")[0]);
    app.admin.finish(request).await.expect(202);
    app.crm.run_jobs_once().await.unwrap();
    let ada = app
        .admin
        .get("/api/v1/contacts?email=ada@engine.example")
        .await
        .expect(200);
    assert_eq!(ada["data"][0]["tags"], serde_json::json!(["vip"]));
    let grace = app
        .admin
        .get("/api/v1/contacts?email=grace@navy.example")
        .await
        .expect(200);
    assert_eq!(
        grace["data"][0]["tags"],
        serde_json::json!(["vip", "board"])
    );
    let file = app.admin.get(export.strip_prefix("GET ").unwrap()).await;
    assert_eq!(
        (file.status, file.body.lines().count()),
        (200, 2),
        "{}",
        file.body
    );
    app.close().await;
}

#[test]
fn the_declarations_of_the_readme_are_whole() {
    let readme = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let blocks = readme.split("```toml\n").skip(1);
    let mut specs = crm_core::module::default_modules();
    for block in blocks {
        let (toml, _) = block.split_once("```").unwrap();
        specs.push(crm_core::module::ModuleSpec::from_toml(toml).unwrap());
    }
    assert!(specs.len() >= 6, "tickets, leads and activities");
    crm_core::Registry::new(specs).unwrap();
}
