//! What queries promise: nested conditions, orders of several keys, projection, expansion.

use super::lists::Tree;
use super::*;
use crm_core::record::{Count, View};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};

on_both_databases!(
    paging_by_several_keys_visits_each_record_once_in_the_order_of_memory,
    a_list_is_sorted_by_at_most_three_declared_keys,
    a_cursor_is_bound_to_every_key_of_the_order,
    counts_are_exact_where_asked,
    references_expand_to_what_the_reader_may_see,
    a_view_shows_the_named_fields_and_always_id_and_version,
);

/// A module with keys of every kind: required, optional, unique, compared without case.
pub(super) const BOXES: &str = r#"
name = "boxes"
singular = "box"
indexes = [["weight", "room"]]
fields = [
    { name = "room", type = "text", sort = true, required = true },
    { name = "weight", type = "integer", sort = true, required = true },
    { name = "shelf", type = "integer", sort = true },
    { name = "code", type = "text", unique = true, sort = true },
    { name = "email", type = "email", sort = true },
    { name = "price", type = "decimal", precision = 8, scale = 2, sort = true },
    { name = "packed", type = "date", sort = true },
    { name = "inside_id", type = "reference", module = "boxes" },
    { name = "contact_id", type = "reference", module = "contacts" },
    { name = "company", type = "reference", module = "companies" },
]
"#;

/// Ids of all pages, which hold so many records each.
async fn pages(it: &Fixture, query: &Query) -> anyhow::Result<Vec<RecordId>> {
    let permit = it.operator().permit::<Read>("boxes")?;
    let seen = it.paged(&permit, query.clone()).await?;
    Ok(seen.into_iter().map(|record| record.id).collect())
}

/// The order that a list promises, over records in memory: absent values last, ids break ties the
/// way of the last key. Creation times order as ids do, and so leave no ties.
fn sorted(mut records: Vec<Record>, keys: &[(&str, bool)]) -> Vec<RecordId> {
    use std::cmp::Ordering;
    let value = |record: &Record, name: &str| {
        let json: Json = serde_json::from_str(&record.to_json()).unwrap_or_default();
        match &json[name] {
            Json::Null => None,
            Json::Number(number) => Some((number.as_i64().unwrap_or(0), String::new())),
            Json::String(text) if name == "price" => {
                let cents = text.replace('.', "").parse().unwrap_or(0);
                Some((cents, String::new()))
            }
            Json::String(text) if name == "email" => Some((0, text.to_lowercase())),
            json => Some((0, json.as_str().unwrap_or_default().to_owned())),
        }
    };
    let turned = |order: Ordering, down: bool| if down { order.reverse() } else { order };
    records.sort_by(|a, b| {
        for (name, down) in keys {
            if *name == "created_at" {
                return turned(a.id.cmp(&b.id), *down);
            }
            let order = match (value(a, name), value(b, name)) {
                (Some(a), Some(b)) => turned(a.cmp(&b), *down),
                (a, b) => b.is_some().cmp(&a.is_some()),
            };
            if order != Ordering::Equal {
                return order;
            }
        }
        turned(a.id.cmp(&b.id), keys.last().is_none_or(|(_, down)| *down))
    });
    records.iter().map(|record| record.id).collect()
}

async fn paging_by_several_keys_visits_each_record_once_in_the_order_of_memory(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    for n in 0..31_i64 {
        // Few distinct values and many absent ones: ties everywhere, also of absent values.
        let some = |step: i64, value: Json| if n % step == 0 { Json::Null } else { value };
        let third = |values: [&'static str; 3]| json!(values[(n % 3) as usize]);
        let half = |values: [&'static str; 2]| json!(values[(n % 2) as usize]);
        let input = json!({
            "room": third(["b", "a", "A"]),
            "weight": n % 2,
            "shelf": some(4, json!(n % 3)),
            "code": some(2, json!(format!("c{}", n * 7 % 31))),
            "email": some(5, half(["x@B.example", "X@a.example"])),
            "price": some(3, third(["9.50", "10.00", "-1.25"])),
            "packed": some(7, json!(format!("2025-01-0{}", 1 + n % 2))),
        });
        it.create(&scope, "boxes", input).await?;
    }
    let whole = Query {
        limit: 100,
        ..Query::default()
    };
    let permit = scope.permit::<Read>("boxes")?;
    let all = it.crm.records().list(&permit, &whole).await?.data;
    let names = vec![
        "room",
        "weight",
        "shelf",
        "code",
        "email",
        "price",
        "packed",
        "created_at",
        "updated_at",
    ];
    let module = it.crm.registry().get("boxes").context("declared")?.clone();
    let strategy = (
        prop::sample::subsequence(names, 1..=3).prop_shuffle(),
        prop::collection::vec(any::<bool>(), 3),
        1..9_u32,
        any::<bool>(),
    );
    let mut runner = TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(11),
        ..Config::default()
    });
    for _ in 0..120 {
        let drawn = strategy
            .new_tree(&mut runner)
            .map_err(|error| anyhow::anyhow!("{error}"))?
            .current();
        let (names, down, limit, filtered) = drawn;
        let keys: Vec<_> = names.into_iter().zip(down).collect();
        let text: Vec<_> = keys
            .iter()
            .map(|(name, down)| format!("{}{name}", if *down { "-" } else { "" }))
            .collect();
        let sort = Sort::parse_list(&module, &text.join(","))
            .map_err(|error| Error::Invalid(vec![error]))?;
        let filter = filtered.then(|| Filter::parse(&module, "weight", "lt", "2"));
        let query = Query {
            sort,
            limit,
            filter: filter.transpose().map_err(|e| Error::Invalid(vec![e]))?,
            ..Query::default()
        };
        assert_eq!(
            pages(&it, &query).await?,
            sorted(all.clone(), &keys),
            "{text:?} by {limit}"
        );
    }
    Ok(())
}

