//! Second factors: time-based codes and recovery codes, and the second step of a login.
//!
//! A login whose password was right gets a challenge, good for five minutes and five tries; a code of
//! the user's device, or one recovery code, opens the session. Each code works once. Setting up and
//! taking away ask for the password again. A tenant may require a second factor: who has none sets one
//! up in the middle of the login. A passkey takes the second step as well; who has one sets up no codes
//! there, since whoever knows only the password could.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use serde_json::json;

use super::account::Accounts;
use super::lockout;
use super::oidc;
use super::opaque;
use super::own::{self, Owner};
use super::passkey;
use super::refresh::{self, Device, Ended};
use super::session::{self, Session};
use super::totp;
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{ProviderId, TenantId, UserId};
use crate::journal::{self, Author};
use crate::mail::MailKind;
use crate::scope::{Actor, Permit, Read, RequestContext, Scope, Update};

const CHALLENGE_PREFIX: &str = "crm_mf_";
/// How long a login waits for its second step.
const CHALLENGE_LIFETIME: TimeDelta = TimeDelta::minutes(5);
/// Codes that may be tried per challenge.
const MOST_ATTEMPTS: i64 = 5;
/// Recovery codes that a user gets at a time.
const RECOVERY_CODES: usize = 10;
/// Random bytes of a recovery code: 120 bits, so that a plain hash protects it (ASVS 5, 6.5.2).
const RECOVERY_BYTES: usize = 15;
/// Longest text looked at as a code.
const MOST_CODE_BYTES: usize = 64;

/// A new secret for an authenticator application; shown once.
#[derive(Debug, Clone)]
pub struct TotpSecret {
    /// In base32, to type.
    pub secret: SecretString,
    /// As an `otpauth:` URI, for a QR code.
    pub uri: SecretString,
}

/// A factor as it is stored.
struct Factor {
    secret: Vec<u8>,
    confirmed: bool,
}

