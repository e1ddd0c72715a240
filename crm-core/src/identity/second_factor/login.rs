//! The second step of a login: awaited, tried, and passed.

use chrono::TimeDelta;
use secrecy::SecretString;
use serde_json::json;

use super::codes::{factor, has_codes, passes, wrong_code};
use super::{TotpSecret, exists};
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{FamilyId, ProviderId, TenantId, UserId};
use crate::identity::account::Accounts;
use crate::identity::first_password::replace_given;
use crate::identity::lockout::{self, Failed};
use crate::identity::own::{self, Owner};
use crate::identity::refresh::{Device, Family};
use crate::identity::session::{self, Session};
use crate::identity::{oidc, opaque, passkey};
use crate::journal::{self, Author};
use crate::mail::MailKind;
use crate::platform::PLATFORM;
use crate::scope::{Actor, RequestContext};

const CHALLENGE_PREFIX: &str = "crm_mf_";
/// How long a login waits for its second step.
const CHALLENGE_LIFETIME: TimeDelta = TimeDelta::minutes(5);
/// Codes that may be tried per challenge.
const MOST_ATTEMPTS: i64 = 5;

/// The second step of a login.
#[derive(Debug, Clone)]
pub struct LoginFinish {
    /// The token that the first step answered.
    pub token: SecretString,
    /// A code of the device or a recovery code; not needed any more where the tenant alone is
    /// missing.
    pub code: Option<String>,
    /// The tenant's name; needed only by members of several who named none of them before.
    pub tenant: Option<String>,
}

/// Where a login whose password was right leads.
#[derive(Debug, Clone, Copy)]
pub(in crate::identity) struct Reach {
    /// Whether to the tenant: otherwise one is chosen after the second factor, and until then it is
    /// any of the user's.
    pub(in crate::identity) chosen: bool,
    /// Whether from there to all of the user's.
    pub(in crate::identity) roaming: bool,
}

impl Reach {
    /// To one tenant alone.
    pub(in crate::identity) const TENANT: Self = Self {
        chosen: true,
        roaming: false,
    };
}

/// What came of the second step of a login.
pub(in crate::identity) enum Step {
    /// With the sessions that ended with the password that was replaced.
    Opened((Family, SecretString), Vec<FamilyId>),
    Wrong,
    /// Something more is asked for; what was passed is noted.
    Asked(Error),
    Unknown,
}

impl Accounts {
    /// Opens the session of a login whose password was right, with a code of the device or a
    /// recovery code. For who had to set a factor up, the code confirms it.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `mfa_token` for one that is unknown, used, older than five minutes or
    /// was tried five times; on `code`; on `tenant`, listing the user's own tenants, when the code was
    /// right and the tenant is missing or not one of them, which leaves the token good for another try
    /// without a code; [`Error::TooMany`].
    pub async fn finish_login(
        &self,
        finish: LoginFinish,
        request: RequestContext,
    ) -> Result<Session> {
        self.limit("mfa", "", &request)?;
        let core = self.core.clone();
        let opening = self.opening(&request);
        // A failed try is no failure of the transaction: its count must commit.
        let write = self.core.db.write(move |tx| {
            Box::pin(async move { second_step(tx, &core, &finish, opening, &request).await })
        });
        match write.await? {
            Step::Opened(opened, ended) => self.finished(opened, ended),
            Step::Wrong => Err(wrong_code()),
            Step::Asked(more) => Err(more),
            Step::Unknown => Err(unknown_challenge()),
        }
    }

