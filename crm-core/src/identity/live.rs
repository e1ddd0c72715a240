//! Which sessions live: asked with every access token, and answered from memory.
//!
//! A session is looked up once and then known to live until it is forgotten here: at once when this
//! process ends it, and within half a second when another one does, at once where the database can
//! tell. Every process learns it from the number that each change of a session takes from
//! `session_epochs`. No clock takes part in that, so one that jumps revives nothing; and what a
//! killed process knew is read again from the rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use quick_cache::sync::Cache;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::impersonator::Impersonator;
use super::token::{self, AccessClaims};
use super::token_key;
use crate::crm::Core;
use crate::db::{ColumnType, Db, Sql, Tx};
use crate::error::{Error, Refusal, Result};
use crate::generation::Generations;
use crate::id::{FamilyId, TenantId, UserId};
use crate::policy;

/// How often to look for changes of other processes at least.
const POLL: Duration = Duration::from_millis(500);
/// Most sessions known to live.
const MOST: usize = 262_144;

/// A session that lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) user: UserId,
    /// The active tenant.
    pub(crate) tenant: TenantId,
    /// Whether a request may name another one.
    pub(crate) roaming: bool,
    /// Who acts in the user's name.
    pub(crate) impersonator: Option<Impersonator>,
    /// Whether a tenant's provider vouched for it: it is good for that tenant alone.
    pub(crate) bound: bool,
    /// Whether both factors were shown in it, when it was last looked up.
    two_factors: bool,
    expires_at: DateTime<Utc>,
}

#[derive(Clone, Copy)]
struct Known {
    live: Live,
    /// What the counters said before the row was read.
    generation: u64,
    policy: u64,
}

/// The sessions known to live.
pub(crate) struct LiveSessions {
    known: Cache<FamilyId, Known>,
    generations: Generations,
    /// The newest epoch whose changes have been taken up.
    seen: AtomicI64,
    /// Another process has told of a change.
    told: Notify,
}

impl LiveSessions {
    pub(super) fn new() -> Self {
        Self {
            known: Cache::new(MOST),
            generations: Generations::new(),
            seen: AtomicI64::new(-1),
            told: Notify::new(),
        }
    }

    /// Forgets a session. Call it after the commit of whatever ended or changed it.
    pub(super) fn forget(&self, id: FamilyId) {
        self.generations.end(id.0);
    }
}

/// The session that an access token belongs to; `None` when it has ended, or is in another tenant
/// by now than the token says.
pub(crate) async fn find(core: &Core, claims: &AccessClaims) -> Result<Option<Live>> {
    let sessions = &core.identity.live;
    let generation = sessions.generations.of(claims.session.0);
    let known = sessions.known.get(&claims.session);
    // A removed member's rows go without a word: their tenant's policy tells.
    let holds = |known: &Known| {
        known.generation == generation && known.policy == core.policy.generation(known.live.tenant)
    };
    let live = match known {
        Some(known) if holds(&known) => known.live,
        _ => {
            let tenant = match claims.tenant {
                Some(tenant) => Some(tenant),
                None => read(&core.db, claims.session)
                    .await?
                    .map(|live| live.tenant),
            };
            let policy = tenant.map_or(0, |tenant| core.policy.generation(tenant));
            let live = read(&core.db, claims.session).await?;
            let Some(live) = live.filter(|live| Some(live.tenant) == tenant) else {
                return Ok(None);
            };
            let known = Known {
                live,
                generation,
                policy,
            };
            // One in another's name depends on more than is followed here: it is read each time.
            if live.impersonator.is_none() {
                sessions.known.insert(claims.session, known);
            }
            live
        }
    };
    let fits = live.user == claims.user
        && claims.tenant == token::named(live.roaming, live.tenant)
        && claims.impersonator == live.impersonator.map(|by| by.user);
    Ok((fits && core.clock.now() < live.expires_at).then_some(live))
}

/// Refuses a session that began without a second factor, in a tenant that asks for one: one that
/// moved there, or began at the moment at which the tenant began to ask.
///
/// # Errors
/// [`Error::Refused`] `second_factor_required`.
pub(crate) async fn check_factors(
    core: &Core,
    tenant: TenantId,
    (session, live): (FamilyId, Live),
) -> Result<()> {
    // Whoever acts in another's name has passed their own.
    if live.two_factors || live.impersonator.is_some() && !live.roaming {
        return Ok(());
    }
    if !core.identity.strict && !core.policy.asks_second_factor(tenant).await? {
        return Ok(());
    }
    // What is known may be older than the code that was given since; it is never taken back.
    if read(&core.db, session)
        .await?
        .is_some_and(|live| live.two_factors)
    {
        core.identity.live.forget(session);
        return Ok(());
    }
    Err(Refusal::forbidden(
        "second_factor_required",
        "this tenant asks for a second factor, and this login was made without one: move to the tenant \
         with a code of yours, or log in to it",
    )
    .into())
}

