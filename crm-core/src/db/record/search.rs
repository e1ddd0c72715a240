//! Search in large tenants: an index narrows down what the fields' own comparison then decides, so
//! that results are the same with and without one.
//!
//! On PostgreSQL the planner weighs the index. On SQLite a [probe](Statements::search_probe) does:
//! a text that many records hold is found sooner by reading records in order than by sorting all
//! that hold it. There the index lies behind the writes: what it does not know as it is now, the
//! search takes along.

use super::{Statements, containing};
use crate::db::{ColumnType, Dialect, Sql};
use crate::id::TenantId;
use crate::module::SearchMode;

/// How a search finds its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SearchPath {
    /// Reading them one by one.
    Scan,
    /// By the index, where there is one.
    Index,
}

/// What is left to decide behind an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Narrowed {
    /// Whether a field holds the text.
    Open,
    /// Nothing.
    Decided,
}

/// How many bits of a record's number count within its tenant; the others count tenants.
pub(super) const TENANT_SHIFT: u32 = 40;
/// Characters that the index knows a text by.
const TRIGRAM: usize = 3;
/// Most trigrams that narrow a search down.
const MAX_TRIGRAMS: usize = 16;
/// Matches up to which the index is worth sorting what it finds. Measured at 200,000 records over
/// ten tenants, where 64 to 1,024 differ by a third.
const FEW: u64 = 256;

/// Records that the index does not know as they are, up to which it is worth its while.
pub(crate) const BEHIND: u64 = 256;

/// What a probe tells about a text and the tenant's part of the index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    /// Whether the tenant has a part.
    pub(crate) indexed: bool,
    /// Matches in it, as far as [`few`] asks.
    pub(crate) matches: u64,
    /// Records that it does not know as they are, as far as anybody asks.
    pub(crate) behind: u64,
}

impl Statements {
    /// Asks what speaks for the index; none where there is no choice. A tenant without a part is
    /// counted up to one more than `large`.
    pub(crate) fn search_probe(&self, tenant: TenantId, text: &str, large: u32) -> Option<Sql> {
        if self.dialect != Dialect::Sqlite || !self.indexes(text) {
            return None;
        }
        let name = self.module.name();
        let mut sql = Sql::new("SELECT ");
        self.indexed(&mut sql, tenant);
        sql.push(", CASE WHEN ");
        self.indexed(&mut sql, tenant);
        sql.push(" THEN (SELECT count(*) FROM (SELECT 1 FROM ");
        self.words(&mut sql, tenant, text);
        sql.push(" LIMIT ").number(FEW + 1).push(")) ELSE 0 END");
        sql.push(", (SELECT count(*) FROM (");
        self.tail(&mut sql, tenant, "SELECT 1");
        sql.push(" LIMIT CASE WHEN ");
        self.indexed(&mut sql, tenant);
        sql.push(" THEN ").number(BEHIND + 1).push(" ELSE ");
        sql.number(u64::from(large) + 1).push(" END)) + ");
        sql.push("(SELECT count(*) FROM (SELECT 1 FROM ")
            .derived(name, ".search.pending")
            .push(" WHERE tenant_id = ")
            .arg(tenant, ColumnType::Uuid);
        sql.push(" LIMIT ").number(BEHIND + 1).push("))");
        Some(sql.returns(&[ColumnType::Bool, ColumnType::Int, ColumnType::Int]))
    }

    fn indexed(&self, sql: &mut Sql, tenant: TenantId) {
        sql.push("EXISTS (SELECT 1 FROM ")
            .derived(self.module.name(), ".search.tenants")
            .push(" WHERE tenant_id = ")
            .arg(tenant, ColumnType::Uuid)
            .push(")");
    }

    /// The records behind the place that the tenant's part reaches to: all of them without a part.
    fn tail(&self, sql: &mut Sql, tenant: TenantId, select: &'static str) {
        let name = self.module.name();
        sql.push(select).push(" FROM ").ident(name);
        sql.push(" WHERE tenant_id = ")
            .arg(tenant, ColumnType::Uuid);
        sql.push(" AND id > coalesce((SELECT upto FROM ")
            .derived(name, ".search.tenants")
            .push(" WHERE tenant_id = ")
            .arg(tenant, ColumnType::Uuid)
            .push("), x'')");
    }

