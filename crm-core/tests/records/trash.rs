//! What modules with a trash promise, and those that require versions.

use super::*;
use crm_core::record::{Aggregate, Comparison, Expected, Function, Metric, View};
use crm_core::{Purge, Schema};

on_both_databases!(
    a_deleted_record_is_absent_for_every_read_and_write,
    the_trash_lists_searches_and_pages_what_is_deleted,
    a_unique_value_is_free_while_its_record_is_in_the_trash,
    a_restored_record_is_what_it_was_with_two_more_versions,
    every_way_in_and_out_leaves_an_audit_row_and_an_event,
    a_record_that_live_ones_refer_to_is_not_deleted,
    a_reference_into_the_trash_stays_and_expands_to_null,
    purging_removes_for_good_and_needs_its_own_right,
    an_old_trash_is_purged_referrers_first_and_what_is_referred_to_stays,
    own_rows_are_all_that_a_member_sees_of_the_trash,
    hooks_run_around_the_trash_too,
    racing_references_and_deletes_leave_no_new_reference_into_the_trash,
    a_table_gets_a_trash_and_loses_it_only_with_its_data,
    a_module_that_requires_versions_refuses_changes_without_one,
    fields_of_a_tenant_go_through_the_trash_bulk_writes_and_hooks,
);

pub(super) const FOLDERS: &str = r#"
name = "folders"
singular = "folder"
soft_delete = true
search = "indexed"
indexes = [["room", "shelf"]]
fields = [
    { name = "title", type = "text", required = true, search = true, sort = true },
    { name = "code", type = "text", unique = true, sort = true },
    { name = "email", type = "email", unique = true },
    { name = "room", type = "integer", sort = true },
    { name = "shelf", type = "integer" },
    { name = "parent_id", type = "reference", module = "folders" },
]
"#;

const SHEETS: &str = r#"
name = "sheets"
singular = "sheet"
soft_delete = true
fields = [
    { name = "title", type = "text", required = true },
    { name = "folder_id", type = "reference", module = "folders" },
]
"#;

const SEALS: &str = r#"
name = "seals"
singular = "seal"
require_version = true
fields = [{ name = "title", type = "text", required = true, unique = true }]
"#;

async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    let modules = [
        ModuleSpec::from_toml(FOLDERS)?,
        ModuleSpec::from_toml(SHEETS)?,
        ModuleSpec::from_toml(SEALS)?,
    ];
    Fixture::built(backend, |builder| builder.modules(modules)).await
}

/// Titles of the trash, as this scope sees it.
async fn trash(it: &Fixture, scope: &Scope, query: &Query) -> crm_core::Result<Vec<String>> {
    let (read, delete) = (
        scope.permit::<Read>("folders")?,
        scope.permit::<Delete>("folders")?,
    );
    let page = it.crm.records().trash(&read, &delete, query).await?;
    assert!(page.data.iter().all(|record| record.deleted_at.is_some()));
    Ok(page.data.iter().map(title).collect())
}

fn title(record: &Record) -> String {
    let title = record.get("title").and_then(|title| title.as_text());
    title.unwrap_or_default().to_owned()
}

async fn restore(it: &Fixture, scope: &Scope, record: &Record) -> crm_core::Result<Record> {
    let permit = scope.permit::<Delete>(record.module().name().as_str())?;
    it.crm.records().restore(&permit, record.id, None).await
}

async fn purge(it: &Fixture, scope: &Scope, record: &Record) -> crm_core::Result<()> {
    let permit = scope.permit::<Purge>(record.module().name().as_str())?;
    it.crm.records().purge(&permit, record.id, None).await
}

