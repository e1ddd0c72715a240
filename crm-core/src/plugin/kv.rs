//! The small store of a plugin: keys and bytes, its own in each tenant, bounded.

use super::Plugin;
use crate::db::{ColumnType, Db, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{PluginId, TenantId};

/// Most characters of a key.
const MAX_KEY: usize = 200;
/// Most bytes of a value.
const MAX_VALUE: usize = 64 * 1024;
/// Most keys of a plugin.
const MAX_KEYS: i64 = 1_000;
/// Most bytes of the values of all plugins of a tenant.
const MAX_BYTES: i64 = 16 * 1024 * 1024;
/// Most keys of an answer.
pub(super) const PAGE: u64 = 100;

/// The value under a key.
pub(super) async fn get(db: &Db, plugin: &Plugin, key: &str) -> Result<Option<Vec<u8>>> {
    check(key)?;
    let sql = Sql::new(
        "SELECT value FROM plugin_kv WHERE tenant_id = $1 AND plugin_id = $2 AND key = $3",
    )
    .bind(plugin.tenant_id, ColumnType::Uuid)
    .bind(plugin.id, ColumnType::Uuid)
    .bind(key, ColumnType::Text)
    .returns(&[ColumnType::Bytes])
    .point_read();
    let row = db.fetch_optional(sql).await?;
    row.map(|mut row| row.bytes()).transpose()
}

/// Sets the value under a key.
pub(super) async fn set(db: &Db, plugin: &Plugin, key: &str, value: Vec<u8>) -> Result<()> {
    judge(key, &value)?;
    let count = Sql::new(
        "SELECT count(*) FROM plugin_kv WHERE tenant_id = $1 AND plugin_id = $2 AND key <> $3",
    )
    .bind(plugin.tenant_id, ColumnType::Uuid)
    .bind(plugin.id, ColumnType::Uuid)
    .bind(key, ColumnType::Text)
    .returns(&[ColumnType::Int]);
    let put = Sql::new(
        "INSERT INTO plugin_kv (tenant_id, plugin_id, key, value) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (tenant_id, plugin_id, key) DO UPDATE SET value = excluded.value",
    )
    .bind(plugin.tenant_id, ColumnType::Uuid)
    .bind(plugin.id, ColumnType::Uuid)
    .bind(key, ColumnType::Text);
    let size = i64::try_from(value.len()).unwrap_or(i64::MAX);
    let put = put.bind(value, ColumnType::Bytes);
    let (tenant, id, key) = (plugin.tenant_id, plugin.id, key.to_owned());
    let job = db.write(move |tx| {
        Box::pin(async move {
            // Locks the plugin, so that its values are counted one write after the other.
            tx.execute(grow(tenant, id, 0)).await?;
            check_keys(tx.number(count).await? + 1)?;
            let more = size - tx.number(size_of(tenant, id, &key)).await?;
            tx.execute(grow(tenant, id, more)).await?;
            tx.execute(put).await?;
            match more > 0 {
                true => check_bytes(all(tx, tenant).await?),
                false => Ok(()),
            }
        })
    });
    job.await
}

/// Refuses more values than a plugin keeps.
pub(super) fn check_keys(keys: i64) -> Result<()> {
    if keys <= MAX_KEYS {
        return Ok(());
    }
    Err(Error::LimitExceeded {
        code: "too_many_keys",
        message: format!("a plugin keeps at most {MAX_KEYS} values; delete some").into(),
    })
}

/// Refuses more bytes than the plugins of a tenant keep.
pub(super) fn check_bytes(bytes: i64) -> Result<()> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    let message = format!(
        "the plugins of a tenant keep values of at most {MAX_BYTES} bytes together; delete some"
    );
    Err(Error::LimitExceeded {
        code: "too_many_bytes",
        message: message.into(),
    })
}

