//! The database: the only code that knows which one it is, and the only owner of connections.
//!
//! Reads run in the caller's future. Writes run in a task of the database's own, so that a caller
//! that goes away neither leaves a transaction open nor loses what was begun.

mod bulk;
#[cfg(feature = "testing")]
pub(crate) mod counted;
pub(crate) mod custom;
pub(crate) mod ddl;
pub(crate) mod erase;
mod error;
pub(crate) mod journal;
mod listen;
mod made;
pub(crate) mod migrate;
mod postgres;
pub(crate) mod record;
mod row;
#[cfg(test)]
pub(crate) mod seen;
mod sql;
mod sqlite;
#[cfg(feature = "testing")]
pub(crate) mod twin;
mod writes;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::module::Ident;
use crate::record::Hearing;

pub(crate) use listen::{Heard, Listener};
pub(crate) use made::MANY;
pub(crate) use row::Row;
pub(crate) use sql::{ColumnType, Sql};
pub(crate) use writes::{Touched, Writes};

/// Which SQL a statement is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite 3.45 or newer, compiled in.
    Sqlite,
    /// PostgreSQL 14 or newer.
    Postgres,
}

/// How durable an acknowledged write on SQLite is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Survives a power cut (`synchronous=FULL`).
    #[default]
    Full,
    /// Survives a killed process; a power cut may lose the last moments (`synchronous=NORMAL`).
    Normal,
    /// Survives nothing; for tests.
    Off,
}

/// How to open a database.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// Most connections: readers on SQLite, all on PostgreSQL. Default 16 (PostgreSQL), 4 (SQLite).
    pub max_connections: Option<u32>,
    /// Connections that PostgreSQL is never left with fewer of, so that no burst waits for new
    /// ones. Default none; SQLite opens its own as they are needed, and keeps them.
    pub min_connections: u32,
    /// How long to wait for a connection or a place in the write queue. Default 5 s (XC-20).
    pub acquire_timeout: Duration,
    /// What an acknowledged write survives on SQLite.
    pub durability: Durability,
    /// Writes waiting for the SQLite writer before further ones are refused. Default 4,096.
    pub write_queue: usize,
    /// Most writes that share one commit on SQLite; 1 switches group commit off. Default 256.
    pub group_commit: usize,
    /// Records of a module above which a tenant's searches get an index on SQLite, where the module
    /// declares one. Default 500.
    pub large_tenant: u32,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            max_connections: None,
            min_connections: 0,
            acquire_timeout: Duration::from_secs(5),
            durability: Durability::Full,
            write_queue: 4_096,
            group_commit: 256,
            large_tenant: 500,
        }
    }
}

impl DatabaseOptions {
    /// The most connections, `usual` of them where nothing is said.
    fn most_connections(&self, usual: u32) -> Result<u32> {
        let (least, most) = (self.min_connections, self.max_connections.unwrap_or(usual));
        if least <= most {
            return Ok(most);
        }
        let line = format!("min_connections ({least}) is above max_connections ({most})");
        Err(Error::Configuration(line.into()))
    }
}

/// A transaction's work: it borrows the transaction and answers once.
pub(crate) trait Job<T>:
    for<'t> FnOnce(&'t mut Tx<'_>) -> BoxFuture<'t, Result<T>> + Send + 'static
{
}

impl<T, F> Job<T> for F where
    F: for<'t> FnOnce(&'t mut Tx<'_>) -> BoxFuture<'t, Result<T>> + Send + 'static
{
}

/// The handle on the database.
#[derive(Debug, Clone)]
pub(crate) struct Db {
    backend: Backend,
    committed: Committed,
    #[cfg(test)]
    pub(crate) watch: seen::Watch,
}

/// Tells of commits: that there was one, and what it wrote to.
#[derive(Debug, Clone)]
struct Committed {
    signal: watch::Sender<()>,
    writes: Arc<Writes>,
}

#[derive(Debug, Clone)]
enum Backend {
    Sqlite(sqlite::Database),
    Postgres(postgres::Database),
}

impl Db {
    /// Opens the database at `url`: `sqlite://path` (made when missing) or `postgres://…`.
    pub(crate) async fn open(url: &str, options: &DatabaseOptions) -> Result<Self> {
        let committed = Committed {
            signal: watch::Sender::new(()),
            writes: Arc::new(Writes::new()),
        };
        let signal = committed.clone();
        let backend = match url.split_once(':') {
            Some(("sqlite", _)) => {
                Backend::Sqlite(sqlite::Database::open(url, options, signal).await?)
            }
            Some(("postgres" | "postgresql", _)) => {
                Backend::Postgres(postgres::Database::open(url, options, signal).await?)
            }
            _ => {
                return Err(Error::Configuration(
                    "the database URL must begin with sqlite:// or postgres://".into(),
                ));
            }
        };
        Ok(Self {
            backend,
            committed,
            #[cfg(test)]
            watch: seen::Watch::default(),
        })
    }