async fn a_list_is_sorted_by_at_most_three_declared_keys(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let module = it.crm.registry().get("boxes").context("declared")?;
    for (text, code) in [
        ("room,-weight,shelf", "ok"),
        ("room,weight,shelf,code", "too_many"),
        ("room,-room", "ok"),
        ("room,inside_id", "unknown_field"),
        ("room,owner_id", "unknown_field"),
        ("room,", "unknown_field"),
        ("--room", "unknown_field"),
        ("", "unknown_field"),
    ] {
        let read = Sort::parse_list(module, text);
        assert_eq!(
            read.map_or_else(|error| error.code, |_| "ok"),
            code,
            "{text}"
        );
    }
    let four = Query {
        sort: vec![Sort::default(); 4],
        ..Query::default()
    };
    assert_eq!(
        code(it.ids(&it.operator(), "boxes", &four).await),
        "validation_failed"
    );
    Ok(())
}

async fn a_cursor_is_bound_to_every_key_of_the_order(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    for n in 0..3 {
        it.create(&scope, "boxes", json!({"room": "a", "weight": n}))
            .await?;
    }
    let module = it.crm.registry().get("boxes").context("declared")?.clone();
    let permit = scope.permit::<Read>("boxes")?;
    let sort = |text| Sort::parse_list(&module, text).map_err(|e| Error::Invalid(vec![e]));
    let query = Query {
        limit: 1,
        sort: sort("room,weight")?,
        ..Query::default()
    };
    let records = it.crm.records();
    let cursor = records.list(&permit, &query).await?.next_cursor;
    for (text, expected) in [
        ("room,weight", "ok"),
        ("room,-weight", "validation_failed"),
        ("weight,room", "validation_failed"),
        ("room", "validation_failed"),
        ("room,weight,shelf", "validation_failed"),
    ] {
        let other = Query {
            sort: sort(text)?,
            cursor: cursor.clone(),
            ..query.clone()
        };
        assert_eq!(
            code(records.list(&permit, &other).await),
            expected,
            "{text}"
        );
    }
    Ok(())
}

async fn counts_are_exact_where_asked(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    for n in 0..5 {
        it.create(&scope, "boxes", json!({"room": "a", "weight": n}))
            .await?;
    }
    let permit = scope.permit::<Read>("boxes")?;
    for (count, expected) in [
        (Count::No, None),
        (Count::Capped, Some((5, false))),
        (Count::Exact, Some((5, false))),
    ] {
        let query = Query {
            limit: 1,
            count,
            ..Query::default()
        };
        let total = it.crm.records().list(&permit, &query).await?.total;
        assert_eq!(total.map(|total| (total.count, total.capped)), expected);
    }
    Ok(())
}

/// The records of a list as a view shows them.
async fn viewed(
    it: &Fixture,
    scope: &Scope,
    fields: Option<&str>,
    expand: &str,
) -> anyhow::Result<Json> {
    let module = it.crm.registry().get("boxes").context("declared")?.clone();
    let mut view = View::default();
    let refuse = |error| Error::Invalid(vec![error]);
    if let Some(fields) = fields {
        view.show(&module, fields.split(',')).map_err(refuse)?;
    }
    if !expand.is_empty() {
        view.expand(scope, &module, expand.split(','))
            .map_err(refuse)?;
    }
    let permit = scope.permit::<Read>("boxes")?;
    let records = it.crm.records();
    let page = records.list(&permit, &Query::default()).await?;
    let viewed = records.view(&permit, page.data, &view).await?;
    Ok(serde_json::to_value(viewed)?)
}

