//! The vectors of many records, page by page.

use super::Statements;
use crate::db::{ColumnType, Sql};
use crate::id::TenantId;
use crate::reach::Reach;
use crate::record::{Field, Filter};

impl Statements {
    /// The ids and vectors of the records behind `after` that have one, in the order of ids.
    pub(crate) fn vectors(
        &self,
        tenant: TenantId,
        reach: &Reach,
        filter: Option<&Filter>,
        position: usize,
        after: Option<uuid::Uuid>,
        limit: u32,
    ) -> Sql {
        const COLUMNS: &[ColumnType] = &[ColumnType::Uuid, ColumnType::Vector];
        let field = Field::Declared(position);
        let mut sql = Sql::new("SELECT id, ");
        self.column(&mut sql, field);
        sql.push(" FROM ").ident(self.module.table());
        self.conditions(&mut sql, tenant, reach, filter, None);
        sql.push(" AND ");
        self.column(&mut sql, field);
        sql.push(" IS NOT NULL");
        if let Some(after) = after {
            sql.push(" AND id > ").arg(after, ColumnType::Uuid);
        }
        sql.push(" ORDER BY id LIMIT ").number(u64::from(limit));
        sql.returns(COLUMNS)
    }
}
