//! Showing again who one is, before something that outlives the session: with the password, and a
//! code where time-based codes are on. Who has passkeys alone shows them by logging in with one.
//! Where the application authenticates strictly, a login of just now lets end the other sessions,
//! however it was.

use chrono::TimeDelta;
use secrecy::SecretString;

use super::account::Accounts;
use super::own::{self, Owner};
use super::second_factor;
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Refusal, Result};
use crate::id::UserId;
use crate::scope::Scope;

/// How long a login counts as one of just now.
const RECENT: TimeDelta = TimeDelta::minutes(5);

/// What shows that it is still the owner who sits before the session.
#[derive(Debug, Clone)]
pub struct StepUp {
    /// The password of the account.
    pub password: SecretString,
    /// A code of the second factor, or a recovery code; needed where time-based codes are on.
    pub code: Option<String>,
}

impl Accounts {
    /// The caller, once their password is confirmed and a code may be tried. The code itself is
    /// spent by [`pass_second_factor`], in the transaction that it is for.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `password`; [`Error::Conflict`] `no_password` for an account that has
    /// none, `not_a_user`, `bound_session`; [`Error::TooMany`].
    pub(super) async fn step_up(&self, scope: &Scope, proof: &StepUp) -> Result<Owner> {
        let owner = self.person(scope).await?;
        if owner.hash.is_none() {
            return Err(Error::conflict(
                "no_password",
                "this account has no password to show again who you are; set one first, with the \
                 mail of a forgotten one",
            ));
        }
        let password = proof.password.clone();
        self.confirm(&owner, "password", password, scope).await?;
        if proof.code.is_some() {
            self.limit_codes(owner.id)?;
        }
        Ok(owner)
    }
}

/// Spends the code of a user whose time-based codes are on, and asks whoever has passkeys alone for
/// a session that passed the second factor; asks nothing of others. A wrong code is the inner
/// error, of a transaction that commits.
///
/// # Errors
/// [`Error::Invalid`] on `code`; [`Error::Conflict`] `second_factor_required`; [`Error::TooMany`].
pub(super) async fn pass_second_factor(
    tx: &mut Tx<'_>,
    core: &Core,
    scope: &Scope,
    user: UserId,
    code: Option<&str>,
) -> Result<Result<()>> {
    if !second_factor::has_codes(tx, user).await? {
        return own::check_passed(tx, scope, user).await.map(Ok);
    }
    match code {
        Some(code) => second_factor::spend(tx, core, scope, user, code).await,
        None => {
            let message = "Give a code of your second factor.";
            Err(Error::invalid("code", "required", message))
        }
    }
}

/// Refuses a session that began a while ago, where the application authenticates strictly.
///
/// # Errors
/// [`Error::Refused`] `recent_login_required`.
pub(super) async fn check_recent(core: &Core, scope: &Scope) -> Result<()> {
    let Some(session) = scope.session().filter(|_| core.identity.strict) else {
        return Ok(());
    };
    let recent = Sql::new("SELECT id FROM refresh_families WHERE id = $1 AND created_at > $2")
        .bind(session, ColumnType::Uuid)
        .bind(core.clock.now() - RECENT, ColumnType::Instant)
        .returns(&[ColumnType::Uuid]);
    match core.db.fetch_optional(recent).await? {
        Some(_) => Ok(()),
        None => Err(Refusal::forbidden(
            "recent_login_required",
            "log in again, and end your other sessions within five minutes of that",
        )
        .into()),
    }
}
