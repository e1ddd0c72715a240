//! Search in large tenants: an index narrows down what the fields' own comparison then decides, so
//! that results are the same with and without one.
//!
//! On PostgreSQL the planner weighs the index. On SQLite a [probe](Statements::search_probe) does:
//! a text that many records hold is found sooner by reading records in order than by sorting all
//! that hold it. There the index lies behind the writes: what it does not know as it is now, the
//! search takes along.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{Statements, containing};
use crate::db::{ColumnType, Dialect, Row, Sql};
use crate::error::Result;
use crate::id::TenantId;
use crate::module::SearchMode;
use crate::record::{Field, MAX_WORDS, words};
use crate::value::Value;

/// How a search finds its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SearchPath {
    /// Reading them one by one.
    Scan,
    /// By the index, where there is one: those that hold all trigrams of the words.
    Index,
    /// By SQLite's index: those that hold these of the [trigrams](trigrams), a bit for each.
    Trigrams(u32),
    /// By PostgreSQL's index: those that hold these parts of the words.
    Parts(Parts),
}

/// For each word of a search the letters that an index is asked for, from and to; none of a word
/// that it is not asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Parts(pub(super) [(u8, u8); MAX_WORDS]);

impl Parts {
    fn of(&self, at: usize, word: &str) -> Option<String> {
        let (from, to) = self.0.get(at).copied()?;
        let letters = word.chars().skip(usize::from(from));
        (from < to).then(|| letters.take(usize::from(to - from)).collect())
    }
}

/// Characters that the index knows a text by.
pub(super) const TRIGRAM: usize = 3;
/// Most trigrams that narrow a search down, if it has not more words than that.
const MAX_TRIGRAMS: usize = 6;
/// Records that a trigram is counted in: to walk along a longer list costs more than it narrows
/// down.
const COUNTED: u64 = 1_024;
/// Matches up to which the index is worth sorting what it finds. Measured at 200,000 records over
/// ten tenants, where 64 to 1,024 differ by a third.
const FEW: u64 = 256;

/// Records that the index does not know as they are, up to which it is worth its while.
pub(crate) const BEHIND: u64 = 256;

/// What a probe tells about a search and the tenant's part of the index.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    /// Whether the tenant has a part.
    pub(crate) indexed: bool,
    /// Records that it does not know as they are, as far as anybody asks.
    pub(crate) behind: u64,
    /// How many records hold each trigram of the words, as far as it matters.
    pub(crate) trigrams: Vec<u64>,
}

impl Probe {
    pub(crate) fn read(mut row: Row) -> Result<Self> {
        let (indexed, behind) = (row.bool()?, row.int::<i64>()?.unsigned_abs());
        let mut trigrams = Vec::new();
        while let Value::Int(count) = row.next() {
            trigrams.push(count.unsigned_abs());
        }
        Ok(Self {
            indexed,
            behind,
            trigrams,
        })
    }

