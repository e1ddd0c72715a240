//! What the substring search promises, with and without an index.

use super::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};

on_both_databases!(
    an_indexed_search_finds_what_a_scan_finds_whatever_was_written,
    a_text_that_many_records_hold_is_found_page_by_page,
    a_module_gets_its_search_index_and_loses_it_with_records_there,
);

/// A module whose search has an index, with a twin field that is compared without one.
pub(super) const NOTES: &str = r#"
name = "notes"
singular = "note"
search = "indexed"
fields = [
    { name = "title", type = "text", search = true, sort = true },
    { name = "email", type = "email", search = true },
    { name = "phone", type = "phone", search = true },
    { name = "number", type = "integer" },
]
"#;

const TEXT: &str = "[aAbB%_ '\"\\\\äÄß€\\*-]{1,7}";

/// What the search means, in memory: a field holds the text, ASCII letters in either case.
fn holds(record: &Record, text: &str) -> bool {
    let wanted = text.to_ascii_lowercase();
    ["title", "email", "phone"].iter().any(|name| {
        let value = record.get(name).and_then(|value| value.as_text());
        value.is_some_and(|value| value.to_ascii_lowercase().contains(&wanted))
    })
}

async fn an_indexed_search_finds_what_a_scan_finds_whatever_was_written(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let rival = it.crm.tenants().create("Rival", request()).await?.id;
    let scopes = [it.operator(), it.crm.operator(rival, request())];
    let mut runner = TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(3),
        ..Config::default()
    });
    let mut draw = |strategy: &str| -> anyhow::Result<String> {
        let tree = proptest::string::string_regex(strategy)?.new_tree(&mut runner);
        Ok(tree.map_err(|error| anyhow::anyhow!("{error}"))?.current())
    };
    let whole = Query {
        limit: 100,
        ..Query::default()
    };
    let mut made = Vec::new();
    for n in 0..90 {
        let scope = &scopes[n % 2];
        let note = json!({
            "title": draw(TEXT)?, "number": n,
            "email": (n % 3 == 0).then(|| draw("[abAB]{1,4}@[ab]{2}\\.[ab]{2}")).transpose()?,
            "phone": (n % 5 == 0).then(|| draw("[12 ]{2}[12]{2}")).transpose()?,
        });
        let note = it.create(scope, "notes", note).await?;
        match n % 6 {
            1 => it.delete(scope, &note).await?,
            2 => {
                let change = json!({"title": draw(TEXT)?, "email": null});
                made.push(it.update(scope, &note, None, change).await?);
            }
            3 => made.push(it.update(scope, &note, None, json!({"number": -1})).await?),
            _ => made.push(note),
        }
    }
    for n in 0..300 {
        // PostgreSQL's searches go by a sample of the texts from then on.
        if n == 100 {
            it.crm.upkeep_once().await?;
        }
        // A part of what is there, or anything.
        let letters: Vec<char> = match made[n % made.len()].get("title") {
            Some(title) if n % 2 == 0 => title.as_text().unwrap_or_default().chars().collect(),
            _ => draw(TEXT)?.chars().collect(),
        };
        let from = n % 4 % letters.len().max(1);
        let text: String = letters.iter().skip(from).take(3 + n % 3).collect();
        if text.is_empty() {
            continue;
        }
        for scope in &scopes {
            let permit = scope.permit::<Read>("notes")?;
            let all = it.crm.records().list(&permit, &whole).await?.data;
            let expected = all.iter().filter(|record| holds(record, &text));
            let expected: Vec<_> = expected.map(|record| record.id).collect();
            let query = Query {
                search: Some(text.clone()),
                count: Count::Exact,
                ..whole.clone()
            };
            let page = it.crm.records().list(&permit, &query).await?;
            let found: Vec<_> = page.data.iter().map(|record| record.id).collect();
            assert_eq!(found, expected, "{text:?}");
            let total = page.total.map(|total| total.count);
            assert_eq!(total, Some(expected.len() as u64), "{text:?}");
        }
    }
    Ok(())
}

async fn a_text_that_many_records_hold_is_found_page_by_page(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    for n in 0..300 {
        // Some have their text in the title, some in the address, some nowhere.
        let note = match n % 10 {
            0 => json!({"title": "rare"}),
            1 => json!({"email": format!("n{n}@common.example")}),
            _ => json!({"title": format!("Common {n}")}),
        };
        it.create(&scope, "notes", note).await?;
    }
    let permit = scope.permit::<Read>("notes")?;
    for (text, hits) in [("common", 270), ("rare", 30), ("common 29", 9), ("co", 270)] {
        let (mut seen, mut cursor) = (std::collections::BTreeSet::new(), None);
        loop {
            let query = Query {
                search: Some(text.to_owned()),
                limit: 50,
                cursor,
                ..Query::default()
            };
            let page = it.crm.records().list(&permit, &query).await?;
            for record in &page.data {
                assert!(seen.insert(record.id), "{text}: twice");
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), hits, "{text}");
    }
    Ok(())
}

async fn a_module_gets_its_search_index_and_loses_it_with_records_there(
    backend: Backend,
) -> anyhow::Result<()> {
    const PLAIN: &str = r#"
        name = "papers"
        singular = "paper"
        fields = [{ name = "title", type = "text", search = true }, { name = "size", type = "integer" }]
    "#;
    let open = async |text: &str| -> anyhow::Result<Crm> {
        let crm = Crm::builder()
            .database(backend.url())
            .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
            .modules([ModuleSpec::from_toml(text)?]);
        Ok(crm.build().await?)
    };
    let indexed = PLAIN.replace("singular", "search = \"indexed\"\nsingular");
    // Another rule for a field makes SQLite build the table anew under its index.
    let narrower = indexed.replace("\"integer\"", "\"integer\", max = 9");
    let two_fields = narrower.replace(
        "max = 9 }",
        "max = 9 }, { name = \"note\", type = \"text\", search = true }",
    );
    let mut tenant = None;
    let rounds = [PLAIN, &indexed, &narrower, &two_fields, &two_fields];
    for (round, text) in rounds.into_iter().enumerate() {
        let crm = open(text).await?;
        let tenant = match tenant {
            Some(tenant) => tenant,
            None => *tenant.insert(crm.tenants().create("Acme", request()).await?.id),
        };
        let scope = crm.operator(tenant, request());
        let create = scope.permit::<Create>("papers")?;
        let paper = body(json!({"title": format!("Paper {round} of all")}));
        crm.records().create(&create, paper).await?;
        for (text, hits) in [
            ("paper", round + 1),
            (" 0 OF", 1),
            ("pa", round + 1),
            ("none", 0),
        ] {
            let query = Query {
                search: Some(text.to_owned()),
                ..Query::default()
            };
            let page = crm
                .records()
                .list(&scope.permit::<Read>("papers")?, &query)
                .await?;
            assert_eq!(page.data.len(), hits, "{text} in round {round}");
        }
        crm.close().await;
    }
    let schema =
        crm_core::Schema::open(backend.url(), &DatabaseOptions::default(), Clock::system()).await?;
    let without = two_fields.replace("search = \"indexed\"\n", "");
    let registry = crm_core::Registry::new(vec![ModuleSpec::from_toml(&without)?])?;
    let plan = schema.plan(&registry).await?;
    let plan: Vec<_> = plan.iter().map(|step| step.summary.as_str()).collect();
    assert_eq!(plan, ["papers: drop search index"]);
    schema.apply(&registry).await?;
    assert_eq!(schema.plan(&registry).await?, []);
    schema.close().await;
    Ok(())
}
