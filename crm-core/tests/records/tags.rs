//! Tags are found whole, whatever they are made of.

use super::*;

on_both_databases!(a_tag_is_found_whole_whatever_it_and_its_neighbours_are_made_of);

/// What a careless reading of a list's text would take for its ends.
const ODD: [&str; 16] = [
    ",", "a,", ",a", "a", "\"", "a\"", "\"a", "\",\"", "\\", "a\\", "\\\"", "[", "[\"a\"", "]",
    "ä\u{1}", "🙂",
];

async fn a_tag_is_found_whole_whatever_it_and_its_neighbours_are_made_of(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    let mut there: Vec<(RecordId, Vec<&str>)> = Vec::new();
    for (at, one) in ODD.into_iter().enumerate() {
        for other in &ODD[at..] {
            let mut tags = vec![one];
            if *other != one {
                tags.push(other);
            }
            if at % 2 == 0 {
                tags.reverse();
            }
            let thing = it.create(&scope, "things", json!({"tags": tags})).await?;
            there.push((thing.id, tags));
        }
    }
    it.create(&scope, "things", json!({"title": "none"}))
        .await?;
    let permit = scope.permit::<Read>("things")?;
    let module = it.crm.registry().get("things").context("things")?;
    let found = async |filter: Json| -> anyhow::Result<Vec<RecordId>> {
        let filter = filter.as_object().context("an object")?;
        let filter =
            Filter::from_json(module, filter).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let (mut ids, mut cursor) = (Vec::new(), None);
        loop {
            let query = Query {
                filter: Some(filter.clone()),
                limit: 100,
                cursor,
                sort: vec![Sort {
                    field: Field::Id,
                    direction: Direction::Ascending,
                }],
                ..Query::default()
            };
            let page = it.crm.records().list(&permit, &query).await?;
            ids.extend(page.data.iter().map(|record| record.id));
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(ids);
            }
        }
    };
    for tag in ODD {
        let holds = there.iter().filter(|(_, tags)| tags.contains(&tag));
        let expected: Vec<_> = holds.map(|(id, _)| *id).collect();
        assert_eq!(
            found(json!({"tags": {"has": tag}})).await?,
            expected,
            "{tag:?}"
        );
        let none = json!({"not": {"tags": {"has": tag}}});
        let others = there.len() + 1 - expected.len();
        assert_eq!(found(none).await?.len(), others, "not {tag:?}");
        let all = json!({"tags": {"has_all": [tag, "a"]}});
        let both = there
            .iter()
            .filter(|(_, tags)| tags.contains(&tag) && tags.contains(&"a"));
        assert_eq!(found(all).await?.len(), both.count(), "{tag:?} and a");
        let any = json!({"tags": {"has_any": [tag, "a"]}});
        let either = there
            .iter()
            .filter(|(_, tags)| tags.contains(&tag) || tags.contains(&"a"));
        assert_eq!(found(any).await?.len(), either.count(), "{tag:?} or a");
    }
    Ok(())
}
