//! What conditions on the records behind references promise.

use super::*;
use crm_core::record::{Aggregate, Figures, Function, MAX_THROUGH, Many, MaxAge, Metric};
use crm_core::record::{Matched, Once, Reply};
use crm_core::transfer::Format;
use crm_core::value::Value;

on_both_databases!(
    a_condition_behind_a_reference_finds_what_a_join_would,
    a_list_of_references_matches_by_any_of_its_records,
    xc_02_a_condition_sees_what_the_caller_may_read_and_no_more,
    a_condition_never_reaches_another_tenant_or_the_trash,
    figures_bulk_writes_and_exports_take_conditions_behind_references,
    kept_figures_are_forgotten_when_the_other_module_is_written,
    cursors_belong_to_the_conditions_behind_references,
    what_leads_nowhere_is_refused_by_name,
);

const FIRMS: &str = r#"
name = "firms"
singular = "firm"
soft_delete = true
fields = [
    { name = "title", type = "text", required = true, sort = true },
    { name = "size", type = "integer" },
    { name = "tags", type = "tags" },
    { name = "secret", type = "text", write_only = true },
    { name = "parent_id", type = "reference", module = "firms" },
    { name = "partner_ids", type = "references", module = "firms" },
]
"#;
const STAFF: &str = r#"
name = "staff"
singular = "colleague"
fields = [
    { name = "title", type = "text", required = true, sort = true },
    { name = "firm_id", type = "reference", module = "firms" },
    { name = "former_ids", type = "references", module = "firms" },
    { name = "subject", type = "any_reference", modules = ["firms", "staff"] },
]
"#;

async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    let specs = [FIRMS, STAFF].into_iter().map(ModuleSpec::from_toml);
    let specs: Vec<_> = specs.collect::<crm_core::Result<_>>()?;
    Fixture::built(backend, |builder| builder.modules(specs)).await
}

fn filter(scope: &Scope, module: &str, json: Json) -> crm_core::Result<Filter> {
    let module = scope.module(module).ok_or(Error::NotFound)?;
    Filter::from_json_for(scope, module, &body(json)).map_err(Error::Invalid)
}

fn refusal(error: crm_core::FieldError) -> Error {
    Error::Invalid(vec![error])
}

fn asking(filter: Filter) -> Query {
    Query {
        filter: Some(filter),
        sort: Vec::new(),
        count: Count::Exact,
        ..Query::default()
    }
}

/// The titles of what matches, oldest first, as many as are counted.
async fn titles(
    it: &Fixture,
    scope: &Scope,
    module: &str,
    json: Json,
) -> anyhow::Result<Vec<String>> {
    let query = asking(filter(scope, module, json)?);
    let permit = scope.permit::<Read>(module)?;
    let page = it.crm.records().list(&permit, &query).await?;
    assert_eq!(
        page.total.map(|total| total.count),
        Some(page.data.len() as u64)
    );
    let titles = page
        .data
        .iter()
        .rev()
        .map(|record| match record.get("title") {
            Some(Value::Text(title)) => title.clone(),
            other => format!("{other:?}"),
        });
    Ok(titles.collect())
}

/// Three firms, and staff of each: Ada at Acme, Bob at Bolt, Cid at none.
struct World {
    it: Fixture,
    scope: Scope,
    acme: Record,
    bolt: Record,
    core: Record,
}

async fn world(backend: Backend) -> anyhow::Result<World> {
    let it = open(backend).await?;
    let scope = it.operator();
    let core = json!({"title": "Core", "size": 900, "secret": "acme"});
    let core = it.create(&scope, "firms", core).await?;
    let acme = json!({"title": "Acme", "size": 10, "tags": ["a", "b"], "parent_id": core.id});
    let acme = it.create(&scope, "firms", acme).await?;
    let bolt =
        json!({"title": "Bolt", "size": 20, "tags": ["b"], "partner_ids": [acme.id, core.id]});
    let bolt = it.create(&scope, "firms", bolt).await?;
    for (title, firm, former) in [
        ("Ada", Some(acme.id), vec![]),
        ("Bob", Some(bolt.id), vec![acme.id, core.id]),
        ("Cid", None, vec![bolt.id]),
    ] {
        let json = json!({"title": title, "firm_id": firm, "former_ids": former});
        it.create(&scope, "staff", json).await?;
    }
    Ok(World {
        it,
        scope,
        acme,
        bolt,
        core,
    })
}