    /// The session that a second step opened, once those that ended by it are forgotten.
    pub(in crate::identity) fn finished(
        &self,
        opened: (Family, SecretString),
        ended: Vec<FamilyId>,
    ) -> Result<Session> {
        self.forget(ended);
        self.core.post.wake();
        self.session(opened)
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
            "SELECT c.user_id, u.email FROM login_challenges c JOIN users u ON u.id = c.user_id \
             WHERE c.hash = $1 AND c.expires_at > $2 AND c.provider_id IS NULL",
        )
        .bind(opaque::hash(challenge), ColumnType::Bytes)
        .bind(self.core.clock.now(), ColumnType::Instant)
        .returns(&[ColumnType::Uuid, ColumnType::Text]);
        let row = self.core.db.fetch_optional(find).await?;
        let mut row = row.ok_or_else(unknown_challenge)?;
        let (user, email) = (row.uuid()?, row.text()?);
        if passkey::exists(&self.core.db, user).await? {
            return Err(exists());
        }
        self.new_secret(user, email).await
    }

    /// Whose login waits for its second step.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `mfa_token`.
    #[cfg(feature = "passkeys")]
    pub(in crate::identity) async fn waiting_user(
        &self,
        challenge: &SecretString,
    ) -> Result<UserId> {
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
}

/// Begins the second step of a login where one is needed: a factor is set up, or the tenant
/// requires one. The password whose hash is given takes the place of the present one with the
/// session.
pub(in crate::identity) async fn challenge(
    tx: &mut Tx<'_>,
    core: &Core,
    (tenant, user): (TenantId, UserId),
    reach: Reach,
    replacement: Option<(u8, String)>,
) -> Result<Option<Error>> {
    let awaited = challenge_by(tx, core, (tenant, user), reach, None).await?;
    let (score, hash) = replacement.unzip();
    let awaited = awaited.map(|awaited| scored(awaited, score));
    if let (Some(Error::SecondFactor { token, .. }), Some(hash)) = (&awaited, hash) {
        let keep = Sql::new("UPDATE login_challenges SET password_hash = $1 WHERE hash = $2")
            .bind(hash, ColumnType::Text)
            .bind(opaque::hash(token), ColumnType::Bytes);
        tx.execute(keep).await?;
    }
    Ok(awaited)
}

/// The same second step, told with the strength of the password that was set with the first.
pub(in crate::identity) fn scored(awaited: Error, score: Option<u8>) -> Error {
    match awaited {
        Error::SecondFactor {
            token,
            enrolled,
            passkey,
            ..
        } => Error::SecondFactor {
            token,
            enrolled,
            passkey,
            password_score: score,
        },
        other => other,
    }
}

