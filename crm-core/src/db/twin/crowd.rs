//! Many rows of one table in a tenant, as many as a limit allows.

use super::{Layout, MARKS, begin, bytes, literal, names, quoted, renewed};
use crate::clock::Clock;
use crate::db::{ColumnType, Db, Sql};
use crate::error::{Error, Result};
use crate::id::TenantId;

/// Stand for a text and for a number, beside the marks of bytes.
const TEXT: char = '\u{3}';
const NUMBER: char = '\u{4}';
/// Stands for no value.
const EMPTY: char = '\u{5}';
/// From where on numbers are given: higher than those of any row.
const NUMBERS: usize = 1 << 40;

/// Rows like the first one of the tenant but for some columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowd {
    pub(crate) table: &'static str,
    pub(crate) rows: usize,
    /// What differs from row to row, or is absent in all of them.
    pub(crate) columns: &'static [(&'static str, Fresh)],
}

/// What stands in a column instead.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fresh {
    Id,
    Hash,
    Text,
    Number,
    Empty,
}

impl Fresh {
    fn mark(self) -> char {
        let [(id, _), (hash, _)] = MARKS;
        match self {
            Self::Id => id,
            Self::Hash => hash,
            Self::Text => TEXT,
            Self::Number => NUMBER,
            Self::Empty => EMPTY,
        }
    }
}

impl Db {
    /// Gives the tenant these rows.
    pub(crate) async fn crowd(
        &self,
        layout: &Layout,
        tenant: TenantId,
        crowd: &Crowd,
        clock: &Clock,
    ) -> Result<()> {
        let mut tables = layout.tables.iter();
        let found = tables.find(|(table, _)| table.name() == crowd.table);
        let (_, columns) = found.ok_or(Error::NotFound)?;
        let mut columns = columns.clone();
        columns.retain(|column| column != "tenant_id");
        let dialect = self.dialect();
        let literals = columns.iter().map(|column| {
            let mut fresh = crowd.columns.iter();
            let fresh = fresh.find(|(name, _)| name == column);
            literal(column, fresh.map(|(_, fresh)| fresh.mark()), dialect)
        });
        let literals: Vec<String> = literals.collect();
        let mut sql = Sql::new("SELECT ");
        let table = quoted(crowd.table);
        sql.writable().push_str(&format!(
            "{} FROM {table} WHERE tenant_id = ",
            literals.join(" || ', ' || ")
        ));
        sql.arg(tenant, ColumnType::Uuid)
            .push(" ORDER BY 1 LIMIT 1");
        let row = self.fetch_optional(sql.returns(&[ColumnType::Text]));
        let row: String = row.await?.ok_or(Error::NotFound)?.text()?;
        let row = row.replace(EMPTY, "NULL");
        let key = bytes(tenant.0.as_bytes(), dialect);
        let rows = (0..crowd.rows).map(|number| {
            let text = hex::encode(clock.random::<16>());
            let row = row.replace(TEXT, &format!("'{text}'"));
            let row = row.replace(NUMBER, &(NUMBERS + number).to_string());
            format!("({key}, {})", renewed(&row, clock, dialect))
        });
        let rows: Vec<String> = rows.collect();
        let script = format!(
            "{}INSERT INTO {table} (tenant_id, {}) VALUES {};\n",
            begin(dialect),
            names(&columns),
            rows.join(",\n")
        );
        self.write(move |tx| Box::pin(tx.run_script(script))).await
    }
}
