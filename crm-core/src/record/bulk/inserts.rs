//! New records are written in pieces. Each piece is made ready on another thread while the one
//! before it is being written: a transaction on SQLite keeps its one writer.

use std::sync::Arc;

use super::super::{Record, reference, serial};
use super::Bulk;
use crate::db::{Sql, Tx};
use crate::error::{Error, Result};
use crate::event::ChangeKind;
use crate::journal::{self, Change};
use crate::module::CompiledModule;

/// So many records at once: the statements about one take several KiB.
const MOST: usize = 250;

/// Rows to be inserted, table by table.
struct Inserts {
    records: Vec<Sql>,
    traces: [Vec<Sql>; 3],
    links: Vec<Vec<Sql>>,
}

impl Inserts {
    fn new(module: &CompiledModule) -> Self {
        Self {
            records: Vec::new(),
            traces: Default::default(),
            links: vec![Vec::new(); module.linked().len()],
        }
    }

    /// Inserts them, records first.
    async fn run(self, tx: &mut Tx<'_>) -> Result<()> {
        let tables = [self.records].into_iter().chain(self.traces);
        for rows in tables.chain(self.links) {
            tx.insert_all(rows).await?;
        }
        Ok(())
    }
}

impl Bulk {
    /// Numbers new records and writes them with their audit and outbox rows.
    pub(super) async fn insert(
        &self,
        tx: &mut Tx<'_>,
        module: &Arc<CompiledModule>,
        mut new: Vec<Record>,
    ) -> Result<()> {
        let Some(first) = new.iter().map(|record| record.id).min() else {
            return Ok(());
        };
        let (tenant, count) = (self.create.tenant(), new.len());
        serial::number(tx, tenant, module, new.iter_mut()).await?;
        let mut left = new.into_iter();
        let mut ready = self.inserts(module, left.by_ref().take(MOST));
        loop {
            let next: Vec<Record> = left.by_ref().take(MOST).collect();
            let ahead = (!next.is_empty()).then(|| {
                let (bulk, module) = (self.clone(), module.clone());
                tokio::task::spawn_blocking(move || bulk.inserts(&module, next.into_iter()))
            });
            ready.run(tx).await?;
            let Some(ahead) = ahead else { break };
            ready = ahead.await.map_err(Error::internal)?;
        }
        tx.touch(tenant, module.name());
        let count = u32::try_from(count).map_err(Error::internal)?;
        tx.made(module, tenant, first, count).await
    }

    fn inserts(&self, module: &CompiledModule, records: impl Iterator<Item = Record>) -> Inserts {
        let (tenant, mut inserts) = (self.create.tenant(), Inserts::new(module));
        for record in records {
            for (links, at) in inserts.links.iter_mut().zip(module.linked()) {
                let value = &record.values[*at];
                let rows = reference::links(&self.core, tenant, module, record.id, *at, value);
                links.extend(rows);
            }
            let change = Change {
                kind: ChangeKind::Created,
                record: record.id,
                before: None,
                after: Some(record.to_json()),
            };
            let left = journal::traces(self.create.scope(), module, change);
            for (traces, row) in inserts.traces.iter_mut().zip(left) {
                traces.push(row);
            }
            inserts.records.push(self.core.statements(module).insert(
                tenant,
                record.id,
                record.owner_id,
                record.created_at,
                record.values,
            ));
        }
        inserts
    }
}
