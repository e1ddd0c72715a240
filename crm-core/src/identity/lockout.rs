//! Slows down and locks logging in to an account after failures in a row, whoever they come from.
//!
//! Owns the table `login_failures`, by the hash of the address typed, whether or not it belongs to
//! anybody: an unknown account does the same work, gets the same answers and is locked as a known
//! one is. What is locked is logging in, and accepting an invitation with the account's password: sessions
//! go on and are refreshed. Wrong codes of the second factor that are given in a session count for that,
//! and lock the codes of the account's sessions; what fails outside locks no codes there, so that nobody
//! can lock an owner out of where they are. The table's size is bounded by what it costs to fail, a
//! password hash or a turn of a session, and by forgetting failures after a day.

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};

use super::Accounts;
use super::own::{self, Owner};
use crate::clock::Clock;
use crate::db::{ColumnType, Db, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::journal;
use crate::policy::check_rank;
use crate::scope::{Actor, Permit, RequestContext, Update};

/// Failures in a row that cost nothing but themselves.
const FREE: i64 = 4;
/// The failure that locks the account.
const LOCKS: i64 = 10;
/// How long it is locked.
const LOCK: TimeDelta = TimeDelta::minutes(15);
/// After how long without another one failures are forgotten.
const FORGOTTEN: TimeDelta = TimeDelta::days(1);

/// How long the next attempt waits after so many failures: nothing, then 1, 2, 4, 8 and 16 seconds,
/// then a quarter of an hour.
fn delay(failures: i64) -> Option<TimeDelta> {
    match failures {
        ..=FREE => None,
        LOCKS.. => Some(LOCK),
        some => Some(TimeDelta::seconds(1 << (some - FREE - 1))),
    }
}

/// What a failure leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// Another attempt may follow, now or soon.
    Noted,
    /// The account is locked.
    Locked,
}

/// What the wrong codes count for that were given in sessions of the user: no e-mail address.
pub(super) fn codes_of(user: UserId) -> String {
    format!("codes of {user}")
}

fn key(email: &str) -> Vec<u8> {
    Sha256::digest(email.as_bytes()).to_vec()
}

/// Refuses an attempt that comes too soon after the failures before it.
///
/// # Errors
/// [`Error::TooMany`] with the time to wait.
pub(super) async fn check(db: &Db, clock: &Clock, email: &str) -> Result<()> {
    judge(db.fetch_optional(locked_until(email)).await?, clock)
}

/// As [`check`], in a transaction.
///
/// # Errors
/// Those of [`check`].
pub(super) async fn check_in(tx: &mut Tx<'_>, clock: &Clock, email: &str) -> Result<()> {
    judge(tx.fetch_optional(locked_until(email)).await?, clock)
}

fn locked_until(email: &str) -> Sql {
    Sql::new("SELECT locked_until FROM login_failures WHERE email_hash = $1")
        .bind(key(email), ColumnType::Bytes)
        .returns(&[ColumnType::Instant])
}

fn judge(row: Option<Row>, clock: &Clock) -> Result<()> {
    let Some(mut row) = row else {
        return Ok(());
    };
    let Some(until) = row.opt_instant::<DateTime<Utc>>()? else {
        return Ok(());
    };
    let wait = until - clock.now();
    // A clock that was put back locks nobody for longer than a lock lasts.
    match wait.to_std() {
        Ok(retry_after) if !retry_after.is_zero() && wait <= LOCK => {
            Err(Error::too_soon(retry_after))
        }
        _ => Ok(()),
    }
}

/// Notes a failed attempt.
pub(super) async fn fail(db: &Db, clock: &Clock, email: &str) -> Result<Failed> {
    let (clock, email) = (clock.clone(), email.to_owned());
    db.write(move |tx| Box::pin(async move { fail_in(tx, &clock, &email).await }))
        .await
}

/// Notes a failed attempt in a transaction that will commit.
pub(super) async fn fail_in(tx: &mut Tx<'_>, clock: &Clock, email: &str) -> Result<Failed> {
    let failures = note(tx, key(email), clock.now()).await?;
    Ok(match failures {
        LOCKS.. => Failed::Locked,
        _ => Failed::Noted,
    })
}

