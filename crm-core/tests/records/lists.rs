//! What lists promise: each record once in every order, filters that mean in SQL what they mean in
//! memory, and a search that takes its text literally.

use super::*;

on_both_databases!(
    paging_visits_each_record_once_in_every_order,
    a_cursor_of_another_query_is_refused,
    a_filter_means_the_same_in_memory_and_in_sql,
    search_takes_percent_and_underscore_literally,
);

async fn paging_visits_each_record_once_in_every_order(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    for n in 0..23_i64 {
        // Few distinct values and some absent ones, so that ties and the end of values are crossed.
        let present = n % 4 != 0;
        let input = json!({
            "title": present.then(|| format!("t{}", n % 3)),
            "number": present.then_some(n % 5),
            "price": present.then(|| format!("{}.5", n % 2)),
        });
        it.create(&scope, "things", input).await?;
    }
    let module = it.crm.registry().get("things").context("declared")?.clone();
    let mut all = it
        .ids(
            &scope,
            "things",
            &Query {
                limit: 100,
                ..Query::default()
            },
        )
        .await?;
    all.sort();
    for name in ["id", "created_at", "title", "number", "price", "due"] {
        for sort in [name.to_owned(), format!("-{name}")] {
            let sort = Sort::parse(&module, &sort).map_err(|e| Error::Invalid(vec![e]))?;
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let query = Query {
                    sort: sort.into(),
                    limit: 4,
                    cursor,
                    ..Query::default()
                };
                let permit = scope.permit::<Read>("things")?;
                let page = it.crm.records().list(&permit, &query).await?;
                seen.extend(page.data.iter().map(|record| record.id));
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            let whole = Query {
                sort: sort.into(),
                limit: 100,
                ..Query::default()
            };
            assert_eq!(seen, it.ids(&scope, "things", &whole).await?, "{name}");
            seen.sort();
            assert_eq!(seen, all, "{name}");
        }
    }
    Ok(())
}

async fn a_cursor_of_another_query_is_refused(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    for n in 0..3 {
        it.create(&scope, "things", json!({"number": n})).await?;
    }
    let permit = scope.permit::<Read>("things")?;
    let query = Query {
        limit: 1,
        ..Query::default()
    };
    let cursor = it
        .crm
        .records()
        .list(&permit, &query)
        .await?
        .next_cursor
        .context("more")?;
    let sort = Sort {
        field: Field::Declared(2),
        direction: Direction::Ascending,
    };
    for other in [
        Query {
            cursor: Some(cursor.clone()),
            sort: sort.into(),
            ..query.clone()
        },
        Query {
            cursor: Some(cursor.clone()),
            search: Some("x".into()),
            ..query.clone()
        },
        Query {
            cursor: Some(format!("{cursor}x")),
            ..query.clone()
        },
        Query {
            cursor: Some("e30".into()),
            ..query.clone()
        },
    ] {
        assert_eq!(
            code(it.crm.records().list(&permit, &other).await),
            "validation_failed"
        );
    }
    Ok(())
}

/// Conditions as a client writes them: field, operator, operand.
fn condition() -> impl Strategy<Value = (&'static str, &'static str, String)> {
    prop_oneof![
        (
            "[ab%_]{0,2}",
            prop::sample::select(vec!["eq", "ne", "lt", "gte", "contains", "starts"])
        )
            .prop_map(|(text, op)| ("title", op, text)),
        (
            "[aA]@[bB]\\.example",
            prop::sample::select(vec!["eq", "ne", "in", "contains"])
        )
            .prop_map(|(text, op)| ("email", op, text)),
        (
            -2..3_i64,
            prop::sample::select(vec!["eq", "ne", "lt", "lte", "gt", "gte", "in", "nin"])
        )
            .prop_map(|(n, op)| ("number", op, n.to_string())),
        (
            -2..3_i64,
            prop::sample::select(vec!["eq", "ne", "lt", "gte", "nin"])
        )
            .prop_map(|(n, op)| ("price", op, format!("{n}.5"))),
        (
            any::<bool>(),
            prop::sample::select(vec!["eq", "ne", "is_null"])
        )
            .prop_map(|(yes, op)| ("done", op, yes.to_string())),
        (1..4_u32, prop::sample::select(vec!["eq", "lt", "gte"])).prop_map(|(day, op)| (
            "due",
            op,
            format!("2025-01-0{day}")
        )),
        (
            11..15_u32,
            prop::sample::select(vec!["eq", "ne", "lte", "gt"])
        )
            .prop_map(|(days, op)| ("due", op, format!("today-{days}d"))),
        "[ab]".prop_map(|tag| ("tags", "has", tag)),
        (
            "[abc](,[abc]){0,2}",
            prop::sample::select(vec!["has_any", "has_all"])
        )
            .prop_map(|(tags, op)| ("tags", op, tags)),
        (
            "[aA]{0,1}",
            prop::sample::select(vec!["starts", "contains"])
        )
            .prop_map(|(text, op)| ("email", op, text)),
        (prop::sample::select(vec!["in", "nin"])).prop_map(|op| (
            "stage",
            op,
            "new,old".to_owned()
        )),
        any::<bool>().prop_map(|yes| ("tags", "is_null", yes.to_string())),
        prop::sample::select(vec!["new", "old"]).prop_map(|s| ("stage", "ne", s.to_owned())),
    ]
}

