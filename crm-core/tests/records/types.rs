//! What the further field types promise: the same values, orders and comparisons on both databases
//! and in memory.

use super::*;
use crm_core::record::operators;
use crm_core::testing::module_suite;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};

on_both_databases!(
    pl_98_a_module_of_every_type_keeps_the_promises_of_all_modules,
    every_type_means_the_same_in_memory_and_in_sql,
    every_type_is_stored_in_one_form,
    values_out_of_bounds_are_refused_and_still_compared_with,
    times_are_ordered_by_the_clock,
    tenants_have_fields_of_these_types_too,
);

/// A field of every type, with bounds where there are any.
pub(super) const KINDS: &str = include_str!("kinds.toml");

pub(super) async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    let start = DateTime::parse_from_rfc3339("2025-01-15T09:30:00Z")?.to_utc();
    let (clock, _) = Clock::fixed(start, 1);
    let crm = Crm::builder()
        .database(backend.url())
        .database_options(crm_core::testing::database_options())
        .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
        .clock(clock)
        .password_cost(PasswordCost::LOWEST)
        .modules([ModuleSpec::from_toml(KINDS)?])
        .build()
        .await?;
    let tenant = crm.tenants().create("Acme", request()).await?.id;
    Ok(Fixture {
        crm,
        tenant,
        _backend: backend,
    })
}

async fn pl_98_a_module_of_every_type_keeps_the_promises_of_all_modules(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    module_suite(&it.crm, "kinds").await?;
    Ok(())
}

/// Few distinct values of each type: comparisons meet equal ones, and the ends of the range.
fn pool() -> Vec<(&'static str, Vec<Json>)> {
    vec![
        (
            "story",
            vec![json!("One\ntwo"), json!("one\n\nTWO three"), json!("%_\\")],
        ),
        (
            "amount",
            vec![json!("-0.001"), json!("12.5"), json!("1000000000")],
        ),
        ("currency", vec![json!("bhd"), json!("KWD")]),
        ("fee", vec![json!("0"), json!(7)]),
        (
            "meets",
            vec![
                json!("2026-03-01T09:30[Europe/Berlin]"),
                json!("2026-03-01T09:30:00[Europe/Paris]"),
            ],
        ),
        (
            "rate",
            vec![json!("-0.5"), json!("0"), json!("0.001"), json!("1000")],
        ),
        (
            "opens",
            vec![
                json!("00:00"),
                json!("09:30"),
                json!("09:30:00.000001"),
                json!("23:59:59.999999"),
            ],
        ),
        ("closes", vec![json!("12:00"), json!("23:30")]),
        (
            "born",
            vec![
                json!("1900-01-01"),
                json!("2024-02-29"),
                json!("2099-12-31"),
            ],
        ),
        (
            "seen",
            vec![
                json!("1960-01-01T00:00:00Z"),
                json!("1969-12-31T23:59:59.999999Z"),
            ],
        ),
    ]
}

fn drawn(strategy: &impl Strategy<Value = Json>, runner: &mut TestRunner) -> anyhow::Result<Json> {
    let tree = strategy.new_tree(runner);
    Ok(tree.map_err(|error| anyhow::anyhow!("{error}"))?.current())
}

