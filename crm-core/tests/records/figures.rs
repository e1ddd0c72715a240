//! Figures that are kept for a while: never older than asked for, never older than a write.

use super::*;
use crm_core::record::{Aggregate, Figures, Function, MaxAge, Metric};
use crm_core::value::Value;

on_both_databases!(
    figures_are_kept_until_they_are_too_old_or_somebody_writes,
    figures_are_kept_by_tenant_and_by_what_the_caller_sees,
);

fn count() -> Aggregate {
    Aggregate {
        metrics: vec![Metric {
            function: Function::Count,
            field: None,
        }],
        ..Aggregate::default()
    }
}

/// How many things are counted, and whether that was kept.
async fn counted(crm: &Crm, scope: &Scope, seconds: u32) -> anyhow::Result<(Value, bool)> {
    let permit = scope.permit::<Read>("things")?;
    let age = MaxAge::seconds(seconds)?;
    let Figures { groups, kept } = crm.records().figures(&permit, &count(), age).await?;
    Ok((groups.data[0].metrics[0].clone(), kept))
}

async fn figures_are_kept_until_they_are_too_old_or_somebody_writes(
    backend: Backend,
) -> anyhow::Result<()> {
    let start = DateTime::parse_from_rfc3339("2025-01-15T09:30:00Z")?.to_utc();
    let (clock, time) = Clock::fixed(start, 1);
    let crm = Crm::builder()
        .database(backend.url())
        .database_options(crm_core::testing::database_options())
        .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
        .clock(clock)
        .modules(default_modules())
        .modules([ModuleSpec::from_toml(THINGS)?]);
    let crm = crm.build().await?;
    let acme = crm.tenants().create("Acme", request()).await?.id;
    let scope = crm.operator(acme, request());
    let create = scope.permit::<Create>("things")?;
    assert_eq!(counted(&crm, &scope, 60).await?, (Value::Int(0), false));
    assert_eq!(counted(&crm, &scope, 60).await?, (Value::Int(0), true));

    // Any write to these records, and none to others.
    let records = crm.records();
    let thing = records
        .create(&create, body(json!({"title": "Thing"})))
        .await?;
    assert_eq!(counted(&crm, &scope, 60).await?, (Value::Int(1), false));
    assert_eq!(counted(&crm, &scope, 60).await?, (Value::Int(1), true));
    let change = body(json!({"title": "Other"}));
    let permit = scope.permit::<Update>("things")?;
    crm.records()
        .update(&permit, thing.id, None, change)
        .await?;
    assert_eq!(counted(&crm, &scope, 60).await?, (Value::Int(1), false));
    let refused = crm
        .records()
        .create(&create, body(json!({"number": "x"})))
        .await;
    assert!(refused.is_err());
    assert_eq!(counted(&crm, &scope, 60).await?, (Value::Int(1), true));
    let permit = scope.permit::<Delete>("things")?;
    crm.records().delete(&permit, thing.id, None).await?;
    assert_eq!(counted(&crm, &scope, 60).await?, (Value::Int(0), false));

    // An answer is as old as it says at most, whoever asked for it.
    time.advance(TimeDelta::seconds(30));
    assert_eq!(counted(&crm, &scope, 30).await?, (Value::Int(0), true));
    assert_eq!(counted(&crm, &scope, 29).await?, (Value::Int(0), false));
    time.advance(TimeDelta::seconds(3_601));
    assert_eq!(counted(&crm, &scope, 3_600).await?, (Value::Int(0), false));
    assert!(MaxAge::seconds(3_601).is_err());
    assert_eq!(counted(&crm, &scope, 0).await?, (Value::Int(0), false));
    crm.close().await;
    Ok(())
}

async fn figures_are_kept_by_tenant_and_by_what_the_caller_sees(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let (crm, scope) = (&it.crm, it.operator());
    let rival = crm.tenants().create("Rival", request()).await?.id;
    let rival = crm.operator(rival, request());
    let (member, _) = it.member("member").await?;
    it.create(&scope, "things", json!({"title": "One"})).await?;
    it.create(&member, "things", json!({"title": "Mine"}))
        .await?;
    for kept in [false, true] {
        assert_eq!(counted(crm, &scope, 60).await?, (Value::Int(2), kept));
        assert_eq!(counted(crm, &member, 60).await?, (Value::Int(1), kept));
        assert_eq!(counted(crm, &rival, 60).await?, (Value::Int(0), kept));
    }
    it.create(&rival, "things", json!({"title": "Theirs"}))
        .await?;
    assert_eq!(counted(crm, &rival, 60).await?, (Value::Int(1), false));
    assert_eq!(counted(crm, &scope, 60).await?, (Value::Int(2), true));
    Ok(())
}
