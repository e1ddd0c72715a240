//! What copied fields of tenants' own promise: they get their value with their reference through
//! every door, show nobody what their author may not read, and hold what they are copied from.

use super::custom::{field, refusals};
use super::custom_reference::{invalid, reference};
use super::field_lists::{all_but, shown, wire};
use super::merge::{from, merge};
use super::*;
use crm_core::custom::FieldChange;
use crm_core::policy::PermissionInput;
use crm_core::record::Many;
use crm_core::transfer::{Format, ImportMode, ImportOptions};

on_both_databases!(
    a_copy_of_a_tenants_own_keeps_the_value_of_the_time_when_its_reference_was_set,
    a_copy_follows_a_reference_of_a_tenants_own_and_goes_with_it,
    every_door_writes_a_tenants_copies,
    only_who_reads_a_field_of_all_records_has_it_copied,
    what_is_copied_stays_and_stays_what_the_copy_takes,
    copies_that_cannot_be_are_refused_with_their_place,
);

fn industry() -> Json {
    json!({"name": "industry", "type": "text", "max": 100, "sort": true,
        "copied": "company_id.industry"})
}

fn tier(copied: Option<&str>) -> Json {
    let mut tier = json!({"name": "tier", "type": "enum", "values": ["a", "b"]});
    if let Some(copied) = copied {
        tier["copied"] = json!(copied);
    }
    tier
}

/// The tenant with a copy of a declared field and one of a field of its own.
async fn open(backend: Backend) -> anyhow::Result<(Fixture, Scope)> {
    let it = Fixture::open(backend).await?;
    it.declare(it.tenant, "companies", tier(None)).await?;
    let of_company = tier(Some("company_id.tier"));
    for field in [industry(), of_company] {
        it.declare(it.tenant, "contacts", field).await?;
    }
    let scope = it.operator_in(it.tenant).await?;
    Ok((it, scope))
}

impl Fixture {
    async fn in_industry(&self, scope: &Scope, industry: &str) -> crm_core::Result<Record> {
        let company = json!({"name": industry, "industry": industry, "tier": "a"});
        self.create(scope, "companies", company).await
    }
}

async fn a_copy_of_a_tenants_own_keeps_the_value_of_the_time_when_its_reference_was_set(
    backend: Backend,
) -> anyhow::Result<()> {
    let (it, scope) = open(backend).await?;
    let steel = it.in_industry(&scope, "steel").await?;
    let other = json!({"name": "Other"});
    let other = it.create(&scope, "companies", other).await?;
    let copies = |record: &Record| -> anyhow::Result<_> {
        let json = wire(record)?;
        Ok(["industry", "tier"].map(|name| json[name].clone()))
    };
    let input = json!({"name": "Ada", "company_id": steel.id, "industry": "mine"});
    let ada = it.create(&scope, "contacts", input).await?;
    assert_eq!(copies(&ada)?, [json!("steel"), json!("a")]);
    let tin = json!({"industry": "tin", "tier": "b"});
    it.update(&scope, &steel, None, tin).await?;
    let set = async |json: Json| it.update(&scope, &ada, None, json).await;
    let same = json!({"company_id": steel.id, "job_title": "x", "tier": "b"});
    let same = set(same).await?;
    let then = [json!("steel"), json!("a")];
    assert_eq!(copies(&same)?, then, "the values at that time");
    let moved = set(json!({"company_id": other.id})).await?;
    assert_eq!(copies(&moved)?, [Json::Null, Json::Null]);
    let back = set(json!({"company_id": steel.id})).await?;
    assert_eq!(copies(&back)?, [json!("tin"), json!("b")]);
    let stored = it.get(&scope, "contacts", ada.id).await?;
    assert_eq!(stored.to_json(), back.to_json());
    for asked in [("industry", "eq", "tin"), ("tier", "eq", "b")] {
        assert_eq!(it.found(&scope, "contacts", asked).await?, [ada.id]);
    }
    let left = set(json!({"company_id": null})).await?;
    assert_eq!(copies(&left)?, [Json::Null, Json::Null]);

    let rival = it.operator_in(it.rival().await?).await?;
    let theirs = json!({"name": "Eve", "company_id": steel.id});
    let refused = refusals(it.create(&rival, "contacts", theirs).await);
    assert_eq!(refused, [("/company_id".into(), "unknown_reference")]);
    let theirs = it
        .create(&rival, "contacts", json!({"name": "Eve"}))
        .await?;
    assert!(!shown(&wire(&theirs)?).contains("industry"));
    Ok(())
}