async fn every_type_means_the_same_in_memory_and_in_sql(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let mut runner = TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(5),
        ..Config::default()
    });
    for n in 0..40_u128 {
        let mut input = Map::new();
        for (name, values) in pool() {
            let mut choice = values;
            choice.push(Json::Null);
            let value = drawn(&prop::sample::select(choice), &mut runner)?;
            input.insert(name.to_owned(), value);
        }
        if input["currency"].is_null() {
            input.insert("amount".to_owned(), Json::Null);
        }
        if n % 3 > 0 {
            let id = uuid::Uuid::from_u128(n << (n * 3));
            input.insert("key".to_owned(), json!(id.to_string()));
            let site = format!("https://{}.example/{}", ["A", "a"][(n % 2) as usize], n / 2);
            input.insert("site".to_owned(), json!(site));
        }
        it.create(&scope, "kinds", Json::Object(input)).await?;
    }
    let module = it.crm.registry().get("kinds").context("declared")?.clone();
    let permit = scope.permit::<Read>("kinds")?;
    let whole = Query {
        limit: 100,
        ..Query::default()
    };
    let all = it.crm.records().list(&permit, &whole).await?.data;
    assert_eq!(all.len(), 40);
    let mut tried = 0;
    for field in module.fields() {
        let name = field.name.as_str();
        let mut operands: Vec<String> = all
            .iter()
            .filter_map(|record| json!(record.get(name)).as_str().map(str::to_owned))
            .collect();
        operands.sort();
        operands.dedup();
        for op in operators(&field.kind) {
            for text in operands.iter().take(12) {
                let text = match op {
                    "is_null" => "false",
                    "contains" | "starts" => text.get(..3).unwrap_or(text),
                    _ => text,
                };
                let filter = match Filter::parse(&module, name, op, text) {
                    Ok(filter) => filter,
                    Err(refused) => anyhow::bail!("{name}[{op}]={text}: {refused:?}"),
                };
                let matching = all.iter().filter(|record| filter.matches(record));
                let expected: Vec<_> = matching.map(|record| record.id).collect();
                let query = Query {
                    filter: Some(filter),
                    limit: 100,
                    ..Query::default()
                };
                let found = it.ids(&scope, "kinds", &query).await?;
                assert_eq!(found, expected, "{name}[{op}]={text}");
                tried += 1;
            }
        }
    }
    assert!(tried > 200, "{tried}");
    Ok(())
}

async fn every_type_is_stored_in_one_form(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    for (name, sent, stored) in [
        ("story", json!("  a\n\nb\r\n c \n"), json!("a\n\nb\r\n c")),
        (
            "site",
            json!(" https://a.example/?q=1#x "),
            json!("https://a.example/?q=1#x"),
        ),
        ("opens", json!("09:30"), json!("09:30:00")),
        ("opens", json!("09:30:00.25"), json!("09:30:00.250000")),
        (
            "key",
            json!("C232AB00-9414-11EC-B3C8-9F6BDECED846"),
            json!("c232ab00-9414-11ec-b3c8-9f6bdeced846"),
        ),
        ("rate", json!(0.5), json!("0.500")),
        ("opens", json!(""), Json::Null),
        (
            "meets",
            json!("2026-10-25T02:30[Europe/Berlin]"),
            json!("2026-10-25T02:30:00[Europe/Berlin]"),
        ),
        ("shape", json!([1, -0.1, 1e-3]), json!([1.0, -0.1, 0.001])),
        ("key", json!(" "), Json::Null),
    ] {
        let made = it.create(&scope, "kinds", json!({name: sent})).await?;
        let read = it.get(&scope, "kinds", made.id).await?;
        assert_eq!(json!(read.get(name)), stored, "{name}");
        assert_eq!(read.to_json(), made.to_json());
    }
    Ok(())
}

async fn values_out_of_bounds_are_refused_and_still_compared_with(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    for (name, value, expected) in [
        ("code", json!("x"), "too_short"),
        ("rate", json!("-0.501"), "out_of_range"),
        ("rate", json!("1000.001"), "out_of_range"),
        ("seen", json!("1959-12-31T23:59:59.999999Z"), "out_of_range"),
        ("born", json!("2100-01-01"), "out_of_range"),
        ("closes", json!("11:59:59.999999"), "out_of_range"),
        ("closes", json!("25:00"), "invalid_time"),
        ("opens", json!(930), "wrong_type"),
        ("site", json!("www.example.com"), "invalid_url"),
        ("key", json!("7"), "invalid_id"),
        (
            "meets",
            json!("2026-03-29T02:30[Europe/Berlin]"),
            "skipped_time",
        ),
        (
            "meets",
            json!("2026-03-29T02:30[Mars/Base]"),
            "unknown_zone",
        ),
        ("meets", json!("2026-03-29T02:30:00+01:00"), "invalid_zoned"),
        ("shape", json!([1, 2]), "wrong_dimensions"),
        ("shape", json!([0, 0, 0]), "zero_vector"),
        ("shape", json!([1, 2, 1e300]), "out_of_range"),
        ("story", json!("x".repeat(20_001)), "too_long"),
    ] {
        match it.create(&scope, "kinds", json!({name: value})).await {
            Err(Error::Invalid(refused)) => {
                let found: Vec<_> = refused
                    .iter()
                    .map(|one| (one.pointer.as_str(), one.code))
                    .collect();
                let pointer = format!("/{name}");
                assert!(
                    found == [(pointer.as_str(), expected)] || found == [(name, expected)],
                    "{found:?}"
                );
            }
            other => anyhow::bail!("{name}: {other:?}"),
        }
    }
    it.create(
        &scope,
        "kinds",
        json!({"rate": "7", "born": "1999-01-01", "closes": "13:00"}),
    )
    .await?;
    let module = it.crm.registry().get("kinds").context("declared")?.clone();
    for (name, op, text) in [
        ("rate", "lt", "5000"),
        ("born", "gt", "1000-01-01"),
        ("closes", "gte", "00:00"),
    ] {
        let filter = Filter::parse(&module, name, op, text).map_err(|e| Error::Invalid(vec![e]))?;
        let query = Query {
            filter: Some(filter),
            ..Query::default()
        };
        assert_eq!(it.ids(&scope, "kinds", &query).await?.len(), 1, "{name}");
    }
    Ok(())
}

