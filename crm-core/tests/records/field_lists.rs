//! Which fields a role reads and writes: the same through every door, united over the roles of a
//! user under the rows that each gives, and never handed on by those who do not hold them.

use std::collections::BTreeSet;

use super::*;
use crm_core::error::FieldError;
use crm_core::policy::PermissionInput;
use crm_core::record::{
    Aggregate, Function, Funnel, GroupKey, Many, MaxAge, Merge, Metric, View, Work, Write,
};
use crm_core::role::NewRole;
use crm_core::transfer::{Format, ImportOptions};

on_both_databases!(
    a_field_that_is_not_listed_is_absent_and_unknown_through_every_door,
    a_field_that_is_not_listed_is_written_through_no_door,
);

pub(super) const PEOPLE: &str = r#"
    name = "people"
    singular = "person"
    soft_delete = true
    duplicates = [["phone"]]
    fields = [
        { name = "name", type = "text", search = true, sort = true, required = true },
        { name = "note", type = "text", search = true },
        { name = "code", type = "text", unique = true },
        { name = "phone", type = "text" },
        { name = "salary", type = "decimal", precision = 10, scale = 2, sort = true },
        { name = "state", type = "enum", values = ["open", "won"], default = "open", required = true },
        { name = "boss_id", type = "reference", module = "people" },
        { name = "label", type = "text", computed = "{name} {salary}" },
    ]
"#;

pub(super) const VISITS: &str = r#"
    name = "visits"
    singular = "visit"
    fields = [
        { name = "title", type = "text" },
        { name = "person_id", type = "reference", module = "people" },
    ]
"#;

/// What lists of `people` may name, beside the computed `label`.
pub(super) const FIELDS: [&str; 8] = [
    "name", "note", "code", "phone", "salary", "state", "boss_id", "owner_id",
];

pub(super) async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    let specs = [PEOPLE, VISITS].map(ModuleSpec::from_toml);
    let specs = specs.into_iter().collect::<Result<Vec<_>, _>>()?;
    Fixture::built(backend, |builder| builder.modules(specs)).await
}

pub(super) fn only(permission: &str, names: &[&str]) -> PermissionInput {
    PermissionInput {
        permission: permission.to_owned(),
        fields: Some(names.iter().map(ToString::to_string).collect()),
        ..PermissionInput::default()
    }
}

pub(super) fn all_but(permission: &str, names: &[&str]) -> PermissionInput {
    PermissionInput {
        permission: permission.to_owned(),
        except: Some(names.iter().map(ToString::to_string).collect()),
        ..PermissionInput::default()
    }
}

pub(super) async fn role(
    it: &Fixture,
    scope: &Scope,
    name: &str,
    permissions: Vec<PermissionInput>,
) -> crm_core::Result<crm_core::role::Role> {
    let role = NewRole {
        name: name.to_owned(),
        permissions,
        ..NewRole::default()
    };
    let permit = scope.permit::<Create>("roles")?;
    it.crm.roles().create(&permit, role).await
}

/// A member whose role has these permissions.
pub(super) async fn with(
    it: &Fixture,
    name: &str,
    permissions: Vec<PermissionInput>,
) -> anyhow::Result<(Scope, UserId)> {
    role(it, &it.operator(), name, permissions).await?;
    it.member(name).await
}

/// The names of a record's members, but for those that every record shows.
pub(super) fn shown(json: &Json) -> BTreeSet<&str> {
    let always = ["id", "version", "created_at", "updated_at", "deleted_at"];
    let members = json.as_object().into_iter().flatten();
    let names = members.map(|(name, _)| name.as_str());
    names.filter(|name| !always.contains(name)).collect()
}

pub(super) fn wire(record: &impl serde::Serialize) -> anyhow::Result<Json> {
    Ok(serde_json::to_value(record)?)
}

fn refusal<T>(answer: Result<T, FieldError>) -> &'static str {
    answer.map_or_else(|error| error.code, |_| "ok")
}

fn fine<T>(answer: Result<T, FieldError>) -> crm_core::Result<T> {
    answer.map_err(|error| Error::Invalid(vec![error]))
}

