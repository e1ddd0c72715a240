//! What the search by vectors promises: exact, the same on both databases, within what the caller
//! may see.

use super::*;
use crm_core::record::{Nearest, Scored};
use crm_core::value::Value;

on_both_databases!(
    the_nearest_records_are_those_of_memory,
    of_equal_records_the_older_comes_first,
    a_nearest_search_sees_what_its_caller_may_see,
    a_nearest_search_that_asks_for_nothing_sensible_is_refused,
);

fn shape(n: u32) -> Json {
    // Any direction, every one different, none of them short in decimals.
    let angle = f64::from(n) * 2.399_963;
    json!([
        angle.cos() * f64::from(n + 1),
        angle.sin(),
        f64::from(n % 7) - 3.3
    ])
}

fn ask(it: &Fixture, vector: &Json) -> anyhow::Result<Nearest> {
    let module = it.crm.registry().get("kinds").context("declared")?;
    let vector = vector.as_array().context("a list")?;
    Ok(Nearest::new(module, "shape", vector).map_err(|one| Error::Invalid(vec![one]))?)
}

fn filter(it: &Fixture, json: Json) -> anyhow::Result<Option<Filter>> {
    let module = it.crm.registry().get("kinds").context("declared")?;
    Ok(Some(
        Filter::from_json(module, &body(json)).map_err(Error::Invalid)?,
    ))
}

fn told(found: &[Scored]) -> Vec<(RecordId, f64)> {
    found.iter().map(|one| (one.record.id, one.score)).collect()
}

/// Scores by the formula, of single records.
fn expected(all: &[Record], asked: &Json) -> Vec<(RecordId, f64)> {
    let numbers = |json: &Json| -> Vec<f64> {
        let items = json.as_array().into_iter().flatten();
        // What 32 bits keep of each number.
        items
            .map(|item| f64::from(item.as_f64().unwrap_or(0.0) as f32))
            .collect()
    };
    let asked = numbers(asked);
    let length = |vector: &[f64]| vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut scored: Vec<(RecordId, f64)> = all
        .iter()
        .filter(|record| !record.get("shape").is_none_or(Value::is_null))
        .map(|record| {
            let vector = numbers(&json!(record.get("shape")));
            let dot: f64 = asked.iter().zip(&vector).map(|(a, b)| a * b).sum();
            (record.id, dot / (length(&asked) * length(&vector)))
        })
        .collect();
    scored.sort_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));
    scored
}

async fn the_nearest_records_are_those_of_memory(backend: Backend) -> anyhow::Result<()> {
    let it = types::open(backend).await?;
    let scope = it.operator();
    let mut all = Vec::new();
    for n in 0..60 {
        let vector = if n % 10 == 9 { Json::Null } else { shape(n) };
        let input = json!({"shape": vector, "number": n % 4});
        all.push(it.create(&scope, "kinds", input).await?);
    }
    let permit = scope.permit::<Read>("kinds")?;
    let records = it.crm.records();
    for asked in [json!([1, 0, 0]), json!([0.1, -0.7, 2]), shape(23)] {
        let expected = expected(&all, &asked);
        let mut wanted = ask(&it, &asked)?;
        assert_eq!(
            told(&records.nearest(&permit, &wanted).await?),
            expected[..10]
        );
        wanted.limit = 100;
        assert_eq!(told(&records.nearest(&permit, &wanted).await?), expected);
        wanted.min_score = Some(0.5);
        let near: Vec<_> = expected
            .iter()
            .copied()
            .filter(|(_, score)| *score >= 0.5)
            .collect();
        assert_eq!(told(&records.nearest(&permit, &wanted).await?), near);
        wanted.min_score = None;
        wanted.filter = filter(&it, json!({"number": {"in": [1, 2]}}))?;
        let some = expected.iter().copied().filter(|(id, _)| {
            let record = all.iter().find(|record| record.id == *id);
            let number = record.map(|record| json!(record.get("number")));
            number == Some(json!(1)) || number == Some(json!(2))
        });
        let some: Vec<_> = some.collect();
        assert_eq!(told(&records.nearest(&permit, &wanted).await?), some);
    }
    let itself = records.nearest(&permit, &ask(&it, &shape(23))?).await?;
    assert_eq!(itself[0].record.id, all[23].id);
    assert!((itself[0].score - 1.0).abs() < 1e-9);
    Ok(())
}

