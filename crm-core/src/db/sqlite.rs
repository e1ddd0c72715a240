//! SQLite: one writer with group commit, a pool of read-only connections, explicit column types.
//!
//! Values: UUID as 16-byte BLOB, instant as microseconds since 1970, decimal as scaled integer,
//! date as `YYYY-MM-DD`, tags and JSON as compact JSON text.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, NaiveDate};
use futures::TryStreamExt;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteRow, SqliteSynchronous,
};
use sqlx::{Arguments, AssertSqlSafe, Connection, Executor, Row as _, Sqlite, SqliteConnection};
use tokio::sync::watch;
use uuid::Uuid;

use super::error::Translate;
use super::sql::Text;
use super::{ColumnType, DatabaseOptions, Durability, Job, Row, Sql, writer};
use crate::error::{Error, Result};
use crate::value::Value;

/// Statements a connection keeps prepared.
const STATEMENT_CACHE: usize = 512;

#[derive(Debug, Clone)]
pub(super) struct Database {
    readers: SqlitePool,
    writer: writer::Writer,
}

impl Database {
    pub(super) async fn open(
        url: &str,
        options: &DatabaseOptions,
        committed: watch::Sender<()>,
    ) -> Result<Self> {
        let connect = SqliteConnectOptions::from_str(url)
            .map_err(|_| {
                Error::Configuration("the SQLite URL must look like sqlite://crm.db".into())
            })?
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(match options.durability {
                Durability::Full => SqliteSynchronous::Full,
                Durability::Normal => SqliteSynchronous::Normal,
                Durability::Off => SqliteSynchronous::Off,
            })
            .busy_timeout(Duration::from_secs(5))
            .statement_cache_capacity(STATEMENT_CACHE)
            .pragma("temp_store", "memory")
            .pragma("mmap_size", "268435456");
        let path = connect.get_filename().display().to_string();
        // The writer touches a leaf of every index for every row: they had better be in memory, and
        // written back to the database file rarely.
        let writer = connect
            .clone()
            .pragma("cache_size", "-65536")
            .pragma("wal_autocheckpoint", "4000")
            .pragma("journal_size_limit", "67108864");
        let connection = SqliteConnection::connect_with(&writer)
            .await
            .map_err(|source| Error::Unavailable {
                message: format!("cannot open the SQLite database {path}; check path and rights")
                    .into(),
                source: Some(Box::new(source)),
            })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.max_connections.unwrap_or(4))
            .acquire_timeout(options.acquire_timeout)
            .test_before_acquire(false)
            .connect_lazy_with(connect.read_only(true).create_if_missing(false));
        Ok(Self {
            readers,
            writer: writer::Writer::start(connection, options, committed),
        })
    }

    pub(super) async fn fetch_all(&self, sql: Sql) -> Result<Vec<Row>> {
        let mut connection = self.readers.acquire().await.translate()?;
        fetch_all(&mut connection, sql).await
    }

    pub(super) async fn fetch_optional(&self, sql: Sql) -> Result<Option<Row>> {
        let mut connection = self.readers.acquire().await.translate()?;
        fetch_optional(&mut connection, sql).await
    }

    pub(super) async fn write<T: Send + 'static>(&self, job: impl Job<T>) -> Result<T> {
        self.writer.run(job).await
    }

    pub(super) async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }
}

/// The writer's connection while a job has it.
pub(super) struct Lent<'c> {
    pub(super) connection: &'c mut SqliteConnection,
    /// Statements of the transaction itself that are due before the next one: they ride with it.
    pub(super) control: &'c mut Option<&'static str>,
}

impl Lent<'_> {
    /// The statement, behind what is due before it.
    pub(super) fn due(&mut self, sql: Sql) -> Sql {
        match self.control.take() {
            Some(control) => sql.behind(control),
            None => sql,
        }
    }
}

pub(super) async fn fetch_all(connection: &mut SqliteConnection, sql: Sql) -> Result<Vec<Row>> {
    let columns = sql.columns.clone();
    let mut stream = prepared(sql)?.fetch(connection);
    let mut rows = Vec::new();
    while let Some(row) = stream.try_next().await.translate()? {
        rows.push(decode(&row, columns.as_slice())?);
    }
    Ok(rows)
}

pub(super) async fn fetch_optional(
    connection: &mut SqliteConnection,
    sql: Sql,
) -> Result<Option<Row>> {
    let columns = sql.columns.clone();
    let row = prepared(sql)?
        .fetch_optional(connection)
        .await
        .translate()?;
    row.map(|row| decode(&row, columns.as_slice())).transpose()
}

