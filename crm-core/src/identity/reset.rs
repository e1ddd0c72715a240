//! New passwords: changed by who knows the old one, or set by who reads the user's mail.
//!
//! Either way all sessions end, all links die, and the user is told. Who asks for a link gets the
//! same answer, in the same time, whether there is such a user or not: the work is done after it.

use chrono::TimeDelta;
use secrecy::{ExposeSecret as _, SecretString};

use super::account::Accounts;
use super::email::normalize_email;
use super::lockout;
use super::one_time::{self, Purpose};
use super::own::{self, Owner};
use super::passkey;
use super::password::Verdict;
use super::second_factor;
use super::session::{self, Session};
use super::step_up::check_recent;
use super::tenant_security::Whose;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::mail::{self, Letter, Link, MailKind};
use crate::scope::{RequestContext, Scope};

/// How soon a user gets another mail of the same kind.
pub(super) const MAIL_PAUSE: TimeDelta = TimeDelta::minutes(1);

/// A changed password.
#[derive(Debug, Clone)]
pub struct PasswordChange {
    /// The session that goes on in place of all others.
    pub session: Session,
    /// The strength of the new password, 0 to 4, as zxcvbn estimates it.
    pub score: u8,
}

impl Accounts {
    /// Sends a link that sets a new password, if there is an active user of this address; at most
    /// one a minute. The answer tells nothing of that.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no address; [`Error::TooMany`].
    pub fn forgot_password(&self, email: &str, request: RequestContext) -> Result<()> {
        let email = normalize_email(email)?;
        self.limit("forgot", &email, &request)?;
        let accounts = self.clone();
        self.core.identity.afterwards(async move {
            let kind = MailKind::PasswordReset;
            accounts.send_password_link(kind, email, request).await
        });
        Ok(())
    }

