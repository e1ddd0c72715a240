//! Jobs and messages that wait for a plugin that cannot run now: put off again and again for some
//! days, and due at once when the plugin is switched on or another version of it becomes active.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Plugin, store};
use crate::db::{ColumnType, Sql, Tx};
use crate::error::Result;

/// When to look again at what cannot be handled now for a reason that may pass, and how long it
/// waits for that.
const PUT_OFF: TimeDelta = TimeDelta::minutes(1);
pub(super) const MOST_WAIT: TimeDelta = TimeDelta::days(3);

/// Why something is dropped whose plugin was switched off all the time that it waited.
pub(super) fn switched_off() -> String {
    let days = MOST_WAIT.num_days();
    format!("the plugin was switched off for {days} days")
}

/// When something is due again that a plugin, as it was `seen`, could not handle. The plugin is
/// locked until that is written down: whoever changes it afterwards finds what waits.
pub(super) async fn again(
    tx: &mut Tx<'_>,
    seen: &Plugin,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>> {
    let known = store::lock(tx, seen.tenant_id, seen.id).await?;
    let state = |plugin: &Plugin| (plugin.status, plugin.enabled_at, plugin.sha256);
    let same = known.is_none_or(|known| state(&known) == state(seen));
    Ok(if same { now + PUT_OFF } else { now })
}

/// Has everything be due that waits for the plugin, which is locked.
pub(super) async fn resume(tx: &mut Tx<'_>, plugin: &Plugin, now: DateTime<Utc>) -> Result<()> {
    let jobs =
        "UPDATE plugin_jobs SET due_at = $1 WHERE tenant_id = $2 AND plugin_id = $3 AND put_off";
    let messages = "UPDATE plugin_messages SET due_at = $1 WHERE tenant_id = $2 AND plugin_id = $3 \
        AND due_at IS NOT NULL AND put_off";
    for sql in [jobs, messages] {
        let sql = Sql::new(sql)
            .bind(now, ColumnType::Instant)
            .bind(plugin.tenant_id, ColumnType::Uuid)
            .bind(plugin.id, ColumnType::Uuid);
        tx.execute(sql).await?;
    }
    Ok(())
}
