//! First passwords that somebody else set: an admin, or the operator.
//!
//! Where the application authenticates strictly, such a password opens nothing by itself. The login
//! that is made with it brings one of the user's own, which takes its place with the session,
//! behind the second factor; and it dies early. One that let its user in before the application did
//! so counts as their own.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret as _, SecretString};

use super::account::Accounts;
use super::lockout;
use super::one_time;
use super::own::{self, Owner};
use super::reset::changed_meanwhile;
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Refusal, Result};
use crate::id::{FamilyId, UserId};
use crate::mail::MailKind;
use crate::scope::RequestContext;

/// How long such a password holds.
const LIFETIME: TimeDelta = TimeDelta::days(7);

impl Accounts {
    /// Whether a password is one that somebody else set too long ago.
    pub(super) fn is_late(&self, given_at: Option<DateTime<Utc>>) -> bool {
        let now = self.core.clock.now();
        let late = given_at.is_some_and(|at| at + LIFETIME <= now);
        self.core.identity.strict && late
    }

    /// Strength and hash of the password that a login brings in place of one that somebody else set; none
    /// where the one that it was made with is the user's own, or the application is not strict about that.
    ///
    /// # Errors
    /// [`Error::Refused`] `password_change_required`; [`Error::Invalid`] on `new_password`;
    /// [`Error::TooMany`].
    pub(super) async fn replacement(
        &self,
        (user, account): (UserId, &str),
        given: bool,
        current: &SecretString,
        new: Option<SecretString>,
    ) -> Result<Option<(u8, String)>> {
        let due = given && self.core.identity.strict;
        if due || new.is_some() {
            // Failures that were judged at the same time count against what is told here.
            lockout::check(&self.core.db, &self.core.clock, account).await?;
        }
        let new = match (due, new) {
            (true, Some(new)) => new,
            (true, None) => return Err(password_change_required()),
            (false, Some(_)) => {
                let message = "This password needs no other one; log in, and change it then.";
                return Err(Error::invalid("new_password", "not_needed", message));
            }
            (false, None) => return Ok(None),
        };
        if current.expose_secret() == new.expose_secret() {
            let message = "Choose another password than the current one.";
            return Err(Error::invalid("new_password", "unchanged", message));
        }
        let row = self.core.db.fetch_optional(Owner::by_id(user)).await?;
        let owner = Owner::read(row.ok_or_else(password_change_required)?)?;
        self.new_hash(&owner, "new_password", new).await.map(Some)
    }
}

/// Stores the hash that a login brought in place of a password that somebody else had set. All
/// sessions of the user end; answers which.
pub(super) async fn replace_given(
    tx: &mut Tx<'_>,
    core: &Core,
    user: UserId,
    hash: String,
    request: &RequestContext,
) -> Result<Vec<FamilyId>> {
    let set = Sql::new(
        "UPDATE users SET password_hash = $1, password_given_at = NULL, password_shared = $3 \
         WHERE id = $2 AND status = 'active' AND password_given_at IS NOT NULL",
    )
    .bind(hash, ColumnType::Text)
    .bind(user, ColumnType::Uuid)
    .bind(false, ColumnType::Bool);
    if tx.execute(set).await? == 0 {
        return Err(changed_meanwhile());
    }
    one_time::kill(tx, user).await?;
    let ended = own::end_sessions(tx, &core.clock, user).await?;
    let owner = tx.fetch_optional(Owner::by_id(user)).await?;
    let owner = Owner::read(owner.ok_or_else(changed_meanwhile)?)?;
    let told = (MailKind::PasswordChanged, "auth.password_changed");
    own::tell(tx, core, &owner, request, told).await?;
    Ok(ended)
}

fn password_change_required() -> Error {
    Refusal::forbidden(
        "password_change_required",
        "somebody else set this password: log in with it and a new_password of your own",
    )
    .into()
}
