//! Reads of one row by its key, on the caller's own thread.
//!
//! Such a read touches a handful of pages, mostly in memory: to carry it to another thread and back
//! costs several times as much. Whatever may take longer goes to the pool.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::{MAPPED, STATEMENT_CACHE, writer};
use crate::db::{Row, Sql};
use crate::error::{Error, Result};

/// Read-only connections, each used by one thread at a time.
#[derive(Clone)]
pub(super) struct PointReaders(Arc<[Mutex<Connection>]>);

impl std::fmt::Debug for PointReaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PointReaders").field(&self.0.len()).finish()
    }
}

impl PointReaders {
    /// Opens one connection for each thread that can run at a time.
    pub(super) fn open(file: &Path) -> rusqlite::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let connections = (0..threads).map(|_| connect(file).map(Mutex::new));
        connections.collect::<Result<_, _>>().map(Self)
    }

    /// The row, unless all connections are in use or the database is locked: then ask the pool.
    pub(super) fn fetch_optional(&self, sql: Sql) -> Result<Answer> {
        let Some(mut connection) = self.0.iter().find_map(Mutex::try_lock) else {
            return Ok(Answer::Busy(sql));
        };
        match writer::fetch_optional(&mut connection, sql.clone()) {
            Ok(row) => Ok(Answer::Row(row)),
            Err(Error::Unavailable { .. }) => Ok(Answer::Busy(sql)),
            Err(error) => Err(error),
        }
    }
}

/// What came of a point read.
pub(super) enum Answer {
    Row(Option<Row>),
    /// It was not tried, or not to its end.
    Busy(Sql),
}

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    // Never wait on a thread that others wait for.
    connection.busy_timeout(Duration::ZERO)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    // Plans do not depend on bound values: a LIKE is not prepared anew for each pattern.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "mmap_size", MAPPED)?;
    Ok(connection)
}