/// What came of the second step of a login.
pub(super) enum Step {
    Opened((super::refresh::Family, SecretString)),
    Wrong,
    Unknown,
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
        self.new_secret(owner.id, owner.email, scope.tenant()).await
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
                    return Err(wrong_code());
                }
                switch_on(tx, &core, owner.id).await?;
                if let Some(session) = scope.session() {
                    session::note_two_factors(tx, session).await?;
                }
                let codes = replace_codes(tx, &core, owner.id).await?;
                tell(tx, &core, &owner, scope.request(), "auth.totp_enabled").await?;
                Ok(codes)
            })
        });
        let codes = write.await?;
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
                spend(tx, &core, &scope, owner.id, &code).await?;
                for delete in [
                    Sql::new("DELETE FROM totp_factors WHERE user_id = $1"),
                    Sql::new("DELETE FROM recovery_codes WHERE user_id = $1"),
                ] {
                    tx.execute(delete.bind(owner.id, ColumnType::Uuid)).await?;
                }
                tell(tx, &core, &owner, scope.request(), "auth.totp_disabled").await
            })
        });
        write.await?;
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
                spend(tx, &core, &scope, owner.id, &code).await?;
                let codes = replace_codes(tx, &core, owner.id).await?;
                let action = "auth.recovery_codes_renewed";
                own::audit(tx, &core.clock, owner.id, scope.request(), action).await?;
                Ok(codes)
            })
        });
        write.await
    }

    /// Opens the session of a login whose password was right, with a code of the device or a recovery
    /// code. For who had to set a factor up, the code confirms it.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `mfa_token` for one that is unknown, used, older than five minutes or
    /// was tried five times; on `code`; [`Error::TooMany`].
    pub async fn finish_login(
        &self,
        challenge: SecretString,
        code: &str,
        request: RequestContext,
    ) -> Result<Session> {
        self.limit("mfa", "", &request)?;
        let (core, code) = (self.core.clone(), code.to_owned());
        let opening = self.opening(&request);
        // A failed try is no failure of the transaction: its count must commit.
        let write = self.core.db.write(move |tx| {
            Box::pin(
                async move { second_step(tx, &core, (&challenge, &code), opening, &request).await },
            )
        });
        match write.await? {
            Step::Opened(opened) => self.session(opened),
            Step::Wrong => Err(wrong_code()),
            Step::Unknown => Err(unknown_challenge()),
        }
    }

    /// Makes a secret in the middle of a login, for a user without a second factor whose tenant
    /// requires one.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `mfa_token`; [`Error::Conflict`] `second_factor_exists`.
    pub async fn enroll_at_login(
        &self,
        challenge: &SecretString,
        request: &RequestContext,
    ) -> Result<TotpSecret> {
        self.limit("mfa", "", request)?;
        let find = Sql::new(
            "SELECT c.tenant_id, c.user_id, u.email FROM login_challenges c \
             JOIN users u ON u.id = c.user_id \
             WHERE c.hash = $1 AND c.expires_at > $2 AND c.provider_id IS NULL",
        )
        .bind(opaque::hash(challenge), ColumnType::Bytes)
        .bind(self.core.clock.now(), ColumnType::Instant)
        .returns(&[ColumnType::Uuid, ColumnType::Uuid, ColumnType::Text]);
        let row = self.core.db.fetch_optional(find).await?;
        let mut row = row.ok_or_else(unknown_challenge)?;
        let (tenant, user, email) = (row.uuid()?, row.uuid()?, row.text()?);
        if passkey::exists(&self.core.db, user).await? {
            return Err(exists());
        }
        self.new_secret(user, email, tenant).await
    }

    /// Whose login waits for its second step.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `mfa_token`.
    #[cfg(feature = "passkeys")]
    pub(super) async fn waiting_user(&self, challenge: &SecretString) -> Result<UserId> {
        let find = Sql::new(
            "SELECT user_id FROM login_challenges \
             WHERE hash = $1 AND expires_at > $2 AND attempts < $3",
        )
        .bind(opaque::hash(challenge), ColumnType::Bytes)
        .bind(self.core.clock.now(), ColumnType::Instant)
        .bind(MOST_ATTEMPTS, ColumnType::Int)
        .returns(&[ColumnType::Uuid]);
        let row = self.core.db.fetch_optional(find).await?;
        row.ok_or_else(unknown_challenge)?.uuid()
    }

    /// Whether the tenant lets members in only with a second factor.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a permit of another object than `members`.
    pub async fn requires_second_factor(&self, permit: &Permit<Read>) -> Result<bool> {
        let scope = permit.on("members")?;
        let read = Sql::new("SELECT requires_second_factor FROM tenants WHERE id = $1")
            .bind(scope.tenant(), ColumnType::Uuid)
            .returns(&[ColumnType::Bool]);
        let row = self.core.db.fetch_optional(read).await?;
        row.ok_or(Error::NotFound)?.bool()
    }

    /// Lets members in only with a second factor, or without one again. Sessions that began without one
    /// end, the caller's too; API keys go on. Who has no factor sets one up at the next login.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a permit of another object than `members`.
    pub async fn require_second_factor(
        &self,
        permit: &Permit<Update>,
        required: bool,
    ) -> Result<()> {
        let scope = permit.on("members")?.clone();
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let set = Sql::new(
                    "UPDATE tenants SET requires_second_factor = $1 \
                         WHERE id = $2 AND requires_second_factor <> $1",
                )
                .bind(required, ColumnType::Bool)
                .bind(scope.tenant(), ColumnType::Uuid);
                if tx.execute(set).await? == 0 {
                    return Ok(Vec::new());
                }
                let ended = match required {
                    true => {
                        let unproven = Ended::Unproven(scope.tenant());
                        refresh::end(tx, scope.clock(), unproven).await?
                    }
                    false => Vec::new(),
                };
                let entity = ("tenants", Some(scope.tenant().to_string()));
                let after = json!({
                    "requires_second_factor": required, "sessions_ended": ended.len(),
                });
                let action = "tenants.update";
                journal::audit(tx, &scope, action, entity, None, Some(after)).await?;
                Ok(ended)
            })
        });
        self.forget(write.await?);
        Ok(())
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
                let mut removed = passkey::remove_all(tx, owner.id).await?;
                for delete in [
                    Sql::new("DELETE FROM totp_factors WHERE user_id = $1"),
                    Sql::new("DELETE FROM recovery_codes WHERE user_id = $1"),
                ] {
                    removed += tx.execute(delete.bind(owner.id, ColumnType::Uuid)).await?;
                }
                if removed == 0 {
                    return Err(Error::NotFound);
                }
                tell(tx, &core, &owner, &request, "auth.totp_reset").await
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

    async fn new_secret(
        &self,
        user: UserId,
        email: String,
        tenant: TenantId,
    ) -> Result<TotpSecret> {
        let core = self.core.clone();
        let bytes = core.clock.random::<{ totp::SECRET_BYTES }>();
        let issuer = Sql::new("SELECT name FROM tenants WHERE id = $1")
            .bind(tenant, ColumnType::Uuid)
            .returns(&[ColumnType::Text]);
        let issuer = core.db.fetch_optional(issuer).await?;
        let issuer: String = issuer.ok_or(Error::NotFound)?.text()?;
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
        let stored = core
            .db
            .write(move |tx| Box::pin(async move { tx.execute(store).await }));
        if stored.await? == 0 {
            return Err(exists());
        }
        let secret = totp::base32(&bytes);
        Ok(TotpSecret {
            // The platform's name begins with a space, as no tenant's does.
            uri: totp::uri(issuer.trim(), &email, &secret).into(),
            secret: secret.into(),
        })
    }
}

