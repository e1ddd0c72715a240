//! Many rows in few round trips: one prepared statement reused on SQLite, multi-row VALUES on
//! PostgreSQL.

use super::{Connection, Sql, Tx, postgres, sqlite};
use crate::error::Result;

/// Most values of one statement on PostgreSQL, whose protocol counts them in 16 bits.
const MOST_VALUES: usize = 60_000;

impl Tx<'_> {
    /// Runs inserts of one row each that share one text ending in `VALUES (…)`.
    pub(crate) async fn insert_all(&mut self, rows: Vec<Sql>) -> Result<()> {
        #[cfg(test)]
        let rows: Vec<Sql> = rows.into_iter().map(super::seen::see).collect();
        match &mut self.0 {
            Connection::Sqlite(connection) => {
                sqlite::insert_all(connection, &rows)?;
            }
            Connection::Postgres(connection) => {
                let width = rows.first().map_or(1, |row| row.args.len().max(1));
                let mut rows = rows.into_iter();
                loop {
                    let some: Vec<Sql> = rows.by_ref().take(MOST_VALUES / width).collect();
                    let Some(sql) = Sql::many_rows(some) else {
                        break;
                    };
                    postgres::execute(connection, sql).await?;
                }
            }
        }
        Ok(())
    }
}
