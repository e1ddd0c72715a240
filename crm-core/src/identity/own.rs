//! What the flows of one's own account share: who the user is, what every tenant of theirs is told,
//! and the end of all their sessions.
//!
//! An account is changed by its [`owner`](Accounts::owner) alone. A second factor is the user's in
//! all of their tenants, while a login asks for it where a tenant does: a session that began
//! without it shows no more than the password, and changes nothing by which the account is opened.

use chrono::{DateTime, Utc};

use super::account::Accounts;
use super::passkey;
use super::refresh::{self, Ended};
use crate::clock::Clock;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{FamilyId, TenantId, UserId};
use crate::journal::{self, Author};
use crate::mail::{self, Letter};
use crate::platform::PLATFORM;
use crate::scope::{Actor, RequestContext, Scope};

/// Most tenants whose audit log tells of an event of a user's account; where there are more, the
/// server's log says so.
const MOST_TENANTS: i64 = 1_000;

/// Most names of a user's tenants that a password of theirs is held against.
const MOST_NAMES: i64 = 100;

/// A user as the flows of their account need them.
pub(super) struct Owner {
    pub(super) id: UserId,
    pub(super) email: String,
    pub(super) name: String,
    pub(super) username: Option<String>,
    pub(super) hash: Option<String>,
    pub(super) verified: bool,
    /// When somebody else set the password, where it is none of their own.
    pub(super) given_at: Option<DateTime<Utc>>,
}

impl Owner {
    /// The active user of this id.
    pub(super) fn by_id(id: UserId) -> Sql {
        select("id = $1").bind(id, ColumnType::Uuid)
    }

    /// The active user of this address.
    pub(super) fn by_email(email: &str) -> Sql {
        select("email = $1").bind(email, ColumnType::Text)
    }

    pub(super) fn read(mut row: crate::db::Row) -> Result<Self> {
        Ok(Self {
            id: row.uuid()?,
            email: row.text()?,
            name: row.text()?,
            username: row.opt_text()?,
            hash: row.opt_text()?,
            verified: row.bool()?,
            given_at: row.opt_instant()?,
        })
    }

    /// What a password of theirs may not be made of.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words = vec![self.email.clone(), self.name.clone()];
        words.extend(self.username.clone());
        words
    }
}

/// Whether a user has this address, and keeps it until the transaction ends.
pub(super) async fn has_address(tx: &mut Tx<'_>, user: UserId, email: &str) -> Result<bool> {
    let hold = Sql::new("UPDATE users SET email = email WHERE id = $1 AND email = $2")
        .bind(user, ColumnType::Uuid)
        .bind(email, ColumnType::Text);
    Ok(tx.execute(hold).await? > 0)
}

fn select(condition: &'static str) -> Sql {
    use ColumnType::{Bool, Instant, Text, Uuid};
    let mut select = Sql::new(
        "SELECT id, email, name, username, password_hash, email_verified_at IS NOT NULL, \
         password_given_at FROM users WHERE status = 'active' AND kind = 'person' AND ",
    );
    select.push(condition);
    select.returns(&[Uuid, Text, Text, Text, Text, Bool, Instant])
}

impl Accounts {
    /// The user who acts, for what only they may do to their account.
    ///
    /// # Errors
    /// As [`person`](Self::person); [`Error::Conflict`] `second_factor_required` for a user who has a
    /// second factor, in a session that did not pass it.
    pub(super) async fn owner(&self, scope: &Scope) -> Result<Owner> {
        let owner = self.person(scope).await?;
        match self
            .core
            .db
            .fetch_optional(unpassed(scope, owner.id))
            .await?
        {
            None => Ok(owner),
            Some(_) => Err(second_factor_required()),
        }
    }

    /// The user who acts, for what does no harm in a session that began with the password alone,
    /// and for what asks for the second factor itself.
    ///
    /// # Errors
    /// [`Error::Conflict`] `not_a_user` for programs, `bound_session` for a session that a tenant's
    /// provider vouched for: an account is not one tenant's to change; [`Error::Refused`]
    /// `impersonating` for whoever acts in the user's name.
    pub(super) async fn person(&self, scope: &Scope) -> Result<Owner> {
        scope.refuse_impersonator()?;
        let Some(id) = scope.actor().user() else {
            return Err(not_a_user());
        };
        if scope.is_bound() {
            return Err(bound_session());
        }
        let row = self.core.db.fetch_optional(Owner::by_id(id)).await?;
        Owner::read(row.ok_or_else(not_a_user)?)
    }

    /// Forgets sessions that have ended: no token of theirs holds from now on.
    pub(super) fn forget(&self, ended: Vec<FamilyId>) {
        let live = &self.core.identity.live;
        ended.into_iter().for_each(|id| live.forget(id));
    }

    /// The names of a user's tenants, which are no part of their password either.
    pub(super) async fn tenants_of(&self, user: UserId) -> Result<Vec<String>> {
        let names = Sql::new(
            "SELECT t.name FROM memberships m JOIN tenants t ON t.id = m.tenant_id \
             WHERE m.user_id = $1 ORDER BY t.name LIMIT $2",
        )
        .bind(user, ColumnType::Uuid)
        .bind(MOST_NAMES, ColumnType::Int)
        .returns(&[ColumnType::Text]);
        let rows = self.core.db.fetch_all(names).await?;
        rows.into_iter().map(|mut row| row.text()).collect()
    }
}

