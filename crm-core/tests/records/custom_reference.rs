//! What references of tenants' own promise: they are checked, read and followed as declared ones are,
//! though no foreign key stands behind them.

use super::custom::refusals;
use super::*;
use crm_core::custom::CustomField;
use crm_core::policy::PermissionInput;
use crm_core::record::{Aggregate, Expected, GroupKey, Many, Merge, Metric, View, Write};
use crm_core::transfer::{Format, ImportOptions};
use crm_core::value::Value;
use crm_core::{DataLoss, Purge};

on_both_databases!(
    a_tenants_own_reference_is_read_as_any_reference,
    xc_02_what_it_names_is_there_in_the_tenant_and_visible_through_every_door,
    a_delete_is_followed_as_each_reference_says,
    whoever_knows_nothing_of_a_reference_follows_it_too,
    what_follows_goes_from_module_to_module,
    it_refers_to_nothing_in_the_trash_and_is_followed_when_that_is_purged,
    a_merge_points_it_to_the_survivor,
    racing_deletes_and_references_leave_nothing_dangling,
    racing_declarations_and_deletes_leave_nothing_dangling,
    a_reference_that_cannot_be_is_refused_by_name,
    what_it_is_expanded_as_is_nobody_elses_name,
    a_module_that_is_referred_to_is_not_destroyed,
    a_removed_reference_is_purged_before_it_is_declared_again,
    it_is_a_condition_of_rights_on_rows,
);

fn reference(name: &str, module: &str, on_delete: &str) -> Json {
    json!({"name": name, "type": "reference", "module": module, "on_delete": on_delete})
}

/// The tenant's projects, of a contact each, above each other.
fn projects() -> Json {
    json!({"name": "projects", "singular": "project", "fields": [
        {"name": "title", "type": "text", "required": true, "sort": true},
        reference("contact_id", "contacts", "set_null"),
        reference("above_id", "projects", "set_null"),
    ]})
}

impl Fixture {
    async fn module(&self, tenant: TenantId, json: Json) -> crm_core::Result<()> {
        let permit = self.operator_in(tenant).await?;
        let permit = permit.permit::<Create>("modules")?;
        let spec = serde_json::from_value(json).expect("a declaration");
        self.crm.custom_modules().create(&permit, spec).await
    }

    async fn destroy(&self, name: &str) -> crm_core::Result<u64> {
        let scope = self.operator_in(self.tenant).await?;
        let permit = scope.permit::<Delete>("modules")?;
        let modules = self.crm.custom_modules();
        modules.delete(&permit, name, DataLoss::Accepted).await
    }

    async fn refer(&self, module: &str, field: Json) -> crm_core::Result<CustomField> {
        self.declare(self.tenant, module, field).await
    }

    /// The tenant with its projects and a field `project_id` of companies.
    async fn with_projects(backend: Backend, on_delete: &str) -> anyhow::Result<(Self, Scope)> {
        let folders = ModuleSpec::from_toml(trash::FOLDERS)?;
        let it = Self::built(backend, |builder| builder.modules([folders])).await?;
        it.module(it.tenant, projects()).await?;
        let field = reference("project_id", "projects", on_delete);
        assert!(it.refer("companies", field).await?.indexed);
        let scope = it.operator_in(it.tenant).await?;
        Ok((it, scope))
    }

    async fn project(&self, scope: &Scope, title: &str) -> crm_core::Result<Record> {
        self.create(scope, "projects", json!({"title": title}))
            .await
    }

    async fn company(&self, scope: &Scope, project: RecordId) -> crm_core::Result<Record> {
        let input = json!({"name": "Acme", "project_id": project});
        self.create(scope, "companies", input).await
    }
}

fn invalid(error: crm_core::FieldError) -> Error {
    Error::Invalid(vec![error])
}

