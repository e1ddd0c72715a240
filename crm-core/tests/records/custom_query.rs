//! What is asked of fields of tenants' own: orders, unique values, aggregates and search.

use std::cmp::Ordering;

use super::*;
use crm_core::record::{Aggregate, GroupKey, Metric};
use crm_core::value::Value;

on_both_databases!(
    pages_in_the_order_of_a_custom_field_hold_each_record_once,
    a_unique_field_is_unique_in_its_tenant_and_a_key_of_upserts,
    aggregates_and_search_and_events_see_custom_fields,
);

fn order(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Greater,
        (_, Value::Null) => Ordering::Less,
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Date(a), Value::Date(b)) => a.cmp(b),
        (Value::Instant(a), Value::Instant(b)) => a.cmp(b),
        other => panic!("not of one type: {other:?}"),
    }
}

async fn pages_in_the_order_of_a_custom_field_hold_each_record_once(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    it.declare(
        it.tenant,
        "bare",
        json!({"name": "code", "type": "text", "unique": true, "sort": true}),
    )
    .await?;
    let scope = it.with_things().await?;
    for n in 0..23_i64 {
        let some = |step: i64, value: Json| if n % step == 0 { Json::Null } else { value };
        let input = json!({
            "anchor": format!("{}", n % 2),
            "title": some(5, json!(["b", "a", "A", "é"][(n % 4) as usize])),
            "number": some(3, json!(n * 7 % 5 - 2)),
            "price": some(4, json!(["9.50", "10.00", "-1.25"][(n % 3) as usize])),
            "due": some(6, json!(format!("2025-01-0{}", 1 + n % 3))),
            "at": some(7, json!(format!("19{}9-01-01T00:00:00.00000{}Z", 5 + n % 4, n % 2))),
            "code": some(2, json!(format!("c{}", n * 7 % 23))),
        });
        it.create(&scope, "bare", input).await?;
    }
    let module = scope.module("bare").context("declared")?;
    let permit = scope.permit::<Read>("bare")?;
    let whole = Query {
        limit: 100,
        ..Query::default()
    };
    let all = it.crm.records().list(&permit, &whole).await?.data;
    for sort in [
        "title",
        "number",
        "price",
        "due",
        "at",
        "code",
        "number,-title",
        "-due,at",
    ] {
        for down in [false, true] {
            let keys: Vec<(&str, bool)> = sort
                .split(',')
                .map(|key| (key.trim_start_matches('-'), key.starts_with('-') != down))
                .collect();
            let text: Vec<_> = keys
                .iter()
                .map(|(name, down)| format!("{}{name}", if *down { "-" } else { "" }))
                .collect();
            let mut expected: Vec<&Record> = all.iter().collect();
            expected.sort_by(|a, b| {
                for (name, down) in &keys {
                    let (a, b) = (a.get(name), b.get(name));
                    let (a, b) = (a.expect("declared"), b.expect("declared"));
                    let order = match (a.is_null() || b.is_null(), down) {
                        (false, true) => order(b, a),
                        _ => order(a, b),
                    };
                    if order != Ordering::Equal {
                        return order;
                    }
                }
                let last_down = keys.last().is_some_and(|(_, down)| *down);
                if last_down {
                    b.id.cmp(&a.id)
                } else {
                    a.id.cmp(&b.id)
                }
            });
            let query = Query {
                limit: 4,
                sort: Sort::parse_list(module, &text.join(","))
                    .map_err(|e| Error::Invalid(vec![e]))?,
                ..Query::default()
            };
            let seen = it.paged(&permit, query).await?;
            let seen: Vec<_> = seen.iter().map(|record| record.id).collect();
            let expected: Vec<_> = expected.iter().map(|record| record.id).collect();
            assert_eq!(seen, expected, "{text:?}");
        }
    }
    // A cursor does not outlive the fields it may stand for.
    let query = Query {
        limit: 1,
        sort: Sort::parse_list(module, "number").map_err(|e| Error::Invalid(vec![e]))?,
        ..Query::default()
    };
    let cursor = it.crm.records().list(&permit, &query).await?.next_cursor;
    it.remove(it.tenant, "bare", "title").await?;
    let scope = it.operator_in(it.tenant).await?;
    let module = scope.module("bare").context("declared")?;
    let query = Query {
        cursor,
        sort: Sort::parse_list(module, "number").map_err(|e| Error::Invalid(vec![e]))?,
        ..query
    };
    assert_eq!(
        code(it.ids(&scope, "bare", &query).await),
        "validation_failed"
    );
    Ok(())
}

