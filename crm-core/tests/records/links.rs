//! What lists of references and references to any module promise.

use super::*;
use crm_core::record::{Comparison, View};
use crm_core::testing::module_suite;
use crm_core::transfer::{Format, ImportOptions};

on_both_databases!(
    a_list_of_references_keeps_its_order_and_makes_versions,
    a_list_names_visible_records_of_the_tenant_only,
    filters_on_references_mean_the_same_in_memory_and_in_sql,
    links_go_with_their_records_as_declared,
    a_reference_to_any_module_is_checked_and_follows_a_delete,
    references_are_imported_in_bulk,
    references_expand_over_three_levels_to_what_the_caller_may_see,
    a_field_of_links_comes_and_goes_with_its_table,
    modules_with_links_keep_the_promises_of_all,
    racing_deletes_and_references_to_any_module_leave_no_orphan,
);

const CLUBS: &str = r#"
name = "clubs"
singular = "club"
fields = [
    { name = "title", type = "text", required = true, sort = true },
    { name = "member_ids", type = "references", module = "people", max_items = 4 },
    { name = "chair_ids", type = "references", module = "people", on_delete = "restrict" },
    { name = "sister_ids", type = "references", module = "clubs", on_delete = "cascade" },
]
"#;
const PEOPLE: &str = r#"
name = "people"
singular = "person"
fields = [
    { name = "title", type = "text", required = true },
    { name = "friend_id", type = "reference", module = "people", on_delete = "set_null" },
]
"#;
const STORIES: &str = r#"
name = "stories"
singular = "story"
fields = [
    { name = "title", type = "text", required = true },
    { name = "subject", type = "any_reference", modules = ["clubs", "people"], on_delete = "cascade" },
    { name = "source", type = "any_reference", modules = ["stories", "people"], on_delete = "set_null" },
]
"#;

fn specs() -> anyhow::Result<Vec<ModuleSpec>> {
    let specs = [CLUBS, PEOPLE, STORIES].into_iter();
    let specs: crm_core::Result<_> = specs.map(ModuleSpec::from_toml).collect();
    Ok(specs?)
}

async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    let specs = specs()?;
    Fixture::built(backend, |builder| builder.modules(specs)).await
}

async fn people(it: &Fixture, count: usize) -> anyhow::Result<Vec<Record>> {
    let mut people = Vec::new();
    for n in 0..count {
        let input = json!({"title": format!("person {n}")});
        people.push(it.create(&it.operator(), "people", input).await?);
    }
    Ok(people)
}

fn list(record: &Record, field: &str) -> Json {
    let json: Json = serde_json::from_str(&record.to_json()).unwrap_or_default();
    json[field].clone()
}

