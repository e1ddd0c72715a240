//! One request's writes in one transaction, and the answer to them.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::{Map, Value as Json};

use super::once::Once;
use super::write::{Write, Written};
use super::{Record, Records};
use crate::crm::Core;
use crate::db::{Keep, Tx};
use crate::error::{Error, Result};
use crate::id::{RecordId, TenantId};
use crate::scope::{Create, Permit, Scope, Update};

/// Most writes of one request.
pub const MAX_WRITES: usize = 1_000;

/// What one request asks to write. A write that was refused before it began is an `Err` in its
/// place.
pub enum Work {
    /// One write.
    One(Write),
    /// All of these or none.
    All(Vec<Result<Write>>),
    /// Each of these that can be done.
    Each(Vec<Result<Write>>),
}

/// The answer to a request's writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The one record that was written, and its version.
    pub record: Option<(RecordId, i64)>,
    /// JSON text.
    pub body: Option<String>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered<T = Reply> {
    /// It was done.
    Now(T),
    /// It was done before, and answered so.
    Before(T),
    /// It was not: another request has its key.
    KeyReused,
    /// It was not: the same request began before and has not ended, or its process was killed.
    UnderWay,
}

impl<T> Answered<T> {
    /// The same, with what was done made into something else.
    ///
    /// # Errors
    /// Those of `make`.
    pub(crate) fn try_map<U>(self, make: impl FnOnce(T) -> Result<U>) -> Result<Answered<U>> {
        Ok(match self {
            Self::Now(done) => Answered::Now(make(done)?),
            Self::Before(done) => Answered::Before(make(done)?),
            Self::KeyReused => Answered::KeyReused,
            Self::UnderWay => Answered::UnderWay,
        })
    }
}

/// Work that was not done: nothing of it is written.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Refused {
    /// The first write that failed, counted from 0, where there are several.
    pub index: Option<usize>,
    /// Why.
    #[source]
    pub error: Error,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { index: None, error }
    }
}

impl Records {
    /// Changes the record known by a unique value, or makes it; answers which of the two happened.
    ///
    /// # Errors
    /// Those of creating and updating.
    pub async fn upsert(
        &self,
        create: &Permit<Create>,
        update: &Permit<Update>,
        by: &str,
        body: Map<String, Json>,
    ) -> Result<Written> {
        let module = create.scope().readable(create.module()?.name().as_str());
        let module = module.ok_or(Error::NotFound)?;
        let key = super::Key::named(&module, by)?;
        self.write(Write::upsert(create, update, key, body)?).await
    }

    /// Does the work of this scope's actor in one transaction, and answers what `reply` makes of
    /// its outcomes, one for each write in their order. With `once` the answer is stored in the
    /// same transaction, and the same request is answered from there.
    ///
    /// # Errors
    /// That of the one write, or of the first that fails where all are to be done; those of `reply`.
    pub async fn perform<F>(
        &self,
        scope: &Scope,
        work: Work,
        once: Option<Once>,
        reply: F,
    ) -> Result<Answered, Refused>
    where
        F: Fn(Vec<Result<Written>>) -> Result<Reply> + Send + Sync + 'static,
    {
        if let Work::All(writes) | Work::Each(writes) = &work
            && !(1..=MAX_WRITES).contains(&writes.len())
        {
            let message = format!("Give 1 to {MAX_WRITES} operations.");
            return Err(Error::invalid("operations", "wrong_count", message).into());
        }
        let request = Arc::new((work, reply));
        self.answer(scope.tenant(), once, move |tx, core| {
            let request = request.clone();
            Box::pin(async move {
                let (work, reply) = &*request;
                Ok(reply(run(tx, core, work).await?)?)
            })
        })
        .await
    }
    /// Does a job in one transaction and answers its reply; with `once` that is stored with it, or
    /// known already.
    pub(super) async fn answer<J>(
        &self,
        tenant: TenantId,
        once: Option<Once>,
        job: J,
    ) -> Result<Answered, Refused>
    where
        J: for<'t> Fn(&'t mut Tx<'_>, &'t Core) -> BoxFuture<'t, Result<Reply, Refused>>,
        J: Send + Sync + 'static,
    {
        let request = Arc::new((once, job));
        let done = self.heard(tenant, move |tx, core| {
            let request = request.clone();
            Box::pin(async move {
                let (once, job) = &*request;
                let now = core.clock.now();
                if let Some(once) = once
                    && let Some(answered) = once.begin(tx, now).await?
                {
                    return Ok(answered);
                }
                let reply = job(tx, core).await.map_err(Error::internal)?;
                if let Some(once) = once {
                    once.finish(tx, now, &reply).await?;
                }
                Ok(Answered::Now(reply))
            })
        });
        // A transaction is rolled back by an error of the one kind: there and back again.
        done.await.map_err(|error| match error {
            Error::Internal(source) => match source.downcast::<Refused>() {
                Ok(refused) => *refused,
                Err(source) => Error::Internal(source).into(),
            },
            error => error.into(),
        })
    }
}

async fn run(tx: &mut Tx<'_>, core: &Core, work: &Work) -> Result<Vec<Result<Written>>, Refused> {
    match work {
        Work::One(write) => Ok(vec![Ok(write.run_in(tx, core).await?)]),
        Work::All(writes) => {
            let mut outcomes = Vec::with_capacity(writes.len());
            for (index, write) in writes.iter().enumerate() {
                let outcome = one_of(tx, core, write).await;
                outcomes.push(Ok(outcome.map_err(|error| Refused {
                    index: Some(index),
                    error,
                })?));
            }
            Ok(outcomes)
        }
        Work::Each(writes) => {
            let mut outcomes = Vec::with_capacity(writes.len());
            for write in writes {
                if write.is_err() {
                    outcomes.push(one_of(tx, core, write).await);
                    continue;
                }
                tx.begin_step().await?;
                let outcome = one_of(tx, core, write).await;
                tx.end_step(Keep::from(&outcome)).await?;
                outcomes.push(outcome);
            }
            Ok(outcomes)
        }
    }
}

async fn one_of(tx: &mut Tx<'_>, core: &Core, write: &Result<Write>) -> Result<Written> {
    let write = write.as_ref().map_err(Error::again)?;
    let outcome = write.run_in(tx, core).await;
    outcome.map_err(|error| error.under("/values"))
}

impl Reply {
    /// An answer about one record, which is its body.
    pub fn about(status: u16, record: &Record, body: Option<String>) -> Self {
        Self {
            status,
            record: Some((record.id, record.version)),
            body,
        }
    }
}
