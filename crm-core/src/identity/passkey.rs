//! Passkeys: keys in a user's own devices that open sessions without a password (Web Authentication
//! Level 3).
//!
//! The device asks its owner for a finger, a face or a PIN before it signs, so that a passkey is
//! two factors: a session that it opens passes every tenant's demand for a second one, and it takes
//! the second step of a login with a password as well as a code does. By itself it makes no
//! password less good: who wants two steps always sets up codes, or is in a tenant that requires
//! them.
//!
//! Passkeys belong to the user, in all of their tenants, and are made and removed by nobody else,
//! but by the operator for whoever has lost everything. They survive a new password and the end of
//! all sessions; registrations and logins that wait for a device do not. Those of an account whose
//! address nobody had proven go when a mailed link sets its password: whoever made the account may
//! have made them. A lock after failed passwords does not touch them: guessing passwords keeps
//! nobody out who has a passkey.

#[cfg(feature = "passkeys")]
mod ceremony;
#[cfg(feature = "passkeys")]
mod login;
#[cfg(feature = "passkeys")]
mod register;
#[cfg(feature = "passkeys")]
mod relying_party;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::account::Accounts;
use super::name::check_name;
use super::own;
use super::step_up::{StepUp, pass_second_factor};
use crate::db::{ColumnType, Db, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{PasskeyId, UserId};
use crate::mail::MailKind;
use crate::scope::Scope;

#[cfg(feature = "passkeys")]
pub use ceremony::PasskeyCeremony;
#[cfg(feature = "passkeys")]
pub use login::PasskeyLogin;
#[cfg(feature = "passkeys")]
pub use register::NewPasskey;
#[cfg(feature = "passkeys")]
pub(super) use relying_party::Party;
#[cfg(feature = "passkeys")]
pub use relying_party::RelyingParty;

/// A passkey, as shown to its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Passkey {
    /// Its id.
    pub id: PasskeyId,
    /// What its owner calls it.
    pub name: String,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// When it last opened a session.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl Passkey {
    const COLUMNS: &'static [ColumnType] = &[
        ColumnType::Uuid,
        ColumnType::Text,
        ColumnType::Instant,
        ColumnType::Instant,
    ];

    fn read(mut row: Row) -> Result<Self> {
        Ok(Self {
            id: row.uuid()?,
            name: row.text()?,
            created_at: row.instant()?,
            last_used_at: row.opt_instant()?,
        })
    }
}

impl Accounts {
    /// The caller's passkeys, the oldest first; none for whoever is no user, or in a session that
    /// one tenant's provider vouched for.
    ///
    /// # Errors
    /// [`Error::Refused`] `impersonating` for whoever acts in the user's name.
    pub async fn passkeys(&self, scope: &Scope) -> Result<Vec<Passkey>> {
        scope.refuse_impersonator()?;
        let Some(user) = scope.actor().user().filter(|_| !scope.is_bound()) else {
            return Ok(Vec::new());
        };
        let own = Sql::new(
            "SELECT id, name, created_at, last_used_at FROM passkeys WHERE user_id = $1 ORDER BY id",
        )
        .bind(user, ColumnType::Uuid)
        .returns(Passkey::COLUMNS);
        let rows = self.core.db.fetch_all(own).await?;
        rows.into_iter().map(Passkey::read).collect()
    }

    /// Refuses an answer of a passkey, in a build without them.
    ///
    /// # Errors
    /// [`Error::Conflict`] `passkeys_unavailable`.
    #[cfg(not(feature = "passkeys"))]
    pub(super) async fn confirm_passkey(
        &self,
        _scope: &Scope,
        _user: UserId,
        _answer: (secrecy::SecretString, serde_json::Value),
    ) -> Result<()> {
        let message = "this server has no passkeys; give the password";
        Err(Error::conflict("passkeys_unavailable", message))
    }

