//! The table `mails`: what waits to be sent.
//!
//! Taking a mail puts it off for a while in the same statement, so that no other process takes it
//! too; when this one dies, the next try comes after that while.
//!
//! Each tenant has a queue of its own, and mails about people's own accounts have one together;
//! they are served in turn, so that nobody's many mails hold up another's few. A full queue of a
//! tenant refuses what would fill it more, as [`Error::Unavailable`]; a full one of accounts drops
//! it with a line in the log, since what the mail tells of must not fail by it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Letter, Mail, Mailer};
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::identity::Sealed;

/// Mails sent at a time.
const AT_ONCE: usize = 4;
/// Mails of one look at the queues.
const ROUND: i64 = 32;
/// Most mails of a tenant that wait.
const MOST_OF_TENANT: i64 = 1_000;
/// Most mails about accounts that wait.
const MOST_OF_ACCOUNTS: i64 = 10_000;
/// How long a taken mail is left to its process.
const TURN: TimeDelta = TimeDelta::minutes(2);
/// The pause after the first failure; it doubles with each one.
const PAUSE: TimeDelta = TimeDelta::seconds(10);
/// The longest pause.
const LONGEST_PAUSE: TimeDelta = TimeDelta::hours(1);
/// How often to look for mails of other processes.
const POLL: Duration = Duration::from_secs(1);

/// A mail that this process has taken.
struct Taken {
    id: Uuid,
    sealed: Vec<u8>,
    attempts: i64,
}

/// Puts a mail about somebody's own account into the transaction; [`Post::wake`](super::Post::wake)
/// after its commit sends it sooner. It is dropped when it could not be sent until `expires_at`.
pub(crate) async fn enqueue(
    tx: &mut Tx<'_>,
    core: &Core,
    letter: Letter<'_>,
    expires_at: DateTime<Utc>,
) -> Result<()> {
    let waiting = Sql::new(
        "SELECT count(*) FROM (SELECT id FROM mails WHERE tenant_id IS NULL LIMIT $1) AS waiting",
    );
    if tx
        .number(waiting.bind(MOST_OF_ACCOUNTS, ColumnType::Int))
        .await?
        >= MOST_OF_ACCOUNTS
    {
        tracing::warn!(kind = ?letter.kind, "too many mails wait; one about an account is dropped");
        return Ok(());
    }
    insert(tx, core, None, letter, expires_at).await
}

/// As [`enqueue`], a mail of a tenant.
///
/// # Errors
/// [`Error::Unavailable`] when too many of the tenant's wait.
pub(crate) async fn enqueue_of(
    tx: &mut Tx<'_>,
    core: &Core,
    tenant: TenantId,
    letter: Letter<'_>,
    expires_at: DateTime<Utc>,
) -> Result<()> {
    let waiting = Sql::new(
        "SELECT count(*) FROM (SELECT id FROM mails WHERE tenant_id = $1 LIMIT $2) AS waiting",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(MOST_OF_TENANT, ColumnType::Int);
    if tx.number(waiting).await? >= MOST_OF_TENANT {
        return Err(Error::unavailable(
            "1,000 mails of this tenant wait to be sent; try again when some have gone",
        ));
    }
    insert(tx, core, Some(tenant), letter, expires_at).await
}

async fn insert(
    tx: &mut Tx<'_>,
    core: &Core,
    tenant: Option<TenantId>,
    letter: Letter<'_>,
    expires_at: DateTime<Utc>,
) -> Result<()> {
    let id = core.clock.new_id();
    let mail = letter.write(id, &core.post.options);
    let text = serde_json::to_vec(&mail).map_err(Error::internal)?;
    let insert = Sql::new(
        "INSERT INTO mails (id, sealed, attempts, next_at, created_at, expires_at, tenant_id) \
         VALUES ($1, $2, 0, $3, $3, $4, $5)",
    )
    .bind(id, ColumnType::Uuid)
    .bind(core.post.seal.seal(&label(id), &text)?, ColumnType::Bytes)
    .bind(core.clock.now(), ColumnType::Instant)
    .bind(expires_at, ColumnType::Instant)
    .bind(tenant, ColumnType::Uuid);
    tx.execute(insert).await?;
    Ok(())
}

/// Where mails wait.
pub(crate) const SEALED: Sealed = Sealed {
    words: ("mail that waits", "mails that wait"),
    table: "mails",
    column: "sealed",
    optional: false,
    key: &[("id", ColumnType::Uuid)],
    label: |mut row| Ok(label(row.uuid()?)),
};

fn label(id: Uuid) -> String {
    format!("mail:{id}")
}

/// Sends mails until `stop`.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match stop.run_until_cancelled(send_waiting(&core)).await {
            Some(Ok(1..)) => continue,
            Some(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "mails cannot be read");
            }
            Some(Ok(0)) | None => {}
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = core.post.wake.notified() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// Sends some of what waits now, of each queue in turn; answers how many were tried.
pub(crate) async fn send_waiting(core: &Arc<Core>) -> Result<usize> {
    let due = Sql::new(
        "SELECT id, attempts, expires_at FROM (SELECT id, attempts, expires_at, next_at, \
         row_number() OVER (PARTITION BY tenant_id ORDER BY next_at, id) AS place \
         FROM mails WHERE next_at <= $1) AS waiting ORDER BY place, next_at, id LIMIT $2",
    )
    .bind(core.clock.now(), ColumnType::Instant)
    .bind(ROUND, ColumnType::Int)
    .returns(&[ColumnType::Uuid, ColumnType::Int, ColumnType::Instant]);
    let rows = core.db.fetch_all(due).await?;
    let tries = stream::iter(rows).map(|mut row| async move {
        let (id, attempts) = (row.uuid()?, row.int()?);
        attempt(core, id, attempts, row.instant()?).await
    });
    let tries = tries.buffer_unordered(AT_ONCE);
    tries
        .try_fold(
            0,
            |count, tried| async move { Ok(count + usize::from(tried)) },
        )
        .await
}

