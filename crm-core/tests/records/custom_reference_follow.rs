//! How references of tenants' own follow what they refer to: through deletes, trash and merges.

use super::custom::refusals;
use super::custom_reference::{invalid, projects, reference};
use super::*;
use crm_core::Purge;
use crm_core::record::{Expected, Many, Merge, Write};
use crm_core::value::Value;

on_both_databases!(
    a_delete_is_followed_as_each_reference_says,
    whoever_knows_nothing_of_a_reference_follows_it_too,
    what_follows_goes_from_module_to_module,
    it_refers_to_nothing_in_the_trash_and_is_followed_when_that_is_purged,
    a_merge_points_it_to_the_survivor,
);

async fn a_delete_is_followed_as_each_reference_says(backend: Backend) -> anyhow::Result<()> {
    let (it, _) = Fixture::with_projects(backend, "restrict").await?;
    it.refer("contacts", reference("first_id", "projects", "cascade"))
        .await?;
    it.refer("contacts", reference("next_id", "projects", "set_null"))
        .await?;
    let scope = it.operator_in(it.tenant).await?;
    let (a, b) = (
        it.project(&scope, "a").await?,
        it.project(&scope, "b").await?,
    );
    let company = it.company(&scope, a.id).await?;
    let goes = json!({"name": "Goes", "first_id": a.id, "next_id": b.id});
    let goes = it.create(&scope, "contacts", goes).await?;
    let stays = json!({"name": "Stays", "first_id": b.id, "next_id": a.id});
    let stays = it.create(&scope, "contacts", stays).await?;
    let before = it.audit().await?.len();
    let refused = it.delete(&scope, &a).await;
    let message = refused
        .as_ref()
        .map_or_else(Error::to_string, |()| String::new());
    assert!(message.contains("companies (project_id)"), "{message}");
    assert_eq!(code(refused), "has_dependents");
    assert_eq!(it.audit().await?.len(), before);

    it.update(&scope, &company, None, json!({"project_id": null}))
        .await?;
    it.crm.dispatch_once().await?;
    it.delete(&scope, &a).await?;
    assert_eq!(code(it.get(&scope, "contacts", goes.id).await), "not_found");
    let stays = it.get(&scope, "contacts", stays.id).await?;
    let values = (stays.get("first_id"), stays.get("next_id"), stays.version);
    assert_eq!(values, (Some(&Value::Uuid(b.id.0)), Some(&Value::Null), 2));
    let entries = it.audit().await?;
    let mut actions: Vec<_> = entries[..3]
        .iter()
        .map(|entry| entry.action.as_str())
        .collect();
    actions.sort_unstable();
    assert_eq!(
        actions,
        ["contacts.delete", "contacts.update", "projects.delete"]
    );
    assert_eq!(it.crm.dispatch_once().await?, 3, "an event of each");

    // By a filter, too.
    let module = scope.module("projects").context("declared")?;
    let all = Filter::parse(module, "title", "eq", "b").map_err(invalid)?;
    let (read, delete) = (
        scope.permit::<Read>("projects")?,
        scope.permit::<Delete>("projects")?,
    );
    let many = Many::delete(&read, &delete, all, None)?;
    it.crm.records().write_many(many).await?;
    assert_eq!(
        code(it.get(&scope, "contacts", stays.id).await),
        "not_found"
    );
    Ok(())
}

async fn whoever_knows_nothing_of_a_reference_follows_it_too(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    // A scope of before the declarations.
    let early = it.operator_in(it.tenant).await?;
    let contact = it
        .create(&early, "contacts", json!({"name": "Ada"}))
        .await?;
    let other = it
        .create(&early, "contacts", json!({"name": "Bob"}))
        .await?;
    it.module(it.tenant, projects()).await?;
    it.refer("bare", reference("of_id", "contacts", "restrict"))
        .await?;
    let scope = it.operator_in(it.tenant).await?;
    let input = json!({"title": "a", "contact_id": contact.id});
    let project = it.create(&scope, "projects", input).await?;
    let bare = it
        .create(&scope, "bare", json!({"of_id": contact.id}))
        .await?;
    // And one without anything of the tenant's.
    for ignorant in [&early, &it.operator()] {
        assert_eq!(code(it.delete(ignorant, &contact).await), "has_dependents");
    }
    it.delete(&it.operator(), &bare).await?;
    it.delete(&early, &contact).await?;
    let left = it.get(&scope, "projects", project.id).await?;
    assert_eq!(
        (left.get("contact_id"), left.version),
        (Some(&Value::Null), 2)
    );

    it.update(&scope, &project, None, json!({"contact_id": other.id}))
        .await?;
    let module = early.module("contacts").context("declared")?;
    let all = Filter::parse(module, "name", "eq", "Bob").map_err(invalid)?;
    let (read, delete) = (
        early.permit::<Read>("contacts")?,
        early.permit::<Delete>("contacts")?,
    );
    let many = Many::delete(&read, &delete, all, None)?;
    it.crm.records().write_many(many).await?;
    let left = it.get(&scope, "projects", project.id).await?;
    assert_eq!(
        (left.get("contact_id"), left.version),
        (Some(&Value::Null), 4)
    );
    Ok(())
}

