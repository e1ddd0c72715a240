//! The rules of the further types stand in the table too.

use super::*;

const KINDS: &str = r#"
    name = "kinds"
    singular = "kind"
    fields = [
        { name = "code", type = "text", min = 2, max = 4 },
        { name = "notes", type = "long_text", max = 10 },
        { name = "site", type = "url" },
        { name = "key", type = "uuid" },
        { name = "opens", type = "time" },
        { name = "closes", type = "time", min = "12:00", max = "23:00:00.5" },
        { name = "rate", type = "decimal", precision = 5, scale = 2, min = "0.5", max = 10 },
        { name = "born", type = "date", min = "1900-01-01" },
        { name = "meets", type = "zoned" },
        { name = "shape", type = "vector", dimensions = 2 },
        { name = "code4217", type = "currency" },
        { name = "seen", type = "instant", max = "2030-01-01T00:00:00Z" },
    ]
"#;

/// What each column refuses on both databases, and the text of what it takes.
const CASES: &[(&str, &[&str], &[&str])] = &[
    ("code", &["'a'", "'abcde'"], &["'ab'", "'äöüß'"]),
    ("notes", &["''", "'12345678901'"], &["'a\nb'"]),
    (
        "site",
        &["'ftp://a'", "'http://'", "'a http://b'"],
        &["'HTTPS://a'"],
    ),
    (
        "closes",
        &["'11:59:59'", "'23:00:00.500001'"],
        &["'12:00:00'", "'23:00:00.500000'"],
    ),
    (
        "meets",
        &["'2026-03-01T09:30:00'", "'[UTC]'"],
        &["'2026-03-01T09:30:00[UTC]'"],
    ),
    ("code4217", &["'eur'", "'EURO'", "'E1R'"], &["'EUR'"]),
    ("born", &["'1899-12-31'"], &["'1900-01-01'"]),
];

fn kinds() -> ModuleSpec {
    let spec = ModuleSpec::from_toml(KINDS).unwrap();
    crate::module::check(&spec).unwrap();
    spec
}

fn refusals(only: &'static [(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let shared = CASES
        .iter()
        .flat_map(|(column, refused, _)| refused.iter().map(move |literal| (*column, *literal)));
    shared.chain(only.iter().copied()).collect()
}

fn accepted(only: &'static [(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let shared = CASES
        .iter()
        .flat_map(|(column, _, taken)| taken.iter().map(move |literal| (*column, *literal)));
    shared.chain(only.iter().copied()).collect()
}

#[tokio::test]
async fn checks_of_the_further_types_hold_on_sqlite() {
    let mut connection = database(&kinds()).await;
    let row = "INSERT INTO kinds (tenant_id, id, version, created_at, updated_at)
               VALUES (x'01', zeroblob(16), 1, 0, 0)";
    run(&mut connection, row).await.unwrap();
    let only = &[
        ("key", "x'00'"),
        ("shape", "zeroblob(7)"),
        ("opens", "'24:00:00'"),
        ("opens", "'09:30'"),
        ("opens", "'09:30:00.5'"),
        ("opens", "'09:60:00'"),
        ("rate", "49"),
        ("rate", "1001"),
        ("seen", "1893456000000001"),
    ];
    for (column, literal) in refusals(only) {
        let refused = run(
            &mut connection,
            &format!("UPDATE kinds SET {column} = {literal}"),
        )
        .await;
        let error = refused
            .err()
            .unwrap_or_else(|| panic!("{column} takes {literal}"));
        assert!(
            error.to_string().contains("CHECK"),
            "{column} {literal}: {error}"
        );
    }
    let only = &[
        ("opens", "'09:30:00.000001'"),
        ("shape", "zeroblob(8)"),
        ("rate", "50"),
        ("seen", "1893456000000000"),
    ];
    for (column, literal) in accepted(only) {
        let sql = format!("UPDATE kinds SET {column} = {literal}");
        run(&mut connection, &sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[tokio::test]
async fn checks_of_the_further_types_hold_on_postgresql() {
    let empty = Database::empty().await;
    let mut connection = postgres(&empty).await;
    let mut script = create_table(&kinds(), Dialect::Postgres);
    script.push(
        "INSERT INTO kinds (tenant_id, id, version, created_at, updated_at)
         SELECT id, id, 1, 'epoch', 'epoch' FROM tenants"
            .to_owned(),
    );
    run_postgres(&mut connection, &script.join(";\n"))
        .await
        .unwrap();
    let only = &[
        ("shape", "'{1}'"),
        ("shape", "'{1,NULL}'"),
        ("rate", "0.49"),
        ("rate", "10.01"),
        ("seen", "'2030-01-01T00:00:01Z'"),
    ];
    for (column, literal) in refusals(only) {
        let sql = format!("UPDATE kinds SET {column} = {literal}");
        let refused = run_postgres(&mut connection, &sql).await;
        let error = refused
            .err()
            .unwrap_or_else(|| panic!("{column} takes {literal}"));
        let check = format!("kinds.{column}.check");
        assert!(
            error.to_string().contains(&check),
            "{column} {literal}: {error}"
        );
    }
    let only = &[
        ("opens", "'09:30:00.000001'"),
        ("shape", "'{1,2.5}'"),
        ("rate", "0.5"),
        ("seen", "'2030-01-01T00:00:00Z'"),
    ];
    for (column, literal) in accepted(only) {
        let sql = format!("UPDATE kinds SET {column} = {literal}");
        run_postgres(&mut connection, &sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[test]
fn a_text_becomes_a_long_one_and_keeps_its_values() {
    let long = KINDS.replace("\"text\", min = 2, max = 4", "\"long_text\"");
    let long = ModuleSpec::from_toml(&long).unwrap();
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        let steps = planned(&kinds(), &long, dialect);
        assert!(steps.iter().all(|step| !step.destructive), "{steps:?}");
    }
}
