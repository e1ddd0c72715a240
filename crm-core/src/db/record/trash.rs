//! The SQL of modules with a trash: which records a statement sees, and their way in and out.

use chrono::{DateTime, Utc};

use super::Statements;
use super::custom::within;
use crate::db::{ColumnType, Dialect, Sql};
use crate::id::{RecordId, TenantId};
use crate::module::CompiledModule;
use crate::reach::Reach;

/// Which records of a module the statements see. A module without a trash has live ones only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shelf {
    /// Those that are not deleted.
    Live,
    /// Those in the trash.
    Trash,
    /// All of them.
    Both,
}

impl Shelf {
    /// The condition behind the tenant's, in every statement that reads records.
    pub(super) fn condition(self, module: &CompiledModule) -> &'static str {
        match (module.spec().soft_delete, self) {
            (false, _) | (true, Self::Both) => "",
            (true, Self::Live) => " AND deleted_at IS NULL",
            (true, Self::Trash) => " AND deleted_at IS NOT NULL",
        }
    }
}

impl Statements {
    /// The same statements over the records in the trash.
    pub(crate) fn trash(&self) -> Self {
        Self::on(&self.module, self.dialect, Shelf::Trash)
    }

    /// The same statements over all records.
    pub(crate) fn with_trash(&self) -> Self {
        Self::on(&self.module, self.dialect, Shelf::Both)
    }

    /// Moves a locked record to the trash or, without a time, back; it gets the next version.
    pub(crate) fn shelve(
        &self,
        tenant: TenantId,
        id: RecordId,
        now: DateTime<Utc>,
        deleted_at: Option<DateTime<Utc>>,
    ) -> Sql {
        let mut sql = Sql::new("UPDATE ");
        sql.ident(self.module.table())
            .push(" SET version = version + 1, updated_at = ");
        sql.arg(now, ColumnType::Instant).push(", deleted_at = ");
        sql.arg(deleted_at, ColumnType::Instant).push(" WHERE ");
        within(&mut sql, &self.module);
        sql.push("tenant_id = ");
        sql.arg(tenant, ColumnType::Uuid).push(" AND id = ");
        sql.arg(id, ColumnType::Uuid);
        sql
    }

    /// Records that were deleted before this moment, locked, in the order of their ids behind one.
    pub(crate) fn deleted_before(
        &self,
        tenant: TenantId,
        before: DateTime<Utc>,
        behind: Option<RecordId>,
        limit: u32,
    ) -> Sql {
        let mut sql = self.select();
        self.conditions(&mut sql, tenant, &Reach::All, None, None);
        sql.push(" AND deleted_at < ")
            .arg(before, ColumnType::Instant);
        if let Some(behind) = behind {
            sql.push(" AND id > ").arg(behind, ColumnType::Uuid);
        }
        sql.push(" ORDER BY id LIMIT ").number(u64::from(limit));
        if self.dialect == Dialect::Postgres {
            sql.push(" FOR UPDATE");
        }
        sql.returns_shared(&self.columns)
    }

    /// Lets nobody delete what a reference is just being made to: until this transaction ends,
    /// where a delete leaves the row in its place and no foreign key would notice.
    pub(super) fn hold(&self, sql: &mut Sql) {
        if self.dialect == Dialect::Postgres && self.module.spec().soft_delete {
            sql.push(" FOR KEY SHARE");
        }
    }
}
