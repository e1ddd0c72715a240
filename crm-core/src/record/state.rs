//! Records read back from the wire form that events hold.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use super::Record;
use crate::id::{RecordId, UserId};
use crate::module::CompiledModule;
use crate::module::stored::stored;
use crate::value::Value;

impl Record {
    /// The record that a stored state tells of, in the module's fields of now: one that it does not
    /// tell of is null. `None` for what is no state of a record.
    pub(crate) fn from_state(module: &Arc<CompiledModule>, state: &Json) -> Option<Self> {
        let state = state.as_object()?;
        let text = |name: &str| state.get(name).and_then(Json::as_str);
        let instant = |name: &str| text(name)?.parse::<DateTime<Utc>>().ok();
        let id = text("id")?.parse::<Uuid>().ok()?;
        let values = module.fields().iter().map(|field| {
            let value = state.get(field.name.as_str()).cloned();
            value.map_or(Value::Null, |json| stored(&field.kind, json))
        });
        Some(Self {
            id: RecordId(id),
            version: state.get("version").and_then(Json::as_i64).unwrap_or(0),
            owner_id: text("owner_id").and_then(|id| id.parse().ok()).map(UserId),
            created_at: instant("created_at").unwrap_or_default(),
            updated_at: instant("updated_at").unwrap_or_default(),
            deleted_at: instant("deleted_at"),
            values: values.collect(),
            module: module.clone(),
        })
    }
}
