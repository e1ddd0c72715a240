//! What fields promise that follow from others: computed when read, or copied with a reference.

use super::*;
use crm_core::clock::Fixed;
use crm_core::policy::PermissionInput;
use crm_core::record::{Aggregate, Metric, View};
use crm_core::testing::module_suite;
use crm_core::transfer::{Format, ImportMode, ImportOptions};

on_both_databases!(
    modules_with_computed_and_copied_fields_keep_the_promises_of_every_module,
    a_computed_field_is_shown_and_neither_stored_nor_compared,
    sa_96_what_is_overdue_is_told_by_the_clock_when_it_is_read_and_asked,
    rules_and_figures_know_what_is_overdue,
    fields_are_compared_with_the_present_day_and_instant,
    a_copied_field_keeps_the_value_of_the_time_when_its_reference_was_set,
    imports_upserts_and_bulk_updates_copy_too,
    declarations_that_compute_or_copy_what_is_not_there_are_refused,
);

const BRANCHES: &str = r#"
    name = "branches"
    singular = "branch"
    fields = [
        { name = "city", type = "text", max = 40, required = true },
        { name = "region", type = "text", max = 40 },
        { name = "key", type = "text", max = 40, write_only = true },
    ]
"#;

const STAFF: &str = r#"
    name = "staff"
    singular = "employee"
    fields = [
        { name = "full_name", type = "text", computed = "{first_name} {last_name}" },
        { name = "first_name", type = "text", max = 40 },
        { name = "last_name", type = "text", max = 40, required = true, unique = true, sort = true },
        { name = "branch_id", type = "reference", module = "branches" },
        { name = "region", type = "text", max = 40, sort = true, copied = "branch_id.region" },
    ]
"#;

async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    let specs = [BRANCHES, STAFF].map(ModuleSpec::from_toml);
    let specs = specs.into_iter().collect::<Result<Vec<_>, _>>()?;
    Fixture::built(backend, |builder| builder.modules(specs)).await
}

fn shown(record: &Record, field: &str) -> Json {
    let json = serde_json::to_value(record).unwrap_or_default();
    json.get(field).cloned().unwrap_or_else(|| json!("absent"))
}

async fn modules_with_computed_and_copied_fields_keep_the_promises_of_every_module(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    module_suite(&it.crm, "staff").await?;
    module_suite(&it.crm, "branches").await?;
    Ok(())
}

async fn a_computed_field_is_shown_and_neither_stored_nor_compared(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let sent = json!({"first_name": "Ada", "last_name": "King", "full_name": "Eve"});
    let made = it.create(&scope, "staff", sent).await?;
    assert_eq!(shown(&made, "full_name"), "Ada King");
    let changed = it
        .update(&scope, &made, None, json!({"first_name": null}))
        .await?;
    assert_eq!(shown(&changed, "full_name"), "King");
    let same = it
        .update(&scope, &made, None, json!({"full_name": "Eve"}))
        .await?;
    assert_eq!(same.version, changed.version);
    let entry = it.audit().await?.into_iter().next().context("an entry")?;
    assert_eq!(entry.after.context("the record")?["full_name"], "King");

    let module = it.crm.registry().get("staff").context("declared")?;
    let permit = scope.permit::<Read>("staff")?;
    let mut view = View::default();
    view.show(module, ["full_name"])
        .map_err(|error| Error::Invalid(vec![error]))?;
    let viewed = it.crm.records().view(&permit, vec![changed], &view).await?;
    let json = serde_json::to_value(&viewed)?;
    assert_eq!(json[0]["full_name"], "King");
    assert_eq!(json[0].as_object().map(Map::len), Some(3));
    let refused = [
        Filter::parse(module, "full_name", "eq", "King").map(drop),
        Sort::parse(module, "full_name").map(drop),
        Metric::parse(module, "min:full_name").map(drop),
    ];
    for refused in refused {
        let refused = refused.err().context("it is refused")?;
        assert_eq!(refused.code, "unknown_field");
        assert!(
            refused.message.contains("is computed"),
            "{}",
            refused.message
        );
    }

    let transfer = it.crm.transfer();
    let mut export = transfer.export(permit, Query::default(), Format::Csv)?;
    let mut file = String::new();
    while let Some(piece) = export.next().await? {
        file.push_str(&piece);
    }
    let header = "first_name,last_name,branch_id,region,full_name\r\n";
    assert!(file.contains(header), "{file}");
    assert!(file.ends_with(",King,,,King\r\n"), "{file}");
    Ok(())
}

const TASKS: &str = r#"
    name = "errands"
    singular = "errand"
    fields = [
        { name = "title", type = "text", sort = true },
        { name = "done", type = "bool", default = false, required = true },
        { name = "due", type = "date", sort = true },
        { name = "seen_at", type = "instant" },
        { name = "overdue", type = "bool", computed = { done = false, due = { lt = "today" } } },
    ]