async fn references_expand_to_what_the_reader_may_see(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let (operator, (ann, _)) = (it.operator(), it.member("member").await?);
    let company = it
        .create(&operator, "companies", json!({"name": "Navy"}))
        .await?;
    let grace = json!({"name": "Grace", "company_id": company.id});
    let grace = it.create(&operator, "contacts", grace).await?;
    let own = it.create(&ann, "contacts", json!({"name": "Own"})).await?;
    let outer = it
        .create(
            &ann,
            "boxes",
            json!({"room": "outer", "weight": 1, "contact_id": own.id}),
        )
        .await?;
    let inner = json!({
        "room": "inner", "weight": 1, "inside_id": outer.id, "contact_id": grace.id,
        "company": company.id,
    });
    let inner = it.create(&operator, "boxes", inner).await?;

    let all = viewed(
        &it,
        &operator,
        None,
        "contact_id.company_id,inside_id,company",
    )
    .await?;
    assert_eq!(all[0]["contact"]["name"], "Grace");
    assert_eq!(all[0]["contact"]["company_id_expanded"]["name"], "Navy");
    assert_eq!(all[0]["company_expanded"]["name"], "Navy");
    assert_eq!(all[0]["inside"]["room"], "outer");
    assert_eq!(all[0]["inside"]["contact"], Json::Null, "one level only");
    assert_eq!(all[1]["contact"]["company_id_expanded"], Json::Null);
    assert_eq!(all[1]["inside"], Json::Null);

    // Handed to Ann, the inner box still refers to a contact that is not hers.
    let ann_id = ann.actor().user();
    it.update(&operator, &inner, None, json!({"owner_id": ann_id}))
        .await?;
    let hers = viewed(&it, &ann, None, "contact_id,inside_id,company").await?;
    assert_eq!(hers[0]["contact_id"], json!(grace.id));
    assert_eq!(hers[0]["contact"], Json::Null, "a row of somebody else");
    assert_eq!(hers[0]["inside"]["room"], "outer");
    assert_eq!(hers[1]["contact"]["name"], "Own");
    Ok(())
}

async fn a_view_shows_the_named_fields_and_always_id_and_version(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    let made = it
        .create(&scope, "boxes", json!({"room": "a", "weight": 1}))
        .await?;
    let shown = viewed(&it, &scope, Some("weight,room,owner_id,room"), "").await?;
    let expected =
        json!([{"id": made.id, "version": 1, "owner_id": null, "room": "a", "weight": 1}]);
    assert_eq!(shown, expected);
    let shown = viewed(&it, &scope, Some("id"), "contact_id").await?;
    assert_eq!(
        shown,
        json!([{"id": made.id, "version": 1, "contact": null}])
    );
    for (fields, expand) in [
        (Some("nope"), ""),
        (Some("tenant_id"), ""),
        (None, "room"),
        (None, "owner_id"),
        (None, "contact_id.company_id.id"),
        (None, "contact_id.name"),
    ] {
        let refused = viewed(&it, &scope, fields, expand).await;
        assert!(refused.is_err(), "{fields:?} {expand}");
    }
    Ok(())
}

/// The JSON form of a condition that the query string writes as text.
pub(super) fn as_json(tree: &Tree) -> Json {
    let all = |parts: &[Tree]| parts.iter().map(as_json).collect::<Vec<_>>();
    match tree {
        Tree::And(parts) => json!({"and": all(parts)}),
        Tree::Or(parts) => json!({"or": all(parts)}),
        Tree::Not(part) => json!({"not": as_json(part)}),
        Tree::Leaf(name, op, text) => {
            let one = |text: &str| match *name {
                "number" => json!(text.parse::<i64>().unwrap_or_default()),
                "done" => json!(text == "true"),
                _ => json!(text),
            };
            let operand = match *op {
                "is_null" => json!(text == "true"),
                "in" | "nin" | "has_any" | "has_all" => text.split(',').map(one).collect(),
                _ => one(text),
            };
            match *op {
                "eq" => json!({*name: operand}),
                op => json!({*name: {op: operand}}),
            }
        }
    }
}

thread_local! {
    /// How many statements this thread has sent to PostgreSQL.
    static SENT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts the statements of each thread: for all threads at once, because what they log is decided
/// for the whole process.
struct Statements;

impl tracing::Subscriber for Statements {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        SENT.set(SENT.get() + 1);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn an_expansion_takes_one_statement_however_long_the_page_is() -> anyhow::Result<()> {
    tracing::subscriber::set_global_default(Statements)?;
    let it = Fixture::open(Backend::postgres().await).await?;
    let scope = it.operator();
    let mut companies = Vec::new();
    for n in 0..7 {
        let company = it
            .create(&scope, "companies", json!({"name": format!("C{n}")}))
            .await?;
        let contact = json!({"name": format!("N{n}"), "company_id": company.id});
        companies.push((company.id, it.create(&scope, "contacts", contact).await?.id));
    }
    let mut counts = Vec::new();
    for boxes in [1, 20] {
        for n in 0..boxes {
            let (company, contact) = companies[n % companies.len()];
            let input = json!({
                "room": "a", "weight": n, "company": company, "contact_id": contact,
            });
            it.create(&scope, "boxes", input).await?;
        }
        for expand in [
            "",
            "company",
            "company,contact_id",
            "company,contact_id.company_id",
        ] {
            let before = SENT.get();
            viewed(&it, &scope, None, expand).await?;
            counts.push(SENT.get() - before);
        }
    }
    assert_eq!(counts, [1, 2, 3, 4, 1, 2, 3, 4]);
    Ok(())
}
