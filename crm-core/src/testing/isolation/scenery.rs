//! What some doors need the twin to have beside its usual rows: as many rows as a limit allows, a
//! log that waits to be sealed, an invitation of this minute, an event after those of the other
//! tenant.

use super::library::{INVITATIONS, LIMITS, PLUGINS, WAITING};
use super::plugin::VERSIONS;
use super::stock::first_module;
use crate::crm::Crm;
use crate::db::twin::{Crowd, Fresh, Layout};
use crate::db::{ColumnType, Sql};
use crate::error::Result;
use crate::id::TenantId;

/// As much as a tenant may have.
const CROWDS: [Crowd; 6] = [
    Crowd {
        table: "user_groups",
        rows: 1_000,
        columns: &[("id", Fresh::Id), ("name", Fresh::Text)],
    },
    Crowd {
        table: "invitations",
        rows: 1_000,
        columns: &[
            ("id", Fresh::Id),
            ("email", Fresh::Text),
            ("hash", Fresh::Hash),
        ],
    },
    Crowd {
        table: "mails",
        rows: 1_000,
        columns: &[("id", Fresh::Id)],
    },
    Crowd {
        table: "custom_fields",
        rows: 1_000,
        columns: &[("name", Fresh::Text), ("number", Fresh::Number)],
    },
    Crowd {
        table: "plugins",
        rows: 100,
        columns: &[("id", Fresh::Id), ("name", Fresh::Text)],
    },
    Crowd {
        table: "jobs",
        rows: 20,
        columns: &[("id", Fresh::Id), ("finished_at", Fresh::Empty)],
    },
];

/// As many values as a plugin keeps.
const VALUES: Crowd = Crowd {
    table: "plugin_kv",
    rows: 1_000,
    columns: &[("key", Fresh::Text)],
};

/// Gives the twin what the door needs it to have.
pub(super) async fn dress(crm: &Crm, layout: &Layout, door: &str, twin: TenantId) -> Result<()> {
    let (db, clock) = (&crm.core.db, crm.clock());
    let change = match door {
        LIMITS => {
            for crowd in &CROWDS {
                db.crowd(layout, twin, crowd, clock).await?;
            }
            return Ok(());
        }
        PLUGINS => return db.crowd(layout, twin, &VALUES, clock).await,
        WAITING => Sql::new(
            "INSERT INTO audit_unsealed (tenant_id, entry_id) \
             SELECT tenant_id, id FROM audit_log WHERE tenant_id = $1",
        )
        .bind(twin, ColumnType::Uuid),
        INVITATIONS => Sql::new("UPDATE invitations SET created_at = $1 WHERE tenant_id = $2")
            .bind(clock.now(), ColumnType::Instant)
            .bind(twin, ColumnType::Uuid),
        VERSIONS => Sql::new(
            "INSERT INTO outbox (id, tenant_id, module, kind, record_id, after, actor, request_id, \
             root_id, depth, occurred_at) SELECT $1, tenant_id, module, kind, record_id, after, actor, \
             request_id, root_id, depth, occurred_at FROM outbox WHERE tenant_id = $2 AND kind = $3 \
             ORDER BY sequence LIMIT 1",
        )
        .bind(clock.new_id(), ColumnType::Uuid)
        .bind(twin, ColumnType::Uuid)
        .bind(
            format!("{}.created", first_module(crm)?.singular()),
            ColumnType::Text,
        ),
        _ => return Ok(()),
    };
    db.execute(change).await?;
    Ok(())
}
