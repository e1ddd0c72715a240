//! What the flags of a field promise: who sets a value, who sees it, and how it compares.

use super::*;
use crm_core::testing::module_suite;
use crm_core::transfer::{Format, ImportMode, ImportOptions};

on_both_databases!(
    a_module_with_every_flag_keeps_the_promises_of_every_module,
    xc_04_a_read_only_field_is_read_past_and_set_by_states_only,
    an_immutable_field_is_set_once_through_every_door,
    a_write_only_value_appears_nowhere,
    nothing_is_found_ordered_or_shown_by_a_write_only_field_and_the_refusal_says_why,
    a_text_that_ignores_case_is_unique_found_and_ordered_without_it,
    a_text_learns_to_ignore_case_by_a_plan,
);

pub(crate) const VAULTS: &str = r#"
    name = "vaults"
    singular = "vault"
    fields = [
        { name = "title", type = "text", required = true, search = true, sort = true },
        { name = "code", type = "text", max = 40, ignore_case = true, unique = true, sort = true },
        { name = "origin", type = "text", max = 40, immutable = true },
        { name = "pin", type = "text", max = 40, write_only = true },
        { name = "state", type = "enum", values = ["open", "shut"], default = "open", required = true },
        { name = "verdict", type = "text", max = 40, read_only = true },
    ]
    [[machines]]
    field = "state"
    initial = ["open"]
    edges = { open = ["shut"] }
    sets = { shut = { verdict = "done" } }
"#;

const SECRET: &str = "s3cr3t-4711";

async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    let spec = ModuleSpec::from_toml(VAULTS)?;
    Fixture::built(backend, |builder| builder.modules([spec])).await
}

/// The refusals of fields, as pointer and code.
fn refusals<T>(result: crm_core::Result<T>) -> Vec<(String, &'static str)> {
    match result {
        Err(Error::Invalid(refused)) => {
            let refused = refused.into_iter();
            refused.map(|one| (one.pointer, one.code)).collect()
        }
        _ => Vec::new(),
    }
}

fn text(record: &Record, field: &str) -> Json {
    serde_json::to_value(record.get(field)).unwrap_or_default()
}

/// What an import of these lines leaves: its job, as JSON, and its errors in words.
async fn import(it: &Fixture, lines: &str, key: Option<&str>) -> anyhow::Result<Vec<String>> {
    let options = ImportOptions {
        mode: match key {
            Some(_) => ImportMode::Upsert,
            None => ImportMode::Create,
        },
        key: key.map(str::to_owned),
        ..ImportOptions::new(Format::Csv)
    };
    let scope = it.operator();
    let mut upload = it.crm.transfer().import(&scope, "vaults", options).await?;
    upload.push(lines.as_bytes()).await?;
    let id = upload.finish().await?;
    it.crm.run_jobs_once().await?;
    let errors = it.crm.jobs().errors(&scope, id, 0, 10).await?;
    let told = errors.iter().map(|one| format!("{one:?}"));
    Ok(told.collect())
}

async fn export(it: &Fixture, format: Format) -> anyhow::Result<String> {
    let permit = it.operator().permit::<Read>("vaults")?;
    let mut export = it.crm.transfer().export(permit, Query::default(), format)?;
    let mut file = String::new();
    while let Some(piece) = export.next().await? {
        file.push_str(&piece);
    }
    Ok(file)
}

async fn a_module_with_every_flag_keeps_the_promises_of_every_module(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    module_suite(&it.crm, "vaults").await?;
    Ok(())
}

async fn xc_04_a_read_only_field_is_read_past_and_set_by_states_only(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let sent = json!({"title": "a", "verdict": "mine"});
    let made = it.create(&scope, "vaults", sent).await?;
    assert_eq!(text(&made, "verdict"), Json::Null);
    let same = it
        .update(&scope, &made, None, json!({"verdict": ["odd"]}))
        .await?;
    assert_eq!(same.version, 1);
    let shut = it
        .update(
            &scope,
            &made,
            None,
            json!({"state": "shut", "verdict": "mine"}),
        )
        .await?;
    assert_eq!(text(&shut, "verdict"), "done");
    Ok(())
}