async fn a_condition_behind_a_reference_finds_what_a_join_would(
    backend: Backend,
) -> anyhow::Result<()> {
    let World {
        it, scope, acme, ..
    } = world(backend).await?;
    for (module, json, expected) in [
        ("staff", json!({"firm_id.title": "Acme"}), vec!["Ada"]),
        (
            "staff",
            json!({"firm_id.title": {"contains": "O"}}),
            vec!["Bob"],
        ),
        (
            "staff",
            json!({"firm_id.title": {"ne": "Acme"}}),
            vec!["Bob"],
        ),
        (
            "staff",
            json!({"firm_id.size": {"gte": 10, "lt": 20}}),
            vec!["Ada"],
        ),
        (
            "staff",
            json!({"firm_id.size": {"in": [10, 20]}}),
            vec!["Ada", "Bob"],
        ),
        (
            "staff",
            json!({"firm_id.tags": {"has": "b"}}),
            vec!["Ada", "Bob"],
        ),
        (
            "staff",
            json!({"firm_id.tags": {"has_all": ["a", "b"]}}),
            vec!["Ada"],
        ),
        ("staff", json!({"firm_id.id": acme.id}), vec!["Ada"]),
        (
            "staff",
            json!({"firm_id.parent_id": {"is_null": true}}),
            vec!["Bob"],
        ),
        (
            "staff",
            json!({"firm_id.created_at": {"gte": "2000-01-01T00:00:00Z"}}),
            vec!["Ada", "Bob"],
        ),
        // What has no record there meets no condition on it.
        (
            "staff",
            json!({"not": {"firm_id.title": "Acme"}}),
            vec!["Bob", "Cid"],
        ),
        ("staff", json!({"firm_id.size": {"is_null": true}}), vec![]),
        (
            "staff",
            json!({"or": [{"firm_id.title": "Acme"}, {"title": "Cid"}]}),
            vec!["Ada", "Cid"],
        ),
        (
            "staff",
            json!({"firm_id.title": "Bolt", "former_ids.title": "Core"}),
            vec!["Bob"],
        ),
        // The module itself: columns of the inner records and of the outer ones keep apart.
        ("firms", json!({"parent_id.title": "Core"}), vec!["Acme"]),
        (
            "firms",
            json!({"parent_id.size": {"gt": 100}, "size": {"lt": 100}}),
            vec!["Acme"],
        ),
        (
            "firms",
            json!({"partner_ids.parent_id": {"is_null": false}}),
            vec!["Bolt"],
        ),
        (
            "firms",
            json!({"partner_ids.partner_ids": {"is_null": true}}),
            vec!["Bolt"],
        ),
    ] {
        assert_eq!(
            titles(&it, &scope, module, json.clone()).await?,
            expected,
            "{json}"
        );
    }
    let staff = scope.module("staff").context("declared")?;
    let text =
        Filter::parse_for(&scope, staff, "firm_id.title", "contains", "cm").map_err(refusal)?;
    assert_eq!(
        text,
        filter(
            &scope,
            "staff",
            json!({"firm_id.title": {"contains": "cm"}})
        )?
    );
    let query = asking(text);
    assert_eq!(it.ids(&scope, "staff", &query).await?.len(), 1);
    let query = Query {
        search: Some("ad".to_owned()),
        sort: Sort::parse_list(staff, "-title").map_err(refusal)?,
        ..query
    };
    assert_eq!(
        it.ids(&scope, "staff", &query).await?.len(),
        0,
        "nothing is searched"
    );
    Ok(())
}

