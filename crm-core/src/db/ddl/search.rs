//! The index that an indexed search reads, over the text of all searchable fields together.
//!
//! SQLite: an FTS5 table without content, filled behind the writes (see `crate::upkeep`) for those
//! tenants that are large. Its words are trigrams with the number of their tenant, so that a search
//! costs the same however many tenants there are. Beside it, `.search.tenants` says up to which
//! record each tenant is in it, `.search.numbers` numbers the records there, and `.search.pending`
//! names those that changed since: triggers on updates and deletes put them there, and
//! [`made`](crate::db::Tx::made) those that are made before the place reached, for a trigger on
//! inserts would double the cost of an import. A record is thus in the index as it is, or pending,
//! or behind the place that its tenant's part reaches to. PostgreSQL: a GIN index of the tenant and
//! the trigrams of the text; without the right to create the extensions `pg_trgm` and `btree_gin`,
//! and without them, there is no index, a warning says so, and the search reads row by row.
//!
//! The index only narrows down: what matches is decided by comparing the fields themselves.

use super::{name, quoted};
use crate::db::Dialect;
use crate::module::{ModuleSpec, SearchMode};

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
            let triggers = ["update", "delete"].map(|event| {
                let trigger = quoted(format!("{}.search.{event}", spec.name));
                format!("DROP TRIGGER IF EXISTS {trigger}")
            });
            let tables = ["", ".tenants", ".numbers", ".pending"].map(|part| {
                let table = quoted(format!("{}.search{part}", spec.name));
                format!("DROP TABLE IF EXISTS {table}")
            });
            format!("{};\n{}", triggers.join(";\n"), tables.join(";\n"))
        }
    }
}

/// The text of the searchable fields, one behind another.
fn text(spec: &ModuleSpec) -> String {
    let fields = spec.fields.iter().filter(|field| field.search);
    let texts = fields.map(|field| format!("coalesce({}, '')", quoted(&field.name)));
    texts.collect::<Vec<_>>().join(" || chr(10) || ")
}

fn postgres(spec: &ModuleSpec) -> String {
    let (module, table) = (&spec.name, quoted(&spec.name));
    let index = quoted(name(&[module.as_str(), "search"]));
    let text = text(spec);
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
    let part = |part: &str| quoted(format!("{module}.search{part}"));
    let (words, tenants) = (part(""), part(".tenants"));
    let (numbers, pending) = (part(".numbers"), part(".pending"));
    let trigger = |name: &str, event: &str, row: &str| {
        format!(
            "CREATE TRIGGER {} AFTER {event} ON {table} WHEN EXISTS (\
             SELECT 1 FROM {tenants} WHERE \"tenant_id\" = {row}.\"tenant_id\" \
             AND \"upto\" >= {row}.\"id\") BEGIN
    INSERT INTO {pending} (\"tenant_id\", \"id\") VALUES ({row}.\"tenant_id\", {row}.\"id\")
        ON CONFLICT DO NOTHING;
END",
            part(name)
        )
    };
    let searched = spec.fields.iter().filter(|field| field.search);
    let columns: Vec<_> = searched.map(|field| quoted(&field.name)).collect();
    let change = format!("UPDATE OF {}", columns.join(", "));
    let triggers = [
        trigger(".update", &change, "NEW"),
        trigger(".delete", "DELETE", "OLD"),
    ];
    format!(
        "CREATE VIRTUAL TABLE {words} USING fts5(\"text\", content='', contentless_delete=1, \
         detail='none', tokenize='ascii');
CREATE TABLE {tenants} (
    \"tenant_id\" BLOB NOT NULL PRIMARY KEY,
    \"slot\" INTEGER NOT NULL UNIQUE,
    \"upto\" BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE {numbers} (
    \"number\" INTEGER NOT NULL PRIMARY KEY,
    \"tenant_id\" BLOB NOT NULL,
    \"id\" BLOB NOT NULL,
    UNIQUE (\"tenant_id\", \"id\")
) STRICT;
CREATE TABLE {pending} (
    \"tenant_id\" BLOB NOT NULL,
    \"id\" BLOB NOT NULL,
    PRIMARY KEY (\"tenant_id\", \"id\")
) STRICT, WITHOUT ROWID;
{}",
        triggers.join(";\n")
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
        let database = crate::testing::postgres::Database::empty().await;
        let mut connection = PgConnection::connect(database.url()).await.unwrap();
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
