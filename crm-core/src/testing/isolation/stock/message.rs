//! Messages of other systems to plugins.

use bytes::Bytes;
use chrono::TimeDelta;

use super::{HOOK, SIGNED, plugins};
use crate::crm::Crm;
use crate::db::{ColumnType, Sql};
use crate::error::Result;
use crate::id::{EventId, PluginId, TenantId};
use crate::plugin::Message;
use crate::scope::{Create, Scope, Update};

/// The name of a message that came before.
pub(in super::super) const KNOWN: &str = "isolation-known";
/// Two less than a plugin may have waiting.
const WAITING: usize = 198;

/// A message to the plugin of this name, as only this tenant gets it.
pub(in super::super) fn of(plugin: &str, tenant: TenantId) -> Message {
    Message {
        plugin: plugin.to_owned(),
        hook: HOOK.to_owned(),
        content_type: None,
        body: Bytes::from(tenant.to_string()),
    }
}

/// A secret to sign with, one that has ended, and as many messages as there is room for but two,
/// due in years; one waits for its plugin.
pub(super) async fn many(crm: &Crm, scope: &Scope, plugin: PluginId) -> Result<()> {
    let permit = scope.permit::<Update>("plugins")?;
    let plugins = plugins(crm);
    for _ in 0..2 {
        let renewed = plugins.renew_hook_secret(&permit, plugin, SIGNED, TimeDelta::zero());
        renewed.await?;
    }
    let now = crm.clock().now();
    let insert = |number: usize| {
        let id = crm.clock().new_id();
        Sql::new(
            "INSERT INTO plugin_messages (tenant_id, plugin_id, hook, sender, message_id, id, \
             fingerprint, body, request_id, received_at, due_at, put_off) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(scope.tenant(), ColumnType::Uuid)
        .bind(plugin, ColumnType::Uuid)
        .bind(HOOK, ColumnType::Text)
        .bind("isolation", ColumnType::Text)
        .bind(number.to_string(), ColumnType::Text)
        .bind(id, ColumnType::Uuid)
        .bind(Vec::<u8>::new(), ColumnType::Bytes)
        .bind(Vec::<u8>::new(), ColumnType::Bytes)
        .bind("isolation", ColumnType::Text)
        .bind(now, ColumnType::Instant)
        .bind(now + TimeDelta::days(3_650), ColumnType::Instant)
        .bind(number == 0, ColumnType::Bool)
    };
    let rows: Vec<_> = (0..WAITING).map(insert).collect();
    let write = crm.core.db.write(move |tx| Box::pin(tx.insert_all(rows)));
    write.await
}

/// A job that waits for its plugin.
pub(super) async fn job(crm: &Crm, scope: &Scope, plugin: PluginId) -> Result<()> {
    let later = crm.clock().now() + TimeDelta::days(3_650);
    let job = Sql::new(
        "INSERT INTO plugin_jobs (tenant_id, plugin_id, name, due_at, root_id, depth, put_off) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(scope.tenant(), ColumnType::Uuid)
    .bind(plugin, ColumnType::Uuid)
    .bind(HOOK, ColumnType::Text)
    .bind(later, ColumnType::Instant)
    .bind(crm.clock().new_id(), ColumnType::Uuid)
    .bind(0, ColumnType::Int)
    .bind(true, ColumnType::Bool);
    crm.core.db.execute(job).await.map(drop)
}

/// A message that is known by its name, and says something else in each tenant.
pub(super) async fn known(crm: &Crm, scope: &Scope) -> Result<EventId> {
    let permit = scope.permit::<Create>("plugin_runs")?;
    let message = of("isolation_probe", scope.tenant());
    let id = plugins(crm).receive(&permit, Some(KNOWN), message).await?;
    // Nobody handles it before the suite is over.
    let later = Sql::new("UPDATE plugin_messages SET due_at = $1 WHERE tenant_id = $2 AND id = $3")
        .bind(
            crm.clock().now() + TimeDelta::days(3_650),
            ColumnType::Instant,
        )
        .bind(scope.tenant(), ColumnType::Uuid)
        .bind(id, ColumnType::Uuid);
    crm.core.db.execute(later).await?;
    Ok(id)
}
