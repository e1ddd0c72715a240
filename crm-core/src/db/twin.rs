//! All rows of a tenant as they stand in the tables, for tests: to compare them byte by byte, and
//! to make a second tenant of them whose rows have the same ids and differ in their tenant alone.
//!
//! Rows are SQL literals that the database itself wrote. What must not exist twice, such as the
//! hash of a key, is made anew.

mod crowd;

use super::erase::TenantTable;
use super::{ColumnType, Db, Dialect, Sql};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::id::TenantId;

pub(crate) use crowd::{Crowd, Fresh};

/// Columns that hold a value once in the whole database, with how many bytes of it.
const UNIQUE: &[(&str, &str, usize)] = &[
    ("refresh_families", "id", 16),
    ("api_keys", "hash", 32),
    ("invitations", "hash", 32),
    ("login_challenges", "hash", 32),
    ("mails", "id", 16),
];
/// Columns that the database numbers.
const NUMBERED: &[(&str, &str)] = &[("outbox", "sequence"), ("audit_unsealed", "sequence")];
/// Stand in rows for what is made anew: 16 bytes, or 32.
const MARKS: [(char, usize); 2] = [('\u{1}', 16), ('\u{2}', 32)];

/// The rows of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// The columns of the tenant's own row, and what stands in them.
    tenant: Sheet,
    sheets: Vec<Sheet>,
}

/// The rows of one table, in the order of their texts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sheet {
    table: String,
    columns: Vec<String>,
    rows: Vec<String>,
}

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// To be compared: everything.
    All,
    /// To be restored: all but what the database numbers, and makes again.
    Rows,
    /// To be restored beside the tenant of the same rows.
    Twin,
}

impl Image {
    /// The tables whose rows differ between the two; `but` these.
    pub(crate) fn differences(&self, other: &Self, but: &[&str]) -> Vec<String> {
        let own = self.sheets.iter().chain([&self.tenant]);
        let differ = own.filter(|sheet| {
            let mut others = other.sheets.iter().chain([&other.tenant]);
            others.all(|other| other != *sheet)
        });
        let mut tables: Vec<String> = differ.map(|sheet| sheet.table.clone()).collect();
        let gained = other.sheets.iter().filter(|other| {
            let mut own = self.sheets.iter();
            !other.rows.is_empty() && own.all(|sheet| sheet.table != other.table)
        });
        tables.extend(gained.map(|sheet| sheet.table.clone()));
        tables.retain(|table| !but.contains(&table.as_str()));
        tables.sort();
        tables
    }

    /// The texts of all rows.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let sheets = self.sheets.iter();
        sheets.flat_map(|sheet| sheet.rows.iter().map(String::as_str))
    }

    fn script(&self, tenant: TenantId, name: &str, clock: &Clock, dialect: Dialect) -> String {
        let key = bytes(tenant.0.as_bytes(), dialect);
        let mut script = begin(dialect).to_owned();
        let row = self.tenant.rows.first().map_or("", String::as_str);
        script.push_str(&format!(
            "INSERT INTO tenants (id, name, {}) VALUES ({key}, '{}', {row});\n",
            names(&self.tenant.columns),
            name.replace('\'', "''"),
        ));
        for sheet in self.sheets.iter().filter(|sheet| !sheet.rows.is_empty()) {
            let (table, columns) = (quoted(&sheet.table), names(&sheet.columns));
            script.push_str(&format!(
                "INSERT INTO {table} (tenant_id, {columns}) VALUES"
            ));
            for (count, row) in sheet.rows.iter().enumerate() {
                let comma = if count > 0 { ",\n" } else { "\n" };
                script.push_str(&format!("{comma}({key}, {})", renewed(row, clock, dialect)));
            }
            script.push_str(";\n");
        }
        script
    }
}

/// The tables with rows of tenants, and what it takes to empty them.
#[derive(Debug)]
pub(crate) struct Layout {
    tables: Vec<(TenantTable, Vec<String>)>,
    /// The columns of the table of tenants.
    tenants: Vec<String>,
    /// Statements that remove a tenant, each up to its id.
    removal: Vec<String>,
}

