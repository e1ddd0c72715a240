//! What an API key has besides its role that decides what it may do.

use chrono::{DateTime, Utc};

use super::Root;
use crate::crm::Core;
use crate::db::{ColumnType, Sql};
use crate::error::{Error, Result};
use crate::id::{ApiKeyId, RoleId, UserId};
use crate::scope::Scope;

/// A key that somebody asks about.
pub(super) struct Key {
    role: RoleId,
    /// The service account that it acts as, and its name.
    pub(super) account: Option<(UserId, String)>,
    expires_at: Option<DateTime<Utc>>,
    revoked: bool,
}

impl Key {
    /// The key, revoked and expired ones too.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the tenant has none of this id.
    pub(super) async fn find(core: &Core, scope: &Scope, id: ApiKeyId) -> Result<Self> {
        let find = Sql::new(
            "SELECT k.role_id, k.user_id, u.name, k.expires_at, k.revoked_at IS NOT NULL FROM api_keys k \
             LEFT JOIN users u ON u.id = k.user_id WHERE k.tenant_id = $1 AND k.id = $2",
        )
        .bind(scope.tenant(), ColumnType::Uuid)
        .bind(id, ColumnType::Uuid)
        .returns(&[
            ColumnType::Uuid,
            ColumnType::Uuid,
            ColumnType::Text,
            ColumnType::Instant,
            ColumnType::Bool,
        ]);
        let mut row = core.db.fetch_optional(find).await?.ok_or(Error::NotFound)?;
        let role = row.uuid()?;
        let (account, name) = (row.opt_uuid()?, row.opt_text()?);
        Ok(Self {
            role,
            account: account.map(|account| (account, name.unwrap_or_default())),
            expires_at: row.opt_instant()?,
            revoked: row.bool()?,
        })
    }

    /// Its role, unless it is revoked.
    pub(super) fn root(&self) -> Option<Root> {
        (!self.revoked).then_some(Root {
            role: self.role,
            group: None,
            until: None,
        })
    }

    /// Whether it ended by itself, and nobody revoked it.
    pub(super) fn has_expired(&self, now: DateTime<Utc>) -> bool {
        !self.revoked && self.expires_at.is_some_and(|end| end <= now)
    }
}
