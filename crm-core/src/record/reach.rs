//! Whether a permit covers a record: told by the record itself, or else asked of the database.

use crate::crm::Core;
use crate::db::Tx;
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::reach::Reach;
use crate::record::Record;
use crate::scope::{Action, Create, Permit, Read, Update};

/// Whether the permit covers the record as it is now.
pub(super) async fn covers<A: Action>(
    core: &Core,
    permit: &Permit<A>,
    record: &Record,
) -> Result<bool> {
    covered(core, permit.tenant(), permit.reach(), record).await
}

/// Whether the reach covers the record as it is now.
pub(crate) async fn covered(
    core: &Core,
    tenant: TenantId,
    reach: &Reach,
    record: &Record,
) -> Result<bool> {
    if let Some(told) = reach.covers(record) {
        return Ok(told);
    }
    let sql = core
        .statements(&record.module)
        .covered(tenant, reach, record.id);
    Ok(core.db.fetch_optional(sql).await?.is_some())
}

/// Whether the permit covers the record as the transaction has it.
pub(super) async fn covers_in<A: Action>(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<A>,
    record: &Record,
) -> Result<bool> {
    if let Some(told) = permit.reach().covers(record) {
        return Ok(told);
    }
    let statements = core.statements(&record.module);
    let sql = statements.covered(permit.tenant(), permit.reach(), record.id);
    Ok(tx.fetch_optional(sql).await?.is_some())
}

/// Refuses what was just written when it left the rows that the writer may write.
///
/// Whoever may write own rows only has been refused another owner before.
pub(super) async fn keep<A: Action>(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<A>,
    record: &Record,
) -> Result<()> {
    if permit.reach().is_simple() || covers_in(tx, core, permit, record).await? {
        return Ok(());
    }
    Err(Error::invalid(
        "",
        "not_allowed",
        "with these values the record is none of those that you may write",
    ))
}

/// Whether the reader may see a record that they have just written.
pub(super) fn shows(permit: &Permit<Read>, record: &Record) -> bool {
    let module = record.module.name().as_str();
    let scope = permit.scope();
    permit.reach().covers(record).unwrap_or_else(|| {
        let written = [
            scope
                .permit::<Create>(module)
                .map(|permit| permit.rows().clone()),
            scope
                .permit::<Update>(module)
                .map(|permit| permit.rows().clone()),
        ];
        let mut written = written.iter().flatten();
        written.all(|rows| permit.rows().include(rows))
    })
}