/// Sends a mail, if nobody else does; answers whether that was tried.
async fn attempt(
    core: &Arc<Core>,
    id: Uuid,
    attempts: i64,
    expires_at: DateTime<Utc>,
) -> Result<bool> {
    if expires_at <= core.clock.now() {
        tracing::warn!(mail = %id, attempts, "a mail was never sent, and is out of date");
        return remove(core, id).await.map(|()| false);
    }
    let taken = take(core, id, attempts).await?;
    match (&core.post.options.mailer, taken) {
        (Some(mailer), Some(mail)) => send(core, mailer.clone(), mail).await.map(|()| true),
        // It waits for a process that has one; the others need not look at it all the time.
        _ => Ok(false),
    }
}

async fn take(core: &Core, id: Uuid, attempts: i64) -> Result<Option<Taken>> {
    let counts = i64::from(core.post.options.mailer.is_some());
    let take = Sql::new(
        "UPDATE mails SET next_at = $1, attempts = attempts + $2 \
         WHERE id = $3 AND attempts = $4 AND next_at <= $5 RETURNING sealed, attempts",
    )
    .bind(core.clock.now() + TURN, ColumnType::Instant)
    .bind(counts, ColumnType::Int)
    .bind(id, ColumnType::Uuid)
    .bind(attempts, ColumnType::Int)
    .bind(core.clock.now(), ColumnType::Instant)
    .returns(&[ColumnType::Bytes, ColumnType::Int]);
    let row = core.db.write(move |tx| Box::pin(tx.fetch_optional(take)));
    let Some(mut row) = row.await? else {
        return Ok(None);
    };
    let (sealed, attempts) = (row.bytes()?, row.int()?);
    Ok(Some(Taken {
        id,
        sealed,
        attempts,
    }))
}

async fn send(core: &Arc<Core>, mailer: Arc<dyn Mailer>, taken: Taken) -> Result<()> {
    let Taken {
        id,
        sealed,
        attempts,
    } = taken;
    let opened = core.post.seal.open(&label(id), &sealed);
    let mail: Option<Mail> = opened.and_then(|text| serde_json::from_slice(&text).ok());
    let Some(mail) = mail else {
        tracing::error!(mail = %id, "a mail was sealed under a secret that is gone; it is dropped");
        return remove(core, id).await;
    };
    match mailer.send(&mail).await {
        Ok(()) => remove(core, id).await,
        Err(error @ Error::Unavailable { .. }) => {
            log(id, attempts, &error, "it is tried again");
            put_off(core, id, pause(attempts)).await
        }
        Err(error) => {
            log(id, attempts, &error, "it is given up");
            remove(core, id).await
        }
    }
}

fn log(id: Uuid, attempts: i64, error: &Error, outcome: &str) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(mail = %id, attempts, error, "a mail could not be sent; {outcome}");
}

/// The pause after this many failures.
fn pause(attempts: i64) -> TimeDelta {
    let doublings = u32::try_from(attempts - 1).unwrap_or(0).min(16);
    let pause = PAUSE.checked_mul(1 << doublings);
    pause.map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE))
}

async fn put_off(core: &Core, id: Uuid, pause: TimeDelta) -> Result<()> {
    let update = Sql::new("UPDATE mails SET next_at = $1 WHERE id = $2")
        .bind(core.clock.now() + pause, ColumnType::Instant)
        .bind(id, ColumnType::Uuid);
    write(core, update).await
}

async fn remove(core: &Core, id: Uuid) -> Result<()> {
    write(
        core,
        Sql::new("DELETE FROM mails WHERE id = $1").bind(id, ColumnType::Uuid),
    )
    .await
}

async fn write(core: &Core, sql: Sql) -> Result<()> {
    core.db.execute(sql).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour() {
        assert_eq!(pause(1), TimeDelta::seconds(10));
        assert_eq!(pause(2), TimeDelta::seconds(20));
        assert_eq!(pause(9), TimeDelta::seconds(2_560));
        assert_eq!(pause(10), LONGEST_PAUSE);
        assert_eq!(pause(1_000), LONGEST_PAUSE);
    }
}