async fn a_list_of_references_matches_by_any_of_its_records(
    backend: Backend,
) -> anyhow::Result<()> {
    let World {
        it, scope, core, ..
    } = world(backend).await?;
    for (json, expected) in [
        (json!({"former_ids.title": "Core"}), vec!["Bob"]),
        (json!({"former_ids.size": {"lt": 100}}), vec!["Bob", "Cid"]),
        // Operators of one member are met by one and the same record.
        (
            json!({"former_ids.size": {"gt": 10, "lt": 900}}),
            vec!["Cid"],
        ),
        (
            json!({"and": [{"former_ids.size": {"gt": 10}}, {"former_ids.size": {"lt": 900}}]}),
            vec!["Bob", "Cid"],
        ),
        (
            json!({"not": {"former_ids.title": "Core"}}),
            vec!["Ada", "Cid"],
        ),
    ] {
        assert_eq!(
            titles(&it, &scope, "staff", json.clone()).await?,
            expected,
            "{json}"
        );
    }
    it.delete(&scope, &core)
        .await
        .err()
        .context("Acme refers to it")?;
    Ok(())
}

async fn xc_02_a_condition_sees_what_the_caller_may_read_and_no_more(
    backend: Backend,
) -> anyhow::Result<()> {
    let World { it, scope, .. } = world(backend).await?;
    let small = crm_core::policy::PermissionInput {
        permission: "firms.read".to_owned(),
        condition: Some(body(json!({"size": {"lt": 15}}))),
        ..Default::default()
    };
    for (name, permissions) in [
        ("small", vec!["staff.read".into(), small]),
        ("own", vec!["staff.read".into(), "firms.read:own".into()]),
        ("blind", vec!["staff.read".into()]),
    ] {
        let permit = scope.permit::<Create>("roles")?;
        let role = crm_core::role::NewRole {
            name: name.into(),
            permissions,
            ..Default::default()
        };
        it.crm.roles().create(&permit, role).await?;
    }
    let (own, user) = it.member("own").await?;
    let firm = json!({"title": "Mine", "size": 1, "owner_id": user});
    let mine = it.create(&scope, "firms", firm).await?;
    let json = json!({"title": "Dan", "firm_id": mine.id, "former_ids": [mine.id]});
    it.create(&scope, "staff", json).await?;
    for (json, expected) in [
        (json!({"firm_id.title": "Acme"}), vec![]),
        (json!({"firm_id.title": {"ne": "Acme"}}), vec!["Dan"]),
        (json!({"firm_id.size": {"is_null": false}}), vec!["Dan"]),
        (json!({"former_ids.title": {"contains": ""}}), vec!["Dan"]),
        (
            json!({"not": {"firm_id.title": "Acme"}}),
            vec!["Ada", "Bob", "Cid", "Dan"],
        ),
    ] {
        assert_eq!(
            titles(&it, &own, "staff", json.clone()).await?,
            expected,
            "{json}"
        );
    }
    // Rights under a condition see what meets it, at the other end as well.
    let (small, _) = it.member("small").await?;
    let any = json!({"firm_id.title": {"contains": ""}});
    assert_eq!(titles(&it, &small, "staff", any).await?, ["Ada", "Dan"]);
    let former = json!({"former_ids.size": {"gt": 0}});
    assert_eq!(titles(&it, &small, "staff", former).await?, ["Bob", "Dan"]);
    let (blind, _) = it.member("blind").await?;
    let refused = |scope: &Scope, name: &str| match filter(scope, "staff", json!({name: "x"})) {
        Err(Error::Invalid(mut fields)) => {
            let error = fields.remove(0);
            (
                error.pointer,
                error.code,
                error.message.replace(name, "NAME"),
            )
        }
        other => panic!("{other:?}"),
    };
    let one = refused(&blind, "firm_id.title");
    let other = refused(&blind, "firm_id.absent");
    assert_eq!((one.1, &one.2), ("unknown_field", &other.2));
    // A field that nobody reads is one that is not there.
    assert_eq!(
        refused(&scope, "firm_id.secret").2,
        refused(&scope, "firm_id.absent").2
    );
    Ok(())
}