impl Db {
    pub(crate) async fn layout(&self) -> Result<Layout> {
        let mut tables = Vec::new();
        for table in self.tenant_tables().await? {
            let columns = self.columns_of(table.name()).await?;
            tables.push((table, columns));
        }
        let mut removal = Vec::new();
        if self.dialect() == Dialect::Sqlite {
            for (table, _) in &tables {
                let columns = self.loose(table).await?;
                let columns = columns
                    .iter()
                    .map(|one| format!("{} = NULL", quoted(one.name())));
                let columns: Vec<String> = columns.collect();
                if !columns.is_empty() {
                    let (table, columns) = (quoted(table.name()), columns.join(", "));
                    removal.push(format!("UPDATE {table} SET {columns} WHERE tenant_id = "));
                }
            }
        }
        for table in self.children_first(&tables).await? {
            removal.push(format!("DELETE FROM {} WHERE tenant_id = ", quoted(&table)));
        }
        removal.push("DELETE FROM tenants WHERE id = ".to_owned());
        Ok(Layout {
            tables,
            tenants: self.columns_of("tenants").await?,
            removal,
        })
    }

    /// The tables in an order in which none is emptied before those whose rows need it.
    async fn children_first(&self, tables: &[(TenantTable, Vec<String>)]) -> Result<Vec<String>> {
        let mut left: Vec<(String, Vec<String>)> = Vec::new();
        for (table, _) in tables {
            let name = table.name().to_owned();
            let parents = match self.dialect() {
                Dialect::Sqlite => self.parents(&name).await?,
                Dialect::Postgres => Vec::new(),
            };
            left.push((name, parents));
        }
        let mut order = Vec::new();
        while !left.is_empty() {
            let needed = |table: &String| {
                let mut others = left.iter().filter(|(name, _)| name != table);
                others.any(|(_, parents)| parents.contains(table))
            };
            let free: Vec<String> = left
                .iter()
                .map(|(name, _)| name.clone())
                .filter(|name| !needed(name))
                .collect();
            if free.is_empty() {
                return Err(Error::internal("tables need each other in a circle"));
            }
            left.retain(|(name, _)| !free.contains(name));
            order.extend(free);
        }
        Ok(order)
    }

    /// The tables whose rows the table's must have.
    async fn parents(&self, table: &str) -> Result<Vec<String>> {
        let sql = Sql::new(
            "SELECT DISTINCT k.\"table\" FROM pragma_foreign_key_list($1) AS k \
             JOIN pragma_table_info($1) AS c ON c.name = k.\"from\" \
             WHERE k.\"from\" <> 'tenant_id' AND c.\"notnull\" = 1",
        );
        let sql = sql
            .bind(table, ColumnType::Text)
            .returns(&[ColumnType::Text]);
        let rows = self.fetch_all(sql).await?.into_iter();
        rows.map(|mut row| row.text()).collect()
    }

    /// The tenant's rows.
    pub(crate) async fn image(
        &self,
        layout: &Layout,
        tenant: TenantId,
        detail: Detail,
    ) -> Result<Image> {
        let mut sheets = Vec::new();
        for (table, columns) in &layout.tables {
            // A search index is made again by searching.
            if detail != Detail::All && table.name().contains(".search") {
                continue;
            }
            let about = (table.name(), columns.as_slice());
            sheets.push(self.sheet(about, "tenant_id", tenant, detail).await?);
        }
        let about = ("tenants", layout.tenants.as_slice());
        Ok(Image {
            tenant: self.sheet(about, "id", tenant, detail).await?,
            sheets,
        })
    }

    async fn sheet(
        &self,
        (name, columns): (&str, &[String]),
        key: &'static str,
        tenant: TenantId,
        detail: Detail,
    ) -> Result<Sheet> {
        let mut columns = columns.to_vec();
        columns.retain(|column| {
            let known = column == key || name == "tenants" && column == "name";
            let numbered = NUMBERED.contains(&(name, column.as_str()));
            !known && (detail == Detail::All || !numbered)
        });
        let mut sql = Sql::new("SELECT ");
        let text = sql.writable();
        for (count, column) in columns.iter().enumerate() {
            text.push_str(if count > 0 { " || ', ' || " } else { "" });
            let mut unique = UNIQUE.iter().filter(|_| detail == Detail::Twin);
            let mark = unique.find_map(|(table, one, length)| {
                let mark = MARKS.iter().find(|(_, bytes)| bytes == length)?.0;
                (*table == name && one == column).then_some(mark)
            });
            text.push_str(&literal(column, mark, self.dialect()));
        }
        text.push_str(&format!(" FROM {} WHERE {key} = ", quoted(name)));
        sql.arg(tenant, ColumnType::Uuid).push(" ORDER BY 1");
        let rows = self.fetch_all(sql.returns(&[ColumnType::Text])).await?;
        let rows = rows.into_iter().map(|mut row| row.text());
        Ok(Sheet {
            table: name.to_owned(),
            columns,
            rows: rows.collect::<Result<_>>()?,
        })
    }