"#;

/// Errands that are due yesterday, today and tomorrow, at noon of the fifteenth, and the clock's
/// hand.
async fn errands(backend: Backend) -> anyhow::Result<(Fixture, Arc<Fixed>)> {
    let (clock, hand) = Clock::fixed("2025-01-15T12:00:00Z".parse()?, 1);
    let spec = ModuleSpec::from_toml(TASKS)?;
    let it = Fixture::built(backend, |builder| builder.modules([spec]).clock(clock)).await?;
    let scope = it.operator();
    for (title, due, done) in [
        ("a", json!("2025-01-14"), false),
        ("b", json!("2025-01-14"), true),
        ("c", json!("2025-01-15"), false),
        ("d", json!("2025-01-16"), false),
        ("e", json!(null), false),
    ] {
        let sent = json!({"title": title, "due": due, "done": done, "overdue": true});
        it.create(&scope, "errands", sent).await?;
    }
    Ok((it, hand))
}

/// The titles of the errands that meet a condition, by those titles.
async fn titles(it: &Fixture, scope: &Scope, condition: Json) -> anyhow::Result<String> {
    let module = scope.module("errands").context("declared")?;
    let filter = Filter::from_json(module, &body(condition)).map_err(Error::Invalid)?;
    let permit = scope.permit::<Read>("errands")?;
    let sort = Sort::parse_list(module, "title").map_err(|error| Error::Invalid(vec![error]))?;
    let query = Query {
        filter: Some(filter.clone()),
        sort,
        ..Query::default()
    };
    let page = it.crm.records().list(&permit, &query).await?.data;
    assert!(page.iter().all(|record| filter.matches(record)));
    Ok(page
        .iter()
        .filter_map(|one| Some(shown(one, "title").as_str()?.to_owned()))
        .collect())
}

async fn sa_96_what_is_overdue_is_told_by_the_clock_when_it_is_read_and_asked(
    backend: Backend,
) -> anyhow::Result<()> {
    let (it, hand) = errands(backend).await?;
    let scope = it.operator();
    let overdue = async |wanted: bool| titles(&it, &scope, json!({"overdue": wanted})).await;
    assert_eq!(overdue(true).await?, "a");
    assert_eq!(overdue(false).await?, "bcde");
    assert_eq!(
        titles(&it, &scope, json!({"overdue": {"ne": true}})).await?,
        "bcde"
    );
    let permit = scope.permit::<Read>("errands")?;
    let all = it
        .crm
        .records()
        .list(&permit, &Query::default())
        .await?
        .data;
    let late = all
        .iter()
        .filter(|one| shown(one, "overdue") == json!(true));
    assert_eq!(
        late.map(|one| shown(one, "title")).collect::<Vec<_>>(),
        ["a"]
    );

    // A cursor goes on behind midnight, in the list as it is then; nothing was written.
    let module = scope.module("errands").context("declared")?;
    let asked = |limit, cursor| -> anyhow::Result<Query> {
        Ok(Query {
            filter: Some(
                Filter::parse(module, "overdue", "eq", "false")
                    .map_err(|one| Error::Invalid(vec![one]))?,
            ),
            sort: Sort::parse_list(module, "title").map_err(|one| Error::Invalid(vec![one]))?,
            limit,
            cursor,
            ..Query::default()
        })
    };
    let page = it.crm.records().list(&permit, &asked(1, None)?).await?;
    assert_eq!(shown(&page.data[0], "title"), "b");
    hand.advance(TimeDelta::hours(12));
    assert_eq!(overdue(true).await?, "ac");
    let page = it
        .crm
        .records()
        .list(&permit, &asked(9, page.next_cursor)?)
        .await?;
    let behind: Vec<_> = page.data.iter().map(|one| shown(one, "title")).collect();
    assert_eq!(behind, ["d", "e"]);
    assert!(page.data.iter().all(|one| one.version == 1));

    for (condition, code) in [
        (json!({"overdue": "yes"}), "wrong_type"),
        (json!({"overdue": {"gt": true}}), "unknown_operator"),
        (json!({"overdue": {}}), "unknown_operator"),
        (json!({"overdue": null}), "wrong_type"),
    ] {
        let refused = Filter::from_json(module, &body(condition.clone()));
        let refused = refused.err().context("refused")?;
        assert_eq!(refused[0].code, code, "{condition}");
    }
    Ok(())
}

