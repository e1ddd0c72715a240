//! What computed fields of tenants' own promise: they are told as declared ones are, nothing is
//! kept of them, and what they are made of stays.

use super::custom::refusals;
use super::custom_reference::invalid;
use super::field_lists::{all_but, shown, wire};
use super::lists::filters_mean_the_same;
use super::*;
use crm_core::policy::PermissionInput;
use crm_core::record::View;
use crm_core::transfer::Format;

on_both_databases!(
    a_computed_field_of_a_tenants_own_is_told_when_a_record_is_read,
    rules_know_a_tenants_computed_fields,
    a_name_that_a_role_lists_is_not_made_of_something_else,
    stored_fields_are_kept_exactly_beside_computed_ones,
    what_a_computed_field_is_made_of_stays_until_that_is_removed,
    nothing_is_kept_of_a_computed_field_that_is_removed_and_brought_back,
    a_module_of_a_tenants_own_has_computed_fields,
    computed_fields_that_cannot_be_are_refused_with_their_place,
);

/// The tenant with computed fields of the bare module between stored ones.
async fn open(backend: Backend) -> anyhow::Result<(Fixture, Scope)> {
    let it = Fixture::open(backend).await?;
    for field in [
        json!({"name": "first", "type": "text", "max": 40}),
        json!({"name": "full", "type": "text", "computed": "{first} {anchor}"}),
        json!({"name": "done", "type": "bool"}),
        json!({"name": "due", "type": "date", "sort": true}),
        json!({"name": "late", "type": "bool",
            "computed": {"done": false, "due": {"lt": "today"}}}),
        json!({"name": "rank", "type": "integer", "sort": true}),
    ] {
        it.declare(it.tenant, "bare", field).await?;
    }
    let scope = it.operator_in(it.tenant).await?;
    Ok((it, scope))
}

/// Two records, the first of which is late.
async fn records(it: &Fixture, scope: &Scope) -> crm_core::Result<[Record; 2]> {
    let ada = json!({"anchor": "King", "first": "Ada", "done": false, "due": "2025-01-14",
        "rank": 7, "full": "Eve", "late": false});
    let cid = json!({"anchor": "Cid", "done": false, "due": "2025-01-16", "rank": 9});
    let ada = it.create(scope, "bare", ada).await?;
    Ok([ada, it.create(scope, "bare", cid).await?])
}

async fn a_computed_field_of_a_tenants_own_is_told_when_a_record_is_read(
    backend: Backend,
) -> anyhow::Result<()> {
    let (it, scope) = open(backend).await?;
    let [ada, cid] = records(&it, &scope).await?;
    let told = |record: &Record| -> anyhow::Result<_> {
        let json = wire(record)?;
        Ok(["full", "late", "rank"].map(|name| json[name].clone()))
    };
    let of_ada = [json!("Ada King"), json!(true), json!(7)];
    assert_eq!(told(&ada)?, of_ada);
    assert_eq!(told(&it.get(&scope, "bare", ada.id).await?)?, of_ada);
    assert_eq!(told(&cid)?, [json!("Cid"), json!(false), json!(9)]);
    let same = json!({"full": "Eve", "late": false});
    let same = it.update(&scope, &ada, None, same).await?;
    assert_eq!(same.version, ada.version, "clients set none of them");
    let changed = it.update(&scope, &ada, None, json!({"first": null}));
    assert_eq!(told(&changed.await?)?[0], "King");

    for (value, found) in [("true", &ada), ("false", &cid)] {
        let ids = it.found(&scope, "bare", ("late", "eq", value)).await?;
        assert_eq!(ids, [found.id], "{value}");
    }
    let by_text = refusals(it.found(&scope, "bare", ("full", "eq", "Cid")).await);
    assert_eq!(by_text[0].1, "unknown_field");
    let module = scope.module("bare").context("declared")?;
    assert!(Sort::parse_list(module, "full").is_err());
    let query = Query {
        sort: Sort::parse_list(module, "-rank").map_err(invalid)?,
        ..Query::default()
    };
    assert_eq!(it.ids(&scope, "bare", &query).await?, [cid.id, ada.id]);

    let read = scope.permit::<Read>("bare")?;
    let transfer = it.crm.transfer();
    let mut export = transfer.export(read, Query::default(), Format::Csv)?;
    let mut file = String::new();
    while let Some(piece) = export.next().await? {
        file.push_str(&piece);
    }
    let header = "anchor,first,done,due,rank,full,late\r\n";
    assert!(file.contains(header), "{file}");
    assert!(file.contains(",9,Cid,false\r\n"), "{file}");

    // Expanded, and in nobody else's records.
    let to_bare = json!({"name": "bare_id", "type": "reference", "module": "bare"});
    it.declare(it.tenant, "contacts", to_bare).await?;
    let scope = it.operator_in(it.tenant).await?;
    let input = json!({"name": "Ada", "bare_id": cid.id});
    let contact = it.create(&scope, "contacts", input).await?;
    let (module, mut view) = (scope.module("contacts").context("known")?, View::default());
    view.expand(&scope, module, ["bare_id"]).map_err(invalid)?;
    let read = scope.permit::<Read>("contacts")?;
    let viewed = it.crm.records().view(&read, vec![contact], &view).await?;
    assert_eq!(wire(&viewed)?[0]["bare"]["full"], "Cid");

    let rival = it.operator_in(it.rival().await?).await?;
    let theirs = it.create(&rival, "bare", json!({"anchor": "King"})).await?;
    assert!(!shown(&wire(&theirs)?).contains("full"));
    let refused = refusals(it.create(&rival, "bare", json!({"full": "x"})).await);
    assert_eq!(refused, [("/full".into(), "unknown_field")]);
    Ok(())
}

