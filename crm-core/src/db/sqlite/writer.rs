//! SQLite's one writer: it runs waiting transactions under savepoints, commits them together
//! (group commit) and answers all of them, so that one disk flush serves many callers.
//!
//! It has a thread of its own and calls SQLite there, through rusqlite. sqlx would carry every
//! statement to a thread of its connection and back, which cost more than most statements do.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rusqlite::{CachedStatement, OpenFlags};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{BUSY, STATEMENT_CACHE, value};
use crate::db::error::Translate;
use crate::db::{
    ColumnType, Committed, Connection, DatabaseOptions, Durability, Job, Row, Sql, Writes,
};
use crate::error::{Error, Result};
use crate::value::Value;

/// How long a commit waits for callers of the last one who write again.
const GATHER: Duration = Duration::from_millis(1);
/// How long nobody writes before the log is copied into the database file, where readers see it as
/// memory.
const IDLE: Duration = Duration::from_millis(500);

/// A job that waits for the connection, or for the news that there is no transaction to be had.
type Queued = Box<dyn for<'c> FnOnce(Begun<'c>) -> BoxFuture<'c, Done> + Send>;

/// The connection inside a transaction, or why none could be begun.
type Begun<'c> = std::result::Result<&'c mut rusqlite::Connection, Arc<Error>>;

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
    writes: Arc<Writes>,
    patience: Duration,
    stop: CancellationToken,
    stopped: CancellationToken,
}

impl Writer {
    /// Opens the file, makes it when missing, and starts the thread.
    pub(super) async fn open(
        file: PathBuf,
        options: &DatabaseOptions,
        Committed { signal, writes }: Committed,
    ) -> Result<Self> {
        let (queue, waiting) = mpsc::channel(options.write_queue.max(1));
        let (stop, stopped) = (CancellationToken::new(), CancellationToken::new());
        let (opened, outcome) = oneshot::channel();
        let (durability, most) = (options.durability, options.group_commit.max(1));
        let (callers, stopping) = (tokio::runtime::Handle::current(), stop.clone());
        // The thread has a clock of its own: the callers' runtime may go before it has ended.
        let clock = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(Error::internal)?;
        let on_exit = stopped.clone().drop_guard();
        std::thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || {
                let _on_exit = on_exit;
                let connection = match connect(&file, durability) {
                    Ok(connection) => connection,
                    Err(source) => {
                        let _ = opened.send(Err(unopened(&file, source)));
                        return;
                    }
                };
                if opened.send(Ok(())).is_ok() {
                    let waiting = Waiting {
                        jobs: waiting,
                        callers,
                    };
                    clock.block_on(serve(connection, waiting, most, signal, stopping));
                }
            })
            .map_err(Error::internal)?;
        outcome
            .await
            .unwrap_or_else(|_| Err(Error::internal("the SQLite writer did not start")))?;
        Ok(Self {
            queue,
            writes,
            patience: options.acquire_timeout,
            stop,
            stopped,
        })
    }

    pub(super) async fn run<T: Send + 'static>(&self, job: impl Job<T>) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let writes = self.writes.clone();
        let queued: Queued = Box::new(move |begun| Box::pin(attempt(begun, job, writes, answer)));
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
        self.stopped.cancelled().await;
    }
}

fn connect(
    file: &std::path::Path,
    durability: Durability,
) -> rusqlite::Result<rusqlite::Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // What it cannot make it cannot open either, which says why.
    let _ = for_the_owner_only().open(file);
    let connection = rusqlite::Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
        Durability::Off => "OFF",
    };
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    // The writer touches a leaf of every index for every row: they had better be in memory, and
    // written back to the database file rarely.
    connection.pragma_update(None, "cache_size", -16_384)?;
    connection.pragma_update(None, "wal_autocheckpoint", 16_000)?;
    connection.pragma_update(None, "journal_size_limit", 67_108_864)?;
    Ok(connection)
}