pub(super) async fn execute(connection: &mut SqliteConnection, sql: Sql) -> Result<u64> {
    Ok(prepared(sql)?
        .execute(connection)
        .await
        .translate()?
        .rows_affected())
}

pub(super) async fn run_script(connection: &mut SqliteConnection, script: String) -> Result<()> {
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(script)))
        .await
        .translate()?;
    Ok(())
}

type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

fn prepared<'q>(sql: Sql) -> Result<Query<'q>> {
    let mut arguments = SqliteArguments::default();
    for (value, kind) in sql.args {
        encode(&mut arguments, value, kind)?;
    }
    Ok(match sql.text {
        Text::Fixed(text) => sqlx::query_with(text, arguments),
        // Names come from checked declarations, everything else is bound (see `Sql`).
        Text::Shared(text) => sqlx::query_with(AssertSqlSafe(text), arguments),
        Text::Built(text) => sqlx::query_with(AssertSqlSafe(text), arguments),
    })
}

fn encode(arguments: &mut SqliteArguments, value: Value, kind: ColumnType) -> Result<()> {
    match value {
        Value::Null => arguments.add(None::<i64>),
        Value::Bool(value) => arguments.add(i64::from(value)),
        Value::Int(value) => arguments.add(value),
        Value::Decimal(value) => arguments.add(scaled(value, kind)?),
        Value::Text(value) => arguments.add(value),
        Value::Instant(value) => arguments.add(value.timestamp_micros()),
        Value::Date(value) => arguments.add(value.to_string()),
        Value::Uuid(value) => arguments.add(value.as_bytes().to_vec()),
        Value::Tags(value) => arguments.add(serde_json::Value::from(value).to_string()),
        Value::Json(value) => arguments.add(value.to_string()),
        Value::Bytes(value) => arguments.add(value),
    }
    .map_err(Error::internal)
}

/// The integer that stands for a decimal: its digits without the point.
fn scaled(value: Decimal, kind: ColumnType) -> Result<i64> {
    let ColumnType::Decimal { scale } = kind else {
        return Err(Error::internal(
            "a decimal was bound to a column of another type",
        ));
    };
    let factor = Decimal::from(10_i64.checked_pow(scale).unwrap_or(i64::MAX));
    let scaled = value
        .checked_mul(factor)
        .filter(|number| number.fract().is_zero());
    scaled
        .and_then(|number| number.to_i64())
        .ok_or_else(|| Error::internal("a decimal does not fit its column"))
}

fn decode(row: &SqliteRow, columns: &[ColumnType]) -> Result<Row> {
    let mut values = Vec::with_capacity(columns.len());
    for (index, kind) in columns.iter().enumerate() {
        values.push(decode_column(row, index, *kind)?);
    }
    Ok(Row::new(values))
}

fn decode_column(row: &SqliteRow, index: usize, kind: ColumnType) -> Result<Value> {
    let int = || row.try_get_unchecked::<Option<i64>, _>(index).translate();
    let text = || {
        row.try_get_unchecked::<Option<String>, _>(index)
            .translate()
    };
    Ok(match kind {
        ColumnType::Bool => int()?.map(|value| Value::Bool(value != 0)),
        ColumnType::Int => int()?.map(Value::Int),
        ColumnType::Decimal { scale } => {
            int()?.map(|value| Value::Decimal(Decimal::new(value, scale)))
        }
        ColumnType::Text => text()?.map(Value::Text),
        ColumnType::Instant => match int()? {
            Some(micros) => Some(Value::Instant(
                DateTime::from_timestamp_micros(micros)
                    .ok_or_else(|| Error::internal("an instant is out of range"))?,
            )),
            None => None,
        },
        ColumnType::Date => match text()? {
            Some(text) => Some(Value::Date(
                NaiveDate::from_str(&text).map_err(Error::internal)?,
            )),
            None => None,
        },
        ColumnType::Uuid => {
            let bytes = row
                .try_get_unchecked::<Option<&[u8]>, _>(index)
                .translate()?;
            match bytes {
                Some(bytes) => Some(Value::Uuid(
                    Uuid::from_slice(bytes).map_err(Error::internal)?,
                )),
                None => None,
            }
        }
        ColumnType::Tags => match text()? {
            Some(text) => Some(Value::Tags(
                serde_json::from_str(&text).map_err(Error::internal)?,
            )),
            None => None,
        },
        ColumnType::Json => match text()? {
            Some(text) => Some(Value::Json(
                serde_json::from_str(&text).map_err(Error::internal)?,
            )),
            None => None,
        },
        ColumnType::Bytes => row
            .try_get_unchecked::<Option<Vec<u8>>, _>(index)
            .translate()?
            .map(Value::Bytes),
    }
    .unwrap_or(Value::Null))
}
