//! Everything that a tenant has in the database, found by looking: the rows of every table with a
//! column `tenant_id`, whichever release or module made it.

use super::{ColumnType, Db, Dialect, Sql};
use crate::error::{Error, Result};
use crate::id::TenantId;

/// Rows that one statement removes.
const BATCH: u64 = 1_000;

/// A table with a column `tenant_id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TenantTable {
    name: String,
    /// Whether its rows have a name of their own beside their key, by which some can be removed.
    divisible: bool,
}

impl TenantTable {
    /// As the database's catalogue names it.
    fn new(name: String, divisible: bool) -> Result<Self> {
        let known = |c: char| c.is_ascii_alphanumeric() || "_.~".contains(c);
        match !name.is_empty() && name.chars().all(known) {
            true => Ok(Self { name, divisible }),
            false => Err(Error::Configuration(
                format!("the table {name:?} has a column tenant_id and is none of this program's")
                    .into(),
            )),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Tables of a search index come first: what stands in them is looked up by the others.
    fn order(&self) -> (bool, bool, &str) {
        let words = self.name.contains(".search.");
        let switch = self.name.ends_with(".search.tenants");
        (!switch, !words, &self.name)
    }

    /// Removes some of the tenant's rows.
    pub(crate) fn delete(&self, tenant: TenantId, dialect: Dialect) -> Sql {
        let mut sql = Sql::new("DELETE FROM ");
        self.push(&mut sql);
        self.some(&mut sql, tenant, dialect, None);
        sql
    }

    /// Removes the words that some of the tenant's rows number, before [`delete`](Self::delete)
    /// does these; none where the table numbers no words.
    pub(crate) fn delete_words(&self, tenant: TenantId, dialect: Dialect) -> Option<Sql> {
        let index = self.name.strip_suffix(".numbers")?;
        if !self.numbers_words() {
            return None;
        }
        let words = Self {
            name: index.to_owned(),
            divisible: true,
        };
        let mut sql = Sql::new("DELETE FROM ");
        words.push(&mut sql);
        sql.push(" WHERE rowid IN (SELECT number FROM ");
        self.push(&mut sql);
        self.some(&mut sql, tenant, dialect, None);
        sql.push(")");
        Some(sql)
    }

    /// Takes the references out of some rows that have one.
    fn loosen(&self, column: &Self, tenant: TenantId, dialect: Dialect) -> Sql {
        let mut sql = Sql::new("UPDATE ");
        self.push(&mut sql);
        sql.push(" SET ");
        column.push(&mut sql);
        sql.push(" = NULL");
        self.some(&mut sql, tenant, dialect, Some(column));
        sql
    }

    /// Which rows: some of the tenant's, where the table can be divided.
    fn some(&self, sql: &mut Sql, tenant: TenantId, dialect: Dialect, with: Option<&Self>) {
        if self.divisible {
            sql.push(match dialect {
                Dialect::Sqlite => " WHERE rowid IN (SELECT rowid FROM ",
                Dialect::Postgres => " WHERE ctid = ANY (ARRAY (SELECT ctid FROM ",
            });
            self.push(sql);
        }
        sql.push(" WHERE tenant_id = ")
            .arg(tenant, ColumnType::Uuid);
        if let Some(column) = with {
            sql.push(" AND ");
            column.push(sql);
            sql.push(" IS NOT NULL");
        }
        if self.divisible {
            if self.numbers_words() {
                // Their words go first, and must be those of the same rows.
                sql.push(" ORDER BY rowid");
            }
            sql.push(" LIMIT ").number(BATCH);
            sql.push(match dialect {
                Dialect::Sqlite => ")",
                Dialect::Postgres => "))",
            });
        }
    }

    fn numbers_words(&self) -> bool {
        self.name.ends_with(".search.numbers")
    }

    fn push(&self, sql: &mut Sql) {
        // Its characters were looked at.
        let text = sql.writable();
        text.push('"');
        text.push_str(&self.name);
        text.push('"');
    }
}

impl Db {
    /// All tables with rows of tenants, in an order to empty them in.
    pub(crate) async fn tenant_tables(&self) -> Result<Vec<TenantTable>> {
        let sql = Sql::new(match self.dialect() {
            Dialect::Sqlite => {
                "SELECT t.name, t.wr = 0 FROM pragma_table_list AS t \
                 WHERE t.schema = 'main' AND t.type = 'table' AND EXISTS \
                 (SELECT 1 FROM pragma_table_info(t.name) AS c WHERE c.name = 'tenant_id')"
            }
            Dialect::Postgres => {
                "SELECT c.relname::text, true FROM pg_class c \
                 JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' \
                 WHERE c.relkind IN ('r', 'p') AND NOT a.attisdropped \
                 AND c.relnamespace = current_schema()::regnamespace"
            }
        });
        let sql = sql.returns(&[ColumnType::Text, ColumnType::Bool]);
        let rows = self.fetch_all(sql).await?.into_iter();
        let mut tables = rows
            .map(|mut row| TenantTable::new(row.text()?, row.bool()?))
            .collect::<Result<Vec<_>>>()?;
        tables.sort_by(|one, other| one.order().cmp(&other.order()));
        Ok(tables)
    }

    /// The columns of a table that refer to other rows and may be null.
    pub(super) async fn loose(&self, table: &TenantTable) -> Result<Vec<TenantTable>> {
        let sql = Sql::new(match self.dialect() {
            Dialect::Sqlite => {
                "SELECT DISTINCT k.\"from\" FROM pragma_foreign_key_list($1) AS k \
                 JOIN pragma_table_info($1) AS c ON c.name = k.\"from\" \
                 WHERE k.\"from\" <> 'tenant_id' AND c.\"notnull\" = 0"
            }
            Dialect::Postgres => {
                "SELECT DISTINCT a.attname::text FROM pg_constraint k \
                 JOIN pg_class c ON c.oid = k.conrelid \
                 JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (k.conkey) \
                 WHERE k.contype = 'f' AND c.relname = $1 AND a.attname <> 'tenant_id' \
                 AND NOT a.attnotnull AND c.relnamespace = current_schema()::regnamespace"
            }
        });
        let sql = sql
            .bind(table.name(), ColumnType::Text)
            .returns(&[ColumnType::Text]);
        let rows = self.fetch_all(sql).await?.into_iter();
        rows.map(|mut row| TenantTable::new(row.text()?, true))
            .collect()
    }

    /// Empties these tables of the tenant's rows, a bounded number in each transaction, those that
    /// others refer to last.
    pub(crate) async fn erase(&self, mut tables: Vec<TenantTable>, tenant: TenantId) -> Result<()> {
        while !tables.is_empty() {
            let before = tables.len();
            let mut left = Vec::new();
            for table in tables {
                match self.empty(&table, tenant).await {
                    Ok(()) => {}
                    Err(Error::Conflict { .. }) => left.push(table),
                    Err(error) => return Err(error),
                }
            }
            // Rows that refer to each other let go of each other first.
            if left.len() == before && !self.loosen(&left, tenant).await? {
                let names: Vec<_> = left.iter().map(TenantTable::name).collect();
                let message = format!("rows of {} are held by others", names.join(", "));
                return Err(Error::internal(message));
            }
            tables = left;
        }
        Ok(())
    }

    async fn empty(&self, table: &TenantTable, tenant: TenantId) -> Result<()> {
        let dialect = self.dialect();
        loop {
            let words = table.delete_words(tenant, dialect);
            let rows = table.delete(tenant, dialect);
            let gone = self.write(move |tx| {
                Box::pin(async move {
                    if let Some(words) = words {
                        tx.execute(words).await?;
                    }
                    tx.execute(rows).await
                })
            });
            if gone.await? == 0 {
                return Ok(());
            }
        }
    }

    /// Answers whether there was anything to loosen.
    async fn loosen(&self, tables: &[TenantTable], tenant: TenantId) -> Result<bool> {
        let mut any = false;
        for table in tables {
            for column in self.loose(table).await? {
                loop {
                    let sql = table.loosen(&column, tenant, self.dialect());
                    match self.execute(sql).await? {
                        0 => break,
                        _ => any = true,
                    }
                }
            }
        }
        Ok(any)
    }
}
