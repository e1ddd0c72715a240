//! The sessions that are open, and their end: by whom they belong to, and by the admins of the
//! tenant they are in.
//!
//! What ends here is refused with the next request, refresh tokens and access tokens alike.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::json;

use super::account::{Accounts, TenantRef};
use super::impersonator::Impersonator;
use super::own::bound_session;
use super::refresh::{self, Ended};
use super::second_factor;
use super::session;
use super::step_up::check_recent;
use crate::crm::Core;
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{FamilyId, TenantId, UserId};
use crate::journal::{self, Author};
use crate::platform::PLATFORM;
use crate::policy::check_rank;
use crate::scope::{Permit, Read, Scope, Update};

/// The object of the permissions asked for here.
const OBJECT: &str = "members";
/// Most sessions of a list.
const MOST: i64 = 200;

/// A session that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenSession {
    /// Its id; its access tokens carry it as `sid`.
    pub id: FamilyId,
    /// The tenant it is in; none for an operator's on the platform.
    pub tenant: Option<TenantRef>,
    /// Whether each request may name another tenant of the user's.
    pub roaming: bool,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
    /// Its latest refresh.
    pub last_used_at: DateTime<Utc>,
    /// When it ends at the latest.
    pub expires_at: DateTime<Utc>,
    /// Where it was last refreshed from.
    pub address: Option<String>,
    /// The `User-Agent` it was last refreshed by.
    pub user_agent: Option<String>,
    /// Whether it is the caller's.
    pub current: bool,
    /// Who acts in the user's name in it, where somebody else does: `user:<id>` or `operator:<id>`.
    pub impersonator: Option<String>,
}

/// An open session as a tenant's export has it.
#[derive(Debug, Serialize)]
pub(crate) struct MemberSession {
    pub(crate) id: FamilyId,
    user_id: UserId,
    roaming: bool,
    created_at: DateTime<Utc>,
    last_used_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    address: Option<String>,
    user_agent: Option<String>,
}

/// The sessions that are open.
#[derive(Clone)]
pub struct Sessions {
    core: Arc<Core>,
}

