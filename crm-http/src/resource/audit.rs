//! The audit log: read only, because nobody edits what happened.

use bytes::Bytes;
use crm_core::{AuditEntry, AuditExport, AuditPage, AuditQuery, Crm, Read};
use futures::{StreamExt as _, stream};
use poem::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use poem::{Body, IntoResponse, Response};
use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use poem_openapi::registry::{
    MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::Any;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde_json::Value;
use uuid::Uuid;

use crate::credential::Caller;
use crate::cursor;
use crate::problem::Problem;
use crate::wire::{Instant, Tag};

/// The operations on the audit log.
pub(crate) struct Audit {
    pub(crate) crm: Crm,
}

/// Something that somebody did.
#[derive(Object)]
#[oai(rename = "AuditEntry")]
pub(super) struct Entry {
    id: Uuid,
    occurred_at: Instant,
    /// `user:<id>`, `api_key:<id>`, `plugin:<id>`, `operator:<id>` for an operator of the platform, or
    /// `operator` for the program itself.
    actor: String,
    /// Who acted in the actor's name, `user:<id>` or `operator:<id>`; null when they did themselves.
    #[oai(nullable)]
    impersonator: Option<String>,
    /// What was done, such as `contacts.update`.
    action: String,
    /// To what kind of thing, such as `contacts`.
    entity: String,
    /// To which one.
    #[oai(nullable)]
    entity_id: Option<String>,
    /// The thing before; of a record, the fields that the caller may read in every record of its
    /// module, and null without the right to read these.
    #[oai(nullable)]
    before: Option<Any<Value>>,
    /// The thing after, as far as the one before.
    #[oai(nullable)]
    after: Option<Any<Value>>,
    /// Since when before and after are erased.
    #[oai(nullable)]
    erased_at: Option<Instant>,
    /// The request that did it.
    request_id: String,
    /// The client's address.
    #[oai(nullable)]
    address: Option<String>,
    /// The rule that allowed it, such as `role seller: deals.update:team`; several where it may have
    /// been any of them. `operator`, `plugin: deals.update`, or `application` for what followed from
    /// another write by declaration; null for acts that name none, such as logins, a
    /// tenant's settings, impersonations and those of the platform, and in older entries.
    #[oai(nullable)]
    rule: Option<String>,
}

/// A page of the audit log.
#[derive(Object)]
#[oai(rename = "AuditList")]
pub(super) struct List {
    /// The entries, newest first.
    data: Vec<Entry>,
    /// The `cursor` of the next page; null at the end.
    #[oai(nullable)]
    next_cursor: Option<String>,
}

impl From<AuditPage> for List {
    fn from(page: AuditPage) -> Self {
        Self {
            data: page.data.into_iter().map(Entry::from).collect(),
            next_cursor: page.next_cursor.map(cursor::write),
        }
    }
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
        /// Only entries in which this one acted in the actor's name, such as `operator:<id>`.
        impersonator: Query<Option<String>>,
        /// Most entries of the page.
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
        limit: Query<Option<u32>>,
        /// The `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<List>, Problem> {
        let query = AuditQuery {
            entity: entity.0,
            entity_id: entity_id.0,
            action: action.0,
            actor: actor.0,
            impersonator: impersonator.0,
            limit: limit.0,
            cursor: cursor::read(cursor.0)?,
        };
        let page = self
            .crm
            .audit()
            .list(&caller.permit::<Read>("audit")?, &query)
            .await?;
        Ok(Json(page.into()))
    }

    /// Export what happened
    ///
    /// A file of all entries that the filters let through, newest first: one JSON object on each
    /// line, as in the list. Permission: `audit.read`.
    #[oai(path = "/export", method = "get", operation_id = "export_audit")]
    async fn export(
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
        /// Only entries in which this one acted in the actor's name, such as `operator:<id>`.
        impersonator: Query<Option<String>>,
    ) -> Result<File, Problem> {
        let query = AuditQuery {
            entity: entity.0,
            entity_id: entity_id.0,
            action: action.0,
            actor: actor.0,
            impersonator: impersonator.0,
            ..AuditQuery::default()
        };
        let permit = caller.permit::<Read>("audit")?;
        let mut export = self.crm.audit().export(&permit, query)?;
        // Whatever is wrong shows in the first page, while there still is a status.
        let first = export.next().await?.unwrap_or_default();
        let rest = stream::unfold(Some(export), next_piece);
        let file = stream::iter([Ok(first.into())]).chain(rest);
        Ok(File::new("audit", Body::from_bytes_stream(file)))
    }
}

/// The next piece of a file; one that breaks off ends the connection, so that it is no whole file.
async fn next_piece(
    export: Option<AuditExport>,
) -> Option<(Result<Bytes, std::io::Error>, Option<AuditExport>)> {
    let mut export = export?;
    match export.next().await {
        Ok(piece) => Some((Ok(piece?.into()), Some(export))),
        Err(_) => Some((Err(std::io::Error::other("ended early")), None)),
    }
}

/// Lines as a file.
pub(super) struct File {
    name: &'static str,
    body: Body,
}

impl File {
    const MEDIA_TYPE: &'static str = "text/x-ndjson";

    pub(super) fn new(name: &'static str, body: Body) -> Self {
        Self { name, body }
    }
}

impl IntoResponse for File {
    fn into_response(self) -> Response {
        Response::builder()
            .header(CONTENT_TYPE, Self::MEDIA_TYPE)
            .header(
                CONTENT_DISPOSITION,
                format!("attachment; filename=\"{}.ndjson\"", self.name),
            )
            .body(self.body)
    }
}

impl ApiResponse for File {
    fn meta() -> MetaResponses {
        let text = MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")));
        MetaResponses {
            responses: vec![MetaResponse {
                description: "One JSON object on each line.",
                status: Some(200),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: Self::MEDIA_TYPE,
                    schema: text,
                }],
                headers: Vec::new(),
            }],
        }
    }

    fn register(_registry: &mut Registry) {}
}

impl From<AuditEntry> for Entry {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id,
            occurred_at: entry.occurred_at.into(),
            actor: entry.actor,
            impersonator: entry.impersonator,
            action: entry.action,
            entity: entry.entity,
            entity_id: entry.entity_id,
            before: entry.before.map(Any),
            after: entry.after.map(Any),
            erased_at: entry.erased_at.map(Instant::from),
            request_id: entry.request_id,
            address: entry.address,
            rule: entry.rule,
        }
    }
}