/// Notes that the owner of an account failed to show again who they are, in a transaction that will
/// commit, and tells their tenants: of the failure, and of the lock that it leads to.
pub(super) async fn fail_owner(
    tx: &mut Tx<'_>,
    clock: &Clock,
    owner: &Owner,
    request: &RequestContext,
) -> Result<()> {
    let failed = fail_in(tx, clock, &owner.email).await?;
    let action = "auth.confirmation_failed";
    own::audit_failure(tx, clock, Some(owner.id), request, action).await?;
    match failed {
        Failed::Noted => Ok(()),
        Failed::Locked => {
            own::audit_failure(tx, clock, Some(owner.id), request, "auth.locked").await
        }
    }
}

async fn note(tx: &mut Tx<'_>, key: Vec<u8>, now: DateTime<Utc>) -> Result<i64> {
    tx.execute(
        Sql::new("DELETE FROM login_failures WHERE last_failed_at <= $1")
            .bind(now - FORGOTTEN, ColumnType::Instant),
    )
    .await?;
    let count = Sql::new(
        "INSERT INTO login_failures (email_hash, failures, last_failed_at) VALUES ($1, 1, $2) \
         ON CONFLICT (email_hash) DO UPDATE SET failures = login_failures.failures + 1, \
         last_failed_at = excluded.last_failed_at RETURNING failures",
    )
    .bind(key.clone(), ColumnType::Bytes)
    .bind(now, ColumnType::Instant)
    .returns(&[ColumnType::Int]);
    let failures = match tx.fetch_optional(count).await? {
        Some(mut row) => row.int()?,
        None => 1,
    };
    if let Some(delay) = delay(failures) {
        tx.execute(
            Sql::new("UPDATE login_failures SET locked_until = $1 WHERE email_hash = $2")
                .bind(now + delay, ColumnType::Instant)
                .bind(key, ColumnType::Bytes),
        )
        .await?;
    }
    Ok(failures)
}

/// Forgets the failures of an account; answers whether there were any.
pub(super) async fn clear(tx: &mut Tx<'_>, email: &str) -> Result<bool> {
    let forget = Sql::new("DELETE FROM login_failures WHERE email_hash = $1")
        .bind(key(email), ColumnType::Bytes);
    Ok(tx.execute(forget).await? > 0)
}

impl Accounts {
    /// Lets a member log in again who is locked after failed attempts.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the user is no member of the permit's tenant; [`Error::Conflict`]
    /// `member_elsewhere` for a member of other tenants too, whose account is not this one's alone;
    /// [`Error::Refused`] `beyond_your_rights` for another member who holds a right that the actor does
    /// not.
    pub async fn unlock(&self, permit: &Permit<Update>, user: UserId) -> Result<()> {
        let scope = permit.on("members")?.clone();
        let member = Sql::new(
            "SELECT u.email, EXISTS (SELECT 1 FROM memberships o \
             WHERE o.user_id = m.user_id AND o.tenant_id <> m.tenant_id) \
             FROM memberships m JOIN users u ON u.id = m.user_id \
             WHERE m.tenant_id = $1 AND m.user_id = $2",
        )
        .bind(scope.tenant(), ColumnType::Uuid)
        .bind(user, ColumnType::Uuid)
        .returns(&[ColumnType::Text, ColumnType::Bool]);
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let found = tx.fetch_optional(member).await?;
                let mut found = found.ok_or(Error::NotFound)?;
                let email: String = found.text()?;
                if found.bool()? && scope.actor() != Actor::Operator {
                    return Err(Error::conflict(
                        "member_elsewhere",
                        "this user is a member of other tenants too: the lock ends by itself after \
                         15 minutes",
                    ));
                }
                check_rank(tx, &scope, user).await?;
                let codes = clear(tx, &codes_of(user)).await?;
                if clear(tx, &email).await? || codes {
                    let entity = ("members", Some(user.to_string()));
                    journal::audit(tx, &scope, "members.unlock", entity, None, None).await?;
                }
                Ok(())
            })
        });
        write.await
    }
}

#[cfg(test)]
mod tests;