    /// Sends a link that sets a password, in a mail of this kind, if there is an active user of
    /// this address.
    pub(crate) async fn send_password_link(
        &self,
        kind: MailKind,
        email: String,
        request: RequestContext,
    ) -> Result<()> {
        let core = self.core.clone();
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let Some(row) = tx.fetch_optional(Owner::by_email(&email)).await? else {
                    return Ok(());
                };
                let (owner, purpose) = (Owner::read(row)?, Purpose::ResetPassword);
                if !own::has_address(tx, owner.id, &owner.email).await? {
                    return Ok(());
                }
                let place = (owner.id, owner.email.as_str());
                let made = one_time::make(tx, &core.clock, purpose, place, MAIL_PAUSE).await?;
                let Some(token) = made else { return Ok(()) };
                let letter = Letter {
                    kind,
                    to: &owner.email,
                    name: &owner.name,
                    tenant: None,
                    by: None,
                    link: Some(Link {
                        token: &token,
                        holds: "one hour",
                    }),
                };
                let until = core.clock.now() + purpose.lifetime();
                mail::enqueue(tx, &core, letter, until).await?;
                let action = "auth.password_reset_requested";
                own::audit(tx, &core.clock, owner.id, &request, action).await
            })
        });
        write.await?;
        self.core.post.wake();
        Ok(())
    }

    /// Sets a new password with the token of a link. All sessions end; a second factor is still
    /// asked for at the next login. Answers the strength of the password, 0 to 4.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `token` for one that is unknown, used, replaced or older than an hour:
    /// of any number of callers with one token, one succeeds; on `password` for one that breaks the
    /// policy, which leaves the token good.
    pub async fn reset_password(
        &self,
        token: SecretString,
        password: SecretString,
        request: RequestContext,
    ) -> Result<u8> {
        self.limit("reset", "", &request)?;
        let owner = self.owner_of_link(&token, &request).await?;
        let (score, hash) = self.new_hash(&owner, "password", password).await?;
        let (core, user, asked) = (self.core.clone(), owner.id, request.clone());
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let purpose = Purpose::ResetPassword;
                let used = one_time::redeem(tx, &core.clock, purpose, &token).await?;
                set_password(tx, owner.id, hash, owner.hash.as_deref()).await?;
                // The user's row is held by now: a link to an address of before opens nothing.
                if !own::has_address(tx, owner.id, &used.email).await? {
                    return Err(one_time::invalid());
                }
                // Whoever has the link reads the user's mail.
                let verified = Sql::new(
                    "UPDATE users SET email_verified_at = $1 \
                     WHERE id = $2 AND email_verified_at IS NULL",
                )
                .bind(core.clock.now(), ColumnType::Instant)
                .bind(owner.id, ColumnType::Uuid);
                if tx.execute(verified).await? > 0 {
                    // Until now nobody had shown that the account was theirs: whoever made it may
                    // have made its factors.
                    passkey::remove_all(tx, owner.id).await?;
                    second_factor::remove(tx, owner.id).await?;
                }
                let ended = own::end_sessions(tx, &core.clock, owner.id).await?;
                lockout::clear(tx, &owner.email).await?;
                let told = (MailKind::PasswordChanged, "auth.password_reset");
                own::tell(tx, &core, &owner, &request, told).await?;
                Ok(ended)
            })
        });
        let ended = match write.await {
            // Another caller with the token was first.
            Err(Error::Invalid(_)) => return Err(self.dead_link(Some(user), asked).await?),
            ended => ended?,
        };
        self.forget(ended);
        self.core.post.wake();
        Ok(score)
    }

    /// Whose password the token of a link sets.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `token`, which is audited.
    async fn owner_of_link(&self, token: &SecretString, request: &RequestContext) -> Result<Owner> {
        let (db, clock) = (&self.core.db, &self.core.clock);
        let link = one_time::find(clock, Purpose::ResetPassword, token);
        let (user, holds) = match db.fetch_optional(link).await? {
            Some(mut row) => (Some(row.uuid()?), row.bool()?),
            None => (None, false),
        };
        let owner = match user.filter(|_| holds) {
            Some(user) => db.fetch_optional(Owner::by_id(user)).await?,
            None => None,
        };
        match owner {
            Some(row) => Owner::read(row),
            None => Err(self.dead_link(user, request.clone()).await?),
        }
    }

    /// Audits the use of a link that sets no password any more, or never did; what its caller is
    /// told.
    async fn dead_link(&self, user: Option<UserId>, request: RequestContext) -> Result<Error> {
        let clock = self.core.clock.clone();
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let action = "auth.password_reset_failed";
                own::audit_failure(tx, &clock, user, &request, action).await
            })
        });
        write.await?;
        Ok(one_time::invalid())
    }

    /// Changes the caller's password. Every session ends, and a new one begins for the caller.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `current_password` when it is not; on `password` for one that breaks the
    /// policy or is the current one; [`Error::TooMany`]; [`Error::Conflict`] `not_a_user`,
    /// `bound_session`, `second_factor_required`, the last also for every session that began without one
    /// where the application authenticates strictly.
    pub async fn change_password(
        &self,
        scope: &Scope,
        current: SecretString,
        password: SecretString,
    ) -> Result<PasswordChange> {
        let owner = self.owner(scope).await?;
        self.confirm(&owner, "current_password", current.clone(), scope)
            .await?;
        if current.expose_secret() == password.expose_secret() {
            let message = "Choose another password than the current one.";
            return Err(Error::invalid("password", "unchanged", message));
        }
        let (score, hash) = self.new_hash(&owner, "password", password).await?;
        let (core, scope) = (self.core.clone(), scope.clone());
        let (device, lifetime) = self.opening(scope.request());
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let two_factors = session::passed_two_factors(tx, &scope).await?;
                if core.identity.strict && !two_factors {
                    return Err(own::second_factor_required());
                }
                set_password(tx, owner.id, hash, owner.hash.as_deref()).await?;
                let ended = own::end_sessions(tx, &core.clock, owner.id).await?;
                let place = (scope.tenant(), owner.id);
                let opened = session::open(tx, &core.clock, place, lifetime, &device).await?;
                if two_factors {
                    session::note_two_factors(tx, opened.0.id).await?;
                }
                let told = (MailKind::PasswordChanged, "auth.password_changed");
                own::tell(tx, &core, &owner, scope.request(), told).await?;
                Ok((opened, ended))
            })
        });
        let (opened, ended) = write.await?;
        self.forget(ended);
        self.core.post.wake();
        let session = self.session(opened)?;
        Ok(PasswordChange { session, score })
    }

    /// Ends all sessions of the caller, in every tenant, this one too.
    ///
    /// # Errors
    /// [`Error::Conflict`] `not_a_user`; [`Error::Refused`] `recent_login_required` for a session that
    /// began more than five minutes ago, where the application authenticates strictly.
    pub async fn logout_everywhere(&self, scope: &Scope) -> Result<()> {
        let owner = self.person(scope).await?;
        check_recent(&self.core, scope).await?;
        let (clock, scope) = (self.core.clock.clone(), scope.clone());
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let ended = own::end_sessions(tx, &clock, owner.id).await?;
                let action = "auth.logout_everywhere";
                own::audit(tx, &clock, owner.id, scope.request(), action).await?;
                Ok(ended)
            })
        });
        self.forget(write.await?);
        Ok(())
    }

    /// Asks for the caller's password again before something that outlives the session.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `field`, [`Error::TooMany`].
    pub(super) async fn confirm(
        &self,
        owner: &Owner,
        field: &'static str,
        password: SecretString,
        scope: &Scope,
    ) -> Result<()> {
        // By the account alone: whoever has a token of it may come from many addresses.
        let throttle = &self.core.identity.throttle;
        throttle.attempt(None, &format!("confirm {}", owner.id))?;
        let passwords = &self.core.identity.passwords;
        if passwords.verify(password, owner.hash.clone()).await? != Verdict::Wrong {
            return Ok(());
        }
        let (clock, user, scope) = (self.core.clock.clone(), owner.id, scope.clone());
        self.core
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let action = "auth.confirmation_failed";
                    own::audit(tx, &clock, user, scope.request(), action).await
                })
            })
            .await?;
        let message = "This is not your password.";
        Err(Error::invalid(field, "wrong_password", message))
    }

    /// Strength and hash of a password that the user may have from now on.
    pub(super) async fn new_hash(
        &self,
        owner: &Owner,
        field: &'static str,
        password: SecretString,
    ) -> Result<(u8, String)> {
        let mut words = owner.words();
        words.extend(self.tenants_of(owner.id).await?);
        let whose = Whose::User(owner.id);
        let score = self.check_password(field, &password, words, whose).await?;
        Ok((score, self.core.identity.passwords.hash(password).await?))
    }

    /// Counts an attempt at `what`, per address and `key`.
    pub(super) fn limit(&self, what: &str, key: &str, request: &RequestContext) -> Result<()> {
        let throttle = &self.core.identity.throttle;
        throttle.attempt(request.address, &format!("{what} {key}"))
    }
}

