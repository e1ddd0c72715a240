//! What a database's refusal means to the caller: never its text, always one of our kinds.

use sqlx::postgres::PgDatabaseError;

use crate::error::{Error, Result};
use crate::module::Ident;

/// What a driver tells of a statement's failure.
struct Cause<'a> {
    kind: Kind,
    /// What is taken, where the kind is a unique value.
    taken: Taken<'a>,
}

/// What the driver tells of a unique value that is taken.
#[derive(Debug, Default, PartialEq)]
struct Taken<'a> {
    table: Option<&'a str>,
    field: Option<&'a str>,
}

enum Kind {
    Unique,
    Reference,
    Rule,
    Transient,
    Bug,
}

/// Turns a failure of a driver into ours, keeping it as the source.
fn translate(error: impl Driver) -> Error {
    let cause = error.explain();
    match cause.kind {
        Kind::Unique => unique(&cause.taken),
        Kind::Reference => Error::conflict(
            "reference_violation",
            "another record refers to this one, or a record it refers to is gone",
        ),
        Kind::Rule => Error::conflict(
            "rule_violation",
            "a value breaks a rule of its column; nothing was written",
        ),
        Kind::Transient => Error::Unavailable {
            message: "the database is busy or out of reach; try again".into(),
            source: Some(Box::new(error)),
        },
        Kind::Bug => Error::internal(error),
    }
}

/// An error of a database driver.
trait Driver: std::error::Error + Send + Sync + 'static {
    fn explain(&self) -> Cause<'_>;
}

impl Driver for sqlx::Error {
    fn explain(&self) -> Cause<'_> {
        use sqlx::error::ErrorKind;

        let kind = match self {
            Self::Database(cause) => match cause.kind() {
                ErrorKind::UniqueViolation => Kind::Unique,
                ErrorKind::ForeignKeyViolation => Kind::Reference,
                ErrorKind::CheckViolation | ErrorKind::NotNullViolation => Kind::Rule,
                _ if is_transient(cause.code().as_deref()) => Kind::Transient,
                _ => Kind::Bug,
            },
            Self::PoolTimedOut
            | Self::PoolClosed
            | Self::Io(_)
            | Self::Tls(_)
            | Self::WorkerCrashed => Kind::Transient,
            _ => Kind::Bug,
        };
        let database = self.as_database_error();
        let taken = database.and_then(|cause| cause.try_downcast_ref::<PgDatabaseError>());
        Cause {
            kind,
            taken: taken.map_or_else(Taken::default, |cause| {
                Taken::of_postgres(cause.table(), cause.constraint(), cause.detail())
            }),
        }
    }
}

impl Driver for rusqlite::Error {
    fn explain(&self) -> Cause<'_> {
        use rusqlite::ffi;

        let message = match self {
            Self::SqliteFailure(_, Some(message)) => message,
            _ => "",
        };
        let kind = match self.sqlite_error().map(|error| error.extended_code) {
            Some(ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY) => Kind::Unique,
            // The second is SQLite's word for a row that ON DELETE RESTRICT protects.
            Some(ffi::SQLITE_CONSTRAINT_FOREIGNKEY | ffi::SQLITE_CONSTRAINT_TRIGGER) => {
                Kind::Reference
            }
            Some(ffi::SQLITE_CONSTRAINT_CHECK | ffi::SQLITE_CONSTRAINT_NOTNULL) => Kind::Rule,
            // The low byte is the kind of failure, the rest its detail.
            Some(code)
                if matches!(
                    code & 0xff,
                    ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_IOERR | ffi::SQLITE_FULL
                ) =>
            {
                Kind::Transient
            }
            _ => Kind::Bug,
        };
        Cause {
            kind,
            taken: Taken::of_sqlite(message),
        }
    }
}

/// SQLite: busy, locked, I/O error, full disk. PostgreSQL: connection, resource and operator
/// classes (08, 53, 57), serialization failure and deadlock (40).
fn is_transient(code: Option<&str>) -> bool {
    match code {
        Some("5" | "6" | "10" | "13" | "517" | "261") => true,
        Some(code) if code.len() == 5 => ["08", "53", "57", "40", "55"]
            .iter()
            .any(|class| code.starts_with(class)),
        _ => false,
    }
}

