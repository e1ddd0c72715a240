//! What duplicates and merging promise.

use super::*;
use crm_core::event::ChangeKind;
use crm_core::record::{Expected, Merge, When, Write};

on_both_databases!(
    a_merge_fills_what_is_absent_unites_tags_and_takes_what_it_is_told,
    a_merge_leaves_audit_rows_and_events_for_everything_that_changed,
    a_merge_is_refused_for_what_the_caller_may_not_do_and_nothing_changes,
    a_merge_keeps_what_never_changes_and_no_amount_gets_another_currency,
    a_merge_runs_hooks_and_may_be_refused_by_them,
    the_merged_go_to_the_trash_where_there_is_one,
    racing_merges_of_the_same_records_merge_them_once,
);

pub(super) const PERSONS: &str = r#"
name = "persons"
singular = "person"
soft_delete = true
duplicates = [["email"], ["first_name", "last_name"], ["birth", "first_name"]]
fields = [
    { name = "first_name", type = "text", max = 100, required = true },
    { name = "last_name", type = "text", max = 100 },
    { name = "email", type = "email" },
    { name = "birth", type = "date" },
    { name = "code", type = "text", max = 40, unique = true },
    { name = "labels", type = "tags", max_items = 3 },
    { name = "boss_id", type = "reference", module = "persons" },
]
"#;

const CALLS: &str = r#"
name = "calls"
singular = "call"
soft_delete = true
fields = [
    { name = "person_id", type = "reference", module = "persons", required = true },
    { name = "state", type = "enum", values = ["open", "done"], required = true, default = "open" },
]

[[machines]]
field = "state"
edges = { open = ["done"] }
open = []
"#;

const HARD: &str = r#"
name = "firms"
singular = "firm"
fields = [
    { name = "title", type = "text", required = true },
    { name = "code", type = "text", max = 40, unique = true },
    { name = "mother_id", type = "reference", module = "firms" },
]
"#;

const TEAMS: &str = r#"
name = "teams"
singular = "team"
fields = [
    { name = "title", type = "text", required = true },
    { name = "sister_ids", type = "references", module = "teams", max_items = 3 },
    { name = "firm_ids", type = "references", module = "firms" },
    { name = "about", type = "any_reference", modules = ["teams", "firms"] },
]
"#;

const HINTS: &str = r#"
name = "hints"
singular = "hint"
fields = [
    { name = "about", type = "any_reference", modules = ["hints", "firms"], required = true },
]
"#;

const OFFERS: &str = r#"
name = "offers"
singular = "offer"
fields = [
    { name = "title", type = "text", required = true },
    { name = "code", type = "text", immutable = true },
    { name = "amount", type = "money", currency_field = "currency" },
    { name = "currency", type = "currency" },
    { name = "status", type = "enum", values = ["new", "won"], required = true, default = "new" },
    { name = "stage", type = "enum", values = ["open", "closed"], read_only = true },
]

[[machines]]
field = "status"
edges = { new = ["won"] }
sets = { won = { stage = "closed" } }
"#;

async fn a_merge_keeps_what_never_changes_and_no_amount_gets_another_currency(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let offer = async |json| it.create(&scope, "offers", json).await;
    let yen = offer(json!({"title": "a", "currency": "JPY"})).await?;
    let euro = offer(json!({"title": "b", "currency": "EUR", "amount": "4", "code": "x"})).await?;
    let euro = it
        .update(&scope, &euro, None, json!({"status": "won"}))
        .await?;
    let take = Merge {
        take: vec![("amount".to_owned(), euro.id)],
        ..from(&[&euro])
    };
    let refused = merge(&it, &scope, &yen, take).await;
    assert_eq!(code(refused), "validation_failed");
    let fixed = Merge {
        take: vec![("code".to_owned(), euro.id)],
        ..from(&[&euro])
    };
    assert_eq!(
        code(merge(&it, &scope, &yen, fixed).await),
        "validation_failed"
    );

    let merged = merge(&it, &scope, &yen, from(&[&euro])).await?;
    for (field, value) in [
        ("currency", json!("JPY")),
        ("amount", Json::Null),
        ("code", Json::Null),
        ("status", json!("new")),
        ("stage", Json::Null),
    ] {
        assert_eq!(get(&merged, field), value, "{field}");
    }

    let none = offer(json!({"title": "e"})).await?;
    let full = offer(json!({"title": "f", "currency": "USD", "amount": "7"})).await?;
    let merged = merge(&it, &scope, &none, from(&[&full])).await?;
    assert_eq!(
        (get(&merged, "amount"), get(&merged, "currency")),
        (json!("7.00"), json!("USD"))
    );
    Ok(())
}