    /// The way by the trigrams that are rare, where the rarest one finds few records.
    pub(crate) fn rare(&self) -> Option<SearchPath> {
        let rarest = *self.trigrams.iter().min()?;
        if !few(rarest + self.behind) {
            return None;
        }
        let counts = self.trigrams.iter().enumerate();
        let rare = counts.filter(|(_, count)| **count <= COUNTED);
        Some(SearchPath::Trigrams(
            rare.fold(0, |bits, (at, _)| bits | 1 << at),
        ))
    }
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
        let mut columns = vec![ColumnType::Bool, ColumnType::Int];
        for trigram in trigrams(text) {
            sql.push(", ");
            self.count_words(&mut sql, tenant, token("#", &trigram), COUNTED);
            columns.push(ColumnType::Int);
        }
        Some(sql.returns_shared(&columns.into()).point_read())
    }

    /// Counts the records that the index knows to hold all trigrams of the words, as far as [`few`]
    /// asks.
    pub(crate) fn search_matches(&self, tenant: TenantId, text: &str) -> Sql {
        let mut sql = Sql::new("SELECT ");
        self.count_words(&mut sql, tenant, expression(text, SearchPath::Index), FEW);
        sql.returns(&[ColumnType::Int])
    }

    fn count_words(&self, sql: &mut Sql, tenant: TenantId, expression: String, most: u64) {
        sql.push("(SELECT count(*) FROM (SELECT 1 FROM ");
        self.words(sql, tenant, expression);
        sql.push(" LIMIT ").number(most + 1).push("))");
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

    /// Whether the index knows a word like one of these; it knows none of tenants' own fields.
    pub(super) fn indexes(&self, text: &str) -> bool {
        let mut searched = self.module.searchable().iter();
        self.module.spec().search == SearchMode::Indexed
            && words(text).into_iter().any(is_long)
            && !searched.any(|position| self.module.is_custom(*position))
    }

    /// The expression of PostgreSQL's index, to the letter.
    pub(super) fn searched(&self, sql: &mut Sql) {
        sql.push("(");
        for (count, position) in self.module.searchable().iter().enumerate() {
            sql.push(if count > 0 { " || chr(10) || " } else { "" });
            sql.push("coalesce(")
                .ident(&self.module.fields()[*position].name)
                .push(", '')");
        }
        sql.push(")");
    }

    /// The condition that each word of the text is in one of the searched fields.
    pub(super) fn found(&self, sql: &mut Sql, tenant: TenantId, text: &str, path: SearchPath) {
        let by_index = path != SearchPath::Scan && self.indexes(text);
        let words = words(text);
        let open = match self.dialect {
            _ if !by_index => words,
            Dialect::Sqlite => {
                self.narrow(sql, tenant, expression(text, path));
                words
            }
            Dialect::Postgres => self.decide(sql, words, path),
        };
        if open.is_empty() {
            return;
        }
        let (before, after) = match path {
            // To the planner a CASE is as good as a coin: its estimate rests on the parts alone.
            SearchPath::Parts(_) if by_index => (" AND CASE WHEN ", " THEN true ELSE false END"),
            _ => (" AND ", ""),
        };
        sql.push(before);
        for (count, word) in open.into_iter().enumerate() {
            sql.push(if count > 0 { " AND (" } else { "(" });
            self.in_a_field(sql, word);
            sql.push(")");
        }
        sql.push(after);
    }

    fn in_a_field(&self, sql: &mut Sql, word: &str) {
        for (count, position) in self.module.searchable().iter().enumerate() {
            sql.push(if count > 0 { " OR " } else { "" });
            self.holds(sql, Field::Declared(*position), containing(word));
        }
        if self.module.searchable().is_empty() {
            sql.push("1 = 0");
        }
    }

    /// On SQLite: the condition that the index knows the record by this expression, or does not
    /// know it as it is now.
    fn narrow(&self, sql: &mut Sql, tenant: TenantId, expression: String) {
        let name = self.module.name();
        sql.push(" AND id IN (SELECT id FROM ")
            .derived(name, ".search.numbers")
            .push(" WHERE number IN (SELECT rowid FROM ");
        self.words(sql, tenant, expression);
        sql.push(") UNION ALL ");
        self.tail(sql, tenant, "SELECT id");
        sql.push(" UNION ALL SELECT id FROM ")
            .derived(name, ".search.pending")
            .push(" WHERE tenant_id = ")
            .arg(tenant, ColumnType::Uuid)
            .push(")");
    }

    /// On PostgreSQL: a condition on the index's expression for each word that the index is asked
    /// for; answers the words that are not decided by it.
    fn decide<'t>(&self, sql: &mut Sql, words: Vec<&'t str>, path: SearchPath) -> Vec<&'t str> {
        let mut open = Vec::new();
        for (at, word) in words.into_iter().enumerate() {
            let part = match path {
                SearchPath::Parts(parts) => parts.of(at, word),
                _ => is_long(word).then(|| word.to_owned()),
            };
            // What stands between the fields is a newline: a word without one is in a field. To ask
            // twice would make the planner expect fewer matches than there are.
            if part.as_deref() != Some(word) || word.contains('\n') {
                open.push(word);
            }
            if let Some(part) = part {
                sql.push(" AND ");
                self.searched(sql);
                sql.push(" ILIKE ")
                    .arg(containing(&part), ColumnType::Text)
                    .push(r" ESCAPE '\'");
            }
        }
        open
    }

    /// The tenant's part of the index, as far as this expression matches it: in it, `#` stands for
    /// the tenant.
    fn words(&self, sql: &mut Sql, tenant: TenantId, expression: String) {
        let name = self.module.name();
        sql.derived(name, ".search").push(" WHERE ");
        sql.derived(name, ".search")
            .push(" MATCH coalesce((SELECT replace(")
            .arg(expression, ColumnType::Text)
            .push(", '#', slot) FROM ")
            .derived(name, ".search.tenants")
            .push(" WHERE tenant_id = ")
            .arg(tenant, ColumnType::Uuid)
            // A word that no record has.
            .push("), '0')");
    }
}

