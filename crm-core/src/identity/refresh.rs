//! Refresh tokens: one family per login, each token good for one exchange.
//!
//! Owns the tables `refresh_families` and `refresh_tokens`. Using a token spends it and makes its
//! successor (rotation); a spent token that comes back means that two parties hold it, and the whole
//! family ends (RFC 9700 §4.14.2). That end is written by a transaction that commits, whatever the
//! caller is answered.
//!
//! One exception, because clients race themselves (two tabs, a retry after a lost answer): when a
//! spent token comes back within [`GRACE`] of its use *and* its successor has not been used, the
//! caller is refused like any other and the family lives. So of any number of parallel exchanges of
//! one token exactly one gets a successor, and that successor works.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;

use super::opaque;
use crate::clock::Clock;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::Result;
use crate::id::{FamilyId, TenantId, UserId};

/// How long a login lasts at most, however often its tokens are exchanged.
pub const REFRESH_LIFETIME: TimeDelta = TimeDelta::days(30);

/// How long after its use a spent token counts as a race, not as theft.
const GRACE: TimeDelta = TimeDelta::seconds(10);
const PREFIX: &str = "crm_rt_";

/// A login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Family {
    pub(super) id: FamilyId,
    pub(super) tenant: TenantId,
    pub(super) user: UserId,
}

/// How an exchange ended.
#[derive(Debug)]
pub(super) enum Exchange {
    /// The token was good; here is its successor.
    Rotated(Family, SecretString),
    /// The token was spent before: the family is revoked now.
    Reused(Family),
    /// The login is older than it may get.
    Expired,
    /// Unknown, revoked, of a user or tenant that is not active, or the loser of a race.
    Refused,
}

/// Begins a family with its first token.
pub(super) async fn open(
    tx: &mut Tx<'_>,
    clock: &Clock,
    (tenant, user): (TenantId, UserId),
    lifetime: TimeDelta,
) -> Result<(Family, SecretString)> {
    let family = Family {
        id: FamilyId(clock.new_id()),
        tenant,
        user,
    };
    let now = clock.now();
    // Families past their end refuse anyway; this keeps a member's rows few.
    tx.execute(
        Sql::new(
            "DELETE FROM refresh_families \
             WHERE tenant_id = $1 AND user_id = $2 AND expires_at <= $3",
        )
        .bind(tenant, ColumnType::Uuid)
        .bind(user, ColumnType::Uuid)
        .bind(now, ColumnType::Instant),
    )
    .await?;
    tx.execute(
        Sql::new(
            "INSERT INTO refresh_families (id, tenant_id, user_id, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(family.id, ColumnType::Uuid)
        .bind(tenant, ColumnType::Uuid)
        .bind(user, ColumnType::Uuid)
        .bind(now, ColumnType::Instant)
        .bind(now + lifetime, ColumnType::Instant),
    )
    .await?;
    let token = insert(tx, clock, family.id, 0).await?;
    Ok((family, token))
}

/// Exchanges a token for its successor, or ends the family.
pub(super) async fn exchange(
    tx: &mut Tx<'_>,
    clock: &Clock,
    token: &SecretString,
) -> Result<Exchange> {
    let (hash, now) = (opaque::hash(token), clock.now());
    let spent_now = tx
        .fetch_optional(
            Sql::new(
                "UPDATE refresh_tokens SET used_at = $1 WHERE hash = $2 AND used_at IS NULL \
                 RETURNING generation",
            )
            .bind(now, ColumnType::Instant)
            .bind(hash.clone(), ColumnType::Bytes)
            .returns(&[ColumnType::Int]),
        )
        .await?
        .is_some();
    let Some(found) = find(tx, hash).await? else {
        return Ok(Exchange::Refused);
    };
    if !found.alive {
        return Ok(Exchange::Refused);
    }
    if found.expires_at <= now {
        return Ok(Exchange::Expired);
    }
    if spent_now {
        let token = insert(tx, clock, found.family.id, found.generation + 1).await?;
        return Ok(Exchange::Rotated(found.family, token));
    }
    if found.successor_unused && found.used_at.is_some_and(|used| now - used < GRACE) {
        return Ok(Exchange::Refused);
    }
    revoke(tx, clock, found.family.id).await?;
    Ok(Exchange::Reused(found.family))
}

/// The family of a token, spent or not, as long as it is not revoked.
pub(super) async fn family_of(tx: &mut Tx<'_>, token: &SecretString) -> Result<Option<Family>> {
    let found = find(tx, opaque::hash(token)).await?;
    Ok(found.filter(|found| found.alive).map(|found| found.family))
}

/// Ends a family for ever; `false` when it had ended before.
pub(super) async fn revoke(tx: &mut Tx<'_>, clock: &Clock, family: FamilyId) -> Result<bool> {
    let revoked = tx
        .execute(
            Sql::new(
                "UPDATE refresh_families SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL",
            )
            .bind(clock.now(), ColumnType::Instant)
            .bind(family, ColumnType::Uuid),
        )
        .await?;
    Ok(revoked > 0)
}

struct Found {
    family: Family,
    generation: i64,
    expires_at: DateTime<Utc>,
    used_at: Option<DateTime<Utc>>,
    /// Family not revoked, user and tenant active. Membership needs no look: a family goes with it.
    alive: bool,
    successor_unused: bool,
}

async fn find(tx: &mut Tx<'_>, hash: Vec<u8>) -> Result<Option<Found>> {
    let row = tx
        .fetch_optional(
            Sql::new(
                "SELECT f.id, f.tenant_id, f.user_id, r.generation, f.expires_at, r.used_at, \
                 f.revoked_at IS NULL AND u.status = 'active' AND t.status = 'active', \
                 s.hash IS NOT NULL AND s.used_at IS NULL \
                 FROM refresh_tokens r \
                 JOIN refresh_families f ON f.id = r.family_id \
                 JOIN users u ON u.id = f.user_id \
                 JOIN tenants t ON t.id = f.tenant_id \
                 LEFT JOIN refresh_tokens s \
                 ON s.family_id = r.family_id AND s.generation = r.generation + 1 \
                 WHERE r.hash = $1",
            )
            .bind(hash, ColumnType::Bytes)
            .returns(&[
                ColumnType::Uuid,
                ColumnType::Uuid,
                ColumnType::Uuid,
                ColumnType::Int,
                ColumnType::Instant,
                ColumnType::Instant,
                ColumnType::Bool,
                ColumnType::Bool,
            ]),
        )
        .await?;
    let Some(mut row) = row else { return Ok(None) };
    Ok(Some(Found {
        family: Family {
            id: row.uuid()?,
            tenant: row.uuid()?,
            user: row.uuid()?,
        },
        generation: row.int()?,
        expires_at: row.instant()?,
        used_at: row.opt_instant()?,
        alive: row.bool()?,
        successor_unused: row.bool()?,
    }))
}

async fn insert(
    tx: &mut Tx<'_>,
    clock: &Clock,
    family: FamilyId,
    generation: i64,
) -> Result<SecretString> {
    let token = opaque::generate(clock, PREFIX);
    tx.execute(
        Sql::new(
            "INSERT INTO refresh_tokens (hash, family_id, generation, created_at) \
             VALUES ($1, $2, $3, $4)",
        )
        .bind(opaque::hash(&token), ColumnType::Bytes)
        .bind(family, ColumnType::Uuid)
        .bind(generation, ColumnType::Int)
        .bind(clock.now(), ColumnType::Instant),
    )
    .await?;
    Ok(token)
}
