use std::collections::BTreeSet;

use super::{Migration, postgres, sqlite};

/// The statements of a text, without comments, words separated by one space.
fn statements(sql: &str) -> Vec<String> {
    let lines = sql
        .lines()
        .map(|line| line.split_once("--").map_or(line, |(code, _)| code));
    let code = lines.collect::<Vec<_>>().join(" ");
    code.split(';')
        .map(|statement| statement.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|statement| !statement.is_empty())
        .collect()
}

/// The statements that shape tables; indexes may differ between the databases.
fn tables(sql: &str) -> Vec<String> {
    let shapes =
        |text: &String| text.starts_with("CREATE TABLE") || text.starts_with("ALTER TABLE");
    statements(sql).into_iter().filter(shapes).collect()
}

/// A PostgreSQL statement in the words of SQLite.
fn translated(statement: &str) -> String {
    let sequence = "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY";
    statement
        .replace(sequence, "INTEGER PRIMARY KEY AUTOINCREMENT")
        // SQLite's texts are in this order already.
        .replace(" COLLATE \"C\"", "")
        .split(' ')
        .map(|word| {
            let end = word.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
            let word = &word[..word.len() - end.len()];
            let word = match word {
                "uuid" | "bytea" => "BLOB",
                "text" | "jsonb" | "date" => "TEXT",
                "bigint" | "boolean" | "timestamptz" => "INTEGER",
                "false" => "0",
                "true" => "1",
                other => other,
            };
            format!("{word}{end}")
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// The tables that SQLite makes anew where PostgreSQL alters them, and the names of the new ones.
fn rebuilt(sql: &str) -> Vec<(String, String)> {
    let renamed = |statement: String| {
        let (new, old) = statement
            .strip_prefix("ALTER TABLE ")?
            .split_once(" RENAME TO ")?;
        Some((old.to_owned(), new.to_owned()))
    };
    statements(sql).into_iter().filter_map(renamed).collect()
}

/// Without what is said of these tables.
fn without(statements: Vec<String>, rebuilt: &[(String, String)]) -> Vec<String> {
    let about = |statement: &String| {
        let table = statement.split(' ').nth(2).unwrap_or_default();
        rebuilt
            .iter()
            .any(|(old, new)| table == old || table == new)
    };
    statements.into_iter().filter(|one| !about(one)).collect()
}

fn names<'a>(statements: &'a [String], prefix: &str) -> Vec<&'a str> {
    statements
        .iter()
        .filter_map(|statement| statement.strip_prefix(prefix))
        .filter_map(|rest| rest.split(' ').next())
        .collect()
}

#[test]
fn both_databases_have_the_same_migrations_numbered_from_one() {
    let numbered = |list: &'static [Migration]| -> Vec<_> {
        list.iter()
            .map(|migration| (migration.version, migration.name))
            .collect()
    };
    assert_eq!(numbered(sqlite()), numbered(postgres()));
    for (migration, expected) in sqlite().iter().zip(1..) {
        assert_eq!(migration.version, expected);
    }
}

#[test]
fn every_file_of_the_folders_is_embedded_under_its_own_number_and_name() {
    for (folder, list) in [("sqlite", sqlite()), ("postgres", postgres())] {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let embedded: BTreeSet<_> = list
            .iter()
            .flat_map(
                |Migration {
                     version,
                     name,
                     up,
                     down,
                 }| {
                    let stem = format!("{version:04}_{name}");
                    [
                        (format!("{stem}.up.sql"), *up),
                        (format!("{stem}.down.sql"), *down),
                    ]
                },
            )
            .map(|(file, text)| (file, text.to_owned()))
            .collect();
        let present: BTreeSet<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                (entry.file_name().into_string().unwrap(), text)
            })
            .collect();
        assert_eq!(embedded, present);
    }
}

#[test]
fn both_databases_have_the_same_tables_columns_constraints_and_nullability() {
    let mut compared = 0;
    for (sqlite, postgres) in sqlite().iter().zip(postgres()) {
        let rebuilt = rebuilt(sqlite.up);
        let sqlite: Vec<_> = without(tables(sqlite.up), &rebuilt)
            .iter()
            .map(|statement| statement.trim_end_matches(" STRICT").to_owned())
            .collect();
        let postgres: Vec<_> = without(tables(postgres.up), &rebuilt)
            .iter()
            .map(|text| translated(text))
            .collect();
        assert_eq!(sqlite, postgres);
        compared += sqlite.len();
    }
    assert!(compared > 50, "only {compared} were found");
}

#[test]
fn every_sqlite_table_is_strict() {
    for migration in sqlite() {
        for statement in tables(migration.up) {
            let strict = !statement.starts_with("CREATE TABLE") || statement.ends_with(") STRICT");
            assert!(strict, "{statement}");
        }
    }
}

#[test]
fn down_drops_what_up_created_last_table_first() {
    for migration in sqlite().iter().chain(postgres()) {
        let up = without(statements(migration.up), &rebuilt(migration.up));
        let down = without(statements(migration.down), &rebuilt(migration.down));
        let created = names(&up, "CREATE TABLE ");
        let mut dropped = names(&down, "DROP TABLE ");
        dropped.reverse();
        assert_eq!(created, dropped);
    }
}

#[test]
fn a_checksum_changes_with_either_text_and_with_the_border_between_them() {
    let migration = |up, down| {
        Migration {
            version: 1,
            name: "example",
            up,
            down,
        }
        .checksum()
    };
    let checksums = [
        migration("CREATE", "DROP"),
        migration("CREATE ", "DROP"),
        migration("CREATE", "DROP "),
        migration("CREATED", "ROP"),
    ];
    assert_eq!(BTreeSet::from(checksums).len(), checksums.len());
    assert_eq!(migration("CREATE", "DROP"), checksums[0]);
}
