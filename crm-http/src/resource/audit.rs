//! The audit log: read only, because nobody edits what happened.

use crm_core::{AuditEntry, AuditQuery, Crm, Read};
use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{Object, OpenApi};
use serde_json::Value;
use uuid::Uuid;

use crate::credential::Caller;
use crate::problem::Problem;
use crate::wire::{Instant, Tag};

/// The operations on the audit log.
pub(crate) struct Audit {
    pub(crate) crm: Crm,
}

/// Something that somebody did.
#[derive(Object)]
#[oai(rename = "AuditEntry")]
struct Entry {
    id: Uuid,
    occurred_at: Instant,
    /// `user:<id>`, `api_key:<id>`, `plugin:<id>` or `operator`.
    actor: String,
    /// What was done, such as `contacts.update`.
    action: String,
    /// To what kind of thing, such as `contacts`.
    entity: String,
    /// To which one.
    #[oai(nullable)]
    entity_id: Option<String>,
    /// The thing before.
    #[oai(nullable)]
    before: Option<Any<Value>>,
    /// The thing after.
    #[oai(nullable)]
    after: Option<Any<Value>>,
    /// The request that did it.
    request_id: String,
    /// The client's address.
    #[oai(nullable)]
    address: Option<String>,
}

/// A page of the audit log.
#[derive(Object)]
#[oai(rename = "AuditList")]
struct List {
    /// The entries, newest first.
    data: Vec<Entry>,
    /// The `cursor` of the next page; null at the end.
    #[oai(nullable)]
    next_cursor: Option<Uuid>,
}

#[OpenApi(prefix_path = "/api/v1/audit", tag = "Tag::Audit")]
impl Audit {
    /// List what happened
    ///
    /// Newest first. Permission: `audit.read`.
    #[oai(path = "/", method = "get", operation_id = "list_audit")]
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one documented query parameter"
    )]
    async fn list(
        &self,
        caller: Caller,
        /// Only entries about this kind of thing, such as `contacts`.
        entity: Query<Option<String>>,
        /// Only entries about this one.
        entity_id: Query<Option<String>>,
        /// Only entries of this action, such as `contacts.update`.
        action: Query<Option<String>>,
        /// Only entries of this actor, such as `user:<id>`.
        actor: Query<Option<String>>,
        /// Most entries of the page.
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
        limit: Query<Option<u32>>,
        /// The `next_cursor` of the page before.
        cursor: Query<Option<Uuid>>,
    ) -> Result<Json<List>, Problem> {
        let query = AuditQuery {
            entity: entity.0,
            entity_id: entity_id.0,
            action: action.0,
            actor: actor.0,
            limit: limit.0,
            cursor: cursor.0,
        };
        let page = self
            .crm
            .audit()
            .list(&caller.permit::<Read>("audit")?, &query)
            .await?;
        Ok(Json(List {
            data: page.data.into_iter().map(Entry::from).collect(),
            next_cursor: page.next_cursor,
        }))
    }
}

impl From<AuditEntry> for Entry {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id,
            occurred_at: entry.occurred_at.into(),
            actor: entry.actor,
            action: entry.action,
            entity: entry.entity,
            entity_id: entry.entity_id,
            before: entry.before.map(Any),
            after: entry.after.map(Any),
            request_id: entry.request_id,
            address: entry.address,
        }
    }
}
