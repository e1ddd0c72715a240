//! Filters on references of every kind, zoned times, and fields behind references mean the same in
//! SQL as in memory.

use super::*;
use crm_core::module::CompiledModule;
use crm_core::record::{MAX_THROUGH, operators};
use crm_core::value::Value;
use proptest::sample::select;
use proptest::strategy::{Just, ValueTree};
use proptest::test_runner::{Config, RngSeed, TestRunner};

on_both_databases!(filters_on_references_mean_the_same_in_memory_and_in_sql_at_random);

const KNOTS: &str = r#"
name = "knots"
singular = "knot"
fields = [
    { name = "title", type = "text" },
    { name = "number", type = "integer" },
    { name = "next_id", type = "reference", module = "knots" },
    { name = "member_ids", type = "references", module = "knots", max_items = 4 },
    { name = "subject", type = "any_reference", modules = ["knots", "contacts"] },
    { name = "meets", type = "zoned" },
]
"#;
const FIELDS: [&str; 6] = [
    "title",
    "number",
    "next_id",
    "member_ids",
    "subject",
    "meets",
];
const MEETINGS: [&str; 3] = [
    "2026-03-01T09:30:00[Europe/Berlin]",
    "2026-03-01T09:30:00[UTC]",
    "2025-12-24T18:00:00[America/New_York]",
];

#[derive(Debug, Clone)]
enum Tree {
    /// A field, behind this reference if there is one, and what it is compared with.
    Leaf(Option<&'static str>, &'static str, &'static str, Json),
    And(Vec<Tree>),
    Or(Vec<Tree>),
    Not(Box<Tree>),
}

/// An operand that fits the field and the operator.
fn operand(name: &str, op: &str, ids: &[String], people: &[String]) -> BoxedStrategy<Json> {
    let subjects: Vec<String> = ids.iter().map(|id| format!("knots/{id}")).collect();
    let subjects = subjects.into_iter().chain(people.iter().cloned());
    let subjects: Vec<String> = subjects.collect();
    let one = match (name, op) {
        (_, "is_null") => return any::<bool>().prop_map(Json::from).boxed(),
        ("subject", "starts") => {
            let parts = ["", "knots/", "KNOTS/", "contacts/", "kn", "knots/0"];
            return select(parts.to_vec()).prop_map(Json::from).boxed();
        }
        ("title", _) => "[abAB%_]{0,2}".prop_map(Json::from).boxed(),
        ("number", _) => (-2..3_i64).prop_map(Json::from).boxed(),
        ("subject", _) => select(subjects).prop_map(Json::from).boxed(),
        ("meets", _) => select(MEETINGS.to_vec()).prop_map(Json::from).boxed(),
        _ => select(ids.to_vec()).prop_map(Json::from).boxed(),
    };
    match op {
        "in" | "nin" | "has_any" | "has_all" => {
            let list = prop::collection::vec(one, 0..3);
            list.prop_map(Json::from).boxed()
        }
        _ => one,
    }
}

fn tree(module: &CompiledModule, ids: &[String], people: &[String]) -> BoxedStrategy<Tree> {
    let mut leaves = Vec::new();
    for name in FIELDS {
        let kind = module.field(name).map(|field| field.kind.clone());
        for op in kind.iter().flat_map(operators) {
            let way = select(vec![None, Some("next_id"), Some("member_ids")]);
            let operand = operand(name, op, ids, people);
            let leaf = (way, operand).prop_map(move |(way, json)| Tree::Leaf(way, name, op, json));
            leaves.push(leaf.boxed());
        }
    }
    let leaf = prop::strategy::Union::new(leaves);
    let tree = leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Tree::And),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Tree::Or),
            inner.prop_map(|part| Tree::Not(Box::new(part))),
        ]
    });
    tree.boxed()
}

fn as_json(tree: &Tree) -> Json {
    match tree {
        Tree::Leaf(None, name, op, operand) => json!({*name: {*op: operand}}),
        Tree::Leaf(Some(way), name, op, operand) => {
            json!({format!("{way}.{name}"): {*op: operand}})
        }
        Tree::And(parts) => json!({"and": parts.iter().map(as_json).collect::<Vec<_>>()}),
        Tree::Or(parts) => json!({"or": parts.iter().map(as_json).collect::<Vec<_>>()}),
        Tree::Not(part) => json!({"not": as_json(part)}),
    }
}

