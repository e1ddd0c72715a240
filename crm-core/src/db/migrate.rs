//! Applies the library's own migrations: recorded with their checksums, once, whoever starts first.

use chrono::{DateTime, Utc};
use crm_migrations::Migration;

use super::{ColumnType, Db, Dialect, Sql, Tx};
use crate::clock::Clock;
use crate::error::{Error, Result};

/// One migration and whether this database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// Its number; they are applied in this order.
    pub version: i64,
    /// What it does, in a few words.
    pub name: &'static str,
    /// When it was applied here; `None` when it is pending.
    pub applied_at: Option<DateTime<Utc>>,
}

struct Applied {
    version: i64,
    checksum: Vec<u8>,
    at: DateTime<Utc>,
}

/// The migrations of a database that is not there yet.
pub(crate) fn all_pending(dialect: Dialect) -> Result<Vec<MigrationStatus>> {
    status(embedded(dialect), &[])
}

impl Db {
    /// All migrations of this program and whether they are applied.
    pub(crate) async fn migration_status(&self) -> Result<Vec<MigrationStatus>> {
        let dialect = self.dialect();
        let exists = self
            .fetch_optional(table_exists(dialect, "crm_migrations"))
            .await?
            .is_some();
        let applied = if exists {
            read(self.fetch_all(applied_rows()).await?)?
        } else {
            Vec::new()
        };
        status(embedded(dialect), &applied)
    }

    /// Applies what is pending and answers it. Two processes that start together migrate once.
    pub(crate) async fn migrate_up(&self, clock: &Clock) -> Result<Vec<MigrationStatus>> {
        let now = clock.now();
        let embedded = embedded(self.dialect());
        self.write(move |tx| {
            Box::pin(async move {
                let mut pending = status(embedded, &lock_and_read(tx).await?)?;
                pending.retain(|migration| migration.applied_at.is_none());
                for row in &mut pending {
                    let Some(migration) = embedded.iter().find(|m| m.version == row.version) else {
                        continue;
                    };
                    for table in made(migration.up) {
                        refuse_foreign(tx, table).await?;
                    }
                    tx.run_script(migration.up.to_owned()).await?;
                    tx.execute(
                        Sql::new("INSERT INTO crm_migrations VALUES ($1, $2, $3, $4)")
                            .bind(migration.version, ColumnType::Int)
                            .bind(migration.name, ColumnType::Text)
                            .bind(migration.checksum().to_vec(), ColumnType::Bytes)
                            .bind(now, ColumnType::Instant),
                    )
                    .await?;
                    row.applied_at = Some(now);
                }
                Ok(pending)
            })
        })
        .await
    }

    /// Reverts the newest applied migration and answers it; `None` when there is none.
    pub(crate) async fn migrate_down(&self) -> Result<Option<MigrationStatus>> {
        let embedded = embedded(self.dialect());
        self.write(move |tx| {
            Box::pin(async move {
                let all = status(embedded, &lock_and_read(tx).await?)?;
                let newest = all
                    .into_iter()
                    .rev()
                    .find(|migration| migration.applied_at.is_some());
                let Some(newest) = newest else {
                    return Ok(None);
                };
                if let Some(migration) = embedded.iter().find(|m| m.version == newest.version) {
                    tx.run_script(migration.down.to_owned()).await?;
                }
                tx.execute(
                    Sql::new("DELETE FROM crm_migrations WHERE version = $1")
                        .bind(newest.version, ColumnType::Int),
                )
                .await?;
                Ok(Some(newest))
            })
        })
        .await
    }
}

fn embedded(dialect: Dialect) -> &'static [Migration] {
    match dialect {
        Dialect::Sqlite => crm_migrations::sqlite(),
        Dialect::Postgres => crm_migrations::postgres(),
    }
}

/// Holds everybody else back until this transaction ends, then reads what is applied.
async fn lock_and_read(tx: &mut Tx<'_>) -> Result<Vec<Applied>> {
    tx.lock_schema().await?;
    let table = match tx.dialect() {
        Dialect::Sqlite => {
            "CREATE TABLE IF NOT EXISTS crm_migrations (version INTEGER PRIMARY KEY, \
             name TEXT NOT NULL, checksum BLOB NOT NULL, applied_at INTEGER NOT NULL) STRICT"
        }
        Dialect::Postgres => {
            "CREATE TABLE IF NOT EXISTS crm_migrations (version bigint PRIMARY KEY, \
             name text NOT NULL, checksum bytea NOT NULL, applied_at timestamptz NOT NULL)"
        }
    };
    tx.execute(Sql::new(table)).await?;
    read(tx.fetch_all(applied_rows()).await?)
}

fn applied_rows() -> Sql {
    Sql::new("SELECT version, checksum, applied_at FROM crm_migrations ORDER BY version")
        .returns(&[ColumnType::Int, ColumnType::Bytes, ColumnType::Instant])
}

/// The tables that a migration makes.
fn made(script: &str) -> impl Iterator<Item = &str> {
    let statements = script.lines();
    let names = statements.filter_map(|line| line.strip_prefix("CREATE TABLE "));
    names.filter_map(|rest| rest.split_whitespace().next())
}

/// Refuses to make a table where somebody else's has its name.
///
/// # Errors
/// [`Error::Configuration`] naming it.
pub(crate) async fn refuse_foreign(tx: &mut Tx<'_>, table: &str) -> Result<()> {
    if tx
        .fetch_optional(table_exists(tx.dialect(), table))
        .await?
        .is_none()
    {
        return Ok(());
    }
    let other = match tx.dialect() {
        Dialect::Sqlite => "another file",
        Dialect::Postgres => {
            "another database, or another schema by ?options=-csearch_path%3Dcrm in its URL"
        }
    };
    let message = format!(
        "the database has a table {table} that is not of this program; nothing was changed; use {other}"
    );
    Err(Error::Configuration(message.into()))
}

fn table_exists(dialect: Dialect, name: &str) -> Sql {
    let sql = match dialect {
        Dialect::Sqlite => {
            Sql::new("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = $1")
        }
        Dialect::Postgres => Sql::new(
            "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = $1",
        ),
    };
    sql.bind(name, ColumnType::Text)
}

fn read(rows: Vec<super::Row>) -> Result<Vec<Applied>> {
    rows.into_iter()
        .map(|mut row| {
            Ok(Applied {
                version: row.int()?,
                checksum: row.bytes()?,
                at: row.instant()?,
            })
        })
        .collect()
}

/// Compares what is applied with what this program brings.
fn status(embedded: &[Migration], applied: &[Applied]) -> Result<Vec<MigrationStatus>> {
    for row in applied {
        match embedded
            .iter()
            .find(|migration| migration.version == row.version)
        {
            None => {
                return Err(Error::Configuration(
                    format!(
                        "the database has migration {}, newer than this program knows; \
                         start a newer program",
                        row.version
                    )
                    .into(),
                ));
            }
            Some(migration) if migration.checksum()[..] != row.checksum => {
                return Err(Error::Configuration(
                    format!(
                        "migration {} of the database differs from this program's; \
                         use the program that applied it",
                        row.version
                    )
                    .into(),
                ));
            }
            Some(_) => {}
        }
    }
    Ok(embedded
        .iter()
        .map(|migration| MigrationStatus {
            version: migration.version,
            name: migration.name,
            applied_at: applied
                .iter()
                .find(|row| row.version == migration.version)
                .map(|row| row.at),
        })
        .collect())
}
