//! The statements that bring SQLite's search index up to its records, some at a time.
//!
//! A step takes the records behind the place that the tenant's part reaches to, and the pending
//! ones, in the order of their ids; it is one transaction, and SQLite has one writer. So whenever
//! somebody reads, each record is in the index as it is, or pending, or behind that place.

use super::Statements;
use super::search::tokens;
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::value::Value;

/// Most records of each of the two kinds that one step takes: other writers wait some 30 ms.
pub(crate) const STEP: u64 = 256;
/// Pages of the index that one step of a merge writes.
const MERGED: i64 = 256;

/// What came of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Learned {
    /// Whether there may be more to do.
    pub(crate) more: bool,
    /// Records that the index knows anew.
    pub(crate) records: u64,
    /// All records it knows, give or take those that were deleted.
    pub(crate) of: u64,
}

impl Statements {
    /// Takes one step.
    pub(crate) async fn search_step(&self, tx: &mut Tx<'_>, tenant: TenantId) -> Result<Learned> {
        tx.execute(self.search_begin(tenant)).await?;
        let place = tx.fetch_optional(self.search_place(tenant)).await?;
        let mut place = place.ok_or_else(|| Error::internal("a search index without its place"))?;
        let (slot, upto): (i64, Value) = (place.int()?, place.next());
        let ends = tx.fetch_optional(self.search_ends(tenant, &upto)).await?;
        let mut ends = ends.ok_or_else(|| Error::internal("a search index without its ends"))?;
        let (tail, pending, number) = (ends.next(), ends.next(), ends.int::<i64>()?);
        if !pending.is_null() {
            tx.execute(self.forget_words(tenant, &pending)).await?;
            tx.execute(self.forget_numbers(tenant, &pending)).await?;
        }
        let to = if tail.is_null() { &upto } else { &tail };
        let bounds = [&upto, to, &pending];
        let records = tx
            .execute(self.give_numbers(tenant, number, bounds))
            .await?;
        let mut done = records;
        let texts = tx.fetch_all(self.texts(number)).await?;
        tx.insert_all(self.learn_words(slot, texts)?).await?;
        if !pending.is_null() {
            done += tx.execute(self.forget_pending(tenant, &pending)).await?;
        }
        tx.execute(self.reach(tenant, to)).await?;
        Ok(Learned {
            more: done >= STEP,
            records,
            of: number.unsigned_abs() + records,
        })
    }

    /// Merges some of the index's b-trees (<https://sqlite.org/fts5.html>, §6.8): a search looks a
    /// word up in each. `begin` puts all of them on one level. Answers whether there is more to do.
    pub(crate) async fn merge_step(&self, tx: &mut Tx<'_>, begin: bool) -> Result<bool> {
        let before = changes(tx).await?;
        let pages = if begin { -MERGED } else { MERGED };
        let name = self.module.name();
        let mut sql = Sql::new("INSERT INTO ");
        sql.derived(name, ".search").push(" (");
        sql.derived(name, ".search")
            .push(", rank) VALUES ('merge', ");
        sql.arg(pages, ColumnType::Int).push(")");
        tx.execute(sql).await?;
        // The command itself counts as one.
        Ok(begin || changes(tx).await? - before > 1)
    }

    fn search_begin(&self, tenant: TenantId) -> Sql {
        let name = self.module.name();
        let mut sql = Sql::new("INSERT INTO ");
        sql.derived(name, ".search.tenants")
            .push(" (tenant_id, slot, upto) SELECT ")
            .arg(tenant, ColumnType::Uuid)
            .push(", coalesce(max(slot), 0) + 1, x'' FROM ")
            .derived(name, ".search.tenants")
            .push(" WHERE true ON CONFLICT (tenant_id) DO NOTHING");
        sql
    }

    fn search_place(&self, tenant: TenantId) -> Sql {
        let mut sql = Sql::new("SELECT slot, upto FROM ");
        sql.derived(self.module.name(), ".search.tenants")
            .push(" WHERE tenant_id = ")
            .arg(tenant, ColumnType::Uuid);
        sql.returns(&[ColumnType::Int, ColumnType::Bytes])
    }

    /// The last record behind the place and the last pending one that this step takes, and the
    /// first number that is free.
    fn search_ends(&self, tenant: TenantId, upto: &Value) -> Sql {
        let name = self.module.name();
        let mut sql = Sql::new("SELECT (SELECT max(id) FROM (SELECT id FROM ");
        sql.ident(name).push(" WHERE tenant_id = ");
        sql.arg(tenant, ColumnType::Uuid)
            .push(" AND id > ")
            .arg(upto.clone(), ColumnType::Bytes)
            .push(" ORDER BY id LIMIT ")
            .number(STEP)
            .push(")), (SELECT max(id) FROM (SELECT id FROM ")
            .derived(name, ".search.pending")
            .push(" WHERE tenant_id = ")
            .arg(tenant, ColumnType::Uuid)
            .push(" ORDER BY id LIMIT ")
            .number(STEP)
            .push(")), (SELECT coalesce(max(number), 0) + 1 FROM ")
            .derived(name, ".search.numbers")
            .push(")");
        sql.returns(&[ColumnType::Bytes, ColumnType::Bytes, ColumnType::Int])
    }

