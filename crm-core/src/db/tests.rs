use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::{DateTime, NaiveDate};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::*;
use crate::clock::Clock;
use crate::on_both_databases;
use crate::testing::Backend;
use crate::value::Value;

on_both_databases!(
    dropped_callers_lose_nothing_and_leave_no_transaction_open,
    a_failing_write_leaves_its_neighbours_alone,
    a_panicking_write_is_rolled_back_and_the_next_one_works,
    every_value_comes_back_as_it_was_bound,
    two_processes_that_start_together_migrate_once,
    migrations_go_down_and_up_again,
    a_table_of_somebody_else_is_refused_and_kept,
    a_database_newer_than_the_program_is_refused,
    an_edited_migration_is_refused,
    waiting_writes_finish_before_the_database_closes,
    fewest_connections_above_the_most_are_refused,
);

async fn open(backend: &Backend) -> Result<Db> {
    let options = crate::testing::database_options();
    Db::open(backend.url(), &options).await
}

async fn fewest_connections_above_the_most_are_refused(backend: Backend) -> anyhow::Result<()> {
    for (least, most) in [(3, Some(2)), (100, None)] {
        let options = DatabaseOptions {
            min_connections: least,
            max_connections: most,
            ..DatabaseOptions::default()
        };
        match Db::open(backend.url(), &options).await {
            Err(Error::Configuration(line)) => {
                assert!(line.contains("min_connections"), "{line}");
            }
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

async fn numbers(db: &Db) -> Result<()> {
    db.execute(Sql::new("CREATE TABLE numbers (n bigint PRIMARY KEY)"))
        .await?;
    Ok(())
}

async fn insert(db: Db, n: i64) -> Result<i64> {
    db.write(move |tx| {
        Box::pin(async move {
            let insert = Sql::new("INSERT INTO numbers (n) VALUES ($1)");
            tx.execute(insert.bind(n, ColumnType::Int)).await?;
            // A second statement, so that a transaction can be cut in two.
            tx.fetch_optional(Sql::new("SELECT 1")).await?;
            Ok(n)
        })
    })
    .await
}

async fn stored(db: &Db) -> Result<Vec<i64>> {
    let sql = Sql::new("SELECT n FROM numbers ORDER BY n").returns(&[ColumnType::Int]);
    db.fetch_all(sql)
        .await?
        .into_iter()
        .map(|mut row| row.int())
        .collect()
}

async fn dropped_callers_lose_nothing_and_leave_no_transaction_open(
    backend: Backend,
) -> anyhow::Result<()> {
    let db = open(&backend).await?;
    numbers(&db).await?;
    let acknowledged = Arc::new(AtomicU32::new(0));
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..3_000 {
        let (db, acknowledged) = (db.clone(), acknowledged.clone());
        callers.spawn(async move {
            // Cut the caller off at a different moment each time.
            let patience = Duration::from_micros(u64::from((n * 37) % 4_001_u32));
            let write = insert(db, i64::from(n));
            if let Ok(Ok(_)) = tokio::time::timeout(patience, write).await {
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
        });
        if n % 32 == 0 {
            while callers.len() > 32 {
                callers.join_next().await;
            }
        }
    }
    while callers.join_next().await.is_some() {}
    // Whoever borrows a connection now finds no transaction on it, and its write stays.
    for n in 10_000..10_064 {
        insert(db.clone(), n).await?;
    }
    let stored = stored(&db).await?;
    let of_dropped = stored.iter().filter(|n| **n < 10_000).count();
    assert_eq!(stored.len() - of_dropped, 64);
    assert!(of_dropped >= acknowledged.load(Ordering::SeqCst) as usize);
    assert!(
        of_dropped > 0,
        "no caller lived long enough to begin a write"
    );
    db.close().await;
    let again = open(&backend).await?;
    assert_eq!(self::stored(&again).await?, stored);
    Ok(())
}

async fn a_failing_write_leaves_its_neighbours_alone(backend: Backend) -> anyhow::Result<()> {
    let db = open(&backend).await?;
    numbers(&db).await?;
    insert(db.clone(), 5).await?;
    let writes = (0..32).map(|n| insert(db.clone(), n));
    let answers = futures::future::join_all(writes).await;
    for (n, answer) in answers.into_iter().enumerate() {
        match n {
            5 => assert_eq!(answer.map_err(|error| error.code()), Err("already_exists")),
            n => assert_eq!(answer?, n as i64),
        }
    }
    assert_eq!(stored(&db).await?, (0..32).collect::<Vec<_>>());
    Ok(())
}

async fn a_panicking_write_is_rolled_back_and_the_next_one_works(
    backend: Backend,
) -> anyhow::Result<()> {
    let db = open(&backend).await?;
    numbers(&db).await?;
    let panicking = db.write(|tx| {
        Box::pin(async move {
            tx.execute(Sql::new("INSERT INTO numbers (n) VALUES (1)"))
                .await?;
            if stored_in(tx).await? == 1 {
                panic!("a job that panics");
            }
            Ok(())
        })
    });
    assert_eq!(
        panicking.await.map_err(|error| error.code()),
        Err("internal")
    );
    insert(db.clone(), 2).await?;
    assert_eq!(stored(&db).await?, [2]);
    Ok(())
}

async fn stored_in(tx: &mut Tx<'_>) -> Result<i64> {
    let sql = Sql::new("SELECT count(*) FROM numbers").returns(&[ColumnType::Int]);
    tx.fetch_optional(sql)
        .await?
        .map_or(Ok(0), |mut row| row.int())
}

async fn every_value_comes_back_as_it_was_bound(backend: Backend) -> anyhow::Result<()> {
    let db = open(&backend).await?;
    let table = match db.dialect() {
        Dialect::Sqlite => {
            "CREATE TABLE everything (a INTEGER, b INTEGER, c INTEGER, d TEXT, e INTEGER, f TEXT, \
             g BLOB, h TEXT, i TEXT, j BLOB) STRICT"
        }
        Dialect::Postgres => {
            "CREATE TABLE everything (a boolean, b bigint, c numeric(18, 4), d text, \
             e timestamptz, f date, g uuid, h text[], i jsonb, j bytea)"
        }
    };
    const KINDS: &[ColumnType] = &[
        ColumnType::Bool,
        ColumnType::Int,
        ColumnType::Decimal { scale: 4 },
        ColumnType::Text,
        ColumnType::Instant,
        ColumnType::Date,
        ColumnType::Uuid,
        ColumnType::Tags,
        ColumnType::Json,
        ColumnType::Bytes,
    ];
    let values = vec![
        Value::Bool(true),
        Value::Int(i64::MIN),
        Value::Decimal(Decimal::new(-99_999_999_999_999, 4)),
        Value::Text("naïve \u{1F600} '; DROP TABLE x --".into()),
        Value::Instant(DateTime::from_timestamp_micros(1_736_933_400_123_456).unwrap_or_default()),
        Value::Date(NaiveDate::from_ymd_opt(2024, 2, 29).unwrap_or_default()),
        Value::Uuid(Uuid::from_u128(7)),
        Value::Tags(vec!["a,b".into(), "\"".into()]),
        Value::Json(serde_json::json!({"a": [1, null, "x"]})),
        Value::Bytes(vec![0, 255]),
    ];
    let nulls = vec![Value::Null; values.len()];
    for row in [values.clone(), nulls.clone()] {
        let mut sql =
            Sql::new("INSERT INTO everything VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)");
        for (value, kind) in row.into_iter().zip(KINDS) {
            sql = sql.bind(value, *kind);
        }
        db.write(move |tx| {
            Box::pin(async move {
                if stored_tables(tx).await? == 0 {
                    tx.execute(Sql::new(table)).await?;
                }
                tx.execute(sql).await
            })
        })
        .await?;
    }
    let rows = db
        .fetch_all(Sql::new("SELECT * FROM everything ORDER BY b IS NULL").returns(KINDS))
        .await?;
    let found: Vec<_> = rows.into_iter().map(Row::rest).collect();
    assert_eq!(found, [values, nulls]);
    Ok(())
}

async fn stored_tables(tx: &mut Tx<'_>) -> Result<usize> {
    let sql = match tx.dialect() {
        Dialect::Sqlite => "SELECT 1 FROM sqlite_schema WHERE name = 'everything'",
        Dialect::Postgres => "SELECT 1 FROM pg_tables WHERE tablename = 'everything'",
    };
    Ok(tx.fetch_all(Sql::new(sql)).await?.len())
}

async fn two_processes_that_start_together_migrate_once(backend: Backend) -> anyhow::Result<()> {
    let (one, other) = (open(&backend).await?, open(&backend).await?);
    while one.migrate_down().await?.is_some() {}
    let clock = Clock::system();
    let (first, second) = tokio::join!(one.migrate_up(&clock), other.migrate_up(&clock));
    let applied = [first?.len(), second?.len()];
    let all = one.migration_status().await?.len();
    assert_eq!(applied.iter().sum::<usize>(), all);
    assert!(applied.contains(&0), "{applied:?}");
    Ok(())
}

async fn migrations_go_down_and_up_again(backend: Backend) -> anyhow::Result<()> {
    let db = open(&backend).await?;
    let clock = Clock::system();
    db.migrate_up(&clock).await?;
    while db.migrate_down().await?.is_some() {}
    let pending = db.migration_status().await?;
    assert!(pending.iter().all(|row| row.applied_at.is_none()));
    assert_eq!(db.migrate_up(&clock).await?.len(), pending.len());
    Ok(())
}

async fn a_table_of_somebody_else_is_refused_and_kept(backend: Backend) -> anyhow::Result<()> {
    let db = open(&backend).await?;
    while db.migrate_down().await?.is_some() {}
    let theirs = Sql::new("CREATE TABLE users (name TEXT)");
    db.execute(theirs).await?;
    let refused = db.migrate_up(&Clock::system()).await;
    let refused = refused.map_err(|error| error.to_string());
    let sentence = refused.err().unwrap_or_default();
    let named = "the database has a table users that is not of this program; nothing was changed";
    assert!(sentence.starts_with(named), "{sentence}");
    let status = db.migration_status().await?;
    assert!(status.iter().all(|row| row.applied_at.is_none()));
    let kept = db.fetch_all(Sql::new("SELECT 1 FROM users")).await?;
    assert!(kept.is_empty());
    Ok(())
}

async fn a_database_newer_than_the_program_is_refused(backend: Backend) -> anyhow::Result<()> {
    let db = open(&backend).await?;
    db.migrate_up(&Clock::system()).await?;
    let newer = Sql::new("UPDATE crm_migrations SET version = 999 WHERE version = 1");
    db.execute(newer).await?;
    let refused = db
        .migrate_up(&Clock::system())
        .await
        .map_err(|error| error.to_string());
    assert_eq!(
        refused.err().unwrap_or_default(),
        "the database has migration 999, newer than this program knows; start a newer program",
    );
    Ok(())
}

async fn an_edited_migration_is_refused(backend: Backend) -> anyhow::Result<()> {
    let db = open(&backend).await?;
    db.migrate_up(&Clock::system()).await?;
    let edited = Sql::new("UPDATE crm_migrations SET checksum = $1");
    db.execute(edited.bind(vec![0_u8; 32], ColumnType::Bytes))
        .await?;
    let refused = db.migration_status().await.map_err(|error| error.code());
    assert_eq!(refused, Err("configuration"));
    Ok(())
}

async fn waiting_writes_finish_before_the_database_closes(backend: Backend) -> anyhow::Result<()> {
    let db = open(&backend).await?;
    numbers(&db).await?;
    let writes: Vec<_> = (0..64)
        .map(|n| tokio::spawn(insert(db.clone(), n)))
        .collect();
    // Let each reach the database before it closes.
    tokio::task::yield_now().await;
    db.close().await;
    let mut kept = 0;
    for write in writes {
        kept += usize::from(write.await?.is_ok());
    }
    assert_eq!(stored(&open(&backend).await?).await?.len(), kept);
    Ok(())
}

#[tokio::test]
async fn sqlite_readers_cannot_write() -> anyhow::Result<()> {
    let backend = Backend::sqlite().await;
    let db = open(&backend).await?;
    numbers(&db).await?;
    let refused = db
        .fetch_all(Sql::new("INSERT INTO numbers VALUES (1)"))
        .await;
    assert!(refused.is_err());
    assert!(stored(&db).await?.is_empty());
    Ok(())
}

/// As where a program ends by an error, and closes nothing.
#[test]
fn a_runtime_that_goes_before_the_sqlite_writer_makes_it_panic_never() -> anyhow::Result<()> {
    static PANICS: AtomicU32 = AtomicU32::new(0);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let writer = std::thread::current().name() == Some("sqlite-writer");
        PANICS.fetch_add(u32::from(writer), Ordering::SeqCst);
        before(panic);
    }));
    let folder = tempfile::tempdir()?;
    for round in 0..100 {
        let url = format!(
            "sqlite://{}",
            folder.path().join(format!("{round}.db")).display()
        );
        let runtime = tokio::runtime::Runtime::new()?;
        let db = runtime.block_on(async {
            let db = Db::open(&url, &DatabaseOptions::default()).await?;
            numbers(&db).await?;
            Ok::<_, Error>(db)
        })?;
        drop(runtime);
        drop(db);
    }
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    Ok(())
}

#[tokio::test]
async fn an_unreachable_database_is_one_clear_line() {
    let options = DatabaseOptions {
        acquire_timeout: Duration::from_millis(500),
        ..Default::default()
    };
    let refused = [
        Db::open("postgres://nobody@127.0.0.1:1/crm", &options).await,
        Db::open("sqlite:///no/such/folder/crm.db", &options).await,
        Db::open("mysql://localhost", &options).await,
    ];
    let lines: Vec<_> = refused
        .into_iter()
        .filter_map(|answer| answer.err())
        .map(|e| e.to_string())
        .collect();
    insta::assert_debug_snapshot!(lines, @r#"
    [
        "cannot connect to PostgreSQL at 127.0.0.1:1; is it running, and reachable from here?",
        "cannot open the SQLite database /no/such/folder/crm.db; check path and rights",
        "the database URL must begin with sqlite:// or postgres://",
    ]
    "#);
}
