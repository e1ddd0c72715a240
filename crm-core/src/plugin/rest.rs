//! Rest: a plugin whose runs crash one after another is left alone for a while, which grows with
//! each further crash, and then tried with one run. Crashes are what the host stopped; an answer
//! that is an error is none. Who keeps failing is [parked](super::ledger) in the end, until
//! somebody looks at it.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Plugin, Plugins};
use crate::db::{ColumnType, Sql, Tx};
use crate::error::Result;
use crate::hook::Outcome;

/// So many crashes in a row are followed by a rest.
const CRASHES: i64 = 5;
/// The first rest; it doubles with each further crash, up to the longest.
const FIRST: TimeDelta = TimeDelta::seconds(5);
const LONGEST: TimeDelta = TimeDelta::minutes(5);

/// Whether a plugin may run.
pub(super) enum Rest {
    /// As far as this goes.
    Over,
    /// This is the one run that tries it again; it had rested until then.
    Trial(DateTime<Utc>, DateTime<Utc>),
    /// Not yet, for this reason.
    On(String),
}

impl Plugins {
    /// Whether the plugin rests.
    pub(super) async fn resting(&self, plugin: &Plugin) -> Result<Rest> {
        let Some(until) = plugin.rests_until else {
            return Ok(Rest::Over);
        };
        let now = self.0.core.clock.now();
        if until <= now {
            let next = now + after(plugin.crashes);
            // Whoever moves the time on first tries it; for all others it rests on.
            let claimed = self.move_rest(plugin, until, next).await?;
            if claimed {
                return Ok(Rest::Trial(until, next));
            }
        }
        Ok(Rest::On(format!(
            "the plugin rests, for its last {} runs crashed; it is tried again after {}",
            plugin.crashes,
            crate::value::instant(&until)
        )))
    }

    /// Gives a trial back that never began; where that fails, the plugin rests until its next
    /// trial.
    pub(super) async fn untried(
        &self,
        plugin: &Plugin,
        (until, next): (DateTime<Utc>, DateTime<Utc>),
    ) {
        if let Err(error) = self.move_rest(plugin, next, until).await {
            let (plugin, error) = (plugin.id, &error as &dyn std::error::Error);
            tracing::warn!(%plugin, error, "a plugin rests for longer than it should");
        }
    }

    /// Moves the end of a rest; answers whether it was still the one before.
    async fn move_rest(
        &self,
        plugin: &Plugin,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<bool> {
        let sql = Sql::new(
            "UPDATE plugins SET rests_until = $1 WHERE tenant_id = $2 AND id = $3 \
             AND rests_until = $4",
        )
        .bind(to, ColumnType::Instant)
        .bind(plugin.tenant_id, ColumnType::Uuid)
        .bind(plugin.id, ColumnType::Uuid)
        .bind(from, ColumnType::Instant);
        let moved = self.0.core.db.execute(sql).await?;
        self.forget(plugin.tenant_id).await;
        Ok(moved == 1)
    }
}

/// How long a plugin rests after so many crashes in a row.
fn after(crashes: i64) -> TimeDelta {
    let doublings = u32::try_from(crashes - CRASHES).unwrap_or(0).min(16);
    (FIRST * (1 << doublings)).min(LONGEST)
}

/// Takes note of how a run ended; answers whether that changed anything about the plugin. A run of
/// another version than the active one tells nothing of that.
pub(super) async fn note(
    tx: &mut Tx<'_>,
    plugin: &Plugin,
    outcome: Outcome,
    now: DateTime<Utc>,
) -> Result<bool> {
    let of = |sql: &'static str| {
        Sql::new(sql)
            .bind(plugin.tenant_id, ColumnType::Uuid)
            .bind(plugin.id, ColumnType::Uuid)
            .bind(plugin.sha256.to_vec(), ColumnType::Bytes)
    };
    if !outcome.is_crash() {
        let recovered = matches!(outcome, Outcome::Succeeded | Outcome::Failed);
        if !recovered || plugin.crashes == 0 {
            return Ok(false);
        }
        let reset = of(
            "UPDATE plugins SET crashes = 0, rests_until = NULL WHERE tenant_id = $1 AND id = $2 \
             AND sha256 = $3",
        );
        return Ok(tx.execute(reset).await? > 0);
    }
    let count = of(
        "UPDATE plugins SET crashes = crashes + 1 WHERE tenant_id = $1 AND id = $2 \
         AND sha256 = $3 RETURNING crashes",
    );
    let row = tx.fetch_optional(count.returns(&[ColumnType::Int])).await?;
    let Some(mut row) = row else {
        return Ok(false);
    };
    let crashes: i64 = row.int()?;
    if crashes >= CRASHES {
        let rest = of(
            "UPDATE plugins SET rests_until = $4 WHERE tenant_id = $1 AND id = $2 \
             AND sha256 = $3",
        );
        let until = now + after(crashes);
        tx.execute(rest.bind(until, ColumnType::Instant)).await?;
    }
    Ok(true)
}

impl Outcome {
    /// Whether the host stopped it.
    fn is_crash(self) -> bool {
        self.is_failure() && self != Self::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_up_to_the_longest() {
        let seconds = |crashes| after(crashes).num_seconds();
        assert_eq!(
            [5, 6, 7, 10, 11, 12, 1_000].map(seconds),
            [5, 10, 20, 160, 300, 300, 300]
        );
    }
}