async fn a_deleted_record_is_absent_for_every_read_and_write(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let input = |title: &str| json!({"title": title, "code": title, "room": 1});
    let kept = it.create(&scope, "folders", input("kept")).await?;
    let gone = it.create(&scope, "folders", input("gone")).await?;
    it.delete(&scope, &gone).await?;
    assert_eq!(code(it.get(&scope, "folders", gone.id).await), "not_found");
    assert_eq!(
        code(it.update(&scope, &gone, None, json!({"room": 2})).await),
        "not_found"
    );
    assert_eq!(code(it.delete(&scope, &gone).await), "not_found");
    let module = it.crm.registry().get("folders").context("folders")?;
    let room = Field::named(module, "room").context("room")?;
    let by =
        |name: &str| Sort::parse_list(module, name).map_err(|error| anyhow::anyhow!(error.message));
    for query in [
        Query {
            count: Count::Exact,
            ..Query::default()
        },
        Query {
            sort: by("code")?,
            ..Query::default()
        },
        Query {
            sort: by("-room,title")?,
            ..Query::default()
        },
        Query {
            search: Some("e".into()),
            ..Query::default()
        },
        Query {
            search: Some("gone".into()),
            ..Query::default()
        },
        Query {
            filter: Some(Filter::Compare(room, Comparison::In(vec![1_i64.into()]))),
            ..Query::default()
        },
        Query {
            filter: Some(Filter::Not(Box::new(Filter::Or(vec![])))),
            ..Query::default()
        },
    ] {
        let expected = match query.search.as_deref() {
            Some("gone") => vec![],
            _ => vec![kept.id],
        };
        assert_eq!(
            it.ids(&scope, "folders", &query).await?,
            expected,
            "{query:?}"
        );
        let permit = scope.permit::<Read>("folders")?;
        let total = it.crm.records().count(&permit, &query).await?;
        assert_eq!(total.count, expected.len() as u64, "{query:?}");
    }
    let ask = Aggregate {
        metrics: vec![Metric {
            function: Function::Count,
            field: None,
        }],
        ..Aggregate::default()
    };
    let groups = it
        .crm
        .records()
        .aggregate(&scope.permit::<Read>("folders")?, &ask)
        .await?;
    assert_eq!(groups.data[0].metrics, [1_i64.into()]);
    let refused = it
        .create(
            &scope,
            "sheets",
            json!({"title": "x", "folder_id": gone.id}),
        )
        .await;
    assert_eq!(code(refused), "validation_failed");
    Ok(())
}

async fn the_trash_lists_searches_and_pages_what_is_deleted(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    for n in 0..5 {
        let made = it
            .create(&scope, "folders", json!({"title": format!("file {n}")}))
            .await?;
        if n != 2 {
            it.delete(&scope, &made).await?;
        }
    }
    assert_eq!(
        trash(&it, &scope, &Query::default()).await?,
        ["file 4", "file 3", "file 1", "file 0"]
    );
    let query = Query {
        search: Some("FILE 3".into()),
        ..Query::default()
    };
    assert_eq!(trash(&it, &scope, &query).await?, ["file 3"]);
    let module = it.crm.registry().get("folders").context("folders")?;
    let sort = Sort::parse_list(module, "title").map_err(|error| anyhow::anyhow!(error.message))?;
    let mut query = Query {
        limit: 3,
        sort,
        count: Count::Capped,
        ..Query::default()
    };
    let (read, delete) = (
        scope.permit::<Read>("folders")?,
        scope.permit::<Delete>("folders")?,
    );
    let page = it.crm.records().trash(&read, &delete, &query).await?;
    assert_eq!(page.total.map(|total| total.count), Some(4));
    query.cursor = page.next_cursor;
    assert_eq!(trash(&it, &scope, &query).await?, ["file 4"]);
    let none = it.crm.records();
    let (read, delete) = (
        scope.permit::<Read>("things")?,
        scope.permit::<Delete>("things")?,
    );
    let none = none.trash(&read, &delete, &Query::default()).await;
    assert_eq!(code(none), "not_found");
    Ok(())
}

async fn a_unique_value_is_free_while_its_record_is_in_the_trash(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let input = |title: &str| json!({"title": title, "code": "A", "email": "Ada@x.example"});
    let first = it.create(&scope, "folders", input("first")).await?;
    it.delete(&scope, &first).await?;
    let second = it.create(&scope, "folders", input("second")).await?;
    let third = it.create(&scope, "folders", input("third")).await;
    assert_eq!(code(third), "already_exists");
    assert_eq!(code(restore(&it, &scope, &first).await), "already_exists");
    // An upsert finds the live one.
    let (create, update) = (
        scope.permit::<Create>("folders")?,
        scope.permit::<Update>("folders")?,
    );
    let sent = body(json!({"title": "changed", "code": "A"}));
    let written = it
        .crm
        .records()
        .upsert(&create, &update, "code", sent)
        .await?;
    assert_eq!(written.record.id, second.id);
    it.delete(&scope, &written.record).await?;
    restore(&it, &scope, &first).await?;
    assert_eq!(code(restore(&it, &scope, &second).await), "already_exists");
    Ok(())
}