/// Refuses a session that did not pass the second factor of a user who has one, and holds the user
/// until the transaction ends: of two factors set up at once, the second knows of the first.
///
/// # Errors
/// [`Error::Conflict`] `second_factor_required`; [`Error::NotFound`] for a user who is not active.
pub(super) async fn check_passed(tx: &mut Tx<'_>, scope: &Scope, user: UserId) -> Result<()> {
    let hold = Sql::new("UPDATE users SET name = name WHERE id = $1 AND status = 'active'");
    if tx.execute(hold.bind(user, ColumnType::Uuid)).await? == 0 {
        return Err(Error::NotFound);
    }
    match tx.fetch_optional(unpassed(scope, user)).await? {
        None => Ok(()),
        Some(_) => Err(second_factor_required()),
    }
}

/// The user, when they have a second factor and the scope's session did not pass it.
fn unpassed(scope: &Scope, user: UserId) -> Sql {
    Sql::new(
        "SELECT u.id FROM users u WHERE u.id = $1 AND (\
             EXISTS (SELECT 1 FROM passkeys p WHERE p.user_id = u.id) OR \
             EXISTS (SELECT 1 FROM totp_factors o \
                     WHERE o.user_id = u.id AND o.confirmed_at IS NOT NULL)) \
         AND NOT EXISTS (SELECT 1 FROM refresh_families f \
                         WHERE f.id = $2 AND f.user_id = u.id AND f.two_factors)",
    )
    .bind(user, ColumnType::Uuid)
    .bind(scope.session(), ColumnType::Uuid)
    .returns(&[ColumnType::Uuid])
}

pub(super) fn second_factor_required() -> Error {
    Error::conflict(
        "second_factor_required",
        "your account has a second factor, and this login was made without it: log in with a passkey, \
         or with your password and a code, and try again",
    )
}

/// The one answer to a session of a provider that reaches beyond its tenant.
pub(super) fn bound_session() -> Error {
    let message = "you logged in at an identity provider of the tenant, which is good for that tenant \
                   alone; log in with your password";
    Error::conflict("bound_session", message)
}

fn not_a_user() -> Error {
    Error::conflict("not_a_user", "only a person has an account; log in as one")
}

/// Tells every tenant of a user's what they did to their account.
pub(super) async fn audit(
    tx: &mut Tx<'_>,
    clock: &Clock,
    user: UserId,
    request: &RequestContext,
    action: &str,
) -> Result<()> {
    let told = audit_everywhere(tx, clock, user, request, action).await;
    told.map(drop)
}

/// As [`audit`]; answers whether there was a tenant to tell.
async fn audit_everywhere(
    tx: &mut Tx<'_>,
    clock: &Clock,
    user: UserId,
    request: &RequestContext,
    action: &str,
) -> Result<bool> {
    let tenants = Sql::new(
        "SELECT tenant_id FROM memberships WHERE user_id = $1 ORDER BY tenant_id LIMIT $2",
    )
    .bind(user, ColumnType::Uuid)
    .bind(MOST_TENANTS, ColumnType::Int)
    .returns(&[ColumnType::Uuid]);
    let rows = tx.fetch_all(tenants).await?;
    let told = !rows.is_empty();
    if rows.len() as i64 == MOST_TENANTS {
        tracing::warn!(%user, action, "tenants beyond the first 1,000 are not told of this");
    }
    for mut row in rows {
        let tenant: TenantId = row.uuid()?;
        let author = Author {
            clock,
            tenant,
            actor: Actor::User(user),
            request,
        };
        let entity = ("users", Some(user.to_string()));
        journal::audit_by(tx, author, action, entity, None, None).await?;
    }
    Ok(told)
}

/// Tells the tenants of a user's that somebody failed to be them; the platform, by nobody, where it
/// is not known who that was to be, or they are in no tenant.
pub(super) async fn audit_failure(
    tx: &mut Tx<'_>,
    clock: &Clock,
    user: Option<UserId>,
    request: &RequestContext,
    action: &str,
) -> Result<()> {
    if let Some(user) = user
        && audit_everywhere(tx, clock, user, request, action).await?
    {
        return Ok(());
    }
    let author = Author {
        clock,
        tenant: PLATFORM,
        actor: Actor::Anonymous,
        request,
    };
    journal::audit_by(tx, author, action, ("users", None), None, None).await
}

/// Ends all sessions of a user, in every tenant, and what waits for a second step or a device; the
/// caller has the sessions forgotten after the commit.
pub(super) async fn end_sessions(
    tx: &mut Tx<'_>,
    clock: &Clock,
    user: UserId,
) -> Result<Vec<FamilyId>> {
    let waiting = Sql::new("DELETE FROM login_challenges WHERE user_id = $1");
    tx.execute(waiting.bind(user, ColumnType::Uuid)).await?;
    passkey::end_ceremonies(tx, user).await?;
    refresh::end(tx, clock, Ended::OfUser(user, None)).await
}

/// Tells the owner by a letter, and every tenant of theirs, what was done to their account.
pub(super) async fn tell(
    tx: &mut Tx<'_>,
    core: &crate::crm::Core,
    owner: &Owner,
    request: &RequestContext,
    (kind, action): (mail::MailKind, &str),
) -> Result<()> {
    notify(tx, core, owner, kind).await?;
    audit(tx, &core.clock, owner.id, request, action).await
}

/// A letter to the owner that only tells something; it makes sense for a day.
pub(super) async fn notify(
    tx: &mut Tx<'_>,
    core: &crate::crm::Core,
    owner: &Owner,
    kind: mail::MailKind,
) -> Result<()> {
    let letter = Letter {
        kind,
        to: &owner.email,
        name: &owner.name,
        tenant: None,
        by: None,
        link: None,
    };
    let until = core.clock.now() + chrono::TimeDelta::days(1);
    mail::enqueue(tx, core, letter, until).await
}
