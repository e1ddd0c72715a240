//! Tenants, some at a time.

use serde::Serialize;

use super::{COLUMNS, Tenant, Tenants, read};
use crate::db::{ColumnType, Sql};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::platform::PLATFORM;

/// Most tenants of one page.
const PAGE_MAX: u32 = 100;

/// A page of tenants, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TenantPage {
    /// The tenants.
    pub data: Vec<Tenant>,
    /// The tenant after which the next page begins; `None` on the last page.
    pub next: Option<TenantId>,
}

impl Tenants {
    /// The tenants after one, the oldest first, at most `limit` of them.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit outside 1 to 100.
    pub async fn page(&self, after: Option<TenantId>, limit: u32) -> Result<TenantPage> {
        if !(1..=PAGE_MAX).contains(&limit) {
            let message = "The limit is 1 to 100.";
            return Err(Error::invalid("limit", "out_of_range", message));
        }
        // The platform's id is that of zeros, before every tenant's.
        let page = Sql::new(
            "SELECT id, name, status, created_at FROM tenants WHERE id > $1 ORDER BY id LIMIT $2",
        )
        .bind(after.unwrap_or(PLATFORM), ColumnType::Uuid)
        .bind(limit + 1, ColumnType::Int)
        .returns(COLUMNS);
        let rows = self.core.db.fetch_all(page).await?;
        let mut data = rows.into_iter().map(read).collect::<Result<Vec<_>>>()?;
        let size = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = data.len() > size;
        data.truncate(size);
        let next = data.last().filter(|_| more).map(|tenant| tenant.id);
        Ok(TenantPage { data, next })
    }
}
