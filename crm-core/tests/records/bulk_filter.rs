//! What bulk writes promise: all records that match, each as if written alone, or none.

use super::*;
use crm_core::event::ChangeKind;
use crm_core::record::{Many, Matched, Once, Reply, When};

on_both_databases!(
    a_bulk_update_changes_what_matches_each_with_version_audit_and_event,
    a_bulk_update_that_one_record_refuses_changes_nothing_and_names_it,
    a_bulk_update_obeys_the_machines_of_each_record,
    a_bulk_write_checks_owner_and_references_once_for_all,
    a_bulk_delete_removes_what_matches_and_respects_references,
    a_bulk_write_reaches_only_what_both_permits_cover,
    a_bulk_write_is_bound_to_the_number_expected_and_to_ten_thousand,
    a_bulk_write_runs_the_hooks_of_each_record,
    a_bulk_delete_fills_the_trash,
    a_bulk_write_is_repeated_by_its_key,
);

const JOBS: &str = r#"
name = "tasks"
singular = "task"
fields = [
    { name = "title", type = "text", required = true },
    { name = "code", type = "text", unique = true },
    { name = "state", type = "enum", values = ["new", "going", "done"], required = true, default = "new" },
    { name = "stage", type = "enum", values = ["open", "closed"], required = true, default = "open" },
    { name = "weight", type = "integer" },
    { name = "thing_id", type = "reference", module = "things" },
    { name = "parent_id", type = "reference", module = "tasks" },
]

[[machines]]
field = "state"
edges = { new = ["going", "done"], going = ["done"] }
sets = { done = { stage = "closed" } }
open = ["title"]
"#;

const PILES: &str = r#"
name = "piles"
singular = "pile"
soft_delete = true
fields = [{ name = "title", type = "text", required = true }, { name = "weight", type = "integer" }]
"#;

async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    let modules = [ModuleSpec::from_toml(JOBS)?, ModuleSpec::from_toml(PILES)?];
    Fixture::built(backend, |builder| builder.modules(modules)).await
}

fn filter(it: &Fixture, module: &str, json: Json) -> anyhow::Result<Filter> {
    let module = it.crm.registry().get(module).context("the module")?;
    Ok(Filter::from_json(module, &body(json)).map_err(Error::Invalid)?)
}

async fn update(
    it: &Fixture,
    scope: &Scope,
    module: &str,
    condition: Json,
    set: Json,
) -> anyhow::Result<crm_core::Result<(u64, u64)>> {
    let filter = filter(it, module, condition)?;
    let (read, update) = (
        scope.permit::<Read>(module)?,
        scope.permit::<Update>(module)?,
    );
    let many = Many::update(&read, &update, filter, body(set), None);
    Ok(write(it, many).await)
}

async fn delete(
    it: &Fixture,
    scope: &Scope,
    module: &str,
    condition: Json,
) -> anyhow::Result<crm_core::Result<(u64, u64)>> {
    let filter = filter(it, module, condition)?;
    let (read, delete) = (
        scope.permit::<Read>(module)?,
        scope.permit::<Delete>(module)?,
    );
    Ok(write(it, Many::delete(&read, &delete, filter, None)).await)
}

async fn write(it: &Fixture, many: crm_core::Result<Many>) -> crm_core::Result<(u64, u64)> {
    let Matched { matched, changed } = it.crm.records().write_many(many?).await?;
    Ok((matched, changed))
}

async fn tasks(it: &Fixture, count: i64) -> crm_core::Result<Vec<Record>> {
    let mut made = Vec::new();
    for n in 0..count {
        let input = json!({"title": format!("task {n}"), "weight": n});
        made.push(it.create(&it.operator(), "tasks", input).await?);
    }
    Ok(made)
}

fn get(record: &Record, field: &str) -> Json {
    serde_json::to_value(record.get(field)).unwrap_or_default()
}