/// Begins the second step of a login where one is needed: a factor is set up, or the tenant requires
/// one.
pub(super) async fn challenge(
    tx: &mut Tx<'_>,
    core: &Core,
    (tenant, user): (TenantId, UserId),
    roaming: bool,
) -> Result<Option<Error>> {
    challenge_by(tx, core, (tenant, user), roaming, None).await
}

/// As [`challenge`], for a login that a tenant's provider vouches for; with whether the provider asked
/// for a second factor that the tenant counts as its own.
///
/// A factor is the user's in every tenant: nobody sets one up by one tenant's word.
pub(super) async fn challenge_by(
    tx: &mut Tx<'_>,
    core: &Core,
    (tenant, user): (TenantId, UserId),
    roaming: bool,
    provider: Option<(ProviderId, bool)>,
) -> Result<Option<Error>> {
    let with_codes = has_codes(tx, user).await?;
    let passkey = passkey::exists_in(tx, user).await?;
    // A roaming session opens all of the user's tenants.
    let required = Sql::new(
        "SELECT t.id FROM memberships m JOIN tenants t ON t.id = m.tenant_id \
         WHERE m.user_id = $1 AND (m.tenant_id = $2 OR $3) AND t.requires_second_factor LIMIT 1",
    )
    .bind(user, ColumnType::Uuid)
    .bind(tenant, ColumnType::Uuid)
    .bind(roaming, ColumnType::Bool)
    .returns(&[ColumnType::Uuid]);
    if !with_codes {
        if matches!(provider, Some((_, true))) || tx.fetch_optional(required).await?.is_none() {
            return Ok(None);
        }
        if provider.is_some() && !passkey {
            return Ok(Some(Error::conflict(
                "second_factor_missing",
                "this tenant asks for a second factor and you have none; log in with your password \
                 to set one up",
            )));
        }
    }
    let now = core.clock.now();
    let ended = Sql::new(
        "DELETE FROM login_challenges WHERE tenant_id = $1 AND user_id = $2 AND expires_at <= $3",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(user, ColumnType::Uuid)
    .bind(now, ColumnType::Instant);
    tx.execute(ended).await?;
    let token = opaque::generate(&core.clock, CHALLENGE_PREFIX);
    let insert = Sql::new(
        "INSERT INTO login_challenges (hash, tenant_id, user_id, expires_at, provider_id) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(opaque::hash(&token), ColumnType::Bytes)
    .bind(tenant, ColumnType::Uuid)
    .bind(user, ColumnType::Uuid)
    .bind(now + CHALLENGE_LIFETIME, ColumnType::Instant)
    .bind(provider.map(|(id, _)| id), ColumnType::Uuid);
    tx.execute(insert).await?;
    Ok(Some(Error::SecondFactor {
        token,
        enrolled: with_codes || passkey,
        passkey,
    }))
}

/// A login that waits for its second step, of which one try has been counted.
pub(super) struct Waiting {
    hash: Vec<u8>,
    tenant: TenantId,
    pub(super) user: UserId,
    email: String,
    /// The tenant's provider that vouched for the first step.
    provider: Option<ProviderId>,
}

/// Counts a try of the second step; none for a login that is unknown, late, or was tried too often.
///
/// # Errors
/// [`Error::TooMany`].
pub(super) async fn try_step(
    tx: &mut Tx<'_>,
    core: &Core,
    challenge: &SecretString,
) -> Result<Option<Waiting>> {
    let hash = opaque::hash(challenge);
    let attempt = Sql::new(
        "UPDATE login_challenges SET attempts = attempts + 1 \
         WHERE hash = $1 AND expires_at > $2 AND attempts < $3 \
         RETURNING tenant_id, user_id, (SELECT email FROM users WHERE id = user_id), provider_id",
    )
    .bind(hash.clone(), ColumnType::Bytes)
    .bind(core.clock.now(), ColumnType::Instant)
    .bind(MOST_ATTEMPTS, ColumnType::Int)
    .returns(&[
        ColumnType::Uuid,
        ColumnType::Uuid,
        ColumnType::Text,
        ColumnType::Uuid,
    ]);
    let Some(mut row) = tx.fetch_optional(attempt).await? else {
        return Ok(None);
    };
    let (tenant, user): (TenantId, UserId) = (row.uuid()?, row.uuid()?);
    let email: String = row.text()?;
    let provider: Option<ProviderId> = row.opt_uuid()?;
    if let Some(provider) = provider
        && !oidc::hold(tx, core, (tenant, provider)).await?
    {
        return Ok(None);
    }
    core.identity
        .throttle
        .attempt(None, &format!("code {user}"))?;
    lockout::check_in(tx, &core.clock, &email).await?;
    Ok(Some(Waiting {
        hash,
        tenant,
        user,
        email,
        provider,
    }))
}

impl Waiting {
    fn author<'a>(&self, core: &'a Core, request: &'a RequestContext) -> Author<'a> {
        Author {
            clock: &core.clock,
            tenant: self.tenant,
            actor: Actor::User(self.user),
            request,
        }
    }

    /// Notes a wrong answer.
    pub(super) async fn fail(
        self,
        tx: &mut Tx<'_>,
        core: &Core,
        request: &RequestContext,
    ) -> Result<Step> {
        let (author, action) = (self.author(core, request), "auth.second_factor_failed");
        let entity = ("users", Some(self.user.to_string()));
        journal::audit_by(tx, author, action, entity, None, None).await?;
        lockout::fail_in(tx, &core.clock, &self.email).await?;
        Ok(Step::Wrong)
    }

    /// Finishes the login, by `how`.
    pub(super) async fn pass(
        self,
        tx: &mut Tx<'_>,
        core: &Core,
        how: &'static str,
        (device, lifetime): (Device, TimeDelta),
        request: &RequestContext,
    ) -> Result<Step> {
        let author = self.author(core, request);
        let used = Sql::new("DELETE FROM login_challenges WHERE hash = $1");
        tx.execute(used.bind(self.hash.clone(), ColumnType::Bytes))
            .await?;
        let whose = (self.tenant, self.user);
        let device = match self.provider {
            Some(provider) => device.vouched_by(provider),
            None => device,
        };
        let opened = session::open(tx, &core.clock, whose, lifetime, &device).await?;
        session::note_two_factors(tx, opened.0.id).await?;
        lockout::clear(tx, &self.email).await?;
        let entity = ("users", Some(self.user.to_string()));
        let after = Some(json!({ "second_factor": how }));
        journal::audit_by(tx, author, "auth.login", entity, None, after).await?;
        Ok(Step::Opened(opened))
    }
}

async fn second_step(
    tx: &mut Tx<'_>,
    core: &Core,
    (challenge, code): (&SecretString, &str),
    opening: (Device, TimeDelta),
    request: &RequestContext,
) -> Result<Step> {
    let Some(waiting) = try_step(tx, core, challenge).await? else {
        return Ok(Step::Unknown);
    };
    let user = waiting.user;
    let enrols = factor(tx, core, user)
        .await?
        .is_some_and(|factor| !factor.confirmed);
    let Some(how) = passes(tx, core, user, code).await? else {
        return waiting.fail(tx, core, request).await;
    };
    if enrols {
        let owner = tx.fetch_optional(Owner::by_id(user)).await?;
        let owner = Owner::read(owner.ok_or_else(unknown_challenge)?)?;
        tell(tx, core, &owner, request, "auth.totp_enabled").await?;
    }
    waiting.pass(tx, core, how, opening, request).await
}

/// By what a code passes: the device, a recovery code, or the device that it confirms.
async fn passes(
    tx: &mut Tx<'_>,
    core: &Core,
    user: UserId,
    code: &str,
) -> Result<Option<&'static str>> {
    let Some(factor) = factor(tx, core, user).await? else {
        return Ok(None);
    };
    // Whoever has a passkey confirms codes in a session, not by knowing the password.
    if !factor.confirmed && passkey::exists_in(tx, user).await? {
        return Ok(None);
    }
    if use_totp(tx, core, user, &factor, code).await? {
        if !factor.confirmed {
            switch_on(tx, core, user).await?;
        }
        return Ok(Some("totp"));
    }
    let recovered = factor.confirmed && use_recovery_code(tx, user, code).await?;
    Ok(recovered.then_some("recovery_code"))
}

/// Spends a code of a user whose factor is on; the session has passed it from now on.
pub(super) async fn spend(
    tx: &mut Tx<'_>,
    core: &Core,
    scope: &Scope,
    user: UserId,
    code: &str,
) -> Result<()> {
    let factor = factor(tx, core, user).await?;
    if !factor.is_some_and(|factor| factor.confirmed) {
        return Err(none());
    }
    if passes(tx, core, user, code).await?.is_none() {
        return Err(wrong_code());
    }
    match scope.session() {
        Some(session) => session::note_two_factors(tx, session).await,
        None => Ok(()),
    }
}

/// Whether the user's time-based codes are on.
pub(super) async fn has_codes(tx: &mut Tx<'_>, user: UserId) -> Result<bool> {
    let find = Sql::new(
        "SELECT user_id FROM totp_factors WHERE user_id = $1 AND confirmed_at IS NOT NULL",
    )
    .bind(user, ColumnType::Uuid)
    .returns(&[ColumnType::Uuid]);
    Ok(tx.fetch_optional(find).await?.is_some())
}

async fn factor(tx: &mut Tx<'_>, core: &Core, user: UserId) -> Result<Option<Factor>> {
    let find = Sql::new("SELECT sealed, confirmed_at FROM totp_factors WHERE user_id = $1")
        .bind(user, ColumnType::Uuid)
        .returns(&[ColumnType::Bytes, ColumnType::Instant]);
    let Some(mut row) = tx.fetch_optional(find).await? else {
        return Ok(None);
    };
    let sealed: Vec<u8> = row.bytes()?;
    let secret = core.identity.seal.open(&label(user), &sealed);
    Ok(Some(Factor {
        // Sealed under a secret that is gone: the operator takes the factor away.
        secret: secret.ok_or_else(|| Error::Inconsistent {
            table: "totp_factors".into(),
            column: "sealed".into(),
        })?,
        confirmed: row.opt_instant::<DateTime<Utc>>()?.is_some(),
    }))
}

fn label(user: UserId) -> String {
    format!("totp:{user}")
}

/// Uses a code of the device, once and never one of an earlier step again (RFC 6238 §5.2).
async fn use_totp(
    tx: &mut Tx<'_>,
    core: &Core,
    user: UserId,
    factor: &Factor,
    code: &str,
) -> Result<bool> {
    let code = code.trim();
    if !totp::is_code(code) {
        return Ok(false);
    }
    let Some(step) = totp::step_of(&factor.secret, code, core.clock.now()) else {
        return Ok(false);
    };
    let advance =
        Sql::new("UPDATE totp_factors SET last_step = $1 WHERE user_id = $2 AND last_step < $1")
            .bind(step, ColumnType::Int)
            .bind(user, ColumnType::Uuid);
    Ok(tx.execute(advance).await? > 0)
}

async fn use_recovery_code(tx: &mut Tx<'_>, user: UserId, code: &str) -> Result<bool> {
    if code.len() > MOST_CODE_BYTES {
        return Ok(false);
    }
    let delete = Sql::new("DELETE FROM recovery_codes WHERE user_id = $1 AND hash = $2")
        .bind(user, ColumnType::Uuid)
        .bind(opaque::hash(&plain(code).into()), ColumnType::Bytes);
    Ok(tx.execute(delete).await? > 0)
}

/// A recovery code as hashed: without what people add to read it.
fn plain(code: &str) -> String {
    let letters = code.chars().filter(|char| char.is_ascii_alphanumeric());
    letters.map(|char| char.to_ascii_uppercase()).collect()
}

async fn switch_on(tx: &mut Tx<'_>, core: &Core, user: UserId) -> Result<()> {
    let set = Sql::new("UPDATE totp_factors SET confirmed_at = $1 WHERE user_id = $2")
        .bind(core.clock.now(), ColumnType::Instant)
        .bind(user, ColumnType::Uuid);
    tx.execute(set).await?;
    Ok(())
}

async fn replace_codes(tx: &mut Tx<'_>, core: &Core, user: UserId) -> Result<Vec<SecretString>> {
    let delete = Sql::new("DELETE FROM recovery_codes WHERE user_id = $1");
    tx.execute(delete.bind(user, ColumnType::Uuid)).await?;
    let mut codes = Vec::new();
    for _ in 0..RECOVERY_CODES {
        let text = totp::base32(&core.clock.random::<RECOVERY_BYTES>());
        let insert = Sql::new("INSERT INTO recovery_codes (user_id, hash) VALUES ($1, $2)")
            .bind(user, ColumnType::Uuid)
            .bind(opaque::hash(&text.as_str().into()), ColumnType::Bytes);
        tx.execute(insert).await?;
        codes.push(grouped(&text).into());
    }
    Ok(codes)
}

/// Letters in groups of four.
fn grouped(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let groups = letters.chunks(4).map(String::from_iter);
    groups.collect::<Vec<String>>().join("-")
}

async fn tell(
    tx: &mut Tx<'_>,
    core: &Core,
    owner: &Owner,
    request: &RequestContext,
    action: &str,
) -> Result<()> {
    let to = (owner.email.as_str(), owner.name.as_str());
    own::notify(tx, core, MailKind::SecondFactorChanged, to).await?;
    own::audit(tx, &core.clock, owner.id, request, action).await
}

fn none() -> Error {
    let message = "there is no second factor; set one up first";
    Error::conflict("no_second_factor", message)
}

fn exists() -> Error {
    let message = "there is a second factor already; take it away first";
    Error::conflict("second_factor_exists", message)
}

fn wrong_code() -> Error {
    let message = "The code is wrong, out of date or used; take the next one of your device.";
    Error::invalid("code", "wrong_code", message)
}

pub(super) fn unknown_challenge() -> Error {
    let message = "This login is unknown, finished or out of date; log in again.";
    Error::invalid("mfa_token", "invalid_token", message)
}
