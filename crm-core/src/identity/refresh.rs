//! Refresh tokens: one family per login, each token good for one exchange.
//!
//! Owns the tables `refresh_families` and `refresh_tokens`. Using a token spends it and makes its
//! successor (rotation); a spent token that comes back means that two parties hold it, and the
//! whole family ends (RFC 9700 §4.14.2). That end is written by a transaction that commits,
//! whatever the caller is answered.
//!
//! The grace rule, because clients race themselves (two tabs, a retry after a lost answer): when a
//! spent token comes back less than [`GRACE`] from its use, on either side should clocks differ,
//! *and* its successor has not been used, the caller gets that same successor. So of any number of
//! parallel exchanges all get the one token that lives, and whoever stole the old one gains nothing
//! that lasts: the next exchange but one betrays one of the two. No token is stored for this: a
//! successor follows from its parent and a key of the installation.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretBox, SecretString};

use super::key::{SigningKeys, mac};
use super::token::invalid;
use super::{IdentityOptions, live, opaque};
use crate::clock::Clock;
use crate::db::{ColumnType, Db, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{FamilyId, ProviderId, TenantId, UserId};
use crate::platform::PLATFORM;

/// How long a login lasts at most unless configured otherwise, however often its tokens are
/// exchanged.
pub const REFRESH_LIFETIME: TimeDelta = TimeDelta::days(30);
/// How long a login lasts without an exchange unless configured otherwise.
pub const IDLE_LIFETIME: TimeDelta = TimeDelta::days(14);

/// How far from its use a spent token counts as a race, not as theft.
const GRACE: TimeDelta = TimeDelta::seconds(10);
/// How long rows of logins that are over stay: longer than any token of theirs is looked at.
const KEPT: TimeDelta = TimeDelta::days(2);
/// Most characters of a `User-Agent` that are kept.
const USER_AGENT_CHARS: usize = 200;
const PREFIX: &str = "crm_rt_";

/// A login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Family {
    pub(super) id: FamilyId,
    /// The active tenant.
    pub(super) tenant: TenantId,
    /// Whether requests may name another tenant of the user's.
    pub(super) roaming: bool,
    pub(super) user: UserId,
    /// When it ends whatever happens.
    pub(super) expires_at: DateTime<Utc>,
}

/// Where a session is used from, and whether in one tenant only.
#[derive(Debug, Clone)]
pub(super) struct Device {
    address: Option<String>,
    user_agent: Option<String>,
    pub(super) roaming: bool,
    /// The provider that vouches for the session, and so binds it to its tenant.
    pub(super) provider: Option<ProviderId>,
}

impl Device {
    pub(super) fn new(address: Option<IpAddr>, user_agent: Option<&str>, roaming: bool) -> Self {
        let shown = |text: &str| text.chars().take(USER_AGENT_CHARS).collect();
        Self {
            address: address.map(|address| address.to_string()),
            user_agent: user_agent.map(shown),
            roaming,
            provider: None,
        }
    }

    /// The same, for a session that a tenant's provider vouches for: it opens that tenant alone,
    /// for ever.
    pub(super) fn vouched_by(self, provider: ProviderId) -> Self {
        Self {
            roaming: false,
            provider: Some(provider),
            ..self
        }
    }
}

/// The rules and the key of exchanges.
pub(super) struct Refreshing {
    key: SecretBox<[u8; 32]>,
    lifetime: TimeDelta,
    idle: TimeDelta,
}

impl Refreshing {
    pub(super) fn new(keys: &SigningKeys, options: &IdentityOptions) -> Result<Self> {
        let (lifetime, idle) = (options.session_lifetime, options.session_idle);
        let fits = |time| (TimeDelta::seconds(1)..=TimeDelta::days(3_650)).contains(&time);
        if !fits(lifetime) || !fits(idle) {
            return Err(Error::Configuration(
                "the lifetimes of a session must lie between one second and ten years".into(),
            ));
        }
        Ok(Self {
            key: SecretBox::new(Box::new(keys.derive("refresh token"))),
            lifetime,
            idle,
        })
    }

