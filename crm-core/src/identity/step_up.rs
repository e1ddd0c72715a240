//! Showing again who one is, before something that outlives the session.
//!
//! Whoever has a password gives it again, and whoever has time-based codes one of them. Who has no
//! password has just logged in.

use chrono::TimeDelta;
use secrecy::SecretString;

use super::account::Accounts;
use super::own::Owner;
use super::second_factor;
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::scope::Scope;

/// How old the session of somebody without a password may be.
const RECENT: TimeDelta = TimeDelta::minutes(10);

/// What shows that it is still the owner who sits before the session.
#[derive(Debug, Clone, Default)]
pub struct StepUp {
    /// The password of the account; needed by whoever has one.
    pub password: Option<SecretString>,
    /// A code of the second factor, or a recovery code; needed where time-based codes are on.
    pub code: Option<String>,
}

impl Accounts {
    /// The caller, once their password is confirmed and a code may be tried. The code itself is spent
    /// by [`spend_code`], in the transaction that it is for.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `password`; [`Error::Conflict`] `login_too_old`, `not_a_user`;
    /// [`Error::TooMany`].
    pub(super) async fn step_up(&self, scope: &Scope, proof: &StepUp) -> Result<Owner> {
        let owner = self.owner(scope).await?;
        match (&owner.hash, &proof.password) {
            (None, _) => self.check_recent(scope).await?,
            (Some(_), Some(password)) => {
                self.confirm(&owner, "password", password.clone(), scope)
                    .await?;
            }
            (Some(_), None) => {
                return Err(Error::invalid(
                    "password",
                    "required",
                    "Give your password.",
                ));
            }
        }
        if proof.code.is_some() {
            self.limit_codes(owner.id)?;
        }
        Ok(owner)
    }

    async fn check_recent(&self, scope: &Scope) -> Result<()> {
        let (now, session) = (self.core.clock.now(), scope.session());
        let recent = Sql::new(
            "SELECT id FROM refresh_families WHERE id = $1 AND created_at > $2 AND created_at <= $3",
        )
        .bind(session, ColumnType::Uuid)
        .bind(now - RECENT, ColumnType::Instant)
        .bind(now, ColumnType::Instant)
        .returns(&[ColumnType::Uuid]);
        match self.core.db.fetch_optional(recent).await? {
            Some(_) => Ok(()),
            None => Err(Error::conflict(
                "login_too_old",
                "log in again, and do this within ten minutes",
            )),
        }
    }
}

/// Spends the code of a user whose time-based codes are on; asks nothing of others.
///
/// # Errors
/// [`Error::Invalid`] on `code`.
pub(super) async fn spend_code(
    tx: &mut Tx<'_>,
    core: &Core,
    user: UserId,
    code: Option<&str>,
) -> Result<()> {
    if !second_factor::has_codes(tx, user).await? {
        return Ok(());
    }
    match code {
        Some(code) => second_factor::spend(tx, core, user, code).await,
        None => {
            let message = "Give a code of your second factor.";
            Err(Error::invalid("code", "required", message))
        }
    }
}
