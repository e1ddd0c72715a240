//! Second factors: time-based codes and recovery codes, and the second step of a login.
//!
//! A login whose password was right gets a challenge, good for five minutes and five tries; a code
//! of the user's device, or one recovery code, opens the session. Each code works once. Setting up
//! and taking away ask for the password again. A tenant may require a second factor: who has none
//! sets one up in the middle of the login. A passkey takes the second step as well; who has one
//! sets up no codes there, since whoever knows only the password could.
//!
//! [`codes`] knows the codes, [`login`] is the second step of a login, [`requirement`] what a
//! tenant asks.

mod codes;
mod login;
mod requirement;

use secrecy::SecretString;

use super::account::Accounts;
use super::own::{self, Owner};
use super::passkey;
use super::session;
use super::totp;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::mail::MailKind;
use crate::scope::{RequestContext, Scope};
use codes::{factor, label, none, replace_codes, switch_on, use_totp, wrong_code};

pub(super) use codes::{SEALED, has_codes, spend};
pub use login::LoginFinish;
pub(crate) use login::forget_late_logins;
pub(super) use login::{Reach, challenge, challenge_by, scored};
#[cfg(feature = "passkeys")]
pub(super) use login::{Step, try_step, unknown_challenge};
pub(crate) use requirement::end_unproven;

/// A new secret for an authenticator application; shown once.
#[derive(Debug, Clone)]
pub struct TotpSecret {
    /// In base32, to type.
    pub secret: SecretString,
    /// As an `otpauth:` URI, for a QR code.
    pub uri: SecretString,
}

impl Accounts {
    /// Makes a secret for the caller's authenticator application, in place of an unconfirmed one.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `password`; [`Error::Conflict`] `second_factor_exists`, `not_a_user`,
    /// `bound_session`, `second_factor_required`; [`Error::TooMany`].
    pub async fn begin_totp(&self, scope: &Scope, password: SecretString) -> Result<TotpSecret> {
        let owner = self.owner(scope).await?;
        self.confirm(&owner, "password", password, scope).await?;
        self.new_secret(owner.id, owner.email).await
    }