async fn times_are_ordered_by_the_clock(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let clock = [
        "00:00:00",
        "09:29:59.999999",
        "09:30:00",
        "09:30:00.000001",
        "10:00:00",
    ];
    for text in [3, 0, 4, 2, 1].map(|at| clock[at]) {
        it.create(&scope, "kinds", json!({"opens": text})).await?;
    }
    let module = it.crm.registry().get("kinds").context("declared")?.clone();
    let query = Query {
        sort: Sort::parse_list(&module, "opens").map_err(|e| Error::Invalid(vec![e]))?,
        limit: 2,
        ..Query::default()
    };
    let permit = scope.permit::<Read>("kinds")?;
    let seen = it.paged(&permit, query).await?;
    let seen: Vec<_> = seen
        .iter()
        .map(|record| json!(record.get("opens")))
        .collect();
    assert_eq!(seen, clock);
    Ok(())
}

async fn tenants_have_fields_of_these_types_too(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let shop = json!({
        "name": "shop", "type": "text", "max": 10,
    });
    for field in [
        shop,
        json!({"name": "from", "type": "time", "sort": true}),
        json!({"name": "token", "type": "uuid", "unique": true}),
        json!({"name": "price", "type": "money", "currency_field": "currency"}),
        json!({"name": "report", "type": "long_text", "search": true}),
    ] {
        let scope = it.crm.operator_in(it.tenant, request()).await?;
        let permit = scope.permit::<Update>("modules")?;
        let spec = serde_json::from_value(field)?;
        it.crm
            .custom_fields()
            .declare(&permit, "kinds", spec)
            .await?;
    }
    let scope = it.crm.operator_in(it.tenant, request()).await?;
    let mut made = Vec::new();
    for from in ["09:30:00.000001", "23:59:59.999999", "00:00", "09:30"] {
        let input = json!({
            "from": from, "price": "1.50", "currency": "EUR", "report": "a\nb",
            "token": uuid::Uuid::from_u128(made.len() as u128).to_string(),
        });
        made.push(it.create(&scope, "kinds", input).await?);
    }
    for record in &made {
        let read = it.get(&scope, "kinds", record.id).await?;
        assert_eq!(read.to_json(), record.to_json());
    }
    let fine = json!({"price": "1.5", "currency": "JPY"});
    assert_eq!(
        code(it.create(&scope, "kinds", fine).await),
        "validation_failed"
    );
    let module = scope.module("kinds").context("declared")?;
    let filter = Filter::parse(module, "from", "gte", "09:30");
    let query = Query {
        filter: Some(filter.map_err(|error| Error::Invalid(vec![error]))?),
        sort: Sort::parse_list(module, "from").map_err(|error| Error::Invalid(vec![error]))?,
        ..Query::default()
    };
    let expected = [3, 0, 1].map(|at: usize| made[at].id);
    assert_eq!(it.ids(&scope, "kinds", &query).await?, expected);
    Ok(())
}