async fn a_restored_record_is_what_it_was_with_two_more_versions(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let (user, id) = it.member("member").await?;
    let made = it
        .create(&user, "folders", json!({"title": "x", "room": 7}))
        .await?;
    it.delete(&user, &made).await?;
    let permit = user.permit::<Delete>("folders")?;
    let stale = it.crm.records().restore(&permit, made.id, Some(1)).await;
    assert_eq!(code(stale), "version_mismatch");
    let back = it.crm.records().restore(&permit, made.id, Some(2)).await?;
    assert_eq!(
        (back.version, back.owner_id, back.deleted_at),
        (3, Some(id), None)
    );
    assert_eq!(back.values(), made.values());
    assert_eq!(
        it.get(&user, "folders", made.id).await?.to_json(),
        back.to_json()
    );
    assert_eq!(code(restore(&it, &user, &made).await), "not_found");
    Ok(())
}

async fn every_way_in_and_out_leaves_an_audit_row_and_an_event(
    backend: Backend,
) -> anyhow::Result<()> {
    let seen = Arc::new(Seen::default());
    let modules = [ModuleSpec::from_toml(FOLDERS)?];
    let subscriber = seen.clone();
    let it = Fixture::built(backend, |builder| {
        builder.modules(modules).subscribe(subscriber)
    })
    .await?;
    let scope = it.operator();
    let made = it.create(&scope, "folders", json!({"title": "x"})).await?;
    it.delete(&scope, &made).await?;
    restore(&it, &scope, &made).await?;
    it.delete(&scope, &made).await?;
    purge(&it, &scope, &made).await?;
    let actions: Vec<_> = it
        .audit()
        .await?
        .into_iter()
        .map(|one| one.action)
        .collect();
    assert_eq!(
        actions[..5],
        [
            "folders.purge",
            "folders.delete",
            "folders.restore",
            "folders.delete",
            "folders.create"
        ]
    );
    it.crm.dispatch_once().await?;
    let kinds = seen.0.lock().map(|kinds| kinds.clone()).unwrap_or_default();
    assert_eq!(
        kinds,
        [
            "folder.created",
            "folder.deleted",
            "folder.restored",
            "folder.deleted",
            "folder.purged"
        ]
    );
    Ok(())
}

#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Subscriber for Seen {
    fn name(&self) -> &'static str {
        "seen"
    }

    fn deliver(&self, event: Arc<Event>) -> BoxFuture<'_, crm_core::Result<()>> {
        Box::pin(async move {
            if let Ok(mut kinds) = self.0.lock() {
                kinds.push(event.kind.clone());
            }
            Ok(())
        })
    }
}

async fn a_record_that_live_ones_refer_to_is_not_deleted(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let file = it.create(&scope, "folders", json!({"title": "x"})).await?;
    let sheet = it
        .create(
            &scope,
            "sheets",
            json!({"title": "y", "folder_id": file.id}),
        )
        .await?;
    assert_eq!(code(it.delete(&scope, &file).await), "has_dependents");
    it.delete(&scope, &sheet).await?;
    it.delete(&scope, &file).await?;
    // The sheet in the trash still refers to it.
    assert_eq!(code(purge(&it, &scope, &file).await), "has_dependents");
    // One that refers to itself stands in nobody's way.
    let own = it
        .create(&scope, "folders", json!({"title": "own"}))
        .await?;
    it.update(&scope, &own, None, json!({"parent_id": own.id}))
        .await?;
    it.delete(&scope, &own).await?;
    purge(&it, &scope, &own).await?;
    Ok(())
}

async fn a_reference_into_the_trash_stays_and_expands_to_null(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let file = it.create(&scope, "folders", json!({"title": "x"})).await?;
    let sheet = it
        .create(
            &scope,
            "sheets",
            json!({"title": "y", "folder_id": file.id}),
        )
        .await?;
    it.delete(&scope, &sheet).await?;
    it.delete(&scope, &file).await?;
    let sheet = restore(&it, &scope, &sheet).await?;
    let mut view = View::default();
    let module = it.crm.registry().get("sheets").context("sheets")?;
    view.expand(&scope, module, ["folder_id"])
        .map_err(|error| anyhow::anyhow!(error.message))?;
    let permit = scope.permit::<Read>("sheets")?;
    let viewed = it
        .crm
        .records()
        .view(&permit, vec![sheet.clone()], &view)
        .await?;
    let json = serde_json::to_value(&viewed[0])?;
    assert_eq!(
        (&json["folder_id"], &json["folder"]),
        (&json!(file.id), &Json::Null)
    );
    // Other fields change, with the reference as it is.
    let changed = it
        .update(
            &scope,
            &sheet,
            None,
            json!({"title": "z", "folder_id": file.id}),
        )
        .await?;
    assert_eq!(title(&changed), "z");
    Ok(())
}