fn modules() -> anyhow::Result<[ModuleSpec; 6]> {
    Ok([
        ModuleSpec::from_toml(PERSONS)?,
        ModuleSpec::from_toml(CALLS)?,
        ModuleSpec::from_toml(HARD)?,
        ModuleSpec::from_toml(TEAMS)?,
        ModuleSpec::from_toml(HINTS)?,
        ModuleSpec::from_toml(OFFERS)?,
    ])
}

pub(super) async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    let modules = modules()?;
    Fixture::built(backend, |builder| builder.modules(modules)).await
}

pub(super) async fn person(it: &Fixture, json: Json) -> crm_core::Result<Record> {
    it.create(&it.operator(), "persons", json).await
}

pub(super) fn get(record: &Record, field: &str) -> Json {
    serde_json::to_value(record.get(field)).unwrap_or_default()
}

pub(super) fn from(others: &[&Record]) -> Merge {
    Merge {
        from: others.iter().map(|other| (other.id, None)).collect(),
        take: vec![],
    }
}

pub(super) async fn merge(
    it: &Fixture,
    scope: &Scope,
    survivor: &Record,
    merge: Merge,
) -> crm_core::Result<Record> {
    let name = survivor.module().name().as_str();
    let write = Write::merge(
        &scope.permit(name)?,
        &scope.permit(name)?,
        &scope.permit(name)?,
        survivor.id,
        Expected::Any,
        merge,
    )?;
    it.crm.records().merge(write).await
}

async fn a_merge_fills_what_is_absent_unites_tags_and_takes_what_it_is_told(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let boss = person(&it, json!({"first_name": "Boss"})).await?;
    let ada = person(&it, json!({"first_name": "Ada", "labels": ["a", "b"]})).await?;
    let one =
        json!({"first_name": "A.", "last_name": "One", "code": "1", "labels": ["b", "c", "d"]});
    let one = person(&it, one).await?;
    let two = json!({
        "first_name": "Augusta", "last_name": "Two", "email": "two@x.example",
        "birth": "1815-12-10", "boss_id": boss.id,
    });
    let two = person(&it, two).await?;
    let asked = Merge {
        take: vec![("first_name".into(), two.id), ("birth".into(), one.id)],
        ..from(&[&one, &two])
    };
    let merged = merge(&it, &scope, &ada, asked).await?;
    for (field, value) in [
        ("first_name", json!("Augusta")),
        ("last_name", json!("One")),
        ("email", json!("two@x.example")),
        ("birth", Json::Null),
        ("code", json!("1")),
        ("labels", json!(["a", "b", "c"])),
        ("boss_id", json!(boss.id)),
    ] {
        assert_eq!(get(&merged, field), value, "{field}");
    }
    assert_eq!((merged.id, merged.version), (ada.id, 2));
    assert_eq!(
        it.get(&scope, "persons", ada.id).await?.to_json(),
        merged.to_json()
    );
    for other in [one, two] {
        assert_eq!(code(it.get(&scope, "persons", other.id).await), "not_found");
    }
    Ok(())
}

