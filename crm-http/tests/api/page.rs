//! Lists by page numbers, beside cursors.

use serde_json::{Value, json};

use crate::app::{App, Database};

crate::on_both_databases! {
    a_list_is_read_by_page_numbers_with_its_totals
    xc_18_odd_pages_are_refused_by_name
}

async fn a_list_is_read_by_page_numbers_with_its_totals(database: Database) {
    let app = App::start(database).await;
    for n in 0..7 {
        let body = json!({"name": format!("Contact {n}"), "score": n});
        app.admin.post("/api/v1/contacts", body).await.expect(201);
    }
    let names = |page: &Value| -> Vec<String> {
        let data = page["data"].as_array().unwrap().iter();
        data.map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let path = "/api/v1/contacts?sort=score&per_page=3";
    let page = app.admin.get(&format!("{path}&page=2")).await.expect(200);
    assert_eq!(names(&page), ["Contact 3", "Contact 4", "Contact 5"]);
    let told = |page: &Value| {
        let of = |name: &str| page[name].clone();
        (of("page"), of("per_page"), of("pages"), of("total"))
    };
    let total = json!({"count": 7, "capped": false});
    let wanted = |number: u32| (json!(number), json!(3), json!(3), total.clone());
    assert_eq!(told(&page), wanted(2));
    // The cursor of a numbered page leads on from there.
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = format!("/api/v1/contacts?sort=score&limit=3&cursor={cursor}");
    let rest = app.admin.get(&rest).await.expect(200);
    assert_eq!(names(&rest), ["Contact 6"]);
    assert_eq!(rest.get("page"), None);
    let beyond = app.admin.get(&format!("{path}&page=4")).await.expect(200);
    assert_eq!((names(&beyond), told(&beyond)), (vec![], wanted(4)));

    let query =
        json!({"sort": ["-score"], "page": 1, "per_page": 3, "filter": {"score": {"gte": 1}}});
    let page = app.admin.post("/api/v1/contacts/query", query).await;
    let page = page.expect(200);
    assert_eq!(names(&page), ["Contact 6", "Contact 5", "Contact 4"]);
    assert_eq!(page["pages"], 2);
    let page = app.admin.get("/api/v1/contacts?page=1").await.expect(200);
    assert_eq!((&page["per_page"], &page["pages"]), (&json!(20), &json!(1)));
    app.close().await;
}

async fn xc_18_odd_pages_are_refused_by_name(database: Database) {
    let app = App::start(database).await;
    for (query, pointer, code) in [
        ("page=0", "/page", "out_of_range"),
        ("page=-1", "/page", "out_of_range"),
        ("page=x", "/page", "invalid"),
        ("page=501", "/page", "out_of_range"),
        ("page=99999999999", "/page", "out_of_range"),
        ("page=101&per_page=100", "/page", "out_of_range"),
        ("page=1&per_page=0", "/limit", "out_of_range"),
        ("page=1&per_page=101", "/limit", "out_of_range"),
        ("page=1&cursor=abc", "/page", "not_allowed"),
        ("per_page=5", "/per_page", "not_allowed"),
        ("page=1&per_page=5&limit=5", "/per_page", "not_allowed"),
        ("page=1&page=2", "/page", "repeated"),
    ] {
        let path = format!("/api/v1/contacts?{query}");
        let answer = app.admin.get(&path).await.expect(422);
        let error = &answer["errors"][0];
        let found = (error["pointer"].as_str(), error["code"].as_str());
        assert_eq!(found, (Some(pointer), Some(code)), "{query}: {answer}");
    }
    for (query, pointer) in [
        (json!({"page": 0}), "/page"),
        (json!({"page": "1"}), "/page"),
        (json!({"page": 1, "cursor": "abc"}), "/page"),
        (json!({"per_page": 5}), "/per_page"),
    ] {
        let sent = query.clone();
        let answer = app.admin.post("/api/v1/contacts/query", sent).await;
        let answer = answer.expect(422);
        assert_eq!(answer["errors"][0]["pointer"], pointer, "{query}: {answer}");
    }
    let deep = app.admin.get("/api/v1/contacts?page=501").await.expect(422);
    let words = deep["errors"][0]["detail"].as_str().unwrap();
    assert!(words.contains("next_cursor"), "{words}");
    app.close().await;
}
