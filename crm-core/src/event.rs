//! What happened to a record, as kept in the outbox and handed to subscribers.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::id::{EventId, RecordId, TenantId};

/// What a write did to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A new record.
    Created,
    /// New values.
    Updated,
    /// The record is gone, or in the trash of its module.
    Deleted,
    /// The record is back from the trash.
    Restored,
    /// The record is gone from the trash, for good.
    Purged,
    /// Others became part of the record.
    Merged,
}

impl ChangeKind {
    /// The last segment of the event's kind: `created`, `updated`, `deleted`, `restored`, `purged`,
    /// `merged`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
            Self::Restored => "restored",
            Self::Purged => "purged",
            Self::Merged => "merged",
        }
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A committed change. Its field names are those of the JSON that subscribers receive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Unique for ever; a subscriber that sees it twice may drop the second.
    pub id: EventId,
    /// Position in the outbox; grows along the changes of one record.
    pub sequence: i64,
    /// The tenant it belongs to.
    pub tenant_id: TenantId,
    /// The module's plural name.
    pub module: String,
    /// `contact.created`: the module's singular name and what happened.
    pub kind: String,
    /// The changed record.
    pub record_id: RecordId,
    /// The record before, as on the wire; absent for a new one.
    pub before: Option<serde_json::Value>,
    /// The record after, as on the wire; absent for a deleted one.
    pub after: Option<serde_json::Value>,
    /// Who did it: `user:<id>`, `api_key:<id>`, `plugin:<id>` or `operator`.
    pub actor: String,
    /// The request that caused it.
    pub request_id: String,
    /// The first event of the chain of causes this one belongs to.
    pub root_id: EventId,
    /// How many events lie between the root and this one; 0 for the root.
    pub depth: u16,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
}
