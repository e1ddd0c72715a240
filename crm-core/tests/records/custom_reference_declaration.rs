//! How references of tenants' own are declared and removed, also while others write, and what else
//! names them.

use super::custom::refusals;
use super::custom_reference::{invalid, projects, reference};
use super::*;
use crm_core::policy::PermissionInput;
use crm_core::record::View;
use crm_core::value::Value;

on_both_databases!(
    racing_deletes_and_references_leave_nothing_dangling,
    racing_declarations_and_deletes_leave_nothing_dangling,
    a_reference_that_cannot_be_is_refused_by_name,
    what_it_is_expanded_as_is_nobody_elses_name,
    a_module_that_is_referred_to_is_not_destroyed,
    a_removed_reference_is_purged_before_it_is_declared_again,
    it_is_a_condition_of_rights_on_rows,
);

/// No company refers to what is not there.
async fn nothing_dangles(it: &Fixture) -> anyhow::Result<()> {
    let scope = it.operator_in(it.tenant).await?;
    let read = scope.permit::<Read>("companies")?;
    let page = it.crm.records().list(&read, &Query::default()).await?;
    for company in page.data {
        if let Some(Value::Uuid(id)) = company.get("project_id") {
            it.get(&scope, "projects", RecordId(*id)).await?;
        }
    }
    Ok(())
}

async fn racing_deletes_and_references_leave_nothing_dangling(
    backend: Backend,
) -> anyhow::Result<()> {
    let (it, _) = Fixture::with_projects(backend, "restrict").await?;
    for on_delete in ["set_null", "cascade", "restrict"] {
        it.remove(it.tenant, "companies", "project_id").await?;
        it.purge(it.tenant, "companies", "project_id").await?;
        it.refer("companies", reference("project_id", "projects", on_delete))
            .await?;
        let scope = it.operator_in(it.tenant).await?;
        for round in 0..10 {
            let project = it.project(&scope, &format!("{round}")).await?;
            let (made, deleted) =
                tokio::join!(it.company(&scope, project.id), it.delete(&scope, &project));
            assert!(made.is_ok() || deleted.is_ok(), "{made:?} {deleted:?}");
            assert!(["ok", "has_dependents"].contains(&code(deleted)));
            nothing_dangles(&it).await?;
        }
    }
    Ok(())
}

async fn racing_declarations_and_deletes_leave_nothing_dangling(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    it.module(it.tenant, projects()).await?;
    let early = it.operator_in(it.tenant).await?;
    for round in 0..5 {
        let project = it.project(&early, &format!("{round}")).await?;
        let referred = async {
            it.refer("companies", reference("project_id", "projects", "set_null"))
                .await?;
            let scope = it.operator_in(it.tenant).await?;
            it.company(&scope, project.id).await
        };
        let (made, deleted) = tokio::join!(referred, it.delete(&early, &project));
        deleted?;
        if let Err(error) = made {
            assert_eq!(error.code(), "validation_failed");
        }
        nothing_dangles(&it).await?;
        it.remove(it.tenant, "companies", "project_id").await?;
        it.purge(it.tenant, "companies", "project_id").await?;
    }
    Ok(())
}

async fn a_reference_that_cannot_be_is_refused_by_name(backend: Backend) -> anyhow::Result<()> {
    let (it, _) = Fixture::with_projects(backend, "restrict").await?;
    let rival = it.rival().await?;
    let theirs = json!({"name": "secrets", "singular": "secret", "fields": [
        {"name": "a", "type": "text"}]});
    it.module(rival, theirs).await?;
    let required = json!({"name": "a", "type": "reference", "module": "companies",
        "required": true, "on_delete": "set_null"});
    let defaulted = json!({"name": "a", "type": "reference", "module": "contacts",
        "default": "01890a5d-ac96-774b-bcce-b302099a8057"});
    for (module, field, pointer, code) in [
        (
            "contacts",
            reference("a", "moons", "restrict"),
            "/module",
            "unknown_module",
        ),
        (
            "contacts",
            reference("a", "secrets", "restrict"),
            "/module",
            "unknown_module",
        ),
        (
            "contacts",
            reference("a", "members", "restrict"),
            "/module",
            "unknown_module",
        ),
        ("contacts", required, "/on_delete", "not_supported"),
        ("contacts", defaulted, "/default", "not_supported"),
        (
            "folders",
            reference("a", "contacts", "cascade"),
            "/on_delete",
            "not_supported",
        ),
        (
            "contacts",
            json!({"name": "a", "type": "any_reference", "modules": ["deals"]}),
            "/type",
            "not_supported",
        ),
    ] {
        let refused = refusals(it.refer(module, field.clone()).await);
        assert_eq!(refused, [(pointer.to_owned(), code)], "{field}");
    }
    let more = json!({"name": "more", "singular": "one_more", "fields": [
        {"name": "a", "type": "text"}, reference("b", "moons", "restrict")]});
    let refused = refusals(it.module(it.tenant, more).await);
    assert_eq!(refused, [("/fields/1/module".to_owned(), "unknown_module")]);

    // Who may declare and not read learns as little of it.
    it.role("builder", vec!["modules.*".into(), "companies.read".into()])
        .await?;
    let (builder, _) = it.member("builder").await?;
    let permit = builder.permit::<Update>("modules")?;
    let fields = it.crm.custom_fields();
    for (target, told) in [("projects", "unknown_module"), ("companies", "ok")] {
        let spec = serde_json::from_value(reference("b", target, "restrict"))?;
        let done = fields.declare(&permit, "contacts", spec).await;
        match told {
            "ok" => drop(done?),
            code => assert_eq!(refusals(done), [("/module".to_owned(), code)]),
        }
    }
    Ok(())
}