async fn an_immutable_field_is_set_once_through_every_door(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let (scope, records) = (it.operator(), it.crm.records());
    let sent = json!({"title": "a", "code": "A-1", "origin": "here"});
    let made = it.create(&scope, "vaults", sent).await?;
    let refused = vec![("/origin".to_owned(), "immutable")];
    for other in [json!("there"), Json::Null] {
        let changed = it
            .update(&scope, &made, None, json!({"origin": other}))
            .await;
        assert_eq!(refusals(changed), refused);
    }
    let same = it
        .update(&scope, &made, None, json!({"origin": "here", "title": "b"}))
        .await?;
    assert_eq!(same.version, 2);

    let (create, update) = (
        scope.permit::<Create>("vaults")?,
        scope.permit::<Update>("vaults")?,
    );
    let sent = body(json!({"title": "c", "code": "a-1", "origin": "there"}));
    let upserted = records.upsert(&create, &update, "code", sent).await;
    assert_eq!(refusals(upserted), refused);
    let errors = import(
        &it,
        "title,code,origin\nd,a-1,there\ne,a-2,new\n",
        Some("code"),
    )
    .await?;
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("immutable"), "{errors:?}");
    let now = it.get(&scope, "vaults", made.id).await?;
    assert_eq!((text(&now, "origin"), now.version), ("here".into(), 2));
    Ok(())
}

async fn a_write_only_value_appears_nowhere(backend: Backend) -> anyhow::Result<()> {
    let seen = Arc::new(Collector::default());
    let spec = ModuleSpec::from_toml(VAULTS)?;
    let subscriber = seen.clone();
    let it = Fixture::built(backend, |builder| {
        builder.modules([spec]).subscribe(subscriber)
    })
    .await?;
    let scope = it.operator();
    let sent = json!({"title": "a", "code": "A-1", "pin": SECRET});
    let made = it.create(&scope, "vaults", sent).await?;
    let changed = it
        .update(&scope, &made, None, json!({"pin": format!("{SECRET}-2")}))
        .await?;
    assert_eq!(changed.version, 2);
    assert_eq!(text(&changed, "pin"), format!("{SECRET}-2"), "it is stored");

    let mut shown = vec![made.to_json(), format!("{changed:?}")];
    shown.push(serde_json::to_string(&changed)?);
    let permit = scope.permit::<Read>("vaults")?;
    let page = it.crm.records().list(&permit, &Query::default()).await?;
    shown.push(serde_json::to_string(&page)?);
    let view = Default::default();
    let viewed = it.crm.records().view(&permit, page.data, &view).await?;
    shown.push(serde_json::to_string(&viewed)?);
    for lines in [
        format!("title,code,pin\nb,A-1,{SECRET}\n"),
        format!("title,code,pin\nb,A-2,{}\n", SECRET.repeat(9)),
    ] {
        shown.push(format!("{:?}", import(&it, &lines, None).await?));
    }
    let taken = json!({"title": "b", "code": "a-1", "pin": SECRET});
    let taken = it.create(&scope, "vaults", taken).await;
    shown.push(format!("{:?}", taken.err()));
    let long = json!({"title": "b", "pin": SECRET.repeat(9)});
    let long = it.create(&scope, "vaults", long).await;
    shown.push(format!("{:?}", long.err()));
    for format in [Format::Csv, Format::Json, Format::Ndjson] {
        shown.push(export(&it, format).await?);
    }
    it.delete(&scope, &made).await?;
    shown.push(format!("{:?}", it.audit().await?));
    it.crm.dispatch_once().await?;
    let events = seen.take();
    assert!(events.len() >= 3);
    shown.push(format!("{events:?}"));
    for text in shown {
        assert!(!text.is_empty() && !text.contains("s3cr3t"), "{text}");
    }
    Ok(())
}

async fn nothing_is_found_ordered_or_shown_by_a_write_only_field_and_the_refusal_says_why(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let module = it.crm.registry().get("vaults").context("declared")?;
    let mut view = crm_core::record::View::default();
    let refused = [
        Filter::parse(module, "pin", "eq", SECRET).map(drop),
        Filter::parse(module, "pin", "is_null", "true").map(drop),
        Sort::parse(module, "-pin").map(drop),
        view.show(module, ["title", "pin"]),
        crm_core::record::Metric::parse(module, "min:pin").map(drop),
        crm_core::record::GroupKey::parse(module, "pin").map(drop),
    ];
    for refused in refused {
        let refused = refused.err().context("it is refused")?;
        assert_eq!(refused.code, "unknown_field");
        assert!(
            refused.message.contains("write-only"),
            "{}",
            refused.message
        );
    }
    for flag in ["sort", "search", "unique", "read_only"] {
        let flags = format!("write_only = true, {flag} = true");
        let spec = ModuleSpec::from_toml(&VAULTS.replace("write_only = true", &flags))?;
        assert_eq!(code(crm_core::module::check(&spec)), "validation_failed");
    }
    Ok(())
}

