//! The statements that plans are made of, and that they run on tables with rows, on both databases.

mod check;
mod rebuild;
mod types;

use proptest::prelude::*;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};

use super::*;
use crate::error::Error;
use crate::module::arbitrary;
use crate::testing::postgres::Database;

/// A module with a field of every type.
const THINGS: &str = r#"
    name = "things"
    singular = "thing"
    indexes = [["title", "due"], ["amount"]]
    fields = [
        { name = "title", type = "text", max = 40, required = true, unique = true, search = true },
        { name = "email", type = "email", unique = true, search = true, sort = true },
        { name = "phone", type = "phone" },
        { name = "points", type = "integer" },
        { name = "score", type = "integer", min = -5, max = 100, sort = true },
        { name = "age", type = "integer", min = 0 },
        { name = "debt", type = "integer", max = 0 },
        { name = "amount", type = "decimal", precision = 12, scale = 2 },
        { name = "done", type = "bool", required = true, default = false },
        { name = "seen_at", type = "instant", sort = true },
        { name = "due", type = "date" },
        { name = "stage", type = "enum", values = ["new", "closed won"], default = "new" },
        { name = "tags", type = "tags", max_items = 2 },
        { name = "extra", type = "json" },
        { name = "parent_id", type = "reference", module = "things" },
    ]
"#;

fn things() -> ModuleSpec {
    let spec = ModuleSpec::from_toml(THINGS).unwrap();
    crate::module::check(&spec).unwrap();
    spec
}

/// The declaration with its TOML text changed.
fn changed(from: &str, to: &str) -> ModuleSpec {
    assert!(THINGS.contains(from), "{from}");
    ModuleSpec::from_toml(&THINGS.replace(from, to)).unwrap()
}

fn planned(old: &ModuleSpec, new: &ModuleSpec, dialect: Dialect) -> Vec<Step> {
    plan(Some(old), Some(new), dialect).unwrap()
}

/// The steps as text; a rebuild without the table's columns and plain indexes.
fn printed(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        let mark = if step.destructive { "! " } else { "" };
        text += &format!("-- {mark}{}\n", step.summary);
        let rebuild = step.sql.starts_with("PRAGMA");
        for line in step.sql.lines() {
            let of_the_table = line.starts_with([' ', ')']) || line.starts_with("CREATE INDEX");
            if !(rebuild && of_the_table) {
                text += &format!("{line}\n");
            }
        }
    }
    text
}

async fn run(connection: &mut SqliteConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .map(drop)
}

/// A database with one tenant and the module's table.
async fn database(spec: &ModuleSpec) -> SqliteConnection {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    run(
        &mut connection,
        "CREATE TABLE tenants (id BLOB PRIMARY KEY) STRICT",
    )
    .await
    .unwrap();
    run(&mut connection, "INSERT INTO tenants VALUES (x'01')")
        .await
        .unwrap();
    for sql in create_table(spec, Dialect::Sqlite) {
        run(&mut connection, &sql)
            .await
            .unwrap_or_else(|error| panic!("{error}: {sql}"));
    }
    connection
}

/// Runs a plan the way the database does: all steps in one transaction.
async fn apply(connection: &mut SqliteConnection, steps: &[Step]) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    for step in steps {
        run(&mut transaction, &step.sql).await?;
    }
    transaction.commit().await
}

/// Inserts a thing with the given id and, beside its title, one column.
async fn insert(
    connection: &mut SqliteConnection,
    id: u8,
    column: &str,
    literal: &str,
) -> Result<(), sqlx::Error> {
    let id = format!("zeroblob(15) || x'{id:02x}'");
    let sql = format!(
        "INSERT INTO things (tenant_id, id, version, created_at, updated_at, title, done, {column})
         VALUES (x'01', CAST({id} AS BLOB), 1, 0, 0, 'one', 0, {literal})"
    );
    run(connection, &sql).await
}

#[test]
fn the_tables_of_a_module_with_every_type() {
    let text = |dialect| create_table(&things(), dialect).join(";\n");
    insta::assert_snapshot!("sqlite", text(Dialect::Sqlite));
    insta::assert_snapshot!("postgres", text(Dialect::Postgres));
}

