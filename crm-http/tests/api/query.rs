//! Queries by body and by query string: what they answer, what they refuse, what the document says.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Database};

crate::on_both_databases! {
    every_example_of_a_query_in_the_document_runs
    a_query_answers_what_its_conditions_say
    a_query_that_breaks_a_rule_points_at_every_place
    a_query_nested_without_end_is_refused_by_name
    the_segment_query_is_never_a_record
    fields_and_expand_shape_get_list_and_query
    several_keys_sort_lists_and_bind_their_cursors
    xc_21_every_door_that_searches_takes_words_and_phrases
}

const QUERY: &str = "/api/v1/contacts/query";

async fn fill(app: &App) {
    for n in 0..6 {
        let parity = ["even", "odd"][n % 2];
        let contact = json!({"name": format!("Row {n}"), "score": n % 2, "tags": [parity]});
        app.admin
            .post("/api/v1/contacts", contact)
            .await
            .expect(201);
    }
}

fn names(page: &Value) -> Vec<&str> {
    let data = page["data"].as_array().unwrap().iter();
    data.map(|record| record["name"].as_str().unwrap())
        .collect()
}

async fn every_example_of_a_query_in_the_document_runs(database: Database) {
    let app = App::start(database).await;
    fill(&app).await;
    let mut found = 0;
    for (path, item) in app.document()["paths"].as_object().unwrap() {
        let content = &item["post"]["requestBody"]["content"]["application/json"];
        if !path.ends_with("/query") {
            continue;
        }
        let page = app
            .admin
            .post(path, content["example"].clone())
            .await
            .expect(200);
        found += 1;
        if path == QUERY {
            assert_eq!(names(&page).len(), 3, "{page}");
            assert_eq!(page["total"], json!({"count": 3, "capped": false}));
        }
    }
    assert_eq!(found, 3, "one for each module");
    app.close().await;
}

async fn a_query_answers_what_its_conditions_say(database: Database) {
    let app = App::start(database).await;
    fill(&app).await;
    for (filter, expected) in [
        (
            json!({}),
            vec!["Row 0", "Row 1", "Row 2", "Row 3", "Row 4", "Row 5"],
        ),
        (
            json!({"and": [{"name": {"contains": "Row"}}, {"tags": {"has": "odd"}}]}),
            vec!["Row 1", "Row 3", "Row 5"],
        ),
        (
            json!({"or": [{"name": "Row 0"}, {"name": {"in": ["Row 2", "Row 9"]}}]}),
            vec!["Row 0", "Row 2"],
        ),
        (
            json!({"not": {"score": {"lt": 1}}, "name": {"gt": "Row 1"}}),
            vec!["Row 3", "Row 5"],
        ),
        (
            json!({"tags": {"has_any": ["odd", "none"]}, "email": null}),
            vec!["Row 1", "Row 3", "Row 5"],
        ),
        (json!({"tags": {"has_all": ["odd", "even"]}}), vec![]),
        (json!({"or": []}), vec![]),
    ] {
        let body = json!({"filter": filter, "sort": ["name"], "count": "exact"});
        let page = app.admin.post(QUERY, body).await.expect(200);
        assert_eq!(names(&page), expected, "{filter}");
        assert_eq!(page["total"]["count"], json!(expected.len()));
    }
    let searched = json!({"search": "row 4", "limit": 1, "cursor": null, "count": false});
    let page = app.admin.post(QUERY, searched).await.expect(200);
    assert_eq!(
        (names(&page), &page["total"]),
        (vec!["Row 4"], &Value::Null)
    );
    app.close().await;
}

async fn a_query_that_breaks_a_rule_points_at_every_place(database: Database) {
    let app = App::start(database).await;
    let body = json!({
        "filter": {"or": [{"nme": 1}, {"score": {"gt": "x"}}]},
        "sort": ["name", "notes"], "limit": "20", "fields": ["nope"], "expand": ["name"],
        "count": 1, "search": 5, "offset": 2,
    });
    let reply = app.admin.post(QUERY, body).await;
    assert_eq!(reply.problem(), (422, "validation_failed".into()));
    let errors = reply.json();
    let errors = errors["errors"].as_array().unwrap().iter();
    let mut pointers: Vec<_> = errors.map(|one| one["pointer"].as_str().unwrap()).collect();
    pointers.sort_unstable();
    assert_eq!(
        pointers,
        [
            "/count",
            "/expand",
            "/fields",
            "/filter/or/0/nme",
            "/filter/or/1/score/gt",
            "/limit",
            "/offset",
            "/search",
            "/sort"
        ]
    );
    for body in [
        json!({"limit": 0}),
        json!({"limit": 101}),
        json!({"limit": u64::MAX}),
        json!({"cursor": "e30"}),
        json!({"filter": []}),
        json!({"search": "x".repeat(201)}),
    ] {
        let reply = app.admin.post(QUERY, body.clone()).await;
        assert_eq!(reply.problem(), (422, "validation_failed".into()), "{body}");
    }
    let reply = app.admin.post(&format!("{QUERY}?limit=1"), json!({})).await;
    assert_eq!(reply.problem(), (422, "validation_failed".into()));
    assert_eq!(app.admin.post(QUERY, json!([])).await.status, 422);
    app.close().await;
}

