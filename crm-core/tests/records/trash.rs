//! What modules with a trash promise, and those that require versions.

use super::*;
use crm_core::Purge;
use crm_core::record::{Aggregate, Comparison, Function, Metric};

on_both_databases!(
    a_deleted_record_is_absent_for_every_read_and_write,
    the_trash_lists_searches_and_pages_what_is_deleted,
    a_unique_value_is_free_while_its_record_is_in_the_trash,
    a_restored_record_is_what_it_was_with_two_more_versions,
    every_way_in_and_out_leaves_an_audit_row_and_an_event,
    purging_removes_for_good_and_needs_its_own_right,
    own_rows_are_all_that_a_member_sees_of_the_trash,
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

pub(super) async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    let modules = [
        ModuleSpec::from_toml(FOLDERS)?,
        ModuleSpec::from_toml(SHEETS)?,
        ModuleSpec::from_toml(SEALS)?,
    ];
    Fixture::built(backend, |builder| builder.modules(modules)).await
}

/// Titles of the trash, as this scope sees it.
pub(super) async fn trash(
    it: &Fixture,
    scope: &Scope,
    query: &Query,
) -> crm_core::Result<Vec<String>> {
    let (read, delete) = (
        scope.permit::<Read>("folders")?,
        scope.permit::<Delete>("folders")?,
    );
    let page = it.crm.records().trash(&read, &delete, query).await?;
    assert!(page.data.iter().all(|record| record.deleted_at.is_some()));
    Ok(page.data.iter().map(title).collect())
}

pub(super) fn title(record: &Record) -> String {
    let title = record.get("title").and_then(|title| title.as_text());
    title.unwrap_or_default().to_owned()
}

pub(super) async fn restore(
    it: &Fixture,
    scope: &Scope,
    record: &Record,
) -> crm_core::Result<Record> {
    let permit = scope.permit::<Delete>(record.module().name().as_str())?;
    it.crm.records().restore(&permit, record.id, None).await
}

pub(super) async fn purge(it: &Fixture, scope: &Scope, record: &Record) -> crm_core::Result<()> {
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
    let seen = Arc::new(Collector::default());
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
    assert_eq!(
        seen.kinds(),
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
