//! What is due for plugins, handed out by turns of the tenants: a long turn keeps no other tenant
//! waiting, and what was begun is finished when the process stops.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::id::TenantId;

/// How often to look for what is due.
const LOOK: Duration = Duration::from_secs(1);
/// Most that is looked at in one go, that of all tenants by turns.
pub(super) const BATCH: u64 = 64;
/// Tenants that have their turn at once.
const TENANTS: usize = 8;
/// When a tenant's turn begins nothing further.
const TURN: Duration = Duration::from_secs(2);

/// Where something due stems from.
pub(crate) trait Source: Clone + Send + Sync + 'static {
    /// Something due.
    type Due: Due;
    /// What that is, for the program's log.
    const WHAT: &str;

    /// What is due, the first of each tenant before the second of any.
    fn waiting(&self) -> impl Future<Output = Result<Vec<Self::Due>>> + Send;

    /// Does it, if nobody else does; answers whether a plugin ran.
    fn handle(self, due: Self::Due) -> impl Future<Output = Result<bool>> + Send;

    /// Waits until there may be more.
    fn woken(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// Something due in a tenant.
pub(crate) trait Due: Send + 'static {
    fn tenant(&self) -> TenantId;
    fn due_at(&self) -> DateTime<Utc>;
}

/// The turns that are under way.
#[derive(Default)]
struct Turns<'s> {
    running: FuturesUnordered<BoxFuture<'s, (TenantId, usize)>>,
    under_way: HashSet<TenantId>,
    /// Which turn each tenant had last, while something is due in it: of those that wait, the one
    /// whose turn is longest ago is next.
    last: HashMap<TenantId, u64>,
    begun: u64,
}

impl<'s> Turns<'s> {
    /// Begins the turns of tenants in which something is due, as many as there is room for.
    async fn begin(&mut self, source: &'s impl Source, stop: &'s CancellationToken) -> Result<()> {
        if stop.is_cancelled() || self.under_way.len() >= TENANTS {
            return Ok(());
        }
        let mut all: HashMap<TenantId, Vec<_>> = HashMap::new();
        for due in source.waiting().await? {
            all.entry(due.tenant()).or_default().push(due);
        }
        self.last.retain(|tenant, _| all.contains_key(tenant));
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by_key(|(tenant, due)| (self.last.get(tenant).copied(), due[0].due_at()));
        for (tenant, due) in all {
            if self.under_way.len() < TENANTS && self.under_way.insert(tenant) {
                self.begun += 1;
                self.last.insert(tenant, self.begun);
                let turn = async move { (tenant, turn(source, due, stop).await) };
                self.running.push(turn.boxed());
            }
        }
        Ok(())
    }

    /// Waits for the end of a turn; answers how many runs that were, and `None` where there is no
    /// turn.
    async fn next(&mut self) -> Option<usize> {
        let (tenant, count) = self.running.next().await?;
        self.under_way.remove(&tenant);
        Some(count)
    }
}

/// Handles what is due in one tenant, as far as its time goes; the rest is due still.
async fn turn<S: Source>(source: &S, due: Vec<S::Due>, stop: &CancellationToken) -> usize {
    let (begun, mut count) = (tokio::time::Instant::now(), 0);
    for due in due {
        if begun.elapsed() > TURN || stop.is_cancelled() {
            break;
        }
        let tenant = due.tenant();
        // A task of its own: should it panic, the others go on.
        let ran = tokio::spawn(source.clone().handle(due)).await;
        match ran.map_err(Error::internal).flatten() {
            Ok(ran) => count += usize::from(ran),
            Err(error) => {
                tracing::warn!(
                    %tenant,
                    error = &error as &dyn std::error::Error,
                    "{} for a plugin was not handled",
                    S::WHAT
                );
                // What fails is likely to fail again at once: a full disk, a database that is away.
                stop.run_until_cancelled(tokio::time::sleep(LOOK)).await;
                break;
            }
        }
    }
    count
}

/// Handles what is due until `stop`.
pub(crate) async fn run<S: Source>(source: S, stop: CancellationToken) {
    let mut turns = Turns::default();
    loop {
        if let Err(error) = turns.begin(&source, &stop).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "{} for plugins cannot be read; the next look does",
                S::WHAT
            );
        }
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = turns.next() => {}
            _ = tokio::time::timeout(LOOK, source.woken()) => {}
        }
    }
    while turns.next().await.is_some() {}
}

/// Handles what is due now, until nothing of it runs; answers how many runs that were.
pub(crate) async fn run_all<S: Source>(source: S, stop: &CancellationToken) -> Result<usize> {
    let (mut turns, mut count) = (Turns::default(), 0);
    loop {
        turns.begin(&source, stop).await?;
        let mut ran = 0;
        while let Some(some) = turns.next().await {
            ran += some;
        }
        if ran == 0 {
            return Ok(count);
        }
        count += ran;
    }
}
