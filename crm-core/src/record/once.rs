//! Requests that are done once, however often they are sent: the answer is stored under the
//! caller's key in the transaction of the write, and given again for a day.
//!
//! Keys belong to an actor in a tenant. A request that is refused leaves nothing, so that it can be
//! mended and sent again with the same key. What takes more than one transaction, an action of a
//! plugin, takes its key in the first and stores the answer in the last: between them, and when its
//! process is killed before, the key is under way.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};

use super::{Answered, Reply};
use crate::db::{ColumnType, Db, Dialect, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{RecordId, TenantId};
use crate::scope::Scope;
use crate::value::Value;

/// How long an answer is kept.
const KEPT: TimeDelta = TimeDelta::hours(24);
/// The longest key.
const MAX_KEY: usize = 255;

/// A request with a key of the caller's choice.
#[derive(Clone)]
pub struct Once {
    tenant: TenantId,
    actor: String,
    key: String,
    hash: Sha256,
}

/// Refuses what is no key.
pub(crate) fn check_key(key: &str) -> Result<()> {
    if (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let message = format!("Give a key of 1 to {MAX_KEY} visible ASCII characters.");
    Err(Error::invalid("Idempotency-Key", "invalid", message))
}

/// Whose keys are meant: who acts in another's name gets none of their answers.
pub(crate) fn whose(scope: &Scope) -> String {
    match scope.impersonator() {
        Some(by) => format!("{} by {by}", scope.actor()),
        None => scope.actor().to_string(),
    }
}

impl Once {
    /// A request of this scope's actor, known by `key` and told from others by its `parts`: method,
    /// path, query and body.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a key that is not 1 to 255 visible ASCII characters.
    pub fn new(scope: &Scope, key: &str, parts: [&[u8]; 4]) -> Result<Self> {
        check_key(key)?;
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Ok(Self {
            tenant: scope.tenant(),
            actor: whose(scope),
            key: key.to_owned(),
            hash,
        })
    }

    /// More of a body that arrives in pieces, of any size.
    pub fn push(&mut self, piece: &[u8]) {
        self.hash.update(piece);
    }

    fn fingerprint(&self) -> Vec<u8> {
        self.hash.clone().finalize().to_vec()
    }

    /// Takes the key for a request that is to be done now, waiting for one that is just being done
    /// with it in one transaction. Else says what is known of the key.
    pub(crate) async fn begin(
        &self,
        tx: &mut Tx<'_>,
        now: DateTime<Utc>,
    ) -> Result<Option<Answered>> {
        let take = Sql::new(
            "INSERT INTO idempotency_keys \
             (tenant_id, actor, idempotency_key, fingerprint, created_at) \
             VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (tenant_id, actor, idempotency_key) DO UPDATE \
             SET fingerprint = excluded.fingerprint, created_at = excluded.created_at, \
             status = NULL, record_id = NULL, version = NULL, body = NULL \
             WHERE idempotency_keys.created_at <= $6",
        );
        let take = self
            .bound(take)
            .bind(self.fingerprint(), ColumnType::Bytes)
            .bind(now, ColumnType::Instant)
            .bind(now - KEPT, ColumnType::Instant);
        if tx.execute(take).await? == 1 {
            return Ok(None);
        }
        match tx.fetch_optional(self.known()).await? {
            Some(mut row) => {
                row.next();
                self.answered(row).map(Some)
            }
            None => Err(Error::unavailable("the key was just dropped; try again")),
        }
    }

    /// What is known of the key; nothing when it is free.
    pub(crate) async fn find(&self, db: &Db, now: DateTime<Utc>) -> Result<Option<Answered>> {
        let Some(mut row) = db.fetch_optional(self.known()).await? else {
            return Ok(None);
        };
        let taken_at: DateTime<Utc> = row.instant()?;
        match taken_at > now - KEPT {
            true => self.answered(row).map(Some),
            false => Ok(None),
        }
    }

    fn known(&self) -> Sql {
        let known = Sql::new(
            "SELECT created_at, fingerprint, status, record_id, version, body FROM idempotency_keys \
             WHERE tenant_id = $1 AND actor = $2 AND idempotency_key = $3",
        );
        self.bound(known).returns(&[
            ColumnType::Instant,
            ColumnType::Bytes,
            ColumnType::Int,
            ColumnType::Uuid,
            ColumnType::Int,
            ColumnType::Text,
        ])
    }

    fn answered(&self, mut row: Row) -> Result<Answered> {
        if row.next() != Value::Bytes(self.fingerprint()) {
            return Ok(Answered::KeyReused);
        }
        let Value::Int(status) = row.next() else {
            return Ok(Answered::UnderWay);
        };
        let status = u16::try_from(status).map_err(Error::internal)?;
        let id: Option<RecordId> = row.opt_uuid()?;
        let record = match (id, row.next()) {
            (Some(id), Value::Int(version)) => Some((id, version)),
            _ => None,
        };
        let body = match row.next() {
            Value::Text(body) => Some(body),
            _ => None,
        };
        Ok(Answered::Before(Reply {
            status,
            record,
            body,
        }))
    }

    /// Gives the key back, for a request that was not done.
    pub(crate) fn release(&self) -> Sql {
        let release = Sql::new(
            "DELETE FROM idempotency_keys \
             WHERE tenant_id = $1 AND actor = $2 AND idempotency_key = $3",
        );
        self.bound(release)
    }

    /// Stores the answer, and drops some that are too old.
    pub(crate) async fn finish(
        &self,
        tx: &mut Tx<'_>,
        now: DateTime<Utc>,
        reply: &Reply,
    ) -> Result<()> {
        let (id, version) = reply.record.unzip();
        let store = Sql::new(
            "UPDATE idempotency_keys SET status = $1, record_id = $2, version = $3, body = $4 \
             WHERE tenant_id = $5 AND actor = $6 AND idempotency_key = $7",
        )
        .bind(i64::from(reply.status), ColumnType::Int)
        .bind(id, ColumnType::Uuid)
        .bind(version, ColumnType::Int)
        .bind(reply.body.as_deref(), ColumnType::Text);
        tx.execute(self.bound(store)).await?;
        // Each stored answer drops up to 16 old ones, so they never pile up.
        let prune = match tx.dialect() {
            Dialect::Sqlite => Sql::new(
                "DELETE FROM idempotency_keys WHERE tenant_id = $1 \
                 AND (actor, idempotency_key) IN (SELECT actor, idempotency_key \
                 FROM idempotency_keys WHERE tenant_id = $2 AND created_at <= $3 \
                 ORDER BY created_at LIMIT 16)",
            ),
            Dialect::Postgres => Sql::new(
                "DELETE FROM idempotency_keys WHERE tenant_id = $1 \
                 AND (actor, idempotency_key) IN (SELECT actor, idempotency_key \
                 FROM idempotency_keys WHERE tenant_id = $2 AND created_at <= $3 \
                 ORDER BY created_at LIMIT 16 FOR UPDATE SKIP LOCKED)",
            ),
        };
        let prune = prune
            .bind(self.tenant, ColumnType::Uuid)
            .bind(self.tenant, ColumnType::Uuid)
            .bind(now - KEPT, ColumnType::Instant);
        tx.execute(prune).await?;
        Ok(())
    }

    fn bound(&self, sql: Sql) -> Sql {
        sql.bind(self.tenant, ColumnType::Uuid)
            .bind(&*self.actor, ColumnType::Text)
            .bind(&*self.key, ColumnType::Text)
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("key", &self.key).finish()
    }
}