    /// How long a session lasts at most.
    pub(super) fn lifetime(&self) -> TimeDelta {
        self.lifetime
    }

    /// How long a session lasts without an exchange.
    pub(super) fn idle(&self) -> TimeDelta {
        self.idle
    }

    fn successor(&self, token: &SecretString) -> SecretString {
        let parent = token.expose_secret().as_bytes();
        let child = mac(self.key.expose_secret(), &[parent]);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(child)).into()
    }
}

/// How an exchange ended.
#[derive(Debug)]
pub(super) enum Exchange {
    /// The token was good, or lost a race; here is its successor.
    Rotated(Family, SecretString),
    /// The token was spent before: the family is revoked now.
    Reused(Family),
    /// The login is older than it may get, or was not used for too long.
    Expired,
    /// Unknown, revoked, or of a user or tenant that is not active.
    Refused,
}

/// Begins a family with its first token.
pub(super) async fn open(
    tx: &mut Tx<'_>,
    clock: &Clock,
    whose: (TenantId, UserId),
    lifetime: TimeDelta,
    device: &Device,
) -> Result<(Family, SecretString)> {
    let family = open_family(tx, clock, whose, lifetime, device).await?;
    let token = opaque::generate(clock, PREFIX);
    insert(tx, clock, &token, (family.id, 0)).await?;
    Ok((family, token))
}

/// Begins a family without a token: a session that cannot be refreshed.
pub(super) async fn open_family(
    tx: &mut Tx<'_>,
    clock: &Clock,
    (tenant, user): (TenantId, UserId),
    lifetime: TimeDelta,
    device: &Device,
) -> Result<Family> {
    let now = clock.now();
    let family = Family {
        id: FamilyId(clock.new_id()),
        tenant,
        // An operator's opens the platform and nothing else.
        roaming: device.roaming && tenant != PLATFORM,
        user,
        expires_at: now + lifetime,
    };
    // Families past their end refuse anyway; this keeps a user's rows few.
    tx.execute(
        Sql::new("DELETE FROM refresh_families WHERE user_id = $1 AND expires_at <= $2")
            .bind(user, ColumnType::Uuid)
            .bind(now - KEPT, ColumnType::Instant),
    )
    .await?;
    tx.execute(
        Sql::new(
            "INSERT INTO refresh_families (id, tenant_id, user_id, created_at, expires_at, \
             last_used_at, address, user_agent, roaming, provider_id) \
             VALUES ($1, $2, $3, $4, $5, $4, $6, $7, $8, $9)",
        )
        .bind(family.id, ColumnType::Uuid)
        .bind(tenant, ColumnType::Uuid)
        .bind(user, ColumnType::Uuid)
        .bind(now, ColumnType::Instant)
        .bind(family.expires_at, ColumnType::Instant)
        .bind(device.address.as_deref(), ColumnType::Text)
        .bind(device.user_agent.as_deref(), ColumnType::Text)
        .bind(family.roaming, ColumnType::Bool)
        .bind(device.provider, ColumnType::Uuid),
    )
    .await?;
    Ok(family)
}

/// Whether there is such a token, spent or not: one that anybody makes up keeps no writer busy.
pub(super) async fn is_known(db: &Db, token: &SecretString) -> Result<bool> {
    let find = Sql::new("SELECT generation FROM refresh_tokens WHERE hash = $1")
        .bind(opaque::hash(token), ColumnType::Bytes)
        .returns(&[ColumnType::Int]);
    Ok(db.fetch_optional(find).await?.is_some())
}