/// One change of each kind that can be planned.
fn changes() -> Vec<(&'static str, ModuleSpec)> {
    vec![
        (
            "a wider enum",
            changed(
                r#"["new", "closed won"]"#,
                r#"["new", "closed won", "lost"]"#,
            ),
        ),
        (
            "an optional field",
            changed("fields = [", "fields = [{ name = 'x', type = 'date' },"),
        ),
        (
            "a required field with a default",
            changed(
                "fields = [",
                r#"fields = [{ name = "x", type = "text", required = true, default = "it's \\" },"#,
            ),
        ),
        (
            "a reference",
            changed(
                "fields = [",
                "fields = [{ name = 'x', type = 'reference', module = 'others' },",
            ),
        ),
        (
            "a removed field",
            changed("{ name = \"age\", type = \"integer\", min = 0 },", ""),
        ),
        (
            "a removed sort",
            changed(
                "type = \"integer\", min = -5, max = 100, sort = true",
                "type = \"integer\", min = -5, max = 100",
            ),
        ),
        (
            "a further index",
            changed("[\"amount\"]", "[\"amount\"], [\"points\"]"),
        ),
        (
            "a field that becomes required",
            changed(
                "\"closed won\"], default",
                "\"closed won\"], required = true, default",
            ),
        ),
        (
            "a wider decimal",
            changed("precision = 12", "precision = 14"),
        ),
        (
            "a bound that falls",
            changed(
                "name = \"age\", type = \"integer\", min = 0",
                "name = \"age\", type = \"integer\"",
            ),
        ),
    ]
}

#[test]
fn the_plan_of_each_kind_of_change() {
    let mut text = String::new();
    for (title, new) in changes() {
        for dialect in [Dialect::Sqlite, Dialect::Postgres] {
            let steps = printed(&planned(&things(), &new, dialect));
            text += &format!("==== {title} on {dialect:?}\n{steps}\n");
        }
    }
    insta::assert_snapshot!("changes", text);
}

/// A PostgreSQL database with one tenant, the module's table and one thing in it.
async fn postgres(empty: &Database) -> PgConnection {
    let mut connection = PgConnection::connect(empty.url()).await.unwrap();
    let others = "name = 'others'\nsingular = 'other'\nfields = [{ name = 'a', type = 'bool' }]";
    let mut script = vec![
        "CREATE TABLE tenants (id uuid PRIMARY KEY)".to_owned(),
        "INSERT INTO tenants VALUES ('00000000-0000-0000-0000-000000000001')".to_owned(),
    ];
    script.extend(create_table(
        &ModuleSpec::from_toml(others).unwrap(),
        Dialect::Postgres,
    ));
    script.extend(create_table(&things(), Dialect::Postgres));
    script.push(
        "INSERT INTO things (tenant_id, id, version, created_at, updated_at, title, done)
         SELECT id, id, 1, 'epoch', 'epoch', 'one', true FROM tenants"
            .to_owned(),
    );
    run_postgres(&mut connection, &script.join(";\n"))
        .await
        .unwrap();
    connection
}

async fn run_postgres(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .map(drop)
}

#[tokio::test]
async fn each_kind_of_change_runs_on_both_databases_with_a_row_there() {
    let empty = Database::empty().await;
    let mut postgres = postgres(&empty).await;
    for (title, new) in changes() {
        let mut sqlite = database(&things()).await;
        run(
            &mut sqlite,
            "CREATE TABLE others (tenant_id, id, PRIMARY KEY (tenant_id, id))",
        )
        .await
        .unwrap();
        insert(&mut sqlite, 1, "age", "1").await.unwrap();
        apply(&mut sqlite, &planned(&things(), &new, Dialect::Sqlite))
            .await
            .unwrap_or_else(|error| panic!("{title}: {error}"));

        let mut transaction = postgres.begin().await.unwrap();
        for step in planned(&things(), &new, Dialect::Postgres) {
            run_postgres(&mut transaction, &step.sql)
                .await
                .unwrap_or_else(|error| panic!("{title}: {error}"));
        }
        transaction.rollback().await.unwrap();
    }
}

#[test]
fn a_declaration_that_changes_no_column_plans_nothing() {
    let mut new = things();
    new.description = "Other words.".into();
    new.fields.reverse();
    new.fields[0].search = !new.fields[0].search;
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        assert_eq!(planned(&things(), &new, dialect), []);
        assert_eq!(plan(None, None, dialect).unwrap(), []);
    }
}

#[test]
fn a_new_module_is_created_and_a_removed_one_dropped_with_a_mark() {
    let created = plan(None, Some(&things()), Dialect::Sqlite).unwrap();
    let statements: Vec<_> = created.iter().map(|step| step.sql.clone()).collect();
    assert_eq!(statements, create_table(&things(), Dialect::Sqlite));
    assert!(
        created
            .iter()
            .all(|step| !step.destructive && step.summary.starts_with("things: new "))
    );

    let dropped = plan(Some(&things()), None, Dialect::Postgres).unwrap();
    assert_eq!(dropped.len(), 1);
    assert_eq!(dropped[0].sql, "DROP TABLE \"things\"");
    assert!(dropped[0].destructive);
}

