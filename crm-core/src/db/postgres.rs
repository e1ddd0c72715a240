//! PostgreSQL: one pool; every write is a task that owns its connection until commit or rollback.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use futures::TryStreamExt;
use rust_decimal::Decimal;
use serde_json::value::RawValue;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::types::Json;
use sqlx::{Arguments, AssertSqlSafe, Executor, PgConnection, Postgres, Row as _};
use uuid::Uuid;

use super::error::Translate;
use super::sql::Text;
use super::{ColumnType, Committed, Connection, DatabaseOptions, Job, Row, Sql, Writes};
use crate::error::{Error, Result};
use crate::value::Value;

/// Statements a connection keeps prepared.
const STATEMENT_CACHE: usize = 512;

#[derive(Debug, Clone)]
pub(super) struct Database {
    pool: PgPool,
    committed: Committed,
}

impl Database {
    pub(super) async fn open(
        url: &str,
        options: &DatabaseOptions,
        committed: Committed,
    ) -> Result<Self> {
        let connect = PgConnectOptions::from_str(url)
            .map_err(|_| {
                Error::Configuration(
                    "the PostgreSQL URL must look like postgres://user:password@host/database"
                        .into(),
                )
            })?
            .application_name("crm")
            .statement_cache_capacity(STATEMENT_CACHE)
            // No statement, lock wait or forgotten transaction outlives a request.
            .options([
                ("statement_timeout", "30s"),
                ("lock_timeout", "10s"),
                ("idle_in_transaction_session_timeout", "30s"),
            ]);
        let most = options.most_connections(16)?;
        let (host, port) = (connect.get_host().to_owned(), connect.get_port());
        let pool = PgPoolOptions::new()
            .max_connections(most)
            .min_connections(options.min_connections)
            .acquire_timeout(options.acquire_timeout)
            .test_before_acquire(false)
            .connect_with(connect)
            .await
            .map_err(|source| {
                // What the server says itself is about the user, the password or the database.
                let why = match source.as_database_error() {
                    Some(said) => format!("it says: {}", said.message()),
                    None => "is it running, and reachable from here?".to_owned(),
                };
                Error::Unavailable {
                    message: format!("cannot connect to PostgreSQL at {host}:{port}; {why}").into(),
                    source: Some(Box::new(source)),
                }
            })?;
        Ok(Self { pool, committed })
    }

    pub(super) async fn fetch_all(&self, sql: Sql) -> Result<Vec<Row>> {
        let mut connection = self.pool.acquire().await.translate()?;
        fetch_all(&mut connection, sql).await
    }

    pub(super) async fn fetch_optional(&self, sql: Sql) -> Result<Option<Row>> {
        let mut connection = self.pool.acquire().await.translate()?;
        fetch_optional(&mut connection, sql).await
    }

    pub(super) async fn write<T: Send + 'static>(&self, job: impl Job<T>) -> Result<T> {
        let connection = self.pool.acquire().await.translate()?;
        // The task, not the caller, owns the transaction: dropping the caller cannot cut it short.
        let committed = self.committed.clone();
        let task = tokio::spawn(async move {
            let answer = transaction(Lent(Some(connection)), job, &committed.writes).await;
            committed.signal.send_replace(());
            answer
        });
        task.await
            .unwrap_or_else(|error| Err(Error::internal(error)))
    }

    /// How its connections are made.
    pub(super) fn options(&self) -> std::sync::Arc<PgConnectOptions> {
        self.pool.connect_options()
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A connection inside a transaction. Dropped before its end, it is closed, never given back.
struct Lent(Option<PoolConnection<Postgres>>);

impl Lent {
    fn get(&mut self) -> Result<&mut PgConnection> {
        self.0
            .as_deref_mut()
            .ok_or_else(|| Error::internal("the connection was given back"))
    }

    fn give_back(mut self) {
        self.0.take();
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.0 {
            connection.close_on_drop();
        }
    }
}

async fn transaction<T: Send + 'static>(
    mut lent: Lent,
    job: impl Job<T>,
    writes: &Writes,
) -> Result<T> {
    lent.get()?.execute("BEGIN").await.translate()?;
    let mut touched = Vec::new();
    let connection = Connection::Postgres(lent.get()?);
    let result = super::run(connection, &mut touched, job).await;
    match result {
        Ok(value) => {
            lent.get()?.execute("COMMIT").await.translate()?;
            writes.committed(&touched);
            lent.give_back();
            Ok(value)
        }
        Err(error) => {
            if lent.get()?.execute("ROLLBACK").await.is_ok() {
                lent.give_back();
            }
            Err(error)
        }
    }
}

pub(super) async fn fetch_all(connection: &mut PgConnection, sql: Sql) -> Result<Vec<Row>> {
    let columns = sql.columns.clone();
    let mut stream = prepared(sql)?.fetch(connection);
    let mut rows = Vec::new();
    while let Some(row) = stream.try_next().await.translate()? {
        rows.push(decode(&row, columns.as_slice())?);
    }
    Ok(rows)
}

