//! The right to do what one process at a time may do, such as sealing the audit log. It outlives a
//! killed process by half a minute; one that lasts much longer by a clock that was ahead counts for
//! nothing.

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
        let until = now + LEASE;
        // A clock that was put back is ahead no longer than a lease.
        let fresh = |held: DateTime<Utc>| held - LEASE / 2 > now && held <= until;
        if self.until.is_some_and(fresh) {
            return Ok(true);
        }
        let take = Sql::new(
            "INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE \
             SET holder = excluded.holder, expires_at = excluded.expires_at \
             WHERE leases.holder = excluded.holder OR leases.expires_at < $4 \
             OR leases.expires_at > $5 RETURNING 1",
        )
        .bind(self.name, ColumnType::Text)
        .bind(self.holder, ColumnType::Uuid)
        .bind(until, ColumnType::Instant)
        .bind(now, ColumnType::Instant)
        .bind(until + LEASE, ColumnType::Instant);
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
        self.db.execute(sql).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Fixed;
    use crate::policy::fixture::{World, on_both_databases};

    on_both_databases! {
        it_is_anothers_when_it_is_over
        a_clock_that_was_ahead_keeps_nobody_out
    }

    fn leases(world: &World) -> (Arc<Fixed>, [Lease; 2]) {
        let (clock, fixed) = Clock::fixed(world.crm.clock().now(), 1);
        let lease = || Lease::new("test", world.crm.core.db.clone(), clock.clone());
        (fixed, [lease(), lease()])
    }

    async fn it_is_anothers_when_it_is_over(world: World) {
        let (clock, [mut one, mut two]) = leases(&world);
        assert!(one.take().await.unwrap());
        assert!(!two.take().await.unwrap());
        clock.advance(LEASE + TimeDelta::seconds(1));
        assert!(two.take().await.unwrap());
        assert!(!one.take().await.unwrap());
        two.release().await.unwrap();
        assert!(one.take().await.unwrap());
    }

    async fn a_clock_that_was_ahead_keeps_nobody_out(world: World) {
        let (clock, [mut killed, mut other]) = leases(&world);
        clock.advance(TimeDelta::days(1));
        assert!(killed.take().await.unwrap());
        clock.step_back(TimeDelta::days(1));
        assert!(other.take().await.unwrap());
        assert!(!killed.take().await.unwrap(), "nor does it go on by itself");
    }
}