/// Whether a probe found so few matches that the index is the shorter way.
pub(crate) fn few(matches: u64) -> bool {
    matches <= FEW
}

/// Whether a word has a trigram.
fn is_long(word: &str) -> bool {
    word.chars().nth(TRIGRAM - 1).is_some()
}

/// The FTS5 expression for records that hold the trigrams that the path asks for
/// (<https://sqlite.org/fts5.html>, §3).
fn expression(text: &str, path: SearchPath) -> String {
    let wanted = |at: usize| match path {
        SearchPath::Trigrams(bits) => bits & 1 << at != 0,
        SearchPath::Scan | SearchPath::Index | SearchPath::Parts(_) => true,
    };
    let trigrams = trigrams(text).into_iter().enumerate();
    let tokens = trigrams.filter(|(at, _)| wanted(*at));
    let tokens: Vec<String> = tokens.map(|(_, trigram)| token("#", &trigram)).collect();
    tokens.join(" AND ")
}

/// Some trigrams of a search that cover its words, or their beginnings; the first ones of all words
/// come first.
fn trigrams(text: &str) -> Vec<[char; TRIGRAM]> {
    let words: Vec<Vec<_>> = words(text).into_iter().map(covering).collect();
    let most = words.iter().filter(|word| !word.is_empty()).count();
    let nth = |at: usize| words.iter().filter_map(move |word| word.get(at).copied());
    let trigrams = (0..MAX_TRIGRAMS).flat_map(nth);
    trigrams.take(most.max(MAX_TRIGRAMS)).collect()
}

/// The trigrams of a word side by side, and the last one whole.
fn covering(word: &str) -> Vec<[char; TRIGRAM]> {
    let letters: Vec<char> = word
        .chars()
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    let last = letters.len().saturating_sub(TRIGRAM);
    let starts = (0..last).step_by(TRIGRAM).chain([last]).take(MAX_TRIGRAMS);
    let trigrams = starts.filter_map(|start| letters.get(start..start + TRIGRAM)?.try_into().ok());
    trigrams.collect()
}

/// What the index holds of a record with these texts, of the tenant with this number: their
/// trigrams, ASCII letters without case, as comparing the fields takes them.
pub(super) fn tokens<'t>(slot: i64, texts: impl Iterator<Item = &'t str>) -> String {
    let mut all = BTreeSet::new();
    for text in texts {
        let letters: Vec<char> = text
            .chars()
            .map(|letter| letter.to_ascii_lowercase())
            .collect();
        for window in letters.windows(TRIGRAM) {
            all.extend(<[char; TRIGRAM]>::try_from(window));
        }
    }
    let slot = slot.to_string();
    let mut tokens = String::with_capacity(all.len() * 12);
    for trigram in all {
        tokens.push_str(&token(&slot, &trigram));
        tokens.push(' ');
    }
    tokens
}