async fn a_copy_follows_a_reference_of_a_tenants_own_and_goes_with_it(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let projects = json!({"name": "projects", "singular": "project", "fields": [
        {"name": "lead", "type": "text", "copied": "contact_id.name"},
        {"name": "title", "type": "text"},
        reference("contact_id", "contacts", "set_null"),
        reference("above_id", "projects", "set_null"),
        {"name": "over", "type": "text", "copied": "above_id.title"},
    ]});
    it.found_module(it.tenant, projects).await?;
    let scope = it.operator_in(it.tenant).await?;
    let ada = it
        .create(&scope, "contacts", json!({"name": "Ada"}))
        .await?;
    let alpha = json!({"title": "Alpha", "contact_id": ada.id, "lead": "Eve"});
    let alpha = it.create(&scope, "projects", alpha).await?;
    assert_eq!(wire(&alpha)?["lead"], "Ada");
    let beta = json!({"title": "Beta", "above_id": alpha.id});
    let beta = it.create(&scope, "projects", beta).await?;
    assert_eq!(wire(&beta)?["over"], "Alpha");
    assert_eq!(wire(&beta)?["lead"], Json::Null);

    it.delete(&scope, &ada).await?;
    let alpha = it.get(&scope, "projects", alpha.id).await?;
    assert_eq!((alpha.version, &wire(&alpha)?["lead"]), (2, &Json::Null));
    it.delete(&scope, &alpha).await?;
    let beta = wire(&it.get(&scope, "projects", beta.id).await?)?;
    assert_eq!(
        (&beta["above_id"], &beta["over"]),
        (&Json::Null, &Json::Null)
    );

    for name in ["contact_id", "above_id", "title"] {
        let removed = it.remove(it.tenant, "projects", name).await;
        assert_eq!(code(removed), "named_by_field", "{name}");
    }
    it.remove(it.tenant, "projects", "over").await?;
    it.remove(it.tenant, "projects", "above_id").await?;
    it.remove(it.tenant, "projects", "title").await?;
    Ok(())
}

async fn every_door_writes_a_tenants_copies(backend: Backend) -> anyhow::Result<()> {
    let (it, scope) = open(backend).await?;
    let (steel, tin) = (
        it.in_industry(&scope, "steel").await?.id,
        it.in_industry(&scope, "tin").await?.id,
    );
    let a = json!({"name": "a", "email": "a@x.example", "company_id": steel});
    let a = it.create(&scope, "contacts", a).await?;
    let options = ImportOptions {
        mode: ImportMode::Upsert,
        key: Some("email".into()),
        ..ImportOptions::new(Format::Csv)
    };
    let lines = format!("name,email,company_id\na,a@x.example,{tin}\nb,b@x.example,{steel}\n");
    let mut upload = it
        .crm
        .transfer()
        .import(&scope, "contacts", options)
        .await?;
    upload.push(lines.as_bytes()).await?;
    let id = upload.finish().await?;
    it.crm.run_jobs_once().await?;
    assert!(it.crm.jobs().errors(&scope, id, 0, 10).await?.is_empty());
    let (records, module) = (it.crm.records(), scope.module("contacts").context("known")?);
    let read = scope.permit::<Read>("contacts")?;
    let industries = async || -> anyhow::Result<Vec<Json>> {
        let query = Query {
            sort: Sort::parse_list(module, "name").map_err(invalid)?,
            ..Query::default()
        };
        let page = records.list(&read, &query).await?.data;
        page.iter()
            .map(|one| Ok(wire(one)?["industry"].clone()))
            .collect()
    };
    assert_eq!(industries().await?, ["tin", "steel"]);

    let (create, update) = (scope.permit("contacts")?, scope.permit("contacts")?);
    let known = body(json!({"name": "b", "email": "b@x.example", "company_id": tin}));
    records.upsert(&create, &update, "email", known).await?;
    assert_eq!(industries().await?, ["tin", "tin"]);
    let all = body(json!({"industry": "tin"}));
    let all = Filter::from_json(module, &all).map_err(Error::Invalid)?;
    let set = body(json!({"company_id": steel}));
    let moved = records.write_many(Many::update(&read, &update, all, set, None)?);
    assert_eq!(moved.await?.changed, 2);
    assert_eq!(industries().await?, ["steel", "steel"]);

    let bare = it.create(&scope, "contacts", json!({"name": "c"})).await?;
    let merged = merge(&it, &scope, &bare, from(&[&a])).await?;
    assert_eq!(wire(&merged)?["industry"], "steel");
    assert_eq!(wire(&merged)?["tier"], "a");
    Ok(())
}

async fn only_who_reads_a_field_of_all_records_has_it_copied(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let declares = |more: Vec<PermissionInput>| {
        let mut rights: Vec<PermissionInput> = vec![
            "modules.read".into(),
            "modules.update".into(),
            "contacts.read".into(),
        ];
        rights.extend(more);
        rights
    };
    let all_but_it = all_but("companies.read", &["industry"]);
    for (role, more, refusal) in [
        ("none", vec![], "not_allowed"),
        ("own", vec!["companies.read:own".into()], "not_allowed"),
        ("masked", vec![all_but_it], "invalid"),
    ] {
        it.role(role, declares(more)).await?;
        let (scope, _) = it.member(role).await?;
        let permit = scope.permit::<Update>("modules")?;
        let fields = it.crm.custom_fields();
        let refused = refusals(fields.declare(&permit, "contacts", field(industry())).await);
        assert_eq!(refused, [("/copied".into(), refusal)], "{role}");
    }
    it.role("reader", declares(vec!["companies.read".into()]))
        .await?;
    let (scope, _) = it.member("reader").await?;
    let permit = scope.permit::<Update>("modules")?;
    let fields = it.crm.custom_fields();
    fields
        .declare(&permit, "contacts", field(industry()))
        .await?;
    Ok(())
}

