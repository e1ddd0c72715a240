//! What a tenant's own modules promise: they are as any module, and are nobody else's.

use super::custom::refusals;
use super::lists::filters_mean_the_same;
use super::*;
use crm_core::DataLoss;
use crm_core::record::{Aggregate, MaxAge, Metric};
use crm_core::value::Value;

on_both_databases!(
    a_filter_on_a_tenants_own_module_means_the_same_in_memory_and_in_sql,
    a_tenants_own_module_behaves_as_any_module_and_is_nobody_elses,
    a_module_that_only_the_application_can_declare_is_refused,
    figures_of_a_destroyed_module_are_not_those_of_its_successor,
);

impl Fixture {
    pub(super) async fn found_module(&self, tenant: TenantId, json: Json) -> crm_core::Result<()> {
        let permit = self
            .operator_in(tenant)
            .await?
            .permit::<Create>("modules")?;
        let spec: ModuleSpec = serde_json::from_value(json).expect("a declaration");
        self.crm.custom_modules().create(&permit, spec).await
    }

    pub(super) async fn end_module(&self, name: &str, loss: DataLoss) -> crm_core::Result<u64> {
        let scope = self.operator_in(self.tenant).await?;
        let permit = scope.permit::<Delete>("modules")?;
        self.crm.custom_modules().delete(&permit, name, loss).await
    }
}

async fn a_filter_on_a_tenants_own_module_means_the_same_in_memory_and_in_sql(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let fields = serde_json::to_value(ModuleSpec::from_toml(THINGS)?.fields)?;
    for (tenant, name) in [
        (it.tenant, "wares"),
        (it.tenant, "goods"),
        (it.rival().await?, "wares"),
    ] {
        let singular = format!("{name}_one");
        let json = json!({"name": name, "singular": singular, "fields": fields});
        it.found_module(tenant, json).await?;
        let scope = it.operator_in(tenant).await?;
        // Records of others in the same table.
        if (tenant, name) != (it.tenant, "wares") {
            it.create(
                &scope,
                name,
                json!({"title": "a", "number": 0, "tags": ["a"]}),
            )
            .await?;
        }
    }
    let scope = it.operator_in(it.tenant).await?;
    filters_mean_the_same(&it, &scope, "wares").await
}

