//! The search index that lies behind the writes: whatever it knows, a search finds what a scan
//! finds.

use super::*;
use crm_core::record::{Aggregate, Function, Metric};
use crm_core::value::Value;
use sqlx::{Connection as _, SqliteConnection};

on_both_databases!(
    a_search_finds_what_a_scan_finds_in_every_state_of_the_index,
    a_small_tenant_and_one_that_never_searches_have_no_index,
    counts_and_figures_of_a_search_are_those_of_a_scan_whatever_the_index_knows,
);

/// Records above which a tenant of these tests is large.
const LARGE: u32 = 40;

async fn open(backend: &Backend) -> anyhow::Result<Crm> {
    let crm = Crm::builder()
        .database(backend.url())
        .database_options(DatabaseOptions {
            large_tenant: LARGE,
            ..crm_core::testing::database_options()
        })
        .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
        .modules([ModuleSpec::from_toml(search::NOTES)?]);
    Ok(crm.build().await?)
}

/// What SQLite's index holds: tenants, numbered records, pending ones. None on PostgreSQL.
async fn held(backend: &Backend) -> anyhow::Result<Option<[i64; 3]>> {
    if !backend.url().starts_with("sqlite") {
        return Ok(None);
    }
    let mut connection = SqliteConnection::connect(backend.url()).await?;
    let (tenants, numbers, pending) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM \"notes.search.tenants\"), \
         (SELECT count(*) FROM \"notes.search.numbers\"), \
         (SELECT count(*) FROM \"notes.search.pending\")",
    )
    .fetch_one(&mut connection)
    .await?;
    Ok(Some([tenants, numbers, pending]))
}

/// The ids that a query finds, page by page, and the exact total that it tells.
async fn found(crm: &Crm, scope: &Scope, text: Option<&str>) -> anyhow::Result<Vec<RecordId>> {
    let permit = scope.permit::<Read>("notes")?;
    let (mut ids, mut cursor) = (Vec::new(), None);
    loop {
        let query = Query {
            search: text.map(str::to_owned),
            limit: 100,
            count: Count::Exact,
            cursor,
            ..Query::default()
        };
        let page = crm.records().list(&permit, &query).await?;
        ids.extend(page.data.iter().map(|record| record.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            let total = page.total.map(|total| total.count);
            assert_eq!(total, Some(ids.len() as u64), "{text:?}");
            return Ok(ids);
        }
    }
}

/// A small generator of numbers (SplitMix64), the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit as u64).unwrap_or(0)
    }

    /// Few letters, so that texts share parts.
    fn text(&mut self) -> String {
        const LETTERS: [&str; 7] = ["a", "B", "ä", "%", "_", "\"", "ab"];
        let length = 2 + self.below(6);
        (0..length).map(|_| LETTERS[self.below(7)]).collect()
    }
}

async fn a_search_finds_what_a_scan_finds_in_every_state_of_the_index(
    backend: Backend,
) -> anyhow::Result<()> {
    let mut crm = open(&backend).await?;
    let sqlite = backend.url().starts_with("sqlite");
    let acme = crm.tenants().create("Acme", request()).await?.id;
    let rival = crm.tenants().create("Rival", request()).await?.id;
    let mut random = Random(7);
    // What is there, by tenant, in memory.
    let mut there: [Vec<(RecordId, String)>; 2] = [Vec::new(), Vec::new()];
    let mut states = std::collections::BTreeSet::new();
    for round in 0..14 {
        for n in 0..90 {
            let which = usize::from(random.below(4) == 0);
            let scope = crm.operator([acme, rival][which], request());
            let records = crm.records();
            let notes = &mut there[which];
            match random.below(10) {
                0 | 1 if !notes.is_empty() => {
                    let (id, _) = notes.swap_remove(random.below(notes.len()));
                    records.delete(&scope.permit("notes")?, id, None).await?;
                }
                2..5 if !notes.is_empty() => {
                    let at = random.below(notes.len());
                    let title = random.text();
                    let change = body(json!({"title": title}));
                    let permit = scope.permit("notes")?;
                    records.update(&permit, notes[at].0, None, change).await?;
                    notes[at].1 = title;
                }
                _ => {
                    let title = random.text();
                    let note = body(json!({"title": title, "number": n}));
                    let note = records.create(&scope.permit("notes")?, note).await?;
                    notes.push((note.id, title));
                }
            }
        }
        for _ in 0..6 {
            let mut text: String = random.text().chars().take(4).collect();
            if round % 2 == 1 {
                let word: String = random.text().chars().take(3).collect();
                text = format!("{text} {word}");
            }
            let words = search::words_of(&text.to_ascii_lowercase());
            for (which, tenant) in [acme, rival].into_iter().enumerate() {
                let holds = |title: &str| {
                    let title = title.to_ascii_lowercase();
                    words.iter().all(|word| title.contains(word))
                };
                let matches = there[which].iter().filter(|(_, title)| holds(title));
                let mut expected: Vec<_> = matches.map(|(id, _)| *id).collect();
                expected.sort_unstable_by(|one, other| other.cmp(one));
                let scope = crm.operator(tenant, request());
                let mut ids = found(&crm, &scope, Some(&text)).await?;
                ids.sort_unstable_by(|one, other| other.cmp(one));
                assert_eq!(ids, expected, "{text:?} in round {round}");
            }
        }
        if let Some([tenants, numbers, pending]) = held(&backend).await? {
            states.insert((tenants > 0, numbers > 0, pending > 0));
        }
        // One step only, all of them, or none: every state is searched in.
        match round % 3 {
            0 => drop(crm.upkeep_once().await?),
            1 => while crm.upkeep_once().await? > 0 {},
            _ => {}
        }
        if round == 7 {
            // What was asked for is lost with the process, what was done is not.
            crm.close().await;
            crm = open(&backend).await?;
        }
    }
    if sqlite {
        assert!(states.contains(&(true, true, true)), "{states:?}");
        let scope = crm.operator(acme, request());
        found(&crm, &scope, Some("abab")).await?;
        while crm.upkeep_once().await? > 0 {}
        let [tenants, ..] = held(&backend).await?.unwrap_or_default();
        assert_eq!(tenants, 2);
    } else {
        assert_eq!(crm.upkeep_once().await?, 0);
    }
    crm.close().await;
    Ok(())
}

