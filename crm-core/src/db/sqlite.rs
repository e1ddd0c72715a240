//! SQLite: read-only connections for [lists](reader) and for [point reads](point), and one [writer]
//! with group commit.

mod point;
mod reader;
mod value;
mod writer;

use std::str::FromStr;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;

use super::error::Translate;
use super::{Committed, DatabaseOptions, Job, Row, Sql};
use crate::error::{Error, Result};

pub(super) use writer::{execute, fetch_all, fetch_optional, insert_all, run_script};

/// Statements a connection keeps prepared.
const STATEMENT_CACHE: usize = 512;
/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(5);
/// Bytes of the file that readers see as memory: as many as SQLite allows. Its page cache is shared
/// by all connections of the process behind one lock, so reading through it does not scale.
const MAPPED: i64 = 0x7fff_0000;

#[derive(Debug, Clone)]
pub(super) struct Database {
    readers: reader::Readers,
    point_readers: point::PointReaders,
    writer: writer::Writer,
}

/// Whether there is a file with something in it.
pub(super) fn exists(url: &str) -> Result<bool> {
    let file = connect_options(url)?.get_filename().to_owned();
    Ok(std::fs::metadata(file).is_ok_and(|found| found.len() > 0))
}

fn connect_options(url: &str) -> Result<SqliteConnectOptions> {
    SqliteConnectOptions::from_str(url)
        .map_err(|_| Error::Configuration("the SQLite URL must look like sqlite://crm.db".into()))
}

impl Database {
    pub(super) async fn open(
        url: &str,
        options: &DatabaseOptions,
        committed: Committed,
    ) -> Result<Self> {
        let file = connect_options(url)?.get_filename().to_owned();
        let most = options.most_connections(4)?;
        let writer = writer::Writer::open(file.to_path_buf(), options, committed).await?;
        let point_readers = point::PointReaders::open(&file).translate()?;
        let readers = reader::Readers::new(file.to_path_buf(), most, options.acquire_timeout);
        Ok(Self {
            readers,
            point_readers,
            writer,
        })
    }

    pub(super) async fn fetch_all(&self, sql: Sql) -> Result<Vec<Row>> {
        self.readers.run(sql, reader::all).await
    }

    pub(super) async fn fetch_optional(&self, sql: Sql) -> Result<Option<Row>> {
        let sql = match sql.point {
            true => match self.point_readers.fetch_optional(sql)? {
                point::Answer::Row(row) => return Ok(row),
                point::Answer::Busy(sql) => sql,
            },
            false => sql,
        };
        self.readers.run(sql, reader::first).await
    }

    pub(super) async fn write<T: Send + 'static>(&self, job: impl Job<T>) -> Result<T> {
        self.writer.run(job).await
    }

    pub(super) async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }
}