pub(super) fn invalid<T: std::fmt::Debug>(
    answer: crm_core::Result<T>,
) -> Vec<(String, &'static str)> {
    match answer {
        Err(Error::Invalid(fields)) => {
            let fields = fields.into_iter();
            fields.map(|field| (field.pointer, field.code)).collect()
        }
        other => panic!("{other:?}"),
    }
}

async fn a_field_that_is_not_listed_is_absent_and_unknown_through_every_door(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let boss = json!({"name": "Bo", "salary": "9", "phone": "1", "note": "b"});
    let boss = it.create(&it.operator(), "people", boss).await?;
    let ada = json!({
        "name": "Ada", "salary": "5", "phone": "1", "note": "secret", "boss_id": boss.id,
    });
    let ada = it.create(&it.operator(), "people", ada).await?;
    let visit = json!({"title": "first", "person_id": ada.id});
    it.create(&it.operator(), "visits", visit).await?;
    let listed = BTreeSet::from(["name", "state"]);
    let permissions = vec![
        only("people.read", &["name", "state"]),
        "people.create".into(),
        "people.update".into(),
        "people.delete".into(),
        "visits.read".into(),
        "audit.read".into(),
    ];
    let (scope, _) = with(&it, "front", permissions).await?;
    let (read, records) = (scope.permit::<Read>("people")?, it.crm.records());
    let module = scope.readable("people").context("declared")?;
    let whole = scope.module("people").context("declared")?.clone();

    // One, a page, what a write answers, the trash.
    assert_eq!(shown(&wire(&records.get(&read, ada.id).await?)?), listed);
    let page = records.list(&read, &Query::default()).await?;
    assert_eq!(page.data.len(), 2);
    for record in &page.data {
        assert_eq!(shown(&wire(record)?), listed);
    }
    let made = json!({"name": "Cy", "salary": "1", "note": "n"});
    let made = it.create(&scope, "people", made).await?;
    assert_eq!(shown(&wire(&made.shown(&scope))?), listed);
    let changed = it
        .update(&scope, &made, None, json!({"salary": "2"}))
        .await?;
    assert_eq!(shown(&wire(&changed.shown(&scope))?), listed);
    it.delete(&scope, &changed).await?;
    let delete = scope.permit::<Delete>("people")?;
    let trash = records.trash(&read, &delete, &Query::default()).await?;
    assert_eq!(shown(&wire(&trash.data[0])?), listed);

    // Conditions, orders and figures, as a request words them and as a program makes them.
    for name in ["salary", "note", "phone", "boss_id", "owner_id"] {
        let refused = Filter::parse_for(&scope, &module, name, "is_null", "true");
        assert_eq!(refusal(refused), "unknown_field", "{name}");
        let filter = fine(Filter::parse(&whole, name, "is_null", "true"))?;
        let query = Query {
            filter: Some(filter),
            ..Query::default()
        };
        let unknown = vec![(format!("/{name}"), "unknown_field")];
        assert_eq!(invalid(records.list(&read, &query).await), unknown);
        assert_eq!(invalid(records.count(&read, &query).await), unknown);
        assert_eq!(
            invalid(records.trash(&read, &delete, &query).await),
            unknown
        );
        let ask = Aggregate {
            filter: query.filter.clone(),
            metrics: vec![Metric {
                function: Function::Count,
                field: None,
            }],
            ..Aggregate::default()
        };
        assert_eq!(invalid(records.aggregate(&read, &ask).await), unknown);
        let filter = query.filter.context("a filter")?;
        let many = Many::delete(&read, &delete, filter, None).map(drop);
        assert_eq!(invalid(many), unknown);
        assert!(GroupKey::parse(&module, name).is_err(), "{name}");
        assert!(View::default().show(&module, [name]).is_err(), "{name}");
    }
    for text in ["salary", "-salary"] {
        let refused = Sort::parse(&module, text).err().context("no such order")?;
        assert_eq!(refused.code, "unknown_field");
        assert!(!refused.message.contains("salary"), "{refused:?}");
        let query = Query {
            sort: vec![fine(Sort::parse(&whole, text))?],
            ..Query::default()
        };
        let unknown = vec![("/salary".to_owned(), "unknown_field")];
        assert_eq!(invalid(records.list(&read, &query).await), unknown);
    }
    assert!(Metric::parse(&module, "sum:salary").is_err());
    assert!(Funnel::new(&module, "state", &[], Some("salary")).is_err());
    assert!(Funnel::new(&module, "state", &[], None).is_ok());
    let sum = Aggregate {
        metrics: vec![fine(Metric::parse(&whole, "sum:salary"))?],
        ..Aggregate::default()
    };
    let all = it.operator().permit::<Read>("people")?;
    // What was computed for others is not answered either.
    let age = MaxAge::seconds(60)?;
    records.figures(&all, &sum, age).await?;
    let refused = records.figures(&read, &sum, age).await;
    assert_eq!(code(refused), "validation_failed");
    let search = Query {
        search: Some("secret".to_owned()),
        ..Query::default()
    };
    let refused = invalid(records.list(&read, &search).await);
    assert_eq!(refused, [("/search".to_owned(), "not_allowed")]);

    // Over references, there and back.
    let visits = scope.readable("visits").context("declared")?;
    let through = Filter::parse_for(&scope, &visits, "person_id.salary", "gt", "1");
    assert_eq!(refusal(through), "unknown_field");
    let through = Filter::parse_for(&scope, &visits, "person_id.name", "eq", "Ada");
    let query = Query {
        filter: Some(fine(through)?),
        ..Query::default()
    };
    assert_eq!(it.ids(&scope, "visits", &query).await?.len(), 1);
    let of_visits = scope.permit::<Read>("visits")?;
    let mut view = View::default();
    let paths = ["person_id", "person_id.boss_id"];
    fine(view.expand(&scope, &visits, paths))?;
    let page = records.list(&of_visits, &query).await?;
    let viewed = wire(&records.view(&of_visits, page.data, &view).await?)?;
    assert_eq!(shown(&viewed[0]["person"]), listed, "{viewed}");
    let refused = View::default().expand(&scope, &module, ["boss_id"]);
    assert_eq!(refusal(refused), "unknown_field");

    // Files, duplicates, the audit log.
    for (format, absent) in [(Format::Csv, "salary"), (Format::Ndjson, "\"salary\"")] {
        let mut export = it
            .crm
            .transfer()
            .export(read.clone(), Query::default(), format)?;
        let mut file = String::new();
        while let Some(piece) = export.next().await? {
            file.push_str(&piece);
        }
        assert!(file.contains("Ada") && !file.contains(absent), "{file}");
        assert!(
            !file.contains("secret") && !file.contains("label"),
            "{file}"
        );
    }
    assert_eq!(records.duplicates(&read, 10, None).await?.data.len(), 0);
    assert_eq!(records.duplicates_of(&read, ada.id).await?.len(), 0);
    let permit = scope.permit::<Read>("audit")?;
    let query = AuditQuery {
        entity: Some("people".to_owned()),
        ..AuditQuery::default()
    };
    let audit = it.crm.audit().list(&permit, &query).await?;
    assert!(audit.data.len() >= 5);
    for entry in &audit.data {
        for state in [&entry.before, &entry.after].into_iter().flatten() {
            assert_eq!(shown(state), listed, "{entry:?}");
        }
    }
    Ok(())
}