/// A trigram of a tenant as a word of the index: its doclist is of that tenant alone.
fn token(slot: &str, trigram: &[char]) -> String {
    let mut token = String::with_capacity(12);
    token.push_str(slot);
    for letter in trigram {
        // Writing to a String cannot fail.
        let _ = write!(token, "x{:x}", u32::from(*letter));
    }
    token
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sqlx::{AssertSqlSafe, Connection, Row as _, SqliteConnection};

    use super::*;
    use crate::db::ddl;
    use crate::module::{CompiledModule, ModuleSpec};
    use crate::reach::Reach;
    use crate::record::Query;

    const NOTES: &str = r#"
        name = "notes"
        singular = "note"
        search = "indexed"
        fields = [
            { name = "title", type = "text", search = true },
            { name = "email", type = "email", search = true },
        ]
    "#;

    /// The script that makes the module's table and indexes on SQLite, and the text of a count of
    /// what this search finds.
    fn scene(text: &str) -> (String, String) {
        let module = CompiledModule::new(ModuleSpec::from_toml(NOTES).unwrap(), 0).unwrap();
        let steps = ddl::plan(None, Some(module.spec()), Dialect::Sqlite).unwrap();
        let mut script = "CREATE TABLE tenants (id BLOB PRIMARY KEY)".to_owned();
        for step in steps {
            script.push_str(";\n");
            script.push_str(&step.sql);
        }
        let query = Query {
            search: Some(text.to_owned()),
            ..Query::default()
        };
        let statements = Statements::new(&Arc::new(module), Dialect::Sqlite);
        let tenant = TenantId(uuid::Uuid::nil());
        let sql = statements.count(tenant, &Reach::All, &query, SearchPath::Index);
        (script, sql.text.as_str().to_owned())
    }

    #[tokio::test]
    async fn a_word_of_three_letters_and_two_words_are_looked_up_in_sqlites_index() {
        for text in ["abc", "abcd XYZ no"] {
            let (script, sql) = scene(text);
            let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
            let run = sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut connection);
            run.await.unwrap();
            assert_eq!(sql.matches(" MATCH ").count(), 1, "{sql}");
            let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
            let rows = sqlx::query(explain).fetch_all(&mut connection);
            let rows = rows.await.unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            let plan = plan.join("\n");
            assert!(plan.contains("notes.search VIRTUAL TABLE INDEX"), "{plan}");
            assert!(plan.contains("SEARCH notes USING"), "{plan}");
            assert!(!plan.contains("SCAN notes USING"), "{plan}");
        }
    }

    #[test]
    fn a_text_is_known_by_trigrams_that_cover_it() {
        let of = |text: &str| -> Vec<String> {
            let trigrams = trigrams(text).into_iter();
            trigrams.map(|letters| letters.iter().collect()).collect()
        };
        assert_eq!(of("abc"), ["abc"]);
        assert_eq!(of("abcd"), ["abc", "bcd"]);
        assert_eq!(of("ABCdef"), ["abc", "def"]);
        assert_eq!(of("Größe"), ["grö", "öße"]);
        assert_eq!(of("ab").len(), 0);
        assert_eq!(of(&"x".repeat(200)).len(), MAX_TRIGRAMS);
        assert_eq!(of("Meier no ZÜRich"), ["mei", "zÜr", "ier", "ich"]);
        assert_eq!(of(r#""no Zü" b"#), ["no ", " zü"]);
        assert_eq!(of(&"abcd ".repeat(16)).len(), MAX_WORDS, "each has one");
    }

    #[test]
    fn a_record_is_known_by_the_words_that_a_search_asks_for() {
        let known = tokens(7, ["Ab c", "ö\"x", "no", "AB "].into_iter());
        assert_eq!(known, "7x61x62x20 7x62x20x63 7xf6x22x78 ");
        assert_eq!(
            expression("\"AB C\"", SearchPath::Index),
            "#x61x62x20 AND #x62x20x63"
        );
        assert_eq!(
            expression("\"AB C\" x", SearchPath::Trigrams(0b10)),
            "#x62x20x63"
        );
        assert_eq!(
            expression("Abc d DEF", SearchPath::Index),
            "#x61x62x63 AND #x64x65x66"
        );
    }

    #[test]
    fn a_search_goes_by_its_rare_trigrams_where_one_finds_few_records() {
        let rare = |trigrams: &[u64]| {
            let (indexed, behind, trigrams) = (true, 6, trigrams.to_vec());
            Probe {
                indexed,
                behind,
                trigrams,
            }
            .rare()
        };
        assert_eq!(rare(&[1_025, 1_024, 3]), Some(SearchPath::Trigrams(0b110)));
        assert_eq!(rare(&[250]), Some(SearchPath::Trigrams(0b1)));
        assert_eq!(rare(&[251, 1_025]), None);
        assert_eq!(rare(&[]), None);
    }
}