    /// Switches the second factor on, with a first code of the device, which the session so passes;
    /// answers recovery codes, which are shown once and work once.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `code`; [`Error::Conflict`] `no_second_factor` when none was begun,
    /// `second_factor_exists`, `not_a_user`, `bound_session`, `second_factor_required`;
    /// [`Error::TooMany`].
    pub async fn confirm_totp(&self, scope: &Scope, code: &str) -> Result<Vec<SecretString>> {
        let owner = self.owner(scope).await?;
        self.limit_codes(owner.id)?;
        let (core, scope, code) = (self.core.clone(), scope.clone(), code.to_owned());
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                own::check_passed(tx, &scope, owner.id).await?;
                let factor = factor(tx, &core, owner.id).await?.ok_or_else(none)?;
                if factor.confirmed {
                    return Err(exists());
                }
                if !use_totp(tx, &core, owner.id, &factor, &code).await? {
                    // Of a device that opens nothing yet: nobody is locked by it.
                    let action = "auth.confirmation_failed";
                    own::audit(tx, &core.clock, owner.id, scope.request(), action).await?;
                    return Ok(Err(wrong_code()));
                }
                switch_on(tx, &core, owner.id).await?;
                if let Some(session) = scope.session() {
                    session::note_two_factors(tx, session).await?;
                }
                let codes = replace_codes(tx, &core, owner.id).await?;
                let told = (MailKind::SecondFactorChanged, "auth.totp_enabled");
                own::tell(tx, &core, &owner, scope.request(), told).await?;
                Ok(Ok(codes))
            })
        });
        let codes = write.await??;
        self.core.post.wake();
        Ok(codes)
    }

    /// Takes the caller's second factor away, recovery codes too.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `password` or `code`; [`Error::Conflict`] `no_second_factor`,
    /// `not_a_user`; [`Error::TooMany`].
    pub async fn disable_totp(
        &self,
        scope: &Scope,
        password: SecretString,
        code: &str,
    ) -> Result<()> {
        let owner = self.sure(scope, password).await?;
        let (core, scope, code) = (self.core.clone(), scope.clone(), code.to_owned());
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                if let Err(wrong) = spend(tx, &core, &scope, owner.id, &code).await? {
                    return Ok(Err(wrong));
                }
                remove(tx, owner.id).await?;
                let told = (MailKind::SecondFactorChanged, "auth.totp_disabled");
                own::tell(tx, &core, &owner, scope.request(), told).await?;
                Ok(Ok(()))
            })
        });
        write.await??;
        self.core.post.wake();
        Ok(())
    }

    /// Makes new recovery codes in place of those that are left.
    ///
    /// # Errors
    /// As [`disable_totp`](Self::disable_totp).
    pub async fn renew_recovery_codes(
        &self,
        scope: &Scope,
        password: SecretString,
        code: &str,
    ) -> Result<Vec<SecretString>> {
        let owner = self.sure(scope, password).await?;
        let (core, scope, code) = (self.core.clone(), scope.clone(), code.to_owned());
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                if let Err(wrong) = spend(tx, &core, &scope, owner.id, &code).await? {
                    return Ok(Err(wrong));
                }
                let codes = replace_codes(tx, &core, owner.id).await?;
                let action = "auth.recovery_codes_renewed";
                own::audit(tx, &core.clock, owner.id, scope.request(), action).await?;
                Ok(Ok(codes))
            })
        });
        write.await?
    }

    /// Takes a user's second factor away, passkeys too, for the operator alone: whoever has lost
    /// device and recovery codes has shown the operator who they are.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such user, or they have none.
    pub async fn reset_second_factor(&self, email: &str, request: RequestContext) -> Result<()> {
        let email = super::normalize_email(email)?;
        let core = self.core.clone();
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let row = tx.fetch_optional(Owner::by_email(&email)).await?;
                let owner = Owner::read(row.ok_or(Error::NotFound)?)?;
                let passkeys = passkey::remove_all(tx, owner.id).await?;
                if passkeys + remove(tx, owner.id).await? == 0 {
                    return Err(Error::NotFound);
                }
                let told = (MailKind::SecondFactorChanged, "auth.totp_reset");
                own::tell(tx, &core, &owner, &request, told).await
            })
        });
        write.await?;
        self.core.post.wake();
        Ok(())
    }

    /// The caller, once their password is confirmed and a code may be tried.
    async fn sure(&self, scope: &Scope, password: SecretString) -> Result<Owner> {
        let owner = self.person(scope).await?;
        self.confirm(&owner, "password", password, scope).await?;
        self.limit_codes(owner.id)?;
        Ok(owner)
    }

    /// Counts a try of a user's code, from wherever it comes.
    pub(super) fn limit_codes(&self, user: UserId) -> Result<()> {
        let throttle = &self.core.identity.throttle;
        throttle.attempt(None, &format!("code {user}"))
    }

    /// A new secret, in place of an unconfirmed one. It is the user's in all of their tenants, and
    /// named after none of them.
    pub(super) async fn new_secret(&self, user: UserId, email: String) -> Result<TotpSecret> {
        let core = self.core.clone();
        let bytes = core.clock.random::<{ totp::SECRET_BYTES }>();
        let store = Sql::new(
            "INSERT INTO totp_factors (user_id, sealed, created_at) VALUES ($1, $2, $3) \
             ON CONFLICT (user_id) DO UPDATE SET sealed = excluded.sealed, last_step = 0, \
             created_at = excluded.created_at WHERE totp_factors.confirmed_at IS NULL",
        )
        .bind(user, ColumnType::Uuid)
        .bind(
            core.identity.seal.seal(&label(user), &bytes)?,
            ColumnType::Bytes,
        )
        .bind(core.clock.now(), ColumnType::Instant);
        if core.db.execute(store).await? == 0 {
            return Err(exists());
        }
        let secret = totp::base32(&bytes);
        Ok(TotpSecret {
            uri: totp::uri(&self.core.identity.application, &email, &secret).into(),
            secret: secret.into(),
        })
    }
}

/// Takes a user's codes away; answers how much there was of them.
pub(super) async fn remove(tx: &mut Tx<'_>, user: UserId) -> Result<u64> {
    let mut removed = 0;
    for delete in [
        Sql::new("DELETE FROM totp_factors WHERE user_id = $1"),
        Sql::new("DELETE FROM recovery_codes WHERE user_id = $1"),
    ] {
        removed += tx.execute(delete.bind(user, ColumnType::Uuid)).await?;
    }
    Ok(removed)
}

fn exists() -> Error {
    let message = "there is a second factor already; take it away first";
    Error::conflict("second_factor_exists", message)
}
