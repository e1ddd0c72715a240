//! What makes reads of large tenants quick, done behind the writes: a write that waited for it
//! would cost twice as much, and most tenants never ask for it.
//!
//! A search that meets a large tenant without its part of the search index, or a part that lies far
//! behind, asks for it here, and meanwhile reads what the index does not know; a count of many
//! records asks that their number be kept. On PostgreSQL a search asks what the records of a module
//! have in common. The work is done in steps, each a transaction that leaves
//! everything as right as it was, tenants in turn. What is asked for is forgotten with the process:
//! the next read asks again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::crm::Core;
use crate::db::record::{Learned, Sample};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::identity;

/// Most tasks that wait; who is turned away asks again with the next read.
const MOST: usize = 256;
/// Most numbers that one process relies on; the others are counted.
const MOST_COUNTED: usize = 100_000;
/// How often to look for what comes due by itself: impersonations that reach their end, sessions
/// that lack a second factor, logins and registrations that are out of date.
const EVERY: Duration = Duration::from_secs(60);
/// How long a sample tells enough.
const SAMPLED: TimeDelta = TimeDelta::hours(1);

/// What reads ask for, about a tenant's records of the module with this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Its part of the search index, up to the newest record.
    Search(TenantId, u16),
    /// Their number.
    Count(TenantId, u16),
    /// The search index of the module in one piece: to be begun, or gone on with.
    Merge(u16, bool),
    /// A sample of the module's texts.
    Sample(u16),
}

/// A sample of a module's texts, and when it was taken.
type Sampled = (DateTime<Utc>, Arc<Sample>);

/// What is asked for, and what this process knows to be there.
#[derive(Debug)]
pub(crate) struct Upkeep {
    large: u32,
    waiting: Mutex<VecDeque<Task>>,
    counted: Mutex<HashSet<(TenantId, u16)>>,
    /// Records that a module's search index has learned since it was last merged.
    learned: Mutex<HashMap<u16, u64>>,
    samples: Mutex<HashMap<u16, Sampled>>,
    wake: Notify,
}

impl Upkeep {
    /// Tenants get a part of the search index when a module has more than `large` records of
    /// theirs.
    pub(crate) fn new(large: u32) -> Self {
        Self {
            large,
            waiting: Mutex::new(VecDeque::new()),
            counted: Mutex::new(HashSet::new()),
            learned: Mutex::new(HashMap::new()),
            samples: Mutex::new(HashMap::new()),
            wake: Notify::new(),
        }
    }

    pub(crate) fn large(&self) -> u32 {
        self.large
    }

    pub(crate) fn ask(&self, task: Task) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < MOST && !waiting.contains(&task) {
            waiting.push_back(task);
            self.wake.notify_one();
        }
    }

    /// Whether the number of these records is kept, whoever writes them.
    pub(crate) fn is_counted(&self, tenant: TenantId, module: u16) -> bool {
        self.counted.lock().contains(&(tenant, module))
    }

    /// Takes note of what an index has learned: behind a quarter of it, a merge costs no more than
    /// the learning did.
    fn learned(&self, module: u16, step: Learned) {
        let mut learned = self.learned.lock();
        let since = learned.entry(module).or_default();
        *since += step.records;
        if !step.more && *since * 4 > step.of {
            *since = 0;
            drop(learned);
            self.ask(Task::Merge(module, true));
        }
    }

    /// The newest sample of a module's texts; asks for one where it is old or missing.
    pub(crate) fn sample(&self, module: u16, now: DateTime<Utc>) -> Option<Arc<Sample>> {
        let known = self.samples.lock().get(&module).cloned();
        if known
            .as_ref()
            .is_none_or(|(taken, _)| now - *taken > SAMPLED)
        {
            self.ask(Task::Sample(module));
        }
        known.map(|(_, sample)| sample)
    }

    fn take(&self) -> Option<Task> {
        self.waiting.lock().pop_front()
    }
}

/// Does what is asked for, and what comes due by itself, until `stop`.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut looks = tokio::time::interval_at(tokio::time::Instant::now() + EVERY, EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => {
                if let Err(error) = come_due(&core).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "what came due was not done; the next look does");
                }
            }
            () = core.upkeep.wake.notified() => {}
        }
        while !stop.is_cancelled()
            && let Some(task) = core.upkeep.take()
        {
            if let Err(error) = step(&core, task).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "upkeep failed; reads stay right, and slow");
            }
        }
    }
}

/// Does what has come due, and takes one step of each task that waits now; answers how many waited.
pub(crate) async fn round(core: &Arc<Core>) -> Result<usize> {
    come_due(core).await?;
    let tasks = std::mem::take(&mut *core.upkeep.waiting.lock());
    let count = tasks.len();
    for task in tasks {
        step(core, task).await?;
    }
    Ok(count)
}

/// Does what comes due by itself.
async fn come_due(core: &Core) -> Result<()> {
    identity::tell_expired_impersonations(core).await?;
    identity::end_unproven(core).await?;
    identity::forget_late_logins(core).await?;
    identity::forget_late_registrations(core).await
}

/// Takes one step, and asks for the next one where there may be more to do.
async fn step(core: &Arc<Core>, task: Task) -> Result<()> {
    let shared = core.clone();
    match task {
        Task::Search(tenant, module) => {
            let step = core.db.write(move |tx| {
                Box::pin(async move { shared.numbered(module).search_step(tx, tenant).await })
            });
            let step = step.await?;
            if step.more {
                core.upkeep.ask(task);
            }
            core.upkeep.learned(module, step);
        }
        Task::Merge(module, begin) => {
            let more = core.db.write(move |tx| {
                Box::pin(async move { shared.numbered(module).merge_step(tx, begin).await })
            });
            if more.await? {
                core.upkeep.ask(Task::Merge(module, false));
            }
        }
        Task::Sample(module) => {
            let texts = core.db.fetch_all(core.numbered(module).sample()).await?;
            let sample = tokio::task::spawn_blocking(|| Sample::read(texts)).await;
            let sample = sample.map_err(|_| Error::internal("a sample was not read"))??;
            let sampled = (core.clock.now(), Arc::new(sample));
            core.upkeep.samples.lock().insert(module, sampled);
        }
        Task::Count(tenant, module) => {
            let counted = core.db.write(move |tx| {
                Box::pin(async move { shared.numbered(module).keep_count(tx, tenant).await })
            });
            counted.await?;
            let mut known = core.upkeep.counted.lock();
            if known.len() < MOST_COUNTED {
                known.insert((tenant, module));
            }
        }
    }
    Ok(())
}
