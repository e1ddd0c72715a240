//! The statements that write what a change leaves behind: its audit row, and for a record its event.

use super::{Dialect, Sql};

macro_rules! audit {
    () => {
        "INSERT INTO audit_log (tenant_id, id, occurred_at, actor, action, entity, entity_id, \
         before, after, request_id, address) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
    };
}

macro_rules! outbox {
    () => {
        "INSERT INTO outbox (id, tenant_id, module, kind, record_id, before, after, actor, \
         request_id, root_id, depth, occurred_at) \
         VALUES ($12, $1, $6, $13, $14, $8, $9, $4, $10, $15, $16, $3)"
    };
}

/// Takes the 11 values of an audit row.
pub(crate) fn audit() -> Sql {
    Sql::new(audit!())
}

/// Takes the 11 values of the audit row, then the event's id, kind, record, root and depth.
///
/// One round trip for both rows: SQLite runs the statements of a script with the same numbered
/// values, PostgreSQL a data-modifying WITH.
pub(crate) fn change(dialect: Dialect) -> Sql {
    Sql::new(match dialect {
        Dialect::Sqlite => concat!(audit!(), "; ", outbox!()),
        Dialect::Postgres => concat!("WITH audit AS (", audit!(), ") ", outbox!()),
    })
}
