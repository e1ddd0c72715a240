//! Figures about records: exact, by group, within what the caller may see.

use serde_json::{Value, json};

use crate::app::{App, Database};

crate::on_both_databases! {
    sums_and_averages_by_group_are_exact
    the_calendar_makes_groups
    whoever_sees_own_records_counts_own_records
    figures_that_nothing_declares_are_refused_by_name
}

async fn deals(app: &App) {
    for (title, stage, amount, currency, close) in [
        ("a", "won", json!("0.10"), "EUR", json!("2026-01-31")),
        ("b", "won", json!("0.20"), "EUR", json!("2026-02-01")),
        ("c", "won", json!("999999999999.99"), "USD", Value::Null),
        ("d", "lost", Value::Null, "EUR", json!("2026-02-28")),
        ("e", "proposal", json!("-5"), "USD", json!("2025-02-28")),
    ] {
        let body = json!({
            "title": title, "stage": stage, "amount": amount, "currency": currency,
            "expected_close": close,
        });
        app.admin.post("/api/v1/deals", body).await.expect(201);
    }
}

async fn sums_and_averages_by_group_are_exact(database: Database) {
    let app = App::start(database).await;
    deals(&app).await;
    let path = "/api/v1/deals/aggregate?group_by=stage,currency\
                &metrics=count,count:amount,sum:amount,avg:amount,min:amount,max:amount";
    let figures = |count, of, sum, avg, min, max| {
        json!({
            "count": count, "count:amount": of, "sum:amount": sum, "avg:amount": avg,
            "min:amount": min, "max:amount": max,
        })
    };
    let (none, huge) = (Value::Null, json!("999999999999.99"));
    assert_eq!(
        app.admin.get(path).await.expect(200),
        json!({"truncated": false, "data": [
            {"group": {"stage": "lost", "currency": "EUR"},
                "metrics": figures(1, 0, none.clone(), none.clone(), none.clone(), none)},
            {"group": {"stage": "proposal", "currency": "USD"},
                "metrics": figures(1, 1, json!("-5.00"), json!("-5"), json!("-5.00"), json!("-5.00"))},
            {"group": {"stage": "won", "currency": "EUR"},
                "metrics": figures(2, 2, json!("0.30"), json!("0.15"), json!("0.10"), json!("0.20"))},
            {"group": {"stage": "won", "currency": "USD"},
                "metrics": figures(1, 1, huge.clone(), huge.clone(), huge.clone(), huge)},
        ]})
    );
    // Beyond 64 bits in hundredths, and beyond what a double holds.
    for _ in 0..3 {
        let body = json!({"title": "x", "amount": "999999999999.99", "stage": "negotiation"});
        app.admin.post("/api/v1/deals", body).await.expect(201);
    }
    let path = "/api/v1/deals/aggregate?metrics=sum:amount,distinct:stage&amount[gt]=1";
    assert_eq!(
        app.admin.get(path).await.expect(200)["data"],
        json!([{"group": {}, "metrics": {"sum:amount": "3999999999999.96", "distinct:stage": 2}}])
    );
    app.close().await;
}

async fn the_calendar_makes_groups(database: Database) {
    let app = App::start(database).await;
    deals(&app).await;
    let groups = |answer: Value| -> Vec<(Value, Value)> {
        let groups = answer["data"].as_array().unwrap().clone();
        let pair = |group: Value| {
            let key = group["group"].as_object().unwrap().values().next().cloned();
            (key.unwrap(), group["metrics"]["count"].clone())
        };
        groups.into_iter().map(pair).collect()
    };
    let path = "/api/v1/deals/aggregate?metrics=count&group_by=expected_close";
    let months = app.admin.get(&format!("{path}:month")).await.expect(200);
    assert_eq!(
        groups(months),
        [
            (json!("2025-02"), json!(1)),
            (json!("2026-01"), json!(1)),
            (json!("2026-02"), json!(2)),
            (Value::Null, json!(1)),
        ]
    );
    let years = app.admin.get(&format!("{path}:year")).await.expect(200);
    assert_eq!(groups(years)[1], (json!("2026"), json!(3)));
    let one = app.admin.get("/api/v1/deals?limit=1").await.expect(200);
    let today = &one["data"][0]["created_at"].as_str().unwrap()[..10];
    let path = "/api/v1/deals/aggregate?metrics=count&group_by=created_at:day";
    assert_eq!(
        groups(app.admin.get(path).await.expect(200)),
        [(json!(today), json!(5))]
    );
    app.close().await;
}

async fn whoever_sees_own_records_counts_own_records(database: Database) {
    let app = App::start(database).await;
    deals(&app).await;
    let member = app.member("mo", "member").await;
    let path = "/api/v1/deals/aggregate?metrics=count";
    let none = json!([{"group": {}, "metrics": {"count": 0}}]);
    assert_eq!(member.get(path).await.expect(200)["data"], none);
    member
        .post("/api/v1/deals", json!({"title": "mine"}))
        .await
        .expect(201);
    let one = json!([{"group": {}, "metrics": {"count": 1}}]);
    assert_eq!(member.get(path).await.expect(200)["data"], one);
    let foreign = app.foreign_admin().await;
    assert_eq!(foreign.get(path).await.expect(200)["data"], none);
    app.close().await;
}

async fn figures_that_nothing_declares_are_refused_by_name(database: Database) {
    let app = App::start(database).await;
    for (query, pointer, code) in [
        ("", "metrics", "required"),
        ("metrics=", "metrics", "unknown_function"),
        ("metrics=median:amount", "metrics", "unknown_function"),
        ("metrics=sum", "metrics", "field_required"),
        ("metrics=sum:title", "metrics", "wrong_type"),
        ("metrics=sum:tenant_id", "metrics", "unknown_field"),
        (
            "metrics=count&group_by=created_at",
            "group_by",
            "bucket_required",
        ),
        (
            "metrics=count&group_by=title:month",
            "group_by",
            "unknown_bucket",
        ),
        (
            "metrics=count&group_by=created_at:week",
            "group_by",
            "unknown_bucket",
        ),
        (
            "metrics=count&group_by=id,id,id,id",
            "group_by",
            "out_of_range",
        ),
        ("metrics=count&metrics=count", "metrics", "repeated"),
        ("metrics=count&nam=x", "nam", "unknown_field"),
    ] {
        let path = format!("/api/v1/deals/aggregate?{query}");
        let answer = app.admin.get(&path).await.expect(422);
        let error = &answer["errors"][0];
        let found = (error["pointer"].as_str(), error["code"].as_str());
        let named = found
            .0
            .is_some_and(|found| found.trim_start_matches('/') == pointer);
        assert!(named && found.1 == Some(code), "{query}: {answer}");
    }
    app.close().await;
}