async fn rules_know_a_tenants_computed_fields(backend: Backend) -> anyhow::Result<()> {
    let (it, scope) = open(backend).await?;
    let [ada, _] = records(&it, &scope).await?;
    let late = PermissionInput {
        permission: "bare.read".to_owned(),
        condition: Some(body(json!({"late": true}))),
        ..PermissionInput::default()
    };
    it.role("chaser", vec![late]).await?;
    let (chaser, _) = it.member("chaser").await?;
    assert_eq!(it.ids(&chaser, "bare", &Query::default()).await?, [ada.id]);
    let removed = it.remove(it.tenant, "bare", "late").await;
    assert_eq!(code(removed), "still_named");

    // Who may not read a part of it does not read it either.
    let nameless = vec![all_but("bare.read", &["first"])];
    it.role("nameless", nameless).await?;
    let (nameless, _) = it.member("nameless").await?;
    let seen = wire(&it.get(&nameless, "bare", ada.id).await?)?;
    let names = shown(&seen);
    assert!(names.contains("late") && names.contains("rank"), "{seen}");
    assert!(
        !names.contains("full") && !names.contains("first"),
        "{seen}"
    );
    Ok(())
}

async fn a_name_that_a_role_lists_is_not_made_of_something_else(
    backend: Backend,
) -> anyhow::Result<()> {
    let (it, _) = open(backend).await?;
    let listed = PermissionInput {
        permission: "bare.read".to_owned(),
        fields: Some(vec!["first".to_owned(), "full".to_owned()]),
        ..PermissionInput::default()
    };
    it.role("reader", vec![listed]).await?;
    it.remove(it.tenant, "bare", "full").await?;
    for other in [
        json!({"name": "full", "type": "text", "computed": "{rank}"}),
        json!({"name": "full", "type": "text"}),
    ] {
        let taken = it.declare(it.tenant, "bare", other).await;
        assert_eq!(code(taken), "still_named");
    }
    let same = json!({"name": "full", "type": "text", "computed": "{first} {anchor}"});
    it.declare(it.tenant, "bare", same).await?;
    Ok(())
}

async fn stored_fields_are_kept_exactly_beside_computed_ones(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let label = json!({"name": "label", "type": "text", "computed": "No. {anchor}"});
    it.declare(it.tenant, "bare", label).await?;
    let scope = it.with_things().await?;
    filters_mean_the_same(&it, &scope, "bare").await
}

async fn what_a_computed_field_is_made_of_stays_until_that_is_removed(
    backend: Backend,
) -> anyhow::Result<()> {
    let (it, scope) = open(backend).await?;
    let [ada, _] = records(&it, &scope).await?;
    let rival = it.rival().await?;
    let first = json!({"name": "first", "type": "text"});
    it.declare(rival, "bare", first).await?;
    it.remove(rival, "bare", "first").await?;
    let remove = async |name: &str| it.remove(it.tenant, "bare", name).await;
    for name in ["first", "done", "due"] {
        assert_eq!(code(remove(name).await), "named_by_field", "{name}");
    }
    remove("rank").await?;
    remove("full").await?;
    remove("first").await?;
    let scope = it.operator_in(it.tenant).await?;
    let left = wire(&it.get(&scope, "bare", ada.id).await?)?;
    assert_eq!(left["late"], true);
    let names = shown(&left);
    for gone in ["rank", "full", "first"] {
        assert!(!names.contains(gone), "{left}");
    }
    // It comes back with what it is made of, and not before.
    let full = json!({"name": "full", "type": "text", "computed": "{first} {anchor}"});
    let early = refusals(it.declare(it.tenant, "bare", full.clone()).await);
    assert_eq!(early, [("/computed".into(), "unknown_field")]);
    let first = json!({"name": "first", "type": "text", "max": 40});
    it.declare(it.tenant, "bare", first).await?;
    it.declare(it.tenant, "bare", full).await?;
    let scope = it.operator_in(it.tenant).await?;
    let back = wire(&it.get(&scope, "bare", ada.id).await?)?;
    assert_eq!(back["full"], "Ada King");
    Ok(())
}