async fn what_is_copied_stays_and_stays_what_the_copy_takes(
    backend: Backend,
) -> anyhow::Result<()> {
    let (it, _) = open(backend).await?;
    let rival = it.rival().await?;
    it.declare(rival, "companies", tier(None)).await?;
    it.remove(rival, "companies", "tier").await?;
    let removed = it.remove(it.tenant, "companies", "tier").await;
    assert_eq!(code(removed), "named_by_field");

    let scope = it.operator_in(it.tenant).await?;
    let permit = scope.permit::<Update>("modules")?;
    let fields = it.crm.custom_fields();
    let widen = async |module: &str| {
        let change = FieldChange {
            values: Some(["a", "b", "c"].map(str::to_owned).to_vec()),
            ..FieldChange::default()
        };
        fields.change(&permit, module, "tier", change).await
    };
    assert_eq!(code(widen("companies").await), "named_by_field");
    widen("contacts").await?;
    widen("companies").await?;
    let scope = it.operator_in(it.tenant).await?;
    let company = json!({"name": "C", "tier": "c"});
    let company = it.create(&scope, "companies", company).await?;
    let input = json!({"name": "Ada", "company_id": company.id});
    let ada = it.create(&scope, "contacts", input).await?;
    assert_eq!(wire(&ada)?["tier"], "c");

    it.remove(it.tenant, "contacts", "tier").await?;
    it.remove(it.tenant, "companies", "tier").await?;
    // Its values are copies of something else by now.
    let copy = json!({"name": "tier", "type": "text", "max": 100,
        "copied": "company_id.industry"});
    let other = it.declare(it.tenant, "contacts", copy.clone()).await;
    assert_eq!(code(other), "field_not_purged");
    assert_eq!(it.purge(it.tenant, "contacts", "tier").await?, 1);
    it.declare(it.tenant, "contacts", copy).await?;
    Ok(())
}

async fn copies_that_cannot_be_are_refused_with_their_place(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let secret = json!({"name": "secret", "type": "text", "write_only": true});
    it.declare(it.tenant, "companies", secret).await?;
    let label = json!({"name": "label", "type": "text", "computed": "{name}"});
    it.declare(it.tenant, "companies", label).await?;
    for (more, refusal) in [
        (json!({"copied": "industry"}), "unknown_field"),
        (json!({"copied": "name.industry"}), "unknown_field"),
        (json!({"copied": "company_id.nobody"}), "invalid"),
        (json!({"copied": "company_id.secret"}), "invalid"),
        (json!({"copied": "company_id.label"}), "invalid"),
        (json!({"copied": "company_id.employees"}), "invalid"),
        (
            json!({"copied": "company_id.industry", "max": 99}),
            "invalid",
        ),
        (
            json!({"copied": "company_id.industry", "required": true}),
            "not_supported",
        ),
        (
            json!({"copied": "company_id.industry", "unique": true}),
            "not_supported",
        ),
    ] {
        let mut declared = json!({"name": "odd", "type": "text"});
        for (key, value) in body(more.clone()) {
            declared[key] = value;
        }
        let refused = refusals(it.declare(it.tenant, "contacts", declared).await);
        assert_eq!(refused, [("/copied".into(), refusal)], "{more}");
    }
    let grade = json!({"name": "grade", "type": "enum", "values": ["a", "b"]});
    it.declare(it.tenant, "companies", grade).await?;
    for (declared, told) in [
        (
            json!({"type": "text", "copied": "company_id.employees"}),
            "`employees` of companies is declared otherwise, as integer and not text: ",
        ),
        (
            json!({"type": "text", "max": 99, "copied": "company_id.industry"}),
            "with max = 100 and not max = 99: ",
        ),
        (
            json!({"type": "enum", "values": ["a"], "copied": "company_id.grade"}),
            "with values = [\"a\",\"b\"] and not values = [\"a\"]: ",
        ),
    ] {
        let mut odd = json!({"name": "odd"});
        for (key, value) in body(declared) {
            odd[key] = value;
        }
        match it.declare(it.tenant, "contacts", odd).await {
            Err(Error::Invalid(refused)) => {
                let message = &refused[0].message;
                assert!(message.contains(told), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    let module = json!({"name": "projects", "singular": "project", "fields": [
        {"name": "title", "type": "text"},
        reference("contact_id", "contacts", "restrict"),
        {"name": "lead", "type": "text", "copied": "contact_id.nobody"},
    ]});
    let refused = refusals(it.found_module(it.tenant, module).await);
    assert_eq!(refused, [("/fields/2/copied".into(), "invalid")]);
    Ok(())
}