async fn purging_removes_for_good_and_needs_its_own_right(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let permit = it.operator().permit::<Create>("roles")?;
    let role = crm_core::role::NewRole {
        name: "clerk".into(),
        permissions: ["read", "create", "update", "delete"]
            .map(|action| format!("folders.{action}").into())
            .to_vec(),
        ..Default::default()
    };
    it.crm.roles().create(&permit, role).await?;
    let (clerk, _) = it.member("clerk").await?;
    let made = it.create(&clerk, "folders", json!({"title": "x"})).await?;
    assert_eq!(
        code(purge(&it, &it.operator(), &made).await),
        "not_in_trash"
    );
    it.delete(&clerk, &made).await?;
    assert_eq!(code(purge(&it, &clerk, &made).await), "forbidden");
    let rival = it.crm.tenants().create("Rival", request()).await?.id;
    let rival = it.crm.operator(rival, request());
    assert_eq!(code(purge(&it, &rival, &made).await), "not_found");
    assert_eq!(code(restore(&it, &rival, &made).await), "not_found");
    assert_eq!(trash(&it, &rival, &Query::default()).await?, [""; 0]);
    purge(&it, &it.operator(), &made).await?;
    assert_eq!(trash(&it, &clerk, &Query::default()).await?, [""; 0]);
    assert_eq!(code(restore(&it, &clerk, &made).await), "not_found");
    Ok(())
}

async fn an_old_trash_is_purged_referrers_first_and_what_is_referred_to_stays(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let file = |n: i64| json!({"title": format!("file {n}")});
    let mut files = Vec::new();
    for n in 0..3 {
        files.push(it.create(&scope, "folders", file(n)).await?);
    }
    let sheet = async |file: &Record| {
        it.create(
            &scope,
            "sheets",
            json!({"title": "s", "folder_id": file.id}),
        )
        .await
    };
    let (gone, stays) = (sheet(&files[0]).await?, sheet(&files[1]).await?);
    for sheet in [&gone, &stays] {
        it.delete(&scope, sheet).await?;
    }
    for file in &files {
        it.delete(&scope, file).await?;
    }
    restore(&it, &scope, &stays).await?;
    let now = it.crm.clock().now();
    let none = it
        .crm
        .purge_trash(None, now - TimeDelta::days(1), request())
        .await?;
    assert_eq!((none.removed, none.kept), (0, 0));
    let rival = it.crm.tenants().create("Rival", request()).await?.id;
    let later = now + TimeDelta::days(1);
    let none = it.crm.purge_trash(Some(rival), later, request()).await?;
    assert_eq!((none.removed, none.kept), (0, 0));
    let purged = it.crm.purge_trash(None, later, request()).await?;
    assert_eq!((purged.removed, purged.kept), (3, 1));
    assert_eq!(trash(&it, &scope, &Query::default()).await?, ["file 1"]);
    Ok(())
}

async fn own_rows_are_all_that_a_member_sees_of_the_trash(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let (member, _) = it.member("member").await?;
    let (viewer, _) = it.member("viewer").await?;
    let own = it
        .create(&member, "folders", json!({"title": "own"}))
        .await?;
    let other = it
        .create(&it.operator(), "folders", json!({"title": "other"}))
        .await?;
    it.delete(&member, &own).await?;
    it.delete(&it.operator(), &other).await?;
    assert_eq!(trash(&it, &member, &Query::default()).await?, ["own"]);
    assert_eq!(
        trash(&it, &it.operator(), &Query::default()).await?.len(),
        2
    );
    assert_eq!(
        code(trash(&it, &viewer, &Query::default()).await),
        "forbidden"
    );
    assert_eq!(code(restore(&it, &member, &other).await), "not_found");
    Ok(())
}

