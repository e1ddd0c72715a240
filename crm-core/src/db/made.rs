//! What the making of records takes along on SQLite, beside rows, audit and events: the number of a
//! tenant's records where it is kept, and word to the search index where a record is made behind
//! the place that the tenant's part reaches to (ids are ordered by time, clocks are set back).

use super::record::Statements;
use super::{ColumnType, Dialect, Sql, Tx};
use crate::error::Result;
use crate::id::{RecordId, TenantId};
use crate::module::{CompiledModule, ModuleSpec, SearchMode};

/// Records from which on their number is worth being kept.
pub(crate) const MANY: u64 = 500;

impl Tx<'_> {
    /// Tells that this transaction has made `count` records of a module, `first` being the smallest
    /// id of them. Whoever inserts records tells.
    pub(crate) async fn made(
        &mut self,
        module: &CompiledModule,
        tenant: TenantId,
        first: RecordId,
        count: u32,
    ) -> Result<()> {
        if self.dialect() == Dialect::Postgres {
            return Ok(());
        }
        let counted = Sql::new(
            "UPDATE record_counts SET count = count + $1 WHERE tenant_id = $2 AND module = $3",
        )
        .bind(count, ColumnType::Int)
        .bind(tenant, ColumnType::Uuid)
        .bind(module.name().as_str(), ColumnType::Text);
        self.execute(counted).await?;
        if module.spec().search == SearchMode::Indexed && !module.is_tenants() {
            self.execute(behind(module, tenant, first)).await?;
        }
        Ok(())
    }

    /// Tells that the module's table is another one: the trigger that counts may be gone with it.
    pub(crate) async fn forget_counts(&mut self, module: &ModuleSpec) -> Result<()> {
        let forget = Sql::new("DELETE FROM record_counts WHERE module = $1")
            .bind(module.name.as_str(), ColumnType::Text);
        self.execute(forget).await.map(drop)
    }
}

/// The new records that the search index would think it knew.
fn behind(module: &CompiledModule, tenant: TenantId, first: RecordId) -> Sql {
    let name = module.name();
    let mut sql = Sql::new("INSERT INTO ");
    sql.derived(name, ".search.pending")
        .push(" (tenant_id, id) SELECT tenant_id, id FROM ")
        .ident(name)
        .push(" WHERE tenant_id = ")
        .arg(tenant, ColumnType::Uuid)
        .push(" AND id >= ")
        .arg(first, ColumnType::Uuid)
        .push(" AND id <= (SELECT upto FROM ")
        .derived(name, ".search.tenants")
        .push(" WHERE tenant_id = ")
        .arg(tenant, ColumnType::Uuid)
        .push(") ON CONFLICT DO NOTHING");
    sql
}

impl Statements {
    /// Reads the number of a tenant's records, where it may be kept: not of modules with a trash,
    /// whose records go and come without being made or deleted, nor of those in a shared table.
    pub(crate) fn kept_count(&self, tenant: TenantId) -> Option<Sql> {
        let module = self.module();
        let elsewhere = self.dialect() == Dialect::Postgres || module.is_tenants();
        if elsewhere || module.spec().soft_delete {
            return None;
        }
        let sql = Sql::new("SELECT count FROM record_counts WHERE tenant_id = $1 AND module = $2")
            .bind(tenant, ColumnType::Uuid)
            .bind(self.module().name().as_str(), ColumnType::Text)
            .returns(&[ColumnType::Int]);
        Some(sql.point_read())
    }

    /// Counts a tenant's records and keeps their number from now on, whoever writes: a trigger
    /// counts what is deleted, [`Tx::made`] what is made.
    pub(crate) async fn keep_count(&self, tx: &mut Tx<'_>, tenant: TenantId) -> Result<()> {
        let name = self.module().name();
        // A name of letters, digits and underscores needs no escape between these quotes.
        tx.run_script(format!(
            "CREATE TRIGGER IF NOT EXISTS \"{name}.count.delete\" AFTER DELETE ON \"{name}\" BEGIN
    UPDATE record_counts SET count = count - 1
        WHERE tenant_id = OLD.\"tenant_id\" AND module = '{name}';
END"
        ))
        .await?;
        let mut sql = Sql::new("INSERT INTO record_counts (tenant_id, module, count) SELECT ");
        sql.arg(tenant, ColumnType::Uuid)
            .push(", ")
            .arg(name.as_str(), ColumnType::Text)
            .push(", count(*) FROM ")
            .ident(name)
            .push(" WHERE tenant_id = ")
            .arg(tenant, ColumnType::Uuid)
            .push(" ON CONFLICT (tenant_id, module) DO UPDATE SET count = excluded.count");
        tx.execute(sql).await.map(drop)
    }
}