async fn rules_and_figures_know_what_is_overdue(backend: Backend) -> anyhow::Result<()> {
    let (it, hand) = errands(backend).await?;
    let scope = it.operator();
    let permit = scope.permit::<Read>("errands")?;
    let module = scope.module("errands").context("declared")?;
    let figures = async || -> anyhow::Result<Json> {
        let filter = Filter::parse(module, "overdue", "eq", "true");
        let aggregate = Aggregate {
            filter: Some(filter.map_err(|error| Error::Invalid(vec![error]))?),
            metrics: vec![Metric::parse(module, "count").map_err(|one| Error::Invalid(vec![one]))?],
            ..Aggregate::default()
        };
        let groups = it.crm.records().aggregate(&permit, &aggregate).await?;
        Ok(serde_json::to_value(&groups.data[0].metrics[0])?)
    };
    assert_eq!(figures().await?, 1);
    hand.advance(TimeDelta::days(1));
    assert_eq!(figures().await?, 2);

    let rule = PermissionInput {
        permission: "errands.read".to_owned(),
        condition: Some(body(json!({"overdue": true}))),
        ..PermissionInput::default()
    };
    it.role("chaser", vec![rule]).await?;
    let (chaser, _) = it.member("chaser").await?;
    let seen = titles(&it, &chaser, json!({"title": {"gte": "a"}})).await?;
    assert_eq!(seen, "ac");
    Ok(())
}

async fn fields_are_compared_with_the_present_day_and_instant(
    backend: Backend,
) -> anyhow::Result<()> {
    let (it, _) = errands(backend).await?;
    let scope = it.operator();
    for (condition, expected) in [
        (json!({"due": "today"}), "c"),
        (json!({"due": {"ne": "today"}}), "abde"),
        (json!({"due": {"gt": "today"}}), "d"),
        (
            json!({"due": {"gte": "today-1d", "lte": "today+1d"}}),
            "abcd",
        ),
        (json!({"due": {"lt": "today-1w"}}), ""),
        (json!({"created_at": {"gte": "today"}}), "abcde"),
        (json!({"created_at": {"lt": "now-1h"}}), ""),
        (json!({"updated_at": {"lte": "now"}}), "abcde"),
        (json!({"seen_at": {"lte": "now"}}), ""),
    ] {
        let seen = titles(&it, &scope, condition.clone()).await?;
        assert_eq!(seen, expected, "{condition}");
    }
    let module = scope.module("errands").context("declared")?;
    for (name, text) in [
        ("due", "now"),
        ("due", "today+1h"),
        ("seen_at", "now+1"),
        ("title", "today"),
    ] {
        let refused = Filter::parse(module, name, "lt", text);
        assert_eq!(refused.is_err(), name != "title", "{name} {text}");
    }
    // Whatever is wrong with it, the answer says which words there are.
    for (name, op, text) in [
        ("due", "lt", "tomorrow"),
        ("due", "lt", "now"),
        ("due", "in", "today"),
        ("seen_at", "gt", "yesterday"),
        ("seen_at", "nin", "2025-01-15T09:30:00Z,now"),
    ] {
        let refused = Filter::parse(module, name, op, text);
        let message = refused.err().context("refused")?.message;
        assert!(message.contains("today"), "{name} {op} {text}: {message}");
        let json = match op {
            "in" | "nin" => json!(text.split(',').collect::<Vec<_>>()),
            _ => json!(text),
        };
        let condition = body(json!({name: {op: json}}));
        let refused = Filter::from_json(module, &condition)
            .err()
            .context("refused")?;
        assert_eq!(refused[0].message, message);
    }
    Ok(())
}

async fn a_copied_field_keeps_the_value_of_the_time_when_its_reference_was_set(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let north = json!({"city": "Kiel", "region": "north"});
    let north = it.create(&scope, "branches", north).await?;
    let south = it
        .create(&scope, "branches", json!({"city": "Ulm"}))
        .await?;
    let sent = json!({"last_name": "King", "branch_id": north.id, "region": "mine"});
    let made = it.create(&scope, "staff", sent).await?;
    assert_eq!(shown(&made, "region"), "north");
    it.update(&scope, &north, None, json!({"region": "far north"}))
        .await?;
    let same = json!({"branch_id": north.id, "first_name": "Ada", "region": "mine"});
    let same = it.update(&scope, &made, None, same).await?;
    assert_eq!(shown(&same, "region"), "north", "the value at that time");

    let moved = it
        .update(&scope, &made, None, json!({"branch_id": south.id}))
        .await?;
    assert_eq!(shown(&moved, "region"), Json::Null);
    let back = it
        .update(&scope, &made, None, json!({"branch_id": north.id}))
        .await?;
    assert_eq!(shown(&back, "region"), "far north");
    let stored = it.get(&scope, "staff", made.id).await?;
    assert_eq!(stored.to_json(), back.to_json());
    let left = it
        .update(&scope, &made, None, json!({"branch_id": null}))
        .await?;
    assert_eq!(shown(&left, "region"), Json::Null);

    let foreign = it.crm.tenants().create("Rival", request()).await?.id;
    let rival = it.crm.operator(foreign, request());
    let theirs = json!({"last_name": "Eve", "branch_id": north.id});
    assert_eq!(
        code(it.create(&rival, "staff", theirs).await),
        "validation_failed"
    );
    Ok(())
}

