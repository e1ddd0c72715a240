//! The statements that write what a change leaves behind: its audit row, which waits to be sealed,
//! and for a record its event.

use super::Sql;

/// Takes the 13 values of an audit row.
pub(crate) fn audit() -> Sql {
    Sql::new(
        "INSERT INTO audit_log (tenant_id, id, occurred_at, actor, action, entity, entity_id, \
         before, after, request_id, address, rule, impersonator) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
}

/// Takes the tenant and the id of an audit row that is to be sealed.
pub(crate) fn unsealed() -> Sql {
    Sql::new("INSERT INTO audit_unsealed (tenant_id, entry_id) VALUES ($1, $2)")
}

/// Takes the 13 values of an outbox row.
pub(crate) fn outbox() -> Sql {
    Sql::new(
        "INSERT INTO outbox (id, tenant_id, module, kind, record_id, before, after, actor, \
         request_id, root_id, depth, occurred_at, principal) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
}
