//! Reads that may take their time: on threads that may wait, each with a connection of its own.
//!
//! A statement and all its rows change threads once. sqlx would carry each row by itself, which
//! costs a page of twenty as much as reading it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::{BUSY, MAPPED, STATEMENT_CACHE, writer};
use crate::db::error::Translate;
use crate::db::{Row, Sql};
use crate::error::{Error, Result};

/// Read-only connections, opened as they are needed.
#[derive(Debug, Clone)]
pub(super) struct Readers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: PathBuf,
    idle: Mutex<Vec<Connection>>,
    /// As many as there may be connections.
    free: Arc<Semaphore>,
    most: u32,
    patience: Duration,
}

impl Readers {
    /// At most `most` connections, each waited for no longer than `patience`.
    pub(super) fn new(file: PathBuf, most: u32, patience: Duration) -> Self {
        let most = most.max(1);
        Self(Arc::new(Shared {
            file,
            idle: Mutex::new(Vec::new()),
            free: Arc::new(Semaphore::new(most as usize)),
            most,
            patience,
        }))
    }

    /// Runs `read` with a statement on a connection, to its end even when the caller goes away.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        sql: Sql,
        read: fn(&mut Connection, Sql) -> Result<T>,
    ) -> Result<T> {
        let place = self.0.free.clone().acquire_owned();
        let place = match tokio::time::timeout(self.0.patience, place).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) => return Err(Error::unavailable("the database is closing")),
            Err(_) => return Err(Error::unavailable("too many reads are waiting; try again")),
        };
        let shared = self.0.clone();
        let task = tokio::task::spawn_blocking(move || {
            let idle = shared.idle.lock().pop();
            let mut connection = match idle {
                Some(connection) => connection,
                None => connect(&shared.file).translate()?,
            };
            let answer = read(&mut connection, sql);
            shared.idle.lock().push(connection);
            drop(place);
            answer
        });
        task.await
            .unwrap_or_else(|error| Err(Error::internal(error)))
    }

    /// Waits for running reads and closes all connections.
    pub(super) async fn close(&self) {
        // All places at once: nobody reads any more.
        let all = self.0.free.acquire_many(self.0.most).await;
        self.0.free.close();
        drop(all);
        self.0.idle.lock().clear();
    }
}

/// All rows of a statement.
pub(super) fn all(connection: &mut Connection, sql: Sql) -> Result<Vec<Row>> {
    writer::fetch_all(connection, sql)
}

/// The first row of a statement.
pub(super) fn first(connection: &mut Connection, sql: Sql) -> Result<Option<Row>> {
    writer::fetch_optional(connection, sql)
}

fn connect(file: &std::path::Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    // Plans do not depend on bound values: a LIKE is not prepared anew for each pattern.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "mmap_size", MAPPED)?;
    Ok(connection)
}
