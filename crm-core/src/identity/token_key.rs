//! The keys that sign access tokens: which there are, which one signs, and until when the others
//! verify.
//!
//! Owns the table `signing_keys`, which holds no key: the material of each follows from the
//! operator's secret and the row's id by HKDF (see [`SigningKeys`]), so that it is kept where the
//! secret is kept and nowhere else. Every process follows the table, and takes up a change without
//! a restart. Only operators get here; no request does.

use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::Algorithm;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::key::SigningKeys;
use super::key_set::{KeySet, kid};
use super::{INSTALLATION, live};
use crate::clock::Clock;
use crate::crm::Core;
use crate::db::{ColumnType, Db, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::journal::{self, Author};
use crate::scope::{Actor, RequestContext};

/// How long a key that has ended stays in the list.
const KEPT: TimeDelta = TimeDelta::days(90);
/// Longest lead or overlap of a rotation.
const LONGEST: TimeDelta = TimeDelta::days(30);

/// How an access token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256: fast, and verified by this installation alone.
    Hs256,
    /// Ed25519 (RFC 8037).
    EdDsa,
    /// ECDSA on P-256 with SHA-256 (RFC 7518 §3.4).
    Es256,
}

impl TokenAlgorithm {
    /// Its name in the header of tokens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
        }
    }

    pub(super) fn jwt(self) -> Algorithm {
        match self {
            Self::Hs256 => Algorithm::HS256,
            Self::EdDsa => Algorithm::EdDSA,
            Self::Es256 => Algorithm::ES256,
        }
    }
}

impl FromStr for TokenAlgorithm {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::Hs256, Self::EdDsa, Self::Es256]
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                Error::invalid(
                    "algorithm",
                    "unknown",
                    "The algorithms are HS256, EdDSA and ES256.",
                )
            })
    }
}

/// A signing key, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// The name that the header of its tokens carries.
    pub kid: String,
    /// How it signs.
    pub algorithm: TokenAlgorithm,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when on it signs, unless a key that was made later does.
    pub starts_at: DateTime<Utc>,
    /// Until when it verifies; none before it has a successor.
    pub ends_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Whether it is the one that signs now.
    pub signs: bool,
}

/// How a key is replaced by the next one.
#[derive(Debug, Clone, Copy)]
pub struct Rotation {
    /// How the new key signs.
    pub algorithm: TokenAlgorithm,
    /// How long the new key is known before it signs: other processes take it up within a second,
    /// and whoever reads the published keys should have seen it.
    pub lead: TimeDelta,
    /// How long the old key verifies after that; at least as long as its tokens live.
    pub overlap: TimeDelta,
}

/// A row of `signing_keys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyRow {
    pub(super) id: Uuid,
    pub(super) algorithm: TokenAlgorithm,
    pub(super) created_at: DateTime<Utc>,
    pub(super) starts_at: DateTime<Utc>,
    pub(super) ends_at: Option<DateTime<Utc>>,
    pub(super) revoked_at: Option<DateTime<Utc>>,
}

impl KeyRow {
    pub(super) fn new(clock: &Clock, algorithm: TokenAlgorithm, lead: TimeDelta) -> Self {
        let now = clock.now();
        Self {
            id: clock.new_id(),
            algorithm,
            created_at: now,
            starts_at: now + lead,
            ends_at: None,
            revoked_at: None,
        }
    }

    /// As one that does not sign.
    fn listed(&self, keys: &SigningKeys) -> TokenKey {
        TokenKey {
            kid: kid(keys, self),
            algorithm: self.algorithm,
            created_at: self.created_at,
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            revoked_at: self.revoked_at,
            signs: false,
        }
    }
}

/// The keys that sign access tokens, for the operator: no request may reach them.
#[derive(Clone)]
pub struct TokenKeys {
    core: Arc<Core>,
}