fn behind(tree: &Tree) -> usize {
    match tree {
        Tree::Leaf(way, ..) => usize::from(way.is_some()),
        Tree::And(parts) | Tree::Or(parts) => parts.iter().map(behind).sum(),
        Tree::Not(part) => behind(part),
    }
}

/// Whether the record meets it, by what is known of all records.
fn holds(tree: &Tree, record: &Record, all: &[Record]) -> bool {
    match tree {
        Tree::And(parts) => parts.iter().all(|part| holds(part, record, all)),
        Tree::Or(parts) => parts.iter().any(|part| holds(part, record, all)),
        Tree::Not(part) => !holds(part, record, all),
        Tree::Leaf(None, ..) => {
            let filter = Filter::from_json(record.module(), &body(as_json(tree)));
            filter.is_ok_and(|filter| filter.matches(record))
        }
        Tree::Leaf(Some(way), name, op, operand) => {
            let there = Tree::Leaf(None, name, op, operand.clone());
            let ids = match record.get(way) {
                Some(Value::Uuid(id)) => vec![id.to_string()],
                Some(Value::Tags(ids)) => ids.clone(),
                _ => vec![],
            };
            let mut others = all.iter().filter(|one| ids.contains(&one.id.to_string()));
            others.any(|other| holds(&there, other, all))
        }
    }
}

async fn filters_on_references_mean_the_same_in_memory_and_in_sql_at_random(
    backend: Backend,
) -> anyhow::Result<()> {
    let mut runner = TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(11),
        ..Config::default()
    });
    let spec = ModuleSpec::from_toml(KNOTS)?;
    let it = Fixture::built(backend, |builder| builder.modules([spec])).await?;
    let scope = it.operator();
    let mut people = Vec::new();
    for n in 0..2 {
        let person = json!({"name": format!("person {n}")});
        let person = it.create(&scope, "contacts", person).await?;
        people.push(format!("contacts/{}", person.id));
    }
    let mut ids: Vec<String> = Vec::new();
    for _ in 0..30 {
        let known = match ids.is_empty() {
            true => Just(vec![]).boxed(),
            false => prop::sample::subsequence(ids.clone(), 0..=ids.len().min(4)).boxed(),
        };
        let subjects = people.iter().cloned();
        let subjects = subjects.chain(ids.iter().map(|id| format!("knots/{id}")));
        let next = ids.iter().cloned().map(Some).chain([None]);
        let knot = (
            prop::option::of("[abAB%_]{1,3}"),
            prop::option::of(-2..3_i64),
            select(next.collect::<Vec<_>>()),
            known,
            prop::option::of(select(subjects.collect::<Vec<_>>())),
            prop::option::of(select(MEETINGS.to_vec())),
        );
        let drawn = knot.new_tree(&mut runner);
        let (title, number, next, members, subject, meets) =
            drawn.map_err(|error| anyhow::anyhow!("{error}"))?.current();
        let knot = json!({
            "title": title, "number": number, "next_id": next, "member_ids": members,
            "subject": subject, "meets": meets,
        });
        ids.push(it.create(&scope, "knots", knot).await?.id.to_string());
    }
    let module = scope.module("knots").context("declared")?.clone();
    let query = Query {
        limit: 100,
        ..Query::default()
    };
    let permit = scope.permit::<Read>("knots")?;
    let all = it.crm.records().list(&permit, &query).await?.data;
    assert_eq!(all.len(), 30);
    // Behind a reference, an operand of a few ids finds something often enough.
    let tree = tree(&module, &ids[..6], &people);
    let (mut some, mut over) = (0, 0);
    for _ in 0..400 {
        let drawn = tree.new_tree(&mut runner);
        let tree = drawn.map_err(|error| anyhow::anyhow!("{error}"))?.current();
        let json = as_json(&tree);
        let filter = Filter::from_json_for(&scope, &module, &body(json.clone()));
        if behind(&tree) > MAX_THROUGH {
            assert!(filter.is_err_and(|refused| refused[0].code == "too_many"));
            continue;
        }
        let expected = all.iter().filter(|record| holds(&tree, record, &all));
        let expected: Vec<_> = expected.map(|record| record.id).collect();
        let query = Query {
            filter: Some(filter.map_err(Error::Invalid)?),
            ..query.clone()
        };
        assert_eq!(it.ids(&scope, "knots", &query).await?, expected, "{json}");
        let found = !expected.is_empty() && expected.len() < all.len();
        some += usize::from(found);
        over += usize::from(found && behind(&tree) > 0);
    }
    assert!(
        some > 150 && over > 80,
        "{some} {over}: they would show little"
    );
    Ok(())
}
