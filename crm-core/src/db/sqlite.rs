//! SQLite: a pool of read-only connections, connections for [point reads](point), and one
//! [writer] with group commit.

mod point;
mod value;
mod writer;

use std::str::FromStr;
use std::time::Duration;

use futures::TryStreamExt;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Sqlite};

use super::error::Translate;
use super::sql::Text;
use super::{Committed, DatabaseOptions, Job, Row, Sql};
use crate::error::{Error, Result};

pub(super) use writer::{execute, fetch_all, fetch_optional, insert_all, run_script};

/// Statements a connection keeps prepared.
const STATEMENT_CACHE: usize = 512;
/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub(super) struct Database {
    readers: SqlitePool,
    point_readers: point::PointReaders,
    writer: writer::Writer,
}

impl Database {
    pub(super) async fn open(
        url: &str,
        options: &DatabaseOptions,
        committed: Committed,
    ) -> Result<Self> {
        let connect = SqliteConnectOptions::from_str(url)
            .map_err(|_| {
                Error::Configuration("the SQLite URL must look like sqlite://crm.db".into())
            })?
            .read_only(true)
            .create_if_missing(false)
            .busy_timeout(BUSY)
            .statement_cache_capacity(STATEMENT_CACHE)
            .pragma("temp_store", "memory")
            .pragma("mmap_size", "268435456");
        let file = connect.get_filename().to_owned();
        let writer = writer::Writer::open(file.to_path_buf(), options, committed).await?;
        let point_readers = point::PointReaders::open(&file).translate()?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.max_connections.unwrap_or(4))
            .acquire_timeout(options.acquire_timeout)
            .test_before_acquire(false)
            .connect_lazy_with(connect);
        Ok(Self {
            readers,
            point_readers,
            writer,
        })
    }

    pub(super) async fn fetch_all(&self, sql: Sql) -> Result<Vec<Row>> {
        let mut connection = self.readers.acquire().await.translate()?;
        let columns = sql.columns.clone();
        let mut stream = prepared(sql)?.fetch(&mut *connection);
        let mut rows = Vec::new();
        while let Some(row) = stream.try_next().await.translate()? {
            rows.push(value::decode(&row, columns.as_slice())?);
        }
        Ok(rows)
    }

    pub(super) async fn fetch_optional(&self, sql: Sql) -> Result<Option<Row>> {
        let sql = match sql.point {
            true => match self.point_readers.fetch_optional(sql)? {
                point::Answer::Row(row) => return Ok(row),
                point::Answer::Busy(sql) => sql,
            },
            false => sql,
        };
        let mut connection = self.readers.acquire().await.translate()?;
        let columns = sql.columns.clone();
        let row = prepared(sql)?
            .fetch_optional(&mut *connection)
            .await
            .translate()?;
        row.map(|row| value::decode(&row, columns.as_slice()))
            .transpose()
    }

    pub(super) async fn write<T: Send + 'static>(&self, job: impl Job<T>) -> Result<T> {
        self.writer.run(job).await
    }

    pub(super) async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }
}

type Query<'q> = sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments>;

fn prepared<'q>(sql: Sql) -> Result<Query<'q>> {
    let kept = sql.is_kept();
    let arguments = value::arguments(sql.args)?;
    let query = match sql.text {
        Text::Fixed(text) => sqlx::query_with(text, arguments),
        // Names come from checked declarations, everything else is bound (see `Sql`).
        Text::Shared(text) => sqlx::query_with(AssertSqlSafe(text), arguments),
        Text::Built(text) => sqlx::query_with(AssertSqlSafe(text), arguments),
    };
    Ok(query.persistent(kept))
}
