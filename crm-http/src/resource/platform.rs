//! The life of tenants, for operators.

use bytes::Bytes;
use crm_core::id::TenantId;
use crm_core::platform::NewTenant;
use crm_core::tenant::{ExportPiece, Tenant, TenantExport, Tombstone};
use futures::{StreamExt as _, stream};
use poem::Body;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use super::audit::File;
use super::{impersonation, invitation};
use crate::credential::PlatformCaller;
use crate::cursor;
use crate::payload::Strict;
use crate::problem::Problem;
use crate::wire::{Created, Instant, Tag, page_size};

/// The operations on tenants.
pub(crate) struct Tenants;

/// A tenant, as operators see it.
#[derive(Object)]
#[oai(rename = "PlatformTenant")]
struct Reply {
    id: Uuid,
    name: String,
    /// Whether its members and keys are let in; false for a suspended one.
    is_active: bool,
    created_at: Instant,
}

/// A page of tenants.
#[derive(Object)]
#[oai(rename = "PlatformTenantList")]
struct List {
    /// The oldest first.
    data: Vec<Reply>,
    /// The `cursor` of the next page; null at the end.
    #[oai(nullable)]
    next_cursor: Option<String>,
}

/// A tenant to be made.
#[derive(Object)]
#[oai(rename = "PlatformTenantCreate", deny_unknown_fields)]
struct CreateBody {
    /// Its name, which no other has.
    #[oai(validator(max_length = 100))]
    name: String,
    admin: FirstAdmin,
}

/// Who will administer a new tenant.
#[derive(Object)]
#[oai(deny_unknown_fields)]
struct FirstAdmin {
    /// The address that the invitation is sent to.
    #[oai(validator(max_length = 254))]
    email: String,
    #[oai(validator(max_length = 100))]
    name: String,
}

/// A new tenant, and the invitation of its first admin.
#[derive(Object)]
#[oai(rename = "PlatformTenantCreated")]
struct CreatedReply {
    tenant: Reply,
    invitation: invitation::Reply,
}

/// The consent to an erasure.
#[derive(Object)]
#[oai(rename = "PlatformTenantErase", deny_unknown_fields)]
struct EraseBody {
    /// The tenant's name once more.
    #[oai(validator(max_length = 100))]
    confirm: String,
}

/// What is left of a tenant that was erased.
#[derive(Object)]
#[oai(rename = "Tombstone")]
struct Grave {
    id: Uuid,
    created_at: Instant,
    /// When its erasure began.
    begun_at: Instant,
    /// When nothing of it was left; null while it is being erased.
    #[oai(nullable)]
    erased_at: Option<Instant>,
    /// The request that asked for it.
    request_id: String,
    /// The number of the last entry of its audit log.
    sequence: i64,
    /// The hash that its audit chain ended with, in hexadecimal digits.
    hash: String,
}

/// Erased tenants.
#[derive(Object)]
#[oai(rename = "TombstoneList")]
struct Graves {
    /// The oldest first.
    data: Vec<Grave>,
}

