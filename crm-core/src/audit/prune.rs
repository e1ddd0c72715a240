//! Takes old entries, and payloads, out of a tenant's audit log so that its chain stays verifiable.
//!
//! Pruning removes whole seals from the chain's beginning with their entries, and leaves the last
//! of them as a checkpoint: its number and hash, which the next seal follows. Erasing removes the
//! before and after of entries, whose digests stay. Either is itself an entry of the log.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::chain::{Member, Seal};
use super::{Audit, PRUNE, seal_up};
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::journal;
use crate::scope::{Permit, Purge, Scope};
use crate::value;

/// Seals, and about as many thousand entries, of one transaction.
const SEALS: u64 = 8;
/// Entries that one statement removes.
const ENTRIES: usize = 500;
/// Entries of one transaction that erases payloads.
const ERASED: u64 = 500;

/// What pruning removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrunedAudit {
    /// How many entries.
    pub entries: i64,
    /// The number of the last of them, at the checkpoint.
    pub sequence: i64,
    /// The hash of the chain there, in hexadecimal digits.
    pub hash: String,
}

impl Audit {
    /// Removes sealed entries from before this moment, from the chain's beginning up to the first
    /// seal with a later one; `None` when there are none. `permit` is one for the object `audit`.
    ///
    /// Entries go in bounded transactions, and the log verifies in between; what is interrupted is
    /// finished by another call.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn prune(
        &self,
        permit: &Permit<Purge>,
        before: DateTime<Utc>,
    ) -> Result<Option<PrunedAudit>> {
        let scope = permit.on("audit")?.clone();
        let tenant = scope.tenant();
        let Some((target, present)) = self.target(tenant, before).await? else {
            return Ok(None);
        };
        let pruned = PrunedAudit {
            entries: target.sequence - present,
            sequence: target.sequence,
            hash: hex::encode(target.hash),
        };
        let (told, by) = (announcement(&pruned, before), scope.clone());
        let announced = self.core.db.write(move |tx| {
            Box::pin(async move {
                journal::audit(tx, &by, PRUNE, ("audit", None), None, Some(told)).await
            })
        });
        announced.await?;
        while self.step(tenant, target.sequence).await? {}
        Ok(Some(pruned))
    }

    /// The last seal whose entries, like all before, are older, and the number up to which entries
    /// are pruned already.
    async fn target(&self, tenant: TenantId, before: DateTime<Utc>) -> Result<Option<(Seal, i64)>> {
        let db = &self.core.db;
        let mut kept = Seal::select();
        kept.arg(tenant, ColumnType::Uuid)
            .push(" AND members IS NOT NULL AND newest_at >= ")
            .arg(before, ColumnType::Instant)
            .push(" ORDER BY sequence LIMIT 1");
        let kept = db.fetch_optional(kept).await?;
        let kept = kept.map(Seal::read).transpose()?;
        let mut target = Seal::select();
        target.arg(tenant, ColumnType::Uuid);
        if let Some(kept) = kept {
            target
                .push(" AND sequence < ")
                .arg(kept.sequence, ColumnType::Int);
        }
        target.push(" ORDER BY sequence DESC LIMIT 1");
        let target = db.fetch_optional(target).await?;
        let target = target.map(Seal::read).transpose()?;
        let Some(target) = target.filter(|seal| seal.members.is_some()) else {
            return Ok(None);
        };
        let first = Sql::new(
            "SELECT sequence - entries, members IS NULL, sequence FROM audit_seals \
             WHERE tenant_id = $1 ORDER BY sequence LIMIT 1",
        )
        .bind(tenant, ColumnType::Uuid)
        .returns(&[ColumnType::Int, ColumnType::Bool, ColumnType::Int]);
        let Some(mut first) = db.fetch_optional(first).await? else {
            return Ok(None);
        };
        let (before, pruned, sequence): (i64, bool, i64) =
            (first.int()?, first.bool()?, first.int()?);
        Ok(Some((target, if pruned { sequence } else { before })))
    }

    /// Prunes some seals; answers whether there may be more.
    async fn step(&self, tenant: TenantId, up_to: i64) -> Result<bool> {
        let mut some = Seal::select();
        some.arg(tenant, ColumnType::Uuid)
            .push(" AND members IS NOT NULL AND sequence <= ")
            .arg(up_to, ColumnType::Int)
            .push(" ORDER BY sequence LIMIT ")
            .number(SEALS);
        let work = self.core.db.write(move |tx| {
            Box::pin(async move {
                let rows = tx.fetch_all(some).await?;
                let seals: Vec<Seal> = rows.into_iter().map(Seal::read).collect::<Result<_>>()?;
                let Some(last) = seals.last() else {
                    return Ok(false);
                };
                let members = seals.iter().filter_map(Seal::members).flatten();
                let ids: Vec<Member> = members.collect();
                for some in ids.chunks(ENTRIES) {
                    tx.execute(removal(tenant, some)).await?;
                }
                let before =
                    Sql::new("DELETE FROM audit_seals WHERE tenant_id = $1 AND sequence < $2");
                let checkpoint = Sql::new(
                    "UPDATE audit_seals SET members = NULL WHERE tenant_id = $1 AND sequence = $2",
                );
                for sql in [before, checkpoint] {
                    let sql = sql
                        .bind(tenant, ColumnType::Uuid)
                        .bind(last.sequence, ColumnType::Int);
                    tx.execute(sql).await?;
                }
                Ok(last.sequence < up_to)
            })
        });
        work.await
    }

    /// Erases the before and after of all entries about one thing, such as the contact of a person
    /// who asked for it; answers of how many. The entries stay, and so does the chain: it holds a
    /// digest of what they held. `permit` is one for the object `audit`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while another process does not seal the entries that wait; those of the
    /// database.
    pub async fn erase(&self, permit: &Permit<Purge>, entity: &str, id: &str) -> Result<u64> {
        let scope = permit.on("audit")?.clone();
        let (entity, id): (String, String) = (entity.to_owned(), id.to_owned());
        for text in [&entity, &id] {
            if crate::module::input::operand_text(text).is_err() {
                return Err(Error::NotFound);
            }
        }
        seal_up(&self.core, scope.tenant()).await?;
        let (mut erased, mut behind) = (0, Uuid::nil());
        loop {
            let step = Erasure {
                scope: scope.clone(),
                entity: entity.clone(),
                id: id.clone(),
                behind,
            };
            let step = self.core.db.write(move |tx| Box::pin(step.run(tx)));
            let (count, last) = step.await?;
            erased += count;
            match last {
                Some(last) => behind = last,
                None => return Ok(erased),
            }
        }
    }
}

