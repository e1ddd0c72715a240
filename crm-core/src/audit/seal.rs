//! Seals what the audit log has committed: gives waiting entries their numbers, and their tenant's
//! chain one seal more.
//!
//! Entries wait in a table of their own, written with them, so that none is forgotten, whenever its
//! transaction commits; the order of the chain is the order of sealing. Writers pay for that one
//! row and never wait for each other. What is sealed leaves the queue in the transaction of its
//! seal, and the seals of a tenant are numbered by their primary key: two sealers cannot fork a
//! chain.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::SEALER;
use super::chain::{GENESIS, Member, SEALABLE, Seal, Sealable, sealable};
use crate::crm::Core;
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::lease::Lease;

/// Entries of one transaction.
const BATCH: u64 = 256;
/// How long entries gather before they are sealed together.
const GATHER: Duration = Duration::from_millis(400);
/// How often to look for entries of other processes.
const POLL: Duration = Duration::from_millis(500);
/// How long a process that stops may seal what is left.
const LAST: Duration = Duration::from_secs(5);
/// How often, and how soon again, to look whether another process has sealed what waits.
const LOOKS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(200);
/// The code of a conflict with another sealer.
const ELSEWHERE: &str = "sealed_elsewhere";

/// Seals entries of all tenants, one process at a time.
pub(crate) struct Sealer {
    core: Arc<Core>,
    lease: Lease,
}

impl Sealer {
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        Self {
            lease: Lease::new(SEALER, core.db.clone(), core.clock.clone()),
            core: core.clone(),
        }
    }

    /// Seals until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut commits = self.core.db.commits();
        while !stop.is_cancelled() {
            commits.borrow_and_update();
            while !stop.is_cancelled() && self.try_round().await > 0 {}
            tokio::select! {
                () = stop.cancelled() => {}
                _ = commits.changed() => {
                    let _ = stop.run_until_cancelled(tokio::time::sleep(GATHER)).await;
                }
                () = tokio::time::sleep(POLL) => {}
            }
        }
        self.finish().await;
    }

    /// Seals what is left, for as long as a stopping process may take, and gives the lease back.
    pub(crate) async fn finish(mut self) {
        let until = tokio::time::Instant::now() + LAST;
        while tokio::time::Instant::now() < until && self.try_round().await > 0 {}
        if let Err(error) = self.lease.release().await {
            warn(&error);
        }
    }

    async fn try_round(&mut self) -> usize {
        self.round().await.unwrap_or_else(|error| {
            warn(&error);
            0
        })
    }

    /// Seals everything that waits now; answers how many entries.
    pub(crate) async fn drain(mut self) -> Result<u64> {
        let mut sealed = 0;
        loop {
            match self.round().await? {
                0 => break,
                count => sealed += count as u64,
            }
        }
        self.lease.release().await?;
        Ok(sealed)
    }

    /// Seals some entries; answers how many, and 0 while another process does this.
    async fn round(&mut self) -> Result<usize> {
        let rows = self.core.db.fetch_all(waiting()).await?;
        if rows.is_empty() || !self.lease.take().await? {
            return Ok(0);
        }
        let waiting: Vec<Waiting> = rows.into_iter().map(read).collect::<Result<_>>()?;
        let (count, now) = (waiting.len(), self.core.clock.now());
        let sealed = self.core.db.write(move |tx| {
            Box::pin(async move {
                dequeue(tx, &waiting).await?;
                for some in waiting.chunk_by(|one, other| one.tenant == other.tenant) {
                    seal(tx, some, now).await?;
                }
                Ok(())
            })
        });
        match sealed.await {
            Ok(()) => Ok(count),
            Err(Error::Conflict { code, .. }) if code == ELSEWHERE => Ok(0),
            Err(error) => Err(error),
        }
    }
}

fn warn(error: &Error) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(
        error,
        "audit entries were not sealed; they wait for the next try"
    );
}

/// An entry that waits, if it is still there.
struct Waiting {
    sequence: i64,
    tenant: TenantId,
    id: Uuid,
    entry: Option<Sealable>,
}