/// Exchanges a token for its successor, or ends the family.
pub(super) async fn exchange(
    tx: &mut Tx<'_>,
    clock: &Clock,
    rules: &Refreshing,
    token: &SecretString,
    device: &Device,
) -> Result<Exchange> {
    let (hash, now) = (opaque::hash(token), clock.now());
    // Judged before it is spent: a session that is refused for a while has its token afterwards.
    let found = match judged(tx, rules, &hash, now).await? {
        Ok(found) => found,
        Err(refused) => return Ok(refused),
    };
    let child = rules.successor(token);
    if found.used_at.is_none() && spend(tx, &hash, now).await? {
        insert(tx, clock, &child, (found.family.id, found.generation + 1)).await?;
        note_use(tx, now, found.family.id, device).await?;
        return Ok(Exchange::Rotated(found.family, child));
    }
    // Somebody else may have spent it meanwhile, and ended the session since.
    let found = match judged(tx, rules, &hash, now).await? {
        Ok(found) => found,
        Err(refused) => return Ok(refused),
    };
    let raced = |used: DateTime<Utc>| (now - used).abs() < GRACE;
    if let Some(unused) = &found.unused_successor
        && found.used_at.is_some_and(raced)
    {
        // Made under another secret, it cannot be told again.
        let same = *unused == opaque::hash(&child);
        return Ok(match same {
            true => Exchange::Rotated(found.family, child),
            false => Exchange::Refused,
        });
    }
    let ended = end(tx, clock, Ended::One(found.family.id)).await?;
    // Of those who bring it back at once, one ends the session and tells of it.
    Ok(match ended.contains(&found.family.id) {
        true => Exchange::Reused(found.family),
        false => Exchange::Refused,
    })
}

/// The token as stored, or how its exchange ends without it being looked at further.
async fn judged(
    tx: &mut Tx<'_>,
    rules: &Refreshing,
    hash: &[u8],
    now: DateTime<Utc>,
) -> Result<std::result::Result<Found, Exchange>> {
    let Some(found) = find(tx, hash.to_vec()).await? else {
        return Ok(Err(Exchange::Refused));
    };
    let over = found.family.expires_at <= now || found.last_used_at + rules.idle <= now;
    Ok(match (found.alive, over) {
        (false, _) => Err(Exchange::Refused),
        (true, true) => Err(Exchange::Expired),
        (true, false) => Ok(found),
    })
}

/// Whether this spent the token: of several at a time one does.
async fn spend(tx: &mut Tx<'_>, hash: &[u8], now: DateTime<Utc>) -> Result<bool> {
    let spend = Sql::new(
        "UPDATE refresh_tokens SET used_at = $1 WHERE hash = $2 AND used_at IS NULL \
         RETURNING generation",
    )
    .bind(now, ColumnType::Instant)
    .bind(hash.to_vec(), ColumnType::Bytes)
    .returns(&[ColumnType::Int]);
    Ok(tx.fetch_optional(spend).await?.is_some())
}

/// The family of a token, spent or not, as long as it is not revoked.
pub(super) async fn family_of(tx: &mut Tx<'_>, token: &SecretString) -> Result<Option<Family>> {
    let found = find(tx, opaque::hash(token)).await?;
    Ok(found.filter(|found| found.alive).map(|found| found.family))
}

/// Which sessions end.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ended {
    /// This one.
    One(FamilyId),
    /// All of a user, in every tenant, but for one.
    OfUser(UserId, Option<FamilyId>),
    /// Those of a user that open a tenant: all, or one.
    OfMember(TenantId, UserId, Option<FamilyId>),
    /// The one in another's name that opens a tenant.
    InName(TenantId, FamilyId),
    /// Those of operators in the name of a tenant's members.
    OfOperators(TenantId),
    /// Those in a tenant that began without a second factor; roaming ones elsewhere stay out of it.
    Unproven(TenantId),
    /// Those that began without a second factor, in every tenant.
    EveryUnproven,
    /// Those that a provider vouched for: all, or those of a user.
    OfProvider(TenantId, ProviderId, Option<UserId>),
}

