//! How fields of tenants' own are declared, changed and removed.

use super::custom::{field, refusals};
use super::*;
use crm_core::custom::FieldChange;
use crm_core::value::Value;

on_both_databases!(
    a_removed_field_is_gone_at_once_and_its_values_stay_until_they_are_purged,
    a_required_field_holds_for_records_to_come,
    declarations_that_cannot_be_are_refused_by_name,
    a_tenant_adds_a_hundred_fields_to_a_module_and_no_more,
    every_change_of_the_fields_is_audited_and_needs_its_permission,
);

async fn a_removed_field_is_gone_at_once_and_its_values_stay_until_they_are_purged(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let plan = json!({"name": "plan", "type": "enum", "values": ["free", "paid"], "sort": true});
    it.declare(it.tenant, "bare", plan.clone()).await?;
    let scope = it.operator_in(it.tenant).await?;
    let one = it.create(&scope, "bare", json!({"plan": "paid"})).await?;
    it.create(&scope, "bare", json!({})).await?;
    assert_eq!(
        code(it.purge(it.tenant, "bare", "plan").await),
        "field_in_use"
    );
    it.remove(it.tenant, "bare", "plan").await?;
    assert_eq!(
        code(it.remove(it.tenant, "bare", "plan").await),
        "not_found"
    );
    let scope = it.operator_in(it.tenant).await?;
    let refused = it.found(&scope, "bare", ("plan", "eq", "paid")).await;
    assert_eq!(refusals(refused), [("/plan".to_owned(), "unknown_field")]);
    assert_eq!(it.get(&scope, "bare", one.id).await?.get("plan"), None);

    // Another type has to wait, the same one finds its values again.
    let other = json!({"name": "plan", "type": "integer"});
    assert_eq!(
        code(it.declare(it.tenant, "bare", other.clone()).await),
        "field_not_purged"
    );
    let fewer = json!({"name": "plan", "type": "enum", "values": ["free"]});
    assert_eq!(
        code(it.declare(it.tenant, "bare", fewer).await),
        "field_not_purged"
    );
    it.declare(it.tenant, "bare", plan.clone()).await?;
    let scope = it.operator_in(it.tenant).await?;
    assert_eq!(
        it.found(&scope, "bare", ("plan", "eq", "paid")).await?,
        [one.id]
    );

    it.remove(it.tenant, "bare", "plan").await?;
    assert_eq!(it.purge(it.tenant, "bare", "plan").await?, 1);
    assert_eq!(code(it.purge(it.tenant, "bare", "plan").await), "not_found");
    it.declare(it.tenant, "bare", other).await?;
    let scope = it.operator_in(it.tenant).await?;
    let read = it.get(&scope, "bare", one.id).await?;
    assert_eq!((read.get("plan"), read.version), (Some(&Value::Null), 1));
    Ok(())
}

async fn a_required_field_holds_for_records_to_come(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let before = it
        .create(&it.operator(), "bare", json!({"anchor": "a"}))
        .await?;
    let size = json!({"name": "size", "type": "integer", "required": true, "sort": true});
    it.declare(it.tenant, "bare", size).await?;
    let scope = it.operator_in(it.tenant).await?;
    let refused = it.create(&scope, "bare", json!({"anchor": "b"})).await;
    assert_eq!(refusals(refused), [("/size".to_owned(), "required")]);
    let after = it.create(&scope, "bare", json!({"size": 3})).await?;
    let refused = it.update(&scope, &after, None, json!({"size": null})).await;
    assert_eq!(refusals(refused), [("/size".to_owned(), "required")]);
    it.update(&scope, &before, None, json!({"anchor": "c"}))
        .await?;
    let module = scope.module("bare").context("declared")?;
    let sorted = Query {
        sort: Sort::parse(module, "-size")
            .map_err(|e| Error::Invalid(vec![e]))?
            .into(),
        ..Query::default()
    };
    assert_eq!(
        it.ids(&scope, "bare", &sorted).await?,
        [after.id, before.id]
    );

    let permit = scope.permit::<Update>("modules")?;
    let change = FieldChange {
        default: Some(Some(json!(9))),
        description: Some("How large.".into()),
        ..FieldChange::default()
    };
    let fields = it.crm.custom_fields();
    let changed = fields.change(&permit, "bare", "size", change).await?;
    assert_eq!(changed.spec.description, "How large.");
    let scope = it.operator_in(it.tenant).await?;
    let defaulted = it.create(&scope, "bare", json!({})).await?;
    assert_eq!(defaulted.get("size"), Some(&Value::Int(9)));
    for (change, pointer, code) in [
        (
            FieldChange {
                default: Some(Some(json!("x"))),
                ..FieldChange::default()
            },
            "/default",
            "wrong_type",
        ),
        (
            FieldChange {
                values: Some(vec!["a".into()]),
                ..FieldChange::default()
            },
            "/values",
            "not_supported",
        ),
    ] {
        let refused = fields.change(&permit, "bare", "size", change).await;
        assert_eq!(refusals(refused), [(pointer.to_owned(), code)]);
    }
    let absent = fields
        .change(&permit, "bare", "anchor", FieldChange::default())
        .await;
    assert_eq!(code(absent), "not_found");
    Ok(())
}