async fn a_text_that_ignores_case_is_unique_found_and_ordered_without_it(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let mut made = Vec::new();
    for code in ["b-1", "A-1", "C-1", "a-2"] {
        let sent = json!({"title": "x", "code": code});
        made.push(it.create(&scope, "vaults", sent).await?);
    }
    let again = it
        .create(&scope, "vaults", json!({"title": "x", "code": "B-1"}))
        .await;
    assert_eq!(code(again), "already_exists");

    let module = it.crm.registry().get("vaults").context("declared")?;
    for (op, text, finds) in [
        ("eq", "B-1", vec![0]),
        ("in", "a-1,c-1", vec![1, 2]),
        ("ne", "B-1", vec![1, 2, 3]),
        ("lt", "B", vec![1, 3]),
        ("gte", "b", vec![0, 2]),
    ] {
        let filter =
            Filter::parse(module, "code", op, text).map_err(|e| Error::Invalid(vec![e]))?;
        let matching = made.iter().enumerate();
        let matching = matching.filter(|(_, record)| filter.matches(record));
        let in_memory: Vec<_> = matching.map(|(at, _)| at).collect();
        assert_eq!(in_memory, finds, "{op} {text}");
        let query = Query {
            filter: Some(filter),
            ..Query::default()
        };
        let mut found = it.ids(&scope, "vaults", &query).await?;
        found.sort_unstable();
        let mut wanted: Vec<_> = finds.iter().map(|at| made[*at].id).collect();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{op} {text}");
    }

    let permit = scope.permit::<Read>("vaults")?;
    let query = Query {
        sort: Sort::parse(module, "code")
            .map_err(|e| Error::Invalid(vec![e]))?
            .into(),
        limit: 1,
        ..Query::default()
    };
    let seen = it.paged(&permit, query).await?;
    let order: Vec<_> = seen.iter().map(|record| text(record, "code")).collect();
    assert_eq!(order, ["A-1", "a-2", "b-1", "C-1"]);

    let errors = import(&it, "title,code\ny,a-1\nz,C-1\nnew,D-1\n", Some("code")).await?;
    assert!(errors.is_empty(), "{errors:?}");
    let now = it.get(&scope, "vaults", made[1].id).await?;
    assert_eq!(
        (text(&now, "title"), text(&now, "code")),
        ("y".into(), "A-1".into())
    );
    Ok(())
}

async fn a_text_learns_to_ignore_case_by_a_plan(backend: Backend) -> anyhow::Result<()> {
    let strict = ModuleSpec::from_toml(&VAULTS.replace("ignore_case = true, ", ""))?;
    let folding = ModuleSpec::from_toml(VAULTS)?;
    for (spec, outcome) in [(strict, "ok"), (folding, "already_exists")] {
        let crm = Crm::builder()
            .database(backend.url())
            .database_options(crm_core::testing::database_options())
            .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
            .modules([spec])
            .build()
            .await?;
        let name = format!("Acme {outcome}");
        let tenant = crm.tenants().create(&name, request()).await?.id;
        let permit = crm.operator(tenant, request()).permit::<Create>("vaults")?;
        let sent = |code: &str| body(json!({"title": "x", "code": code}));
        crm.records().create(&permit, sent("A-1")).await?;
        let second = crm.records().create(&permit, sent("a-2")).await?;
        let update = crm.operator(tenant, request()).permit::<Update>("vaults")?;
        let records = crm.records();
        let taken = records.update(&update, second.id, None, sent("a-1")).await;
        assert_eq!(code(taken), outcome);
        let delete = crm.operator(tenant, request()).permit::<Delete>("vaults")?;
        crm.records().delete(&delete, second.id, None).await?;
        crm.close().await;
    }
    Ok(())
}
