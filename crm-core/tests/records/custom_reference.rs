//! What references of tenants' own promise: they are checked, read and followed as declared ones
//! are, though no foreign key stands behind them.

use super::custom::refusals;
use super::*;
use crm_core::DataLoss;
use crm_core::custom::CustomField;
use crm_core::record::{Aggregate, GroupKey, Many, Metric, View};
use crm_core::transfer::{Format, ImportOptions};
use crm_core::value::Value;

on_both_databases!(
    a_tenants_own_reference_is_read_as_any_reference,
    xc_02_what_it_names_is_there_in_the_tenant_and_visible_through_every_door,
);

pub(super) fn reference(name: &str, module: &str, on_delete: &str) -> Json {
    json!({"name": name, "type": "reference", "module": module, "on_delete": on_delete})
}

/// The tenant's projects, of a contact each, above each other.
pub(super) fn projects() -> Json {
    json!({"name": "projects", "singular": "project", "fields": [
        {"name": "title", "type": "text", "required": true, "sort": true},
        reference("contact_id", "contacts", "set_null"),
        reference("above_id", "projects", "set_null"),
    ]})
}

impl Fixture {
    pub(super) async fn module(&self, tenant: TenantId, json: Json) -> crm_core::Result<()> {
        let permit = self.operator_in(tenant).await?;
        let permit = permit.permit::<Create>("modules")?;
        let spec = serde_json::from_value(json).expect("a declaration");
        self.crm.custom_modules().create(&permit, spec).await
    }

    pub(super) async fn destroy(&self, name: &str) -> crm_core::Result<u64> {
        let scope = self.operator_in(self.tenant).await?;
        let permit = scope.permit::<Delete>("modules")?;
        let modules = self.crm.custom_modules();
        modules.delete(&permit, name, DataLoss::Accepted).await
    }

    pub(super) async fn refer(&self, module: &str, field: Json) -> crm_core::Result<CustomField> {
        self.declare(self.tenant, module, field).await
    }

    /// The tenant with its projects and a field `project_id` of companies.
    pub(super) async fn with_projects(
        backend: Backend,
        on_delete: &str,
    ) -> anyhow::Result<(Self, Scope)> {
        let folders = ModuleSpec::from_toml(trash::FOLDERS)?;
        let it = Self::built(backend, |builder| builder.modules([folders])).await?;
        it.module(it.tenant, projects()).await?;
        let field = reference("project_id", "projects", on_delete);
        assert!(it.refer("companies", field).await?.indexed);
        let scope = it.operator_in(it.tenant).await?;
        Ok((it, scope))
    }

    pub(super) async fn project(&self, scope: &Scope, title: &str) -> crm_core::Result<Record> {
        self.create(scope, "projects", json!({"title": title}))
            .await
    }

    pub(super) async fn company(
        &self,
        scope: &Scope,
        project: RecordId,
    ) -> crm_core::Result<Record> {
        let input = json!({"name": "Acme", "project_id": project});
        self.create(scope, "companies", input).await
    }
}

pub(super) fn invalid(error: crm_core::FieldError) -> Error {
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