    /// Gives one of the caller's passkeys another name.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the caller has no such passkey; [`Error::Invalid`] on `name`;
    /// [`Error::Conflict`] `not_a_user`, `bound_session`, `second_factor_required`.
    pub async fn rename_passkey(
        &self,
        scope: &Scope,
        id: PasskeyId,
        name: &str,
    ) -> Result<Passkey> {
        let owner = self.owner(scope).await?;
        let name = check_name("name", name)?;
        let (core, scope) = (self.core.clone(), scope.clone());
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let rename = Sql::new(
                    "UPDATE passkeys SET name = $1 WHERE id = $2 AND user_id = $3 \
                     RETURNING id, name, created_at, last_used_at",
                )
                .bind(name, ColumnType::Text)
                .bind(id, ColumnType::Uuid)
                .bind(owner.id, ColumnType::Uuid)
                .returns(Passkey::COLUMNS);
                let renamed = tx.fetch_optional(rename).await?.ok_or(Error::NotFound)?;
                let action = "auth.passkey_renamed";
                own::audit(tx, &core.clock, owner.id, scope.request(), action).await?;
                Passkey::read(renamed)
            })
        });
        write.await
    }

    /// Removes one of the caller's passkeys. Sessions that it opened go on, and the password that
    /// this asks for stays a way to log in; in a session that began with the password alone it asks
    /// for a code, and refuses whoever has none.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the caller has no such passkey; [`Error::Invalid`] on `password` or
    /// `code`; [`Error::Conflict`] `no_password` for a user without one, whose only way in this may
    /// be, `not_a_user`, `bound_session`, `second_factor_required`; [`Error::TooMany`].
    pub async fn remove_passkey(&self, scope: &Scope, id: PasskeyId, proof: StepUp) -> Result<()> {
        let owner = self.person(scope).await?;
        let own = Sql::new("SELECT id FROM passkeys WHERE id = $1 AND user_id = $2")
            .bind(id, ColumnType::Uuid)
            .bind(owner.id, ColumnType::Uuid)
            .returns(&[ColumnType::Uuid]);
        self.core
            .db
            .fetch_optional(own)
            .await?
            .ok_or(Error::NotFound)?;
        let owner = self.step_up(scope, &proof).await?;
        let (core, scope) = (self.core.clone(), scope.clone());
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let code = proof.code.as_deref();
                let passed = pass_second_factor(tx, &core, &scope, owner.id, code).await?;
                if passed.is_err() {
                    return Ok(passed);
                }
                let delete = Sql::new("DELETE FROM passkeys WHERE id = $1 AND user_id = $2")
                    .bind(id, ColumnType::Uuid)
                    .bind(owner.id, ColumnType::Uuid);
                if tx.execute(delete).await? == 0 {
                    return Err(Error::NotFound);
                }
                let told = (MailKind::PasskeysChanged, "auth.passkey_removed");
                own::tell(tx, &core, &owner, scope.request(), told).await?;
                Ok(passed)
            })
        });
        write.await??;
        self.core.post.wake();
        Ok(())
    }
}

fn one_of(user: UserId) -> Sql {
    Sql::new("SELECT id FROM passkeys WHERE user_id = $1 LIMIT 1")
        .bind(user, ColumnType::Uuid)
        .returns(&[ColumnType::Uuid])
}

/// Whether the user has a passkey.
pub(super) async fn exists(db: &Db, user: UserId) -> Result<bool> {
    Ok(db.fetch_optional(one_of(user)).await?.is_some())
}

/// As [`exists`], in a transaction.
pub(super) async fn exists_in(tx: &mut Tx<'_>, user: UserId) -> Result<bool> {
    Ok(tx.fetch_optional(one_of(user)).await?.is_some())
}

/// Removes the user's passkeys; answers how many.
pub(super) async fn remove_all(tx: &mut Tx<'_>, user: UserId) -> Result<u64> {
    let all = Sql::new("DELETE FROM passkeys WHERE user_id = $1");
    tx.execute(all.bind(user, ColumnType::Uuid)).await
}

/// Removes what waits for a device of the user: whoever began it may be somebody else.
pub(super) async fn end_ceremonies(tx: &mut Tx<'_>, user: UserId) -> Result<()> {
    let waiting = Sql::new("DELETE FROM passkey_ceremonies WHERE user_id = $1");
    tx.execute(waiting.bind(user, ColumnType::Uuid)).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
