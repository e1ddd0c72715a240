use chrono::{DateTime, TimeDelta};
use serde_json::{Map, json};

use super::{Removed, Retention};
use crate::clock::Clock;
use crate::crm::Crm;
use crate::db::{ColumnType, Sql};
use crate::module::default_modules;
use crate::plugin::Manifest;
use crate::record::Query;
use crate::scope::{Create, Read, RequestContext};
use crate::testing::Backend;

crate::on_both_databases!(what_is_delivered_run_or_sealed_goes_at_its_age_and_nothing_else);

fn request() -> RequestContext {
    RequestContext {
        id: "test".into(),
        address: None,
    }
}

async fn count(crm: &Crm, sql: &'static str) -> anyhow::Result<i64> {
    let sql = Sql::new(sql).returns(&[ColumnType::Int]);
    let row = crm.core.db.fetch_optional(sql).await?;
    Ok(row.map_or(Ok(0), |mut row| row.int())?)
}

async fn what_is_delivered_run_or_sealed_goes_at_its_age_and_nothing_else(
    backend: Backend,
) -> anyhow::Result<()> {
    let (clock, hands) = Clock::fixed(DateTime::UNIX_EPOCH + TimeDelta::days(20_000), 1);
    let crm = Crm::builder()
        .database(backend.url())
        .database_options(crate::testing::database_options())
        .secret("0123456789abcdef0123456789abcdef".into())
        .clock(clock.clone())
        .modules(default_modules())
        .retention(Retention {
            audit: Some(TimeDelta::days(365)),
            ..Retention::default()
        })
        .build()
        .await?;
    let tenant = crm.tenants().create("acme", request()).await?.id;
    let scope = crm.operator(tenant, request());
    let contact = || {
        let body = Map::from_iter([("name".to_owned(), json!("Ada"))]);
        let (crm, scope) = (crm.clone(), scope.clone());
        async move {
            let permit = scope.permit::<Create>("contacts")?;
            crm.records().create(&permit, body).await
        }
    };
    for _ in 0..3 {
        contact().await?;
    }
    crm.dispatch_once().await?;
    contact().await?;
    let manifest = "name = 'idle'\nversion = '1.0.0'\ntriggers = ['contact.created']\n";
    let plugin = Sql::new(
        "INSERT INTO plugins (tenant_id, id, name, version, manifest, sha256, created_at) \
         VALUES ($1, $2, 'idle', '1.0.0', $3, $4, $5)",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(tenant, ColumnType::Uuid)
    .bind(
        serde_json::to_value(Manifest::parse(manifest)?)?,
        ColumnType::Json,
    )
    .bind(vec![0; 32], ColumnType::Bytes)
    .bind(clock.now(), ColumnType::Instant);
    crm.core.db.execute(plugin).await?;
    let run = || {
        let run = Sql::new(
            "INSERT INTO plugin_runs (tenant_id, id, plugin_id, trigger, outcome, fuel, \
             duration_us, host_calls, logs, started_at) \
             VALUES ($1, $2, $3, 'contact.created', 'succeeded', 1, 1, 0, '[]', $4)",
        )
        .bind(tenant, ColumnType::Uuid)
        .bind(clock.new_id(), ColumnType::Uuid)
        .bind(tenant, ColumnType::Uuid)
        .bind(clock.now(), ColumnType::Instant);
        let db = crm.core.db.clone();
        async move { db.execute(run).await }
    };
    run().await?;
    crm.seal_audit_once().await?;
    assert_eq!(crm.remove_old_once().await?, Removed::default());

    hands.advance(TimeDelta::days(31));
    let events = Removed {
        events: 3,
        ..Removed::default()
    };
    assert_eq!(crm.remove_old_once().await?, events);
    assert_eq!(count(&crm, "SELECT count(*) FROM outbox").await?, 1);

    hands.advance(TimeDelta::days(60));
    run().await?;
    let runs = Removed {
        plugin_runs: 1,
        ..Removed::default()
    };
    assert_eq!(crm.remove_old_once().await?, runs);
    assert_eq!(count(&crm, "SELECT count(*) FROM plugin_runs").await?, 1);

    contact().await?;
    crm.seal_audit_once().await?;
    hands.advance(TimeDelta::days(300));
    let removed = crm.remove_old_once().await?;
    // One of them is the platform's, on the tenant that was made.
    assert_eq!((removed.audit, removed.plugin_runs), (6, 1));
    crm.seal_audit_once().await?;
    let permit = scope.permit::<Read>("audit")?;
    let found = crm.audit().verify(&permit, None).await?;
    assert_eq!((found.pruned, found.verified, found.fault), (5, 2, None));
    let permit = scope.permit::<Read>("contacts")?;
    let page = crm.records().list(&permit, &Query::default()).await?;
    assert_eq!(page.data.len(), 5, "records stay");
    Ok(())
}
