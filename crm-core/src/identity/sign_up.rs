//! Open registration: strangers make an account and a tenant of their own, which they administer.
//!
//! Nobody may unless the application says so. [Verified](RegistrationPolicy::Verified), nothing is
//! made before the link of a mail comes back together with the password: whoever asked and whoever
//! reads the mail are one then, and no stranger's password gets into an account by its owner's
//! click. An address that has an account gets the same answer, by the same work; its owner is told
//! by mail. What a stranger wrote stands in no mail.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::account::{Accounts, UserRow, gather, insert_membership, insert_user, vouched};
use super::email::normalize_email;
use super::name::check_name;
use super::password::Verdict;
use super::refresh::{Device, Family};
use super::reset::MAIL_PAUSE;
use super::second_factor::{Reach, challenge};
use super::session::{self, Session, invalid_credentials};
use super::{Sealed, one_time, opaque};
use crate::clock::Clock;
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Refusal, Result};
use crate::id::{TenantId, UserId};
use crate::journal::{self, Author};
use crate::mail::{self, Letter, Link, MailKind};
use crate::platform::PLATFORM;
use crate::scope::{Actor, RequestContext};
use crate::tenant;

const PREFIX: &str = "crm_rg_";
/// How long a registration waits for its link.
const LIFETIME: TimeDelta = TimeDelta::hours(24);
/// Most registrations that wait.
const MOST_WAITING: i64 = 10_000;

/// Who may make an account and a tenant without being asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RegistrationPolicy {
    /// Nobody but the first user, with the setup token.
    #[default]
    Closed,
    /// Whoever reads the mail sent to the address they give.
    Verified,
    /// Everybody, at once. The answer tells who has an account.
    Open,
}

/// Somebody who wants an account, and the tenant that they will administer.
#[derive(Debug, Clone)]
pub struct SignUp {
    /// The tenant's name, 1 to 100 characters.
    pub tenant: String,
    /// The e-mail address to log in with.
    pub email: String,
    /// The password, 8 to 128 characters.
    pub password: SecretString,
    /// The user's name, 1 to 100 characters; what stands before the @ when left out.
    pub name: Option<String>,
}

/// What came of a [`SignUp`].
#[derive(Debug, Clone)]
pub enum SignedUp {
    /// Account and tenant are made, and this is the user's session.
    Made(Session),
    /// Nothing is made yet: a mail is on its way to the address.
    Mailed,
}

/// The link of a registration has come back.
#[derive(Debug, Clone)]
pub struct SignUpConfirmation {
    /// The token of the link.
    pub token: SecretString,
    /// The password that was given with the registration.
    pub password: SecretString,
    /// Another name for the tenant, where the first one was taken meanwhile.
    pub tenant: Option<String>,
}

/// Somebody whose registration is judged, and in its sealed form waits.
#[derive(Clone, Serialize, Deserialize)]
struct Applicant {
    tenant: String,
    email: String,
    name: String,
    /// Of the password.
    hash: String,
    /// Its strength; absent in what waits since before it was kept.
    #[serde(default)]
    score: Option<u8>,
}

impl Applicant {
    fn user(self, clock: &Clock) -> (UserRow, String) {
        let user = UserRow {
            id: UserId(clock.new_id()),
            email: self.email,
            name: self.name,
            hash: self.hash,
            given: false,
        };
        (user, self.tenant)
    }
}

/// A new tenant and its admin.
pub(super) struct Founded {
    tenant: TenantId,
    pub(super) user: UserId,
    /// The admin's session, or what is awaited before it opens.
    pub(super) session: Result<(Family, SecretString)>,
}