/// Makes a new file that others cannot read; SQLite gives its own files beside it the same rights.
fn for_the_owner_only() -> std::fs::OpenOptions {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn unopened(file: &std::path::Path, source: rusqlite::Error) -> Error {
    let file = file.display();
    Error::Unavailable {
        message: format!("cannot open the SQLite database {file}; check path and rights").into(),
        source: Some(Box::new(source)),
    }
}

/// The jobs that wait, and the runtime of those who wait for them.
struct Waiting {
    jobs: mpsc::Receiver<Queued>,
    callers: tokio::runtime::Handle,
}

impl Waiting {
    /// Runs a job as if its caller did.
    async fn run(&self, mut job: BoxFuture<'_, Done>) -> Done {
        std::future::poll_fn(|context| {
            let _entered = self.callers.enter();
            job.as_mut().poll(context)
        })
        .await
    }
}

async fn serve(
    mut connection: rusqlite::Connection,
    mut waiting: Waiting,
    most: usize,
    committed: watch::Sender<()>,
    stop: CancellationToken,
) {
    let mut size = 1;
    let mut written = false;
    loop {
        let first = tokio::select! {
            biased;
            job = waiting.jobs.recv() => job,
            () = stop.cancelled() => {
                waiting.jobs.close();
                waiting.jobs.recv().await
            }
            () = tokio::time::sleep(IDLE), if written => {
                checkpoint(&connection, "PRAGMA wal_checkpoint(PASSIVE)");
                written = false;
                continue;
            }
        };
        let Some(first) = first else { break };
        // Callers of the last commit who write again are on their way.
        let expected = size.min(most);
        size = commit_group(&mut connection, first, &mut waiting, expected, most).await;
        committed.send_replace(());
        written = true;
    }
    // What is in the log goes into the database file: whoever copies that has everything.
    checkpoint(&connection, "PRAGMA wal_checkpoint(TRUNCATE)");
    if let Err((_, error)) = connection.close() {
        tracing::warn!(%error, "closing the SQLite writer failed");
    }
}

fn checkpoint(connection: &rusqlite::Connection, pragma: &str) {
    if let Err(error) = connection.execute_batch(pragma) {
        tracing::warn!(%error, "the SQLite log was not copied back");
    }
}

/// One commit: the job at hand and all that wait behind it.
async fn commit_group(
    connection: &mut rusqlite::Connection,
    first: Queued,
    waiting: &mut Waiting,
    expected: usize,
    most: usize,
) -> usize {
    let gathered = tokio::time::Instant::now() + GATHER;
    let begun =
        control(connection, "BEGIN IMMEDIATE").and_then(|()| control(connection, "SAVEPOINT job"));
    if let Err(error) = begun {
        // Another process writes for longer than all these callers would wait in turn.
        let cause = Arc::new(error);
        let mut next = Some(first);
        while let Some(job) = next {
            let done = waiting.run(job(Err(cause.clone()))).await;
            (done.answer)(Err(cause.clone()));
            next = waiting.jobs.try_recv().ok();
        }
        let _ = control(connection, "ROLLBACK");
        return 1;
    }
    let mut answers = Vec::new();
    let outcome = async {
        let mut next = Some(first);
        while let Some(job) = next.take() {
            let Done { kept, answer } = waiting.run(job(Ok(&mut *connection))).await;
            answers.push(answer);
            if answers.len() < most {
                next = waiting.jobs.try_recv().ok();
            }
            if next.is_none() && answers.len() < expected {
                next = tokio::time::timeout_at(gathered, waiting.jobs.recv())
                    .await
                    .ok()
                    .flatten();
            }
            if !kept {
                // The savepoint stays, for the next job.
                control(connection, "ROLLBACK TO job")?;
            } else if next.is_some() {
                control(connection, "RELEASE job")?;
                control(connection, "SAVEPOINT job")?;
            }
        }
        control(connection, "COMMIT")
    }
    .await;
    let outcome = match outcome {
        Ok(()) => Ok(()),
        Err(error) => {
            // Whether it still was open or SQLite had ended it already, none is open after this.
            let _ = control(connection, "ROLLBACK");
            Err(Arc::new(error))
        }
    };
    let size = answers.len();
    for answer in answers {
        answer(outcome.clone());
    }
    size
}

/// Runs a statement of the transaction itself.
fn control(connection: &rusqlite::Connection, statement: &str) -> Result<()> {
    connection
        .prepare_cached(statement)
        .and_then(|mut statement| statement.raw_execute())
        .translate()?;
    Ok(())
}

pub(in crate::db) fn fetch_all(
    connection: &mut rusqlite::Connection,
    sql: Sql,
) -> Result<Vec<Row>> {
    let (columns, kept) = (sql.columns.clone(), sql.is_kept());
    let mut statement = bound(connection, sql)?;
    let mut rows = statement.raw_query();
    let mut all = Vec::new();
    while let Some(row) = rows.next().translate()? {
        all.push(value::decode(row, columns.as_slice())?);
    }
    drop(rows);
    if !kept {
        statement.discard();
    }
    Ok(all)
}

/// The first row; the statement runs to its end, as a write must.
pub(in crate::db) fn fetch_optional(
    connection: &mut rusqlite::Connection,
    sql: Sql,
) -> Result<Option<Row>> {
    let columns = sql.columns.clone();
    let mut statement = bound(connection, sql)?;
    let mut rows = statement.raw_query();
    let first = match rows.next().translate()? {
        Some(row) => Some(value::decode(row, columns.as_slice())?),
        None => None,
    };
    while rows.next().translate()?.is_some() {}
    Ok(first)
}

pub(in crate::db) fn execute(connection: &mut rusqlite::Connection, sql: Sql) -> Result<u64> {
    {
        let mut statement = bound(connection, sql)?;
        let mut rows = statement.raw_query();
        while rows.next().translate()?.is_some() {}
    }
    Ok(connection.changes())
}

/// Runs statements of one text, prepared once. What a row has in common with the one before it is
/// not bound again: SQLite keeps it, and copies what it is given.
pub(in crate::db) fn insert_all(connection: &mut rusqlite::Connection, rows: &[Sql]) -> Result<()> {
    let Some(first) = rows.first() else {
        return Ok(());
    };
    let text = first.text.as_str();
    let mut statement = prepared(connection, text)?;
    let mut before: &[(Value, ColumnType)] = &[];
    for sql in rows {
        if sql.text.as_str() != text {
            return Err(Error::internal("inserts of different texts"));
        }
        for (index, argument) in sql.args.iter().enumerate() {
            if before.get(index) != Some(argument) {
                value::bind(&mut statement, index + 1, &argument.0, argument.1)?;
            }
        }
        statement.raw_execute().translate()?;
        before = &sql.args;
    }
    Ok(())
}

pub(in crate::db) fn run_script(connection: &mut rusqlite::Connection, script: &str) -> Result<()> {
    connection.execute_batch(script).translate()
}

fn bound(connection: &rusqlite::Connection, sql: Sql) -> Result<CachedStatement<'_>> {
    let mut statement = prepared(connection, sql.text.as_str())?;
    bind(&mut statement, &sql)?;
    Ok(statement)
}