async fn what_follows_goes_from_module_to_module(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    for (name, singular, of) in [
        ("halls", "hall", "contacts"),
        ("rooms", "room", "halls"),
        ("desks", "desk", "rooms"),
    ] {
        let fields = json!([
            reference("of_id", of, "cascade"),
            reference("by_id", name, "cascade")
        ]);
        let module = json!({"name": name, "singular": singular, "fields": fields});
        it.module(it.tenant, module).await?;
    }
    it.refer("contacts", reference("desk_id", "desks", "cascade"))
        .await?;
    let scope = it.operator_in(it.tenant).await?;
    let ada = it
        .create(&scope, "contacts", json!({"name": "Ada"}))
        .await?;
    let mut above = ada.id;
    for module in ["halls", "rooms", "desks"] {
        let one = it.create(&scope, module, json!({"of_id": above})).await?;
        // Two that refer to each other.
        let other = it.create(&scope, module, json!({"by_id": one.id})).await?;
        it.update(&scope, &one, None, json!({"by_id": other.id}))
            .await?;
        above = one.id;
    }
    // And round again.
    it.update(&scope, &ada, None, json!({"desk_id": above}))
        .await?;
    it.crm.dispatch_once().await?;
    it.delete(&scope, &ada).await?;
    for module in ["contacts", "halls", "rooms", "desks"] {
        assert_eq!(
            it.ids(&scope, module, &Query::default()).await?,
            [],
            "{module}"
        );
    }
    assert_eq!(it.crm.dispatch_once().await?, 7);
    Ok(())
}

async fn it_refers_to_nothing_in_the_trash_and_is_followed_when_that_is_purged(
    backend: Backend,
) -> anyhow::Result<()> {
    let (it, _) = Fixture::with_projects(backend, "restrict").await?;
    it.refer("companies", reference("folder_id", "folders", "restrict"))
        .await?;
    it.refer("folders", reference("project_id", "projects", "set_null"))
        .await?;
    let scope = it.operator_in(it.tenant).await?;
    let folder = it.create(&scope, "folders", json!({"title": "a"})).await?;
    let input = json!({"name": "Acme", "folder_id": folder.id});
    let company = it.create(&scope, "companies", input).await?;
    assert_eq!(code(it.delete(&scope, &folder).await), "has_dependents");
    it.update(&scope, &company, None, json!({"folder_id": null}))
        .await?;
    let project = it.project(&scope, "p").await?;
    let folder = it
        .update(&scope, &folder, None, json!({"project_id": project.id}))
        .await?;
    it.delete(&scope, &folder).await?;
    let refused = it
        .update(&scope, &company, None, json!({"folder_id": folder.id}))
        .await;
    assert_eq!(
        refusals(refused),
        [("/folder_id".to_owned(), "unknown_reference")]
    );
    // What is in the trash loses its reference when the row that it names goes.
    it.delete(&scope, &project).await?;
    let delete = scope.permit::<Delete>("folders")?;
    let records = it.crm.records();
    let folder = records.restore(&delete, folder.id, Expected::Any).await?;
    assert_eq!(folder.get("project_id"), Some(&Value::Null));

    it.update(&scope, &company, None, json!({"folder_id": folder.id}))
        .await?;
    it.refer("contacts", reference("folder_id", "folders", "cascade"))
        .await?;
    let scope = it.operator_in(it.tenant).await?;
    let contact = json!({"name": "Ada", "folder_id": folder.id});
    let contact = it.create(&scope, "contacts", contact).await?;
    assert_eq!(code(it.delete(&scope, &folder).await), "has_dependents");
    it.delete(&scope, &it.get(&scope, "companies", company.id).await?)
        .await?;
    it.delete(&scope, &folder).await?;
    assert_eq!(
        code(it.get(&scope, "contacts", contact.id).await),
        "not_found"
    );
    let purge = scope.permit::<Purge>("folders")?;
    records.purge(&purge, folder.id, Expected::Any).await?;
    Ok(())
}

async fn a_merge_points_it_to_the_survivor(backend: Backend) -> anyhow::Result<()> {
    let (it, scope) = Fixture::with_projects(backend, "restrict").await?;
    let (early, late) = (it.operator(), it.operator_in(it.tenant).await?);
    let mut contacts = Vec::new();
    for name in ["a", "b"] {
        contacts.push(it.create(&scope, "contacts", json!({"name": name})).await?);
    }
    let mut projects = Vec::new();
    for contact in &contacts {
        let input = json!({"title": "x", "contact_id": contact.id});
        projects.push(it.create(&scope, "projects", input).await?);
    }
    let company = it.company(&scope, projects[1].id).await?;
    let under = json!({"title": "under", "above_id": projects[1].id});
    let under = it.create(&scope, "projects", under).await?;
    for (scope, module, [stays, goes]) in [
        (&early, "contacts", [contacts[0].id, contacts[1].id]),
        (&scope, "projects", [projects[0].id, projects[1].id]),
    ] {
        let merge = Write::merge(
            &scope.permit::<Read>(module)?,
            &scope.permit::<Update>(module)?,
            &scope.permit::<Delete>(module)?,
            stays,
            None,
            Merge {
                from: vec![(goes, None)],
                take: Vec::new(),
            },
        );
        it.crm.records().merge(merge?).await?;
        if module == "contacts" {
            let pointed = it.get(&late, "projects", projects[1].id).await?;
            assert_eq!(pointed.get("contact_id"), Some(&Value::Uuid(stays.0)));
            assert_eq!(pointed.version, 2);
        }
    }
    let company = it.get(&scope, "companies", company.id).await?;
    assert_eq!(
        company.get("project_id"),
        Some(&Value::Uuid(projects[0].id.0))
    );
    let under = it.get(&scope, "projects", under.id).await?;
    assert_eq!(under.get("above_id"), Some(&Value::Uuid(projects[0].id.0)));
    Ok(())
}