async fn a_merge_leaves_audit_rows_and_events_for_everything_that_changed(
    backend: Backend,
) -> anyhow::Result<()> {
    let seen = Arc::new(Collector::default());
    let (modules, subscriber) = (modules()?, seen.clone());
    let it = Fixture::built(backend, |builder| {
        builder.modules(modules).subscribe(subscriber)
    })
    .await?;
    let (user, _) = it.member("admin").await?;
    let made = |title: &str| json!({"title": title});
    let survivor = it.create(&user, "firms", made("A")).await?;
    let other = it
        .create(&user, "firms", json!({"title": "B", "code": "b"}))
        .await?;
    let child = it
        .create(&user, "firms", json!({"title": "C", "mother_id": other.id}))
        .await?;
    it.crm.dispatch_once().await?;
    seen.take();
    let merged = merge(&it, &user, &survivor, from(&[&other])).await?;
    let audit = it.audit().await?;
    let told = |at: usize| {
        let entry = &audit[at];
        (
            entry.action.as_str(),
            entry.entity_id.clone().unwrap_or_default(),
            entry.actor.clone(),
        )
    };
    let actor = user.actor().to_string();
    assert_eq!(
        told(0),
        ("firms.merge", survivor.id.to_string(), actor.clone())
    );
    assert_eq!(
        audit[0].after,
        Some(serde_json::from_str(&merged.to_json())?)
    );
    assert_eq!(
        told(1),
        ("firms.delete", other.id.to_string(), actor.clone())
    );
    assert_eq!(
        told(2),
        ("firms.merge", other.id.to_string(), actor.clone())
    );
    assert_eq!(audit[2].after, Some(json!({"merged_into": survivor.id})));
    assert_eq!(told(3), ("firms.update", child.id.to_string(), actor));
    it.crm.dispatch_once().await?;
    let mut kinds = seen.kinds();
    kinds.sort_unstable();
    assert_eq!(kinds, ["firm.deleted", "firm.merged", "firm.updated"]);
    Ok(())
}

async fn a_merge_is_refused_for_what_the_caller_may_not_do_and_nothing_changes(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let (member, _) = it.member("member").await?;
    let (viewer, _) = it.member("viewer").await?;
    let own = it.create(&member, "firms", json!({"title": "own"})).await?;
    let mine = it
        .create(&member, "firms", json!({"title": "mine"}))
        .await?;
    let other = it
        .create(&it.operator(), "firms", json!({"title": "other"}))
        .await?;
    let entries = it.audit().await?.len();
    let refused = async |scope: &Scope, survivor: &Record, asked: Merge| match merge(
        &it, scope, survivor, asked,
    )
    .await
    {
        Err(Error::Invalid(fields)) => format!("{} {}", fields[0].pointer, fields[0].code),
        other => code(other).to_owned(),
    };
    assert_eq!(
        refused(&member, &own, from(&[&mine, &other])).await,
        "/from/1 unknown_reference"
    );
    assert_eq!(refused(&member, &other, from(&[&own])).await, "not_found");
    assert_eq!(refused(&viewer, &own, from(&[&mine])).await, "forbidden");
    let scope = it.operator();
    assert_eq!(refused(&scope, &own, from(&[])).await, "/from wrong_count");
    assert_eq!(
        refused(&scope, &own, from(&[&own])).await,
        "/from/0 duplicate"
    );
    assert_eq!(
        refused(&scope, &own, from(&[&mine, &mine])).await,
        "/from/1 duplicate"
    );
    let take = |field: &str, from: &Record| vec![(field.to_owned(), from.id)];
    let asked = Merge {
        take: take("odd", &mine),
        ..from(&[&mine])
    };
    assert_eq!(
        refused(&scope, &own, asked).await,
        "/take/odd unknown_field"
    );
    let asked = Merge {
        take: take("title", &other),
        ..from(&[&mine])
    };
    assert_eq!(
        refused(&scope, &own, asked).await,
        "/take/title unknown_reference"
    );
    let asked = Merge {
        from: vec![(mine.id, Some(2))],
        take: vec![],
    };
    assert_eq!(refused(&scope, &own, asked).await, "version_mismatch");
    let rival = it.crm.tenants().create("Rival", request()).await?.id;
    let rival = it.crm.operator(rival, request());
    assert_eq!(refused(&rival, &own, from(&[&mine])).await, "not_found");
    assert_eq!(it.audit().await?.len(), entries);
    assert_eq!(it.get(&scope, "firms", mine.id).await?.version, 1);
    Ok(())
}