async fn a_bulk_update_changes_what_matches_each_with_version_audit_and_event(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let made = tasks(&it, 5).await?;
    it.update(&scope, &made[3], None, json!({"title": "same"}))
        .await?;
    it.crm.dispatch_once().await?;
    let before = it.audit().await?.len();
    let light = json!({"weight": {"gte": 2}});
    let done = update(
        &it,
        &scope,
        "tasks",
        light,
        json!({"title": "same", "owner_id": null}),
    )
    .await??;
    assert_eq!(done, (3, 2));
    for (at, version, title) in [
        (0, 1, "task 0"),
        (1, 1, "task 1"),
        (2, 2, "same"),
        (3, 2, "same"),
        (4, 2, "same"),
    ] {
        let now = it.get(&scope, "tasks", made[at].id).await?;
        assert_eq!((now.version, get(&now, "title")), (version, json!(title)));
    }
    let audit = it.audit().await?;
    assert_eq!(audit.len(), before + 2);
    let now = it.get(&scope, "tasks", made[4].id).await?;
    let entry = audit
        .iter()
        .find(|entry| entry.entity_id == Some(now.id.to_string()));
    let entry = entry.context("the last change")?;
    assert_eq!(entry.action, "tasks.update");
    assert_eq!(
        entry.before,
        Some(serde_json::from_str(&made[4].to_json())?)
    );
    assert_eq!(entry.after, Some(serde_json::from_str(&now.to_json())?));
    assert_eq!(it.crm.dispatch_once().await?, 2);
    Ok(())
}

async fn a_bulk_update_that_one_record_refuses_changes_nothing_and_names_it(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let made = tasks(&it, 4).await?;
    it.update(&scope, &made[2], None, json!({"state": "done"}))
        .await?;
    let entries = it.audit().await?.len();
    let all = || json!({"weight": {"gte": 0}});
    let refused = update(&it, &scope, "tasks", all(), json!({"state": "going"})).await?;
    let Err(error) = refused else {
        anyhow::bail!("done")
    };
    assert_eq!(error.code(), "final_state");
    assert!(
        error.to_string().contains(&made[2].id.to_string()),
        "{error}"
    );
    let taken = update(
        &it,
        &scope,
        "tasks",
        json!({"state": {"eq": "new"}}),
        json!({"code": "A"}),
    )
    .await?;
    assert_eq!(code(taken), "already_exists");
    let invalid = update(
        &it,
        &scope,
        "tasks",
        all(),
        json!({"weight": "x", "odd": 1}),
    )
    .await?;
    let Err(Error::Invalid(fields)) = invalid else {
        anyhow::bail!("done")
    };
    let mut places: Vec<_> = fields.iter().map(|field| field.pointer.as_str()).collect();
    places.sort_unstable();
    assert_eq!(places, ["/set/odd", "/set/weight"]);
    assert_eq!(
        code(update(&it, &scope, "tasks", all(), json!({})).await?),
        "validation_failed"
    );
    assert_eq!(it.audit().await?.len(), entries);
    Ok(())
}

async fn a_bulk_update_obeys_the_machines_of_each_record(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let made = tasks(&it, 3).await?;
    it.update(&scope, &made[0], None, json!({"stage": "closed"}))
        .await?;
    it.update(&scope, &made[1], None, json!({"state": "going"}))
        .await?;
    let any = json!({"weight": {"gte": 0}});
    assert_eq!(
        update(&it, &scope, "tasks", any, json!({"state": "done"})).await??,
        (3, 3)
    );
    for record in made {
        let now = it.get(&scope, "tasks", record.id).await?;
        assert_eq!(
            (get(&now, "state"), get(&now, "stage")),
            (json!("done"), json!("closed"))
        );
    }
    Ok(())
}

async fn a_bulk_write_checks_owner_and_references_once_for_all(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    tasks(&it, 2).await?;
    let thing = it.create(&scope, "things", json!({"title": "x"})).await?;
    let any = || json!({"weight": {"gte": 0}});
    let set = async |set: Json| update(&it, &scope, "tasks", any(), set).await;
    assert_eq!(set(json!({"thing_id": thing.id})).await??, (2, 2));
    for (field, id) in [
        ("thing_id", RecordId(it.crm.clock().new_id()).0),
        ("owner_id", thing.id.0),
    ] {
        let Err(Error::Invalid(fields)) = set(json!({field: id})).await? else {
            anyhow::bail!("{field} was set");
        };
        assert_eq!(fields[0].pointer, format!("/set/{field}"));
        assert_eq!(fields[0].code, "unknown_reference");
    }
    let (_, user) = it.member("member").await?;
    assert_eq!(set(json!({"owner_id": user})).await??, (2, 2));
    Ok(())
}