impl Accounts {
    /// Makes an account and a tenant, or sends the link that does, as the application allows.
    ///
    /// # Errors
    /// [`Error::Refused`] `registration_closed`; [`Error::TooMany`], also for the second registration of
    /// one address within a minute where it is confirmed by mail, whether or not it has an account;
    /// [`Error::Invalid`] for values that break a rule. Where registration is open, [`Error::Conflict`]
    /// `already_exists` for a tenant's name and `email_taken` for an address that is known; otherwise
    /// neither is told here.
    /// [`Error::SecondFactor`] when both are made and the session awaits
    /// [`finish_login`](Self::finish_login), where the application authenticates strictly.
    pub async fn sign_up(&self, input: SignUp, request: RequestContext) -> Result<SignedUp> {
        let policy = self.core.identity.registration;
        refuse_closed(policy)?;
        self.limit("register", "", &request)?;
        let applicant = self.check_sign_up(input).await?;
        if policy == RegistrationPolicy::Open {
            let (opening, score) = (self.opening(&request), applicant.score);
            let core = self.core.clone();
            let write = self.core.db.write(move |tx| {
                Box::pin(async move {
                    let new = applicant.user(&core.clock);
                    let founded = found(tx, &core, &new, opening, &request).await?;
                    tell_platform(tx, &core.clock, &founded, &request).await?;
                    Ok(founded)
                })
            });
            let session = self.first_session(write.await?.session, score)?;
            return Ok(SignedUp::Made(session));
        }
        let core = self.core.clone();
        let write = self.core.db.write(move |tx| {
            Box::pin(async move { put_off(tx, &core, applicant, &request).await })
        });
        write.await?;
        self.core.post.wake();
        Ok(SignedUp::Mailed)
    }

    /// Makes the account and the tenant of a registration whose link has come back; the address is
    /// proven by that.
    ///
    /// # Errors
    /// [`Error::Refused`] `registration_closed`; [`Error::TooMany`]; [`Error::Invalid`] on `token` for
    /// one that is unknown, used, replaced or older than a day: of any number of callers with one
    /// token one succeeds; [`Error::Unauthenticated`] `invalid_credentials` for another password;
    /// [`Error::Conflict`] `already_exists` for the tenant's name, and `email_taken` when the address
    /// has got an account meanwhile. All but the first of these leave the link good.
    /// [`Error::SecondFactor`], as [`sign_up`](Self::sign_up).
    pub async fn confirm_sign_up(
        &self,
        input: SignUpConfirmation,
        request: RequestContext,
    ) -> Result<Session> {
        let core = self.core.clone();
        refuse_closed(core.identity.registration)?;
        self.limit("confirm registration", "", &request)?;
        let hash = opaque::hash(&input.token);
        let mut applicant = self.waiting(&hash).await?;
        if let Some(tenant) = &input.tenant {
            applicant.tenant = check_name("tenant", tenant)?;
        }
        let known = Some(applicant.hash.clone());
        let verdict = core.identity.passwords.verify(input.password, known);
        if verdict.await? == Verdict::Wrong {
            return Err(invalid_credentials());
        }
        let (opening, score) = (self.opening(&request), applicant.score);
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let now = core.clock.now();
                let used = Sql::new(
                    "DELETE FROM pending_registrations WHERE hash = $1 AND expires_at > $2",
                )
                .bind(hash, ColumnType::Bytes)
                .bind(now, ColumnType::Instant);
                if tx.execute(used).await? == 0 {
                    return Err(one_time::invalid());
                }
                let new = applicant.user(&core.clock);
                let founded = found(tx, &core, &new, opening, &request).await?;
                vouched(tx, founded.user, false, now).await?;
                tell_platform(tx, &core.clock, &founded, &request).await?;
                Ok(founded)
            })
        });
        self.first_session(write.await?.session, score)
    }

    /// Judges every value at once, and hashes the password whoever it is.
    async fn check_sign_up(&self, input: SignUp) -> Result<Applicant> {
        let mut errors = Vec::new();
        let email = gather(&mut errors, normalize_email(&input.email))?;
        let before_at = || email.split('@').next().unwrap_or_default().to_owned();
        let name = input.name.unwrap_or_else(before_at);
        let name = gather(&mut errors, check_name("name", &name))?;
        let tenant = gather(&mut errors, check_name("tenant", &input.tenant))?;
        let context = vec![input.email, name.clone(), tenant.clone()];
        let passwords = &self.core.identity.passwords;
        let checked = passwords.check("password", &input.password, context);
        let score = gather(&mut errors, checked.await)?;
        if !errors.is_empty() {
            return Err(Error::Invalid(errors));
        }
        Ok(Applicant {
            tenant,
            email,
            name,
            hash: passwords.hash(input.password).await?,
            score: Some(score),
        })
    }

    /// The registration that waits for the link with this hash.
    async fn waiting(&self, hash: &[u8]) -> Result<Applicant> {
        let find = Sql::new(
            "SELECT sealed FROM pending_registrations WHERE hash = $1 AND expires_at > $2",
        )
        .bind(hash.to_vec(), ColumnType::Bytes)
        .bind(self.core.clock.now(), ColumnType::Instant)
        .returns(&[ColumnType::Bytes]);
        let row = self.core.db.fetch_optional(find).await?;
        let sealed: Vec<u8> = row.ok_or_else(one_time::invalid)?.bytes()?;
        let opened = self.core.identity.seal.open(&label(hash), &sealed);
        // Sealed under a secret that is gone, its link is as good as none.
        let applicant = opened.and_then(|text| serde_json::from_slice(&text).ok());
        applicant.ok_or_else(one_time::invalid)
    }
}