async fn a_merge_runs_hooks_and_may_be_refused_by_them(backend: Backend) -> anyhow::Result<()> {
    let modules = modules()?;
    let it = Fixture::built(backend, |builder| {
        builder
            .modules(modules)
            .hook("firms", When::Before, ChangeKind::Updated, |cx| {
                Box::pin(async move {
                    let kept = cx
                        .old()
                        .is_some_and(|old| get(old, "title") == json!("kept"));
                    match (cx.kind(), kept) {
                        (ChangeKind::Merged, _) => cx.set("title", "set by a hook"),
                        (_, true) => Err(crm_core::Refusal::conflict("kept", "as it is").into()),
                        _ => Ok(()),
                    }
                })
            })
            .hook("firms", When::Before, ChangeKind::Merged, |cx| {
                Box::pin(async move { cx.set("code", "M") })
            })
            .hook("firms", When::Before, ChangeKind::Deleted, |cx| {
                Box::pin(async move {
                    match cx
                        .old()
                        .is_some_and(|old| get(old, "code") == json!("stays"))
                    {
                        true => Err(crm_core::Refusal::forbidden("stays", "it stays").into()),
                        false => Ok(()),
                    }
                })
            })
    })
    .await?;
    let scope = it.operator();
    let firm = async |json: Json| it.create(&scope, "firms", json).await;
    let a = firm(json!({"title": "A"})).await?;
    let stays = firm(json!({"title": "B", "code": "stays"})).await?;
    let b = firm(json!({"title": "B"})).await?;
    assert_eq!(code(merge(&it, &scope, &a, from(&[&stays])).await), "stays");
    let kept = firm(json!({"title": "kept", "mother_id": b.id})).await?;
    assert_eq!(code(merge(&it, &scope, &a, from(&[&b])).await), "kept");
    it.delete(&scope, &kept).await?;
    let merged = merge(&it, &scope, &a, from(&[&b])).await?;
    assert_eq!(
        (get(&merged, "title"), get(&merged, "code")),
        (json!("set by a hook"), json!("M"))
    );
    Ok(())
}

async fn the_merged_go_to_the_trash_where_there_is_one(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let ada = person(&it, json!({"first_name": "Ada"})).await?;
    let other = person(&it, json!({"first_name": "Augusta", "code": "A"})).await?;
    let merged = merge(&it, &scope, &ada, from(&[&other])).await?;
    // The unique value has moved to the survivor.
    assert_eq!(get(&merged, "code"), json!("A"));
    let (read, delete) = (
        scope.permit::<Read>("persons")?,
        scope.permit::<Delete>("persons")?,
    );
    let trash = it
        .crm
        .records()
        .trash(&read, &delete, &Query::default())
        .await?;
    assert_eq!(trash.data[0].id, other.id);
    let restored = it.crm.records().restore(&delete, other.id, None).await;
    assert_eq!(code(restored), "already_exists");
    Ok(())
}

async fn racing_merges_of_the_same_records_merge_them_once(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    for _ in 0..8 {
        let a = it.create(&scope, "firms", json!({"title": "A"})).await?;
        let b = it.create(&scope, "firms", json!({"title": "B"})).await?;
        let (first, second) = tokio::join!(
            merge(&it, &scope, &a, from(&[&b])),
            merge(&it, &scope, &b, from(&[&a]))
        );
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    }
    Ok(())
}
