//! Funnels, and figures that may be some seconds old.

use chrono::TimeDelta;
use crm_core::module::ModuleSpec;
use serde_json::{Value, json};

use crate::app::{App, Database};

crate::on_both_databases! {
    a_funnel_tells_how_far_records_come
    a_funnel_counts_what_the_caller_sees_and_the_conditions_match
    figures_with_max_age_tell_whether_they_were_kept
    a_module_may_say_how_old_its_figures_may_be
    odd_funnels_are_refused_by_name
}

async fn deals(app: &App) {
    for (title, stage, amount) in [
        ("a", "qualification", json!("10.50")),
        ("b", "qualification", Value::Null),
        ("c", "proposal", json!("0.25")),
        ("d", "won", json!("7")),
        ("e", "lost", json!("999")),
    ] {
        let body = json!({"title": title, "stage": stage, "amount": amount});
        app.admin.post("/api/v1/deals", body).await.expect(201);
    }
}

async fn a_funnel_tells_how_far_records_come(database: Database) {
    let app = App::start(database).await;
    deals(&app).await;
    let path = "/api/v1/deals/funnel?field=stage&without=lost&sum=amount";
    let step = |state, count, reached, conversion, to_next, sum| {
        json!({
            "state": state, "count": count, "reached": reached, "conversion": conversion,
            "conversion_to_next": to_next, "sum": sum,
        })
    };
    let null = Value::Null;
    assert_eq!(
        app.admin.get(path).await.expect(200),
        json!({"data": [
            step("qualification", 2, 4, json!("1"), json!("0.5"), json!("10.50")),
            step("proposal", 1, 2, json!("0.5"), json!("0.5"), json!("0.25")),
            step("negotiation", 0, 1, json!("0.25"), json!("1"), null.clone()),
            step("won", 1, 1, json!("0.25"), null, json!("7.00")),
        ]})
    );
    let all = app.admin.get("/api/v1/deals/funnel?field=stage").await;
    let all = all.expect(200);
    assert_eq!(all["data"][4]["state"], "lost");
    assert_eq!(all["data"][0]["reached"], 5);
    assert_eq!(all["data"][0].get("sum"), None);
    app.close().await;
}

async fn a_funnel_counts_what_the_caller_sees_and_the_conditions_match(database: Database) {
    let app = App::start(database).await;
    deals(&app).await;
    let reached = |answer: Value| answer["data"][0]["reached"].clone();
    let path = "/api/v1/deals/funnel?field=stage";
    let some = format!("{path}&amount[gte]=1&search=d");
    assert_eq!(reached(app.admin.get(&some).await.expect(200)), 1);
    let member = app.member("mo", "member").await;
    assert_eq!(reached(member.get(path).await.expect(200)), 0);
    let mine = json!({"title": "mine", "stage": "won"});
    member.post("/api/v1/deals", mine).await.expect(201);
    assert_eq!(reached(member.get(path).await.expect(200)), 1);
    let foreign = app.foreign_admin().await;
    let nothing = foreign.get(path).await.expect(200);
    assert_eq!(nothing["data"][0]["conversion"], Value::Null);
    // A module without an enum field has no funnel.
    let absent = app.admin.get("/api/v1/companies/funnel?field=name").await;
    assert_eq!(absent.status, 404);
    app.close().await;
}

async fn figures_with_max_age_tell_whether_they_were_kept(database: Database) {
    let app = App::start(database).await;
    deals(&app).await;
    let count = "/api/v1/deals/aggregate?metrics=count";
    let funnel = "/api/v1/deals/funnel?field=stage";
    for path in [count, funnel] {
        assert_eq!(app.admin.get(path).await.header("x-cache"), "");
        for wanted in ["MISS", "HIT", "HIT"] {
            let reply = app.admin.get(&format!("{path}&max_age=60")).await;
            assert_eq!(reply.header("x-cache"), wanted, "{path}: {reply}");
        }
    }
    let body = json!({"title": "another"});
    app.admin.post("/api/v1/deals", body).await.expect(201);
    let reply = app.admin.get(&format!("{count}&max_age=60")).await;
    assert_eq!(reply.header("x-cache"), "MISS");
    assert_eq!(reply.expect(200)["data"][0]["metrics"]["count"], 6);
    for odd in ["3601", "x", "-1"] {
        let path = format!("{count}&max_age={odd}");
        let answer = app.admin.get(&path).await.expect(422);
        assert_eq!(answer["errors"][0]["pointer"], "/max_age", "{answer}");
    }
    app.close().await;
}

async fn a_module_may_say_how_old_its_figures_may_be(database: Database) {
    const VISITS: &str = r#"
        name = "visits"
        singular = "visit"
        aggregate_ttl = 30
        fields = [{ name = "kind", type = "enum", values = ["call", "mail"] }]
    "#;
    let visits = ModuleSpec::from_toml(VISITS).unwrap();
    let app = App::with(database, |builder| builder.modules([visits])).await;
    let path = "/api/v1/visits/aggregate";
    let parameters = &app.document()["paths"][path]["get"]["parameters"];
    let parameters = parameters.as_array().unwrap();
    let max_age = parameters
        .iter()
        .find(|one| one["name"] == "max_age")
        .unwrap();
    assert_eq!(max_age["schema"]["default"], 30);
    let ask = async |query: &str| {
        let reply = app.admin.get(&format!("{path}?metrics=count{query}")).await;
        reply.header("x-cache").to_owned()
    };
    assert_eq!(ask("").await, "MISS");
    assert_eq!(ask("").await, "HIT");
    assert_eq!(ask("&max_age=0").await, "MISS", "of now");
    app.clock.advance(TimeDelta::seconds(20));
    assert_eq!(
        ask("&max_age=10").await,
        "MISS",
        "a request may ask for younger ones"
    );
    app.clock.advance(TimeDelta::seconds(31));
    assert_eq!(ask("&max_age=600").await, "MISS", "and not for older ones");
    assert_eq!(ask("&max_age=600").await, "HIT");
    let funnel = app.admin.get("/api/v1/visits/funnel?field=kind").await;
    assert_eq!(funnel.header("x-cache"), "MISS");
    let funnel = app.admin.get("/api/v1/visits/funnel?field=kind").await;
    assert_eq!(funnel.header("x-cache"), "HIT");
    app.close().await;
}

async fn odd_funnels_are_refused_by_name(database: Database) {
    let app = App::start(database).await;
    for (query, pointer, code) in [
        ("", "/field", "required"),
        ("field=title", "/field", "unknown_field"),
        ("field=colour", "/field", "unknown_field"),
        ("field=stage&without=gone", "/without", "unknown_state"),
        ("field=stage&sum=title", "/sum", "wrong_type"),
        ("field=stage&field=stage", "/field", "repeated"),
        ("field=stage&colour=red", "/colour", "unknown_field"),
        ("field=stage&limit=5", "/limit", "unknown_field"),
    ] {
        let path = format!("/api/v1/deals/funnel?{query}");
        let answer = app.admin.get(&path).await.expect(422);
        let error = &answer["errors"][0];
        let found = (error["pointer"].as_str(), error["code"].as_str());
        assert_eq!(found, (Some(pointer), Some(code)), "{query}: {answer}");
    }
    app.close().await;
}
