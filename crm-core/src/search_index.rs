//! Keeps SQLite's search index, behind the writes: a write that waited for it would cost twice as
//! much, and most tenants never search in more than they can read through.
//!
//! A search that meets a large tenant without its part of the index, or a part that lies far behind,
//! asks for it here and meanwhile reads what the index does not know. The work is done in steps of a
//! few hundred records, each a transaction that leaves the index as right as it was, tenants in turn.
//! What is asked for is forgotten with the process: the next search asks again.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::crm::Core;
use crate::error::Result;
use crate::id::TenantId;

/// Most parts that wait; who is turned away asks again with the next search.
const MOST: usize = 256;

/// The parts of the index that are asked for.
#[derive(Debug)]
pub(crate) struct SearchIndexer {
    large: u32,
    waiting: Mutex<VecDeque<Part>>,
    wake: Notify,
}

/// A tenant's part of the index of the module with this number.
type Part = (TenantId, u16);

impl SearchIndexer {
    /// Tenants get a part when a module has more than `large` records of theirs.
    pub(crate) fn new(large: u32) -> Self {
        Self {
            large,
            waiting: Mutex::new(VecDeque::new()),
            wake: Notify::new(),
        }
    }

    pub(crate) fn large(&self) -> u32 {
        self.large
    }

    /// Asks for a tenant's part, up to its newest record.
    pub(crate) fn ask(&self, tenant: TenantId, module: u16) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < MOST && !waiting.contains(&(tenant, module)) {
            waiting.push_back((tenant, module));
            self.wake.notify_one();
        }
    }

    fn take(&self) -> Option<Part> {
        self.waiting.lock().pop_front()
    }
}

/// Does what is asked for, until `stop`.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    while stop
        .run_until_cancelled(core.indexer.wake.notified())
        .await
        .is_some()
    {
        while !stop.is_cancelled()
            && let Some(part) = core.indexer.take()
        {
            if let Err(error) = step(&core, part).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the search index was not brought up");
            }
        }
    }
}

/// Takes one step for each part that waits now; answers how many.
pub(crate) async fn round(core: &Arc<Core>) -> Result<usize> {
    let parts = std::mem::take(&mut *core.indexer.waiting.lock());
    let count = parts.len();
    for part in parts {
        step(core, part).await?;
    }
    Ok(count)
}

/// Takes one step, and asks for the next one where there may be more to do.
async fn step(core: &Arc<Core>, (tenant, module): Part) -> Result<()> {
    let shared = core.clone();
    let more = core
        .db
        .write(move |tx| {
            Box::pin(async move { shared.numbered(module).search_step(tx, tenant).await })
        })
        .await?;
    if more {
        core.indexer.ask(tenant, module);
    }
    Ok(())
}
