//! Background jobs: durable work with a lease, a checkpoint, progress and a way to cancel it.
//!
//! A job outlives the request that asked for it and the process that began it: whoever takes the
//! next lease goes on at the last checkpoint. A checkpoint commits in the same transaction as the
//! work it stands for and only while the lease is held, so that nothing is done twice or lost. A
//! job runs with the rights that its starter has at that moment. What a job does is its
//! [`JobKind`].

mod context;
mod row;
mod runner;
mod upload;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tokio::sync::Notify;

use crate::crm::Core;
use crate::error::{Error, Result};
use crate::id::{JobId, TenantId};
use crate::journal;
use crate::scope::{Actor, Read, Scope, Update};

pub use context::JobContext;
pub(crate) use context::Saved;
pub(crate) use row::insert_error;
pub(crate) use runner::Runner;
pub use upload::Upload;
pub(crate) use upload::{chunk_at, drop_chunks_before};

/// The object of the permissions on other people's jobs, and the entity of the audit rows.
const OBJECT: &str = "jobs";
/// Most jobs of a tenant that are not finished.
const MOST_OPEN: i64 = 20;
/// Most jobs of one page.
const PAGE_MAX: u32 = 100;

/// What a kind of job does.
pub trait JobKind: Send + Sync + 'static {
    /// Its name, as stored with each job: `import`.
    fn name(&self) -> &'static str;

    /// Does the work, from the last checkpoint on; answers the result to keep.
    ///
    /// The future is dropped when the process stops or the lease is lost: what is to last goes
    /// through [`JobContext::save`]. [`Error::Unavailable`] is tried again later, every other error
    /// ends the job.
    fn run<'a>(&'a self, job: &'a mut JobContext) -> BoxFuture<'a, Result<Json>>;
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Its file is still arriving.
    Receiving,
    /// It waits for its turn.
    Queued,
    /// It runs, or waits to be resumed.
    Running,
    /// It came to its end.
    Done,
    /// It stopped at an error.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl JobState {
    const ALL: [Self; 6] = [
        Self::Receiving,
        Self::Queued,
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The stored form: `queued`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receiving => "receiving",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// How far a job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Entries handled well.
    pub done: u64,
    /// Entries refused.
    pub failed: u64,
    /// Bytes read of the job's file.
    pub bytes: u64,
    /// Bytes of the job's file.
    pub total_bytes: u64,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// Stable machine code.
    pub code: String,
    /// What to do about it.
    pub message: String,
}

/// A background job as answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Job {
    /// Its id; grows with time.
    pub id: JobId,
    /// What it does, such as `import`.
    pub kind: String,
    /// Where it stands.
    pub state: JobState,
    /// What it was asked to do.
    pub input: Json,
    /// How far it is.
    pub progress: Progress,
    /// What came of it, once done.
    pub result: Option<Json>,
    /// Why it failed.
    pub error: Option<JobError>,
    /// Who started it, whose rights it runs with.
    pub created_by: String,
    /// When it was started.
    pub created_at: DateTime<Utc>,
    /// When it first ran, or last went on.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Some jobs, newest first.
#[derive(Debug, Clone, Serialize)]
pub struct JobPage {
    /// The jobs.
    pub data: Vec<Job>,
    /// The id to give as `before` for the next page; absent at the end.
    pub next_cursor: Option<JobId>,
}

/// A refused entry of a job's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LineError {
    /// The line of the file that the entry begins on, from 1.
    pub line: u64,
    /// Stable machine code, such as `broken_quote` or `required`.
    pub code: String,
    /// JSON Pointer to the refused field; empty for the whole entry.
    pub pointer: String,
    /// What to do about it.
    pub message: String,
}

/// The jobs of a tenant, as far as a scope may see them: one's own, and all with `jobs.read`.
#[derive(Clone)]
pub struct Jobs {
    core: Arc<Core>,
    shared: Arc<Shared>,
}

/// What the handle and the runner of one process share.
pub(crate) struct Shared {
    pub(crate) kinds: HashMap<&'static str, Arc<dyn JobKind>>,
    pub(crate) wake: Notify,
}

impl Jobs {
    pub(crate) fn new(core: Arc<Core>, kinds: Vec<Arc<dyn JobKind>>) -> Self {
        let kinds = kinds.into_iter().map(|kind| (kind.name(), kind)).collect();
        let wake = Notify::new();
        Self {
            core,
            shared: Arc::new(Shared { kinds, wake }),
        }
    }

    pub(crate) fn runner(&self) -> Runner {
        Runner::new(self.core.clone(), self.shared.clone())
    }

    /// Queues a job of a registered kind; whoever calls this has checked the right to what it does.
    ///
    /// # Errors
    /// [`Error::Configuration`] for an unknown kind, [`Error::Forbidden`] for a plugin,
    /// [`Error::Conflict`] `too_many_jobs`.
    pub async fn start(&self, scope: &Scope, kind: &str, input: Json) -> Result<JobId> {
        let id = self.insert(scope, kind, input, JobState::Queued).await?;
        self.shared.wake.notify_one();
        Ok(id)
    }

    /// Begins a job that reads a file, which the caller sends next.
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    pub async fn receive(&self, scope: &Scope, kind: &str, input: Json) -> Result<Upload> {
        let id = self.insert(scope, kind, input, JobState::Receiving).await?;
        let (core, shared) = (self.core.clone(), self.shared.clone());
        Ok(Upload::new(core, shared, scope.tenant(), id))
    }