async fn a_bulk_delete_removes_what_matches_and_respects_references(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let made = tasks(&it, 3).await?;
    let child = json!({"title": "child", "weight": 9, "parent_id": made[2].id});
    let child = it.create(&scope, "tasks", child).await?;
    let entries = it.audit().await?.len();
    let refused = delete(&it, &scope, "tasks", json!({"weight": {"lt": 9}})).await?;
    assert_eq!(code(refused), "has_dependents");
    assert_eq!(it.audit().await?.len(), entries);
    // A parent and its child together.
    let both = json!({"weight": {"gte": 2}});
    assert_eq!(delete(&it, &scope, "tasks", both).await??, (2, 2));
    assert_eq!(code(it.get(&scope, "tasks", child.id).await), "not_found");
    // A module that nothing refers to goes in one statement.
    for title in ["a", "b", "c"] {
        it.create(&scope, "notes", json!({"title": title})).await?;
    }
    let entries = it.audit().await?.len();
    let some = json!({"title": {"in": ["a", "c"]}});
    assert_eq!(delete(&it, &scope, "notes", some).await??, (2, 2));
    assert_eq!(it.ids(&scope, "notes", &Query::default()).await?.len(), 1);
    assert_eq!(it.audit().await?.len(), entries + 2);
    Ok(())
}

async fn a_bulk_write_reaches_only_what_both_permits_cover(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let (member, _) = it.member("member").await?;
    let (viewer, _) = it.member("viewer").await?;
    tasks(&it, 2).await?;
    let own = it
        .create(&member, "tasks", json!({"title": "own", "weight": 1}))
        .await?;
    let any = || json!({"weight": {"gte": 0}});
    let done = update(&it, &member, "tasks", any(), json!({"title": "mine"})).await??;
    assert_eq!(done, (1, 1));
    let rival = it.crm.tenants().create("Rival", request()).await?.id;
    let rival = it.crm.operator(rival, request());
    assert_eq!(
        update(&it, &rival, "tasks", any(), json!({"title": "r"})).await??,
        (0, 0)
    );
    assert_eq!(delete(&it, &rival, "tasks", any()).await??, (0, 0));
    assert!(
        update(&it, &viewer, "tasks", any(), json!({"title": "v"}))
            .await
            .is_err()
    );
    assert_eq!(delete(&it, &member, "tasks", any()).await??, (1, 1));
    assert_eq!(code(it.get(&member, "tasks", own.id).await), "not_found");
    let left = it.ids(&it.operator(), "tasks", &Query::default()).await?;
    assert_eq!(left.len(), 2);
    Ok(())
}

async fn a_bulk_write_is_bound_to_the_number_expected_and_to_ten_thousand(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let mut lines = String::from("title,weight\n");
    for n in 0..10_001 {
        lines.push_str(&format!("pile,{n}\n"));
    }
    let options = crm_core::transfer::ImportOptions::new(crm_core::transfer::Format::Csv);
    let mut upload = it.crm.transfer().import(&scope, "piles", options).await?;
    upload.push(lines.as_bytes()).await?;
    upload.finish().await?;
    it.crm.run_jobs_once().await?;
    let any = || json!({"title": {"eq": "pile"}});
    let refused = update(&it, &scope, "piles", any(), json!({"title": "x"})).await?;
    let Err(error) = refused else {
        anyhow::bail!("done")
    };
    assert_eq!(error.code(), "too_many_matches");
    assert!(error.to_string().contains("10001 records"), "{error}");
    assert_eq!(
        code(delete(&it, &scope, "piles", any()).await?),
        "too_many_matches"
    );
    let (read, permit) = (
        scope.permit::<Read>("piles")?,
        scope.permit::<Update>("piles")?,
    );
    let most = filter(&it, "piles", json!({"weight": {"gte": 1}}))?;
    let expect = |count| {
        let set = body(json!({"title": "y"}));
        Many::update(&read, &permit, most.clone(), set, Some(count))
    };
    assert_eq!(code(write(&it, expect(9_999)).await), "count_mismatch");
    assert_eq!(write(&it, expect(10_000)).await?, (10_000, 10_000));
    Ok(())
}