/// Makes a tenant with its built-in roles, the user as its admin, and their session; where the
/// application authenticates strictly, that awaits a second factor.
pub(super) async fn found(
    tx: &mut Tx<'_>,
    core: &Core,
    (user, tenant): &(UserRow, String),
    (device, lifetime): (Device, TimeDelta),
    request: &RequestContext,
) -> Result<Founded> {
    let clock = &core.clock;
    let (tenant, roles) = tenant::insert(tx, clock, tenant.clone()).await?;
    if !insert_user(tx, user, clock.now()).await? {
        return Err(Error::conflict(
            "email_taken",
            "this address has an account: log in with it, or set a new password",
        ));
    }
    let whose = (tenant.id, user.id);
    insert_membership(tx, whose, &[roles.admin], clock.now()).await?;
    let author = Author {
        clock,
        tenant: tenant.id,
        actor: Actor::User(user.id),
        request,
    };
    let entity = ("users", Some(user.id.to_string()));
    let after = Some(json!({ "tenant": tenant.name, "email": user.email }));
    journal::audit_by(tx, author, "auth.register", entity, None, after).await?;
    let reach = Reach {
        roaming: device.roaming,
        ..Reach::TENANT
    };
    let awaited = match core.identity.strict {
        true => challenge(tx, core, whose, reach, None).await?,
        false => None,
    };
    let session = match awaited {
        Some(awaited) => Err(awaited),
        None => Ok(session::open(tx, clock, whose, lifetime, &device).await?),
    };
    Ok(Founded {
        tenant: tenant.id,
        user: user.id,
        session,
    })
}

/// Keeps a registration until its link comes back, and sends the link; of an address that has an
/// account nobody gets one, and its owner is told.
///
/// # Errors
/// [`Error::TooMany`] where one of the same address came less than a minute before: of two passwords
/// nobody would know which one counts.
async fn put_off(
    tx: &mut Tx<'_>,
    core: &Core,
    applicant: Applicant,
    request: &RequestContext,
) -> Result<()> {
    refuse_full(tx).await?;
    let address = core.identity.address_digest(&applicant.email);
    let (token, now) = (opaque::generate(&core.clock, PREFIX), core.clock.now());
    let hash = opaque::hash(&token);
    let text = serde_json::to_vec(&applicant).map_err(Error::internal)?;
    let insert = Sql::new(
        "INSERT INTO pending_registrations (hash, address, sealed, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (address) DO UPDATE SET hash = excluded.hash, \
         sealed = excluded.sealed, created_at = excluded.created_at, \
         expires_at = excluded.expires_at WHERE pending_registrations.created_at <= $6",
    )
    .bind(hash.clone(), ColumnType::Bytes)
    .bind(address.to_vec(), ColumnType::Bytes)
    .bind(
        core.identity.seal.seal(&label(&hash), &text)?,
        ColumnType::Bytes,
    )
    .bind(now, ColumnType::Instant)
    .bind(now + LIFETIME, ColumnType::Instant)
    .bind(now - MAIL_PAUSE, ColumnType::Instant);
    if tx.execute(insert).await? == 0 {
        return Err(too_soon(tx, &address, now).await?);
    }
    write_to(tx, core, &applicant.email, &token).await?;
    let author = Author {
        clock: &core.clock,
        tenant: PLATFORM,
        actor: Actor::Anonymous,
        request,
    };
    let after = Some(json!({ "address": hex::encode(address) }));
    let action = "auth.registration_requested";
    journal::audit_by(tx, author, action, ("users", None), None, after).await
}