#[OpenApi(prefix_path = "/api/v1/platform", tag = "Tag::Platform")]
impl Tenants {
    /// List tenants
    ///
    /// The oldest first. Platform permission: `tenants.read`.
    #[oai(path = "/tenants", method = "get", operation_id = "list_tenants")]
    async fn list(
        &self,
        caller: PlatformCaller,
        /// Only the one of this name, in any case of its letters.
        name: Query<Option<String>>,
        /// Most tenants of the page.
        #[oai(
            default = "page_size",
            validator(minimum(value = "1"), maximum(value = "100"))
        )]
        limit: Query<u32>,
        /// The `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<List>, Problem> {
        if let Some(name) = name.0 {
            let found = caller.find_tenant(&name).await?;
            return Ok(Json(List {
                data: found.into_iter().map(Reply::from).collect(),
                next_cursor: None,
            }));
        }
        let after = cursor::read(cursor.0)?.map(TenantId);
        let page = caller.list_tenants(after, limit.0).await?;
        Ok(Json(List {
            data: page.data.into_iter().map(Reply::from).collect(),
            next_cursor: page.next.map(|id| cursor::write(id.0)),
        }))
    }

    /// Create a tenant
    ///
    /// With the built-in roles, and a mail that invites its first admin. Names that differ only in the case
    /// of ASCII letters are one name. Platform permission: `tenants.create`.
    #[oai(path = "/tenants", method = "post", operation_id = "create_tenant")]
    async fn create(
        &self,
        caller: PlatformCaller,
        body: Strict<CreateBody>,
    ) -> Result<Created<CreatedReply>, Problem> {
        let input = NewTenant {
            name: body.0.name,
            admin_email: body.0.admin.email,
            admin_name: body.0.admin.name,
        };
        let (tenant, invitation) = caller.create_tenant(input).await?;
        Ok(Created(CreatedReply {
            tenant: tenant.into(),
            invitation: invitation.into(),
        }))
    }

    /// Get a tenant
    ///
    /// Platform permission: `tenants.read`.
    #[oai(path = "/tenants/:id", method = "get", operation_id = "get_tenant")]
    async fn get(&self, caller: PlatformCaller, id: Path<Uuid>) -> Result<Json<Reply>, Problem> {
        Ok(Json(caller.get_tenant(TenantId(id.0)).await?.into()))
    }

    /// Suspend a tenant
    ///
    /// Its members, keys, plugins and jobs are refused until it is resumed; its data stays. Suspending
    /// it again changes nothing. Platform permission: `tenants.suspend`.
    #[oai(
        path = "/tenants/:id/suspend",
        method = "post",
        operation_id = "suspend_tenant"
    )]
    async fn suspend(
        &self,
        caller: PlatformCaller,
        id: Path<Uuid>,
    ) -> Result<Json<Reply>, Problem> {
        Ok(Json(caller.suspend_tenant(TenantId(id.0)).await?.into()))
    }

    /// Resume a tenant
    ///
    /// Platform permission: `tenants.resume`.
    #[oai(
        path = "/tenants/:id/resume",
        method = "post",
        operation_id = "resume_tenant"
    )]
    async fn resume(&self, caller: PlatformCaller, id: Path<Uuid>) -> Result<Json<Reply>, Problem> {
        Ok(Json(caller.resume_tenant(TenantId(id.0)).await?.into()))
    }

    /// Export a tenant
    ///
    /// Everything that it has, as one JSON object on each line: `file` is what `crm tenant export` names
    /// the file, `row` a line of it. Secrets leave in no export. A file that breaks off is not whole.
    /// Platform permission: `tenants.export`.
    #[oai(
        path = "/tenants/:id/export",
        method = "post",
        operation_id = "export_tenant"
    )]
    async fn export(&self, caller: PlatformCaller, id: Path<Uuid>) -> Result<File, Problem> {
        let export = caller.export_tenant(TenantId(id.0)).await?;
        let file = stream::unfold(Some(export), next_piece).boxed();
        Ok(File::new("tenant", Body::from_bytes_stream(file)))
    }

    /// Erase a tenant
    ///
    /// For good, with the users who belong to no other tenant; what stays is its id and the end of its
    /// audit chain. One that takes long goes on when the answer is 503; send it again to wait for its
    /// end. One that has ended is answered again as it was, whatever name is given. Platform permission: `tenants.erase`.
    #[oai(
        path = "/tenants/:id/erase",
        method = "post",
        operation_id = "erase_tenant"
    )]
    async fn erase(
        &self,
        caller: PlatformCaller,
        id: Path<Uuid>,
        body: Strict<EraseBody>,
    ) -> Result<Json<Grave>, Problem> {
        let tombstone = caller.erase_tenant(TenantId(id.0), &body.0.confirm).await?;
        Ok(Json(tombstone.into()))
    }

    /// List erased tenants
    ///
    /// Platform permission: `tenants.read`.
    #[oai(
        path = "/erased_tenants",
        method = "get",
        operation_id = "list_erased_tenants"
    )]
    async fn erased(&self, caller: PlatformCaller) -> Result<Json<Graves>, Problem> {
        let erased = caller.erased_tenants().await?;
        Ok(Json(Graves {
            data: erased.into_iter().map(Grave::from).collect(),
        }))
    }

    /// Act in the name of a tenant's member
    ///
    /// Answers an access token for some minutes, with the member's rights on records and to read the
    /// administration. The tenant's audit log tells of it, with the reason, and names both in each entry
    /// until it ends; its admins see it, end it, and can forbid it (403 `operators_excluded`). Nobody acts
    /// in a suspended tenant (409 `tenant_suspended`).
    /// Platform permission: `tenants.impersonate`.
    #[oai(
        path = "/tenants/:id/impersonations",
        method = "post",
        operation_id = "create_operator_impersonation"
    )]
    async fn impersonate(
        &self,
        caller: PlatformCaller,
        id: Path<Uuid>,
        body: Strict<impersonation::CreateBody>,
    ) -> Result<Created<impersonation::Begun>, Problem> {
        let begun = caller.impersonate(TenantId(id.0), body.0.into()).await?;
        Ok(Created(begun.into()))
    }
}

/// The next piece of an export; one that breaks off ends the connection.
async fn next_piece(
    export: Option<TenantExport>,
) -> Option<(Result<Bytes, std::io::Error>, Option<TenantExport>)> {
    let mut export = export?;
    match export.next().await {
        Ok(piece) => Some((Ok(lines(&piece?).into()), Some(export))),
        Err(_) => Some((Err(std::io::Error::other("ended early")), None)),
    }
}

/// The lines of a piece, each with the name of its file.
fn lines(piece: &ExportPiece) -> String {
    let mut text = String::with_capacity(piece.text.len() * 2);
    for row in piece.text.lines() {
        // Names of files are those of modules, and have no character to escape.
        text.push_str("{\"file\":\"");
        text.push_str(&piece.file);
        text.push_str("\",\"row\":");
        text.push_str(row);
        text.push_str("}\n");
    }
    text
}

impl From<Tenant> for Reply {
    fn from(tenant: Tenant) -> Self {
        Self {
            id: tenant.id.0,
            name: tenant.name,
            is_active: tenant.is_active,
            created_at: tenant.created_at.into(),
        }
    }
}

impl From<Tombstone> for Grave {
    fn from(tombstone: Tombstone) -> Self {
        Self {
            id: tombstone.id.0,
            created_at: tombstone.created_at.into(),
            begun_at: tombstone.begun_at.into(),
            erased_at: tombstone.erased_at.map(Instant::from),
            request_id: tombstone.request_id,
            sequence: tombstone.sequence,
            hash: tombstone.hash,
        }
    }
}
