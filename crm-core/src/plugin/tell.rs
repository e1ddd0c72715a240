//! Events that plugins tell themselves: a row of the outbox, without a record.

use serde_json::{Map, Value as Json};

use super::{Plugin, usage};
use crate::db::{self, ColumnType};
use crate::error::{Error, Result};
use crate::event::TOLD;
use crate::id::EventId;
use crate::json;
use crate::module::has_nul;
use crate::scope::Scope;

/// Most bytes of what is told.
const MAX_DATA: usize = 32 * 1024;

/// What a plugin tells, where it may tell it.
pub(super) fn judge(plugin: &Plugin, name: &str, data: &str) -> Result<Map<String, Json>> {
    if !plugin
        .manifest
        .emits
        .iter()
        .any(|known| known.as_str() == name)
    {
        return Err(Error::Forbidden {
            permission: format!("events.{name}"),
        });
    }
    if data.len() > MAX_DATA {
        let message = format!("must have at most {MAX_DATA} bytes");
        return Err(Error::invalid("data", "too_long", message));
    }
    // Read whole, so that no database is given what it does not hold.
    let told: Map<String, Json> = json::object(data.as_bytes()).map_err(|error| {
        let message = format!("must be a JSON object: {error}");
        Error::invalid("data", "malformed_json", message)
    })?;
    if told
        .iter()
        .any(|(key, value)| key.contains('\0') || has_nul(value))
    {
        return Err(Error::invalid(
            "data",
            "invalid_text",
            "must not contain NUL",
        ));
    }
    Ok(told)
}

pub(super) async fn emit(scope: &Scope, plugin: &Plugin, name: &str, data: &str) -> Result<()> {
    let told = judge(plugin, name, data)?;
    let id = EventId(scope.clock().new_id());
    let cause = scope.cause();
    let (root, depth) = cause.map_or((id, 0), |cause| (cause.root_id, cause.depth));
    let own = &plugin.manifest.name;
    let event = db::journal::outbox()
        .bind(id, ColumnType::Uuid)
        .bind(scope.tenant(), ColumnType::Uuid)
        .bind(format!("{TOLD}{own}"), ColumnType::Text)
        .bind(format!("{own}.{name}"), ColumnType::Text)
        .bind(plugin.id, ColumnType::Uuid)
        .bind(None::<Json>, ColumnType::Json)
        .bind(Json::Object(told), ColumnType::Json)
        .bind(scope.actor().to_string(), ColumnType::Text)
        .bind(&*scope.request().id, ColumnType::Text)
        .bind(root, ColumnType::Uuid)
        .bind(depth, ColumnType::Int)
        .bind(scope.clock().now(), ColumnType::Instant)
        .bind(scope.told_principal(), ColumnType::Text);
    let (tenant, now, bytes) = (scope.tenant(), scope.clock().now(), data.len());
    let job = scope.core().db.write(move |tx| {
        Box::pin(async move {
            usage::take_room(tx, tenant, now, bytes).await?;
            tx.execute(event).await.map(drop)
        })
    });
    job.await
}
