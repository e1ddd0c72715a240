//! Sessions: registering the first user, and logging in.
//!
//! Refuses to tell an unknown e-mail from a wrong password or an inactive user: answer, work and
//! waiting time are the same. Failed attempts are therefore audited after the answer, by a task of
//! their own; everything else is audited in the transaction that does it.

mod choice;
mod exchange;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::account::{Accounts, UserRow, gather, vouched};
use super::address::normalize_username;
use super::email::normalize_email;
use super::lockout::{self, Failed};
use super::name::check_name;
use super::password::Verdict;
use super::refresh::{self, Device, Family};
use super::second_factor::{Reach, challenge, scored};
use super::setup;
use super::sign_up::found;
use crate::clock::Clock;
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{FamilyId, TenantId, UserId};
use crate::journal::{self, Author};
use crate::platform::PLATFORM;
use crate::scope::{Actor, RequestContext, Scope};
pub(super) use choice::{called, choices_in, choose_in};

/// The first user of an installation, and the tenant they will administer.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The token the server printed at its first start.
    pub setup_token: SecretString,
    /// The tenant's name, 1 to 100 characters.
    pub tenant: String,
    /// The e-mail address to log in with.
    pub email: String,
    /// The password, 8 to 128 characters.
    pub password: SecretString,
    /// The user's name, 1 to 100 characters.
    pub name: String,
}

/// Who wants in, and where.
#[derive(Debug, Clone)]
pub struct Login {
    /// The e-mail address of the user, or their user name.
    pub email: String,
    /// Their password.
    pub password: SecretString,
    /// The tenant's name; needed only by members of several.
    pub tenant: Option<String>,
    /// The password of their own that takes the place of one that somebody else set, where the
    /// application [authenticates strictly](crate::Builder::strict_authentication).
    pub new_password: Option<SecretString>,
}

/// An open session.
#[derive(Debug, Clone)]
pub struct Session {
    /// What to send with each request.
    pub access_token: SecretString,
    /// Good for one exchange against a new pair.
    pub refresh_token: SecretString,
    /// How many seconds the access token holds.
    pub expires_in: u64,
    /// Whose session it is.
    pub user_id: UserId,
    /// Where.
    pub tenant_id: TenantId,
    /// The strength of the password that the account was made with, 0 to 4, as zxcvbn estimates it;
    /// none but where it was made just now.
    pub password_score: Option<u8>,
}

/// A user as the login reads it.
struct Known {
    id: UserId,
    email: String,
    hash: Option<String>,
    active: bool,
    /// When somebody else set the password.
    given_at: Option<DateTime<Utc>>,
}

/// Somebody whose password was right, about to be let in.
struct Arriving {
    core: Arc<Core>,
    user: Known,
    /// Where to: any of the user's tenants, as long as none is chosen.
    tenant: TenantId,
    /// What is asked for where none is chosen.
    which: Option<Error>,
    roaming: bool,
    /// The hash of the password, and the one at today's cost.
    rehashed: Option<(String, String)>,
    /// Strength and hash of the password that takes the place of a given one.
    replacement: Option<(u8, String)>,
    opening: (Device, chrono::TimeDelta),
    request: RequestContext,
}