async fn a_unique_field_is_unique_in_its_tenant_and_a_key_of_upserts(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let rival = it.rival().await?;
    for tenant in [it.tenant, rival] {
        let number = json!({"name": "member_number", "type": "email", "unique": true});
        assert!(it.declare(tenant, "bare", number).await?.indexed);
    }
    let (ours, theirs) = (
        it.operator_in(it.tenant).await?,
        it.operator_in(rival).await?,
    );
    let input = |text: &str| json!({"member_number": text});
    it.create(&ours, "bare", input("a@b.example")).await?;
    it.create(&theirs, "bare", input("a@b.example")).await?;
    it.create(&ours, "bare", json!({})).await?;
    it.create(&ours, "bare", json!({})).await?;
    let taken = it.create(&ours, "bare", input("A@B.example")).await;
    let message = taken
        .as_ref()
        .map_or_else(|e| e.to_string(), |_| String::new());
    assert!(message.contains("member_number"), "{message}");
    assert_eq!(code(taken), "already_exists");

    let body = body(json!({"member_number": "A@b.example", "anchor": "found"}));
    let (create, update) = (
        ours.permit::<Create>("bare")?,
        ours.permit::<Update>("bare")?,
    );
    let records = it.crm.records();
    let written = records
        .upsert(&create, &update, "member_number", body)
        .await?;
    assert_eq!(written.record.version, 2);
    assert_eq!(
        written.record.get("anchor"),
        Some(&Value::Text("found".into()))
    );
    Ok(())
}

async fn aggregates_and_search_and_events_see_custom_fields(
    backend: Backend,
) -> anyhow::Result<()> {
    let collector = Arc::new(Collector::default());
    let it = Fixture::with(backend, Some(collector.clone())).await?;
    let scope = it.with_things().await?;
    for (title, price, at) in [
        ("red", "1.50", "2024-02-29T12:00:00Z"),
        ("red", "2.25", "2024-03-01T00:00:00Z"),
        ("blue", "10.00", "1969-12-31T23:59:59Z"),
    ] {
        let input = json!({"title": title, "price": price, "at": at, "tags": ["hue", title]});
        it.create(&scope, "bare", input).await?;
    }
    let module = scope.module("bare").context("declared")?;
    let refuse = |error| Error::Invalid(vec![error]);
    let ask = Aggregate {
        group_by: vec![GroupKey::parse(module, "title").map_err(refuse)?],
        metrics: ["sum:price", "avg:price", "max:at", "count:due"]
            .iter()
            .map(|text| Metric::parse(module, text).map_err(refuse))
            .collect::<Result<_, _>>()?,
        ..Aggregate::default()
    };
    let permit = scope.permit::<Read>("bare")?;
    let groups = it.crm.records().aggregate(&permit, &ask).await?.data;
    let wire: Vec<_> = groups
        .iter()
        .map(|group| json!([group.keys, group.metrics]))
        .collect();
    let expected = json!([
        [["blue"], ["10.00", "10", "1969-12-31T23:59:59Z", 0]],
        [["red"], ["3.75", "1.875", "2024-03-01T00:00:00Z", 0]],
    ]);
    assert_eq!(json!(wire), expected);
    let by_month = Aggregate {
        group_by: vec![GroupKey::parse(module, "at:month").map_err(refuse)?],
        metrics: vec![Metric::parse(module, "count").map_err(refuse)?],
        ..Aggregate::default()
    };
    let groups = it.crm.records().aggregate(&permit, &by_month).await?.data;
    let months: Vec<_> = groups.iter().map(|group| json!(group.keys[0])).collect();
    assert_eq!(json!(months), json!(["1969-12", "2024-02", "2024-03"]));

    let search = Query {
        search: Some("BLU".into()),
        ..Query::default()
    };
    assert_eq!(it.ids(&scope, "bare", &search).await?.len(), 1);
    it.crm.dispatch_once().await?;
    let events = collector.take();
    let after = events.iter().filter_map(|event| event.after.as_ref());
    assert_eq!(
        after
            .filter(|after| after.to_string().contains("\"hue\""))
            .count(),
        3
    );
    Ok(())
}