/// How long an address waits that has just been registered.
async fn too_soon(tx: &mut Tx<'_>, address: &[u8], now: DateTime<Utc>) -> Result<Error> {
    let last = Sql::new("SELECT created_at FROM pending_registrations WHERE address = $1")
        .bind(address.to_vec(), ColumnType::Bytes)
        .returns(&[ColumnType::Instant]);
    let last: DateTime<Utc> = match tx.fetch_optional(last).await? {
        Some(mut row) => row.instant()?,
        None => now,
    };
    let retry_after = (last + MAIL_PAUSE - now).to_std().unwrap_or_default();
    Ok(Error::too_soon(retry_after))
}

async fn write_to(tx: &mut Tx<'_>, core: &Core, email: &str, token: &SecretString) -> Result<()> {
    let known = Sql::new("SELECT id FROM users WHERE email = $1")
        .bind(email, ColumnType::Text)
        .returns(&[ColumnType::Uuid]);
    let (kind, link) = match tx.fetch_optional(known).await? {
        Some(_) => (MailKind::EmailInUse, None),
        None => {
            let holds = "24 hours";
            (MailKind::Registration, Some(Link { token, holds }))
        }
    };
    let letter = Letter {
        kind,
        to: email,
        // The name that was given may be anybody's words.
        name: email,
        tenant: None,
        by: None,
        link,
    };
    mail::enqueue(tx, core, letter, core.clock.now() + LIFETIME).await
}

async fn refuse_full(tx: &mut Tx<'_>) -> Result<()> {
    let waiting = Sql::new(
        "SELECT count(*) FROM (SELECT hash FROM pending_registrations LIMIT $1) AS waiting",
    )
    .bind(MOST_WAITING, ColumnType::Int);
    if tx.number(waiting).await? < MOST_WAITING {
        return Ok(());
    }
    Err(Error::unavailable(
        "too many registrations wait for their links; try again tomorrow",
    ))
}

/// Tells the platform that there is another tenant, without its name.
async fn tell_platform(
    tx: &mut Tx<'_>,
    clock: &Clock,
    founded: &Founded,
    request: &RequestContext,
) -> Result<()> {
    let author = Author {
        clock,
        tenant: PLATFORM,
        actor: Actor::User(founded.user),
        request,
    };
    let entity = ("tenants", Some(founded.tenant.to_string()));
    journal::audit_by(tx, author, "tenants.create", entity, None, None).await
}

/// Removes the registrations whose links are out of date.
pub(crate) async fn forget_late_registrations(core: &Core) -> Result<()> {
    let now = core.clock.now();
    let late = Sql::new("SELECT hash FROM pending_registrations WHERE expires_at <= $1 LIMIT 1")
        .bind(now, ColumnType::Instant)
        .returns(&[ColumnType::Bytes]);
    if core.db.fetch_optional(late).await?.is_none() {
        return Ok(());
    }
    let late = Sql::new("DELETE FROM pending_registrations WHERE expires_at <= $1")
        .bind(now, ColumnType::Instant);
    core.db.execute(late).await.map(drop)
}

fn refuse_closed(policy: RegistrationPolicy) -> Result<()> {
    match policy {
        RegistrationPolicy::Closed => Err(Refusal::forbidden(
            "registration_closed",
            "nobody registers here by themselves; ask an administrator to invite you",
        )
        .into()),
        RegistrationPolicy::Verified | RegistrationPolicy::Open => Ok(()),
    }
}

/// Where registrations wait.
pub(super) const SEALED: Sealed = Sealed {
    words: ("registration that waits", "registrations that wait"),
    table: "pending_registrations",
    column: "sealed",
    optional: false,
    key: &[("hash", ColumnType::Bytes)],
    label: |mut row| Ok(label(&row.bytes::<Vec<u8>>()?)),
};

/// A sealed row opens in its place alone.
fn label(hash: &[u8]) -> String {
    format!("registration:{}", hex::encode(hash))
}

#[cfg(test)]
mod tests;