impl Sessions {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// The caller's own sessions in all tenants, the one used last first; none for whoever is no
    /// user. To a session that a tenant's provider vouched for, those in its tenant. At most 200.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(&self, scope: &Scope) -> Result<Vec<OpenSession>> {
        scope.refuse_impersonator()?;
        let Some(user) = scope.actor().user() else {
            return Ok(Vec::new());
        };
        if scope.is_bound() {
            return self.in_tenant(scope, user).await;
        }
        let mut sql = select();
        sql.push("f.user_id = $3 ORDER BY f.last_used_at DESC, f.id DESC LIMIT $4");
        let sql = self
            .bind_times(sql)
            .bind(user, ColumnType::Uuid)
            .bind(MOST, ColumnType::Int);
        self.read(sql, scope).await
    }

    /// Moves the caller's session to another of their tenants: an access token for that one, and
    /// for how many seconds it holds. Those issued before hold no more, and the next refresh is
    /// about the new tenant. A code of the caller's second factor lets a session that began without
    /// one in to tenants that ask for it, from now on; a wrong one is refused also where none is
    /// needed, and counts as one at a login does. An account that is locked after failures takes no
    /// code.
    ///
    /// # Errors
    /// [`Error::Conflict`] `no_session` for whoever has none, `bound_session` for a session that a
    /// tenant's provider vouched for, `second_factor_required` for a session that began without the
    /// second factor that the tenant requires, `no_second_factor` for a code of whoever has none;
    /// [`Error::Invalid`] on `code`, or on `tenant` for one that the caller is not a member of, or that
    /// is suspended; [`Error::TooMany`].
    pub async fn switch(
        &self,
        scope: &Scope,
        tenant: &str,
        code: Option<&str>,
    ) -> Result<(SecretString, u64)> {
        scope.refuse_impersonator()?;
        let (Some(id), Some(user)) = (scope.session(), scope.actor().user()) else {
            let message = "only a session has an active tenant: log in";
            return Err(Error::conflict("no_session", message));
        };
        if scope.is_bound() {
            return Err(bound_session());
        }
        if code.is_some() {
            Accounts::new(self.core.clone()).limit_codes(user)?;
        }
        let (of, name) = (scope.clone(), tenant.trim().to_owned());
        let (core, code) = (self.core.clone(), code.map(str::to_owned));
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let choices = session::choices_in(tx, user).await?;
                let tenant = session::called(&choices, &name).ok_or_else(no_member)?;
                // A code is judged whether it is needed or not: what is sent is never ignored.
                if let Some(code) = code {
                    let spent = second_factor::spend(tx, &core, &of, user, &code).await?;
                    if let Err(wrong) = spent {
                        return Ok(Err(wrong));
                    }
                } else if lacks_factor(tx, &core, id, tenant).await? {
                    return Err(factor_required());
                }
                let family = refresh::switch(tx, id, tenant).await?;
                let author = Author {
                    tenant,
                    ..Author::from(&of)
                };
                let entity = ("sessions", Some(id.to_string()));
                journal::audit_by(tx, author, "auth.switch_tenant", entity, None, None).await?;
                Ok(Ok(family))
            })
        });
        let family = write.await??;
        self.core.identity.live.forget(id);
        let tokens = &self.core.identity.tokens;
        let (token, end) = tokens.issue(&family)?;
        Ok((token, tokens.seconds_until(end)))
    }

    /// Ends one of the caller's own sessions.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the caller has no such session; [`Error::Refused`]
    /// `recent_login_required` for another one than the present, where the application authenticates
    /// strictly and the present one began more than five minutes ago.
    pub async fn end(&self, scope: &Scope, id: FamilyId) -> Result<()> {
        let own = self.list(scope).await?;
        if !own.iter().any(|session| session.id == id) {
            return Err(Error::NotFound);
        }
        if scope.session() != Some(id) {
            check_recent(&self.core, scope).await?;
        }
        let told = ("auth.session_end", id.to_string());
        match self.finish(scope, Ended::One(id), told).await? {
            0 => Err(Error::NotFound),
            _ => Ok(()),
        }
    }

    /// Ends all of the caller's own sessions, in every tenant; answers how many.
    ///
    /// # Errors
    /// [`Error::Refused`] `recent_login_required`, as [`end`](Self::end).
    pub async fn end_all(&self, scope: &Scope) -> Result<u64> {
        self.end_own(scope, None).await
    }

    /// Ends all of the caller's own sessions but the present one; answers how many.
    ///
    /// # Errors
    /// [`Error::Refused`] `recent_login_required`, as [`end`](Self::end).
    pub async fn end_others(&self, scope: &Scope) -> Result<u64> {
        self.end_own(scope, scope.session()).await
    }

    async fn end_own(&self, scope: &Scope, kept: Option<FamilyId>) -> Result<u64> {
        scope.refuse_impersonator()?;
        check_recent(&self.core, scope).await?;
        if scope.is_bound() {
            let mut ended = 0;
            for session in self.list(scope).await? {
                if Some(session.id) != kept {
                    let which = Ended::One(session.id);
                    let told = ("auth.session_end", session.id.to_string());
                    ended += self.finish(scope, which, told).await?;
                }
            }
            return Ok(ended);
        }
        match scope.actor().user() {
            Some(user) => {
                let which = Ended::OfUser(user, kept);
                let told = ("auth.session_end", user.to_string());
                self.finish(scope, which, told).await
            }
            None => Ok(0),
        }
    }

    /// The sessions of a member in the permit's tenant. At most 200.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the user is no member.
    pub async fn list_of(&self, permit: &Permit<Read>, user: UserId) -> Result<Vec<OpenSession>> {
        let scope = permit.on(OBJECT)?;
        self.check_member(scope, user).await?;
        self.in_tenant(scope, user).await
    }

    /// The sessions of a user that open the scope's tenant.
    async fn in_tenant(&self, scope: &Scope, user: UserId) -> Result<Vec<OpenSession>> {
        let mut sql = select();
        sql.push("f.user_id = $3 AND (f.tenant_id = $4 OR f.roaming) ");
        sql.push("ORDER BY f.last_used_at DESC, f.id DESC LIMIT $5");
        let sql = self
            .bind_times(sql)
            .bind(user, ColumnType::Uuid)
            .bind(scope.tenant(), ColumnType::Uuid)
            .bind(MOST, ColumnType::Int);
        self.read(sql, scope).await
    }

    /// The open sessions in the permit's tenant after one, for an export.
    pub(crate) async fn export(
        &self,
        permit: &Permit<Read>,
        after: Option<FamilyId>,
        limit: u32,
    ) -> Result<Vec<MemberSession>> {
        let scope = permit.on(OBJECT)?;
        let now = self.core.clock.now();
        let page = Sql::new(
            "SELECT id, user_id, roaming, created_at, last_used_at, expires_at, address, user_agent \
             FROM refresh_families WHERE tenant_id = $1 AND id > $2 AND revoked_at IS NULL \
             AND impersonator_id IS NULL \
             AND expires_at > $3 ORDER BY id LIMIT $4",
        )
        .bind(scope.tenant(), ColumnType::Uuid)
        .bind(after.unwrap_or(FamilyId(uuid::Uuid::nil())), ColumnType::Uuid)
        .bind(now, ColumnType::Instant)
        .bind(limit, ColumnType::Int)
        .returns(&[
            ColumnType::Uuid,
            ColumnType::Uuid,
            ColumnType::Bool,
            ColumnType::Instant,
            ColumnType::Instant,
            ColumnType::Instant,
            ColumnType::Text,
            ColumnType::Text,
        ]);
        let read = |mut row: Row| {
            Ok(MemberSession {
                id: row.uuid()?,
                user_id: row.uuid()?,
                roaming: row.bool()?,
                created_at: row.instant()?,
                last_used_at: row.instant()?,
                expires_at: row.instant()?,
                address: row.opt_text()?,
                user_agent: row.opt_text()?,
            })
        };
        let rows = self.core.db.fetch_all(page).await?;
        rows.into_iter().map(read).collect()
    }

    /// Ends all sessions of a member in the permit's tenant; answers how many.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the user is no member; [`Error::Refused`] `recent_login_required` for the
    /// caller's own, as [`end`](Self::end), and `beyond_your_rights` for those of another member who holds
    /// a right that the caller does not.
    pub async fn end_all_of(&self, permit: &Permit<Update>, user: UserId) -> Result<u64> {
        let scope = permit.on(OBJECT)?;
        self.check_member(scope, user).await?;
        if scope.actor().user() == Some(user) {
            check_recent(&self.core, scope).await?;
        }
        let which = Ended::OfMember(scope.tenant(), user, None);
        let told = ("members.session_end", user.to_string());
        self.finish(scope, which, told).await
    }

    /// Ends one session of a member in the permit's tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the member has no such session there; [`Error::Refused`]
    /// `recent_login_required` for another one of the caller's own, as [`end`](Self::end), and
    /// `beyond_your_rights`, as [`end_all_of`](Self::end_all_of).
    pub async fn end_of(&self, permit: &Permit<Update>, user: UserId, id: FamilyId) -> Result<()> {
        let scope = permit.on(OBJECT)?;
        self.check_member(scope, user).await?;
        if scope.actor().user() == Some(user) && scope.session() != Some(id) {
            check_recent(&self.core, scope).await?;
        }
        let which = Ended::OfMember(scope.tenant(), user, Some(id));
        let told = ("members.session_end", id.to_string());
        match self.finish(scope, which, told).await? {
            0 => Err(Error::NotFound),
            _ => Ok(()),
        }
    }

    /// Ends sessions, leaves an audit row of this action about this entity when there were any, and
    /// forgets them here.
    async fn finish(
        &self,
        scope: &Scope,
        which: Ended,
        (action, entity): (&'static str, String),
    ) -> Result<u64> {
        let scope = scope.clone();
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                if let Ended::OfMember(_, user, _) = which {
                    check_rank(tx, &scope, user).await?;
                }
                let ended = refresh::end(tx, scope.clock(), which).await?;
                if !ended.is_empty() {
                    let entity = ("sessions", Some(entity));
                    let after = json!({ "sessions": ended });
                    journal::audit(tx, &scope, action, entity, None, Some(after)).await?;
                }
                Ok(ended)
            })
        });
        let ended = write.await?;
        for id in &ended {
            self.core.identity.live.forget(*id);
        }
        Ok(u64::try_from(ended.len()).unwrap_or(u64::MAX))
    }

    async fn check_member(&self, scope: &Scope, user: UserId) -> Result<()> {
        let member =
            Sql::new("SELECT user_id FROM memberships WHERE tenant_id = $1 AND user_id = $2")
                .bind(scope.tenant(), ColumnType::Uuid)
                .bind(user, ColumnType::Uuid)
                .returns(&[ColumnType::Uuid]);
        let found = self.core.db.fetch_optional(member).await?;
        found.map(drop).ok_or(Error::NotFound)
    }

    /// A session is over at its end, and when it was not used for too long.
    fn bind_times(&self, sql: Sql) -> Sql {
        let now = self.core.clock.now();
        sql.bind(now, ColumnType::Instant).bind(
            now - self.core.identity.refreshing.idle(),
            ColumnType::Instant,
        )
    }

    async fn read(&self, sql: Sql, scope: &Scope) -> Result<Vec<OpenSession>> {
        let rows = self.core.db.fetch_all(sql).await?;
        rows.into_iter().map(|row| parse(row, scope)).collect()
    }
}

