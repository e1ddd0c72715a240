//! The index that an indexed search reads, over the text of all searchable fields together.
//!
//! SQLite: an FTS5 table of trigrams without content, and a table that numbers the records, both
//! kept by triggers, so that whoever writes keeps them. Numbers of one tenant stand together, which
//! makes the tenant a range of the index. PostgreSQL: a GIN index of the tenant and the trigrams of
//! the text; without the right to create the extensions `pg_trgm` and `btree_gin`, and without
//! them, there is no index, a warning says so, and the search reads row by row.
//!
//! The index only narrows down: what matches is decided by comparing the fields themselves.

use super::{name, quoted};
use crate::db::Dialect;
use crate::module::{ModuleSpec, SearchMode};

/// How many bits of a record's number count within its tenant; the others count tenants.
const TENANT_SHIFT: u32 = 40;

/// The script that makes and fills the index; none for modules without one.
pub(super) fn create(spec: &ModuleSpec, dialect: Dialect) -> Option<String> {
    if spec.search != SearchMode::Indexed {
        return None;
    }
    Some(match dialect {
        Dialect::Sqlite => sqlite(spec),
        Dialect::Postgres => postgres(spec),
    })
}

/// The script that removes the index.
pub(super) fn drop(spec: &ModuleSpec, dialect: Dialect) -> String {
    let index = quoted(name(&[spec.name.as_str(), "search"]));
    match dialect {
        Dialect::Postgres => format!("DROP INDEX IF EXISTS {index}"),
        Dialect::Sqlite => {
            let triggers = ["insert", "update", "delete"].map(|event| {
                let trigger = quoted(format!("{}.search.{event}", spec.name));
                format!("DROP TRIGGER IF EXISTS {trigger}")
            });
            let numbers = quoted(format!("{}.search.numbers", spec.name));
            let words = quoted(format!("{}.search", spec.name));
            format!(
                "{};\nDROP TABLE IF EXISTS {words};\nDROP TABLE IF EXISTS {numbers}",
                triggers.join(";\n")
            )
        }
    }
}

/// The text of the searchable fields, one behind another; `row` is empty or ends in a dot.
fn text(spec: &ModuleSpec, row: &str, newline: &str) -> String {
    let fields = spec.fields.iter().filter(|field| field.search);
    let texts = fields.map(|field| format!("coalesce({row}{}, '')", quoted(&field.name)));
    texts
        .collect::<Vec<_>>()
        .join(&format!(" || {newline} || "))
}

