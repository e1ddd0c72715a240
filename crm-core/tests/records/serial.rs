//! What serial fields promise: each record of a tenant has a number of its own.

use super::*;
use crm_core::Module;
use crm_core::module::{FieldSpec, check};
use crm_core::record::{Once, Reply, Work, Write};
use crm_core::testing::module_suite;
use crm_core::transfer::{Format, ImportMode, ImportOptions};
use serde::{Deserialize, Serialize};

on_both_databases!(
    a_module_with_a_serial_keeps_the_promises_of_every_module,
    numbers_count_from_one_in_each_tenant_and_clients_do_not_set_them,
    an_import_takes_its_numbers_at_once_and_a_refused_create_takes_none,
    racing_creates_get_different_numbers,
    a_record_is_found_by_its_number_in_its_tenant_only,
    a_serial_goes_with_no_other_rule,
);

/// Something to do.
#[derive(Debug, Serialize, Deserialize, Module)]
#[module(name = "tickets", singular = "ticket", key = "number")]
struct Ticket {
    /// Its number.
    #[field(serial)]
    number: Option<i64>,
    #[field(max = 40)]
    title: String,
    #[field(unique, max = 40)]
    code: Option<String>,
}

const TICKETS: &str = r#"
    name = "tickets"
    singular = "ticket"
    description = "Something to do."
    key = "number"
    fields = [
        { name = "number", type = "serial", description = "Its number." },
        { name = "title", type = "text", max = 40, required = true },
        { name = "code", type = "text", max = 40, unique = true },
    ]
"#;

async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    Fixture::built(backend, |builder| builder.module::<Ticket>()).await
}

fn number(record: &Record) -> Json {
    serde_json::to_value(record.get("number")).unwrap_or_default()
}

async fn a_module_with_a_serial_keeps_the_promises_of_every_module(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    module_suite(&it.crm, "tickets").await?;
    let toml = ModuleSpec::from_toml(TICKETS)?;
    assert_eq!(Ticket::spec(), toml);
    let json = serde_json::to_string(&toml)?;
    assert_eq!(serde_json::from_str::<ModuleSpec>(&json)?, toml);
    Ok(())
}

async fn numbers_count_from_one_in_each_tenant_and_clients_do_not_set_them(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let rival = it.crm.tenants().create("Rival", request()).await?.id;
    let rival = it.crm.operator(rival, request());
    for (scope, expected) in [
        (it.operator(), 1),
        (it.operator(), 2),
        (rival, 1),
        (it.operator(), 3),
    ] {
        let sent = json!({"title": "x", "number": 77});
        let made = it.create(&scope, "tickets", sent).await?;
        assert_eq!(number(&made), expected);
        let changed = it
            .update(&scope, &made, None, json!({"number": 9, "title": "y"}))
            .await?;
        assert_eq!((number(&changed), changed.version), (expected.into(), 2));
    }
    let entries = it.audit().await?;
    let made = entries.iter().find(|one| one.action == "tickets.create");
    let after = made.and_then(|one| one.after.clone());
    assert_eq!(after.context("the record")?["number"], 3);
    Ok(())
}

async fn an_import_takes_its_numbers_at_once_and_a_refused_create_takes_none(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let sent = json!({"title": "x", "code": "a"});
    it.create(&scope, "tickets", sent.clone()).await?;
    assert_eq!(
        code(it.create(&scope, "tickets", sent).await),
        "already_exists"
    );
    let options = |dry_run| ImportOptions {
        mode: ImportMode::Upsert,
        key: Some("code".into()),
        dry_run,
        ..ImportOptions::new(Format::Csv)
    };
    let lines = "number,title,code\n9,b,b\n9,known,a\n9,c,c\n";
    for dry_run in [true, false] {
        let transfer = it.crm.transfer();
        let mut upload = transfer.import(&scope, "tickets", options(dry_run)).await?;
        upload.push(lines.as_bytes()).await?;
        upload.finish().await?;
        it.crm.run_jobs_once().await?;
    }
    let module = it.crm.registry().get("tickets").context("declared")?;
    let sort = Sort::parse(module, "number").map_err(|error| Error::Invalid(vec![error]))?;
    let query = Query {
        sort: sort.into(),
        ..Query::default()
    };
    let permit = scope.permit::<Read>("tickets")?;
    let page = it.crm.records().list(&permit, &query).await?;
    let rows = page.data.iter();
    let rows = rows.map(|one| (number(one), one.get("title").cloned()));
    let rows: Vec<_> = rows
        .map(|(number, title)| {
            format!(
                "{number} {}",
                title.unwrap_or_default().as_text().unwrap_or("")
            )
        })
        .collect();
    assert_eq!(rows, ["1 known", "2 b", "3 c"]);

    let create = scope.permit::<Create>("tickets")?;
    let writes = ["d", "a", "e"].map(|code| {
        let sent = body(json!({"title": "x", "code": code}));
        Write::create(&create, sent)
    });
    let reply = |_: Vec<crm_core::Result<_>>| {
        Ok(Reply {
            status: 200,
            record: None,
            body: None,
        })
    };
    it.crm
        .records()
        .perform(
            &scope,
            Work::Each(writes.into_iter().collect()),
            None::<Once>,
            reply,
        )
        .await?;
    let last = it.create(&scope, "tickets", json!({"title": "x"})).await?;
    assert_eq!(number(&last), 6, "4 and 5 are those of the batch");
    Ok(())
}

async fn racing_creates_get_different_numbers(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let creates = (0..12).map(|_| it.create(&scope, "tickets", json!({"title": "x"})));
    let made = futures::future::try_join_all(creates).await?;
    let mut numbers: Vec<_> = made.iter().map(|one| number(one).as_i64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=12).map(Some).collect::<Vec<_>>());
    Ok(())
}

async fn a_record_is_found_by_its_number_in_its_tenant_only(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let made = it.create(&scope, "tickets", json!({"title": "x"})).await?;
    let records = it.crm.records();
    let permit = scope.permit::<Read>("tickets")?;
    assert_eq!(records.id_of(&permit, 1).await?, made.id);
    assert_eq!(code(records.id_of(&permit, 2).await), "not_found");
    let rival = it.crm.tenants().create("Rival", request()).await?.id;
    let rival = it
        .crm
        .operator(rival, request())
        .permit::<Read>("tickets")?;
    assert_eq!(code(records.id_of(&rival, 1).await), "not_found");
    let without = scope.permit::<Read>("contacts")?;
    assert_eq!(code(records.id_of(&without, 1).await), "not_found");
    Ok(())
}

async fn a_serial_goes_with_no_other_rule(backend: Backend) -> anyhow::Result<()> {
    drop(backend);
    for rule in [
        "required = true",
        "default = 3",
        "write_only = true",
        "immutable = true",
    ] {
        let serial = format!("type = \"serial\", {rule}");
        let spec = ModuleSpec::from_toml(&TICKETS.replace("type = \"serial\"", &serial))?;
        assert_eq!(code(check(&spec)), "validation_failed", "{rule}");
    }
    let spec = ModuleSpec::from_toml(&TICKETS.replace("key = \"number\"", "key = \"code\""))?;
    assert_eq!(code(check(&spec)), "validation_failed");
    let plain = FieldSpec::serial(Ticket::spec().fields[0].name.clone());
    assert!(plain.is_read_only() && !plain.is_key());
    Ok(())
}