async fn of_equal_records_the_older_comes_first(backend: Backend) -> anyhow::Result<()> {
    let it = types::open(backend).await?;
    let scope = it.operator();
    let mut made = Vec::new();
    for factor in [1.0, 4.0, 0.5, 2.0] {
        let vector = [factor, 2.0 * factor, -factor];
        made.push(
            it.create(&scope, "kinds", json!({"shape": vector}))
                .await?
                .id,
        );
    }
    let permit = scope.permit::<Read>("kinds")?;
    let mut wanted = ask(&it, &json!([1, 2, -1]))?;
    wanted.limit = 3;
    let found = it.crm.records().nearest(&permit, &wanted).await?;
    let ids: Vec<_> = found.iter().map(|one| one.record.id).collect();
    assert_eq!(ids, made[..3]);
    Ok(())
}

async fn a_nearest_search_sees_what_its_caller_may_see(backend: Backend) -> anyhow::Result<()> {
    let it = types::open(backend).await?;
    let scope = it.operator();
    let (member, user) = it.member("member").await?;
    let theirs = it
        .create(&scope, "kinds", json!({"shape": [1, 0, 0]}))
        .await?;
    let own = json!({"shape": [1, 1, 0], "owner_id": user.to_string()});
    let own = it.create(&scope, "kinds", own).await?;
    let rival = it.crm.tenants().create("Rival", request()).await?.id;
    let rival = it.crm.operator(rival, request());
    it.create(&rival, "kinds", json!({"shape": [1, 0, 0]}))
        .await?;

    let ids = async |scope: &Scope| -> anyhow::Result<Vec<RecordId>> {
        let permit = scope.permit::<Read>("kinds")?;
        let found = it
            .crm
            .records()
            .nearest(&permit, &ask(&it, &json!([1, 0, 0]))?)
            .await?;
        Ok(found.iter().map(|one| one.record.id).collect())
    };
    assert_eq!(ids(&scope).await?, [theirs.id, own.id]);
    assert_eq!(ids(&rival).await?.len(), 1);
    let visible = it.ids(&member, "kinds", &Query::default()).await?;
    let mut found = ids(&member).await?;
    found.sort_unstable();
    let mut listed = visible.clone();
    listed.sort_unstable();
    assert_eq!(found, listed, "as a list shows them");
    Ok(())
}

async fn a_nearest_search_that_asks_for_nothing_sensible_is_refused(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = types::open(backend).await?;
    let permit = it.operator().permit::<Read>("kinds")?;
    let module = it.crm.registry().get("kinds").context("declared")?.clone();
    for (field, vector, expected) in [
        ("shape", json!([0, 0, 0]), "zero_vector"),
        ("shape", json!([1, 2]), "wrong_dimensions"),
        ("shape", json!([1, 2, "x"]), "wrong_type"),
        ("story", json!([1, 2, 3]), "unknown_field"),
        ("none", json!([1, 2, 3]), "unknown_field"),
    ] {
        let vector = vector.as_array().cloned().unwrap_or_default();
        let refused = Nearest::new(&module, field, &vector);
        assert_eq!(refused.map_err(|one| one.code), Err(expected));
    }
    for (limit, min_score) in [(0, None), (101, None), (5, Some(1.01)), (5, Some(f64::NAN))] {
        let mut wanted = ask(&it, &json!([1, 2, 3]))?;
        (wanted.limit, wanted.min_score) = (limit, min_score);
        let refused = it.crm.records().nearest(&permit, &wanted).await;
        assert_eq!(code(refused), "validation_failed");
    }
    Ok(())
}