/// Removes the value under a key; answers whether there was one.
pub(super) async fn delete(db: &Db, plugin: &Plugin, key: &str) -> Result<bool> {
    check(key)?;
    let (tenant, id) = (plugin.tenant_id, plugin.id);
    let delete = Sql::new(
        "DELETE FROM plugin_kv WHERE tenant_id = $1 AND plugin_id = $2 AND key = $3 \
         RETURNING CAST(length(value) AS BIGINT)",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(id, ColumnType::Uuid)
    .bind(key, ColumnType::Text)
    .returns(&[ColumnType::Int]);
    let job = db.write(move |tx| {
        Box::pin(async move {
            tx.execute(grow(tenant, id, 0)).await?;
            let Some(mut row) = tx.fetch_optional(delete).await? else {
                return Ok(false);
            };
            let less: i64 = row.int()?;
            tx.execute(grow(tenant, id, -less)).await?;
            Ok(true)
        })
    });
    job.await
}

/// Counts bytes of values in or out.
fn grow(tenant: TenantId, plugin: PluginId, bytes: i64) -> Sql {
    Sql::new("UPDATE plugins SET kv_bytes = kv_bytes + $1 WHERE tenant_id = $2 AND id = $3")
        .bind(bytes, ColumnType::Int)
        .bind(tenant, ColumnType::Uuid)
        .bind(plugin, ColumnType::Uuid)
}

fn size_of(tenant: TenantId, plugin: PluginId, key: &str) -> Sql {
    Sql::new(
        "SELECT CAST(length(value) AS BIGINT) FROM plugin_kv \
         WHERE tenant_id = $1 AND plugin_id = $2 AND key = $3",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(plugin, ColumnType::Uuid)
    .bind(key, ColumnType::Text)
    .returns(&[ColumnType::Int])
}

/// The bytes of the values of all plugins of a tenant.
async fn all(tx: &mut Tx<'_>, tenant: TenantId) -> Result<i64> {
    let sum = Sql::new("SELECT CAST(sum(kv_bytes) AS BIGINT) FROM plugins WHERE tenant_id = $1")
        .bind(tenant, ColumnType::Uuid)
        .returns(&[ColumnType::Int]);
    let row = tx.fetch_optional(sum).await?;
    Ok(row.map_or(Ok(None), |mut row| row.opt_int())?.unwrap_or(0))
}

/// Keys that begin with the prefix, in order, after the one given.
pub(super) async fn keys(
    db: &Db,
    plugin: &Plugin,
    prefix: &str,
    after: Option<&str>,
) -> Result<Vec<String>> {
    let mut sql = Sql::new(
        "SELECT key FROM plugin_kv WHERE tenant_id = $1 AND plugin_id = $2 \
         AND substr(key, 1, length($3)) = $3 AND key > $4 ORDER BY key LIMIT ",
    )
    .bind(plugin.tenant_id, ColumnType::Uuid)
    .bind(plugin.id, ColumnType::Uuid)
    .bind(storable(prefix)?, ColumnType::Text)
    .bind(storable(after.unwrap_or_default())?, ColumnType::Text)
    .returns(&[ColumnType::Text]);
    sql.number(PAGE);
    let rows = db.fetch_all(sql).await?;
    rows.into_iter().map(|mut row| row.text()).collect()
}

/// Refuses what is no key, or too much under one.
pub(super) fn judge(key: &str, value: &[u8]) -> Result<()> {
    check(key)?;
    if value.len() > MAX_VALUE {
        let message = format!("must have at most {MAX_VALUE} bytes");
        return Err(Error::invalid("value", "too_long", message));
    }
    Ok(())
}

fn check(key: &str) -> Result<()> {
    storable(key)?;
    if key.is_empty() || key.chars().count() > MAX_KEY {
        let message = format!("must have 1 to {MAX_KEY} characters");
        return Err(Error::invalid("key", "out_of_range", message));
    }
    Ok(())
}

/// PostgreSQL's text holds no NUL.
fn storable(key: &str) -> Result<&str> {
    match key.contains('\0') {
        true => Err(Error::invalid(
            "key",
            "invalid_text",
            "must not contain NUL",
        )),
        false => Ok(key),
    }
}