async fn what_it_is_expanded_as_is_nobody_elses_name(backend: Backend) -> anyhow::Result<()> {
    let (it, _) = Fixture::with_projects(backend, "restrict").await?;
    let taken = json!({"name": "project", "type": "text"});
    assert_eq!(
        refusals(it.refer("companies", taken.clone()).await),
        [("/name".to_owned(), "reserved")]
    );
    // The other way round the reference gives way.
    it.refer("contacts", taken).await?;
    it.refer("contacts", reference("project_id", "projects", "restrict"))
        .await?;
    let scope = it.operator_in(it.tenant).await?;
    let project = it.project(&scope, "Alpha").await?;
    let contact = json!({"name": "Ada", "project": "text", "project_id": project.id});
    let contact = it.create(&scope, "contacts", contact).await?;
    let module = scope.module("contacts").context("declared")?;
    let mut view = View::default();
    view.expand(&scope, module, ["project_id"])
        .map_err(invalid)?;
    let read = scope.permit::<Read>("contacts")?;
    let viewed = it.crm.records().view(&read, vec![contact], &view).await?;
    let viewed = serde_json::to_value(&viewed)?;
    assert_eq!(viewed[0]["project"], "text");
    assert_eq!(viewed[0]["project_id_expanded"]["title"], "Alpha");
    Ok(())
}

async fn a_module_that_is_referred_to_is_not_destroyed(backend: Backend) -> anyhow::Result<()> {
    let (it, scope) = Fixture::with_projects(backend, "restrict").await?;
    let project = it.project(&scope, "a").await?;
    it.company(&scope, project.id).await?;
    let refused = it.destroy("projects").await;
    let message = refused
        .as_ref()
        .map_or_else(Error::to_string, |_| String::new());
    assert!(message.contains("companies (project_id)"), "{message}");
    assert_eq!(code(refused), "module_in_use");
    it.get(&scope, "projects", project.id).await?;
    it.remove(it.tenant, "companies", "project_id").await?;
    // It refers to itself, which hinders nobody.
    it.update(&scope, &project, None, json!({"above_id": project.id}))
        .await?;
    assert_eq!(it.destroy("projects").await?, 1);

    // A successor of its name has none of its records, and is not what was referred to.
    it.module(it.tenant, projects()).await?;
    let again = reference("project_id", "projects", "restrict");
    assert_eq!(
        code(it.refer("companies", again.clone()).await),
        "field_not_purged"
    );
    assert_eq!(it.purge(it.tenant, "companies", "project_id").await?, 1);
    it.refer("companies", again).await?;
    Ok(())
}

async fn a_removed_reference_is_purged_before_it_is_declared_again(
    backend: Backend,
) -> anyhow::Result<()> {
    let (it, scope) = Fixture::with_projects(backend, "restrict").await?;
    let project = it.project(&scope, "a").await?;
    let company = it.company(&scope, project.id).await?;
    it.remove(it.tenant, "companies", "project_id").await?;
    // Whoever still has the field in hand refuses nothing by it, and leaves nothing.
    it.delete(&scope, &project).await?;
    let again = reference("project_id", "projects", "restrict");
    for other in [again.clone(), json!({"name": "project_id", "type": "uuid"})] {
        assert_eq!(code(it.refer("companies", other).await), "field_not_purged");
    }
    assert_eq!(it.purge(it.tenant, "companies", "project_id").await?, 1);
    it.refer("companies", again).await?;
    let scope = it.operator_in(it.tenant).await?;
    let company = it.get(&scope, "companies", company.id).await?;
    assert_eq!(company.get("project_id"), Some(&Value::Null));
    Ok(())
}

async fn it_is_a_condition_of_rights_on_rows(backend: Backend) -> anyhow::Result<()> {
    let collector = Arc::new(Collector::default());
    let it = Fixture::with(backend, Some(collector.clone())).await?;
    it.module(it.tenant, projects()).await?;
    it.refer("companies", reference("project_id", "projects", "restrict"))
        .await?;
    let scope = it.operator_in(it.tenant).await?;
    let (a, b) = (
        it.project(&scope, "a").await?,
        it.project(&scope, "b").await?,
    );
    let (one, two) = (
        it.company(&scope, a.id).await?,
        it.company(&scope, b.id).await?,
    );
    let permission = PermissionInput {
        permission: "companies.*".to_owned(),
        condition: Some(body(json!({"project_id": {"eq": a.id}}))),
        ..PermissionInput::default()
    };
    it.role("of_a", vec![permission, "projects.read".into()])
        .await?;
    let (near, _) = it.member("of_a").await?;
    assert_eq!(
        it.ids(&near, "companies", &Query::default()).await?,
        [one.id]
    );
    assert_eq!(code(it.get(&near, "companies", two.id).await), "not_found");
    let left = it
        .update(&near, &one, None, json!({"project_id": b.id}))
        .await;
    assert_eq!(refusals(left)[0].1, "not_allowed");
    it.crm.dispatch_once().await?;
    let made = collector.take();
    let made = made
        .iter()
        .find(|event| event.record_id == one.id && event.kind == "company.created");
    let after = made
        .and_then(|event| event.after.as_ref())
        .context("an event")?;
    assert_eq!(after["project_id"], json!(a.id));
    Ok(())
}
