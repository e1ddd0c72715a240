//! The one-time setup token: how the first user gets in, since none ships with the product.
//!
//! At most one is valid at any time; each start without a user replaces it, and once there is a
//! user none works any more.

use chrono::TimeDelta;
use secrecy::SecretString;

use super::opaque;
use crate::clock::Clock;
use crate::db::{ColumnType, Db, Sql, Tx};
use crate::error::{Error, Result};

const PREFIX: &str = "crm_setup_";
const LIFETIME: TimeDelta = TimeDelta::hours(24);

/// Makes the setup token when there is no user yet, in place of any made before.
///
/// Whoever holds it may register the first tenant and its administrator within 24 hours: show it to
/// the operator, and nobody else.
///
/// # Errors
/// Those of the database.
pub(crate) async fn ensure_setup_token(db: &Db, clock: &Clock) -> Result<Option<SecretString>> {
    let token = opaque::generate(clock, PREFIX);
    let (hash, now) = (opaque::hash(&token), clock.now());
    let made = db
        .write(move |tx| {
            Box::pin(async move {
                tx.execute(
                    Sql::new(
                        "INSERT INTO setup_tokens (place, hash, created_at, expires_at) \
                         SELECT 1, $1, $2, $3 WHERE NOT EXISTS (SELECT 1 FROM users) \
                         ON CONFLICT (place) DO UPDATE SET hash = excluded.hash, used_at = NULL, \
                         created_at = excluded.created_at, expires_at = excluded.expires_at",
                    )
                    .bind(hash, ColumnType::Bytes)
                    .bind(now, ColumnType::Instant)
                    .bind(now + LIFETIME, ColumnType::Instant),
                )
                .await
            })
        })
        .await?;
    Ok((made > 0).then_some(token))
}

/// Whether the token would be accepted now; [`consume`] decides.
pub(super) async fn check(db: &Db, clock: &Clock, token: &SecretString) -> Result<()> {
    let found = db
        .fetch_optional(
            Sql::new(
                "SELECT hash FROM setup_tokens \
                 WHERE hash = $1 AND used_at IS NULL AND expires_at > $2 \
                 AND NOT EXISTS (SELECT 1 FROM users)",
            )
            .bind(opaque::hash(token), ColumnType::Bytes)
            .bind(clock.now(), ColumnType::Instant)
            .returns(&[ColumnType::Bytes]),
        )
        .await?;
    found.map(drop).ok_or_else(refused)
}

/// Uses the token up; of any number of callers one succeeds.
pub(super) async fn consume(tx: &mut Tx<'_>, clock: &Clock, token: &SecretString) -> Result<()> {
    let used = tx
        .fetch_optional(
            Sql::new(
                "UPDATE setup_tokens SET used_at = $1 \
                 WHERE hash = $2 AND used_at IS NULL AND expires_at > $1 \
                 AND NOT EXISTS (SELECT 1 FROM users) RETURNING hash",
            )
            .bind(clock.now(), ColumnType::Instant)
            .bind(opaque::hash(token), ColumnType::Bytes)
            .returns(&[ColumnType::Bytes]),
        )
        .await?;
    used.map(drop).ok_or_else(refused)
}

fn refused() -> Error {
    Error::unauthenticated(
        "setup_token_invalid",
        "the setup token is unknown, used or expired; while there are no users, the server shows a new one \
         when it starts",
    )
}