fn announcement(pruned: &PrunedAudit, before: DateTime<Utc>) -> serde_json::Value {
    json!({
        "before": value::instant(&before),
        "sequence": pruned.sequence,
        "hash": pruned.hash,
        "entries": pruned.entries,
    })
}

fn removal(tenant: TenantId, members: &[Member]) -> Sql {
    let mut sql = Sql::new("DELETE FROM audit_log WHERE tenant_id = ");
    sql.arg(tenant, ColumnType::Uuid).push(" AND id IN (");
    for (count, member) in members.iter().enumerate() {
        if count > 0 {
            sql.push(", ");
        }
        sql.arg(member.id, ColumnType::Uuid);
    }
    sql.push(")");
    sql
}

/// One transaction of an erasure.
struct Erasure {
    scope: Scope,
    entity: String,
    id: String,
    behind: Uuid,
}

impl Erasure {
    /// Answers how many entries it erased, and behind which to go on.
    async fn run(self, tx: &mut Tx<'_>) -> Result<(u64, Option<Uuid>)> {
        let tenant = self.scope.tenant();
        // Only what is sealed: the digest of what waits is yet to be taken.
        let mut sql = Sql::new(
            "SELECT id FROM audit_log WHERE tenant_id = $1 AND entity = $2 AND entity_id = $3 \
             AND id > $4 AND erased_at IS NULL AND (before IS NOT NULL OR after IS NOT NULL) \
             AND id NOT IN (SELECT entry_id FROM audit_unsealed WHERE tenant_id = $1) \
             ORDER BY id LIMIT ",
        )
        .bind(tenant, ColumnType::Uuid)
        .bind(self.entity.as_str(), ColumnType::Text)
        .bind(self.id.as_str(), ColumnType::Text)
        .bind(self.behind, ColumnType::Uuid)
        .returns(&[ColumnType::Uuid]);
        sql.number(ERASED);
        let rows = tx.fetch_all(sql).await?;
        let (count, mut last) = (rows.len() as u64, None);
        for mut row in rows {
            let id: Uuid = row.uuid()?;
            let erase = Sql::new(
                "UPDATE audit_log SET before = NULL, after = NULL, erased_at = $1 \
                 WHERE tenant_id = $2 AND id = $3",
            )
            .bind(self.scope.clock().now(), ColumnType::Instant)
            .bind(tenant, ColumnType::Uuid)
            .bind(id, ColumnType::Uuid);
            tx.execute(erase).await?;
            last = Some(id);
        }
        if count > 0 {
            let entity = ("audit", Some(format!("{}/{}", self.entity, self.id)));
            let after = json!({"entries": count});
            journal::audit(tx, &self.scope, "audit.erase", entity, None, Some(after)).await?;
        }
        Ok((count, last.filter(|_| count == ERASED)))
    }
}
