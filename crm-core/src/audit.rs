//! Reading the audit log: every change of a tenant's data and rights, newest first.
//!
//! Rows are written by [`journal`](crate::journal) in the transaction of the change, and sealed
//! into the tenant's hash chain within a second. Nothing changes one afterwards, except that
//! pruning removes old ones and erasing what they held; either is itself an entry, and the chain
//! stays verifiable. What that proves, and what not, is told by the [guide](crate::guide::audit).

mod chain;
mod export;
mod prune;
mod seal;
mod verify;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::crm::Core;
use crate::db::{ColumnType, Row, Sql};
use crate::error::{Error, Result};
use crate::module::input::operand_text;
use crate::record::Query;
use crate::scope::{Permit, Read, Scope};

pub use export::AuditExport;
pub use prune::PrunedAudit;
pub(crate) use seal::{Sealer, seal_up};
pub use verify::{AuditFault, AuditFaultKind, AuditHead, AuditSeal, Verification};

/// The action of entries that tell of a pruning.
pub(crate) const PRUNE: &str = "audit.prune";
/// The lease of the process that seals.
pub(crate) const SEALER: &str = "audit_sealer";

/// One entry of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditEntry {
    /// Its id; those of later milliseconds are greater.
    pub id: Uuid,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// Who did it: `user:<id>`, `api_key:<id>`, `plugin:<id>`, `operator:<id>` for an operator of
    /// the platform, or `operator` for the program itself.
    pub actor: String,
    /// Who acted in the actor's name, where somebody else did: `user:<id>` or `operator:<id>`.
    pub impersonator: Option<String>,
    /// What was done: `contacts.update`, `auth.login`.
    pub action: String,
    /// To what: the module's or administration object's name.
    pub entity: String,
    /// To which one.
    pub entity_id: Option<String>,
    /// The state before. Of a record, the fields that the reader may read in every record of its
    /// module; none without the right to read these.
    pub before: Option<serde_json::Value>,
    /// The state after, as far as the one before.
    pub after: Option<serde_json::Value>,
    /// Since when before and after are erased.
    pub erased_at: Option<DateTime<Utc>>,
    /// The request that did it.
    pub request_id: String,
    /// The client's address.
    pub address: Option<String>,
    /// The rule that allowed it, such as `role seller: deals.update:team`; several where it may
    /// have been any of them. `operator`, `plugin: deals.update`, or `application` for what
    /// followed by declaration; absent for acts that name none, such as logins, a tenant's
    /// settings, impersonations and those of the platform.
    pub rule: Option<String>,
}

/// Which entries to list.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Only those about this kind of thing.
    pub entity: Option<String>,
    /// Only those about this one.
    pub entity_id: Option<String>,
    /// Only those of this action.
    pub action: Option<String>,
    /// Only those of this actor.
    pub actor: Option<String>,
    /// Only those in which this one acted in the actor's name: `user:<id>` or `operator:<id>`.
    pub impersonator: Option<String>,
    /// Most entries, 1 to 100; 20 unless set.
    pub limit: Option<u32>,
    /// The id of the last entry of the page before.
    pub cursor: Option<Uuid>,
}

/// A page of the audit log.
#[derive(Debug, Clone, Serialize)]
pub struct AuditPage {
    /// The entries, newest first.
    pub data: Vec<AuditEntry>,
    /// The cursor of the next page; `None` at the end.
    pub next_cursor: Option<Uuid>,
}

/// Reads the audit log.
#[derive(Clone)]
pub struct Audit {
    core: Arc<Core>,
}

impl Audit {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// A page of the tenant's entries. `permit` is one for the object `audit`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit out of bounds.
    pub async fn list(&self, permit: &Permit<Read>, query: &AuditQuery) -> Result<AuditPage> {
        permit.on("audit")?;
        let limit = query.limit.unwrap_or(Query::DEFAULT_LIMIT);
        if limit == 0 || limit > Query::MAX_LIMIT {
            let message = format!("must be between 1 and {}", Query::MAX_LIMIT);
            return Err(Error::invalid("limit", "out_of_range", message));
        }
        let mut sql = Sql::new(
            "SELECT id, occurred_at, actor, action, entity, entity_id, before, after, request_id, \
             address, rule, erased_at, impersonator FROM audit_log WHERE tenant_id = ",
        )
        .returns(COLUMNS);
        sql.arg(permit.tenant(), ColumnType::Uuid);
        let conditions = [
            (" AND entity = ", &query.entity),
            (" AND entity_id = ", &query.entity_id),
            (" AND action = ", &query.action),
            (" AND actor = ", &query.actor),
            (" AND impersonator = ", &query.impersonator),
        ];
        for (condition, value) in conditions {
            if let Some(value) = value {
                if operand_text(value).is_err() {
                    // Nothing in the log is as long, or holds NUL.
                    return Ok(AuditPage {
                        data: Vec::new(),
                        next_cursor: None,
                    });
                }
                sql.push(condition).arg(value, ColumnType::Text);
            }
        }
        if let Some(id) = query.cursor {
            sql.push(" AND id < ").arg(id, ColumnType::Uuid);
        }
        sql.push(" ORDER BY id DESC LIMIT ")
            .number(u64::from(limit) + 1);
        let rows = self.core.db.fetch_all(sql).await?;
        let more = rows.len() > limit as usize;
        let entries = rows.into_iter().take(limit as usize).map(entry);
        let mut data = entries.collect::<Result<Vec<_>>>()?;
        for entry in &mut data {
            cut(permit.scope(), entry);
        }
        let next_cursor = data.last().filter(|_| more).map(|entry| entry.id);
        Ok(AuditPage { data, next_cursor })
    }
}

/// Leaves out of a record's states what the reader may not read of each record of its module.
fn cut(scope: &Scope, entry: &mut AuditEntry) {
    let states = scope.states(&entry.entity);
    states.cut(&mut entry.before);
    states.cut(&mut entry.after);
}

const COLUMNS: &[ColumnType] = &[
    ColumnType::Uuid,
    ColumnType::Instant,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Json,
    ColumnType::Json,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Instant,
    ColumnType::Text,
];

fn entry(mut row: Row) -> Result<AuditEntry> {
    Ok(AuditEntry {
        id: row.uuid()?,
        occurred_at: row.instant()?,
        actor: row.text()?,
        action: row.text()?,
        entity: row.text()?,
        entity_id: row.opt_text()?,
        before: row.opt_json()?,
        after: row.opt_json()?,
        request_id: row.text()?,
        address: row.opt_text()?,
        rule: row.opt_text()?,
        erased_at: row.opt_instant()?,
        impersonator: row.opt_text()?,
    })
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
