//! Acting in another's name: an admin of the tenant, or an operator of the platform, gets a session
//! as a member, to see what they see and help them.
//!
//! It lasts some minutes, cannot be refreshed, and says on its face who acts: the claim `act` of
//! its token (RFC 8693), [`Me`](super::Me) and every entry of the audit log. Nobody gains by it:
//! its rights are the member's on records, within the admin's own, and to read the administration.
//! It changes nobody's account, sessions, roles or keys, begins no job and no other impersonation,
//! and ends with the session it was begun in, with the member's sessions, and with either one's
//! membership.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::json;

use super::impersonator::{Impersonator, OBJECT, admits};
use super::refresh::{self, Device, Ended, Family};
use super::token::invalid;
use crate::crm::Core;
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, Refusal, Result};
use crate::id::{FamilyId, TenantId, UserId};
use crate::journal::{self, Author};
use crate::platform::PLATFORM;
use crate::policy::Subject;
use crate::scope::{Create, Delete, Permit, Read, Scope};

/// How long somebody acts in another's name at most, and unless configured otherwise.
pub const IMPERSONATION_LIFETIME: TimeDelta = TimeDelta::minutes(15);

/// Longest reason, in characters.
const MAX_REASON_CHARS: usize = 500;
/// Longest text looked at as somebody's address or id.
const MAX_USER_CHARS: usize = 254;
/// Most impersonations of a list.
const MOST: i64 = 200;

/// In whose name to act, and why.
#[derive(Debug, Clone)]
pub struct NewImpersonation {
    /// The member's id or e-mail address.
    pub user: String,
    /// Why, 1 to 500 characters: the tenant reads it.
    pub reason: String,
}

/// An impersonation that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Impersonation {
    /// Its id, that of its session.
    pub id: FamilyId,
    /// In whose name.
    pub user_id: UserId,
    /// Who acts: `user:<id>`, or `operator:<id>` for an operator of the platform.
    pub impersonator: String,
    /// Why.
    pub reason: String,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it ends at the latest.
    pub expires_at: DateTime<Utc>,
}

/// An impersonation that has just begun.
#[derive(Debug, Clone)]
pub struct Impersonated {
    /// What it is.
    pub impersonation: Impersonation,
    /// What to send with each request. There is nothing to refresh it with.
    pub access_token: SecretString,
    /// How many seconds it holds.
    pub expires_in: u64,
}

/// The impersonations in the tenant that a permit is for.
#[derive(Clone)]
pub struct Impersonations {
    core: Arc<Core>,
}

/// A member to act for.
struct Member {
    id: UserId,
    /// A person, active, and no operator.
    eligible: bool,
}

impl Impersonations {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Lets a member of the tenant act in the name of another one.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `user` for nobody of the tenant, on `reason`; [`Error::Refused`]
    /// `not_impersonable` for oneself, programs, operators, and whoever may do anything that the
    /// caller may not; [`Error::Conflict`] `no_session` for whoever has none; [`Error::TooMany`].
    pub async fn start(
        &self,
        permit: &Permit<Create>,
        input: NewImpersonation,
    ) -> Result<Impersonated> {
        let scope = permit.on(OBJECT)?;
        let tenant = scope.tenant();
        let begun = self.begin(scope, tenant, input).await?;
        let rights = self
            .core
            .policy
            .rights_for(tenant, Subject::User(begun.user))
            .await?;
        let own = scope.grants().without_own();
        let within = rights.is_some_and(|rights| {
            let beyond = rights.grants.beyond(&own);
            beyond.first(scope.catalogue()).is_none()
        });
        if !within {
            return Err(not_impersonable());
        }
        self.open(scope, begun).await
    }

    /// Lets an operator act in the name of a member; `scope` is that of the operator's own session.
    ///
    /// # Errors
    /// Those of [`start`](Self::start); [`Error::Conflict`] `tenant_suspended`; [`Error::Refused`]
    /// `operators_excluded`.
    pub(crate) async fn start_as_operator(
        &self,
        scope: &Scope,
        tenant: TenantId,
        input: NewImpersonation,
    ) -> Result<Impersonated> {
        if !self.core.policy.is_active(tenant).await? {
            return Err(Error::conflict(
                "tenant_suspended",
                "this tenant is suspended: nobody acts in it until it is resumed",
            ));
        }
        if !admits(&self.core, tenant).await? {
            return Err(Refusal::forbidden(
                "operators_excluded",
                "this tenant lets no operator act in its members' names; its admins can change that",
            )
            .into());
        }
        let begun = self.begin(scope, tenant, input).await?;
        self.open(scope, begun).await
    }