async fn a_tenants_own_reference_is_read_as_any_reference(backend: Backend) -> anyhow::Result<()> {
    let (it, _) = Fixture::with_projects(backend, "restrict").await?;
    it.refer(
        "companies",
        json!({"name": "manager_id", "type": "reference", "module": "contacts", "sort": true}),
    )
    .await?;
    let scope = it.operator_in(it.tenant).await?;
    let ada = it
        .create(&scope, "contacts", json!({"name": "Ada"}))
        .await?;
    let input = json!({"title": "Alpha", "contact_id": ada.id});
    let alpha = it.create(&scope, "projects", input).await?;
    let beta = it.project(&scope, "Beta").await?;
    it.update(&scope, &beta, None, json!({"above_id": alpha.id}))
        .await?;
    let one = it.company(&scope, alpha.id).await?;
    let two = it.company(&scope, beta.id).await?;
    let three = it
        .create(
            &scope,
            "companies",
            json!({"name": "C", "manager_id": ada.id}),
        )
        .await?;
    assert_eq!(one.get("project_id"), Some(&Value::Uuid(alpha.id.0)));

    let (a, b) = (alpha.id.to_string(), beta.id.to_string());
    for (name, op, text, found) in [
        ("project_id", "eq", a.clone(), vec![one.id]),
        ("project_id", "ne", a.clone(), vec![three.id, two.id]),
        ("project_id", "in", format!("{a},{b}"), vec![two.id, one.id]),
        ("project_id", "is_null", "true".into(), vec![three.id]),
        ("project_id.title", "contains", "LPH".into(), vec![one.id]),
        ("project_id.above_id", "eq", a.clone(), vec![two.id]),
        ("manager_id.name", "eq", "Ada".into(), vec![three.id]),
    ] {
        let module = scope.module("companies").context("declared")?;
        let filter = Filter::parse_for(&scope, module, name, op, &text).map_err(invalid)?;
        let query = Query {
            filter: Some(filter),
            ..Query::default()
        };
        let ids = it.ids(&scope, "companies", &query).await?;
        assert_eq!(ids, found, "{name} {op} {text}");
    }
    let module = scope.module("projects").context("declared")?;
    let over_itself = Filter::parse_for(&scope, module, "above_id.title", "eq", "Alpha");
    let query = Query {
        filter: Some(over_itself.map_err(invalid)?),
        ..Query::default()
    };
    assert_eq!(it.ids(&scope, "projects", &query).await?, [beta.id]);

    let companies = scope.module("companies").context("declared")?;
    let query = Query {
        sort: Sort::parse_list(companies, "manager_id").map_err(invalid)?,
        ..Query::default()
    };
    assert_eq!(it.ids(&scope, "companies", &query).await?[0], three.id);
    let read = scope.permit::<Read>("companies")?;
    let records = it.crm.records();
    let ask = Aggregate {
        group_by: vec![GroupKey::parse(companies, "project_id").map_err(invalid)?],
        metrics: vec![Metric::parse(companies, "count").map_err(invalid)?],
        ..Aggregate::default()
    };
    assert_eq!(records.aggregate(&read, &ask).await?.data.len(), 3);

    let mut view = View::default();
    let paths = ["project_id.contact_id", "project_id.above_id", "manager_id"];
    view.expand(&scope, companies, paths).map_err(invalid)?;
    let page = records.list(&read, &Query::default()).await?;
    let viewed = records.view(&read, page.data, &view).await?;
    let viewed = serde_json::to_value(&viewed)?;
    assert_eq!(viewed[2]["project"]["contact"]["name"], "Ada");
    assert_eq!(viewed[1]["project"]["above"]["title"], "Alpha");
    assert_eq!(viewed[1]["project"]["contact"], Json::Null);
    assert_eq!(viewed[0]["manager"]["name"], "Ada");
    assert_eq!(viewed[0]["project"], Json::Null);

    // Who may not read the projects sees the id alone, and asks nothing behind it.
    it.role("clerk", vec!["companies.read".into()]).await?;
    let (clerk, _) = it.member("clerk").await?;
    let companies = clerk.module("companies").context("declared")?;
    let behind = Filter::parse_for(&clerk, companies, "project_id.title", "eq", "Alpha");
    assert_eq!(
        behind.map_err(|error| error.code).err(),
        Some("unknown_field")
    );
    let read = clerk.permit::<Read>("companies")?;
    let record = records.get(&read, one.id).await?;
    let viewed = records.view(&read, vec![record], &view).await?;
    let viewed = serde_json::to_value(&viewed)?;
    assert_eq!(viewed[0]["project"], Json::Null);
    assert_eq!(viewed[0]["project_id"], json!(alpha.id));
    Ok(())
}

