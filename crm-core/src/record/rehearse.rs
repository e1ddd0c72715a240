//! Writes that are tried and taken back.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::{Records, Write, Written};
use crate::crm::Core;
use crate::db::Tx;
use crate::error::{Error, Result};

/// One write after another, inside a transaction that is taken back.
pub(crate) struct Rehearsing<'t, 'c> {
    tx: &'t mut Tx<'c>,
    core: &'t Core,
}

impl Rehearsing<'_, '_> {
    /// Does one write.
    pub(crate) async fn write(&mut self, write: Write) -> Result<Written> {
        write.run_in(self.tx, self.core).await
    }
}

/// The end of a transaction that is taken back although it went well.
#[derive(Debug, thiserror::Error)]
#[error("a rehearsal is over")]
struct Over;

impl Records {
    /// Runs a job in a transaction that is taken back, whatever comes of it.
    pub(crate) async fn rehearse<T, J>(&self, job: J) -> Result<T>
    where
        T: Send + 'static,
        J: for<'t> FnOnce(Rehearsing<'t, '_>) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        let (answer, core) = (Arc::new(parking_lot::Mutex::new(None)), self.core.clone());
        let answered = answer.clone();
        let done: Result<()> = self
            .core
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let rehearsing = Rehearsing { tx, core: &core };
                    let made = job(rehearsing).await?;
                    *answer.lock() = Some(made);
                    Err(Error::internal(Over))
                })
            })
            .await;
        match done {
            Err(Error::Internal(source)) if source.is::<Over>() => {
                let made = answered.lock().take();
                made.ok_or_else(|| Error::internal("a rehearsal without an end"))
            }
            Err(error) => Err(error),
            Ok(()) => Err(Error::internal("a rehearsal was not taken back")),
        }
    }
}