    /// Checks what does not depend on rights.
    async fn begin(
        &self,
        scope: &Scope,
        tenant: TenantId,
        input: NewImpersonation,
    ) -> Result<Begun> {
        scope.refuse_impersonator()?;
        let (Some(parent), Some(impersonator)) = (scope.session(), scope.actor().user()) else {
            let message = "only a person acts in another's name: log in";
            return Err(Error::conflict("no_session", message));
        };
        let reason = check_reason(&input.reason)?;
        let throttle = &self.core.identity.throttle;
        throttle.attempt(None, &format!("impersonate {impersonator}"))?;
        let member = self.member(tenant, &input.user).await?;
        if !member.eligible || member.id == impersonator {
            return Err(not_impersonable());
        }
        Ok(Begun {
            tenant,
            user: member.id,
            by: Impersonator {
                user: impersonator,
                home: scope.tenant(),
            },
            parent,
            reason,
        })
    }

    async fn member(&self, tenant: TenantId, user: &str) -> Result<Member> {
        let unknown = || Error::invalid("user", "unknown", "The tenant has no such member.");
        let user = user.trim();
        if user.chars().count() > MAX_USER_CHARS {
            return Err(unknown());
        }
        let mut find = Sql::new(
            "SELECT u.id, u.kind = 'person' AND u.status = 'active' AND NOT EXISTS \
             (SELECT 1 FROM operators o WHERE o.user_id = u.id) \
             FROM memberships m JOIN users u ON u.id = m.user_id WHERE m.tenant_id = ",
        )
        .returns(&[ColumnType::Uuid, ColumnType::Bool]);
        find.arg(tenant, ColumnType::Uuid);
        match user.parse::<UserId>() {
            Ok(id) => find.push(" AND u.id = ").arg(id, ColumnType::Uuid),
            Err(_) => {
                let email = super::normalize_email(user).map_err(|_| unknown())?;
                find.push(" AND u.email = ").arg(email, ColumnType::Text)
            }
        };
        let row = self.core.db.fetch_optional(find).await?;
        let mut row = row.ok_or_else(unknown)?;
        Ok(Member {
            id: row.uuid()?,
            eligible: row.bool()?,
        })
    }

    async fn open(&self, scope: &Scope, begun: Begun) -> Result<Impersonated> {
        let (core, by, of) = (self.core.clone(), begun.by, scope.clone());
        let write = self
            .core
            .db
            .write(move |tx| Box::pin(async move { open(tx, &core, &of, begun).await }));
        let (family, impersonation) = write.await?;
        let tokens = &self.core.identity.tokens;
        let (access_token, end) = tokens.issue_to(&family, Some(by.user))?;
        Ok(Impersonated {
            impersonation,
            access_token,
            expires_in: tokens.seconds_until(end),
        })
    }

    /// Those that go on in the tenant, by whomever, the newest first; at most 200.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a permit of another object.
    pub async fn list(&self, permit: &Permit<Read>) -> Result<Vec<Impersonation>> {
        let scope = permit.on(OBJECT)?;
        let open = Sql::new(
            "SELECT id, user_id, impersonator_id, home_id, reason, created_at, expires_at \
             FROM refresh_families WHERE tenant_id = $1 AND impersonator_id IS NOT NULL \
             AND revoked_at IS NULL AND expires_at > $2 ORDER BY id DESC LIMIT $3",
        )
        .bind(scope.tenant(), ColumnType::Uuid)
        .bind(scope.clock().now(), ColumnType::Instant)
        .bind(MOST, ColumnType::Int)
        .returns(&[
            ColumnType::Uuid,
            ColumnType::Uuid,
            ColumnType::Uuid,
            ColumnType::Uuid,
            ColumnType::Text,
            ColumnType::Instant,
            ColumnType::Instant,
        ]);
        let rows = self.core.db.fetch_all(open).await?;
        rows.into_iter().map(read).collect()
    }

    /// Ends one, by whomever it was begun: the next request in it is refused.
    ///
    /// # Errors
    /// [`Error::NotFound`] when none of this id goes on in the tenant.
    pub async fn end(&self, permit: &Permit<Delete>, id: FamilyId) -> Result<()> {
        let scope = permit.on(OBJECT)?;
        self.finish(scope, id).await
    }

    /// Ends the one that the request belongs to.
    ///
    /// # Errors
    /// [`Error::Conflict`] `not_impersonating` for a request in nobody else's name.
    pub async fn end_own(&self, scope: &Scope) -> Result<()> {
        match (scope.session(), scope.impersonator()) {
            (Some(id), Some(_)) => self.finish(scope, id).await,
            _ => Err(Error::conflict(
                "not_impersonating",
                "you act in your own name; there is nothing to end",
            )),
        }
    }

