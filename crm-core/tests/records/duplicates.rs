//! What duplicates promise: they agree in a key, each group is found once, by those who see its
//! records.

use super::merge::{PERSONS, open, person};
use super::*;
use crm_core::record::DuplicatesPage;

on_both_databases!(
    duplicates_agree_in_all_fields_of_a_key_without_regard_to_case,
    pages_of_duplicates_visit_each_group_once,
    duplicates_are_those_that_the_reader_sees,
    a_key_of_duplicates_is_checked_with_its_place,
);

async fn page(
    it: &Fixture,
    scope: &Scope,
    limit: u32,
    cursor: Option<&str>,
) -> crm_core::Result<DuplicatesPage> {
    let permit = scope.permit::<Read>("persons")?;
    it.crm.records().duplicates(&permit, limit, cursor).await
}

/// Key, count and ids of each group.
fn told(page: &DuplicatesPage) -> Vec<(Json, u64, usize)> {
    let groups = page.data.iter();
    let told = groups.map(|group| {
        let key = serde_json::to_value(&group.key).unwrap_or_default();
        (key, group.count, group.records.len())
    });
    told.collect()
}

async fn duplicates_agree_in_all_fields_of_a_key_without_regard_to_case(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let ada = person(
        &it,
        json!({"first_name": "Ada", "last_name": "L", "email": "A@x.example"}),
    )
    .await?;
    let other = person(
        &it,
        json!({"first_name": " ADA ", "last_name": "l", "birth": "1815-12-10"}),
    )
    .await?;
    let third = person(&it, json!({"first_name": "Bo", "email": "a@X.example"})).await?;
    person(&it, json!({"first_name": "ada", "birth": "1815-12-10"})).await?;
    person(&it, json!({"first_name": "Äda", "last_name": "L"})).await?;
    let gone = person(&it, json!({"first_name": "Ada", "last_name": "L"})).await?;
    it.delete(&scope, &gone).await?;
    let groups = page(&it, &scope, 20, None).await?;
    assert_eq!(
        told(&groups),
        [
            (json!({"email": "a@x.example"}), 2, 2),
            (json!({"first_name": "ada", "last_name": "l"}), 2, 2),
            (json!({"birth": "1815-12-10", "first_name": "ada"}), 2, 2),
        ]
    );
    assert!(groups.next_cursor.is_none());
    let ids: Vec<_> = groups.data[0].records.iter().map(|one| one.id).collect();
    assert_eq!(ids, [ada.id, third.id]);
    let permit = scope.permit::<Read>("persons")?;
    let of = it.crm.records().duplicates_of(&permit, ada.id).await?;
    let ids: Vec<_> = of
        .iter()
        .map(|group| (group.count, group.records[0].id))
        .collect();
    assert_eq!(ids, [(1, third.id), (1, other.id)]);
    assert_eq!(
        code(it.crm.records().duplicates_of(&permit, gone.id).await),
        "not_found"
    );
    let none = scope.permit::<Read>("firms")?;
    assert_eq!(
        code(it.crm.records().duplicates(&none, 20, None).await),
        "not_found"
    );
    Ok(())
}

async fn pages_of_duplicates_visit_each_group_once(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    for n in 0..7 {
        for case in ["p", "P"] {
            let email = format!("{case}{n}@x.example");
            let sent =
                json!({"first_name": format!("{case}{n}"), "last_name": "x", "email": email});
            person(&it, sent).await?;
        }
    }
    let whole = told(&page(&it, &scope, 100, None).await?);
    assert_eq!(whole.len(), 14);
    for limit in [1, 3, 7, 14] {
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let page = page(&it, &scope, limit, cursor.as_deref()).await?;
            seen.extend(told(&page));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, whole, "{limit}");
    }
    for (limit, cursor) in [(0, None), (101, None), (5, Some("x")), (5, Some("e30"))] {
        assert_eq!(
            code(page(&it, &scope, limit, cursor).await),
            "validation_failed"
        );
    }
    Ok(())
}

async fn duplicates_are_those_that_the_reader_sees(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let (member, _) = it.member("member").await?;
    let sent = || json!({"first_name": "Ada", "email": "a@x.example"});
    let own = it.create(&member, "persons", sent()).await?;
    let other = person(&it, sent()).await?;
    assert_eq!(told(&page(&it, &member, 20, None).await?), []);
    let permit = member.permit::<Read>("persons")?;
    assert!(
        it.crm
            .records()
            .duplicates_of(&permit, own.id)
            .await?
            .is_empty()
    );
    assert_eq!(
        code(it.crm.records().duplicates_of(&permit, other.id).await),
        "not_found"
    );
    let rival = it.crm.tenants().create("Rival", request()).await?.id;
    let rival = it.crm.operator(rival, request());
    assert_eq!(told(&page(&it, &rival, 20, None).await?), []);
    assert_eq!(page(&it, &it.operator(), 20, None).await?.data.len(), 1);
    Ok(())
}

async fn a_key_of_duplicates_is_checked_with_its_place(_: Backend) -> anyhow::Result<()> {
    let keys = r#"duplicates = [["email"], [], ["odd"], ["labels"], ["email"]]"#;
    let first = PERSONS.lines().find(|line| line.starts_with("duplicates"));
    let spec = ModuleSpec::from_toml(&PERSONS.replace(first.context("the keys")?, keys))?;
    let Err(Error::Invalid(problems)) = crm_core::Registry::new(vec![spec]) else {
        anyhow::bail!("accepted");
    };
    let told: Vec<_> = problems
        .iter()
        .map(|one| format!("{} {}", one.pointer, one.code))
        .collect();
    assert_eq!(
        told,
        [
            "/persons/duplicates/1 out_of_range",
            "/persons/duplicates/2/0 unknown_field",
            "/persons/duplicates/3/0 not_supported",
            "/persons/duplicates/4 duplicate",
        ]
    );
    Ok(())
}