async fn a_list_of_references_keeps_its_order_and_makes_versions(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let people = people(&it, 5).await?;
    let ids = |at: &[usize]| json!(at.iter().map(|at| people[*at].id).collect::<Vec<_>>());
    let input = json!({"title": "chess", "member_ids": ids(&[2, 0, 1])});
    let club = it.create(&scope, "clubs", input).await?;
    assert_eq!(list(&club, "member_ids"), ids(&[2, 0, 1]));
    assert_eq!(list(&club, "chair_ids"), json!([]));
    let read = it.get(&scope, "clubs", club.id).await?;
    assert_eq!(read.to_json(), club.to_json());
    let input = json!({"member_ids": ids(&[0, 2, 3])});
    let club = it.update(&scope, &club, Some(1), input.clone()).await?;
    assert_eq!(club.version, 2);
    let same = it.update(&scope, &club, None, input).await?;
    assert_eq!(same.version, 2, "nothing changed");
    let read = it.get(&scope, "clubs", club.id).await?;
    assert_eq!(list(&read, "member_ids"), ids(&[0, 2, 3]));
    let page = Query::default();
    let permit = scope.permit::<Read>("clubs")?;
    let listed = it.crm.records().list(&permit, &page).await?.data;
    assert_eq!(listed[0].to_json(), read.to_json());
    let audit = it.audit().await?;
    let after = audit[0].after.as_ref().context("after")?;
    assert_eq!(after["member_ids"], ids(&[0, 2, 3]));
    let cleared = it
        .update(&scope, &club, None, json!({"member_ids": []}))
        .await?;
    assert_eq!(list(&cleared, "member_ids"), json!([]));
    for (input, expected) in [
        (ids(&[0, 0]), "duplicate"),
        (ids(&[0, 1, 2, 3, 4]), "too_many"),
        (json!("x"), "wrong_type"),
        (json!([1]), "wrong_type"),
        (json!(["x"]), "invalid_id"),
    ] {
        let refused = it
            .update(&scope, &club, None, json!({"member_ids": input}))
            .await;
        match refused {
            Err(Error::Invalid(fields)) => assert_eq!(fields[0].code, expected),
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

async fn a_list_names_visible_records_of_the_tenant_only(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let foreign = it.crm.tenants().create("Rival", request()).await?.id;
    let rival = it.crm.operator(foreign, request());
    let ours = people(&it, 2).await?;
    let theirs = it
        .create(&rival, "people", json!({"title": "theirs"}))
        .await?;
    let scope = it.operator();
    let unknown = |result: crm_core::Result<Record>, field: &str| match result {
        Err(Error::Invalid(fields)) => {
            assert_eq!(fields.len(), 1);
            assert_eq!(fields[0].code, "unknown_reference");
            assert_eq!(fields[0].pointer, format!("/{field}"));
        }
        other => panic!("{other:?}"),
    };
    let input = json!({"title": "x", "member_ids": [ours[0].id, theirs.id]});
    unknown(it.create(&scope, "clubs", input).await, "member_ids");
    let input = json!({"title": "x", "subject": format!("people/{}", theirs.id)});
    unknown(it.create(&scope, "stories", input).await, "subject");
    let input = json!({"title": "x", "subject": format!("clubs/{}", ours[0].id)});
    unknown(it.create(&scope, "stories", input).await, "subject");
    let club = json!({"title": "x", "member_ids": [ours[0].id]});
    let club = it.create(&scope, "clubs", club).await?;
    let input = json!({"member_ids": [ours[0].id, theirs.id]});
    unknown(it.update(&scope, &club, None, input).await, "member_ids");
    let permit = scope.permit::<Create>("roles")?;
    let role = crm_core::role::NewRole {
        name: "clerk".into(),
        permissions: ["clubs.read", "clubs.update", "people.read:own"]
            .map(Into::into)
            .to_vec(),
        ..Default::default()
    };
    it.crm.roles().create(&permit, role).await?;
    let (clerk, _) = it.member("clerk").await?;
    let input = json!({"member_ids": [ours[0].id, ours[1].id]});
    unknown(it.update(&clerk, &club, None, input).await, "member_ids");
    // What stands there already may stay, whoever sees it.
    let input = json!({"title": "y", "member_ids": [ours[0].id]});
    it.update(&clerk, &club, None, input).await?;
    Ok(())
}

async fn filters_on_references_mean_the_same_in_memory_and_in_sql(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let people = people(&it, 3).await?;
    let club = it.create(&scope, "clubs", json!({"title": "club"})).await?;
    for chosen in 0..8_usize {
        let members: Vec<_> = (0..3)
            .filter(|at| chosen & (1 << at) != 0)
            .map(|at| people[at].id)
            .collect();
        let input = json!({"title": format!("{chosen}"), "member_ids": members});
        it.create(&scope, "clubs", input).await?;
        let subject = match members.first() {
            Some(id) if chosen % 2 == 0 => json!(format!("people/{id}")),
            Some(_) => json!(format!("clubs/{}", club.id)),
            None => Json::Null,
        };
        let input = json!({"title": "story", "subject": subject});
        it.create(&scope, "stories", input).await?;
    }
    let (a, b) = (people[0].id, people[1].id);
    let upper = a.to_string().to_uppercase();
    let cases = [
        ("clubs", json!({"member_ids": {"has": a}}), 4),
        ("clubs", json!({"member_ids": {"has": upper}}), 4),
        ("clubs", json!({"member_ids": {"has_any": [a, b]}}), 6),
        ("clubs", json!({"member_ids": {"has_all": [a, b]}}), 2),
        ("clubs", json!({"member_ids": {"has_all": []}}), 7),
        ("clubs", json!({"member_ids": {"has_any": []}}), 0),
        ("clubs", json!({"member_ids": {"is_null": true}}), 2),
        ("clubs", json!({"not": {"member_ids": {"has": a}}}), 5),
        (
            "clubs",
            json!({"or": [{"member_ids": {"has": a}}, {"title": "0"}]}),
            5,
        ),
        ("stories", json!({"subject": {"starts": "clubs/"}}), 4),
        ("stories", json!({"subject": {"starts": "people/"}}), 3),
        ("stories", json!({"subject": {"starts": "PEOPLE/"}}), 3),
        ("stories", json!({"subject": {"starts": "people0"}}), 0),
        (
            "stories",
            json!({"subject": format!("clubs/{}", club.id)}),
            4,
        ),
        (
            "stories",
            json!({"subject": {"in": [format!("people/{b}")]}}),
            2,
        ),
        ("stories", json!({"subject": {"is_null": true}}), 1),
        (
            "stories",
            json!({"not": {"subject": {"starts": "clubs/"}}}),
            4,
        ),
    ];
    for (name, filter, count) in cases {
        let module = scope.module(name).context("declared")?.clone();
        let filter = Filter::from_json(&module, &body(filter)).map_err(Error::Invalid)?;
        let permit = scope.permit::<Read>(name)?;
        let all = it
            .crm
            .records()
            .list(&permit, &Query::default())
            .await?
            .data;
        let expected = all.iter().filter(|record| filter.matches(record));
        let expected: Vec<_> = expected.map(|record| record.id).collect();
        let query = Query {
            filter: Some(filter.clone()),
            ..Query::default()
        };
        assert_eq!(it.ids(&scope, name, &query).await?, expected, "{filter:?}");
        assert_eq!(expected.len(), count, "{filter:?}");
    }
    let clubs = scope.module("clubs").context("declared")?;
    let has = Filter::parse(clubs, "member_ids", "has_any", &format!("{a},{b}"));
    assert!(matches!(has, Ok(Filter::Compare(_, Comparison::HasAny(ids))) if ids.len() == 2));
    for (op, text) in [("has", "x"), ("eq", "x"), ("contains", "x"), ("lt", "x")] {
        assert!(
            Filter::parse(clubs, "member_ids", op, text).is_err(),
            "{op}"
        );
    }
    let stories = scope.module("stories").context("declared")?;
    for (op, text) in [
        ("eq", "x"),
        ("eq", "boxes/1"),
        ("contains", "x"),
        ("lt", "x"),
    ] {
        assert!(Filter::parse(stories, "subject", op, text).is_err(), "{op}");
    }
    Ok(())
}

async fn links_go_with_their_records_as_declared(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let people = people(&it, 3).await?;
    let input = json!({
        "title": "chess", "member_ids": [people[0].id, people[1].id], "chair_ids": [people[2].id],
    });
    let club = it.create(&scope, "clubs", input).await?;
    let input = json!({"title": "sister", "sister_ids": [club.id]});
    let sister = it.create(&scope, "clubs", input).await?;
    let input = json!({"sister_ids": [sister.id, club.id]});
    let club = it.update(&scope, &club, None, input).await?;
    assert_eq!(code(it.delete(&scope, &people[2]).await), "has_dependents");
    it.delete(&scope, &people[0]).await?;
    let now = it.get(&scope, "clubs", club.id).await?;
    assert_eq!(now.version, 3);
    assert_eq!(list(&now, "member_ids"), json!([people[1].id]));
    let audit = it.audit().await?;
    let update = audit.iter().find(|entry| entry.action == "clubs.update");
    let update = update.context("an update")?;
    let before = update.before.as_ref().context("before")?;
    assert_eq!(before["member_ids"], json!([people[0].id, people[1].id]));
    it.delete(&scope, &sister).await?;
    for club in [&club, &sister] {
        assert_eq!(code(it.get(&scope, "clubs", club.id).await), "not_found");
    }
    it.delete(&scope, &people[2]).await?;
    it.get(&scope, "people", people[1].id).await?;
    Ok(())
}

async fn a_reference_to_any_module_is_checked_and_follows_a_delete(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let people = people(&it, 2).await?;
    let club = it.create(&scope, "clubs", json!({"title": "club"})).await?;
    let subject = format!("clubs/{}", club.id.to_string().to_uppercase());
    let input = json!({"title": "first", "subject": subject});
    let first = it.create(&scope, "stories", input).await?;
    assert_eq!(list(&first, "subject"), json!(format!("clubs/{}", club.id)));
    let source = format!("stories/{}", first.id);
    let input =
        json!({"title": "second", "source": source, "subject": format!("people/{}", people[0].id)});
    let second = it.create(&scope, "stories", input).await?;
    for subject in [
        "",
        "clubs",
        "clubs/",
        "clubs/x",
        "boxes/018f4e2a-7b6c-7d3e-9a1b-2c3d4e5f6071",
    ] {
        let made = it
            .create(&scope, "stories", json!({"title": "x", "subject": subject}))
            .await;
        assert_eq!(made.is_ok(), subject.is_empty(), "{subject}");
    }
    it.delete(&scope, &club).await?;
    assert_eq!(code(it.get(&scope, "stories", first.id).await), "not_found");
    let now = it.get(&scope, "stories", second.id).await?;
    assert_eq!((now.version, list(&now, "source")), (2, Json::Null));
    it.delete(&scope, &people[1]).await?;
    it.get(&scope, "stories", second.id).await?;
    it.delete(&scope, &people[0]).await?;
    assert_eq!(
        code(it.get(&scope, "stories", second.id).await),
        "not_found"
    );
    Ok(())
}

async fn references_are_imported_in_bulk(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let people = people(&it, 2).await?;
    let (a, b) = (people[0].id, people[1].id);
    let absent = it.crm.clock().new_id();
    let transfer = it.crm.transfer();
    let lines = format!("title,member_ids\none,{b}; {a}\ntwo,{a}\nthree,{absent}\nfour,\n");
    let options = ImportOptions::new(Format::Csv);
    let mut upload = transfer.import(&scope, "clubs", options).await?;
    upload.push(lines.as_bytes()).await?;
    let job = upload.finish().await?;
    it.crm.run_jobs_once().await?;
    let errors = it.crm.jobs().errors(&scope, job, 0, 10).await?;
    let told: Vec<_> = errors
        .iter()
        .map(|one| (one.line, one.code.as_str()))
        .collect();
    assert_eq!(told, [(4, "unknown_reference")]);
    let permit = scope.permit::<Read>("clubs")?;
    let module = scope.module("clubs").context("declared")?;
    let query = Query {
        sort: Sort::parse_list(module, "title").map_err(|error| anyhow::anyhow!(error.message))?,
        ..Query::default()
    };
    let clubs = it.crm.records().list(&permit, &query).await?.data;
    let members: Vec<_> = clubs.iter().map(|club| list(club, "member_ids")).collect();
    assert_eq!(members, [json!([]), json!([b, a]), json!([a])]);
    Ok(())
}

async fn references_expand_over_three_levels_to_what_the_caller_may_see(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let people = people(&it, 3).await?;
    for (at, friend) in [(0, 1), (1, 2)] {
        let input = json!({"friend_id": people[friend].id});
        it.update(&scope, &people[at], None, input).await?;
    }
    let input = json!({"title": "club", "member_ids": [people[1].id, people[0].id]});
    let club = it.create(&scope, "clubs", input).await?;
    for subject in [
        format!("clubs/{}", club.id),
        format!("people/{}", people[0].id),
    ] {
        let input = json!({"title": "story", "subject": subject});
        it.create(&scope, "stories", input).await?;
    }
    let registry = it.crm.registry();
    let stories = registry.get("stories").context("declared")?;
    let operator = it.operator();
    let view = |paths: &str| {
        let mut view = View::default();
        let done = view.expand(&operator, stories, paths.split(','));
        done.map(|()| view)
    };
    let shown = async |scope: &Scope, view: &View| -> anyhow::Result<Json> {
        let permit = scope.permit::<Read>("stories")?;
        let module = scope.module("stories").context("declared")?;
        let query = Query {
            sort: Sort::parse_list(module, "id").map_err(|error| anyhow::anyhow!(error.message))?,
            ..Query::default()
        };
        let page = it.crm.records().list(&permit, &query).await?.data;
        Ok(serde_json::to_value(
            it.crm.records().view(&permit, page, view).await?,
        )?)
    };
    let deep = view("subject.member_ids.friend_id,subject.friend_id")
        .map_err(|error| anyhow::anyhow!(error.message))?;
    let all = shown(&scope, &deep).await?;
    let members = &all[0]["subject_expanded"]["member_ids_expanded"];
    assert_eq!(members[0]["title"], "person 1");
    assert_eq!(members[0]["friend"]["title"], "person 2");
    assert_eq!(members[1]["friend"]["title"], "person 1");
    assert_eq!(all[1]["subject_expanded"]["friend"]["title"], "person 1");
    let code = |paths: &str| view(paths).map(drop).map_err(|error| error.code);
    assert_eq!(
        code("subject.member_ids.friend_id.friend_id"),
        Err("too_deep")
    );
    assert_eq!(code("title"), Err("unknown_field"));
    assert_eq!(code("subject.title"), Err("unknown_field"));
    assert_eq!(code("source.source.source"), Ok(()));

    let permit = scope.permit::<Create>("roles")?;
    let role = crm_core::role::NewRole {
        name: "reader".into(),
        permissions: ["stories.read", "clubs.read", "people.read:own"]
            .map(Into::into)
            .to_vec(),
        ..Default::default()
    };
    it.crm.roles().create(&permit, role).await?;
    let (reader, _) = it.member("reader").await?;
    let seen = shown(&reader, &deep).await?;
    assert_eq!(seen[0]["subject_expanded"]["title"], "club");
    assert_eq!(
        seen[0]["subject_expanded"]["member_ids_expanded"],
        json!([])
    );
    assert_eq!(seen[1]["subject_expanded"], Json::Null);
    Ok(())
}

async fn a_field_of_links_comes_and_goes_with_its_table(backend: Backend) -> anyhow::Result<()> {
    let options = DatabaseOptions::default();
    let schema = crm_core::Schema::open(backend.url(), &options, Clock::system()).await?;
    schema.migrate().await?;
    let registry = |clubs: String| {
        let specs = [clubs.as_str(), PEOPLE]
            .into_iter()
            .map(ModuleSpec::from_toml);
        crm_core::Registry::new(specs.collect::<crm_core::Result<_>>()?)
    };
    let line = CLUBS.lines().find(|line| line.contains("member_ids"));
    let without = CLUBS.replace(line.context("the line")?, "");
    schema.apply(&registry(without.clone())?).await?;
    schema.apply(&registry(CLUBS.to_owned())?).await?;
    // On SQLite another rule of a column makes the table anew, under its links.
    let ruled = CLUBS.replace("type = \"text\"", "type = \"text\", max = 40");
    schema.apply(&registry(ruled.clone())?).await?;
    let more = ruled.replace("max_items = 4", "max_items = 9");
    assert_eq!(schema.plan(&registry(more)?).await?, []);
    let plan = schema.plan(&registry(without)?).await?;
    let drops: Vec<_> = plan.iter().filter(|step| step.destructive).collect();
    assert_eq!(drops.len(), 1);
    assert_eq!(
        drops[0].summary,
        "clubs: drop field member_ids with its links"
    );
    schema.close().await;
    Ok(())
}

async fn modules_with_links_keep_the_promises_of_all(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    for name in ["people", "clubs", "stories"] {
        module_suite(&it.crm, name).await?;
    }
    Ok(())
}

async fn racing_deletes_and_references_to_any_module_leave_no_orphan(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    for _ in 0..20 {
        let club = it.create(&scope, "clubs", json!({"title": "club"})).await?;
        let input = json!({"title": "racer", "subject": format!("clubs/{}", club.id)});
        let (made, deleted) = tokio::join!(
            it.create(&scope, "stories", input),
            it.delete(&scope, &club)
        );
        deleted?;
        match made {
            Ok(made) => {
                let left = it.get(&scope, "stories", made.id).await;
                assert_eq!(code(left), "not_found", "it went with its club");
            }
            Err(error) => assert_eq!(error.code(), "validation_failed"),
        }
    }
    Ok(())
}