async fn a_query_nested_without_end_is_refused_by_name(database: Database) {
    let app = App::start(database).await;
    let nested = |levels: usize| {
        let (open, close) = ("{\"not\":".repeat(levels), "}".repeat(levels));
        format!("{{\"filter\":{open}{{\"name\":\"a\"}}{close}}}")
    };
    let send = async |body: String| {
        let request = app.admin.request(Method::POST, QUERY);
        let request = request
            .header("Content-Type", "application/json")
            .body(body);
        app.admin.finish(request).await
    };
    assert_eq!(send(nested(15)).await.status, 200);
    for levels in [16, 100] {
        let reply = send(nested(levels)).await;
        assert_eq!(reply.problem(), (422, "validation_failed".into()));
        assert_eq!(reply.json()["errors"][0]["code"], "too_deep");
        let place = format!("/filter{}", "/not".repeat(16));
        assert_eq!(reply.json()["errors"][0]["pointer"], place);
    }
    let reply = send(nested(10_000)).await;
    assert_eq!(reply.problem(), (400, "malformed_json".into()));
    let many = json!({"filter": {"or": vec![json!({"score": 1}); 300]}});
    let reply = app.admin.post(QUERY, many).await;
    assert_eq!(reply.json()["errors"][0]["code"], "too_many");
    app.close().await;
}

async fn the_segment_query_is_never_a_record(database: Database) {
    let app = App::start(database).await;
    for method in [Method::GET, Method::PATCH, Method::PUT, Method::DELETE] {
        let reply = app.admin.send(method.clone(), QUERY, None).await;
        assert_eq!(reply.status, 405, "{method}");
        assert_eq!(reply.header("allow"), "POST");
    }
    assert_eq!(app.admin.get("/api/v1/contacts/queries").await.status, 404);
    app.close().await;
}

async fn fields_and_expand_shape_get_list_and_query(database: Database) {
    let app = App::start(database).await;
    let company = app
        .admin
        .post("/api/v1/companies", json!({"name": "Navy"}))
        .await
        .expect(201);
    let grace = json!({"name": "Grace", "company_id": company["id"]});
    let grace = app.admin.post("/api/v1/contacts", grace).await.expect(201);
    let deal = json!({"title": "Compiler", "contact_id": grace["id"]});
    let deal = app.admin.post("/api/v1/deals", deal).await;
    let path = deal.header("location").to_owned();
    let deal = deal.expect(201);

    let shaped = "fields=title&expand=contact_id.company_id,company_id";
    let expected = json!({
        "id": deal["id"], "version": 1, "title": "Compiler", "company": null,
        "contact": {"name": "Grace"},
    });
    let trimmed = |mut one: Value| {
        assert_eq!(one["contact"]["company_id_expanded"], company);
        one["contact"] = json!({"name": one["contact"]["name"]});
        one
    };
    let got = app.admin.get(&format!("{path}?{shaped}")).await;
    assert!(got.header("etag").starts_with("\"1-"));
    assert_eq!(trimmed(got.expect(200)), expected);
    let listed = app
        .admin
        .get(&format!("/api/v1/deals?{shaped}"))
        .await
        .expect(200);
    assert_eq!(trimmed(listed["data"][0].clone()), expected);
    let body = json!({"fields": ["title"], "expand": ["contact_id.company_id", "company_id"]});
    let queried = app
        .admin
        .post("/api/v1/deals/query", body)
        .await
        .expect(200);
    assert_eq!(trimmed(queried["data"][0].clone()), expected);

    let role = json!({"name": "seller", "permissions": ["deals.read"]});
    app.admin.post("/api/v1/roles", role).await.expect(201);
    let seller = app.member("bo", "seller").await;
    let seen = seller
        .get(&format!("{path}?expand=contact_id"))
        .await
        .expect(200);
    assert_eq!(seen["contact_id"], grace["id"]);
    assert_eq!(
        seen["contact"],
        Value::Null,
        "not for who may read deals only"
    );

    for odd in [
        "fields=nope",
        "expand=title",
        "expand=contact_id.a.b",
        "sort=title",
        "fields=id&fields=id",
    ] {
        let reply = app.admin.get(&format!("{path}?{odd}")).await;
        assert_eq!(reply.problem(), (422, "validation_failed".into()), "{odd}");
    }
    app.close().await;
}

