//! What references promise when the record that they refer to goes.

use super::*;
use crm_core::event::ChangeKind;
use crm_core::record::{Answered, Expected, Reply, When, Work, Write};
use crm_core::{Purge, Refusal};

on_both_databases!(
    a_cascade_deletes_what_refers_and_leaves_traces_of_each,
    a_nulled_reference_makes_a_version_and_an_event,
    a_restricting_record_that_goes_as_well_forbids_nothing,
    a_refused_delete_changes_nothing,
    circles_of_references_end,
    what_follows_is_bounded,
    what_the_caller_cannot_see_follows_too,
    another_tenants_records_never_follow,
    a_cascade_into_the_trash_is_purged_with_its_record,
    hooks_run_around_what_follows,
    a_rule_changes_without_a_change_of_the_table,
    racing_deletes_and_references_leave_no_orphan,
);

/// A tree of firms with staff who go with them, offers that stay, and notes on staff.
const FIRMS: &str = r#"
name = "firms"
singular = "firm"
fields = [
    { name = "title", type = "text", required = true },
    { name = "parent_id", type = "reference", module = "firms", on_delete = "cascade" },
]
"#;
const STAFF: &str = r#"
name = "staff"
singular = "colleague"
fields = [
    { name = "title", type = "text", required = true },
    { name = "firm_id", type = "reference", module = "firms", required = true, on_delete = "cascade" },
    { name = "boss_id", type = "reference", module = "staff", on_delete = "set_null" },
]
"#;
const OFFERS: &str = r#"
name = "offers"
singular = "offer"
fields = [
    { name = "title", type = "text", required = true },
    { name = "firm_id", type = "reference", module = "firms", on_delete = "set_null" },
    { name = "by_id", type = "reference", module = "staff", on_delete = "set_null" },
]
"#;
const REMARKS: &str = r#"
name = "remarks"
singular = "remark"
fields = [
    { name = "title", type = "text", required = true },
    { name = "colleague_id", type = "reference", module = "staff" },
    { name = "firm_id", type = "reference", module = "firms", on_delete = "cascade" },
]
"#;
const BINDERS: &str = r#"
name = "binders"
singular = "binder"
soft_delete = true
fields = [{ name = "title", type = "text", required = true }]
"#;
const PAGES: &str = r#"
name = "leaves"
singular = "leaf"
soft_delete = true
fields = [
    { name = "title", type = "text", required = true },
    { name = "binder_id", type = "reference", module = "binders", on_delete = "cascade" },
    { name = "next_id", type = "reference", module = "leaves", on_delete = "set_null" },
]
"#;

fn specs() -> anyhow::Result<Vec<ModuleSpec>> {
    let texts = [FIRMS, STAFF, OFFERS, REMARKS, BINDERS, PAGES];
    let specs = texts.into_iter().map(ModuleSpec::from_toml);
    Ok(specs.collect::<crm_core::Result<_>>()?)
}

async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    let specs = specs()?;
    Fixture::built(backend, |builder| builder.modules(specs)).await
}

/// Makes a record with a title and these other values.
async fn made(it: &Fixture, module: &str, title: &str, more: Json) -> anyhow::Result<Record> {
    let mut json = json!({"title": title});
    if let (Some(to), Some(from)) = (json.as_object_mut(), more.as_object()) {
        to.extend(from.clone());
    }
    Ok(it.create(&it.operator(), module, json).await?)
}

/// The actions of the newest audit rows on records, oldest first, behind so many.
async fn actions(it: &Fixture, behind: usize) -> anyhow::Result<Vec<String>> {
    let entries = it.audit().await?;
    let count = entries.len() - behind;
    let actions = entries.into_iter().take(count).map(|entry| entry.action);
    let mut actions: Vec<_> = actions.collect();
    actions.sort();
    Ok(actions)
}