/// As [`challenge`], for a login that a tenant's provider vouches for; with whether the provider
/// asked for a second factor that the tenant counts as its own.
///
/// A factor is the user's in every tenant: nobody sets one up by one tenant's word.
pub(in crate::identity) async fn challenge_by(
    tx: &mut Tx<'_>,
    core: &Core,
    (tenant, user): (TenantId, UserId),
    reach: Reach,
    provider: Option<(ProviderId, bool)>,
) -> Result<Option<Error>> {
    let with_codes = has_codes(tx, user).await?;
    let passkey = passkey::exists_in(tx, user).await?;
    // A roaming session opens all of the user's tenants, and a choice names them.
    let required = Sql::new(
        "SELECT t.id FROM memberships m JOIN tenants t ON t.id = m.tenant_id \
         WHERE m.user_id = $1 AND (m.tenant_id = $2 OR $3) AND (t.requires_second_factor OR $4) \
         LIMIT 1",
    )
    .bind(user, ColumnType::Uuid)
    .bind(tenant, ColumnType::Uuid)
    .bind(reach.roaming || !reach.chosen, ColumnType::Bool)
    .bind(core.identity.strict, ColumnType::Bool)
    .returns(&[ColumnType::Uuid]);
    // Who shows a passkey elsewhere shows it to be told of their tenants too.
    let asked = with_codes || (passkey && !reach.chosen);
    if !asked {
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
    let token = opaque::generate(&core.clock, CHALLENGE_PREFIX);
    let insert = Sql::new(
        "INSERT INTO login_challenges (hash, tenant_id, user_id, expires_at, provider_id, chosen, \
         roaming) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(opaque::hash(&token), ColumnType::Bytes)
    .bind(tenant, ColumnType::Uuid)
    .bind(user, ColumnType::Uuid)
    .bind(now + CHALLENGE_LIFETIME, ColumnType::Instant)
    .bind(provider.map(|(id, _)| id), ColumnType::Uuid)
    .bind(reach.chosen, ColumnType::Bool)
    .bind(reach.roaming, ColumnType::Bool);
    tx.execute(insert).await?;
    Ok(Some(Error::SecondFactor {
        token,
        enrolled: with_codes || passkey,
        passkey,
        password_score: None,
    }))
}

/// Forgets logins whose second step comes too late, and the passwords that they brought.
pub(crate) async fn forget_late_logins(core: &Core) -> Result<()> {
    let now = core.clock.now();
    let late = Sql::new("SELECT hash FROM login_challenges WHERE expires_at <= $1 LIMIT 1")
        .bind(now, ColumnType::Instant)
        .returns(&[ColumnType::Bytes]);
    if core.db.fetch_optional(late).await?.is_none() {
        return Ok(());
    }
    let late = Sql::new("DELETE FROM login_challenges WHERE expires_at <= $1")
        .bind(now, ColumnType::Instant);
    core.db.execute(late).await.map(drop)
}

/// A login that waits for its second step, of which one try has been counted.
pub(in crate::identity) struct Waiting {
    hash: Vec<u8>,
    tenant: TenantId,
    /// What was asked for with the password.
    reach: Reach,
    /// How the second factor was passed before.
    passed: Option<String>,
    pub(in crate::identity) user: UserId,
    email: String,
    /// The tenant's provider that vouched for the first step.
    provider: Option<ProviderId>,
    /// The hash of the password that takes the place of the present one.
    replacement: Option<String>,
}

/// Counts a try of the second step; none for a login that is unknown, late, or was tried too often.
///
/// # Errors
/// [`Error::TooMany`].
pub(in crate::identity) async fn try_step(
    tx: &mut Tx<'_>,
    core: &Core,
    challenge: &SecretString,
) -> Result<Option<Waiting>> {
    let hash = opaque::hash(challenge);
    let attempt = Sql::new(
        "UPDATE login_challenges SET attempts = attempts + 1 \
         WHERE hash = $1 AND expires_at > $2 AND attempts < $3 \
         RETURNING tenant_id, user_id, (SELECT email FROM users WHERE id = user_id), provider_id, \
         chosen, roaming, passed, password_hash",
    )
    .bind(hash.clone(), ColumnType::Bytes)
    .bind(core.clock.now(), ColumnType::Instant)
    .bind(MOST_ATTEMPTS, ColumnType::Int)
    .returns(&[
        ColumnType::Uuid,
        ColumnType::Uuid,
        ColumnType::Text,
        ColumnType::Uuid,
        ColumnType::Bool,
        ColumnType::Bool,
        ColumnType::Text,
        ColumnType::Text,
    ]);
    let Some(mut row) = tx.fetch_optional(attempt).await? else {
        return Ok(None);
    };
    let (tenant, user): (TenantId, UserId) = (row.uuid()?, row.uuid()?);
    let email: String = row.text()?;
    let provider: Option<ProviderId> = row.opt_uuid()?;
    let reach = Reach {
        chosen: row.bool()?,
        roaming: row.bool()?,
    };
    let (passed, replacement) = (row.opt_text()?, row.opt_text()?);
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
        reach,
        passed,
        user,
        email,
        provider,
        replacement,
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

    /// Notes a wrong answer, in the tenant that it was about. What is about none is told to the
    /// platform, with the address made unreadable.
    pub(in crate::identity) async fn fail(
        self,
        tx: &mut Tx<'_>,
        core: &Core,
        request: &RequestContext,
    ) -> Result<Step> {
        let action = "auth.second_factor_failed";
        let mut author = self.author(core, request);
        let mut user = Some(self.user.to_string());
        let mut after = None;
        if !self.reach.chosen {
            (author.tenant, author.actor, user) = (PLATFORM, Actor::Anonymous, None);
            let address = core.identity.address_digest(&self.email);
            after = Some(json!({ "address": hex::encode(address) }));
        }
        let entity = || ("users", user.clone());
        journal::audit_by(tx, author, action, entity(), None, after.clone()).await?;
        if lockout::fail_in(tx, &core.clock, &self.email).await? == Failed::Locked {
            journal::audit_by(tx, author, "auth.locked", entity(), None, after).await?;
        }
        Ok(Step::Wrong)
    }

    /// Finishes the login, by `how`, in the tenant that is named where it was not before; asks
    /// which otherwise. The session reaches as far as the login asked for, whatever `device` says.
    pub(in crate::identity) async fn pass(
        mut self,
        tx: &mut Tx<'_>,
        core: &Core,
        (how, named): (&str, Option<&str>),
        (mut device, lifetime): (Device, TimeDelta),
        request: &RequestContext,
    ) -> Result<Step> {
        if !self.reach.chosen {
            match session::choose_in(tx, self.user, named).await {
                Ok(tenant) => self.tenant = tenant,
                Err(which @ Error::Invalid(_)) => {
                    self.note_passed(tx, how).await?;
                    return Ok(Step::Asked(which));
                }
                Err(error) => return Err(error),
            }
        }
        let replacement = self.replacement.take();
        let author = self.author(core, request);
        let used = Sql::new("DELETE FROM login_challenges WHERE hash = $1");
        tx.execute(used.bind(self.hash.clone(), ColumnType::Bytes))
            .await?;
        let ended = match replacement {
            Some(hash) => replace_given(tx, core, self.user, hash, request).await?,
            None => Vec::new(),
        };
        let whose = (self.tenant, self.user);
        device.roaming = self.reach.roaming;
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
        Ok(Step::Opened(opened, ended))
    }

    /// Notes that only the tenant is missing.
    async fn note_passed(&self, tx: &mut Tx<'_>, how: &str) -> Result<()> {
        let note = Sql::new("UPDATE login_challenges SET passed = $1 WHERE hash = $2")
            .bind(how, ColumnType::Text)
            .bind(self.hash.clone(), ColumnType::Bytes);
        tx.execute(note).await?;
        Ok(())
    }
}

async fn second_step(
    tx: &mut Tx<'_>,
    core: &Core,
    finish: &LoginFinish,
    opening: (Device, TimeDelta),
    request: &RequestContext,
) -> Result<Step> {
    let Some(waiting) = try_step(tx, core, &finish.token).await? else {
        return Ok(Step::Unknown);
    };
    let (user, named) = (waiting.user, finish.tenant.as_deref());
    if let Some(how) = waiting.passed.clone() {
        return waiting
            .pass(tx, core, (&how, named), opening, request)
            .await;
    }
    let Some(code) = &finish.code else {
        let message = "Give a code of your second factor.";
        return Ok(Step::Asked(Error::invalid("code", "required", message)));
    };
    let enrols = factor(tx, core, user)
        .await?
        .is_some_and(|factor| !factor.confirmed);
    let Some(how) = passes(tx, core, user, code).await? else {
        return waiting.fail(tx, core, request).await;
    };
    if enrols {
        let owner = tx.fetch_optional(Owner::by_id(user)).await?;
        let owner = Owner::read(owner.ok_or_else(unknown_challenge)?)?;
        let told = (MailKind::SecondFactorChanged, "auth.totp_enabled");
        own::tell(tx, core, &owner, request, told).await?;
    }
    waiting.pass(tx, core, (how, named), opening, request).await
}

pub(in crate::identity) fn unknown_challenge() -> Error {
    let message = "This login is unknown, finished or out of date; log in again.";
    Error::invalid("mfa_token", "invalid_token", message)
}
