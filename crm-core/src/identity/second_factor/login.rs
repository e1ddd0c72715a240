//! The second step of a login: awaited, tried, and passed.

use chrono::TimeDelta;
use secrecy::SecretString;
use serde_json::json;

use super::codes::{factor, has_codes, passes, wrong_code};
use super::{TotpSecret, exists, tell};
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{ProviderId, TenantId, UserId};
use crate::identity::account::Accounts;
use crate::identity::own::Owner;
use crate::identity::refresh::{Device, Family};
use crate::identity::session::{self, Session};
use crate::identity::{lockout, oidc, opaque, passkey};
use crate::journal::{self, Author};
use crate::scope::{Actor, RequestContext};

const CHALLENGE_PREFIX: &str = "crm_mf_";
/// How long a login waits for its second step.
const CHALLENGE_LIFETIME: TimeDelta = TimeDelta::minutes(5);
/// Codes that may be tried per challenge.
const MOST_ATTEMPTS: i64 = 5;

/// What came of the second step of a login.
pub(in crate::identity) enum Step {
    Opened((Family, SecretString)),
    Wrong,
    Unknown,
}

impl Accounts {
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

/// Begins the second step of a login where one is needed: a factor is set up, or the tenant requires
/// one.
pub(in crate::identity) async fn challenge(
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
pub(in crate::identity) async fn challenge_by(
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
pub(in crate::identity) struct Waiting {
    hash: Vec<u8>,
    tenant: TenantId,
    pub(in crate::identity) user: UserId,
    email: String,
    /// The tenant's provider that vouched for the first step.
    provider: Option<ProviderId>,
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
    pub(in crate::identity) async fn fail(
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
    pub(in crate::identity) async fn pass(
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

pub(in crate::identity) fn unknown_challenge() -> Error {
    let message = "This login is unknown, finished or out of date; log in again.";
    Error::invalid("mfa_token", "invalid_token", message)
}