async fn a_cascade_deletes_what_refers_and_leaves_traces_of_each(
    backend: Backend,
) -> anyhow::Result<()> {
    let seen = Arc::new(Collector::default());
    let specs = specs()?;
    let subscriber = seen.clone();
    let it = Fixture::built(backend, |builder| {
        builder.modules(specs).subscribe(subscriber)
    })
    .await?;
    let scope = it.operator();
    let top = made(&it, "firms", "top", json!({})).await?;
    let child = made(&it, "firms", "child", json!({"parent_id": top.id})).await?;
    let ada = made(&it, "staff", "ada", json!({"firm_id": child.id})).await?;
    let bob = made(
        &it,
        "staff",
        "bob",
        json!({"firm_id": top.id, "boss_id": ada.id}),
    )
    .await?;
    let offer = made(
        &it,
        "offers",
        "offer",
        json!({"firm_id": top.id, "by_id": ada.id}),
    )
    .await?;
    let other = made(&it, "firms", "other", json!({})).await?;
    let before = it.audit().await?.len();
    it.delete(&scope, &top).await?;
    for (module, id) in [
        ("firms", top.id),
        ("firms", child.id),
        ("staff", ada.id),
        ("staff", bob.id),
    ] {
        assert_eq!(code(it.get(&scope, module, id).await), "not_found");
    }
    it.get(&scope, "firms", other.id).await?;
    let offer = it.get(&scope, "offers", offer.id).await?;
    assert_eq!(offer.version, 2, "both references in one change");
    assert!(offer.get("firm_id").is_some_and(|value| value.is_null()));
    assert!(offer.get("by_id").is_some_and(|value| value.is_null()));
    assert_eq!(
        actions(&it, before).await?,
        [
            "firms.delete",
            "firms.delete",
            "offers.update",
            "staff.delete",
            "staff.delete"
        ]
    );
    it.crm.dispatch_once().await?;
    let events = seen.take();
    let kinds = events.iter().map(|event| event.kind.as_str());
    let mut kinds: Vec<_> = kinds.filter(|kind| !kind.ends_with("created")).collect();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        [
            "colleague.deleted",
            "colleague.deleted",
            "firm.deleted",
            "firm.deleted",
            "offer.updated"
        ]
    );
    Ok(())
}

async fn a_nulled_reference_makes_a_version_and_an_event(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let firm = made(&it, "firms", "firm", json!({})).await?;
    let boss = made(&it, "staff", "boss", json!({"firm_id": firm.id})).await?;
    let worker = made(
        &it,
        "staff",
        "worker",
        json!({"firm_id": firm.id, "boss_id": boss.id}),
    )
    .await?;
    let entries = it.audit().await?.len();
    it.delete(&scope, &boss).await?;
    let now = it.get(&scope, "staff", worker.id).await?;
    assert_eq!(now.version, 2);
    assert!(now.get("boss_id").is_some_and(|value| value.is_null()));
    assert_eq!(now.get("firm_id"), worker.get("firm_id"));
    let audit = it.audit().await?;
    let update = audit[..audit.len() - entries]
        .iter()
        .find(|entry| entry.action == "staff.update")
        .context("an update")?;
    let before = update.before.as_ref().context("before")?;
    let after = update.after.as_ref().context("after")?;
    assert_eq!(before["boss_id"], json!(boss.id));
    assert_eq!(
        (&after["boss_id"], &after["version"]),
        (&Json::Null, &json!(2))
    );
    // A stale version is refused as after any other change.
    let stale = it
        .update(&scope, &worker, Some(1), json!({"title": "x"}))
        .await;
    assert_eq!(code(stale), "version_mismatch");
    Ok(())
}

async fn a_restricting_record_that_goes_as_well_forbids_nothing(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let firm = made(&it, "firms", "firm", json!({})).await?;
    let ada = made(&it, "staff", "ada", json!({"firm_id": firm.id})).await?;
    let both = json!({"colleague_id": ada.id, "firm_id": firm.id});
    let remark = made(&it, "remarks", "remark", both).await?;
    assert_eq!(code(it.delete(&scope, &ada).await), "has_dependents");
    it.delete(&scope, &firm).await?;
    assert_eq!(
        code(it.get(&scope, "remarks", remark.id).await),
        "not_found"
    );
    Ok(())
}

async fn a_refused_delete_changes_nothing(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let firm = made(&it, "firms", "firm", json!({})).await?;
    let ada = made(&it, "staff", "ada", json!({"firm_id": firm.id})).await?;
    let offer = made(&it, "offers", "offer", json!({"firm_id": firm.id})).await?;
    made(&it, "remarks", "remark", json!({"colleague_id": ada.id})).await?;
    let entries = it.audit().await?.len();
    assert_eq!(code(it.delete(&scope, &firm).await), "has_dependents");
    assert_eq!(it.audit().await?.len(), entries);
    assert_eq!(it.get(&scope, "offers", offer.id).await?.version, 1);
    it.get(&scope, "staff", ada.id).await?;
    Ok(())
}

