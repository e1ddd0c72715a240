//! Runs jobs: a few at a time, fairly among tenants, each under a lease that is renewed while it
//! runs and lapses with the process.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use serde_json::Value as Json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::context::{CANCELLED, LEASE_LOST, lease_lost};
use super::{JobContext, JobKind, JobState, Lease, Shared, actor, drop_chunks_before, row};
use crate::crm::Core;
use crate::error::{Error, Result};
use crate::event::Principal;
use crate::id::{JobId, TenantId};

/// Jobs that one process runs at a time.
const CONCURRENCY: usize = 2;
/// How often to look for jobs of other processes, and for those whose process was killed.
const POLL: Duration = Duration::from_secs(1);
/// How often the lease of a running job is renewed.
const RENEWAL: Duration = Duration::from_secs(3);
/// How often old jobs are removed.
const SWEEP: TimeDelta = TimeDelta::minutes(10);
/// Runs that may break off without a checkpoint before a job is given up.
const MOST_ATTEMPTS: i64 = 5;
/// How long a job waits for another try when the database was busy.
const PAUSE: TimeDelta = TimeDelta::seconds(5);

/// The loop that takes jobs and runs them.
pub(crate) struct Runner {
    core: Arc<Core>,
    shared: Arc<Shared>,
    holder: Uuid,
    swept: Option<DateTime<Utc>>,
}

impl Runner {
    pub(super) fn new(core: Arc<Core>, shared: Arc<Shared>) -> Self {
        Self {
            holder: core.clock.new_id(),
            core,
            shared,
            swept: None,
        }
    }

