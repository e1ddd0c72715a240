//! The right to do what one process at a time may do, such as sealing the audit log. It outlives a
//! killed process by half a minute.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::clock::Clock;
use crate::db::{ColumnType, Db, Sql};
use crate::error::Result;

/// How long it outlives a process that was killed.
const LEASE: TimeDelta = TimeDelta::seconds(30);

/// A lease by name, of one holder.
pub(crate) struct Lease {
    db: Db,
    clock: Clock,
    name: &'static str,
    holder: Uuid,
    until: Option<DateTime<Utc>>,
}

impl Lease {
    pub(crate) fn new(name: &'static str, db: Db, clock: Clock) -> Self {
        Self {
            db,
            holder: clock.new_id(),
            clock,
            name,
            until: None,
        }
    }

    /// Takes or renews it; `false` while somebody else has it.
    pub(crate) async fn take(&mut self) -> Result<bool> {
        let now = self.clock.now();
        if self.until.is_some_and(|until| until - LEASE / 2 > now) {
            return Ok(true);
        }
        let until = now + LEASE;
        let take = Sql::new(
            "INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE \
             SET holder = excluded.holder, expires_at = excluded.expires_at \
             WHERE leases.holder = excluded.holder OR leases.expires_at < $4 RETURNING 1",
        )
        .bind(self.name, ColumnType::Text)
        .bind(self.holder, ColumnType::Uuid)
        .bind(until, ColumnType::Instant)
        .bind(now, ColumnType::Instant);
        let held = self.db.write(move |tx| Box::pin(tx.fetch_optional(take)));
        let held = held.await?.is_some();
        self.until = held.then_some(until);
        Ok(held)
    }

    /// Gives it back.
    pub(crate) async fn release(&mut self) -> Result<()> {
        if self.until.take().is_none() {
            return Ok(());
        }
        let sql = Sql::new("DELETE FROM leases WHERE name = $1 AND holder = $2")
            .bind(self.name, ColumnType::Text)
            .bind(self.holder, ColumnType::Uuid);
        self.db
            .write(move |tx| Box::pin(tx.execute(sql)))
            .await
            .map(drop)
    }
}