fn select() -> Sql {
    Sql::new(
        "SELECT f.id, t.id, t.name, f.roaming, f.created_at, f.last_used_at, f.expires_at, f.address, \
         f.user_agent, f.impersonator_id, f.home_id \
         FROM refresh_families f JOIN tenants t ON t.id = f.tenant_id \
         WHERE f.revoked_at IS NULL AND f.expires_at > $1 AND f.last_used_at > $2 AND ",
    )
    .returns(&[
        ColumnType::Uuid,
        ColumnType::Uuid,
        ColumnType::Text,
        ColumnType::Bool,
        ColumnType::Instant,
        ColumnType::Instant,
        ColumnType::Instant,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Uuid,
        ColumnType::Uuid,
    ])
}

fn parse(mut row: Row, scope: &Scope) -> Result<OpenSession> {
    let id = row.uuid()?;
    let tenant = TenantRef {
        id: row.uuid()?,
        name: row.text()?,
    };
    Ok(OpenSession {
        id,
        tenant: Some(tenant).filter(|tenant| tenant.id != PLATFORM),
        roaming: row.bool()?,
        created_at: row.instant()?,
        last_used_at: row.instant()?,
        expires_at: row.instant()?,
        address: row.opt_text()?,
        user_agent: row.opt_text()?,
        current: scope.session() == Some(id),
        impersonator: match (row.opt_uuid()?, row.opt_uuid()?) {
            (Some(user), Some(home)) => Some(Impersonator { user, home }.actor().to_string()),
            _ => None,
        },
    })
}

/// Whether a tenant asks for a second factor that the session did not begin with.
async fn lacks_factor(
    tx: &mut Tx<'_>,
    core: &Core,
    session: FamilyId,
    tenant: TenantId,
) -> Result<bool> {
    let asks = Sql::new(
        "SELECT (t.requires_second_factor OR $3) AND NOT EXISTS (\
             SELECT 1 FROM refresh_families f WHERE f.id = $1 AND f.two_factors) \
         FROM tenants t WHERE t.id = $2",
    )
    .bind(session, ColumnType::Uuid)
    .bind(tenant, ColumnType::Uuid)
    .bind(core.identity.strict, ColumnType::Bool)
    .returns(&[ColumnType::Bool]);
    let asks = tx.fetch_optional(asks).await?;
    asks.ok_or_else(no_member)?.bool()
}

fn no_member() -> Error {
    Error::invalid("tenant", "unknown", "You are no member of such a tenant.")
}

fn factor_required() -> Error {
    Error::conflict(
        "second_factor_required",
        "this tenant asks for a second factor, and this login was made without one: give a code of \
         yours with the tenant's name, or log in to it",
    )
}

#[cfg(test)]
mod tests;