/// Whether a session has not ended.
pub(crate) async fn is_live(core: &Core, session: FamilyId) -> Result<bool> {
    let live = read(&core.db, session).await?;
    Ok(live.is_some_and(|live| core.clock.now() < live.expires_at))
}

async fn read(db: &Db, id: FamilyId) -> Result<Option<Live>> {
    let found = Sql::new(
        "SELECT f.user_id, f.tenant_id, f.roaming, f.provider_id IS NOT NULL, f.two_factors, \
         f.expires_at, i.id, f.home_id \
         FROM refresh_families f \
         JOIN users u ON u.id = f.user_id AND u.status = 'active' \
         LEFT JOIN refresh_families p ON p.id = f.parent_id AND p.revoked_at IS NULL \
         LEFT JOIN memberships m ON m.tenant_id = f.home_id AND m.user_id = p.user_id \
         LEFT JOIN users i ON i.id = m.user_id AND i.id = f.impersonator_id \
         AND i.status = 'active' \
         WHERE f.id = $1 AND f.revoked_at IS NULL \
         AND (f.impersonator_id IS NULL OR i.id IS NOT NULL)",
    )
    .bind(id, ColumnType::Uuid)
    .returns(&[
        ColumnType::Uuid,
        ColumnType::Uuid,
        ColumnType::Bool,
        ColumnType::Bool,
        ColumnType::Bool,
        ColumnType::Instant,
        ColumnType::Uuid,
        ColumnType::Uuid,
    ]);
    let Some(mut row) = db.fetch_optional(found).await? else {
        return Ok(None);
    };
    Ok(Some(Live {
        user: row.uuid()?,
        tenant: row.uuid()?,
        roaming: row.bool()?,
        bound: row.bool()?,
        two_factors: row.bool()?,
        expires_at: row.instant()?,
        impersonator: match (row.opt_uuid()?, row.opt_uuid()?) {
            (Some(user), Some(home)) => Some(Impersonator { user, home }),
            _ => None,
        },
    }))
}

/// The number of a change of sessions or signing keys. Holds the lock that puts such changes in
/// order: whoever sees a number sees all changes with lower ones.
pub(super) async fn next_epoch(tx: &mut Tx<'_>) -> Result<i64> {
    let next = Sql::new("UPDATE session_epochs SET value = value + 1 RETURNING value")
        .returns(&[ColumnType::Int]);
    let epoch = tx.fetch_optional(next).await?.ok_or_else(missing)?.int()?;
    policy::tell_of_sessions(tx).await?;
    Ok(epoch)
}

fn missing() -> Error {
    Error::Inconsistent {
        table: "session_epochs".into(),
        column: "value".into(),
    }
}

/// Takes up what has changed since the last call: sessions that ended, and the signing keys.
pub(crate) async fn follow(core: &Core) -> Result<()> {
    let sessions = &core.identity.live;
    let now = Sql::new("SELECT value FROM session_epochs").returns(&[ColumnType::Int]);
    let mut row = core.db.fetch_optional(now).await?.ok_or_else(missing)?;
    let (epoch, seen) = (row.int()?, sessions.seen.load(Ordering::Acquire));
    if epoch == seen {
        return Ok(());
    }
    // At the first look nothing is known yet, so nothing needs to be forgotten.
    if seen >= 0 {
        let changed = Sql::new("SELECT id FROM refresh_families WHERE changed > $1")
            .bind(seen, ColumnType::Int)
            .returns(&[ColumnType::Uuid]);
        for mut row in core.db.fetch_all(changed).await? {
            sessions.forget(row.uuid()?);
        }
    }
    core.identity
        .tokens
        .adopt(&token_key::read(&core.db).await?)?;
    sessions.seen.fetch_max(epoch, Ordering::AcqRel);
    Ok(())
}

/// Has [`run`] look for changes now.
pub(crate) fn look(core: &Core) {
    core.identity.live.told.notify_one();
}

/// Follows the changes of other processes until `stop`.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let pause = || tokio::time::timeout(POLL, core.identity.live.told.notified());
    while stop.run_until_cancelled(pause()).await.is_some() {
        if let Err(error) = follow(&core).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "changes of sessions and keys could not be read");
        }
    }
}