pub(super) async fn fetch_optional(connection: &mut PgConnection, sql: Sql) -> Result<Option<Row>> {
    let columns = sql.columns.clone();
    let row = prepared(sql)?
        .fetch_optional(connection)
        .await
        .translate()?;
    row.map(|row| decode(&row, columns.as_slice())).transpose()
}

pub(super) async fn execute(connection: &mut PgConnection, sql: Sql) -> Result<u64> {
    Ok(prepared(sql)?
        .execute(connection)
        .await
        .translate()?
        .rows_affected())
}

pub(super) async fn run_script(connection: &mut PgConnection, script: String) -> Result<()> {
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(script)))
        .await
        .translate()?;
    Ok(())
}

type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

fn prepared<'q>(sql: Sql) -> Result<Query<'q>> {
    let kept = sql.is_kept();
    let mut arguments = PgArguments::default();
    for (value, kind) in sql.args {
        encode(&mut arguments, value, kind)?;
    }
    let query = match sql.text {
        Text::Fixed(text) => sqlx::query_with(text, arguments),
        // Names come from checked declarations, everything else is bound (see `Sql`).
        Text::Shared(text) => sqlx::query_with(AssertSqlSafe(text), arguments),
        Text::Built(text) => sqlx::query_with(AssertSqlSafe(text), arguments),
    };
    Ok(query.persistent(kept))
}

fn encode(arguments: &mut PgArguments, value: Value, kind: ColumnType) -> Result<()> {
    match value {
        // PostgreSQL takes the type of a parameter from its encoder, also for null.
        Value::Null => match kind {
            ColumnType::Bool => arguments.add(None::<bool>),
            ColumnType::Int => arguments.add(None::<i64>),
            ColumnType::Decimal { .. } => arguments.add(None::<Decimal>),
            ColumnType::Text => arguments.add(None::<String>),
            ColumnType::Instant => arguments.add(None::<DateTime<Utc>>),
            ColumnType::Date => arguments.add(None::<NaiveDate>),
            ColumnType::Time => arguments.add(None::<NaiveTime>),
            ColumnType::Uuid => arguments.add(None::<Uuid>),
            ColumnType::Tags => arguments.add(None::<Vec<String>>),
            ColumnType::Vector => arguments.add(None::<Vec<f32>>),
            ColumnType::Json => arguments.add(None::<Json<serde_json::Value>>),
            ColumnType::Bytes => arguments.add(None::<Vec<u8>>),
        },
        Value::Bool(value) => arguments.add(value),
        Value::Int(value) => arguments.add(value),
        Value::Decimal(value) => arguments.add(value),
        // JSON that is text already, such as a record written out once for two tables.
        Value::Text(value) if kind == ColumnType::Json => {
            let raw = RawValue::from_string(value).map_err(Error::internal)?;
            arguments.add(Json(raw))
        }
        Value::Text(value) => arguments.add(value),
        Value::Instant(value) => arguments.add(value),
        Value::Date(value) => arguments.add(value),
        Value::Time(value) => arguments.add(value),
        Value::Uuid(value) => arguments.add(value),
        Value::Tags(value) => arguments.add(value),
        Value::Vector(value) => arguments.add(value),
        Value::Json(value) => arguments.add(Json(value)),
        Value::Bytes(value) => arguments.add(value),
    }
    .map_err(Error::internal)
}

fn decode(row: &PgRow, columns: &[ColumnType]) -> Result<Row> {
    let mut values = Vec::with_capacity(columns.len());
    for (index, kind) in columns.iter().enumerate() {
        values.push(decode_column(row, index, *kind)?);
    }
    Ok(Row::new(values))
}

fn decode_column(row: &PgRow, index: usize, kind: ColumnType) -> Result<Value> {
    macro_rules! get {
        ($type:ty) => {
            row.try_get_unchecked::<Option<$type>, _>(index)
                .translate()?
        };
    }
    Ok(match kind {
        ColumnType::Bool => get!(bool).map(Value::Bool),
        ColumnType::Int => get!(i64).map(Value::Int),
        ColumnType::Decimal { .. } => get!(Decimal).map(Value::Decimal),
        ColumnType::Text => get!(String).map(Value::Text),
        ColumnType::Instant => get!(DateTime<Utc>).map(Value::Instant),
        ColumnType::Date => get!(NaiveDate).map(Value::Date),
        ColumnType::Time => get!(NaiveTime).map(Value::Time),
        ColumnType::Uuid => get!(Uuid).map(Value::Uuid),
        ColumnType::Tags => get!(Vec<String>).map(Value::Tags),
        ColumnType::Vector => get!(Vec<f32>).map(Value::Vector),
        ColumnType::Json => get!(Json<serde_json::Value>).map(|json| Value::Json(json.0)),
        ColumnType::Bytes => get!(Vec<u8>).map(Value::Bytes),
    }
    .unwrap_or(Value::Null))
}
