//! Which way a search takes: by the index, or record by record.

use super::{Query, Records};
use crate::db::record::{SearchPath, few};
use crate::error::Result;
use crate::id::TenantId;
use crate::module::CompiledModule;

impl Records {
    pub(super) async fn search_path(
        &self,
        module: &CompiledModule,
        tenant: TenantId,
        query: &Query,
    ) -> Result<SearchPath> {
        let Some(probe) = self.core.statements(module).search_probe(tenant, query) else {
            return Ok(SearchPath::Index);
        };
        let row = self.core.db.fetch_optional(probe).await?;
        let matches = row.map_or(Ok(0), |mut row| row.int::<i64>())?;
        Ok(if few(matches.unsigned_abs()) {
            SearchPath::Index
        } else {
            SearchPath::Scan
        })
    }
}
