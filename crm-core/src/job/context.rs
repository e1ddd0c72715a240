//! What a running job holds: its input, its last checkpoint, its starter's rights.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use super::{Lease, Progress, row};
use crate::crm::Core;
use crate::error::{Error, Result};
use crate::event::{Party, Principal};
use crate::id::{JobId, TenantId};
use crate::identity;
use crate::scope::{Actor, RequestContext, Scope};

/// A job while it runs.
pub struct JobContext {
    pub(super) core: Arc<Core>,
    pub(super) lease: Lease,
    pub(super) actor: Actor,
    pub(super) principal: Option<Principal>,
    pub(super) request: Arc<str>,
    pub(super) input: Json,
    pub(super) checkpoint: Option<Json>,
    pub(super) progress: Progress,
    pub(super) cancel: CancellationToken,
}

/// What a step of work leaves for the next one.
pub(crate) struct Saved {
    pub(crate) checkpoint: Json,
    pub(crate) progress: Progress,
}

impl JobContext {
    /// The job.
    pub fn id(&self) -> JobId {
        self.lease.id
    }

    /// The tenant it belongs to.
    pub fn tenant(&self) -> TenantId {
        self.lease.tenant
    }

    /// What it was asked to do.
    ///
    /// # Errors
    /// [`Error::Inconsistent`] when the stored input is not one.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.input.clone()).map_err(|_| broken("input"))
    }

    /// Where the last run stopped; none in the first.
    ///
    /// # Errors
    /// [`Error::Inconsistent`] when the stored checkpoint is not one.
    pub fn checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let stored = self.checkpoint.clone().map(serde_json::from_value);
        stored.transpose().map_err(|_| broken("checkpoint"))
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// The starter's scope, with the rights that hold now.
    ///
    /// # Errors
    /// [`Error::Forbidden`] once they are no active member of the tenant any more;
    /// [`Error::Unavailable`] while the tenant is suspended, so that the job waits.
    pub async fn scope(&self) -> Result<Scope> {
        let policy = &self.core.policy;
        let tenant = self.lease.tenant;
        if !policy.is_active(tenant).await? {
            return Err(Error::unavailable(
                "the tenant is suspended; the job goes on when it is resumed",
            ));
        }
        let request = RequestContext {
            id: self.request.clone(),
            address: None,
        };
        let rights = match (self.actor, self.principal) {
            (Actor::Operator, _) => return Scope::operator(&self.core, tenant, request).await,
            (Actor::User(_) | Actor::ApiKey(_), Some(principal)) => {
                identity::principal_rights(&self.core, tenant, principal).await?
            }
            _ => None,
        };
        let rights = rights.ok_or_else(|| Error::Forbidden {
            permission: "jobs.create".into(),
        })?;
        let core = self.core.clone();
        let scope = Scope::of(core, self.actor, tenant, rights, request);
        Ok(match self.principal {
            Some(Principal(Party::Key(key, _))) => scope.by_key(key),
            _ => scope,
        })
    }

    /// Stops here when somebody cancelled the job.
    ///
    /// # Errors
    /// [`Error::Conflict`] `job_cancelled`, to be passed on.
    pub fn check_cancelled(&self) -> Result<()> {
        match self.cancel.is_cancelled() {
            true => Err(cancelled()),
            false => Ok(()),
        }
    }

    /// Keeps a checkpoint: another run begins from here.
    ///
    /// # Errors
    /// [`Error::Conflict`] `lease_lost` when another process has the job, to be passed on.
    pub async fn save(&mut self, checkpoint: Json, progress: Progress) -> Result<()> {
        let saved = Saved {
            checkpoint,
            progress,
        };
        self.commit(move |_| Box::pin(std::future::ready(Ok(saved))))
            .await
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn lease(&self) -> Lease {
        self.lease
    }

    /// Does a step of work and keeps its checkpoint in one transaction.
    pub(crate) async fn commit(&mut self, step: impl crate::db::Job<Saved>) -> Result<()> {
        let (lease, now) = (self.lease, self.core.clock.now());
        let (saved, stop) = self
            .core
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let saved = step(tx).await?;
                    let sql = row::save(lease, now, saved.checkpoint.clone(), saved.progress);
                    let held = tx.fetch_optional(sql).await?;
                    let stop = held.ok_or_else(lease_lost)?.bool::<bool>()?;
                    Ok((saved, stop))
                })
            })
            .await?;
        self.checkpoint = Some(saved.checkpoint);
        self.progress = saved.progress;
        if stop {
            self.cancel.cancel();
        }
        Ok(())
    }
}

impl std::fmt::Debug for JobContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobContext")
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

pub(super) const CANCELLED: &str = "job_cancelled";
pub(super) const LEASE_LOST: &str = "lease_lost";

fn cancelled() -> Error {
    Error::conflict(CANCELLED, "the job was cancelled")
}

pub(super) fn lease_lost() -> Error {
    Error::conflict(LEASE_LOST, "another process goes on with this job")
}

fn broken(column: &'static str) -> Error {
    Error::Inconsistent {
        table: "jobs".into(),
        column: column.into(),
    }
}