async fn a_bulk_write_runs_the_hooks_of_each_record(backend: Backend) -> anyhow::Result<()> {
    let module = ModuleSpec::from_toml(JOBS)?;
    let it = Fixture::built(backend, |builder| {
        let refuse = |kind: &'static str| crm_core::Refusal::conflict(kind, "this one stays");
        builder
            .modules([module])
            .hook("tasks", When::Before, ChangeKind::Updated, move |cx| {
                Box::pin(async move {
                    let heavy = cx.old().is_some_and(|old| get(old, "weight") == json!(2));
                    if heavy
                        && cx
                            .record()
                            .is_some_and(|new| get(new, "title") == json!("no"))
                    {
                        return Err(refuse("too_heavy").into());
                    }
                    cx.set("code", cx.old().map(|old| old.id.to_string()))
                })
            })
            .hook("tasks", When::Before, ChangeKind::Deleted, move |cx| {
                Box::pin(async move {
                    match cx.old().is_some_and(|old| get(old, "weight") == json!(0)) {
                        true => Err(refuse("kept").into()),
                        false => Ok(()),
                    }
                })
            })
    })
    .await?;
    let scope = it.operator();
    let made = tasks(&it, 3).await?;
    let any = || json!({"weight": {"gte": 0}});
    let refused = update(&it, &scope, "tasks", any(), json!({"title": "no"})).await?;
    assert_eq!(code(refused), "too_heavy");
    assert_eq!(
        update(&it, &scope, "tasks", any(), json!({"title": "yes"})).await??,
        (3, 3)
    );
    let now = it.get(&scope, "tasks", made[1].id).await?;
    assert_eq!(get(&now, "code"), json!(made[1].id));
    assert_eq!(code(delete(&it, &scope, "tasks", any()).await?), "kept");
    assert_eq!(it.ids(&scope, "tasks", &Query::default()).await?.len(), 3);
    Ok(())
}

async fn a_bulk_delete_fills_the_trash(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    for n in 0..3 {
        it.create(&scope, "piles", json!({"title": "x", "weight": n}))
            .await?;
    }
    assert_eq!(
        delete(&it, &scope, "piles", json!({"weight": {"gte": 1}})).await??,
        (2, 2)
    );
    assert_eq!(
        delete(&it, &scope, "piles", json!({"weight": {"gte": 1}})).await??,
        (0, 0)
    );
    let (read, permit) = (
        scope.permit::<Read>("piles")?,
        scope.permit::<Delete>("piles")?,
    );
    let page = it
        .crm
        .records()
        .trash(&read, &permit, &Query::default())
        .await?;
    assert_eq!(page.data.len(), 2);
    assert!(page.data.iter().all(|record| record.version == 2));
    Ok(())
}

async fn a_bulk_write_is_repeated_by_its_key(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    tasks(&it, 2).await?;
    let condition = filter(&it, "tasks", json!({"weight": {"gte": 0}}))?;
    let (read, permit) = (
        scope.permit::<Read>("tasks")?,
        scope.permit::<Update>("tasks")?,
    );
    let entries = it.audit().await?.len();
    for _ in 0..2 {
        let set = body(json!({"title": "once"}));
        let many = Many::update(&read, &permit, condition.clone(), set, None)?;
        let once = Once::new(&scope, "key", [b"POST", b"/", b"", b"{}"])?;
        let reply = |matched: Matched| {
            Ok(Reply {
                status: 200,
                record: None,
                body: Some(matched.changed.to_string()),
            })
        };
        let answered = it
            .crm
            .records()
            .perform_many(many, Some(once), reply)
            .await?;
        let (crm_core::record::Answered::Now(reply) | crm_core::record::Answered::Before(reply)) =
            answered
        else {
            anyhow::bail!("another request");
        };
        assert_eq!(reply.body.as_deref(), Some("2"));
    }
    assert_eq!(it.audit().await?.len(), entries + 2);
    Ok(())
}