    /// Whether there is a database at `url`; a server's is found out by asking it.
    pub(crate) fn exists(url: &str) -> Result<bool> {
        match url.split_once(':') {
            Some(("sqlite", _)) => sqlite::exists(url),
            _ => Ok(true),
        }
    }

    /// Which SQL this database speaks.
    pub(crate) fn dialect(&self) -> Dialect {
        match &self.backend {
            Backend::Sqlite(_) => Dialect::Sqlite,
            Backend::Postgres(_) => Dialect::Postgres,
        }
    }

    /// All rows of a reading statement.
    pub(crate) async fn fetch_all(&self, sql: Sql) -> Result<Vec<Row>> {
        #[cfg(feature = "testing")]
        counted::read();
        #[cfg(test)]
        let sql = self.watch.see(sql);
        match &self.backend {
            Backend::Sqlite(database) => database.fetch_all(sql).await,
            Backend::Postgres(database) => database.fetch_all(sql).await,
        }
    }

    /// The first row of a reading statement.
    pub(crate) async fn fetch_optional(&self, sql: Sql) -> Result<Option<Row>> {
        #[cfg(feature = "testing")]
        counted::read();
        #[cfg(test)]
        let sql = self.watch.see(sql);
        match &self.backend {
            Backend::Sqlite(database) => database.fetch_optional(sql).await,
            Backend::Postgres(database) => database.fetch_optional(sql).await,
        }
    }

    /// Runs `job` in one transaction and answers after its commit; an `Err` rolls it back.
    ///
    /// The job runs to its end even when the returned future is dropped.
    pub(crate) async fn write<T: Send + 'static>(&self, job: impl Job<T>) -> Result<T> {
        #[cfg(test)]
        let job = watched(self.watch.clone(), job);
        match &self.backend {
            Backend::Sqlite(database) => database.write(job).await,
            Backend::Postgres(database) => database.write(job).await,
        }
    }

    /// Runs one statement in a transaction of its own and answers how many rows it touched.
    pub(crate) async fn execute(&self, sql: Sql) -> Result<u64> {
        self.write(move |tx| Box::pin(tx.execute(sql))).await
    }

    /// A receiver that changes after commits of this process.
    pub(crate) fn commits(&self) -> watch::Receiver<()> {
        self.committed.signal.subscribe()
    }

    /// The counters of committed writes.
    pub(crate) fn writes(&self) -> &Writes {
        &self.committed.writes
    }

    /// Finishes waiting writes and closes all connections.
    pub(crate) async fn close(&self) {
        match &self.backend {
            Backend::Sqlite(database) => database.close().await,
            Backend::Postgres(database) => database.close().await,
        }
    }
}

/// The job, its statements seen.
#[cfg(test)]
fn watched<T: Send + 'static>(watch: seen::Watch, job: impl Job<T>) -> impl Job<T> {
    fn is_job<T, J: Job<T>>(job: J) -> J {
        job
    }
    is_job(move |tx| Box::pin(watch.within(job(tx))))
}

/// An open transaction. It cannot be committed or rolled back by its user: the job's answer does.
///
/// The number counts how many writes stand around what is written now, each one causing the next;
/// the list is of what has been written to; the hearing is for judges of what is written.
pub(crate) struct Tx<'c>(Connection<'c>, u8, &'c mut Vec<Touched>, Hearing);

/// Runs a job in the transaction that is open on this connection, and notes what it writes to. A
/// job that panics fails.
async fn run<T>(
    connection: Connection<'_>,
    touched: &mut Vec<Touched>,
    job: impl Job<T>,
) -> Result<T> {
    let mut tx = Tx(connection, 0, touched, Hearing::NONE);
    let run = AssertUnwindSafe(async { job(&mut tx).await })
        .catch_unwind()
        .await;
    run.unwrap_or_else(|_| Err(Error::internal("a write panicked and was rolled back")))
}

/// Most writes that cause each other inside one transaction.
const MAX_NESTING: u8 = 8;

/// What stays of a step that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// All that it wrote.
    Everything,
    /// Nothing of it.
    Nothing,
}

impl<T> From<&Result<T>> for Keep {
    fn from(outcome: &Result<T>) -> Self {
        match outcome {
            Ok(_) => Self::Everything,
            Err(_) => Self::Nothing,
        }
    }
}