async fn imports_upserts_and_bulk_updates_copy_too(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let (scope, records) = (it.operator(), it.crm.records());
    let mut branches = Vec::new();
    for region in ["north", "south"] {
        let sent = json!({"city": region, "region": region});
        branches.push(it.create(&scope, "branches", sent).await?.id);
    }
    let (north, south) = (branches[0], branches[1]);
    let known = json!({"last_name": "a", "branch_id": north});
    let known = it.create(&scope, "staff", known).await?;
    let options = ImportOptions {
        mode: ImportMode::Upsert,
        key: Some("last_name".into()),
        ..ImportOptions::new(Format::Csv)
    };
    let lines = format!("last_name,branch_id,full_name\na,{south},x\nb,{north},y\nc,,z\n");
    let mut upload = it.crm.transfer().import(&scope, "staff", options).await?;
    upload.push(lines.as_bytes()).await?;
    let id = upload.finish().await?;
    it.crm.run_jobs_once().await?;
    assert!(it.crm.jobs().errors(&scope, id, 0, 10).await?.is_empty());
    let regions = async || -> anyhow::Result<Vec<Json>> {
        let module = it.crm.registry().get("staff").context("declared")?;
        let sort = Sort::parse(module, "last_name").map_err(|e| Error::Invalid(vec![e]))?;
        let query = Query {
            sort: sort.into(),
            ..Query::default()
        };
        let permit = scope.permit::<Read>("staff")?;
        let page = records.list(&permit, &query).await?;
        Ok(page.data.iter().map(|one| shown(one, "region")).collect())
    };
    assert_eq!(
        regions().await?,
        [json!("south"), json!("north"), Json::Null]
    );
    let now = it.get(&scope, "staff", known.id).await?;
    let entries = it.audit().await?;
    let entry = entries.iter().find(|one| one.action == "staff.update");
    let after = entry.context("an entry")?.after.clone();
    assert_eq!(after.context("the record")?, serde_json::to_value(&now)?);

    let (create, update) = (
        scope.permit::<Create>("staff")?,
        scope.permit::<Update>("staff")?,
    );
    let sent = body(json!({"last_name": "c", "branch_id": south}));
    records.upsert(&create, &update, "last_name", sent).await?;
    assert_eq!(
        regions().await?,
        [json!("south"), json!("north"), json!("south")]
    );
    Ok(())
}

async fn declarations_that_compute_or_copy_what_is_not_there_are_refused(
    backend: Backend,
) -> anyhow::Result<()> {
    drop(backend);
    let build = |staff: String| {
        let specs = [BRANCHES, &staff].map(ModuleSpec::from_toml);
        crm_core::Registry::new(specs.into_iter().collect::<Result<Vec<_>, _>>()?)
    };
    let places = |staff: String| match build(staff) {
        Err(Error::Invalid(problems)) => problems.into_iter().map(|one| one.pointer).collect(),
        _ => Vec::new(),
    };
    assert_eq!(places(STAFF.to_owned()), Vec::<String>::new());
    for template in [
        "{nobody}",
        "{full_name}",
        "{branch_id}",
        "plain",
        "{first_name",
    ] {
        let staff = STAFF.replace("{first_name} {last_name}", template);
        assert_eq!(places(staff), ["/staff/fields/0/computed"], "{template}");
    }
    for condition in [
        r#"{ nobody = 1 }"#,
        r#"{ full_name = "Ada" }"#,
        r#"{ created_at = { lt = "now" } }"#,
        r#"{ last_name = { like = "A" } }"#,
        r#"{ "branch_id.city" = "Ulm" }"#,
        "{}",
    ] {
        let staff = STAFF.replace(
            r#""full_name", type = "text", computed = "{first_name} {last_name}""#,
            &format!(r#""full_name", type = "bool", computed = {condition}"#),
        );
        let places = places(staff);
        assert!(
            places.len() == 1 && places[0].starts_with("/staff/fields/0/computed"),
            "{condition} {places:?}"
        );
    }
    for copied in [
        "region",
        "last_name.region",
        "branch_id.nobody",
        "branch_id.key",
    ] {
        let staff = STAFF.replace("branch_id.region", copied);
        assert_eq!(places(staff), ["/staff/fields/4/copied"], "{copied}");
    }
    let narrow = STAFF.replace(
        "max = 40, sort = true, copied",
        "max = 39, sort = true, copied",
    );
    assert_eq!(places(narrow), ["/staff/fields/4/copied"]);
    Ok(())
}