async fn a_tenants_own_module_behaves_as_any_module_and_is_nobody_elses(
    backend: Backend,
) -> anyhow::Result<()> {
    let collector = Arc::new(Collector::default());
    let it = Fixture::with(backend, Some(collector.clone())).await?;
    let rival = it.crm.operator_in(it.rival().await?, request()).await?;
    let visits = json!({"name": "visits", "singular": "visit", "fields": [
        {"name": "place", "type": "text", "required": true, "search": true, "sort": true},
        {"name": "code", "type": "text", "unique": true},
    ]});
    it.found_module(it.tenant, visits.clone()).await?;
    assert_eq!(
        code(it.found_module(it.tenant, visits).await),
        "already_exists"
    );
    let scope = it.operator_in(it.tenant).await?;
    let first = it
        .create(&scope, "visits", json!({"place": "Ulm", "code": "u"}))
        .await?;
    let changed = it
        .update(&scope, &first, Some(1), json!({"place": "Bonn"}))
        .await?;
    assert_eq!(changed.version, 2);
    let taken = it
        .create(&scope, "visits", json!({"place": "x", "code": "u"}))
        .await;
    let message = taken
        .as_ref()
        .map_or_else(|e| e.to_string(), |_| String::new());
    assert!(message.contains("code"), "{message}");
    let refused = it.create(&scope, "visits", json!({})).await;
    assert_eq!(refusals(refused), [("/place".to_owned(), "required")]);
    let second = it
        .create(&scope, "visits", json!({"place": "Aachen"}))
        .await?;
    let module = scope.module("visits").context("declared")?;
    let query = Query {
        sort: Sort::parse(module, "place")
            .map_err(|e| Error::Invalid(vec![e]))?
            .into(),
        ..Query::default()
    };
    assert_eq!(
        it.ids(&scope, "visits", &query).await?,
        [second.id, first.id]
    );
    it.crm.dispatch_once().await?;
    let kinds: Vec<_> = collector
        .take()
        .iter()
        .map(|event| event.kind.clone())
        .collect();
    assert_eq!(kinds, ["visit.created", "visit.updated", "visit.created"]);

    // Roles are given its permissions; others have no such module.
    let (admin, _) = it.member("admin").await?;
    assert_eq!(it.ids(&admin, "visits", &query).await?.len(), 2);
    assert_eq!(code(rival.permit::<Read>("visits")), "not_found");
    assert_eq!(code(it.operator().permit::<Read>("visits")), "not_found");
    let permit = admin.permit::<Create>("roles")?;
    let role = |permission: &str| crm_core::role::NewRole {
        name: permission.to_owned(),
        permissions: vec![permission.into()],
        ..crm_core::role::NewRole::default()
    };
    it.crm.roles().create(&permit, role("visits.read")).await?;
    let permit = rival.permit::<Create>("roles")?;
    let refused = it.crm.roles().create(&permit, role("visits.read")).await;
    assert_eq!(
        refusals(refused),
        [("/permissions/0".to_owned(), "unknown_permission")]
    );

    // A field later, as on any module.
    it.declare(
        it.tenant,
        "visits",
        json!({"name": "guests", "type": "integer", "default": 1}),
    )
    .await?;
    let scope = it.operator_in(it.tenant).await?;
    let third = it
        .create(&scope, "visits", json!({"place": "Kiel"}))
        .await?;
    assert_eq!(third.get("guests"), Some(&Value::Int(1)));
    assert_eq!(
        it.get(&scope, "visits", first.id).await?.get("guests"),
        Some(&Value::Null)
    );

    match it.end_module("visits", DataLoss::Refused).await {
        Err(Error::Conflict { code, message }) => {
            assert_eq!(code, "module_not_empty");
            assert!(message.starts_with("visits has 3 records"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(it.end_module("visits", DataLoss::Accepted).await?, 3);
    assert_eq!(
        code(it.end_module("visits", DataLoss::Accepted).await),
        "not_found"
    );
    assert_eq!(
        code(it.end_module("contacts", DataLoss::Accepted).await),
        "not_found"
    );
    let scope = it.operator_in(it.tenant).await?;
    assert_eq!(code(scope.permit::<Read>("visits")), "not_found");
    Ok(())
}

async fn figures_of_a_destroyed_module_are_not_those_of_its_successor(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let count = Aggregate {
        metrics: vec![Metric {
            function: crm_core::record::Function::Count,
            field: None,
        }],
        ..Aggregate::default()
    };
    let counted = async || {
        let permit = it.operator_in(it.tenant).await?.permit::<Read>("visits")?;
        let age = MaxAge::seconds(60)?;
        let figures = it.crm.records().figures(&permit, &count, age).await?;
        anyhow::Ok(figures.groups.data[0].metrics[0].clone())
    };
    let place = json!({"name": "place", "type": "text"});
    let declared = json!({"name": "visits", "singular": "visit", "fields": [place]});
    it.found_module(it.tenant, declared.clone()).await?;
    let scope = it.operator_in(it.tenant).await?;
    it.create(&scope, "visits", json!({"place": "Bonn"}))
        .await?;
    assert_eq!(counted().await?, Value::Int(1));
    assert_eq!(it.end_module("visits", DataLoss::Accepted).await?, 1);
    it.found_module(it.tenant, declared).await?;
    assert_eq!(counted().await?, Value::Int(0));
    Ok(())
}

async fn a_module_that_only_the_application_can_declare_is_refused(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let title = json!({"name": "title", "type": "text"});
    let with = |more: Json| {
        let mut json = json!({"name": "visits", "singular": "visit", "fields": [title]});
        for (name, value) in body(more) {
            json[name] = value;
        }
        json
    };
    for (more, pointer, code) in [
        (json!({"name": "roles"}), "/name", "reserved"),
        (json!({"name": "records"}), "/name", "reserved"),
        (json!({"fields": []}), "/fields", "required"),
        (
            json!({"search": "indexed", "fields": [{"name": "a", "type": "text", "search": true}]}),
            "/search",
            "not_supported",
        ),
        (json!({"indexes": [["title"]]}), "/indexes", "not_supported"),
        (
            json!({"fields": [{"name": "a", "type": "references", "module": "contacts"}]}),
            "/fields/0/type",
            "not_supported",
        ),
        (
            json!({"fields": [{"name": "id", "type": "text"}]}),
            "/fields/0/name",
            "reserved",
        ),
    ] {
        let refused = refusals(it.found_module(it.tenant, with(more.clone())).await);
        assert_eq!(refused, [(pointer.to_owned(), code)], "{more}");
    }
    for taken in [json!({"name": "contacts"}), json!({"singular": "contact"})] {
        assert_eq!(
            code(it.found_module(it.tenant, with(taken)).await),
            "already_exists"
        );
    }
    Ok(())
}