enum Connection<'c> {
    Sqlite(&'c mut rusqlite::Connection),
    Postgres(&'c mut sqlx::PgConnection),
}

impl Tx<'_> {
    /// Notes that this transaction writes to a tenant's records of a module.
    pub(crate) fn touch(&mut self, tenant: TenantId, module: &Ident) {
        let touched = Touched::new(tenant, module);
        if !self.2.contains(&touched) {
            self.2.push(touched);
        }
    }

    /// Has what is written from now on judged in this hearing.
    pub(crate) fn attend(&mut self, hearing: Hearing) {
        self.3 = hearing;
    }

    /// Where changes are judged.
    pub(crate) fn hearing(&self) -> &Hearing {
        &self.3
    }

    /// The same transaction, for writes that the present one causes.
    ///
    /// # Errors
    /// [`Error::Conflict`] where writes cause each other without an end.
    pub(crate) fn nested(&mut self) -> Result<Tx<'_>> {
        if self.1 >= MAX_NESTING {
            let message = format!(
                "writes caused each other {MAX_NESTING} times over; nothing was changed: end the \
                 circle of hooks"
            );
            return Err(Error::conflict("hooks_too_deep", message));
        }
        let connection = match &mut self.0 {
            Connection::Sqlite(connection) => Connection::Sqlite(connection),
            Connection::Postgres(connection) => Connection::Postgres(connection),
        };
        Ok(Tx(connection, self.1 + 1, self.2, self.3.clone()))
    }

    /// Which SQL this database speaks.
    pub(crate) fn dialect(&self) -> Dialect {
        match &self.0 {
            Connection::Sqlite(_) => Dialect::Sqlite,
            Connection::Postgres(_) => Dialect::Postgres,
        }
    }

    /// All rows of a statement.
    pub(crate) async fn fetch_all(&mut self, sql: Sql) -> Result<Vec<Row>> {
        #[cfg(test)]
        let sql = seen::see(sql);
        match &mut self.0 {
            Connection::Sqlite(connection) => sqlite::fetch_all(connection, sql),
            Connection::Postgres(connection) => postgres::fetch_all(connection, sql).await,
        }
    }

    /// The first row of a statement.
    pub(crate) async fn fetch_optional(&mut self, sql: Sql) -> Result<Option<Row>> {
        #[cfg(test)]
        let sql = seen::see(sql);
        match &mut self.0 {
            Connection::Sqlite(connection) => sqlite::fetch_optional(connection, sql),
            Connection::Postgres(connection) => postgres::fetch_optional(connection, sql).await,
        }
    }

    /// The whole number that a statement answers; 0 where it answers none.
    pub(crate) async fn number(&mut self, sql: Sql) -> Result<i64> {
        let row = self.fetch_optional(sql.returns(&[ColumnType::Int])).await?;
        row.map_or(Ok(0), |mut row| row.int())
    }

    /// Runs a statement and answers how many rows it changed.
    pub(crate) async fn execute(&mut self, sql: Sql) -> Result<u64> {
        #[cfg(test)]
        let sql = seen::see(sql);
        match &mut self.0 {
            Connection::Sqlite(connection) => sqlite::execute(connection, sql),
            Connection::Postgres(connection) => postgres::execute(connection, sql).await,
        }
    }

    /// Runs several writing statements, none of which needs to see what another wrote, in one round
    /// trip where statements take one.
    pub(crate) async fn execute_all(&mut self, statements: Vec<Sql>) -> Result<()> {
        #[cfg(test)]
        let statements: Vec<Sql> = statements.into_iter().map(seen::see).collect();
        match &mut self.0 {
            Connection::Sqlite(connection) => {
                for sql in statements {
                    sqlite::execute(connection, sql)?;
                }
            }
            Connection::Postgres(connection) => {
                postgres::execute(connection, Sql::joined(statements)).await?;
            }
        }
        Ok(())
    }

    /// Begins a step: what follows can be taken back without the rest of the transaction. Steps may
    /// stand inside each other.
    pub(crate) async fn begin_step(&mut self) -> Result<()> {
        self.execute(Sql::new("SAVEPOINT step")).await.map(drop)
    }

    /// Ends a step and keeps what it wrote, or takes that back.
    pub(crate) async fn end_step(&mut self, keep: Keep) -> Result<()> {
        if keep == Keep::Nothing {
            self.execute(Sql::new("ROLLBACK TO SAVEPOINT step")).await?;
        }
        self.execute(Sql::new("RELEASE SAVEPOINT step"))
            .await
            .map(drop)
    }

    /// Lets one process at a time change tables, for as long as that takes, until this transaction
    /// ends. On SQLite every transaction is alone anyway.
    pub(crate) async fn lock_schema(&mut self) -> Result<()> {
        const KEY: i64 = 0x6372_6d5f_7461_626c;
        if self.dialect() == Dialect::Postgres {
            self.execute(Sql::new("SET LOCAL statement_timeout = 0"))
                .await?;
            self.execute(Sql::new("SET LOCAL lock_timeout = '5min'"))
                .await?;
            let lock = Sql::new("SELECT pg_advisory_xact_lock($1)").bind(KEY, ColumnType::Int);
            self.execute(lock).await?;
        }
        Ok(())
    }

    /// Runs a script of statements without parameters: migrations and declared tables only.
    pub(crate) async fn run_script(&mut self, script: String) -> Result<()> {
        match &mut self.0 {
            Connection::Sqlite(connection) => sqlite::run_script(connection, &script),
            Connection::Postgres(connection) => postgres::run_script(connection, script).await,
        }
    }
}

#[cfg(test)]
mod tests;
