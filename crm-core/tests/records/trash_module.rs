//! Declarations of modules with a trash, and of those that require versions: their tables, their
//! hooks, and the fields that a tenant adds to them.

use super::trash::{FOLDERS, open, purge, restore, title, trash};
use super::*;
use crm_core::Schema;
use crm_core::record::Expected;

on_both_databases!(
    hooks_run_around_the_trash_too,
    a_table_gets_a_trash_and_loses_it_only_with_its_data,
    a_module_that_requires_versions_refuses_changes_without_one,
    fields_of_a_tenant_go_through_the_trash_bulk_writes_and_hooks,
);

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