/// Conditions joined.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Leaf(&'static str, &'static str, String),
    And(Vec<Tree>),
    Or(Vec<Tree>),
    Not(Box<Tree>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = condition().prop_map(|(name, op, text)| Tree::Leaf(name, op, text));
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Tree::And),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Tree::Or),
            inner.prop_map(|part| Tree::Not(Box::new(part))),
        ]
    })
}

fn thing() -> impl Strategy<Value = Json> {
    (
        prop::option::of("[abAB%_]{1,3}"),
        prop::option::of("[aA]@[bB]\\.example"),
        prop::option::of(-2..3_i64),
        prop::option::of(-2..3_i64),
        prop::option::of(any::<bool>()),
        prop::option::of(1..4_u32),
        prop::option::of(prop::sample::select(vec!["new", "old"])),
        prop::sample::subsequence(vec!["a", "b"], 0..=2),
    )
        .prop_map(|(title, email, count, price, done, due, stage, tags)| {
            json!({
                "title": title, "email": email, "number": count,
                "price": price.map(|n| format!("{n}.5")), "done": done,
                "due": due.map(|day| format!("2025-01-0{day}")), "stage": stage, "tags": tags,
            })
        })
}

fn compile(module: &crm_core::module::CompiledModule, tree: Tree) -> crm_core::Result<Filter> {
    let all = |parts: Vec<Tree>| -> crm_core::Result<Vec<_>> {
        parts
            .into_iter()
            .map(|part| compile(module, part))
            .collect()
    };
    Ok(match tree {
        Tree::Leaf(name, op, text) => {
            Filter::parse(module, name, op, &text).map_err(|error| Error::Invalid(vec![error]))?
        }
        Tree::And(parts) => Filter::And(all(parts)?),
        Tree::Or(parts) => Filter::Or(all(parts)?),
        Tree::Not(part) => Filter::Not(Box::new(compile(module, *part)?)),
    })
}

async fn a_filter_means_the_same_in_memory_and_in_sql(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    filters_mean_the_same(&it, &it.operator(), "things").await
}

/// Of a module with the fields of things.
pub(super) async fn filters_mean_the_same(
    it: &Fixture,
    scope: &Scope,
    name: &str,
) -> anyhow::Result<()> {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngSeed, TestRunner};

    let mut runner = TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(7),
        ..Config::default()
    });
    let mut draw =
        |strategy: &dyn Fn(&mut TestRunner) -> anyhow::Result<Json>| strategy(&mut runner);
    for _ in 0..40 {
        let input = draw(&|runner| {
            Ok(thing()
                .new_tree(runner)
                .map_err(|e| anyhow::anyhow!("{e}"))?
                .current())
        })?;
        it.create(scope, name, input).await?;
    }
    let module = scope.module(name).context("declared")?.clone();
    let permit = scope.permit::<Read>(name)?;
    let all = it
        .crm
        .records()
        .list(
            &permit,
            &Query {
                limit: 100,
                ..Query::default()
            },
        )
        .await?
        .data;
    assert_eq!(all.len(), 40);
    for _ in 0..300 {
        let tree = tree()
            .new_tree(&mut runner)
            .map_err(|e| anyhow::anyhow!("{e}"))?
            .current();
        let filter = compile(&module, tree.clone())?;
        let of_json =
            Filter::from_json(&module, &body(query::as_json(&tree))).map_err(Error::Invalid)?;
        let expected: Vec<_> = all
            .iter()
            .filter(|record| filter.matches(record))
            .map(|record| record.id)
            .collect();
        let alike = all.iter().filter(|record| of_json.matches(record));
        assert!(
            alike.map(|record| record.id).eq(expected.iter().copied()),
            "{tree:?}"
        );
        for filter in [filter, of_json] {
            let query = Query {
                filter: Some(filter),
                limit: 100,
                ..Query::default()
            };
            assert_eq!(it.ids(scope, name, &query).await?, expected, "{tree:?}");
        }
    }
    Ok(())
}

async fn search_takes_percent_and_underscore_literally(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    for title in ["100% wool", "100 wool", "a_b", "axb", r"back\slash"] {
        it.create(
            &scope,
            "things",
            json!({"title": title, "tags": ["Wool_mark"]}),
        )
        .await?;
    }
    for (text, hits) in [
        ("0% W", 1),
        ("A_b", 1),
        (r"k\S", 1),
        ("wool_M", 5),
        ("ol_", 5),
        ("%%", 0),
    ] {
        let query = Query {
            search: Some(text.to_owned()),
            ..Query::default()
        };
        assert_eq!(
            it.ids(&scope, "things", &query).await?.len(),
            hits,
            "{text}"
        );
    }
    let long = Query {
        search: Some("x".repeat(201)),
        ..Query::default()
    };
    assert_eq!(
        code(it.ids(&scope, "things", &long).await),
        "validation_failed"
    );
    Ok(())
}