async fn declarations_that_cannot_be_are_refused_by_name(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    for (json, pointer, code) in [
        (
            json!({"name": "email", "type": "text"}),
            "/name",
            "duplicate",
        ),
        (
            json!({"name": "version", "type": "text"}),
            "/name",
            "reserved",
        ),
        (json!({"name": "sort", "type": "text"}), "/name", "reserved"),
        (
            json!({"name": "company_id_expanded", "type": "text"}),
            "/name",
            "reserved",
        ),
        (
            json!({"name": "custom", "type": "text"}),
            "/name",
            "reserved",
        ),
        (
            json!({"name": "a", "type": "text", "max": 0}),
            "/max",
            "out_of_range",
        ),
        (
            json!({"name": "a", "type": "json", "sort": true}),
            "/sort",
            "not_supported",
        ),
        (
            json!({"name": "a", "type": "bool", "default": 1}),
            "/default",
            "wrong_type",
        ),
        (
            json!({"name": "a", "type": "references", "module": "deals"}),
            "/type",
            "not_supported",
        ),
    ] {
        let refused = refusals(it.declare(it.tenant, "contacts", json.clone()).await);
        assert_eq!(refused, [(pointer.to_owned(), code)], "{json}");
    }
    let text = json!({"name": "a", "type": "text"});
    it.declare(it.tenant, "contacts", text.clone()).await?;
    assert_eq!(
        code(it.declare(it.tenant, "contacts", text.clone()).await),
        "already_exists"
    );
    assert_eq!(
        code(it.declare(it.tenant, "members", text.clone()).await),
        "not_found"
    );
    assert_eq!(
        code(it.declare(it.tenant, "nothing", text).await),
        "not_found"
    );
    Ok(())
}

async fn a_tenant_adds_a_hundred_fields_to_a_module_and_no_more(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    for n in 0..100 {
        let json = json!({"name": format!("f{n}"), "type": "integer", "sort": n < 32});
        it.declare(it.tenant, "bare", json).await?;
    }
    let extra = json!({"name": "extra", "type": "text"});
    assert_eq!(
        code(it.declare(it.tenant, "bare", extra.clone()).await),
        "too_many_fields"
    );
    let scope = it.operator_in(it.tenant).await?;
    let values: Body = (0..100).map(|n| (format!("f{n}"), json!(n))).collect();
    let made = it.create(&scope, "bare", Json::Object(values)).await?;
    assert_eq!(made.get("f99"), Some(&Value::Int(99)));
    assert_eq!(
        it.found(&scope, "bare", ("f31", "eq", "31")).await?,
        [made.id]
    );

    it.remove(it.tenant, "bare", "f99").await?;
    assert_eq!(
        code(it.declare(it.tenant, "bare", extra.clone()).await),
        "too_many_fields"
    );
    assert_eq!(it.purge(it.tenant, "bare", "f99").await?, 1);
    let sorted = json!({"name": "extra", "type": "text", "sort": true});
    assert_eq!(
        code(it.declare(it.tenant, "bare", sorted.clone()).await),
        "too_many_indexes"
    );
    it.remove(it.tenant, "bare", "f0").await?;
    it.declare(it.tenant, "bare", sorted).await?;
    Ok(())
}

async fn every_change_of_the_fields_is_audited_and_needs_its_permission(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    for role in ["member", "viewer"] {
        let (scope, _) = it.member(role).await?;
        assert_eq!(
            code(scope.permit::<Update>("modules")),
            "forbidden",
            "{role}"
        );
        assert_eq!(
            code(scope.permit::<Delete>("modules")),
            "forbidden",
            "{role}"
        );
    }
    let (admin, _) = it.member("admin").await?;
    let permit = admin.permit::<Update>("modules")?;
    let fields = it.crm.custom_fields();
    let spec = field(json!({"name": "plan", "type": "text"}));
    fields.declare(&permit, "contacts", spec).await?;
    fields.remove(&permit, "contacts", "plan").await?;
    let purged = fields
        .purge(&admin.permit::<Delete>("modules")?, "contacts", "plan")
        .await?;
    assert_eq!(purged, 0);
    let entries = it.audit().await?;
    let of_fields: Vec<_> = entries
        .iter()
        .filter(|entry| entry.entity == "modules")
        .map(|entry| (entry.action.as_str(), entry.entity_id.as_deref()))
        .collect();
    let plan = Some("contacts.plan");
    let mut expected = [
        ("modules.update", plan),
        ("modules.update", plan),
        ("modules.delete", plan),
    ];
    expected.reverse();
    assert_eq!(of_fields, expected);
    Ok(())
}
