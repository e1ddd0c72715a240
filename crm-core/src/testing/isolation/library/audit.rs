//! The doors of the audit log.

use chrono::{DateTime, TimeDelta, Utc};

use crate::audit::{AuditQuery, PRUNE, SEALER};
use crate::db::{ColumnType, Sql};
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::scope::{Purge, Read};
use crate::testing::isolation::stage::Stage;
use crate::testing::isolation::stock::first_module;

pub(super) async fn audit(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let (read, purge) = (
        scope.permit::<Read>("audit")?,
        scope.permit::<Purge>("audit")?,
    );
    let audit = it.crm.audit();
    let module = first_module(&it.crm)?.name().to_string();
    let kin = it.cast.kin.get(&module).ok_or(Error::NotFound)?;
    it.say("list", audit.list(&read, &AuditQuery::default()).await);
    let behind = AuditQuery {
        cursor: Some(it.cast.audit.both),
        limit: Some(3),
        ..AuditQuery::default()
    };
    it.say("list behind", audit.list(&read, &behind).await);
    for id in kin.both.first().into_iter().chain(kin.other.first()) {
        let about = AuditQuery {
            entity: Some(module.clone()),
            entity_id: Some(id.to_string()),
            ..AuditQuery::default()
        };
        it.say("list about", audit.list(&read, &about).await);
        it.say("erase", audit.erase(&purge, &module, &id.to_string()).await);
    }
    let mut export = audit.export(&read, AuditQuery::default())?;
    while let Some(text) = export.next().await? {
        it.say("export", Ok(text));
    }
    it.say(
        "head",
        audit
            .head(&read)
            .await
            .map(|head| head.map(|head| head.sequence)),
    );
    it.say("seals", seals(it).await);
    it.say("seal", it.crm.seal_audit_once().await);
    it.say("seals", seals(it).await);
    it.say("verify", verified(it).await);
    let later = it.crm.clock().now() + chrono::TimeDelta::days(1);
    it.say(
        "prune",
        audit
            .prune(&purge, later)
            .await
            .map(|pruned| pruned.is_some()),
    );
    it.say("seal", it.crm.seal_audit_once().await);
    it.say("seals", seals(it).await);
    it.say("verify", verified(it).await);
    it.say("list", audit.list(&read, &AuditQuery::default()).await);
    Ok(())
}

async fn seals(it: &Stage) -> Result<Vec<(i64, i64)>> {
    let permit = it.operator().await?.permit::<Read>("audit")?;
    let seals = it.crm.audit().seals(&permit, 0).await?;
    Ok(seals
        .into_iter()
        .map(|seal| (seal.sequence, seal.entries))
        .collect())
}

/// What the verification found; hashes are of the tenant.
async fn verified(it: &Stage) -> Result<String> {
    let permit = it.operator().await?.permit::<Read>("audit")?;
    let mut found = it.crm.audit().verify(&permit, None).await?;
    found.head = None;
    Ok(format!("{found:?}"))
}

/// Nobody seals for the time being. An entry that was never given to be sealed has an id that waits
/// elsewhere, and one that is gone has an id that is there elsewhere.
pub(super) async fn waiting(it: &Stage) -> Result<()> {
    let (db, clock) = (it.crm.core.db.clone(), it.crm.clock().clone());
    let mut sealer = Lease::new(SEALER, db, clock);
    it.say("seal elsewhere", sealer.take().await);
    let done = unsealed(it).await;
    sealer.release().await?;
    done
}

async fn unsealed(it: &Stage) -> Result<()> {
    it.say("verify", verified(it).await);
    let permit = it.operator().await?.permit::<Purge>("audit")?;
    let module = first_module(&it.crm)?.name().to_string();
    let kin = it.cast.kin.get(&module).ok_or(Error::NotFound)?;
    for id in kin.both.iter().take(1) {
        let id = id.to_string();
        let erased = it.crm.audit().erase(&permit, &module, &id).await;
        it.say("erase", erased);
    }
    it.crm
        .core
        .db
        .execute(forged(it, it.crm.clock().now()))
        .await?;
    it.say("verify", verified(it).await);
    let lost = Sql::new("DELETE FROM audit_log WHERE tenant_id IN ($1) AND id = $2")
        .bind(it.tenant, ColumnType::Uuid)
        .bind(it.cast.audit.both, ColumnType::Uuid);
    it.crm.core.db.execute(lost).await?;
    it.say("verify", verified(it).await);
    Ok(())
}

/// What is old goes, what is newer stays, and a log that tells of no pruning is found out.
pub(super) async fn retention(it: &Stage) -> Result<()> {
    let permit = it.operator().await?.permit::<Purge>("audit")?;
    let now = it.crm.clock().now();
    it.crm
        .core
        .db
        .execute(forged(it, now + TimeDelta::days(1)))
        .await?;
    let queue = Sql::new("INSERT INTO audit_unsealed (tenant_id, entry_id) VALUES ($1, $2)")
        .bind(it.tenant, ColumnType::Uuid)
        .bind(it.cast.audit.other, ColumnType::Uuid);
    it.crm.core.db.execute(queue).await?;
    it.say("seal", it.crm.seal_audit_once().await);
    let cutoff = now + TimeDelta::hours(1);
    let pruned = it.crm.audit().prune(&permit, cutoff).await;
    it.say(
        "prune",
        pruned.map(|pruned| pruned.map(|one| (one.entries, one.sequence))),
    );
    it.say("seals", seals(it).await);
    it.say("verify", verified(it).await);
    let silence = Sql::new(
        "UPDATE audit_log SET action = 'audit.other' WHERE tenant_id IN ($1) AND action = $2",
    )
    .bind(it.tenant, ColumnType::Uuid)
    .bind(PRUNE, ColumnType::Text);
    it.crm.core.db.execute(silence).await?;
    it.say("verify", verified(it).await);
    Ok(())
}

/// An entry with the id of one of the other tenant's.
fn forged(it: &Stage, at: DateTime<Utc>) -> Sql {
    Sql::new(
        "INSERT INTO audit_log (tenant_id, id, occurred_at, actor, action, entity, request_id) \
         VALUES ($1, $2, $3, 'operator', 'audit.other', 'audit', 'isolation-suite')",
    )
    .bind(it.tenant, ColumnType::Uuid)
    .bind(it.cast.audit.other, ColumnType::Uuid)
    .bind(at, ColumnType::Instant)
}