#[test]
fn changes_that_would_guess_at_data_are_refused_with_a_way_out() {
    let new = changed("scale = 2", "scale = 3");
    let new_text = toml::to_string(&new).unwrap();
    let new = ModuleSpec::from_toml(
        &(new_text.replace("type = \"phone\"", "type = \"email\"")
            + "\n[[fields]]\nname = \"fresh\"\ntype = \"bool\"\n"),
    )
    .unwrap();
    let Err(Error::Invalid(problems)) = plan(Some(&things()), Some(&new), Dialect::Sqlite) else {
        panic!("planned");
    };
    let found: Vec<_> = problems
        .iter()
        .map(|p| (p.pointer.as_str(), p.code))
        .collect();
    assert_eq!(
        found,
        [
            ("/things/phone", "type_changed"),
            ("/things/amount", "type_changed"),
        ]
    );
}

/// Columns and indexes, without the order of columns.
async fn schema(connection: &mut SqliteConnection) -> Vec<String> {
    let rows = sqlx::query(
        "SELECT m.name || ' ' || c.name || ' ' || c.type || ' ' || c.\"notnull\" || ' ' || c.pk AS line
           FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table'
         UNION ALL SELECT sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL
         ORDER BY 1",
    );
    let rows = rows.fetch_all(connection).await.unwrap();
    rows.iter().map(|row| row.get("line")).collect()
}

#[test]
fn long_names_stay_distinct_and_within_the_limit() {
    let long = "x".repeat(48);
    let first = name(&["contacts", &long, "unique"]);
    let second = name(&["contacts", &long, "uniquf"]);
    assert_eq!(first.len(), MAX_NAME);
    assert_ne!(first, second);
    assert_eq!(
        name(&["contacts", "email", "unique"]),
        "contacts.email.unique"
    );
}

#[test]
fn no_literal_ends_early() {
    assert_eq!(text_literal(r"a'b\'c", Dialect::Sqlite), r"'a''b\''c'");
    assert_eq!(text_literal(r"a'b\'c", Dialect::Postgres), r"E'a''b\\''c'");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_declaration_that_passes_the_check_is_a_table_and_changes_into_another(
        old in arbitrary::named("things"),
        new in arbitrary::named("things"),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut connection = database(&old).await;
            let unfilled = |field: &FieldSpec| field.required && field.default_value().is_null();
            let steps = plan(Some(&old), Some(&new), Dialect::Sqlite);
            if let Some(steps) = steps.ok().filter(|_| !new.fields.iter().any(unfilled)) {
                for step in &steps {
                    run(&mut connection, &step.sql)
                        .await
                        .unwrap_or_else(|error| panic!("{error}: {}", step.sql));
                }
                let fresh = schema(&mut database(&new).await).await;
                assert_eq!(schema(&mut connection).await, fresh);
            }
        });
    }

    #[test]
    fn any_default_fills_the_rows_that_are_there(new in arbitrary::named("things")) {
        let old = ModuleSpec::from_toml(
            "name = 'things'\nsingular = 'thing'\nfields = [{ name = 'x_y_z', type = 'bool' }]",
        )
        .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut connection = database(&old).await;
            let row = "INSERT INTO things VALUES (x'01', zeroblob(16), 1, null, 0, 0, null, null)";
            run(&mut connection, row).await.unwrap();
            let unfilled = |field: &FieldSpec| field.required && field.default_value().is_null();
            let steps = plan(Some(&old), Some(&new), Dialect::Sqlite);
            if let Some(steps) = steps.ok().filter(|_| !new.fields.iter().any(unfilled)) {
                for step in &steps {
                    run(&mut connection, &step.sql)
                        .await
                        .unwrap_or_else(|error| panic!("{error}: {}", step.sql));
                }
                for field in &new.fields {
                    let expected = literal(&field.default_value(), Dialect::Sqlite);
                    let name = quoted(&field.name);
                    let sql = format!("SELECT {name} IS {expected} FROM things");
                    let same = sqlx::query_scalar::<_, bool>(AssertSqlSafe(sql.clone()));
                    assert!(same.fetch_one(&mut connection).await.unwrap(), "{sql}");
                }
            }
        });
    }
}