async fn hooks_run_around_the_trash_too(backend: Backend) -> anyhow::Result<()> {
    use crm_core::event::ChangeKind;
    use crm_core::record::When;

    let modules = [ModuleSpec::from_toml(FOLDERS)?];
    let it = Fixture::built(backend, |builder| {
        let refuse = |code: &'static str| crm_core::Refusal::conflict(code, "not this one");
        builder
            .modules(modules)
            .hook("folders", When::Before, ChangeKind::Restored, move |cx| {
                Box::pin(async move {
                    assert!(cx.old().is_some_and(|old| old.deleted_at.is_some()));
                    match cx.record().map(title).as_deref() {
                        Some("stays") => Err(refuse("stays_deleted").into()),
                        _ => Ok(()),
                    }
                })
            })
            .hook("folders", When::After, ChangeKind::Purged, move |_| {
                Box::pin(async move { Err(refuse("never_purged").into()) })
            })
    })
    .await?;
    let scope = it.operator();
    let made = it
        .create(&scope, "folders", json!({"title": "stays"}))
        .await?;
    it.delete(&scope, &made).await?;
    assert_eq!(code(restore(&it, &scope, &made).await), "stays_deleted");
    assert_eq!(code(purge(&it, &scope, &made).await), "never_purged");
    let later = it.crm.clock().now() + TimeDelta::days(1);
    let purged = it.crm.purge_trash(None, later, request()).await?;
    assert_eq!((purged.removed, purged.kept), (0, 1));
    assert_eq!(trash(&it, &scope, &Query::default()).await?, ["stays"]);
    Ok(())
}

async fn racing_references_and_deletes_leave_no_new_reference_into_the_trash(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    for _ in 0..12 {
        let file = it.create(&scope, "folders", json!({"title": "x"})).await?;
        let sheet = json!({"title": "y", "folder_id": file.id});
        let (made, deleted) =
            tokio::join!(it.create(&scope, "sheets", sheet), it.delete(&scope, &file));
        assert!(made.is_ok() != deleted.is_ok(), "{made:?} {deleted:?}");
    }
    Ok(())
}

async fn a_table_gets_a_trash_and_loses_it_only_with_its_data(
    backend: Backend,
) -> anyhow::Result<()> {
    let hard = |text: &str| ModuleSpec::from_toml(&text.replace("soft_delete = true", ""));
    let start = DateTime::parse_from_rfc3339("2025-01-15T09:30:00Z")?.to_utc();
    let open = async |spec: ModuleSpec, first: u64| {
        let (clock, _) = Clock::fixed(start, first);
        let builder = Crm::builder()
            .database(backend.url())
            .database_options(crm_core::testing::database_options())
            .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
            .clock(clock)
            .password_cost(PasswordCost::LOWEST);
        builder.modules([spec]).build().await
    };
    let create = async |crm: &Crm, tenant: TenantId, code: &str| {
        let permit = crm
            .operator(tenant, request())
            .permit::<Create>("folders")?;
        let sent = body(json!({"title": "x", "code": code}));
        crm.records().create(&permit, sent).await
    };
    let crm = open(hard(FOLDERS)?, 1).await?;
    let tenant = crm.tenants().create("Acme", request()).await?.id;
    let made = create(&crm, tenant, "A").await?;
    crm.close().await;

    let crm = open(ModuleSpec::from_toml(FOLDERS)?, 1_000).await?;
    let scope = crm.operator(tenant, request());
    let delete = scope.permit::<Delete>("folders")?;
    crm.records().delete(&delete, made.id, None).await?;
    create(&crm, tenant, "A").await?;
    assert_eq!(code(create(&crm, tenant, "A").await), "already_exists");
    crm.close().await;

    let Err(refused) = open(hard(FOLDERS)?, 2_000).await else {
        anyhow::bail!("a trash was dropped");
    };
    assert!(refused.to_string().contains("drop the trash"), "{refused}");
    let (clock, _) = Clock::fixed(start, 3_000);
    let schema = Schema::open(backend.url(), &DatabaseOptions::default(), clock).await?;
    let steps = schema
        .plan(&crm_core::Registry::new(vec![hard(FOLDERS)?])?)
        .await?;
    assert!(steps.iter().any(|step| step.destructive), "{steps:?}");
    schema.close().await;
    Ok(())
}