    async fn columns_of(&self, table: &str) -> Result<Vec<String>> {
        let sql = Sql::new(match self.dialect() {
            Dialect::Sqlite => "SELECT name FROM pragma_table_info($1) ORDER BY cid",
            Dialect::Postgres => {
                "SELECT a.attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
                 WHERE c.relname = $1 AND c.relnamespace = current_schema()::regnamespace \
                 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum"
            }
        });
        let sql = sql
            .bind(table, ColumnType::Text)
            .returns(&[ColumnType::Text]);
        let rows = self.fetch_all(sql).await?.into_iter();
        rows.map(|mut row| row.text()).collect()
    }

    /// Makes a tenant of these rows. On PostgreSQL that takes the right to set
    /// `session_replication_role`.
    pub(crate) async fn restore(
        &self,
        image: &Image,
        tenant: TenantId,
        name: &str,
        clock: &Clock,
    ) -> Result<()> {
        let script = image.script(tenant, name, clock, self.dialect());
        self.write(move |tx| Box::pin(tx.run_script(script))).await
    }

    /// Removes a tenant without a trace.
    pub(crate) async fn discard(&self, layout: &Layout, tenant: TenantId) -> Result<()> {
        let dialect = self.dialect();
        let key = bytes(tenant.0.as_bytes(), dialect);
        let mut script = begin(dialect).to_owned();
        for statement in &layout.removal {
            script.push_str(&format!("{statement}{key};\n"));
        }
        let words: Vec<Sql> = layout
            .tables
            .iter()
            .filter_map(|(table, _)| table.delete_words(tenant, dialect))
            .collect();
        let write = self.write(move |tx| {
            Box::pin(async move {
                for words in words {
                    tx.execute(words).await?;
                }
                tx.run_script(script).await
            })
        });
        write.await
    }
}

/// Tables refer to each other in circles: what refers is looked at when all is there.
fn begin(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "PRAGMA defer_foreign_keys = ON;\n",
        Dialect::Postgres => "SET LOCAL session_replication_role = replica;\n",
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn names(columns: &[String]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
    columns.join(", ")
}

/// What selects the column as a literal, or the mark that stands for one.
fn literal(column: &str, mark: Option<char>, dialect: Dialect) -> String {
    let column = quoted(column);
    match (mark.map(u32::from), dialect) {
        (Some(mark), Dialect::Sqlite) => format!("char({mark})"),
        (Some(mark), Dialect::Postgres) => format!("chr({mark})"),
        (None, Dialect::Sqlite) => format!("quote({column})"),
        (None, Dialect::Postgres) => format!("quote_nullable({column}::text)"),
    }
}

/// The row with new values where it has marks.
fn renewed(row: &str, clock: &Clock, dialect: Dialect) -> String {
    let mut row = row.to_owned();
    for (mark, length) in MARKS {
        if row.contains(mark) {
            let value = bytes(&clock.random::<32>()[..length], dialect);
            row = row.replace(mark, &value);
        }
    }
    row
}

/// Bytes, or a UUID, as a literal.
fn bytes(bytes: &[u8], dialect: Dialect) -> String {
    match (dialect, uuid::Uuid::from_slice(bytes)) {
        (Dialect::Sqlite, _) => format!("X'{}'", hex::encode(bytes)),
        (Dialect::Postgres, Ok(uuid)) => format!("'{uuid}'"),
        (Dialect::Postgres, Err(_)) => format!("'\\x{}'", hex::encode(bytes)),
    }
}