    /// Whether the index knows texts like this one; it knows none of tenants' own fields.
    fn indexes(&self, text: &str) -> bool {
        let mut searched = self.module.searchable().iter();
        self.module.spec().search == SearchMode::Indexed
            && text.chars().count() >= TRIGRAM
            && !searched.any(|position| self.module.is_custom(*position))
    }

    /// The condition that narrows a search down, and nothing where no index can.
    pub(super) fn narrow(
        &self,
        sql: &mut Sql,
        tenant: TenantId,
        text: &str,
        path: SearchPath,
    ) -> Narrowed {
        if path == SearchPath::Scan || !self.indexes(text) {
            return Narrowed::Open;
        }
        match self.dialect {
            Dialect::Sqlite => {
                let name = self.module.name();
                sql.push(" AND id IN (SELECT id FROM ")
                    .derived(name, ".search.numbers")
                    .push(" WHERE number IN (SELECT rowid FROM ");
                self.words(sql, tenant, text);
                sql.push(") UNION ALL ");
                self.tail(sql, tenant, "SELECT id");
                sql.push(" UNION ALL SELECT id FROM ")
                    .derived(name, ".search.pending")
                    .push(" WHERE tenant_id = ")
                    .arg(tenant, ColumnType::Uuid)
                    .push(")");
                Narrowed::Open
            }
            Dialect::Postgres => {
                // The index's own expression, to the letter.
                sql.push(" AND (");
                for (count, position) in self.module.searchable().iter().enumerate() {
                    sql.push(if count > 0 { " || chr(10) || " } else { "" });
                    sql.push("coalesce(")
                        .ident(&self.module.fields()[*position].name)
                        .push(", '')");
                }
                sql.push(") ILIKE ")
                    .arg(containing(text), ColumnType::Text)
                    .push(r" ESCAPE '\'");
                // What stands between the fields is a newline: a text without one is in a field. To
                // ask twice would make the planner expect fewer matches than there are.
                match text.contains('\n') {
                    true => Narrowed::Open,
                    false => Narrowed::Decided,
                }
            }
        }
    }

    /// The tenant's part of the index, as far as its texts hold the trigrams of this one.
    fn words(&self, sql: &mut Sql, tenant: TenantId, text: &str) {
        let name = self.module.name();
        sql.derived(name, ".search").push(" WHERE ");
        sql.derived(name, ".search").push(" MATCH ");
        sql.arg(trigrams(text), ColumnType::Text);
        for (operator, next) in [(" AND rowid >= ", ""), (" AND rowid < ", " + 1")] {
            sql.push(operator).push("((SELECT slot").push(next);
            sql.push(" FROM ")
                .derived(name, ".search.tenants")
                .push(" WHERE tenant_id = ")
                .arg(tenant, ColumnType::Uuid)
                .push(") << ")
                .number(u64::from(TENANT_SHIFT))
                .push(")");
        }
    }
}

/// Whether a probe found so few matches that the index is the shorter way.
pub(crate) fn few(matches: u64) -> bool {
    matches <= FEW
}

/// The FTS5 query for texts that hold these trigrams, all of them:
/// side by side, and the last one whole (<https://sqlite.org/fts5.html>, §3 and §4.3.4).
fn trigrams(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let last = letters.len().saturating_sub(TRIGRAM);
    let starts = (0..last).step_by(TRIGRAM).chain([last]);
    let mut query = String::new();
    for start in starts.take(MAX_TRIGRAMS) {
        if !query.is_empty() {
            query.push_str(" AND ");
        }
        query.push('"');
        for letter in letters.iter().skip(start).take(TRIGRAM) {
            // A quote between quotes is written twice.
            query.extend(std::iter::repeat_n(
                *letter,
                if *letter == '"' { 2 } else { 1 },
            ));
        }
        query.push('"');
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_known_by_trigrams_that_cover_it() {
        assert_eq!(trigrams("abc"), r#""abc""#);
        assert_eq!(trigrams("abcd"), r#""abc" AND "bcd""#);
        assert_eq!(trigrams("abcdef"), r#""abc" AND "def""#);
        assert_eq!(trigrams(r#"a"b OR c"#), r#""a""b" AND " OR" AND "R c""#);
        assert_eq!(trigrams("größe"), r#""grö" AND "öße""#);
        assert_eq!(trigrams(&"x".repeat(200)).matches("AND").count(), 15);
    }
}