async fn several_keys_sort_lists_and_bind_their_cursors(database: Database) {
    let app = App::start(database).await;
    fill(&app).await;
    let first = app
        .admin
        .get("/api/v1/contacts?sort=-score,name&limit=4")
        .await
        .expect(200);
    assert_eq!(names(&first), ["Row 1", "Row 3", "Row 5", "Row 0"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let next = format!("/api/v1/contacts?sort=-score,name&limit=4&cursor={cursor}");
    let next = app.admin.get(&next).await.expect(200);
    assert_eq!(
        (names(&next), &next["next_cursor"]),
        (vec!["Row 2", "Row 4"], &Value::Null)
    );
    let body = json!({"sort": ["-score", "name"], "limit": 4, "cursor": cursor});
    assert_eq!(
        app.admin.post(QUERY, body).await.expect(200)["data"],
        next["data"]
    );
    for other in ["score,name", "-score,-name", "-score", "-score,name,id"] {
        let path = format!("/api/v1/contacts?sort={other}&cursor={cursor}");
        let reply = app.admin.get(&path).await;
        assert_eq!(
            reply.json()["errors"][0]["code"],
            "invalid_cursor",
            "{other}"
        );
    }
    for (odd, code) in [
        ("sort=name,score,email,id", "too_many"),
        ("sort=notes", "unknown_field"),
        ("count=maybe", "invalid"),
    ] {
        let reply = app.admin.get(&format!("/api/v1/contacts?{odd}")).await;
        assert_eq!(reply.json()["errors"][0]["code"], code, "{odd}");
    }
    app.close().await;
}

async fn xc_21_every_door_that_searches_takes_words_and_phrases(database: Database) {
    let app = App::start(database).await;
    for (name, email) in [
        ("Ada King", "ada@navy.example"),
        ("King Ada", "other@navy.example"),
        ("Ada", "king@army.example"),
    ] {
        let contact = json!({"name": name, "email": email});
        app.admin
            .post("/api/v1/contacts", contact)
            .await
            .expect(201);
    }
    let contacts = "/api/v1/contacts";
    for (text, hits) in [
        ("ada+king", 3),
        ("navy+KING", 2),
        ("%22ada+king%22", 1),
        ("%22king+ada%22+other", 1),
        ("ki+ad+ar", 1),
        ("ada+nobody", 0),
    ] {
        let path = format!("{contacts}?search={text}&count=true");
        let page = app.admin.get(&path).await.expect(200);
        assert_eq!(page["data"].as_array().unwrap().len(), hits, "{text}");
        assert_eq!(page["total"]["count"], hits, "{text}");
        let path = format!("{contacts}/aggregate?metrics=count&search={text}");
        let figures = app.admin.get(&path).await.expect(200);
        assert_eq!(figures["data"][0]["metrics"]["count"], hits, "{text}");
        let path = format!("{contacts}/export?format=ndjson&search={text}");
        let export = app.admin.get(&path).await;
        assert_eq!((export.status, export.body.lines().count()), (200, hits));
        let body = json!({"search": text.replace('+', " ").replace("%22", "\"")});
        let page = app.admin.post(QUERY, body).await.expect(200);
        assert_eq!(page["data"].as_array().unwrap().len(), hits, "{text}");
    }
    for title in ["Engine for Ada", "Ada"] {
        let deal = json!({"title": title});
        app.admin.post("/api/v1/deals", deal).await.expect(201);
    }
    let funnel = "/api/v1/deals/funnel?field=stage&search=ada+engine";
    let funnel = app.admin.get(funnel).await.expect(200);
    assert_eq!(funnel["data"][0]["reached"], 1);
    let many = vec!["a"; 17].join("+");
    for path in ["?", "/aggregate?metrics=count&", "/export?"] {
        let path = format!("{contacts}{path}search={many}");
        let answer = app.admin.get(&path).await.expect(422);
        assert_eq!(answer["errors"][0]["pointer"], "/search", "{answer}");
        assert_eq!(answer["errors"][0]["code"], "too_many", "{answer}");
    }
    app.close().await;
}