    async fn finish(&self, scope: &Scope, id: FamilyId) -> Result<()> {
        let of = scope.clone();
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let which = Ended::InName(of.tenant(), id);
                if refresh::end(tx, of.clock(), which).await?.is_empty() {
                    return Err(Error::NotFound);
                }
                let entity = ("sessions", Some(id.to_string()));
                journal::audit(tx, &of, "auth.impersonation_end", entity, None, None).await
            })
        });
        write.await?;
        self.core.identity.live.forget(id);
        Ok(())
    }
}

/// An impersonation that may begin.
struct Begun {
    tenant: TenantId,
    user: UserId,
    by: Impersonator,
    parent: FamilyId,
    reason: String,
}

async fn open(
    tx: &mut Tx<'_>,
    core: &Core,
    scope: &Scope,
    begun: Begun,
) -> Result<(Family, Impersonation)> {
    let now = core.clock.now();
    let parent =
        Sql::new("SELECT expires_at FROM refresh_families WHERE id = $1 AND revoked_at IS NULL")
            .bind(begun.parent, ColumnType::Uuid)
            .returns(&[ColumnType::Instant]);
    let mut parent = tx.fetch_optional(parent).await?.ok_or_else(invalid)?;
    let left = parent.instant::<DateTime<Utc>>()? - now;
    let lifetime = core.identity.impersonation_lifetime.min(left);
    let device = Device::new(scope.request().address, None, false);
    let whose = (begun.tenant, begun.user);
    let family = refresh::open_family(tx, &core.clock, whose, lifetime, &device).await?;
    let told = Sql::new(
        "UPDATE refresh_families SET impersonator_id = $1, home_id = $2, parent_id = $3, \
         reason = $4 WHERE id = $5",
    )
    .bind(begun.by.user, ColumnType::Uuid)
    .bind(begun.by.home, ColumnType::Uuid)
    .bind(begun.parent, ColumnType::Uuid)
    .bind(begun.reason.as_str(), ColumnType::Text)
    .bind(family.id, ColumnType::Uuid);
    tx.execute(told).await?;
    let impersonation = Impersonation {
        id: family.id,
        user_id: begun.user,
        impersonator: begun.by.actor().to_string(),
        reason: begun.reason,
        created_at: now,
        expires_at: family.expires_at,
    };
    tell(tx, scope, (begun.tenant, begun.by), &impersonation).await?;
    Ok((family, impersonation))
}

/// Tells the tenant who begins to act in whose name, and the platform when it is one of its own.
async fn tell(
    tx: &mut Tx<'_>,
    scope: &Scope,
    (tenant, by): (TenantId, Impersonator),
    impersonation: &Impersonation,
) -> Result<()> {
    let action = "auth.impersonation_start";
    let author = Author {
        tenant,
        actor: by.actor(),
        ..Author::from(scope)
    };
    let entity = ("users", Some(impersonation.user_id.to_string()));
    let after = json!({
        "session": impersonation.id, "reason": impersonation.reason,
        "expires_at": crate::value::instant(&impersonation.expires_at),
    });
    journal::audit_by(tx, author, action, entity, None, Some(after)).await?;
    if by.home != PLATFORM {
        return Ok(());
    }
    let author = Author {
        tenant: PLATFORM,
        ..author
    };
    let entity = ("tenants", Some(tenant.to_string()));
    let after = json!({ "session": impersonation.id });
    journal::audit_by(tx, author, action, entity, None, Some(after)).await
}

fn read(mut row: Row) -> Result<Impersonation> {
    let (id, user_id) = (row.uuid()?, row.uuid()?);
    let by = Impersonator {
        user: row.uuid()?,
        home: row.uuid()?,
    };
    Ok(Impersonation {
        id,
        user_id,
        impersonator: by.actor().to_string(),
        reason: row.opt_text()?.unwrap_or_default(),
        created_at: row.instant()?,
        expires_at: row.instant()?,
    })
}

/// The reason, trimmed.
fn check_reason(text: &str) -> Result<String> {
    let text = text.trim();
    let refuse = |code, message| Err(Error::invalid("reason", code, message));
    if text.is_empty() {
        return refuse("required", "Say why: the tenant reads it.");
    }
    if text.chars().count() > MAX_REASON_CHARS {
        return refuse("too_long", "Use at most 500 characters.");
    }
    if text.chars().any(char::is_control) {
        let message = "Use no line breaks, tabs or other control characters.";
        return refuse("control_character", message);
    }
    Ok(text.to_owned())
}

/// One answer, so that it tells nothing of who is an operator, or may do what.
fn not_impersonable() -> Error {
    Refusal::forbidden(
        "not_impersonable",
        "nobody acts in this member's name, or not you: it is yourself, a program, or somebody who may \
         do more than you",
    )
    .into()
}

impl std::fmt::Debug for Impersonations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Impersonations").finish_non_exhaustive()
    }
}