impl<'a> Taken<'a> {
    /// PostgreSQL names the table, the constraint or index, and in the detail the columns, in
    /// whatever language: `Key (tenant_id, name)=(…) already exists.` The values stay here.
    fn of_postgres(
        table: Option<&'a str>,
        constraint: Option<&'a str>,
        detail: Option<&'a str>,
    ) -> Self {
        let columns = detail.and_then(|text| Some(text.split_once('(')?.1.split_once(')')?.0));
        let last = columns.and_then(|columns| columns.rsplit(',').next());
        let is_name = |text: &&str| text.parse::<Ident>().is_ok();
        Self {
            table,
            field: constraint
                .and_then(field_of)
                .or_else(|| last.map(str::trim).filter(is_name)),
        }
    }

    /// SQLite names an index, `UNIQUE constraint failed: index 'contacts.email.unique'`, or for
    /// plain columns these: `UNIQUE constraint failed: roles.tenant_id, roles.name`.
    fn of_sqlite(message: &'a str) -> Self {
        if let Some(index) = message.split('\'').nth(1) {
            return Self {
                table: None,
                field: field_of(index),
            };
        }
        let last = message.rsplit([' ', ',']).next();
        let (table, field) = last.and_then(|last| last.split_once('.')).unzip();
        Self { table, field }
    }
}

/// The field of a module's unique index, which is called `<module>.<field>.unique`.
fn field_of(index: &str) -> Option<&str> {
    index.strip_suffix(".unique")?.split('.').nth(1)
}

/// What a row is called of the library's own tables in which people name something; rows of all
/// others are records. No module is called like a table of the library.
const NOUNS: [(&str, &str); 15] = [
    ("api_keys", "API key"),
    ("custom_fields", "field"),
    ("custom_modules", "module"),
    ("identity_providers", "identity provider"),
    ("invitations", "invitation"),
    ("memberships", "member"),
    ("operators", "operator"),
    ("passkeys", "passkey"),
    ("plugin_keys", "trusted key"),
    ("plugin_secrets", "secret"),
    ("plugins", "plugin"),
    ("roles", "role"),
    ("tenants", "tenant"),
    ("user_groups", "group"),
    ("users", "user"),
];

fn unique(taken: &Taken<'_>) -> Error {
    let noun = NOUNS.iter().find(|(table, _)| taken.table == Some(table));
    let noun = noun.map_or("record", |(_, noun)| noun);
    let field = taken.field.unwrap_or("value");
    let message = format!("another {noun} has the same {field} already");
    Error::conflict("already_exists", message)
}

/// Short form for driver results.
pub(super) trait Translate<T> {
    fn translate(self) -> Result<T>;
}

impl<T, E: Driver> Translate<T> for std::result::Result<T, E> {
    fn translate(self) -> Result<T> {
        self.map_err(translate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(taken: &Taken<'_>) -> String {
        unique(taken).to_string()
    }

    #[test]
    fn a_value_taken_in_a_table_of_the_library_is_told_by_its_noun() {
        let both = [
            Taken::of_sqlite("UNIQUE constraint failed: roles.tenant_id, roles.name"),
            Taken::of_postgres(
                Some("roles"),
                Some("roles_tenant_id_name_key"),
                Some("Key (tenant_id, name)=(0198, Sales (old)) already exists."),
            ),
        ];
        for taken in both {
            assert_eq!(told(&taken), "another role has the same name already");
        }
    }

    #[test]
    fn a_value_taken_in_a_module_is_a_records() {
        let index = Some("contacts.email.unique");
        let expression = Some("Key (tenant_id, lower(email))=(0198, ada) already exists.");
        let both = [
            Taken::of_sqlite("UNIQUE constraint failed: index 'contacts.email.unique'"),
            Taken::of_postgres(Some("contacts"), index, expression),
        ];
        for taken in both {
            assert_eq!(told(&taken), "another record has the same email already");
        }
        let id = Taken::of_sqlite("UNIQUE constraint failed: contacts.tenant_id, contacts.id");
        assert_eq!(told(&id), "another record has the same id already");
    }

    #[test]
    fn what_no_driver_names_is_a_value() {
        let expression = Some("Key (tenant_id, lower(email))=(0198, ada) already exists.");
        for taken in [
            Taken::default(),
            Taken::of_sqlite("UNIQUE constraint failed"),
            Taken::of_sqlite("UNIQUE constraint failed: index 'policy_rules_unique'"),
            Taken::of_postgres(Some("contacts"), Some("cut_off"), expression),
            Taken::of_postgres(None, None, None),
        ] {
            assert_eq!(told(&taken), "another record has the same value already");
        }
    }

    #[test]
    fn every_noun_is_of_a_table_that_no_module_may_be_called() {
        for (table, noun) in NOUNS {
            assert!(!crate::module::is_module_name(table), "{table}: {noun}");
        }
    }
}