async fn a_condition_never_reaches_another_tenant_or_the_trash(
    backend: Backend,
) -> anyhow::Result<()> {
    let World {
        it, scope, acme, ..
    } = world(backend).await?;
    let rival = it.crm.tenants().create("Rival", request()).await?.id;
    let rival = it.crm.operator(rival, request());
    let firm = it.create(&rival, "firms", json!({"title": "Acme"})).await?;
    let json = json!({"title": "Eve", "firm_id": firm.id, "former_ids": [firm.id]});
    it.create(&rival, "staff", json).await?;
    let condition = || json!({"firm_id.title": "Acme"});
    assert_eq!(titles(&it, &scope, "staff", condition()).await?, ["Ada"]);
    assert_eq!(titles(&it, &rival, "staff", condition()).await?, ["Eve"]);
    // A filter made for one tenant and asked in another one finds nothing there.
    let permit = rival.permit::<Read>("staff")?;
    let query = asking(filter(&scope, "staff", condition())?);
    assert!(
        it.crm
            .records()
            .list(&permit, &query)
            .await?
            .data
            .is_empty()
    );

    let trashed = json!({"title": "Gone", "size": 5});
    let trashed = it.create(&scope, "firms", trashed).await?;
    let json = json!({"title": "Fay", "former_ids": [trashed.id, acme.id]});
    it.create(&scope, "staff", json).await?;
    let gone = || json!({"former_ids.title": "Gone"});
    assert_eq!(titles(&it, &scope, "staff", gone()).await?, ["Fay"]);
    it.delete(&scope, &trashed).await?;
    assert!(titles(&it, &scope, "staff", gone()).await?.is_empty());
    Ok(())
}

async fn figures_bulk_writes_and_exports_take_conditions_behind_references(
    backend: Backend,
) -> anyhow::Result<()> {
    let World {
        it, scope, bolt, ..
    } = world(backend).await?;
    let (crm, read) = (&it.crm, scope.permit::<Read>("staff")?);
    let small = || filter(&scope, "staff", json!({"firm_id.size": {"lt": 100}}));
    let ask = Aggregate {
        metrics: vec![Metric {
            function: Function::Count,
            field: None,
        }],
        filter: Some(small()?),
        ..Aggregate::default()
    };
    let groups = crm.records().aggregate(&read, &ask).await?;
    assert_eq!(groups.data[0].metrics[0], Value::Int(2));
    let total = crm.records().count(&read, &asking(small()?)).await?;
    assert_eq!(total.count, 2);
    let mut export = crm
        .transfer()
        .export(read.clone(), asking(small()?), Format::Ndjson)?;
    let mut lines = String::new();
    while let Some(piece) = export.next().await? {
        lines.push_str(&piece);
    }
    assert_eq!(lines.lines().count(), 2);

    let reply = |matched: Matched| {
        Ok(Reply {
            status: 200,
            record: None,
            body: Some(format!("{} {}", matched.matched, matched.changed)),
        })
    };
    let update = scope.permit::<Update>("staff")?;
    let set = body(json!({"firm_id": bolt.id}));
    let many = Many::update(&read, &update, small()?, set, Some(2))?;
    let none: Option<Once> = None;
    crm.records().perform_many(many, none, reply).await?;
    let bolts = json!({"firm_id.title": "Bolt"});
    assert_eq!(
        titles(&it, &scope, "staff", bolts.clone()).await?,
        ["Ada", "Bob"]
    );
    let delete = scope.permit::<Delete>("staff")?;
    let many = Many::delete(&read, &delete, filter(&scope, "staff", bolts)?, Some(2))?;
    crm.records().perform_many(many, None, reply).await?;
    assert_eq!(titles(&it, &scope, "staff", json!({})).await?, ["Cid"]);
    Ok(())
}

async fn kept_figures_are_forgotten_when_the_other_module_is_written(
    backend: Backend,
) -> anyhow::Result<()> {
    let World {
        it, scope, acme, ..
    } = world(backend).await?;
    let permit = scope.permit::<Read>("staff")?;
    let ask = Aggregate {
        metrics: vec![Metric {
            function: Function::Count,
            field: None,
        }],
        filter: Some(filter(
            &scope,
            "staff",
            json!({"firm_id.size": {"gte": 10}}),
        )?),
        ..Aggregate::default()
    };
    let counted = async || -> crm_core::Result<(Value, bool)> {
        let age = MaxAge::seconds(60)?;
        let Figures { groups, kept } = it.crm.records().figures(&permit, &ask, age).await?;
        Ok((groups.data[0].metrics[0].clone(), kept))
    };
    assert_eq!(counted().await?, (Value::Int(2), false));
    assert_eq!(counted().await?, (Value::Int(2), true));
    it.update(&scope, &acme, None, json!({"size": 1})).await?;
    assert_eq!(counted().await?, (Value::Int(1), false));
    Ok(())
}