/// Stores a new hash in place of the one that was read; every link of the user dies.
async fn set_password(tx: &mut Tx<'_>, user: UserId, new: String, old: Option<&str>) -> Result<()> {
    let set = Sql::new(
        "UPDATE users SET password_hash = $1, password_given_at = NULL, password_shared = $4 \
         WHERE id = $2 AND status = 'active' AND COALESCE(password_hash, '') = $3",
    )
    .bind(new, ColumnType::Text)
    .bind(user, ColumnType::Uuid)
    .bind(old.unwrap_or_default(), ColumnType::Text)
    .bind(false, ColumnType::Bool);
    if tx.execute(set).await? == 0 {
        return Err(changed_meanwhile());
    }
    one_time::kill(tx, user).await
}

pub(super) fn changed_meanwhile() -> Error {
    Error::conflict(
        "password_changed",
        "the password was changed by another request; log in with that one",
    )
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::*;
    use crate::identity::fixture::*;
    use crate::on_both_databases;
    use crate::testing::Backend;

    on_both_databases!(
        a_link_to_an_address_of_before_sets_no_password,
        a_session_that_began_as_its_tenant_began_to_ask_for_a_factor_is_refused,
    );

    /// As one is sent that was asked for while the address changed.
    async fn a_link_to_an_address_of_before_sets_no_password(backend: Backend) -> Result<()> {
        let (world, session) = World::new(backend).await?;
        let clock = world.crm.clock().clone();
        for (address, holds) in [("old@example.com", false), (ANN, true)] {
            let (user, clock) = (session.user_id, clock.clone());
            let make = world.crm.core.db.write(move |tx| {
                Box::pin(async move {
                    let place = (user, address);
                    let purpose = Purpose::ResetPassword;
                    one_time::make(tx, &clock, purpose, place, TimeDelta::zero()).await
                })
            });
            let token = make.await?.unwrap();
            let new = SecretString::from("a new harpsichord");
            let accounts = world.accounts();
            let reset = accounts.reset_password(token, new, request()).await;
            assert_eq!(reset.is_ok(), holds, "{address}");
        }
        Ok(())
    }

    /// On PostgreSQL such a login may read what the tenant asked for before.
    async fn a_session_that_began_as_its_tenant_began_to_ask_for_a_factor_is_refused(
        backend: Backend,
    ) -> Result<()> {
        let (world, session) = World::new(backend).await?;
        world.scope(&session.access_token).await?;
        let asks = Sql::new("UPDATE tenants SET requires_second_factor = $1");
        world.execute(asks.bind(true, ColumnType::Bool)).await?;
        world.crm.core.policy.invalidate(session.tenant_id);
        let refused = world.scope(&session.access_token).await;
        assert_eq!(code(refused), "second_factor_required");
        let passed = Sql::new("UPDATE refresh_families SET two_factors = $1");
        world.execute(passed.bind(true, ColumnType::Bool)).await?;
        world.scope(&session.access_token).await?;
        Ok(())
    }
}