async fn a_field_that_is_not_listed_is_written_through_no_door(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let ada = json!({"name": "Ada", "salary": "5", "code": "a"});
    let ada = it.create(&it.operator(), "people", ada).await?;
    let bob = json!({"name": "Bob", "salary": "7", "note": "from Bob"});
    let bob = it.create(&it.operator(), "people", bob).await?;
    let permissions = vec![
        "people.read".into(),
        "people.delete".into(),
        "jobs.create".into(),
        only("people.create", &["name", "code"]),
        all_but("people.update", &["salary", "owner_id", "phone"]),
    ];
    let (scope, user) = with(&it, "clerk", permissions).await?;
    let records = it.crm.records();
    let (read, create, update, delete) = (
        scope.permit::<Read>("people")?,
        scope.permit::<Create>("people")?,
        scope.permit::<Update>("people")?,
        scope.permit::<Delete>("people")?,
    );
    let at = |names: &[&str]| -> Vec<(String, &'static str)> {
        let names = names.iter();
        names
            .map(|name| (format!("/{name}"), "not_allowed"))
            .collect()
    };

    let made = it
        .create(&scope, "people", json!({"name": "Cy", "code": "c"}))
        .await?;
    assert_eq!(made.owner_id, Some(user));
    let refused = json!({"name": "Dee", "salary": "1", "owner_id": user});
    let refused = it.create(&scope, "people", refused).await;
    assert_eq!(invalid(refused), at(&["owner_id", "salary"]));
    it.update(
        &scope,
        &ada,
        None,
        json!({"name": "Ada L", "note": "n", "version": 9}),
    )
    .await?;
    for (change, names) in [
        (json!({"salary": "6"}), &["salary"][..]),
        (json!({"name": "x", "owner_id": null}), &["owner_id"]),
        // Also what is there already.
        (json!({"salary": "5", "phone": null}), &["phone", "salary"]),
    ] {
        assert_eq!(
            invalid(it.update(&scope, &ada, None, change).await),
            at(names)
        );
    }

    // The rights are those of what an upsert does: makes a record, or changes one.
    for (sent, names) in [
        (
            json!({"name": "New", "code": "new", "note": "x"}),
            &["note"],
        ),
        (
            json!({"name": "Ada M", "code": "a", "salary": "1"}),
            &["salary"],
        ),
    ] {
        let upsert = records.upsert(&create, &update, "code", body(sent)).await;
        assert_eq!(invalid(upsert), at(names));
    }
    let sent = json!({"name": "Ada M", "code": "a", "note": "x"});
    records.upsert(&create, &update, "code", body(sent)).await?;
    let batch = vec![
        Write::create(&create, body(json!({"name": "Eve"}))),
        Write::update(&update, ada.id, None, body(json!({"salary": "1"}))),
    ];
    let done = records.perform(&scope, Work::All(batch), None, |_| Err(Error::NotFound));
    let refused = done.await.err().context("refused")?;
    assert_eq!(
        (refused.index, refused.error.code()),
        (Some(1), "validation_failed")
    );
    let set = |json: Json| Many::update(&read, &update, Filter::And(vec![]), body(json), None);
    let refused = set(json!({"salary": "1"})).map(drop);
    assert_eq!(
        invalid(refused),
        [("/set/salary".to_owned(), "not_allowed")]
    );
    records.write_many(set(json!({"note": "all"}))?).await?;

    // The survivor keeps what the caller may not write.
    let merge = |take: Vec<(String, RecordId)>| {
        let from = vec![(bob.id, None)];
        Write::merge(&read, &update, &delete, made.id, None, Merge { from, take })
    };
    let refused = merge(vec![("salary".to_owned(), bob.id)]).map(drop);
    assert_eq!(
        invalid(refused),
        [("/take/salary".to_owned(), "not_allowed")]
    );
    let merged = records.merge(merge(Vec::new())?).await?;
    assert_eq!(wire(&merged)?["salary"], Json::Null);

    let file = "name,code,salary\nFay,f,1\nGil,g,\n";
    let options = ImportOptions::new(Format::Csv);
    let mut upload = it.crm.transfer().import(&scope, "people", options).await?;
    upload.push(file.as_bytes()).await?;
    let job = upload.finish().await?;
    it.crm.run_jobs_once().await?;
    let errors = it.crm.jobs().errors(&it.operator(), job, 0, 100).await?;
    let errors: Vec<_> = errors
        .iter()
        .map(|one| (one.pointer.as_str(), one.code.as_str()))
        .collect();
    assert_eq!(
        errors.first(),
        Some(&("/salary", "not_allowed")),
        "{errors:?}"
    );
    let salary = Metric::parse(scope.module("people").context("declared")?, "sum:salary");
    let ask = Aggregate {
        metrics: vec![fine(salary)?],
        ..Aggregate::default()
    };
    let sum = records.aggregate(&read, &ask).await?;
    assert_eq!(wire(&sum.data[0].metrics[0])?, json!("5.00"));
    Ok(())
}