async fn a_module_that_requires_versions_refuses_changes_without_one(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let made = it.create(&scope, "seals", json!({"title": "x"})).await?;
    let changed = it.update(&scope, &made, None, json!({"title": "y"})).await;
    assert_eq!(code(changed), "precondition_required");
    assert_eq!(
        code(it.delete(&scope, &made).await),
        "precondition_required"
    );
    // Who may not know of the record learns nothing of it.
    let rival = it.crm.tenants().create("Rival", request()).await?.id;
    let rival = it.crm.operator(rival, request());
    assert_eq!(code(it.delete(&rival, &made).await), "not_found");
    let changed = it
        .update(&scope, &made, Some(1), json!({"title": "y"}))
        .await?;
    assert_eq!(changed.version, 2);
    // What is found by its value needs no version.
    let (create, update) = (
        scope.permit::<Create>("seals")?,
        scope.permit::<Update>("seals")?,
    );
    let sent = body(json!({"title": "y"}));
    it.crm
        .records()
        .upsert(&create, &update, "title", sent)
        .await?;
    let permit = scope.permit::<Delete>("seals")?;
    it.crm
        .records()
        .delete(&permit, made.id, Expected::OneOf(vec![1, 2]))
        .await?;
    Ok(())
}

async fn fields_of_a_tenant_go_through_the_trash_bulk_writes_and_hooks(
    backend: Backend,
) -> anyhow::Result<()> {
    use crm_core::event::ChangeKind;
    use crm_core::record::{Many, Merge, When, Write};

    let modules = [ModuleSpec::from_toml(FOLDERS)?];
    let it = Fixture::built(backend, |builder| {
        builder
            .modules(modules)
            .hook("folders", When::Before, ChangeKind::Created, |cx| {
                Box::pin(async move {
                    let set = cx.module().position("seal").is_some();
                    if set {
                        cx.set("seal", "by a hook")
                    } else {
                        Ok(())
                    }
                })
            })
    })
    .await?;
    let permit = it.operator().permit::<Update>("modules")?;
    for field in [
        json!({"name": "seal", "type": "text"}),
        json!({"name": "colour", "type": "text"}),
        json!({"name": "marks", "type": "tags"}),
    ] {
        let field = serde_json::from_value(field)?;
        it.crm
            .custom_fields()
            .declare(&permit, "folders", field)
            .await?;
    }
    let scope = it.crm.operator_in(it.tenant, request()).await?;
    let get = |record: &Record, field: &str| serde_json::to_value(record.get(field));
    let first = it
        .create(&scope, "folders", json!({"title": "A", "marks": ["a"]}))
        .await?;
    assert_eq!(get(&first, "seal")?, json!("by a hook"));
    let second = json!({"title": "B", "colour": "red", "marks": ["b"]});
    let second = it.create(&scope, "folders", second).await?;

    let module = scope.module("folders").context("folders")?;
    let filter = Filter::from_json(module, &body(json!({"colour": {"eq": "red"}})));
    let filter = filter.map_err(Error::Invalid)?;
    let (read, update) = (
        scope.permit::<Read>("folders")?,
        scope.permit::<Update>("folders")?,
    );
    let delete = scope.permit::<Delete>("folders")?;
    let set = body(json!({"room": 3, "colour": "blue", "seal": null}));
    let records = it.crm.records();
    let done = records
        .write_many(Many::update(&read, &update, filter, set, Some(1))?)
        .await?;
    assert_eq!((done.matched, done.changed), (1, 1));
    let now = it.get(&scope, "folders", second.id).await?;
    let values = ["room", "colour", "seal", "marks"].map(|field| get(&now, field).ok());
    assert_eq!(
        values,
        [json!(3), json!("blue"), Json::Null, json!(["b"])].map(Some)
    );

    it.delete(&scope, &second).await?;
    let back = restore(&it, &scope, &second).await?;
    assert_eq!(back.values(), now.values());
    let merge = Merge {
        from: vec![(second.id, None)],
        take: vec![],
    };
    let merge = Write::merge(&read, &update, &delete, first.id, None, merge)?;
    let merged = records.merge(merge).await?;
    assert_eq!(get(&merged, "colour")?, json!("blue"));
    assert_eq!(get(&merged, "marks")?, json!(["a", "b"]));

    // The values of what is in the trash are purged, too.
    it.crm
        .custom_fields()
        .remove(&permit, "folders", "colour")
        .await?;
    let permit = it.operator().permit::<Delete>("modules")?;
    assert_eq!(
        it.crm
            .custom_fields()
            .purge(&permit, "folders", "colour")
            .await?,
        2
    );
    Ok(())
}
