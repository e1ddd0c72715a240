//! The rows of installed plugins and their components.

use bytes::Bytes;

use super::{Canary, Plugin, PluginStatus, Version};
use crate::db::{ColumnType, Db, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{PluginId, TenantId};

const COLUMNS: &[ColumnType] = &[
    ColumnType::Uuid,
    ColumnType::Uuid,
    ColumnType::Json,
    ColumnType::Bytes,
    ColumnType::Text,
    ColumnType::Uuid,
    ColumnType::Instant,
    ColumnType::Instant,
    ColumnType::Bytes,
    ColumnType::Bytes,
    ColumnType::Int,
    ColumnType::Text,
    ColumnType::Int,
    ColumnType::Instant,
];

macro_rules! columns {
    () => {
        "tenant_id, id, manifest, sha256, status, installed_by, created_at, enabled_at, \
         previous_sha256, canary_sha256, canary_percent, parked, crashes, \
         rests_until"
    };
}

/// Every plugin of a tenant, by name.
pub(super) async fn list(db: &Db, tenant: TenantId) -> Result<Vec<Plugin>> {
    let sql = Sql::new(concat!(
        "SELECT ",
        columns!(),
        " FROM plugins WHERE tenant_id = $1 ORDER BY name"
    ));
    let sql = sql.bind(tenant, ColumnType::Uuid).returns(COLUMNS);
    db.fetch_all(sql).await?.into_iter().map(plugin).collect()
}

/// One plugin.
pub(super) async fn find(db: &Db, tenant: TenantId, id: PluginId) -> Result<Option<Plugin>> {
    let sql = Sql::new(concat!(
        "SELECT ",
        columns!(),
        " FROM plugins WHERE tenant_id = $1 AND id = $2"
    ));
    let sql = sql
        .bind(tenant, ColumnType::Uuid)
        .bind(id, ColumnType::Uuid)
        .returns(COLUMNS);
    db.fetch_optional(sql).await?.map(plugin).transpose()
}

/// The plugin with this name.
pub(super) async fn find_named(db: &Db, tenant: TenantId, name: &str) -> Result<Option<Plugin>> {
    let sql = Sql::new(concat!(
        "SELECT ",
        columns!(),
        " FROM plugins WHERE tenant_id = $1 AND name = $2"
    ));
    let sql = sql
        .bind(tenant, ColumnType::Uuid)
        .bind(name, ColumnType::Text)
        .returns(COLUMNS);
    db.fetch_optional(sql).await?.map(plugin).transpose()
}

/// One plugin, locked until the transaction ends.
pub(super) async fn lock(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: PluginId,
) -> Result<Option<Plugin>> {
    let sql = Sql::new(concat!(
        "UPDATE plugins SET name = name WHERE tenant_id = $1 AND id = $2 RETURNING ",
        columns!()
    ));
    let sql = sql
        .bind(tenant, ColumnType::Uuid)
        .bind(id, ColumnType::Uuid)
        .returns(COLUMNS);
    tx.fetch_optional(sql).await?.map(plugin).transpose()
}

/// The plugin with this name, locked until the transaction ends.
pub(super) async fn lock_named(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    name: &str,
) -> Result<Option<Plugin>> {
    let sql = Sql::new(concat!(
        "UPDATE plugins SET name = name WHERE tenant_id = $1 AND name = $2 RETURNING ",
        columns!()
    ));
    let sql = sql
        .bind(tenant, ColumnType::Uuid)
        .bind(name, ColumnType::Text)
        .returns(COLUMNS);
    tx.fetch_optional(sql).await?.map(plugin).transpose()
}

/// Keeps others from doing the same in the tenant until the transaction ends.
pub(super) async fn hold(tx: &mut Tx<'_>, tenant: TenantId) -> Result<()> {
    let hold = Sql::new("UPDATE tenants SET name = name WHERE id = $1");
    tx.execute(hold.bind(tenant, ColumnType::Uuid)).await?;
    Ok(())
}

/// How many plugins a tenant has.
pub(super) async fn count(tx: &mut Tx<'_>, tenant: TenantId) -> Result<usize> {
    let sql = Sql::new("SELECT count(*) FROM plugins WHERE tenant_id = $1")
        .bind(tenant, ColumnType::Uuid)
        .returns(&[ColumnType::Int]);
    let count: i64 = match tx.fetch_optional(sql).await? {
        Some(mut row) => row.int()?,
        None => 0,
    };
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// Writes a plugin's row, new or changed.
pub(super) async fn put(tx: &mut Tx<'_>, plugin: &Plugin) -> Result<()> {
    let manifest = serde_json::to_value(&plugin.manifest).map_err(Error::internal)?;
    let status = match plugin.status {
        PluginStatus::Parked => PluginStatus::Disabled,
        status => status,
    };
    let bytes = |sha256: [u8; 32]| sha256.to_vec();
    let canary = plugin.canary.as_ref();
    tx.execute(
        Sql::new(
            "INSERT INTO plugins (tenant_id, id, name, version, manifest, sha256, status, \
             installed_by, created_at, enabled_at, previous_sha256, canary_sha256, \
             canary_percent, parked, crashes, rests_until) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
             ON CONFLICT (tenant_id, id) DO UPDATE SET version = excluded.version, \
             manifest = excluded.manifest, sha256 = excluded.sha256, status = excluded.status, \
             installed_by = excluded.installed_by, created_at = excluded.created_at, \
             enabled_at = excluded.enabled_at, previous_sha256 = excluded.previous_sha256, \
             canary_sha256 = excluded.canary_sha256, canary_percent = excluded.canary_percent, \
             parked = excluded.parked, crashes = excluded.crashes, \
             rests_until = excluded.rests_until",
        )
        .bind(plugin.tenant_id, ColumnType::Uuid)
        .bind(plugin.id, ColumnType::Uuid)
        .bind(plugin.manifest.name.as_str(), ColumnType::Text)
        .bind(&plugin.manifest.version, ColumnType::Text)
        .bind(manifest, ColumnType::Json)
        .bind(plugin.sha256.to_vec(), ColumnType::Bytes)
        .bind(status.as_str(), ColumnType::Text)
        .bind(plugin.installed_by, ColumnType::Uuid)
        .bind(plugin.created_at, ColumnType::Instant)
        .bind(plugin.enabled_at, ColumnType::Instant)
        .bind(plugin.previous.map(bytes), ColumnType::Bytes)
        .bind(canary.map(|canary| bytes(canary.sha256)), ColumnType::Bytes)
        .bind(
            canary.map(|canary| i64::from(canary.percent)),
            ColumnType::Int,
        )
        .bind(plugin.parked.clone(), ColumnType::Text)
        .bind(plugin.crashes, ColumnType::Int)
        .bind(plugin.rests_until, ColumnType::Instant),
    )
    .await?;
    Ok(())
}

/// Removes a plugin with its versions and runs.
pub(super) async fn delete(tx: &mut Tx<'_>, tenant: TenantId, id: PluginId) -> Result<()> {
    let sql = Sql::new("DELETE FROM plugins WHERE tenant_id = $1 AND id = $2")
        .bind(tenant, ColumnType::Uuid)
        .bind(id, ColumnType::Uuid);
    tx.execute(sql).await?;
    Ok(())
}

/// Keeps a component's bytes, once for all tenants. The row is locked either way, so that
/// [`drop_unused`] of another transaction waits to see who uses it.
pub(super) async fn put_component(
    tx: &mut Tx<'_>,
    version: &Version,
    component: Bytes,
) -> Result<()> {
    tx.execute(
        Sql::new(
            "INSERT INTO plugin_components (sha256, component, created_at) VALUES ($1, $2, $3) \
             ON CONFLICT (sha256) DO UPDATE SET created_at = plugin_components.created_at",
        )
        .bind(version.sha256.to_vec(), ColumnType::Bytes)
        .bind(component.to_vec(), ColumnType::Bytes)
        .bind(version.created_at, ColumnType::Instant),
    )
    .await?;
    Ok(())
}

/// Drops a component that no tenant has installed any more.
pub(super) async fn drop_unused(tx: &mut Tx<'_>, sha256: &[u8]) -> Result<()> {
    let lock = "UPDATE plugin_components SET created_at = created_at WHERE sha256 = $1";
    tx.execute(Sql::new(lock).bind(sha256.to_vec(), ColumnType::Bytes))
        .await?;
    let delete = "DELETE FROM plugin_components WHERE sha256 = $1 AND NOT EXISTS \
        (SELECT 1 FROM plugin_versions WHERE plugin_versions.sha256 = plugin_components.sha256)";
    tx.execute(Sql::new(delete).bind(sha256.to_vec(), ColumnType::Bytes))
        .await?;
    Ok(())
}

/// Removes the versions of a tenant that is erased, with the components that no other tenant has;
/// in one order, so that two erasures do not wait for each other.
pub(crate) async fn erase_versions(tx: &mut Tx<'_>, tenant: TenantId) -> Result<()> {
    let select = "SELECT DISTINCT sha256 FROM plugin_versions WHERE tenant_id = $1 ORDER BY sha256";
    let select = Sql::new(select)
        .bind(tenant, ColumnType::Uuid)
        .returns(&[ColumnType::Bytes]);
    let rows = tx.fetch_all(select).await?;
    let delete = Sql::new("DELETE FROM plugin_versions WHERE tenant_id = $1");
    tx.execute(delete.bind(tenant, ColumnType::Uuid)).await?;
    for mut row in rows {
        let sha256: Vec<u8> = row.bytes()?;
        drop_unused(tx, &sha256).await?;
    }
    Ok(())
}

/// A component's bytes.
pub(super) async fn component(db: &Db, sha256: &[u8; 32]) -> Result<Bytes> {
    let sql = Sql::new("SELECT component FROM plugin_components WHERE sha256 = $1")
        .bind(sha256.to_vec(), ColumnType::Bytes)
        .returns(&[ColumnType::Bytes]);
    let mut row = db.fetch_optional(sql).await?.ok_or(Error::NotFound)?;
    row.bytes::<Vec<u8>>().map(Bytes::from)
}

fn plugin(mut row: Row) -> Result<Plugin> {
    let broken = |column: &'static str| Error::Inconsistent {
        table: "plugins".into(),
        column: column.into(),
    };
    let hash = |bytes: Vec<u8>| bytes.try_into().map_err(|_| broken("sha256"));
    let mut plugin = Plugin {
        tenant_id: row.uuid()?,
        id: row.uuid()?,
        manifest: serde_json::from_value(row.json()?).map_err(|_| broken("manifest"))?,
        sha256: hash(row.bytes()?)?,
        status: PluginStatus::parse(&row.text::<String>()?).ok_or_else(|| broken("status"))?,
        installed_by: row.opt_uuid()?,
        created_at: row.instant()?,
        enabled_at: row.opt_instant()?,
        previous: row.opt_bytes()?.map(hash).transpose()?,
        canary: None,
        parked: None,
        crashes: 0,
        rests_until: None,
    };
    let canary: Option<Vec<u8>> = row.opt_bytes()?;
    let percent: Option<i64> = row.opt_int()?;
    if let (Some(sha256), Some(percent)) = (canary, percent) {
        plugin.canary = Some(Canary {
            sha256: hash(sha256)?,
            percent: u8::try_from(percent).map_err(|_| broken("canary_percent"))?,
        });
    }
    plugin.parked = row.opt_text()?;
    plugin.crashes = row.int()?;
    plugin.rests_until = row.opt_instant()?;
    if plugin.parked.is_some() && plugin.status == PluginStatus::Disabled {
        plugin.status = PluginStatus::Parked;
    }
    Ok(plugin)
}