async fn circles_of_references_end(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let first = made(&it, "firms", "first", json!({})).await?;
    let second = made(&it, "firms", "second", json!({"parent_id": first.id})).await?;
    let third = made(&it, "firms", "third", json!({"parent_id": second.id})).await?;
    let first = it
        .update(&scope, &first, None, json!({"parent_id": third.id}))
        .await?;
    let own = made(&it, "firms", "own", json!({})).await?;
    let own = it
        .update(&scope, &own, None, json!({"parent_id": own.id}))
        .await?;
    it.delete(&scope, &own).await?;
    it.delete(&scope, &second).await?;
    for firm in [&first, &second, &third, &own] {
        assert_eq!(code(it.get(&scope, "firms", firm.id).await), "not_found");
    }
    let leaf = made(&it, "leaves", "a", json!({})).await?;
    let other = made(&it, "leaves", "b", json!({"next_id": leaf.id})).await?;
    let leaf = it
        .update(&scope, &leaf, None, json!({"next_id": other.id}))
        .await?;
    it.delete(&scope, &leaf).await?;
    let other = it.get(&scope, "leaves", other.id).await?;
    assert!(other.get("next_id").is_some_and(|value| value.is_null()));
    Ok(())
}

async fn what_follows_is_bounded(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let firm = made(&it, "firms", "firm", json!({})).await?;
    let permit = scope.permit::<Create>("offers")?;
    for writes in [1_000; 10].into_iter().chain([1]) {
        let write = || Write::create(&permit, body(json!({"title": "x", "firm_id": firm.id})));
        let writes = (0..writes).map(|_| write()).collect();
        let reply = |_| {
            Ok(Reply {
                status: 200,
                record: None,
                body: None,
            })
        };
        let work = Work::All(writes);
        let done = it.crm.records().perform(&scope, work, None, reply).await;
        assert!(done.is_ok_and(|done| matches!(done, Answered::Now(_))));
    }
    assert_eq!(code(it.delete(&scope, &firm).await), "too_many_dependents");
    it.get(&scope, "firms", firm.id).await?;
    Ok(())
}

async fn what_the_caller_cannot_see_follows_too(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let operator = it.operator();
    let permit = operator.permit::<Create>("roles")?;
    let role = crm_core::role::NewRole {
        name: "clerk".into(),
        permissions: ["firms.read", "firms.delete"].map(Into::into).to_vec(),
        ..Default::default()
    };
    it.crm.roles().create(&permit, role).await?;
    let (clerk, user) = it.member("clerk").await?;
    let firm = made(&it, "firms", "firm", json!({})).await?;
    let ada = made(&it, "staff", "ada", json!({"firm_id": firm.id})).await?;
    let offer = made(&it, "offers", "offer", json!({"firm_id": firm.id})).await?;
    assert_eq!(code(it.get(&clerk, "staff", ada.id).await), "forbidden");
    it.delete(&clerk, &firm).await?;
    assert_eq!(code(it.get(&operator, "staff", ada.id).await), "not_found");
    assert_eq!(it.get(&operator, "offers", offer.id).await?.version, 2);
    let entries = it.audit().await?;
    let follows = entries.iter().find(|entry| entry.action == "staff.delete");
    let actor = follows.context("an audit row")?.actor.to_string();
    assert!(actor.contains(&user.to_string()), "{actor}");
    Ok(())
}

async fn another_tenants_records_never_follow(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let foreign = it.crm.tenants().create("Rival", request()).await?.id;
    let rival = it.crm.operator(foreign, request());
    let firm = made(&it, "firms", "firm", json!({})).await?;
    let theirs = it
        .create(&rival, "firms", json!({"title": "theirs"}))
        .await?;
    let input = json!({"title": "colleague", "firm_id": theirs.id});
    let colleague = it.create(&rival, "staff", input).await?;
    let input = json!({"title": "colleague", "firm_id": firm.id});
    assert_eq!(
        code(it.create(&rival, "staff", input).await),
        "validation_failed"
    );
    assert_eq!(code(it.delete(&rival, &firm).await), "not_found");
    it.delete(&it.operator(), &firm).await?;
    it.get(&rival, "staff", colleague.id).await?;
    it.get(&rival, "firms", theirs.id).await?;
    Ok(())
}

async fn a_cascade_into_the_trash_is_purged_with_its_record(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let binder = made(&it, "binders", "binder", json!({})).await?;
    let leaf = made(&it, "leaves", "leaf", json!({"binder_id": binder.id})).await?;
    let next = made(&it, "leaves", "next", json!({"next_id": leaf.id})).await?;
    it.delete(&scope, &binder).await?;
    assert_eq!(code(it.get(&scope, "leaves", leaf.id).await), "not_found");
    let next = it.get(&scope, "leaves", next.id).await?;
    assert!(next.get("next_id").is_some_and(|value| value.is_null()));
    let permit = scope.permit::<Delete>("leaves")?;
    it.crm.records().restore(&permit, leaf.id, None).await?;
    let purge = scope.permit::<Purge>("binders")?;
    let refused = it.crm.records().purge(&purge, binder.id, None).await;
    assert_eq!(code(refused), "has_dependents", "a live one would be lost");
    it.delete(&scope, &leaf).await?;
    let entries = it.audit().await?.len();
    it.crm.records().purge(&purge, binder.id, None).await?;
    assert_eq!(
        actions(&it, entries).await?,
        ["binders.purge", "leaves.purge"]
    );
    let restored = it
        .crm
        .records()
        .restore(&permit, leaf.id, Expected::Any)
        .await;
    assert_eq!(code(restored), "not_found");
    Ok(())
}

