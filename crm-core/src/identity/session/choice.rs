//! Where a login leads: the tenants that a user may log in to, and the one that they choose.

use super::invalid_credentials;
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{TenantId, UserId};
use crate::identity::Accounts;
use crate::platform::PLATFORM;
use crate::tenant;

/// A tenant that a user may log in to.
pub(in crate::identity) struct Choice {
    pub(super) id: TenantId,
    name: String,
}

impl Accounts {
    pub(in crate::identity) async fn choices(&self, user: UserId) -> Result<Vec<Choice>> {
        let rows = self.core.db.fetch_all(choices_of(user)).await?;
        rows.into_iter().map(Choice::read).collect()
    }

    /// Where a login leads: to a tenant, or an operator's to the platform.
    pub(in crate::identity) fn place(
        &self,
        mut choices: Vec<Choice>,
        named: Option<String>,
    ) -> Result<TenantId> {
        let all = choices.len();
        choices.retain(|choice| choice.id != PLATFORM);
        let operator = choices.len() < all;
        if self.platform && !operator {
            return Err(invalid_credentials());
        }
        if operator && (self.platform || (choices.is_empty() && named.is_none())) {
            return Ok(PLATFORM);
        }
        let named = match choices.first() {
            // Every request names its tenant; one of them must be the active one all the same.
            Some(first) if self.roaming => named.or_else(|| Some(first.name.clone())),
            _ => named,
        };
        choose(choices, named.as_deref())
    }
}

impl Choice {
    fn read(mut row: Row) -> Result<Self> {
        Ok(Self {
            id: row.uuid()?,
            name: row.text()?,
        })
    }
}

fn choices_of(user: UserId) -> Sql {
    Sql::new(
        "SELECT t.id, t.name FROM memberships m \
         JOIN tenants t ON t.id = m.tenant_id AND t.status = 'active' \
         WHERE m.user_id = $1 ORDER BY t.name",
    )
    .bind(user, ColumnType::Uuid)
    .returns(&[ColumnType::Uuid, ColumnType::Text])
}

/// The tenants that a user may log in to.
pub(in crate::identity) async fn choices_in(tx: &mut Tx<'_>, user: UserId) -> Result<Vec<Choice>> {
    let rows = tx.fetch_all(choices_of(user)).await?;
    rows.into_iter().map(Choice::read).collect()
}

/// The tenant that a user chooses who has passed the second factor.
///
/// # Errors
/// [`Error::Invalid`] on `tenant`, listing those that there are.
pub(in crate::identity) async fn choose_in(
    tx: &mut Tx<'_>,
    user: UserId,
    named: Option<&str>,
) -> Result<TenantId> {
    let mut choices = choices_in(tx, user).await?;
    choices.retain(|choice| choice.id != PLATFORM);
    choose(choices, named)
}

/// The tenant to log in to: the one named, or the only one.
fn choose(choices: Vec<Choice>, named: Option<&str>) -> Result<TenantId> {
    let found = match (named.map(str::trim), choices.as_slice()) {
        (_, []) => return Err(invalid_credentials()),
        (None, [only]) => Some(only.id),
        (None, _) => None,
        (Some(name), choices) => called(choices, name),
    };
    if let Some(id) = found {
        return Ok(id);
    }
    let names: Vec<_> = choices.iter().map(|choice| choice.name.as_str()).collect();
    let code = if named.is_some() {
        "unknown"
    } else {
        "required"
    };
    let message = format!("Name one of your tenants: {}.", names.join(", "));
    Err(Error::invalid("tenant", code, message))
}

/// The one of this name; see [`tenant::called`].
pub(in crate::identity) fn called(choices: &[Choice], name: &str) -> Option<TenantId> {
    tenant::called(choices, name, |choice| &choice.name).map(|choice| choice.id)
}
