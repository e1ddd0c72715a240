//! SQLite's one writer: it runs waiting transactions under savepoints, commits them together
//! (group commit) and answers all of them, so that one disk flush serves many callers.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::error::Translate;
use super::{Connection, DatabaseOptions, Job, Tx};
use crate::error::{Error, Result};

/// A job that waits for the connection, or for the news that there is no transaction to be had.
type Queued = Box<dyn for<'c> FnOnce(Begun<'c>) -> BoxFuture<'c, Done> + Send>;

/// The connection inside a transaction, or why none could be begun.
type Begun<'c> = std::result::Result<&'c mut SqliteConnection, Arc<Error>>;

/// A job that ran: whether its changes are to be kept, and what to tell its caller.
struct Done {
    kept: bool,
    answer: Answer,
}

/// Tells a waiting caller how the commit ended.
type Answer = Box<dyn FnOnce(std::result::Result<(), Arc<Error>>) + Send>;

#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Queued>,
    patience: Duration,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
    stop: tokio_util::sync::CancellationToken,
}

impl Writer {
    pub(super) fn start(
        connection: SqliteConnection,
        options: &DatabaseOptions,
        committed: watch::Sender<()>,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(options.write_queue.max(1));
        let stop = tokio_util::sync::CancellationToken::new();
        let task = tokio::spawn(serve(
            connection,
            waiting,
            options.group_commit.max(1),
            committed,
            stop.clone(),
        ));
        Self {
            queue,
            patience: options.acquire_timeout,
            task: Arc::new(Mutex::new(Some(task))),
            stop,
        }
    }

    pub(super) async fn run<T: Send + 'static>(&self, job: impl Job<T>) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let queued: Queued = Box::new(move |begun| Box::pin(attempt(begun, job, answer)));
        match tokio::time::timeout(self.patience, self.queue.send(queued)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Error::unavailable("the database is closing")),
            Err(_) => return Err(Error::unavailable("too many writes are waiting; try again")),
        }
        answered
            .await
            .unwrap_or_else(|_| Err(Error::unavailable("the database is closing")))
    }

    /// Finishes what waits, then closes the connection.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        if let Some(task) = self.task.lock().await.take() {
            // The task catches panics of jobs; one of its own has been reported by the runtime.
            let _ = task.await;
        }
    }
}

async fn serve(
    mut connection: SqliteConnection,
    mut waiting: mpsc::Receiver<Queued>,
    most: usize,
    committed: watch::Sender<()>,
    stop: tokio_util::sync::CancellationToken,
) {
    loop {
        let first = tokio::select! {
            biased;
            job = waiting.recv() => job,
            () = stop.cancelled() => {
                waiting.close();
                waiting.recv().await
            }
        };
        let Some(first) = first else { break };
        commit_group(&mut connection, first, &mut waiting, most).await;
        committed.send_replace(());
    }
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "closing the SQLite writer failed");
    }
}

/// One commit: the job at hand and all that wait behind it.
async fn commit_group(
    connection: &mut SqliteConnection,
    first: Queued,
    waiting: &mut mpsc::Receiver<Queued>,
    most: usize,
) {
    if let Err(error) = control(connection, "BEGIN IMMEDIATE; SAVEPOINT job").await {
        // Another process writes for longer than all these callers would wait in turn.
        let cause = Arc::new(error);
        let mut next = Some(first);
        while let Some(job) = next {
            (job(Err(cause.clone())).await.answer)(Err(cause.clone()));
            next = waiting.try_recv().ok();
        }
        let _ = control(connection, "ROLLBACK").await;
        return;
    }
    let mut answers = Vec::new();
    let outcome = async {
        let mut next = Some(first);
        while let Some(job) = next.take() {
            let Done { kept, answer } = job(Ok(&mut *connection)).await;
            answers.push(answer);
            if !kept {
                // The savepoint stays, for the next job.
                control(connection, "ROLLBACK TO job").await?;
            }
            if answers.len() < most {
                next = waiting.try_recv().ok();
            }
            if kept && next.is_some() {
                control(connection, "RELEASE job; SAVEPOINT job").await?;
            }
        }
        control(connection, "COMMIT").await
    }
    .await;
    let outcome = match outcome {
        Ok(()) => Ok(()),
        Err(error) => {
            // Whether it still was open or SQLite had ended it already, none is open after this.
            let _ = control(connection, "ROLLBACK").await;
            Err(Arc::new(error))
        }
    };
    for answer in answers {
        answer(outcome.clone());
    }
}

/// Runs statements of the transaction itself; they are kept prepared.
async fn control(connection: &mut SqliteConnection, statements: &'static str) -> Result<()> {
    sqlx::query(statements)
        .execute(connection)
        .await
        .translate()?;
    Ok(())
}

/// Runs a job and keeps its answer until the commit.
async fn attempt<T: Send + 'static>(
    begun: Begun<'_>,
    job: impl Job<T>,
    caller: oneshot::Sender<Result<T>>,
) -> Done {
    let result = match begun {
        Ok(connection) => {
            let mut tx = Tx(Connection::Sqlite(connection));
            let run = AssertUnwindSafe(async { job(&mut tx).await })
                .catch_unwind()
                .await;
            run.unwrap_or_else(|_| Err(Error::internal("a write panicked and was rolled back")))
        }
        Err(cause) => Err(lost(cause)),
    };
    Done {
        kept: result.is_ok(),
        answer: Box::new(move |outcome| {
            let answer = match (result, outcome) {
                (Ok(value), Ok(())) => Ok(value),
                (Err(error), _) => Err(error),
                (Ok(_), Err(cause)) => Err(lost(cause)),
            };
            // A caller that has gone away does not want to know.
            let _ = caller.send(answer);
        }),
    }
}

fn lost(cause: Arc<Error>) -> Error {
    Error::Unavailable {
        message: "the database is busy; nothing was changed, try again".into(),
        source: Some(Box::new(Lost(cause))),
    }
}

/// The failure shared by all callers of a lost group.
#[derive(Debug, thiserror::Error)]
#[error("group commit failed")]
struct Lost(#[source] Arc<Error>);