    async fn insert(
        &self,
        scope: &Scope,
        kind: &str,
        input: Json,
        state: JobState,
    ) -> Result<JobId> {
        let Some((kind, _)) = self.shared.kinds.get_key_value(kind) else {
            let line = format!("there is no kind of job called {kind:?}");
            return Err(Error::Configuration(line.into()));
        };
        if matches!(scope.actor(), Actor::Plugin(_)) {
            return Err(Error::Forbidden {
                permission: format!("{OBJECT}.create"),
            });
        }
        scope.refuse_impersonator()?;
        let (kind, scope, id) = (*kind, scope.clone(), JobId(scope.clock().new_id()));
        self.core
            .db
            .write(move |tx| {
                Box::pin(async move {
                    if tx.number(row::count_open(scope.tenant())).await? >= MOST_OPEN {
                        let message = "this tenant has 20 jobs that are not finished; wait for \
                                       one, or cancel one";
                        return Err(Error::conflict("too_many_jobs", message));
                    }
                    tx.execute(row::insert(&scope, id, kind, input.clone(), state))
                        .await?;
                    let entity = (OBJECT, Some(id.to_string()));
                    let after = json!({"kind": kind, "input": input});
                    journal::audit(tx, &scope, "jobs.create", entity, None, Some(after)).await?;
                    Ok(id)
                })
            })
            .await
    }

    /// One job.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is absent, or somebody else's without `jobs.read`.
    pub async fn get(&self, scope: &Scope, id: JobId) -> Result<Job> {
        let sql = row::select(scope.tenant(), id, self.only(scope));
        let row = self.core.db.fetch_optional(sql).await?;
        row::job(row.ok_or(Error::NotFound)?)
    }

    /// Jobs older than `before`, newest first.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit outside 1 to 100.
    pub async fn list(&self, scope: &Scope, before: Option<JobId>, limit: u32) -> Result<JobPage> {
        check_limit(limit, PAGE_MAX)?;
        let sql = row::list(scope.tenant(), self.only(scope), before, limit + 1);
        let rows = self.core.db.fetch_all(sql).await?;
        let mut data = rows.into_iter().map(row::job).collect::<Result<Vec<_>>>()?;
        let more = data.len() > limit as usize;
        data.truncate(limit as usize);
        let next_cursor = data.last().filter(|_| more).map(|job| job.id);
        Ok(JobPage { data, next_cursor })
    }

    /// Stops a job: at once while it waits, else at its next checkpoint. What it has done stays.
    /// A finished job is answered as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`] as for [`get`](Self::get); [`Error::Forbidden`] for somebody else's
    /// without `jobs.update`.
    pub async fn cancel(&self, scope: &Scope, id: JobId) -> Result<Job> {
        let job = self.get(scope, id).await?;
        if job.state.is_final() {
            return Ok(job);
        }
        if job.created_by != scope.actor().to_string() {
            scope.permit::<Update>(OBJECT)?.on(OBJECT)?;
        }
        let owned = scope.clone();
        self.core
            .db
            .write(move |tx| {
                Box::pin(async move {
                    for sql in row::cancel(owned.tenant(), id, owned.clock().now()) {
                        tx.execute(sql).await?;
                    }
                    let entity = (OBJECT, Some(id.to_string()));
                    let before = Some(json!({"state": job.state, "progress": job.progress}));
                    journal::audit(tx, &owned, "jobs.cancel", entity, before, None).await
                })
            })
            .await?;
        self.get(scope, id).await
    }

    /// Refused entries of a job's file from number `from` on, in the order of their lines: at most
    /// `limit` of them.
    ///
    /// # Errors
    /// [`Error::NotFound`] as for [`get`](Self::get).
    pub async fn errors(
        &self,
        scope: &Scope,
        id: JobId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<LineError>> {
        self.get(scope, id).await?;
        let sql = row::errors(scope.tenant(), id, from, limit);
        let rows = self.core.db.fetch_all(sql).await?;
        rows.into_iter().map(row::line_error).collect()
    }

    /// Whose jobs a scope sees: everybody's, or one actor's.
    fn only(&self, scope: &Scope) -> Option<String> {
        let all = scope.permit::<Read>(OBJECT).ok();
        let all = all.is_some_and(|permit| permit.on(OBJECT).is_ok());
        (!all).then(|| scope.actor().to_string())
    }
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}

fn check_limit(limit: u32, most: u32) -> Result<()> {
    if (1..=most).contains(&limit) {
        return Ok(());
    }
    let message = format!("must be between 1 and {most}");
    Err(Error::invalid("limit", "out_of_range", message))
}

/// The actor whose text stands in `created_by`.
fn actor(text: &str) -> Option<Actor> {
    match text.split_once(':') {
        None => (text == "operator").then_some(Actor::Operator),
        Some(("user", id)) => id.parse().ok().map(Actor::User),
        Some(("api_key", id)) => id.parse().ok().map(Actor::ApiKey),
        Some(_) => None,
    }
}

/// A job somebody holds the lease of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) tenant: TenantId,
    pub(crate) id: JobId,
    pub(crate) holder: uuid::Uuid,
}
