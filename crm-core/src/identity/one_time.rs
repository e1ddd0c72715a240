//! Single-use links to a user's own account: a new password, a proven address.
//!
//! Of each purpose a user has one link at most: a new one kills the one before. Using it removes
//! its row, so that of any number of callers with one token one succeeds.

use chrono::TimeDelta;
use secrecy::SecretString;

use super::opaque;
use crate::clock::Clock;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::UserId;

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To set a new password.
    ResetPassword,
    /// To prove an address.
    VerifyEmail,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::ResetPassword => "reset_password",
            Self::VerifyEmail => "verify_email",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::ResetPassword => "crm_pr_",
            Self::VerifyEmail => "crm_ev_",
        }
    }

    pub(super) fn lifetime(self) -> TimeDelta {
        match self {
            Self::ResetPassword => TimeDelta::hours(1),
            Self::VerifyEmail => TimeDelta::days(1),
        }
    }
}

/// A used link.
#[derive(Debug)]
pub(super) struct Used {
    pub(super) user: UserId,
    /// The address it was sent to.
    pub(super) email: String,
}

/// Makes a link in place of the one before; `None` when that one is younger than `pause`.
pub(super) async fn make(
    tx: &mut Tx<'_>,
    clock: &Clock,
    purpose: Purpose,
    (user, email): (UserId, &str),
    pause: TimeDelta,
) -> Result<Option<SecretString>> {
    let (token, now) = (opaque::generate(clock, purpose.prefix()), clock.now());
    let write = Sql::new(
        "INSERT INTO user_tokens (hash, user_id, purpose, email, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (user_id, purpose) DO UPDATE SET \
         hash = excluded.hash, email = excluded.email, created_at = excluded.created_at, \
         expires_at = excluded.expires_at WHERE user_tokens.created_at <= $7",
    )
    .bind(opaque::hash(&token), ColumnType::Bytes)
    .bind(user, ColumnType::Uuid)
    .bind(purpose.as_str(), ColumnType::Text)
    .bind(email, ColumnType::Text)
    .bind(now, ColumnType::Instant)
    .bind(now + purpose.lifetime(), ColumnType::Instant)
    .bind(now - pause, ColumnType::Instant);
    Ok((tx.execute(write).await? > 0).then_some(token))
}

/// The statement that finds a link without using it: its user, and whether it holds still.
pub(super) fn find(clock: &Clock, purpose: Purpose, token: &SecretString) -> Sql {
    by_token(
        "SELECT user_id, expires_at > $3 FROM user_tokens WHERE hash = $1 AND purpose = $2",
        (clock, purpose, token),
    )
    .returns(&[ColumnType::Uuid, ColumnType::Bool])
}

/// Uses a link up.
pub(super) async fn redeem(
    tx: &mut Tx<'_>,
    clock: &Clock,
    purpose: Purpose,
    token: &SecretString,
) -> Result<Used> {
    let delete = by_token(
        "DELETE FROM user_tokens WHERE hash = $1 AND purpose = $2 AND expires_at > $3 \
         RETURNING user_id, email",
        (clock, purpose, token),
    )
    .returns(&[ColumnType::Uuid, ColumnType::Text]);
    let mut row = tx.fetch_optional(delete).await?.ok_or_else(invalid)?;
    Ok(Used {
        user: row.uuid()?,
        email: row.text()?,
    })
}

fn by_token(text: &'static str, (clock, purpose, token): (&Clock, Purpose, &SecretString)) -> Sql {
    Sql::new(text)
        .bind(opaque::hash(token), ColumnType::Bytes)
        .bind(purpose.as_str(), ColumnType::Text)
        .bind(clock.now(), ColumnType::Instant)
}

/// Kills the links of a user: what they were sent for has changed.
pub(super) async fn kill(tx: &mut Tx<'_>, user: UserId) -> Result<()> {
    let delete =
        Sql::new("DELETE FROM user_tokens WHERE user_id = $1").bind(user, ColumnType::Uuid);
    tx.execute(delete).await?;
    Ok(())
}

/// Unknown, used, replaced or out of date: one answer.
pub(super) fn invalid() -> Error {
    let message = "This link is unknown, used or out of date; ask for a new one.";
    Error::invalid("token", "invalid_token", message)
}