async fn a_small_tenant_and_one_that_never_searches_have_no_index(
    backend: Backend,
) -> anyhow::Result<()> {
    let crm = open(&backend).await?;
    let small = crm.tenants().create("Small", request()).await?.id;
    let silent = crm.tenants().create("Silent", request()).await?.id;
    for (tenant, count) in [(small, LARGE), (silent, LARGE + 1)] {
        let scope = crm.operator(tenant, request());
        for n in 0..count {
            let note = body(json!({"title": format!("Note {n}")}));
            crm.records().create(&scope.permit("notes")?, note).await?;
        }
    }
    let (small, silent) = (
        crm.operator(small, request()),
        crm.operator(silent, request()),
    );
    assert_eq!(found(&crm, &small, Some("note")).await?.len(), 40);
    // Two characters no index knows.
    assert_eq!(found(&crm, &silent, Some("te")).await?.len(), 41);
    // On PostgreSQL the search asks for a sample of the module's texts.
    let samples = usize::from(held(&backend).await?.is_none());
    assert_eq!(crm.upkeep_once().await?, samples);
    let nothing = held(&backend).await?.map(|_| [0, 0, 0]);
    assert_eq!(held(&backend).await?, nothing);

    // The first search of a large tenant asks for its part, and is right before and after.
    assert_eq!(found(&crm, &silent, Some("\"note 4\"")).await?.len(), 2);
    while crm.upkeep_once().await? > 0 {}
    assert_eq!(found(&crm, &silent, Some("\"note 4\"")).await?.len(), 2);
    if let Some(held) = held(&backend).await? {
        assert_eq!(held, [1, i64::from(LARGE) + 1, 0]);
    }
    crm.close().await;
    Ok(())
}

async fn counts_and_figures_of_a_search_are_those_of_a_scan_whatever_the_index_knows(
    backend: Backend,
) -> anyhow::Result<()> {
    let crm = open(&backend).await?;
    let tenant = crm.tenants().create("Acme", request()).await?.id;
    let scope = crm.operator(tenant, request());
    let create = scope.permit::<Create>("notes")?;
    let read = scope.permit::<Read>("notes")?;
    for n in 0..60 {
        let title = if n % 3 == 0 { "needle" } else { "straw" };
        let note = body(json!({"title": format!("{title} {n}"), "number": 1}));
        crm.records().create(&create, note).await?;
        let ask = Aggregate {
            search: Some("NEEDLE".to_owned()),
            metrics: vec![Metric {
                function: Function::Count,
                field: None,
            }],
            ..Default::default()
        };
        let groups = crm.records().aggregate(&read, &ask).await?;
        let hits = i64::from(n / 3 + 1);
        assert_eq!(groups.data[0].metrics, [Value::Int(hits)], "after {n}");
        if n % 7 == 0 {
            crm.upkeep_once().await?;
        }
        let query = Query {
            search: Some("needle".to_owned()),
            count: Count::Capped,
            ..Query::default()
        };
        let total = crm.records().count(&read, &query).await?;
        assert_eq!(total.count, hits.unsigned_abs(), "after {n}");
    }
    crm.close().await;
    Ok(())
}
