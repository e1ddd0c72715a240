//! What the substring search promises, with and without an index.

use super::field_lists::invalid;
use super::*;
use crm_core::record::{Aggregate, Function, Metric};
use crm_core::value::Value;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};

on_both_databases!(
    xc_21_every_word_is_in_one_of_the_fields_whatever_asks,
    xc_21_ascii_letters_fold_and_others_are_found_as_they_were_written,
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

/// What the search means, in memory: each word is in a field, ASCII letters in either case.
pub(super) fn holds(record: &Record, words: &[String]) -> bool {
    let texts = ["title", "email", "phone"].map(|name| {
        let text = record.get(name).and_then(|value| value.as_text());
        text.map(str::to_ascii_lowercase)
    });
    words.iter().all(|word| {
        let wanted = word.to_ascii_lowercase();
        texts.iter().flatten().any(|text| text.contains(&wanted))
    })
}

/// The words that a text of these letters is read as, letter by letter.
pub(super) fn words_of(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    let ends = |at: usize| at >= letters.len() || letters[at] == ' ';
    let (mut words, mut at) = (Vec::new(), 0);
    while at < letters.len() {
        let quoted = letters[at] == '"' && !(letters.get(at + 1) == Some(&'"') && ends(at + 2));
        let closing = (at + 1..letters.len()).find(|end| letters[*end] == '"' && ends(end + 1));
        match closing {
            _ if letters[at] == ' ' => at += 1,
            Some(end) if quoted => {
                words.push(letters[at + 1..end].iter().collect());
                at = end + 1;
            }
            _ => {
                let end = (at..letters.len()).find(|end| ends(*end));
                let end = end.unwrap_or(letters.len());
                words.push(letters[at..end].iter().collect());
                at = end;
            }
        }
    }
    // Blanks alone are the empty text.
    if words.is_empty() {
        words.push(String::new());
    }
    words
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
        let mut text: String = letters.iter().skip(from).take(3 + n % 3).collect();
        // Another word, a phrase, or several words that few records hold together.
        match n % 5 {
            1 => text = format!("{text} {}", draw("[aAbB12@ä]{1,3}")?),
            2 => text = format!("\"{text}\""),
            3 => text = format!("{} \"{text}\" {}", draw("[ab]{1,2}")?, draw("[a.@]{1,3}")?),
            _ => {}
        }
        if text.is_empty() {
            continue;
        }
        let words = words_of(&text);
        for scope in &scopes {
            let permit = scope.permit::<Read>("notes")?;
            let all = it.crm.records().list(&permit, &whole).await?.data;
            let expected = all.iter().filter(|record| holds(record, &words));
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

async fn xc_21_every_word_is_in_one_of_the_fields_whatever_asks(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    for (title, email) in [
        ("Ada King", "lovelace@analytical.example"),
        ("King Ada", "other@analytical.example"),
        ("Ada", "king@royal.example"),
        ("100% Ada_K", "k@ing.example"),
    ] {
        it.create(
            &scope,
            "notes",
            json!({"title": title, "email": email, "number": 1}),
        )
        .await?;
    }
    let permit = scope.permit::<Read>("notes")?;
    let records = it.crm.records();
    for (text, hits) in [
        ("ada king", 3),
        ("KING   aDa", 3),
        ("\"ada king\"", 1),
        ("\"king ada\" other", 1),
        ("ada king analytical", 2),
        ("ada king royal", 1),
        ("ada nobody", 0),
        ("ad ki", 3),
        ("k ada a_k 0%", 1),
        ("\"ada", 0),
    ] {
        let query = Query {
            search: Some(text.to_owned()),
            count: Count::Exact,
            ..Query::default()
        };
        let page = records.list(&permit, &query).await?;
        assert_eq!(page.data.len(), hits, "{text}");
        assert_eq!(records.count(&permit, &query).await?.count, hits as u64);
        let ask = Aggregate {
            search: Some(text.to_owned()),
            metrics: vec![Metric {
                function: Function::Count,
                field: None,
            }],
            ..Default::default()
        };
        let groups = records.aggregate(&permit, &ask).await?;
        assert_eq!(groups.data[0].metrics, [Value::Int(hits as i64)], "{text}");
    }
    let many = Query {
        search: Some("a ".repeat(17)),
        ..Query::default()
    };
    let refusal = records.list(&permit, &many).await;
    assert_eq!(invalid(refusal), [("/search".into(), "too_many")]);
    Ok(())
}

async fn xc_21_ascii_letters_fold_and_others_are_found_as_they_were_written(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    it.create(&scope, "notes", json!({"title": "Zürich Ärzte"}))
        .await?;
    let permit = scope.permit::<Read>("notes")?;
    for (text, hits) in [
        ("ZüRICH", 1),
        ("ZÜRICH", 0),
        ("Ärzte zür", 1),
        ("ärzte", 0),
        ("Är", 1),
        ("är", 0),
    ] {
        let query = Query {
            search: Some(text.to_owned()),
            ..Query::default()
        };
        let page = it.crm.records().list(&permit, &query).await?;
        assert_eq!(page.data.len(), hits, "{text}");
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
    for (text, hits) in [
        ("common", 270),
        ("rare", 30),
        ("\"common 29\"", 9),
        ("common 29", 12),
        ("29 common example", 1),
        ("example n29", 1),
        ("rare common", 0),
        ("co", 270),
    ] {
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
            .database_options(crm_core::testing::database_options())
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
            ("\" 0 OF\"", 1),
            (" 0 OF", 1),
            ("all paper", round + 1),
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
