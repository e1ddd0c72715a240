//! References under a merge: those to the merged records lead to the survivor, and none to itself.

use super::merge::{from, get, merge, open, person};
use super::*;

on_both_databases!(
    a_merge_points_every_reference_to_the_survivor,
    a_merge_of_records_that_refer_to_each_other_leaves_no_circle,
    a_merge_of_records_that_list_or_name_each_other_leaves_no_link_to_itself,
    a_merge_unites_lists_of_references,
    a_required_reference_to_a_merged_record_refuses_the_merge,
);

async fn a_merge_points_every_reference_to_the_survivor(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let people = [
        person(&it, json!({"first_name": "A"})).await?,
        person(&it, json!({"first_name": "B"})).await?,
        person(&it, json!({"first_name": "C"})).await?,
    ];
    let mut calls = Vec::new();
    for person in &people {
        calls.push(
            it.create(&scope, "calls", json!({"person_id": person.id}))
                .await?,
        );
    }
    let worker = person(&it, json!({"first_name": "W", "boss_id": people[1].id})).await?;
    // What is final, and what is in the trash, follows too.
    it.update(&scope, &calls[1], None, json!({"state": "done"}))
        .await?;
    it.delete(&scope, &calls[2]).await?;
    merge(&it, &scope, &people[0], from(&[&people[1], &people[2]])).await?;
    let permit = scope.permit::<Delete>("calls")?;
    it.crm.records().restore(&permit, calls[2].id, None).await?;
    for (call, version) in calls.iter().zip([1, 3, 4]) {
        let now = it.get(&scope, "calls", call.id).await?;
        assert_eq!(
            (get(&now, "person_id"), now.version),
            (json!(people[0].id), version)
        );
    }
    let now = it.get(&scope, "persons", worker.id).await?;
    assert_eq!(
        (get(&now, "boss_id"), now.version),
        (json!(people[0].id), 2)
    );
    Ok(())
}

async fn a_merge_of_records_that_refer_to_each_other_leaves_no_circle(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    for module in ["persons", "firms"] {
        let (title, field) = match module {
            "persons" => ("first_name", "boss_id"),
            _ => ("title", "mother_id"),
        };
        let above = it.create(&scope, module, json!({title: "above"})).await?;
        let a = it.create(&scope, module, json!({title: "A"})).await?;
        let b = it
            .create(&scope, module, json!({title: "B", field: a.id}))
            .await?;
        let c = it
            .create(&scope, module, json!({title: "C", field: b.id}))
            .await?;
        it.update(&scope, &a, None, json!({field: c.id})).await?;
        let d = it
            .create(&scope, module, json!({title: "D", field: above.id}))
            .await?;
        let merged = merge(&it, &scope, &a, from(&[&b, &c, &d])).await?;
        // Its own reference pointed to one of them.
        assert_eq!(get(&merged, field), Json::Null, "{module}");
        let left = it.ids(&scope, module, &Query::default()).await?;
        assert_eq!(left, [a.id, above.id], "{module}");
    }
    Ok(())
}

async fn team(it: &Fixture, json: Json) -> crm_core::Result<Record> {
    it.create(&it.operator(), "teams", json).await
}

/// What of the record names others, as it is stored.
async fn links(it: &Fixture, record: &Record) -> anyhow::Result<[Json; 3]> {
    let name = record.module().name().as_str();
    let record = it.get(&it.operator(), name, record.id).await?;
    let json: Json = serde_json::from_str(&record.to_json())?;
    Ok(["sister_ids", "firm_ids", "about"].map(|field| json[field].clone()))
}

async fn a_merge_of_records_that_list_or_name_each_other_leaves_no_link_to_itself(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let naming = |other: &Record| {
        let about = format!("teams/{}", other.id);
        json!({"title": "naming", "sister_ids": [other.id], "about": about})
    };
    let none = [json!([]), json!([]), Json::Null];
    // One of the others names another one.
    let a = team(&it, json!({"title": "A"})).await?;
    let b = team(&it, json!({"title": "B"})).await?;
    let c = team(&it, naming(&b)).await?;
    merge(&it, &scope, &a, from(&[&b, &c])).await?;
    assert_eq!(links(&it, &a).await?, none);
    // One of the others names the survivor.
    let d = team(&it, naming(&a)).await?;
    merge(&it, &scope, &a, from(&[&d])).await?;
    assert_eq!(links(&it, &a).await?, none);
    // The survivor names one of the others, whom somebody else names, too.
    let other = team(&it, json!({"title": "other"})).await?;
    let survivor = team(&it, naming(&other)).await?;
    let outside = team(&it, naming(&other)).await?;
    merge(&it, &scope, &survivor, from(&[&other])).await?;
    assert_eq!(links(&it, &survivor).await?, none);
    let about = format!("teams/{}", survivor.id);
    assert_eq!(
        links(&it, &outside).await?,
        [json!([survivor.id]), json!([]), json!(about)]
    );
    Ok(())
}

async fn a_merge_unites_lists_of_references(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let mut firms = Vec::new();
    for title in ["f", "g"] {
        firms.push(
            it.create(&scope, "firms", json!({"title": title}))
                .await?
                .id,
        );
    }
    let mut sisters = Vec::new();
    for title in ["w", "x", "y", "z"] {
        sisters.push(team(&it, json!({"title": title})).await?.id);
    }
    let survivor = json!({"title": "A", "sister_ids": [sisters[0]], "firm_ids": [firms[0]]});
    let survivor = team(&it, survivor).await?;
    let first = json!({
        "title": "B", "sister_ids": [survivor.id, sisters[1], sisters[0]],
        "firm_ids": [firms[1], firms[0]], "about": format!("firms/{}", firms[1]),
    });
    let first = team(&it, first).await?;
    let second = json!({"title": "C", "sister_ids": [sisters[2], sisters[3]]});
    let second = team(&it, second).await?;
    merge(&it, &scope, &survivor, from(&[&first, &second])).await?;
    assert_eq!(
        links(&it, &survivor).await?,
        [
            // As many as fit.
            json!([sisters[0], sisters[1], sisters[2]]),
            json!(firms),
            json!(format!("firms/{}", firms[1])),
        ]
    );
    Ok(())
}

async fn a_required_reference_to_a_merged_record_refuses_the_merge(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let firm = it.create(&scope, "firms", json!({"title": "f"})).await?;
    let hint = async |about: String| it.create(&scope, "hints", json!({"about": about})).await;
    let first = hint(format!("firms/{}", firm.id)).await?;
    let second = hint(format!("hints/{}", first.id)).await?;
    match merge(&it, &scope, &second, from(&[&first])).await {
        Err(Error::Invalid(fields)) => {
            assert_eq!(
                (&*fields[0].pointer, fields[0].code),
                ("/about", "required")
            );
        }
        other => panic!("{other:?}"),
    }
    let merged = merge(&it, &scope, &first, from(&[&second])).await?;
    assert_eq!(get(&merged, "about"), json!(format!("firms/{}", firm.id)));
    Ok(())
}
