//! The trash of modules that keep what is deleted: into it, out of it, and away for good.
//!
//! A record in the trash is absent for every other read and write. References to it stay as they
//! are; nobody can refer to it anew.

use chrono::{DateTime, Utc};

use super::hook::{self, Step};
use super::on_delete::{self, Removal};
use super::reach;
use super::write::{Expected, Kind, Write};
use super::{Page, Query, Record, Records};
use crate::crm::{Core, Crm};
use crate::db::record::Statements;
use crate::db::{Keep, Tx};
use crate::error::{Error, Result};
use crate::event::ChangeKind;
use crate::id::{RecordId, TenantId};
use crate::journal::{self, Change};
use crate::module::{CompiledModule, Ident};
use crate::scope::{Action, Delete, Permit, Purge, Read, RequestContext};

/// Records of one transaction of a large purge.
const BATCH: u32 = 500;

/// What a purge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purged {
    /// Records that are gone for good.
    pub removed: u64,
    /// Records that stay, because others still refer to them, or a hook refuses.
    pub kept: u64,
}

impl Write {
    /// Brings a record back from the trash.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a module without a trash.
    pub fn restore(
        permit: &Permit<Delete>,
        id: RecordId,
        expected: impl Into<Expected>,
    ) -> Result<Self> {
        with_trash(permit.module()?)?;
        Ok(Self(Kind::Restore(permit.clone(), id, expected.into())))
    }

    /// Removes a record in the trash for good.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a module without a trash.
    pub fn purge(
        permit: &Permit<Purge>,
        id: RecordId,
        expected: impl Into<Expected>,
    ) -> Result<Self> {
        with_trash(permit.module()?)?;
        Ok(Self(Kind::Purge(permit.clone(), id, expected.into())))
    }
}

impl Records {
    /// A page of the records in the trash, each with its `deleted_at`, that both permits cover.
    ///
    /// # Errors
    /// Those of [`list`](Self::list); [`Error::NotFound`] for a module without a trash.
    pub async fn trash(
        &self,
        read: &Permit<Read>,
        delete: &Permit<Delete>,
        query: &Query,
    ) -> Result<Page> {
        let read = read.to_search(query.fields(), query.search.as_deref())?;
        let module = read.module()?;
        with_trash(module)?;
        let reach = read.reach().and(delete.reach());
        let statements = self.core.statements(module).trash();
        self.page(&statements, &read, &reach, query).await
    }

    /// Brings a record back from the trash.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not there, or not covered by the permit; [`Error::Conflict`]
    /// `already_exists` when another record took its unique value meanwhile.
    pub async fn restore(
        &self,
        permit: &Permit<Delete>,
        id: RecordId,
        expected: impl Into<Expected>,
    ) -> Result<Record> {
        Ok(self
            .write(Write::restore(permit, id, expected)?)
            .await?
            .record)
    }

    /// Removes a record in the trash for good.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is absent, [`Error::Conflict`] `not_in_trash` when it is live, and
    /// `has_dependents` while others refer to it.
    pub async fn purge(
        &self,
        permit: &Permit<Purge>,
        id: RecordId,
        expected: impl Into<Expected>,
    ) -> Result<()> {
        self.write(Write::purge(permit, id, expected)?).await?;
        Ok(())
    }

    /// Removes for good what was deleted before this moment, a few hundred records in each
    /// transaction. What others still refer to stays.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a module without a trash.
    pub async fn purge_before(
        &self,
        permit: &Permit<Purge>,
        before: DateTime<Utc>,
    ) -> Result<Purged> {
        with_trash(permit.module()?)?;
        let (mut purged, mut behind) = (Purged::default(), None);
        loop {
            let (core, permit) = (self.core.clone(), permit.clone());
            let job = self.core.db.write(move |tx| {
                Box::pin(async move { some(tx, &core, &permit, before, behind).await })
            });
            let (some, last) = job.await?;
            purged.removed += some.removed;
            purged.kept += some.kept;
            behind = last;
            if behind.is_none() {
                return Ok(purged);
            }
        }
    }
}

impl Crm {
    /// Removes for good what was deleted before this moment, in one tenant or in all of them, those
    /// modules first that refer to others.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn purge_trash(
        &self,
        tenant: Option<TenantId>,
        before: DateTime<Utc>,
        request: RequestContext,
    ) -> Result<Purged> {
        let tenants = match tenant {
            Some(tenant) => vec![tenant],
            None => self
                .tenants()
                .list()
                .await?
                .iter()
                .map(|one| one.id)
                .collect(),
        };
        let mut all = Purged::default();
        for tenant in tenants {
            let scope = self.operator_in(tenant, request.clone()).await?;
            let modules = referrers_first(scope.modules().map(AsRef::as_ref).collect());
            let with_trash = modules.iter().filter(|module| module.spec().soft_delete);
            for module in with_trash {
                let permit = scope.permit::<Purge>(module.name().as_str())?;
                let purged = self.records().purge_before(&permit, before).await?;
                all.removed += purged.removed;
                all.kept += purged.kept;
            }
        }
        Ok(all)
    }
}