/// The oldest waiting entries, by tenant and id.
fn waiting() -> Sql {
    const COLUMNS: [ColumnType; 3 + SEALABLE.len()] = {
        let mut all = [ColumnType::Int; 3 + SEALABLE.len()];
        all[1] = ColumnType::Uuid;
        all[2] = ColumnType::Uuid;
        let mut at = 0;
        while at < SEALABLE.len() {
            all[3 + at] = SEALABLE[at];
            at += 1;
        }
        all
    };
    let mut sql = Sql::new(sealable!(
        "SELECT u.sequence, u.tenant_id, u.entry_id, ",
        " FROM (SELECT sequence, tenant_id, entry_id FROM audit_unsealed ORDER BY sequence LIMIT "
    ))
    .returns(&COLUMNS);
    sql.number(BATCH).push(
        ") AS u LEFT JOIN audit_log a ON a.tenant_id = u.tenant_id AND a.id = u.entry_id \
         ORDER BY u.tenant_id, u.entry_id",
    );
    sql
}

fn read(mut row: Row) -> Result<Waiting> {
    Ok(Waiting {
        sequence: row.int()?,
        tenant: row.uuid()?,
        id: row.uuid()?,
        entry: Sealable::read(row)?,
    })
}

/// Takes the entries out of the queue, all of them or none.
async fn dequeue(tx: &mut Tx<'_>, waiting: &[Waiting]) -> Result<()> {
    let mut sql = Sql::new("DELETE FROM audit_unsealed WHERE sequence IN (");
    for (count, one) in waiting.iter().enumerate() {
        if count > 0 {
            sql.push(", ");
        }
        sql.arg(one.sequence, ColumnType::Int);
    }
    sql.push(")");
    let gone = tx.execute(sql).await?;
    if gone == waiting.len() as u64 {
        return Ok(());
    }
    Err(Error::conflict(
        ELSEWHERE,
        "another process sealed these entries",
    ))
}

/// Adds a seal over these entries of one tenant to its chain.
async fn seal(
    tx: &mut Tx<'_>,
    entries: &[Waiting],
    now: chrono::DateTime<chrono::Utc>,
) -> Result<()> {
    let Some(tenant) = entries.first().map(|entry| entry.tenant) else {
        return Ok(());
    };
    let mut last = Seal::select();
    last.arg(tenant, ColumnType::Uuid)
        .push(" ORDER BY sequence DESC LIMIT 1");
    let last = tx.fetch_optional(last).await?;
    let last = last.map(Seal::read).transpose()?;
    let behind = last
        .as_ref()
        .map_or((0, &GENESIS), |seal| (seal.sequence, &seal.hash));
    let members: Vec<Member> = entries
        .iter()
        .map(|one| match &one.entry {
            Some(entry) => entry.digest(tenant),
            None => Member::missing(one.id),
        })
        .collect();
    let times = entries.iter().filter_map(|one| one.entry.as_ref());
    let newest = times.map(|entry| entry.occurred_at).max();
    let seal = Seal::of(tenant, behind, &members, newest.unwrap_or(now), now)?;
    tx.execute(seal.insert(tenant)).await.map(drop)
}

/// Has every entry of the tenant sealed that waits now, by this process or the one that seals.
///
/// # Errors
/// [`Error::Unavailable`] where that one takes too long.
pub(crate) async fn seal_up(core: &Arc<Core>, tenant: TenantId) -> Result<()> {
    let newest = Sql::new(
        "SELECT sequence FROM audit_unsealed WHERE tenant_id = $1 ORDER BY sequence DESC LIMIT 1",
    )
    .bind(tenant, ColumnType::Uuid)
    .returns(&[ColumnType::Int]);
    let Some(mut row) = core.db.fetch_optional(newest).await? else {
        return Ok(());
    };
    let newest: i64 = row.int()?;
    for _ in 0..LOOKS {
        Sealer::new(core).drain().await?;
        let waiting = Sql::new(
            "SELECT sequence FROM audit_unsealed WHERE tenant_id = $1 AND sequence <= $2 LIMIT 1",
        )
        .bind(tenant, ColumnType::Uuid)
        .bind(newest, ColumnType::Int)
        .returns(&[ColumnType::Int]);
        if core.db.fetch_optional(waiting).await?.is_none() {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    let message = "the last audit entries are not sealed yet; try again";
    Err(Error::unavailable(message))
}
