//! Accounts that are suspended and let in again: by the operator alone, for an account is not one
//! tenant's, and whoever looks after a tenant removes its members.

use serde_json::json;

use super::account::Accounts;
use super::email::normalize_email;
use super::own;
use crate::clock::Clock;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{FamilyId, TenantId, UserId};
use crate::journal::{self, Author};
use crate::scope::{Actor, RequestContext};
use crate::{member, policy};

/// Whether a user gets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AccountStatus {
    Active,
    Suspended,
}

impl AccountStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "inactive",
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::Active => "users.activate",
            Self::Suspended => "users.suspend",
        }
    }
}

impl Accounts {
    /// Lets a user in nowhere until they are [activated](Self::activate_user): logins, refreshes
    /// and mailed links are refused, all their sessions end at once, and what acts by their rights
    /// has none. Memberships and records stay. Suspending again changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`] when nobody has the address; [`Error::Conflict`] `last_admin` when one of
    /// their tenants would be left without an admin.
    pub async fn suspend_user(&self, email: &str, request: RequestContext) -> Result<()> {
        self.set_standing(email, AccountStatus::Suspended, request)
            .await
    }

    /// Lets a suspended user in again; sessions that ended stay so.
    ///
    /// # Errors
    /// [`Error::NotFound`] when nobody has the address.
    pub async fn activate_user(&self, email: &str, request: RequestContext) -> Result<()> {
        self.set_standing(email, AccountStatus::Active, request)
            .await
    }

    async fn set_standing(
        &self,
        email: &str,
        standing: AccountStatus,
        request: RequestContext,
    ) -> Result<()> {
        let (email, clock) = (normalize_email(email)?, self.core.clock.clone());
        let write = self.core.db.write(move |tx| {
            Box::pin(async move { change(tx, &clock, email, standing, &request).await })
        });
        let (tenants, ended) = write.await?;
        for tenant in tenants {
            self.core.policy.invalidate(tenant);
        }
        self.forget(ended);
        Ok(())
    }
}

/// Changes the standing; answers the tenants where rights have changed, and the sessions that
/// ended.
async fn change(
    tx: &mut Tx<'_>,
    clock: &Clock,
    email: String,
    standing: AccountStatus,
    request: &RequestContext,
) -> Result<(Vec<TenantId>, Vec<FamilyId>)> {
    let find = Sql::new("SELECT id, status FROM users WHERE email = $1")
        .bind(email, ColumnType::Text)
        .returns(&[ColumnType::Uuid, ColumnType::Text]);
    let mut row = tx.fetch_optional(find).await?.ok_or(Error::NotFound)?;
    let (user, status): (UserId, String) = (row.uuid()?, row.text()?);
    if status == standing.as_str() {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut with_admin = Vec::new();
    let tenants = tenants_of(tx, user).await?;
    for tenant in &tenants {
        // Of two admins who are suspended at once, the second one waits here.
        policy::bump_epoch(tx, *tenant).await?;
        if member::has_admin(tx, *tenant).await? {
            with_admin.push(*tenant);
        }
    }
    let update = Sql::new("UPDATE users SET status = $1 WHERE id = $2")
        .bind(standing.as_str(), ColumnType::Text)
        .bind(user, ColumnType::Uuid);
    tx.execute(update).await?;
    for tenant in with_admin {
        if !member::has_admin(tx, tenant).await? {
            return Err(member::last_admin());
        }
    }
    let ended = match standing {
        AccountStatus::Active => Vec::new(),
        AccountStatus::Suspended => own::end_sessions(tx, clock, user).await?,
    };
    for tenant in &tenants {
        let author = Author {
            clock,
            tenant: *tenant,
            actor: Actor::Operator,
            request,
        };
        let entity = ("users", Some(user.to_string()));
        let (before, after) = (
            json!({"status": status}),
            json!({"status": standing.as_str()}),
        );
        let states = (Some(before), Some(after));
        journal::audit_by(tx, author, standing.action(), entity, states.0, states.1).await?;
    }
    Ok((tenants, ended))
}

async fn tenants_of(tx: &mut Tx<'_>, user: UserId) -> Result<Vec<TenantId>> {
    let tenants =
        Sql::new("SELECT tenant_id FROM memberships WHERE user_id = $1 ORDER BY tenant_id")
            .bind(user, ColumnType::Uuid)
            .returns(&[ColumnType::Uuid]);
    let rows = tx.fetch_all(tenants).await?;
    rows.into_iter().map(|mut row| row.uuid()).collect()
}

#[cfg(test)]
mod tests;