impl Ended {
    /// Ends those that have not ended before; answers their ids.
    fn end_at(self, now: DateTime<Utc>, epoch: i64) -> Sql {
        let update = |condition: &'static str| {
            let mut sql = Sql::new(
                "UPDATE refresh_families SET revoked_at = $1, changed = $2 WHERE revoked_at IS NULL AND ",
            );
            sql.push(condition);
            sql.push(" RETURNING id");
            sql.bind(now, ColumnType::Instant)
                .bind(epoch, ColumnType::Int)
        };
        let statement = match self {
            Self::One(id) => update("id = $3").bind(id, ColumnType::Uuid),
            Self::OfUser(user, None) => update("user_id = $3").bind(user, ColumnType::Uuid),
            Self::OfUser(user, Some(kept)) => update("user_id = $3 AND id <> $4")
                .bind(user, ColumnType::Uuid)
                .bind(kept, ColumnType::Uuid),
            Self::OfMember(tenant, user, None) => {
                update("(tenant_id = $3 OR roaming) AND user_id = $4")
                    .bind(tenant, ColumnType::Uuid)
                    .bind(user, ColumnType::Uuid)
            }
            Self::OfMember(tenant, user, Some(id)) => {
                update("(tenant_id = $3 OR roaming) AND user_id = $4 AND id = $5")
                    .bind(tenant, ColumnType::Uuid)
                    .bind(user, ColumnType::Uuid)
                    .bind(id, ColumnType::Uuid)
            }
            Self::InName(tenant, id) => {
                update("tenant_id = $3 AND id = $4 AND impersonator_id IS NOT NULL")
                    .bind(tenant, ColumnType::Uuid)
                    .bind(id, ColumnType::Uuid)
            }
            Self::OfOperators(tenant) => update("tenant_id = $3 AND home_id = $4")
                .bind(tenant, ColumnType::Uuid)
                .bind(PLATFORM, ColumnType::Uuid),
            Self::Unproven(tenant) => {
                update("impersonator_id IS NULL AND tenant_id = $3 AND NOT two_factors")
                    .bind(tenant, ColumnType::Uuid)
            }
            Self::EveryUnproven => update("impersonator_id IS NULL AND NOT two_factors"),
            Self::OfProvider(tenant, provider, None) => {
                update("tenant_id = $3 AND provider_id = $4")
                    .bind(tenant, ColumnType::Uuid)
                    .bind(provider, ColumnType::Uuid)
            }
            Self::OfProvider(tenant, provider, Some(user)) => {
                update("tenant_id = $3 AND provider_id = $4 AND user_id = $5")
                    .bind(tenant, ColumnType::Uuid)
                    .bind(provider, ColumnType::Uuid)
                    .bind(user, ColumnType::Uuid)
            }
        };
        statement.returns(&[ColumnType::Uuid])
    }
}

/// Ends sessions for ever; answers which, without those that had ended before. The caller forgets
/// them in `live` after the commit.
pub(super) async fn end(tx: &mut Tx<'_>, clock: &Clock, which: Ended) -> Result<Vec<FamilyId>> {
    let now = clock.now();
    let epoch = live::next_epoch(tx).await?;
    let mut ended = tx.fetch_all(which.end_at(now, epoch)).await?;
    // With them ends what was begun in them: acting in another's name, of whose end upkeep tells.
    let begun = Sql::new(
        "UPDATE refresh_families SET expires_at = $1, changed = $2 WHERE revoked_at IS NULL \
         AND expires_at > $1 AND parent_id IN (SELECT id FROM refresh_families WHERE changed = $2) RETURNING id",
    )
    .bind(now, ColumnType::Instant)
    .bind(epoch, ColumnType::Int)
    .returns(&[ColumnType::Uuid]);
    ended.extend(tx.fetch_all(begun).await?);
    ended.into_iter().map(|mut row| row.uuid()).collect()
}