/// Prepares a statement with its `$1` as `?1`: to SQLite the former are names, numbered as they
/// appear and each compared with all before it.
fn prepared<'c>(connection: &'c rusqlite::Connection, text: &str) -> Result<CachedStatement<'c>> {
    let mut numbered = String::with_capacity(text.len());
    let mut parts = text.split('$');
    numbered.extend(parts.next());
    for part in parts {
        let placeholder = part.starts_with(|first: char| first.is_ascii_digit());
        numbered.push(if placeholder { '?' } else { '$' });
        numbered.push_str(part);
    }
    connection.prepare_cached(&numbered).translate()
}

fn bind(statement: &mut CachedStatement<'_>, sql: &Sql) -> Result<()> {
    for (index, (value, kind)) in sql.args.iter().enumerate() {
        value::bind(statement, index + 1, value, *kind)?;
    }
    Ok(())
}

/// Runs a job and keeps its answer until the commit.
async fn attempt<T: Send + 'static>(
    begun: Begun<'_>,
    job: impl Job<T>,
    writes: Arc<Writes>,
    caller: oneshot::Sender<Result<T>>,
) -> Done {
    let mut touched = Vec::new();
    let result = match begun {
        Ok(connection) => crate::db::run(Connection::Sqlite(connection), &mut touched, job).await,
        Err(cause) => Err(lost(cause)),
    };
    Done {
        kept: result.is_ok(),
        answer: Box::new(move |outcome| {
            let answer = match (result, outcome) {
                (Ok(value), Ok(())) => {
                    writes.committed(&touched);
                    Ok(value)
                }
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
