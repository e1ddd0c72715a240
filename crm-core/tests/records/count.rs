//! Kept numbers of records: always the number that counting finds, whoever wrote.

use super::*;
use crm_core::transfer::{Format, ImportOptions};

on_both_databases!(
    a_kept_number_is_the_number_of_records_after_every_kind_of_write,
    a_number_is_kept_for_its_tenant_and_module_only,
);

/// Records above which a number is kept.
const MANY: usize = 500;

async fn import(crm: &Crm, scope: &Scope, from: usize, count: usize) -> anyhow::Result<()> {
    let options = ImportOptions::new(Format::Csv);
    let mut upload = crm.transfer().import(scope, "contacts", options).await?;
    upload.push(b"name,email\n").await?;
    for n in from..from + count {
        upload
            .push(format!("N{n},n{n}@example.com\n").as_bytes())
            .await?;
    }
    upload.finish().await?;
    crm.run_jobs_once().await?;
    Ok(())
}

/// The total that a list tells, which is the exact one and the one that `count` tells.
async fn total(crm: &Crm, scope: &Scope) -> anyhow::Result<u64> {
    let permit = scope.permit::<Read>("contacts")?;
    let query = |count| Query {
        limit: 1,
        count,
        ..Query::default()
    };
    let listed = crm.records().list(&permit, &query(Count::Capped)).await?;
    let listed = listed.total.context("a total")?;
    let counted = crm.records().count(&permit, &query(Count::Exact)).await?;
    assert_eq!(listed, counted);
    assert!(!listed.capped);
    Ok(listed.count)
}

async fn a_kept_number_is_the_number_of_records_after_every_kind_of_write(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let (crm, scope) = (&it.crm, it.operator());
    import(crm, &scope, 0, MANY + 100).await?;
    let mut there = MANY as u64 + 100;
    assert_eq!(total(crm, &scope).await?, there);
    // The number is kept from here on: on SQLite, where counting had asked for it.
    let sqlite = it._backend.url().starts_with("sqlite");
    assert_eq!(crm.upkeep_once().await?, usize::from(sqlite));
    assert_eq!(total(crm, &scope).await?, there);

    let one = it
        .create(&scope, "contacts", json!({"name": "Ada"}))
        .await?;
    assert_eq!(total(crm, &scope).await?, there + 1);
    it.update(&scope, &one, None, json!({"name": "Ada L."}))
        .await?;
    assert_eq!(total(crm, &scope).await?, there + 1);
    it.delete(&scope, &one).await?;
    assert_eq!(total(crm, &scope).await?, there);
    // A refused write changes nothing.
    let taken = json!({"name": "Bo", "email": "N1@example.com"});
    assert!(it.create(&scope, "contacts", taken).await.is_err());
    assert_eq!(total(crm, &scope).await?, there);
    // Half of these rows are refused, the others are new.
    import(crm, &scope, MANY + 50, 100).await?;
    there += 50;
    assert_eq!(total(crm, &scope).await?, there);

    // Another program on the same database, which counts nothing, is counted all the same.
    let other = Crm::builder()
        .database(it._backend.url())
        .database_options(crm_core::testing::database_options())
        .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
        .modules(default_modules());
    let other = other.build().await?;
    let elsewhere = other.operator(it.tenant, request());
    import(&other, &elsewhere, 10_000, 7).await?;
    let permit = elsewhere.permit::<Create>("contacts")?;
    let records = other.records();
    let record = records.create(&permit, body(json!({"name": "Cy"}))).await?;
    assert_eq!(total(crm, &scope).await?, there + 8);
    let permit = elsewhere.permit::<Delete>("contacts")?;
    records.delete(&permit, record.id, None).await?;
    assert_eq!(total(crm, &scope).await?, there + 7);
    other.close().await;
    Ok(())
}

async fn a_number_is_kept_for_its_tenant_and_module_only(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let (crm, scope) = (&it.crm, it.operator());
    let rival = crm.tenants().create("Rival", request()).await?.id;
    let rival = crm.operator(rival, request());
    import(crm, &scope, 0, MANY + 1).await?;
    import(crm, &rival, 0, 3).await?;
    for _ in 0..2 {
        assert_eq!(total(crm, &scope).await?, MANY as u64 + 1);
        assert_eq!(total(crm, &rival).await?, 3);
        crm.upkeep_once().await?;
    }
    let company = it
        .create(&scope, "companies", json!({"name": "Navy"}))
        .await?;
    it.delete(&scope, &company).await?;
    assert_eq!(total(crm, &scope).await?, MANY as u64 + 1);
    // Whoever sees own records only is told the number of those, conditions count what they match.
    let (member, _) = it.member("member").await?;
    assert_eq!(total(crm, &member).await?, 0);
    let permit = scope.permit::<Read>("contacts")?;
    let module = crm.registry().get("contacts").context("contacts")?;
    let name = Filter::parse(module, "name", "eq", "N7").map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let query = Query {
        filter: Some(name),
        count: Count::Capped,
        ..Query::default()
    };
    assert_eq!(crm.records().count(&permit, &query).await?.count, 1);
    Ok(())
}