impl Accounts {
    /// Uses up the setup token: makes the tenant with its built-in roles, and the user as its
    /// admin, all or nothing.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] `setup_token_invalid` for a token that is unknown, used, expired or
    /// late, whatever comes with it: of any number of callers with one token, one succeeds;
    /// [`Error::Invalid`] for values that break a rule; [`Error::SecondFactor`] when all is made and the session
    /// awaits [`finish_login`](Self::finish_login), where the application authenticates strictly.
    pub async fn register(&self, input: Registration, request: RequestContext) -> Result<Session> {
        let core = &self.core;
        // Before values are judged and hashed: without a token nobody makes this process work, and
        // nobody with a dead one mends a password in vain.
        setup::check(&core.db, &core.clock, &input.setup_token).await?;
        let mut errors = Vec::new();
        let email = gather(&mut errors, normalize_email(&input.email))?;
        let name = gather(&mut errors, check_name("name", &input.name))?;
        let tenant = gather(&mut errors, check_name("tenant", &input.tenant))?;
        let context = [&input.email, &input.name, &input.tenant].map(String::clone);
        let passwords = &core.identity.passwords;
        let checked = passwords.check("password", &input.password, context.to_vec());
        let score = gather(&mut errors, checked.await)?;
        if !errors.is_empty() {
            return Err(Error::Invalid(errors));
        }
        let hash = core.identity.passwords.hash(input.password).await?;
        let user = UserRow {
            id: UserId(core.clock.new_id()),
            email,
            name,
            hash,
            given: false,
        };
        let (core, setup_token) = (core.clone(), input.setup_token);
        let opening = self.opening(&request);
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                setup::consume(tx, &core.clock, &setup_token).await?;
                let founded = found(tx, &core, &(user, tenant), opening, &request).await?;
                vouched(tx, founded.user, false, core.clock.now()).await?;
                Ok(founded)
            })
        });
        self.first_session(write.await?.session, Some(score))
    }

    /// The session of an account that was made with a password of this strength.
    pub(super) fn first_session(
        &self,
        opened: Result<(Family, SecretString)>,
        password_score: Option<u8>,
    ) -> Result<Session> {
        let opened = opened.map_err(|awaited| scored(awaited, password_score))?;
        let session = self.session(opened)?;
        Ok(Session {
            password_score,
            ..session
        })
    }

    /// Opens a session for whoever knows the password.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] `invalid_credentials`, whatever of the two was wrong, and not before
    /// [`Builder::failed_login_time`](crate::Builder::failed_login_time) has passed;
    /// [`Error::TooMany`] after too many attempts, or so soon after failed ones that the account is
    /// locked, known or not; [`Error::Invalid`] on `tenant`, listing the
    /// user's own tenants, when the password was right and the tenant is missing or not one of
    /// them; [`Error::SecondFactor`] when the password was right and
    /// [`finish_login`](Self::finish_login) is to follow, which names the tenants in its turn: of whoever
    /// has a second factor, or is asked for one in any of them, the password alone learns none;
    /// [`Error::Refused`] `password_change_required` when the password was right and somebody else set
    /// it, where the application authenticates strictly, and [`Error::Invalid`] on `new_password`.
    pub async fn login(&self, input: Login, request: RequestContext) -> Result<Session> {
        let begun = Instant::now();
        let entered = self.enter(input, request).await;
        // Neither the kind of a stored hash nor its absence shows by the time of a refusal.
        if let Err(Error::Unauthenticated { .. }) = &entered {
            let times = times(begun.elapsed(), self.core.identity.failed_login_time);
            sleep_until(begun + times).await;
        }
        entered
    }

    async fn enter(&self, input: Login, request: RequestContext) -> Result<Session> {
        let (user, verdict) = self.recognize(&input, &request).await?;
        let whose = (user.id, user.email.as_str());
        let given = user.given_at.is_some();
        let replacement = self
            .replacement(whose, given, &input.password, input.new_password)
            .await?;
        let choices = self.choices(user.id).await?;
        let mut ids = choices.iter().map(|choice| choice.id);
        let any = ids.find(|id| *id != PLATFORM);
        let (tenant, which) = match (self.place(choices, input.tenant), any) {
            (Err(which @ Error::Invalid(_)), Some(any)) => (any, Some(which)),
            (place, _) => (place?, None),
        };
        let rehashed = match verdict {
            Verdict::RightAtOldCost => self.rehash(input.password, user.hash.clone()).await?,
            Verdict::Right | Verdict::Wrong => None,
        };
        let arriving = Arriving {
            core: self.core.clone(),
            user,
            tenant,
            which,
            roaming: self.roaming,
            rehashed,
            replacement,
            opening: self.opening(&request),
            request,
        };
        let write = self.core.db.write(|tx| Box::pin(arriving.run(tx)));
        self.session(write.await??)
    }

    /// The user who has given their password, and how right it is; notes the failure otherwise.
    async fn recognize(&self, input: &Login, request: &RequestContext) -> Result<(Known, Verdict)> {
        // A user name has no @ in it, so that it is never an address.
        let name = match input.email.contains('@') {
            true => normalize_email(&input.email)?,
            false => normalize_username(&input.email).unwrap_or_default(),
        };
        self.throttle(&name, request.address)?;
        let (db, clock) = (&self.core.db, &self.core.clock);
        let known = self.known(&name).await?;
        // Failures are the account's, whichever of its names they came by.
        let account = known.as_ref().map_or(name, |user| user.email.clone());
        lockout::check(db, clock, &account).await?;
        let hash = known.as_ref().and_then(|user| user.hash.clone());
        let passwords = &self.core.identity.passwords;
        let verdict = passwords.verify(input.password.clone(), hash).await?;
        match known {
            Some(user)
                if user.active && verdict != Verdict::Wrong && !self.is_late(user.given_at) =>
            {
                Ok((user, verdict))
            }
            other => {
                let failed = lockout::fail(db, clock, &account).await?;
                let whose = (other.map(|user| user.id), account.as_str());
                self.note_failure(whose, input.tenant.clone(), request.clone(), failed);
                Err(invalid_credentials())
            }
        }
    }

    pub(super) fn session(
        &self,
        (family, refresh_token): (Family, SecretString),
    ) -> Result<Session> {
        let tokens = &self.core.identity.tokens;
        let (access_token, end) = tokens.issue(&family)?;
        Ok(Session {
            access_token,
            refresh_token,
            expires_in: tokens.seconds_until(end),
            user_id: family.user,
            tenant_id: family.tenant,
            password_score: None,
        })
    }

    /// Where a session is opened, and how long it may last.
    pub(super) fn opening(&self, request: &RequestContext) -> (Device, chrono::TimeDelta) {
        let lifetime = self.core.identity.refreshing.lifetime();
        (self.on_device_of(request), lifetime)
    }

    pub(super) fn on_device_of(&self, request: &RequestContext) -> Device {
        Device::new(request.address, self.user_agent.as_deref(), self.roaming)
    }

    fn throttle(&self, email: &str, address: Option<IpAddr>) -> Result<()> {
        self.core.identity.throttle.attempt(address, email)
    }

    async fn known(&self, name: &str) -> Result<Option<Known>> {
        let user = Sql::new(
            "SELECT id, email, password_hash, status, password_given_at FROM users \
             WHERE email = $1 OR username = $1",
        )
        .bind(name, ColumnType::Text)
        .returns(&[
            ColumnType::Uuid,
            ColumnType::Text,
            ColumnType::Text,
            ColumnType::Text,
            ColumnType::Instant,
        ]);
        let Some(mut row) = self.core.db.fetch_optional(user).await? else {
            return Ok(None);
        };
        Ok(Some(Known {
            id: row.uuid()?,
            email: row.text()?,
            hash: row.opt_text()?,
            active: row.text::<String>()? == "active",
            given_at: row.opt_instant()?,
        }))
    }

    /// A hash at today's cost beside the one it replaces; none when the password breaks today's
    /// rule, which a login must survive.
    async fn rehash(
        &self,
        password: SecretString,
        old: Option<String>,
    ) -> Result<Option<(String, String)>> {
        let Some(old) = old else { return Ok(None) };
        match self.core.identity.passwords.hash(password).await {
            Ok(new) => Ok(Some((old, new))),
            Err(Error::Invalid(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Audits a failed attempt in the one tenant it was about. What is about none, or about nobody,
    /// is told to the platform, with the address made unreadable: what does not exist is in no
    /// tenant.
    fn note_failure(
        &self,
        (user, account): (Option<UserId>, &str),
        tenant: Option<String>,
        request: RequestContext,
        failed: Failed,
    ) {
        let address = hex::encode(self.core.identity.address_digest(account));
        let accounts = self.clone();
        self.core.identity.afterwards(async move {
            let known = match user {
                Some(user) => {
                    let place = accounts.place(accounts.choices(user).await?, tenant);
                    place.ok().map(|place| (place, user))
                }
                None => None,
            };
            let clock = accounts.core.clock.clone();
            let write = accounts.core.db.write(move |tx| {
                Box::pin(async move {
                    let (tenant, user) = known.unzip();
                    let author = Author {
                        clock: &clock,
                        tenant: tenant.unwrap_or(PLATFORM),
                        actor: user.map_or(Actor::Anonymous, Actor::User),
                        request: &request,
                    };
                    let entity = || ("users", user.map(|user| user.to_string()));
                    let about = || user.is_none().then(|| json!({ "address": address }));
                    let action = "auth.login_failed";
                    journal::audit_by(tx, author, action, entity(), None, about()).await?;
                    match failed {
                        Failed::Noted => Ok(()),
                        Failed::Locked => {
                            let action = "auth.locked";
                            journal::audit_by(tx, author, action, entity(), None, about()).await
                        }
                    }
                })
            });
            write.await
        });
    }
}

/// The least multiple of a time that is not shorter than what has passed: also a refusal that had to wait
/// for its turn tells by its time no more than how long it waited.
fn times(passed: Duration, time: Duration) -> Duration {
    let times = passed.as_nanos().div_ceil(time.as_nanos().max(1)).max(1);
    time.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX))
}

impl Arriving {
    /// Lets them in, unless something more is awaited: that is no failure, and commits.
    async fn run(self, tx: &mut Tx<'_>) -> Result<Result<(Family, SecretString)>> {
        let (core, user) = (&self.core, self.user);
        // Failures that were judged at the same time count against this one too, whose password was right:
        // nobody learns that from its refusal.
        let locked = lockout::check_in(tx, &core.clock, &user.email).await;
        locked.map_err(|error| match error {
            Error::TooMany { .. } => invalid_credentials(),
            error => error,
        })?;
        if !keeps_hash(tx, core, user.id, user.hash).await? {
            return Err(invalid_credentials());
        }
        if let Some((old, new)) = self.rehashed {
            replace_hash(tx, user.id, old, new).await?;
        }
        let whose = (self.tenant, user.id);
        let reach = Reach {
            chosen: self.which.is_none(),
            roaming: self.roaming,
        };
        if let Some(awaited) = challenge(tx, core, whose, reach, self.replacement).await? {
            return Ok(Err(awaited));
        }
        // A strict login always waits there, but of who is no member any more.
        if core.identity.strict {
            return Err(invalid_credentials());
        }
        if let Some(which) = self.which {
            return Ok(Err(which));
        }
        let (device, lifetime) = &self.opening;
        let opened = open(tx, &core.clock, whose, *lifetime, device).await?;
        lockout::clear(tx, &user.email).await?;
        let request = &self.request;
        audit(tx, &core.clock, &opened.0, request, "auth.login", None).await?;
        Ok(Ok(opened))
    }
}

/// Begins a session of an active user.
pub(super) async fn open(
    tx: &mut Tx<'_>,
    clock: &Clock,
    (tenant, user): (TenantId, UserId),
    lifetime: chrono::TimeDelta,
    device: &Device,
) -> Result<(Family, SecretString)> {
    let seen = Sql::new("UPDATE users SET last_login_at = $1 WHERE id = $2 AND status = 'active'")
        .bind(clock.now(), ColumnType::Instant)
        .bind(user, ColumnType::Uuid);
    if tx.execute(seen).await? == 0 {
        return Err(invalid_credentials());
    }
    refresh::open(tx, clock, (tenant, user), lifetime, device).await
}

/// Notes that both factors were shown in a session: at its beginning, or since.
pub(super) async fn note_two_factors(tx: &mut Tx<'_>, session: FamilyId) -> Result<()> {
    let note = Sql::new("UPDATE refresh_families SET two_factors = $1 WHERE id = $2")
        .bind(true, ColumnType::Bool)
        .bind(session, ColumnType::Uuid);
    tx.execute(note).await?;
    Ok(())
}

/// Whether both factors were shown in a session.
pub(super) async fn passed_two_factors(tx: &mut Tx<'_>, scope: &Scope) -> Result<bool> {
    let passed = Sql::new("SELECT id FROM refresh_families WHERE id = $1 AND two_factors")
        .bind(scope.session(), ColumnType::Uuid)
        .returns(&[ColumnType::Uuid]);
    Ok(tx.fetch_optional(passed).await?.is_some())
}

/// Whether the password that was judged is the user's still, and stays so until the transaction
/// ends: a change that commits meanwhile would not know of the session. One that somebody else set
/// is the user's own by its use, unless the application authenticates strictly.
async fn keeps_hash(
    tx: &mut Tx<'_>,
    core: &Core,
    user: UserId,
    hash: Option<String>,
) -> Result<bool> {
    let hold = Sql::new(
        "UPDATE users SET password_given_at = CASE WHEN $3 THEN password_given_at END \
         WHERE id = $1 AND password_hash = $2",
    )
    .bind(user, ColumnType::Uuid)
    .bind(hash.unwrap_or_default(), ColumnType::Text)
    .bind(core.identity.strict, ColumnType::Bool);
    Ok(tx.execute(hold).await? > 0)
}

/// Stores a hash of the same password, unless the password has changed meanwhile.
async fn replace_hash(tx: &mut Tx<'_>, user: UserId, old: String, new: String) -> Result<()> {
    let replace =
        Sql::new("UPDATE users SET password_hash = $1 WHERE id = $2 AND password_hash = $3")
            .bind(new, ColumnType::Text)
            .bind(user, ColumnType::Uuid)
            .bind(old, ColumnType::Text);
    tx.execute(replace).await?;
    Ok(())
}

pub(super) async fn audit(
    tx: &mut Tx<'_>,
    clock: &Clock,
    family: &Family,
    request: &RequestContext,
    action: &str,
    after: Option<serde_json::Value>,
) -> Result<()> {
    let author = Author {
        clock,
        tenant: family.tenant,
        actor: Actor::User(family.user),
        request,
    };
    let entity = ("users", Some(family.user.to_string()));
    journal::audit_by(tx, author, action, entity, None, after).await
}

pub(super) fn invalid_credentials() -> Error {
    Error::unauthenticated("invalid_credentials", "e-mail or password is wrong")
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod uniform;