/// A tenant's modules, those first that refer to others.
fn referrers_first(mut modules: Vec<&CompiledModule>) -> Vec<&CompiledModule> {
    let mut ordered = Vec::with_capacity(modules.len());
    while !modules.is_empty() {
        let refers = |by: &CompiledModule, to: &Ident| {
            let mut fields = by.spec().fields.iter();
            by.name() != to && fields.any(|field| field.kind.targets().contains(to))
        };
        let is_referred = |one: &CompiledModule| modules.iter().any(|&by| refers(by, one.name()));
        // Of a circle, any.
        let next = modules.iter().position(|&one| !is_referred(one));
        ordered.push(modules.remove(next.unwrap_or(0)));
    }
    ordered
}

/// One transaction of a large purge, and where the next one begins.
async fn some(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Purge>,
    before: DateTime<Utc>,
    behind: Option<RecordId>,
) -> Result<(Purged, Option<RecordId>)> {
    let module = permit.module()?;
    let trash = core.statements(module).trash();
    let sql = trash.deleted_before(permit.tenant(), before, behind, BATCH);
    let rows = tx.fetch_all(sql).await?;
    let full = rows.len() == BATCH as usize;
    let (mut purged, mut last) = (Purged::default(), None);
    for row in rows {
        let record = Record::from_row(module, row)?;
        last = Some(record.id);
        if !reach::covers_in(tx, core, permit, &record).await? {
            continue;
        }
        tx.begin_step().await?;
        let done = purge_record(tx, core, permit, record).await;
        tx.end_step(Keep::from(&done)).await?;
        match done {
            Ok(_) => purged.removed += 1,
            Err(Error::Conflict { .. } | Error::Refused(_)) => purged.kept += 1,
            Err(error) => return Err(error),
        }
    }
    Ok((purged, last.filter(|_| full)))
}

/// Refuses modules whose records are gone when they are deleted.
fn with_trash(module: &CompiledModule) -> Result<()> {
    match module.spec().soft_delete {
        true => Ok(()),
        false => Err(Error::NotFound),
    }
}

pub(super) async fn restore_in(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Delete>,
    id: RecordId,
    expected: &Expected,
) -> Result<Record> {
    let trash = core.statements(permit.module()?).trash();
    let before = lock(tx, core, &trash, permit, id, expected).await?;
    let before = before.ok_or(Error::NotFound)?;
    let mut after = before.clone();
    after.deleted_at = None;
    let module = permit.module()?;
    match core.hooks.of(module, ChangeKind::Restored) {
        // A record that comes back is judged as a new one.
        [] if !tx.hearing().concerns(module, ChangeKind::Created) => {
            unshelve_in(tx, core, permit, &before, after).await
        }
        chain => {
            let step = Step::Restore(permit.clone());
            hook::run(tx, core, chain, step, Some(before), Some(after)).await
        }
    }
}

/// Writes that a locked record is live again.
pub(super) async fn unshelve_in(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Delete>,
    before: &Record,
    mut after: Record,
) -> Result<Record> {
    let module = permit.module()?;
    after.version += 1;
    after.updated_at = core.clock.now();
    let statements = core.statements(module);
    let restore = statements.shelve(permit.tenant(), before.id, after.updated_at, None);
    let change = Change {
        kind: ChangeKind::Restored,
        record: before.id,
        before: Some(before.to_json()),
        after: Some(after.to_json()),
    };
    journal::write(tx, permit.scope(), module, restore, change).await?;
    Ok(after)
}

pub(super) async fn purge_in(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Purge>,
    id: RecordId,
    expected: &Expected,
) -> Result<Record> {
    let live = core.statements(permit.module()?);
    if let Some(before) = lock(tx, core, &live.trash(), permit, id, expected).await? {
        return purge_record(tx, core, permit, before).await;
    }
    match lock(tx, core, live, permit, id, &Expected::Any).await? {
        Some(_) => Err(Error::conflict(
            "not_in_trash",
            "the record is not in the trash; delete it first",
        )),
        None => Err(Error::NotFound),
    }
}

async fn purge_record(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Purge>,
    before: Record,
) -> Result<Record> {
    match core.hooks.of(permit.module()?, ChangeKind::Purged) {
        [] => {
            erase_in(tx, core, permit, &before).await?;
            Ok(before)
        }
        chain => {
            let step = Step::Purge(permit.clone());
            hook::run(tx, core, chain, step, Some(before), None).await
        }
    }
}

/// Removes the row of a locked record in the trash, with what follows.
pub(super) async fn erase_in(
    tx: &mut Tx<'_>,
    core: &Core,
    permit: &Permit<Purge>,
    before: &Record,
) -> Result<()> {
    on_delete::remove(tx, core, permit.scope(), before, Removal::Purge).await
}

/// The record on the statements' shelf, locked, if the permit covers one.
async fn lock<A: Action>(
    tx: &mut Tx<'_>,
    core: &Core,
    statements: &Statements,
    permit: &Permit<A>,
    id: RecordId,
    expected: &Expected,
) -> Result<Option<Record>> {
    let sql = statements.get_for_update(permit.tenant(), id);
    let Some(row) = tx.fetch_optional(sql).await? else {
        return Ok(None);
    };
    let record = Record::from_row(permit.module()?, row)?;
    if !reach::covers_in(tx, core, permit, &record).await? {
        return Ok(None);
    }
    match expected.admits(record.version) {
        true => Ok(Some(record)),
        false => Err(Error::PreconditionFailed),
    }
}
