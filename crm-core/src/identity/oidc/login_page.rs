//! What a login page shows of a tenant's providers to people who have not logged in: their names,
//! and nothing else. A tenant that there is not, is suspended, or has none is told by the same
//! empty list.

use crate::db::{ColumnType, Sql};
use crate::error::Result;
use crate::id::ProviderId;
use crate::identity::account::Accounts;
use crate::platform::PLATFORM;
use crate::tenant;

/// A provider that lets members in, as everybody sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginProvider {
    /// Its id, by which a login begins.
    pub id: ProviderId,
    /// Its name.
    pub name: String,
}

impl Accounts {
    /// The providers that let members of a tenant in, by its name as a login takes it; the oldest
    /// first. None for a tenant that there is not.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn login_providers(&self, tenant: &str) -> Result<Vec<LoginProvider>> {
        let Some(tenant) = tenant::named(&self.core, tenant).await? else {
            return Ok(Vec::new());
        };
        let all = Sql::new(
            "SELECT p.id, p.name FROM identity_providers p JOIN tenants t ON t.id = p.tenant_id \
             WHERE t.id = $1 AND t.status = 'active' AND t.id <> $2 AND p.enabled ORDER BY p.id",
        )
        .bind(tenant.id, ColumnType::Uuid)
        .bind(PLATFORM, ColumnType::Uuid)
        .returns(&[ColumnType::Uuid, ColumnType::Text]);
        let rows = self.core.db.fetch_all(all).await?;
        let read = |mut row: crate::db::Row| {
            Ok(LoginProvider {
                id: row.uuid()?,
                name: row.text()?,
            })
        };
        rows.into_iter().map(read).collect()
    }
}
