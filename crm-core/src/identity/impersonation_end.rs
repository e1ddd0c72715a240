//! The end of impersonations that nobody ended: the audit log tells of it as of any other.

use serde_json::json;

use super::impersonator::Impersonator;
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::Result;
use crate::id::{FamilyId, TenantId};
use crate::journal::{self, Author};
use crate::scope::RequestContext;

/// Most of them at a time.
const BATCH: i64 = 100;

struct Expired {
    id: FamilyId,
    tenant: TenantId,
    by: Impersonator,
    /// Whether it ended with the session that it was begun in.
    with_session: bool,
}

/// Tells the tenants of impersonations that have reached their end since the last look, or went
/// with their impersonator's session; answers of how many. Of several processes that look, one
/// tells.
pub(crate) async fn tell_expired(core: &Core) -> Result<usize> {
    let now = core.clock.now();
    let over = Sql::new(
        "SELECT f.id, f.tenant_id, f.impersonator_id, f.home_id, p.revoked_at IS NOT NULL \
         FROM refresh_families f LEFT JOIN refresh_families p ON p.id = f.parent_id \
         WHERE f.impersonator_id IS NOT NULL AND f.revoked_at IS NULL AND f.expires_at <= $1 LIMIT $2",
    )
    .bind(now, ColumnType::Instant)
    .bind(BATCH, ColumnType::Int)
    .returns(&[
        ColumnType::Uuid,
        ColumnType::Uuid,
        ColumnType::Uuid,
        ColumnType::Uuid,
        ColumnType::Bool,
    ]);
    let mut told = 0;
    for mut row in core.db.fetch_all(over).await? {
        let expired = Expired {
            id: row.uuid()?,
            tenant: row.uuid()?,
            by: Impersonator {
                user: row.uuid()?,
                home: row.uuid()?,
            },
            with_session: row.bool()?,
        };
        let clock = core.clock.clone();
        let request = RequestContext {
            id: format!("upkeep-{}", clock.new_id().simple()).into(),
            address: None,
        };
        let write = core.db.write(move |tx| {
            Box::pin(async move {
                let author = Author {
                    clock: &clock,
                    tenant: expired.tenant,
                    actor: expired.by.actor(),
                    request: &request,
                };
                tell(tx, author, &expired).await
            })
        });
        told += usize::from(write.await?);
    }
    Ok(told)
}

/// Whether it was this one who told.
async fn tell(tx: &mut Tx<'_>, author: Author<'_>, expired: &Expired) -> Result<bool> {
    let id = expired.id;
    let end = Sql::new(
        "UPDATE refresh_families SET revoked_at = expires_at WHERE id = $1 AND revoked_at IS NULL",
    );
    if tx.execute(end.bind(id, ColumnType::Uuid)).await? == 0 {
        return Ok(false);
    }
    let entity = ("sessions", Some(id.to_string()));
    let after = match expired.with_session {
        true => json!({ "session_ended": true }),
        false => json!({ "expired": true }),
    };
    let action = "auth.impersonation_end";
    journal::audit_by(tx, author, action, entity, None, Some(after)).await?;
    Ok(true)
}