    fn forget_words(&self, tenant: TenantId, to: &Value) -> Sql {
        let name = self.module.name();
        let mut sql = Sql::new("DELETE FROM ");
        sql.derived(name, ".search")
            .push(" WHERE rowid IN (SELECT number FROM ")
            .derived(name, ".search.numbers");
        self.of_pending(&mut sql, tenant, to);
        sql.push(")");
        sql
    }

    fn forget_numbers(&self, tenant: TenantId, to: &Value) -> Sql {
        let mut sql = Sql::new("DELETE FROM ");
        sql.derived(self.module.name(), ".search.numbers");
        self.of_pending(&mut sql, tenant, to);
        sql
    }

    fn of_pending(&self, sql: &mut Sql, tenant: TenantId, to: &Value) {
        sql.push(" WHERE tenant_id = ")
            .arg(tenant, ColumnType::Uuid)
            .push(" AND id IN (");
        self.pending(sql, tenant, to);
        sql.push(")");
    }

    fn pending(&self, sql: &mut Sql, tenant: TenantId, to: &Value) {
        sql.push("SELECT id FROM ")
            .derived(self.module.name(), ".search.pending")
            .push(" WHERE tenant_id = ")
            .arg(tenant, ColumnType::Uuid)
            .push(" AND id <= ")
            .arg(to.clone(), ColumnType::Bytes);
    }

    /// Numbers for the records behind `upto` up to `to`, and for those pending ones that exist.
    fn give_numbers(&self, tenant: TenantId, first: i64, [upto, to, pending]: [&Value; 3]) -> Sql {
        let name = self.module.name();
        let mut sql = Sql::new("INSERT INTO ");
        sql.derived(name, ".search.numbers")
            .push(" (number, tenant_id, id) SELECT row_number() OVER (ORDER BY id) - 1 + ")
            .arg(first, ColumnType::Int)
            .push(", tenant_id, id FROM (SELECT tenant_id, id FROM ")
            .ident(name)
            .push(" WHERE tenant_id = ")
            .arg(tenant, ColumnType::Uuid)
            .push(" AND id > ")
            .arg(upto.clone(), ColumnType::Bytes)
            .push(" AND id <= ")
            .arg(to.clone(), ColumnType::Bytes)
            .push(" UNION ALL SELECT tenant_id, id FROM ")
            .ident(name)
            .push(" WHERE tenant_id = ")
            .arg(tenant, ColumnType::Uuid)
            .push(" AND id IN (");
        self.pending(&mut sql, tenant, pending);
        sql.push("))");
        sql
    }

    /// The searched fields of the records that have just got their numbers, behind the number.
    fn texts(&self, first: i64) -> Sql {
        let name = self.module.name();
        let (mut sql, mut columns) = (Sql::new("SELECT n.number"), vec![ColumnType::Int]);
        for position in self.module.searchable() {
            sql.push(", t.")
                .ident(&self.module.fields()[*position].name);
            columns.push(self.module.columns()[*position]);
        }
        sql.push(" FROM ")
            .derived(name, ".search.numbers")
            .push(" n JOIN ")
            .ident(name)
            .push(" t ON t.tenant_id = n.tenant_id AND t.id = n.id WHERE n.number >= ")
            .arg(first, ColumnType::Int);
        sql.returns_shared(&columns.into())
    }

    /// The words of these records.
    fn learn_words(&self, slot: i64, texts: Vec<Row>) -> Result<Vec<Sql>> {
        let mut insert = Sql::new("INSERT INTO ");
        insert
            .derived(self.module.name(), ".search")
            .push(" (rowid, \"text\") VALUES ($1, $2)");
        let insert = insert.into_text();
        let learned = texts.into_iter().map(|mut row| {
            let (number, texts) = (row.int::<i64>()?, row.rest());
            let words = tokens(slot, texts.iter().filter_map(Value::as_text));
            let insert = Sql::shared(&insert).bind(number, ColumnType::Int);
            Ok(insert.bind(words, ColumnType::Text))
        });
        learned.collect()
    }

    fn forget_pending(&self, tenant: TenantId, to: &Value) -> Sql {
        let mut sql = Sql::new("DELETE FROM ");
        sql.derived(self.module.name(), ".search.pending")
            .push(" WHERE tenant_id = ")
            .arg(tenant, ColumnType::Uuid)
            .push(" AND id <= ")
            .arg(to.clone(), ColumnType::Bytes);
        sql
    }

    fn reach(&self, tenant: TenantId, to: &Value) -> Sql {
        let mut sql = Sql::new("UPDATE ");
        sql.derived(self.module.name(), ".search.tenants")
            .push(" SET upto = ")
            .arg(to.clone(), ColumnType::Bytes)
            .push(" WHERE tenant_id = ")
            .arg(tenant, ColumnType::Uuid);
        sql
    }
}

/// Rows that this connection has changed so far, those inside the index included.
async fn changes(tx: &mut Tx<'_>) -> Result<i64> {
    let sql = Sql::new("SELECT total_changes()").returns(&[ColumnType::Int]);
    match tx.fetch_optional(sql).await? {
        Some(mut row) => row.int(),
        None => Ok(0),
    }
}