    /// Runs jobs until `stop`, then gives those at hand back.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut running = JoinSet::new();
        while !stop.is_cancelled() {
            while running.len() < CONCURRENCY {
                match self.take().await {
                    Ok(Some((context, kind))) => {
                        running.spawn(work(context, kind, stop.clone()));
                    }
                    Ok(None) => break,
                    Err(error) => {
                        log(&error, "taking a job failed");
                        break;
                    }
                }
            }
            if let Err(error) = self.sweep().await {
                log(&error, "removing old jobs failed");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                Some(_) = running.join_next() => {}
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
        while running.join_next().await.is_some() {}
    }

    /// Runs what waits, one job after the other; answers how many.
    pub(crate) async fn run_waiting(&mut self, stop: &CancellationToken) -> Result<usize> {
        let mut count = 0;
        while let Some((context, kind)) = self.take().await? {
            work(context, kind, stop.clone()).await;
            count += 1;
        }
        Ok(count)
    }

    /// Runs this job, if nobody else does.
    pub(crate) async fn run_one(
        &self,
        tenant: TenantId,
        id: JobId,
        stop: &CancellationToken,
    ) -> Result<bool> {
        let Some((context, kind)) = self.take_one(tenant, id).await? else {
            return Ok(false);
        };
        work(context, kind, stop.clone()).await;
        Ok(true)
    }

    async fn take(&self) -> Result<Option<(JobContext, Arc<dyn JobKind>)>> {
        let kinds = self.shared.kinds.keys().copied();
        let waiting = row::waiting(kinds, self.core.clock.now());
        for mut row in self.core.db.fetch_all(waiting).await? {
            let taken = self.take_one(row.uuid()?, row.uuid()?).await?;
            if taken.is_some() {
                return Ok(taken);
            }
        }
        Ok(None)
    }

    async fn take_one(
        &self,
        tenant: TenantId,
        id: JobId,
    ) -> Result<Option<(JobContext, Arc<dyn JobKind>)>> {
        let lease = Lease {
            tenant,
            id,
            // Of its own for each run: a run that lost its lease cannot find it again.
            holder: self.core.clock.new_id(),
        };
        let sql = row::take(lease, self.core.clock.now());
        let row = self
            .core
            .db
            .write(move |tx| Box::pin(tx.fetch_optional(sql)));
        let Some(row) = row.await? else {
            return Ok(None);
        };
        let taken = row::taken(row)?;
        let kind = self.shared.kinds.get(taken.kind.as_str()).cloned();
        let (Some(kind), Some(actor)) = (kind, actor(&taken.created_by)) else {
            let error = Error::internal("a job of an unknown kind or actor");
            finish(&self.core, lease, Err(error)).await;
            return Ok(None);
        };
        let told = taken.principal.as_deref();
        let told = told.map(|text| Principal::parse(text, tenant)).transpose();
        let principal = match told {
            Ok(told) => told.or_else(|| Principal::of_actor(&taken.created_by)),
            Err(error) => {
                finish(&self.core, lease, Err(error)).await;
                return Ok(None);
            }
        };
        let cancel = CancellationToken::new();
        if taken.cancelling {
            cancel.cancel();
        }
        let context = JobContext {
            core: self.core.clone(),
            lease,
            actor,
            principal,
            request: taken.request_id.into(),
            input: taken.input,
            checkpoint: taken.checkpoint,
            progress: taken.progress,
            cancel,
        };
        if taken.attempts > MOST_ATTEMPTS {
            let message = "the job broke off five times at the same place";
            finish(&self.core, lease, Err(Error::conflict("gave_up", message))).await;
            return Ok(None);
        }
        tracing::debug!(job = %id, %tenant, runner = %self.holder, "a job runs");
        Ok(Some((context, kind)))
    }

    /// Removes old jobs, every now and then.
    pub(crate) async fn sweep(&mut self) -> Result<()> {
        let now = self.core.clock.now();
        if self.swept.is_some_and(|at| now - at < SWEEP) {
            return Ok(());
        }
        self.swept = Some(now);
        for sql in row::sweep(now) {
            self.core.db.execute(sql).await?;
        }
        Ok(())
    }
}

/// One run of a job, to its end or until `stop`.
async fn work(mut context: JobContext, kind: Arc<dyn JobKind>, stop: CancellationToken) {
    let (core, lease) = (context.core.clone(), context.lease);
    let cancel = context.cancel.clone();
    let run = async {
        context.check_cancelled()?;
        kind.run(&mut context).await
    };
    let run = AssertUnwindSafe(run).catch_unwind();
    let outcome = tokio::select! {
        outcome = run => outcome.unwrap_or_else(|_| Err(Error::internal("a job panicked"))),
        error = renew(&core, lease, &cancel) => Err(error),
        () = stop.cancelled() => {
            give_back(&core, lease, None).await;
            return;
        }
    };
    finish(&core, lease, outcome).await;
}

/// Holds on to the lease; answers only when it is lost.
async fn renew(core: &Core, lease: Lease, cancel: &CancellationToken) -> Error {
    loop {
        tokio::time::sleep(RENEWAL).await;
        let sql = row::renew(lease, core.clock.now());
        let held = core.db.write(move |tx| Box::pin(tx.fetch_optional(sql)));
        match held.await {
            Ok(Some(mut row)) => {
                if row.bool().unwrap_or(false) {
                    cancel.cancel();
                }
            }
            Ok(None) => return lease_lost(),
            // Should the database stay away, the next checkpoint will fail as well.
            Err(error) => log(&error, "a lease was not renewed"),
        }
    }
}

async fn finish(core: &Core, lease: Lease, outcome: Result<Json>) {
    let (state, result, error) = match outcome {
        Ok(result) => (JobState::Done, Some(result), None),
        Err(error @ Error::Unavailable { .. }) => {
            log(&error, "a job waits for another try");
            return give_back(core, lease, Some(core.clock.now() + PAUSE)).await;
        }
        Err(Error::Conflict { code, .. }) if code == LEASE_LOST => return,
        Err(Error::Conflict { code, .. }) if code == CANCELLED => (JobState::Cancelled, None, None),
        Err(error) => {
            if matches!(error, Error::Internal(_) | Error::Inconsistent { .. }) {
                log(&error, "a job failed");
            }
            let told = match &error {
                Error::Invalid(refused) if refused.len() == 1 => {
                    serde_json::json!({"code": refused[0].code, "message": refused[0].message})
                }
                error => serde_json::json!({"code": error.code(), "message": error.to_string()}),
            };
            (JobState::Failed, None, Some(told))
        }
    };
    let ended = row::finish(lease, core.clock.now(), state, result, error);
    let file = drop_chunks_before(lease, u64::MAX);
    let written = core.db.write(move |tx| {
        Box::pin(async move {
            if tx.execute(ended).await? > 0 {
                tx.execute(file).await?;
            }
            Ok(())
        })
    });
    if let Err(error) = written.await {
        log(&error, "the end of a job was not noted; it will run again");
    }
}

async fn give_back(core: &Core, lease: Lease, at: Option<DateTime<Utc>>) {
    if let Err(error) = core.db.execute(row::give_back(lease, at)).await {
        log(&error, "a job was not given back");
    }
}

fn log(error: &Error, message: &str) {
    tracing::warn!(error = error as &dyn std::error::Error, "{message}");
}