async fn nothing_is_kept_of_a_computed_field_that_is_removed_and_brought_back(
    backend: Backend,
) -> anyhow::Result<()> {
    let (it, scope) = open(backend).await?;
    let [ada, _] = records(&it, &scope).await?;
    it.remove(it.tenant, "bare", "late").await?;
    assert_eq!(it.purge(it.tenant, "bare", "late").await?, 0);
    assert_eq!(code(it.purge(it.tenant, "bare", "late").await), "not_found");

    it.remove(it.tenant, "bare", "full").await?;
    let stored = json!({"name": "full", "type": "text"});
    it.declare(it.tenant, "bare", stored).await?;
    let scope = it.operator_in(it.tenant).await?;
    let kept = it
        .update(&scope, &ada, None, json!({"full": "kept"}))
        .await?;
    assert_eq!(wire(&kept)?["full"], "kept");
    assert_eq!(wire(&kept)?["rank"], 7);
    it.remove(it.tenant, "bare", "full").await?;
    let again = json!({"name": "full", "type": "text", "computed": "{anchor}"});
    let early = it.declare(it.tenant, "bare", again.clone()).await;
    assert_eq!(code(early), "field_not_purged");
    assert_eq!(it.purge(it.tenant, "bare", "full").await?, 1);
    it.declare(it.tenant, "bare", again).await?;
    let scope = it.operator_in(it.tenant).await?;
    let told = it.get(&scope, "bare", ada.id).await?;
    assert_eq!(wire(&told)?["full"], "King");
    Ok(())
}

async fn a_module_of_a_tenants_own_has_computed_fields(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let jobs = |formula: &str| {
        json!({"name": "tasks", "singular": "task", "fields": [
            {"name": "label", "type": "text", "computed": formula},
            {"name": "title", "type": "text", "sort": true},
            {"name": "open", "type": "bool", "computed": {"hours": {"is_null": true}}},
            {"name": "hours", "type": "integer"},
        ]})
    };
    let refused = refusals(it.found_module(it.tenant, jobs("{nobody}")).await);
    assert_eq!(refused, [("/fields/0/computed".into(), "unknown_field")]);
    it.found_module(it.tenant, jobs("Task {title}")).await?;
    let scope = it.operator_in(it.tenant).await?;
    let input = json!({"title": "a", "hours": 3});
    let a = it.create(&scope, "tasks", input).await?;
    let b = it.create(&scope, "tasks", json!({"title": "b"})).await?;
    let told = wire(&it.get(&scope, "tasks", a.id).await?)?;
    assert_eq!(told["label"], "Task a");
    assert_eq!((&told["open"], &told["hours"]), (&json!(false), &json!(3)));
    let open = it.found(&scope, "tasks", ("open", "eq", "true")).await?;
    assert_eq!(open, [b.id]);
    for name in ["title", "hours"] {
        let removed = it.remove(it.tenant, "tasks", name).await;
        assert_eq!(code(removed), "named_by_field", "{name}");
    }
    Ok(())
}

async fn computed_fields_that_cannot_be_are_refused_with_their_place(
    backend: Backend,
) -> anyhow::Result<()> {
    let (it, _) = open(backend).await?;
    let secret = json!({"name": "secret", "type": "text", "write_only": true});
    it.declare(it.tenant, "bare", secret).await?;
    for (kind, computed, refusal) in [
        ("text", json!("{nobody}"), "unknown_field"),
        ("text", json!("{full}"), "unknown_field"),
        ("text", json!("{secret}"), "unknown_field"),
        ("text", json!("plain"), "invalid"),
        ("integer", json!("{first}"), "not_supported"),
        ("bool", json!("{first}"), "not_supported"),
        ("text", json!({"done": false}), "not_supported"),
        ("bool", json!({}), "not_supported"),
        ("bool", json!({"nobody": 1}), "unknown_field"),
        ("bool", json!({"late": true}), "unknown_field"),
        ("bool", json!({"secret": "x"}), "unknown_field"),
        ("bool", json!({"rank": "x"}), "wrong_type"),
        (
            "bool",
            json!({"created_at": {"lt": "now"}}),
            "not_supported",
        ),
    ] {
        let declared = json!({"name": "odd", "type": kind, "computed": computed});
        let refused = refusals(it.declare(it.tenant, "bare", declared).await);
        let (pointer, code) = &refused[0];
        assert!(pointer.starts_with("/computed"), "{computed} {refused:?}");
        assert_eq!(*code, refusal, "{computed}");
    }
    for flag in ["required", "unique", "search", "sort", "immutable"] {
        let declared = json!({"name": "odd", "type": "text", "computed": "{first}", flag: true});
        let refused = refusals(it.declare(it.tenant, "bare", declared).await);
        assert_eq!(refused, [("/computed".into(), "not_supported")], "{flag}");
    }
    let taken = json!({"name": "full", "type": "text"});
    let taken = it.declare(it.tenant, "bare", taken).await;
    assert_eq!(code(taken), "already_exists");
    Ok(())
}