async fn xc_02_what_it_names_is_there_in_the_tenant_and_visible_through_every_door(
    backend: Backend,
) -> anyhow::Result<()> {
    let (it, scope) = Fixture::with_projects(backend, "restrict").await?;
    let rival = it.rival().await?;
    it.module(rival, projects()).await?;
    let theirs = it.operator_in(rival).await?;
    let foreign = it.project(&theirs, "theirs").await?;
    let ours = it.project(&scope, "ours").await?;
    let gone = it.project(&scope, "gone").await?;
    it.delete(&scope, &gone).await?;
    let contact = it
        .create(&scope, "contacts", json!({"name": "Ada"}))
        .await?;
    it.role(
        "near",
        vec!["companies.*".into(), "projects.read:own".into()],
    )
    .await?;
    let (near, _) = it.member("near").await?;
    let company = it.company(&scope, ours.id).await?;
    let records = it.crm.records();
    let refused = [("/project_id".to_owned(), "unknown_reference")];
    for (scope, id) in [
        (&scope, foreign.id),
        (&scope, gone.id),
        (&scope, contact.id),
        (&near, ours.id),
    ] {
        let value = json!({"project_id": id});
        let create = it.company(scope, id).await;
        let message = create
            .as_ref()
            .map_or_else(Error::to_string, |_| String::new());
        assert!(
            message.contains("there is no such record in projects"),
            "{message}"
        );
        assert_eq!(refusals(create), refused);
        let other = json!({"name": "Bolt", "project_id": null});
        let other = it.create(scope, "companies", other).await?;
        assert_eq!(
            refusals(it.update(scope, &other, None, value.clone()).await),
            refused
        );
        let permits = (
            scope.permit::<Read>("companies")?,
            scope.permit::<Update>("companies")?,
        );
        let module = scope.module("companies").context("declared")?;
        let all = Filter::parse(module, "name", "eq", "Bolt").map_err(invalid)?;
        let many = Many::update(&permits.0, &permits.1, all, body(value), None)?;
        let many = refusals(records.write_many(many).await);
        assert_eq!(many, [("/set/project_id".to_owned(), "unknown_reference")]);
        it.delete(scope, &other).await?;
    }
    let options = ImportOptions::new(Format::Ndjson);
    let mut upload = it
        .crm
        .transfer()
        .import(&scope, "companies", options)
        .await?;
    for id in [foreign.id, ours.id, gone.id] {
        let line = json!({"name": "Cog", "project_id": id});
        upload.push(format!("{line}\n").as_bytes()).await?;
    }
    let job = upload.finish().await?;
    it.crm.run_jobs_once().await?;
    let errors = it.crm.jobs().errors(&scope, job, 0, 10).await?;
    let told: Vec<_> = errors
        .iter()
        .map(|error| (error.line, error.code.as_str()))
        .collect();
    assert_eq!(told, [(1, "unknown_reference"), (3, "unknown_reference")]);
    // What another tenant has is nothing that a filter finds either.
    let text = foreign.id.to_string();
    let found = it.found(&scope, "companies", ("project_id", "eq", &text));
    assert_eq!(found.await?, []);
    // Who cannot see it may leave it as it is.
    let kept = json!({"name": "New", "project_id": ours.id});
    let kept = it.update(&near, &company, None, kept).await?;
    assert_eq!(kept.get("project_id"), Some(&Value::Uuid(ours.id.0)));
    Ok(())
}

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