impl TokenKeys {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// All keys, the oldest first; those that ended long ago are forgotten.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(&self) -> Result<Vec<TokenKey>> {
        let rows = read(&self.core.db).await?;
        let keys = self.core.identity.tokens.root();
        let set = KeySet::new(keys, &rows)?;
        let signer = set.signing(self.core.clock.now()).map(|key| &key.kid);
        let listed = rows.iter().map(|row| row.listed(keys));
        let listed = listed.map(|key| TokenKey {
            signs: signer == Some(&key.kid),
            ..key
        });
        Ok(listed.collect())
    }

    /// Makes a new key and lets it sign after `lead`; the others verify for `overlap` more.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an overlap shorter than the life of a token, or times over 30 days.
    pub async fn rotate(&self, rotation: Rotation, request: RequestContext) -> Result<TokenKey> {
        let lifetime = self.core.identity.tokens.lifetime();
        let refuse = |field, message: &str| Err(Error::invalid(field, "out_of_range", message));
        if rotation.lead < TimeDelta::zero() || rotation.lead > LONGEST {
            return refuse("lead", "The lead is between nothing and 30 days.");
        }
        if rotation.overlap < lifetime || rotation.overlap > LONGEST {
            let least = "The overlap is at least the lifetime of a token, and at most 30 days.";
            return refuse("overlap", least);
        }
        let row = KeyRow::new(&self.core.clock, rotation.algorithm, rotation.lead);
        let made = TokenKey {
            signs: rotation.lead.is_zero(),
            ..row.listed(self.core.identity.tokens.root())
        };
        let (clock, after) = (self.core.clock.clone(), described(&made));
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                live::next_epoch(tx).await?;
                forget_old(tx, &clock).await?;
                tx.execute(
                    Sql::new(
                        "UPDATE signing_keys SET ends_at = $1 \
                         WHERE ends_at IS NULL AND revoked_at IS NULL",
                    )
                    .bind(row.starts_at + rotation.overlap, ColumnType::Instant),
                )
                .await?;
                insert(tx, &row).await?;
                audit(tx, &clock, &request, "keys.rotate", after).await
            })
        });
        self.followed(write.await).await?;
        Ok(made)
    }

    /// Revokes a key: its tokens die at once here, and within a second in other processes. When it
    /// was the one that signs, a new one of its algorithm takes over at once.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such key.
    pub async fn revoke(&self, name: &str, request: RequestContext) -> Result<()> {
        let keys = self.core.identity.tokens.root();
        let rows = read(&self.core.db).await?;
        let found = rows.into_iter().find(|row| kid(keys, row) == name);
        let found = found.ok_or(Error::NotFound)?;
        if found.revoked_at.is_some() {
            return Ok(());
        }
        let next = KeyRow::new(&self.core.clock, found.algorithm, TimeDelta::zero());
        let (clock, after) = (self.core.clock.clone(), json!({ "kid": name }));
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                live::next_epoch(tx).await?;
                tx.execute(
                    Sql::new("UPDATE signing_keys SET revoked_at = $1 WHERE id = $2")
                        .bind(clock.now(), ColumnType::Instant)
                        .bind(found.id, ColumnType::Uuid),
                )
                .await?;
                if !has_signer(tx, clock.now()).await? {
                    insert(tx, &next).await?;
                }
                audit(tx, &clock, &request, "keys.revoke", after).await
            })
        });
        self.followed(write.await).await
    }

    /// The public keys as a JWK Set (RFC 7517 §5), with those that will sign soon; keys of HS256
    /// are secrets and not among them.
    pub fn published(&self) -> Json {
        self.core.identity.tokens.published()
    }

    /// Takes up what was written, also when the answer to the commit was lost.
    async fn followed(&self, written: Result<()>) -> Result<()> {
        live::follow(&self.core).await?;
        written
    }
}

fn described(key: &TokenKey) -> Json {
    json!({
        "kid": key.kid,
        "algorithm": key.algorithm.name(),
        "starts_at": crate::value::instant(&key.starts_at),
    })
}

async fn audit(
    tx: &mut Tx<'_>,
    clock: &Clock,
    request: &RequestContext,
    action: &str,
    after: Json,
) -> Result<()> {
    let author = Author {
        clock,
        tenant: INSTALLATION,
        actor: Actor::Operator,
        request,
    };
    let entity = ("signing_keys", after["kid"].as_str().map(str::to_owned));
    journal::audit_by(tx, author, action, entity, None, Some(after)).await
}

/// Makes the first key of an installation, which signs with HS256.
pub(super) async fn ensure(db: &Db, clock: &Clock) -> Result<()> {
    if !read(db).await?.is_empty() {
        return Ok(());
    }
    let first = KeyRow::new(clock, TokenAlgorithm::Hs256, TimeDelta::zero());
    db.write(move |tx| {
        Box::pin(async move {
            // Under the lock of the epoch: of processes that start together one makes a key.
            live::next_epoch(tx).await?;
            match tx.fetch_all(select()).await?.is_empty() {
                true => insert(tx, &first).await,
                false => Ok(()),
            }
        })
    })
    .await
}

pub(super) async fn read(db: &Db) -> Result<Vec<KeyRow>> {
    db.fetch_all(select())
        .await?
        .into_iter()
        .map(parse)
        .collect()
}

fn select() -> Sql {
    Sql::new(
        "SELECT id, algorithm, created_at, starts_at, ends_at, revoked_at \
         FROM signing_keys ORDER BY starts_at, id",
    )
    .returns(&[
        ColumnType::Uuid,
        ColumnType::Text,
        ColumnType::Instant,
        ColumnType::Instant,
        ColumnType::Instant,
        ColumnType::Instant,
    ])
}

fn parse(mut row: Row) -> Result<KeyRow> {
    let id = row.uuid()?;
    let unknown = |_| Error::Inconsistent {
        table: "signing_keys".into(),
        column: "algorithm".into(),
    };
    Ok(KeyRow {
        id,
        algorithm: row.text::<String>()?.parse().map_err(unknown)?,
        created_at: row.instant()?,
        starts_at: row.instant()?,
        ends_at: row.opt_instant()?,
        revoked_at: row.opt_instant()?,
    })
}

async fn insert(tx: &mut Tx<'_>, key: &KeyRow) -> Result<()> {
    tx.execute(
        Sql::new(
            "INSERT INTO signing_keys (id, algorithm, created_at, starts_at) \
             VALUES ($1, $2, $3, $4)",
        )
        .bind(key.id, ColumnType::Uuid)
        .bind(key.algorithm.name(), ColumnType::Text)
        .bind(key.created_at, ColumnType::Instant)
        .bind(key.starts_at, ColumnType::Instant),
    )
    .await?;
    Ok(())
}

/// Whether a key signs now and has no end.
async fn has_signer(tx: &mut Tx<'_>, now: DateTime<Utc>) -> Result<bool> {
    let signer = Sql::new(
        "SELECT id FROM signing_keys \
         WHERE revoked_at IS NULL AND ends_at IS NULL AND starts_at <= $1 LIMIT 1",
    )
    .bind(now, ColumnType::Instant)
    .returns(&[ColumnType::Uuid]);
    Ok(tx.fetch_optional(signer).await?.is_some())
}

async fn forget_old(tx: &mut Tx<'_>, clock: &Clock) -> Result<()> {
    tx.execute(
        Sql::new("DELETE FROM signing_keys WHERE ends_at <= $1 OR revoked_at <= $1")
            .bind(clock.now() - KEPT, ColumnType::Instant),
    )
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