async fn hooks_run_around_what_follows(backend: Backend) -> anyhow::Result<()> {
    let specs = specs()?;
    let it = Fixture::built(backend, |builder| {
        let builder = builder.modules(specs);
        builder.hook("staff", When::Before, ChangeKind::Deleted, |cx| {
            Box::pin(async move {
                let title = cx.old().and_then(|old| old.get("title")?.as_text());
                match title {
                    Some("kept") => Err(Refusal::conflict("colleague_kept", "stays").into()),
                    _ => Ok(()),
                }
            })
        })
    })
    .await?;
    let scope = it.operator();
    let firm = made(&it, "firms", "firm", json!({})).await?;
    let kept = made(&it, "staff", "kept", json!({"firm_id": firm.id})).await?;
    assert_eq!(code(it.delete(&scope, &firm).await), "colleague_kept");
    it.update(&scope, &kept, None, json!({"title": "free"}))
        .await?;
    it.delete(&scope, &firm).await?;
    assert_eq!(code(it.get(&scope, "staff", kept.id).await), "not_found");
    Ok(())
}

async fn a_rule_changes_without_a_change_of_the_table(backend: Backend) -> anyhow::Result<()> {
    let clock = Clock::system();
    let options = DatabaseOptions::default();
    let schema = crm_core::Schema::open(backend.url(), &options, clock).await?;
    schema.migrate().await?;
    let registry = |rule: &str| {
        let staff = STAFF.replace("required = true, on_delete = \"cascade\"", rule);
        let specs = [FIRMS, staff.as_str()]
            .into_iter()
            .map(ModuleSpec::from_toml);
        crm_core::Registry::new(specs.collect::<crm_core::Result<_>>()?)
    };
    schema.apply(&registry("on_delete = \"set_null\"")?).await?;
    let changed = registry("on_delete = \"restrict\"")?;
    assert_eq!(schema.plan(&changed).await?, []);
    schema.apply(&changed).await?;
    schema.close().await;
    Ok(())
}

async fn racing_deletes_and_references_leave_no_orphan(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    for round in 0..10 {
        let firm = made(&it, "firms", &format!("{round}"), json!({})).await?;
        let input = json!({"title": "racer", "firm_id": firm.id});
        let (made, deleted) =
            tokio::join!(it.create(&scope, "staff", input), it.delete(&scope, &firm));
        deleted?;
        if let Ok(made) = made {
            let left = it.get(&scope, "staff", made.id).await;
            assert_eq!(code(left), "not_found", "it went with its firm");
        }
    }
    let query = Query::default();
    assert_eq!(it.ids(&scope, "staff", &query).await?, []);
    Ok(())
}

#[test]
fn a_rule_that_could_not_be_followed_is_refused() {
    let problems = |texts: &[&str]| {
        let specs = texts
            .iter()
            .map(|text| ModuleSpec::from_toml(text).unwrap());
        match crm_core::Registry::new(specs.collect()) {
            Err(Error::Invalid(problems)) => problems,
            other => panic!("{other:?}"),
        }
    };
    let required = STAFF.replace("on_delete = \"cascade\"", "on_delete = \"set_null\"");
    let found = problems(&[FIRMS, &required]);
    assert_eq!(found[0].pointer, "/staff/fields/1/on_delete");
    let trash = FIRMS.replace("\"firm\"", "\"firm\"\nsoft_delete = true");
    let staff = STAFF.replace("\"colleague\"", "\"colleague\"\nsoft_delete = true");
    assert!(
        crm_core::Registry::new(vec![
            ModuleSpec::from_toml(&trash).unwrap(),
            ModuleSpec::from_toml(&staff).unwrap()
        ])
        .is_ok()
    );
    let found = problems(&[FIRMS, &staff]);
    assert_eq!(found[0].pointer, "/staff/fields/1/on_delete");
    assert!(found[0].message.contains("soft_delete"), "{found:?}");
    let word = STAFF.replace("\"cascade\"", "\"explode\"");
    let error = ModuleSpec::from_toml(&word).unwrap_err().to_string();
    assert!(error.contains("restrict"), "{error}");
    let place = FIRMS.replace(
        "type = \"text\"",
        "type = \"text\", on_delete = \"cascade\"",
    );
    let error = ModuleSpec::from_toml(&place).unwrap_err().to_string();
    assert!(error.contains("`on_delete` does not belong"), "{error}");
}