fn postgres(spec: &ModuleSpec) -> String {
    let (module, table) = (&spec.name, quoted(&spec.name));
    let index = quoted(name(&[module.as_str(), "search"]));
    let text = text(spec, "", "chr(10)");
    format!(
        "DO $crm$
BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    CREATE EXTENSION IF NOT EXISTS btree_gin;
    CREATE INDEX {index} ON {table} USING gin (\"tenant_id\", ({text}) gin_trgm_ops);
EXCEPTION WHEN insufficient_privilege OR undefined_file OR feature_not_supported OR undefined_object THEN
    RAISE WARNING 'module {module} is searched without an index: %; have an administrator run CREATE EXTENSION pg_trgm and CREATE EXTENSION btree_gin, then declare its search anew', SQLERRM;
END
$crm$"
    )
}

fn sqlite(spec: &ModuleSpec) -> String {
    let (module, table) = (&spec.name, quoted(&spec.name));
    let words = quoted(format!("{module}.search"));
    let numbers = quoted(format!("{module}.search.numbers"));
    let trigger = |event: &str| quoted(format!("{module}.search.{event}"));
    let (insert, update, delete) = (trigger("insert"), trigger("update"), trigger("delete"));
    let text = |row: &str| text(spec, row, "char(10)");
    let (all, old, new) = (text("t."), text("OLD."), text("NEW."));
    let number = |row: &str| {
        format!(
            "(SELECT \"number\" FROM {numbers} \
             WHERE \"tenant_id\" = {row}.\"tenant_id\" AND \"id\" = {row}.\"id\")"
        )
    };
    let (of_old, of_new) = (number("OLD"), number("NEW"));
    format!(
        "CREATE VIRTUAL TABLE {words} USING fts5(\"text\", content='', columnsize=0, \
         detail='none', tokenize='trigram');
CREATE TABLE {numbers} (
    \"number\" INTEGER NOT NULL PRIMARY KEY,
    \"tenant_id\" BLOB NOT NULL,
    \"id\" BLOB NOT NULL,
    UNIQUE (\"tenant_id\", \"id\")
) STRICT;
INSERT INTO {numbers} (\"number\", \"tenant_id\", \"id\")
    SELECT (dense_rank() OVER (ORDER BY \"tenant_id\") << {TENANT_SHIFT})
        + row_number() OVER (PARTITION BY \"tenant_id\" ORDER BY \"id\"), \"tenant_id\", \"id\"
    FROM {table};
INSERT INTO {words} (rowid, \"text\")
    SELECT n.\"number\", {all} FROM {numbers} n JOIN {table} t \
        ON t.\"tenant_id\" = n.\"tenant_id\" AND t.\"id\" = n.\"id\"
    ORDER BY n.\"number\";
CREATE TRIGGER {insert} AFTER INSERT ON {table} BEGIN
    INSERT INTO {numbers} (\"number\", \"tenant_id\", \"id\") VALUES (
        coalesce(
            (SELECT max(\"number\") + 1 FROM {numbers} WHERE \"number\" < (
                (SELECT (\"number\" >> {TENANT_SHIFT}) + 1 FROM {numbers}
                 WHERE \"tenant_id\" = NEW.\"tenant_id\" LIMIT 1) << {TENANT_SHIFT})),
            (SELECT (coalesce(max(\"number\") >> {TENANT_SHIFT}, 0) + 1) << {TENANT_SHIFT} \
             FROM {numbers})),
        NEW.\"tenant_id\", NEW.\"id\");
    INSERT INTO {words} (rowid, \"text\") VALUES ({of_new}, {new});
END;
CREATE TRIGGER {update} AFTER UPDATE ON {table} WHEN {old} <> {new} BEGIN
    INSERT INTO {words} ({words}, rowid, \"text\") VALUES ('delete', {of_old}, {old});
    INSERT INTO {words} (rowid, \"text\") VALUES ({of_new}, {new});
END;
CREATE TRIGGER {delete} AFTER DELETE ON {table} BEGIN
    INSERT INTO {words} ({words}, rowid, \"text\") VALUES ('delete', {of_old}, {old});
    DELETE FROM {numbers} WHERE \"tenant_id\" = OLD.\"tenant_id\" AND \"id\" = OLD.\"id\";
END"
    )
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Connection, PgConnection};

    use super::*;
    use crate::db::ddl::create_table;

    const NOTES: &str = r#"
        name = "notes"
        singular = "note"
        search = "indexed"
        fields = [
            { name = "title", type = "text", search = true },
            { name = "size", type = "integer" },
            { name = "email", type = "email", search = true },
        ]
    "#;

    async fn run(connection: &mut PgConnection, script: &str) {
        sqlx::raw_sql(AssertSqlSafe(script.to_owned()))
            .execute(connection)
            .await
            .unwrap_or_else(|error| panic!("{error}: {script}"));
    }

    async fn one(connection: &mut PgConnection, sql: &str) -> String {
        let rows = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql.to_owned()));
        rows.fetch_all(connection).await.unwrap().join("\n")
    }

    #[tokio::test]
    async fn without_its_extensions_postgres_gets_no_search_index_and_no_error() {
        let url = crate::testing::postgres::database().await;
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let spec = ModuleSpec::from_toml(NOTES).unwrap();
        let role = format!("plain_{}", std::process::id());
        let begin = format!(
            "CREATE ROLE {role}; GRANT ALL ON SCHEMA public TO {role};
             CREATE TABLE tenants (id uuid PRIMARY KEY); ALTER TABLE tenants OWNER TO {role};
             SET ROLE {role}"
        );
        run(&mut connection, &begin).await;
        for statement in create_table(&spec, Dialect::Postgres) {
            run(&mut connection, &statement).await;
        }
        let index = "SELECT indexdef FROM pg_indexes WHERE indexname = 'notes.search'";
        assert_eq!(one(&mut connection, index).await, "");

        run(&mut connection, "RESET ROLE").await;
        let script = create(&spec, Dialect::Postgres).unwrap();
        run(&mut connection, &script).await;
        let found = one(&mut connection, index).await;
        assert!(found.contains("USING gin (tenant_id"), "{found}");
        run(&mut connection, "SET enable_seqscan = off").await;
        let plan = "EXPLAIN SELECT 1 FROM notes WHERE tenant_id = gen_random_uuid() \
            AND (coalesce(\"title\", '') || chr(10) || coalesce(\"email\", '')) ILIKE '%abc%' ESCAPE '\\'";
        let plan = one(&mut connection, plan).await;
        assert!(plan.contains("notes.search"), "{plan}");
        run(&mut connection, &drop(&spec, Dialect::Postgres)).await;
        assert_eq!(one(&mut connection, index).await, "");
    }
}