/// Moves a session that lives to another tenant of its user.
///
/// # Errors
/// [`Error::Unauthenticated`] when it has ended meanwhile, or a provider vouched for it.
pub(super) async fn switch(tx: &mut Tx<'_>, id: FamilyId, tenant: TenantId) -> Result<Family> {
    let epoch = live::next_epoch(tx).await?;
    let update = Sql::new(
        "UPDATE refresh_families SET tenant_id = $1, changed = $2 \
         WHERE id = $3 AND revoked_at IS NULL AND provider_id IS NULL \
         RETURNING user_id, roaming, expires_at",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(epoch, ColumnType::Int)
    .bind(id, ColumnType::Uuid)
    .returns(&[ColumnType::Uuid, ColumnType::Bool, ColumnType::Instant]);
    let mut row = tx.fetch_optional(update).await?.ok_or_else(invalid)?;
    Ok(Family {
        id,
        tenant,
        user: row.uuid()?,
        roaming: row.bool()?,
        expires_at: row.instant()?,
    })
}

struct Found {
    family: Family,
    generation: i64,
    last_used_at: DateTime<Utc>,
    used_at: Option<DateTime<Utc>>,
    /// Family not revoked, user and tenant active. Membership needs no look: a family goes with it.
    alive: bool,
    /// The hash of the successor, as long as that is not used.
    unused_successor: Option<Vec<u8>>,
}

async fn find(tx: &mut Tx<'_>, hash: Vec<u8>) -> Result<Option<Found>> {
    let row = tx
        .fetch_optional(
            Sql::new(
                "SELECT f.id, f.tenant_id, f.roaming, f.user_id, f.expires_at, r.generation, \
                 f.last_used_at, r.used_at, \
                 f.revoked_at IS NULL AND u.status = 'active' AND t.status = 'active', s.hash \
                 FROM refresh_tokens r \
                 JOIN refresh_families f ON f.id = r.family_id \
                 JOIN users u ON u.id = f.user_id \
                 JOIN tenants t ON t.id = f.tenant_id \
                 LEFT JOIN refresh_tokens s ON s.family_id = r.family_id \
                 AND s.generation = r.generation + 1 AND s.used_at IS NULL \
                 WHERE r.hash = $1",
            )
            .bind(hash, ColumnType::Bytes)
            .returns(&[
                ColumnType::Uuid,
                ColumnType::Uuid,
                ColumnType::Bool,
                ColumnType::Uuid,
                ColumnType::Instant,
                ColumnType::Int,
                ColumnType::Instant,
                ColumnType::Instant,
                ColumnType::Bool,
                ColumnType::Bytes,
            ]),
        )
        .await?;
    let Some(mut row) = row else { return Ok(None) };
    Ok(Some(Found {
        family: Family {
            id: row.uuid()?,
            tenant: row.uuid()?,
            roaming: row.bool()?,
            user: row.uuid()?,
            expires_at: row.instant()?,
        },
        generation: row.int()?,
        last_used_at: row.instant()?,
        used_at: row.opt_instant()?,
        alive: row.bool()?,
        unused_successor: row.opt_bytes()?,
    }))
}

async fn insert(
    tx: &mut Tx<'_>,
    clock: &Clock,
    token: &SecretString,
    (family, generation): (FamilyId, i64),
) -> Result<()> {
    tx.execute(
        Sql::new(
            "INSERT INTO refresh_tokens (hash, family_id, generation, created_at) \
             VALUES ($1, $2, $3, $4)",
        )
        .bind(opaque::hash(token), ColumnType::Bytes)
        .bind(family, ColumnType::Uuid)
        .bind(generation, ColumnType::Int)
        .bind(clock.now(), ColumnType::Instant),
    )
    .await?;
    Ok(())
}

async fn note_use(
    tx: &mut Tx<'_>,
    now: DateTime<Utc>,
    family: FamilyId,
    device: &Device,
) -> Result<()> {
    tx.execute(
        Sql::new(
            "UPDATE refresh_families SET last_used_at = $1, address = $2, user_agent = $3 \
             WHERE id = $4",
        )
        .bind(now, ColumnType::Instant)
        .bind(device.address.as_deref(), ColumnType::Text)
        .bind(device.user_agent.as_deref(), ColumnType::Text)
        .bind(family, ColumnType::Uuid),
    )
    .await?;
    Ok(())
}