async fn cursors_belong_to_the_conditions_behind_references(
    backend: Backend,
) -> anyhow::Result<()> {
    let World { it, scope, .. } = world(backend).await?;
    let permit = scope.permit::<Read>("staff")?;
    let of = |size: i64| -> crm_core::Result<Query> {
        let filter = filter(&scope, "staff", json!({"firm_id.size": {"gte": size}}))?;
        Ok(Query {
            limit: 1,
            ..asking(filter)
        })
    };
    let first = it.crm.records().list(&permit, &of(1)?).await?;
    let cursor = first.next_cursor.context("two match")?;
    let next = Query {
        cursor: Some(cursor.clone()),
        ..of(1)?
    };
    let next = it.crm.records().list(&permit, &next).await?;
    assert_eq!((next.data.len(), next.next_cursor), (1, None));
    let other = Query {
        cursor: Some(cursor),
        ..of(2)?
    };
    assert_eq!(
        code(it.crm.records().list(&permit, &other).await),
        "validation_failed"
    );
    Ok(())
}

async fn what_leads_nowhere_is_refused_by_name(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let staff = scope.module("staff").context("declared")?;
    for (name, code) in [
        ("firm_id.absent", "unknown_field"),
        ("firm_id.", "unknown_field"),
        ("absent.title", "unknown_field"),
        (".title", "unknown_field"),
        ("title.title", "unknown_field"),
        ("id.title", "unknown_field"),
        ("subject.title", "not_allowed"),
        ("firm_id.parent_id.title", "too_deep"),
        ("firm_id.size", "wrong_type"),
    ] {
        let refused = filter(&scope, "staff", json!({"and": [{name: "x"}]}));
        match refused {
            Err(Error::Invalid(fields)) => {
                assert_eq!(fields[0].pointer, format!("/and/0/{name}"));
                assert_eq!(fields[0].code, code, "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
        let refused = Filter::parse_for(&scope, staff, name, "ne", "x");
        let refused = refused.err().context("refused")?;
        assert_eq!(refused.pointer, format!("/{name}[ne]"));
    }
    let refused = Filter::parse_for(&scope, staff, "firm_id.size", "contains", "x");
    let refused = refused.err().context("refused")?;
    assert_eq!(refused.code, "unknown_operator");

    // What is decided without the database does not ask others.
    let refused = Filter::parse(staff, "firm_id.title", "eq", "x");
    let refused = refused.err().context("refused")?;
    assert_eq!(
        (refused.pointer.as_str(), refused.code),
        ("/firm_id.title", "not_allowed")
    );
    let refused = Filter::from_json(staff, &body(json!({"firm_id.title": "x"})));
    let refused = refused.err().context("refused")?;
    assert_eq!(
        (refused[0].pointer.as_str(), refused[0].code),
        ("/firm_id.title", "not_allowed")
    );

    let many = |count: usize| vec![json!({"firm_id.title": "x"}); count];
    assert!(filter(&scope, "staff", json!({"or": many(MAX_THROUGH)})).is_ok());
    match filter(&scope, "staff", json!({"or": many(MAX_THROUGH + 1)})) {
        Err(Error::Invalid(fields)) => {
            assert_eq!((fields.len(), fields[0].code), (1, "too_many"));
            assert_eq!(
                fields[0].pointer,
                format!("/or/{MAX_THROUGH}/firm_id.title")
            );
        }
        other => panic!("{other:?}"),
    }
    let one = || Filter::parse_for(&scope, staff, "firm_id.title", "eq", "x").map_err(refusal);
    let several = |count: usize| {
        (0..count)
            .map(|_| one())
            .collect::<crm_core::Result<Vec<_>>>()
    };
    assert!(Filter::all(several(MAX_THROUGH)?).is_ok());
    let refused = Filter::all(several(MAX_THROUGH + 1)?);
    let refused = refused.err().context("refused")?;
    assert_eq!(
        (refused.pointer.as_str(), refused.code),
        ("/filter", "too_many")
    );
    Ok(())
}
