//! What a database's refusal means to the caller: never its text, always one of our kinds.

use crate::error::{Error, Result};

/// What a driver tells of a statement's failure.
struct Cause<'a> {
    kind: Kind,
    /// The violated constraint, where the driver names it.
    constraint: Option<&'a str>,
    message: &'a str,
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
        Kind::Unique => unique(&cause),
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
        Cause {
            kind,
            constraint: database.and_then(|cause| cause.constraint()),
            message: database.map_or("", |cause| cause.message()),
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
            // SQLite: "UNIQUE constraint failed: index 'contacts.email.unique'".
            constraint: message.split('\'').nth(1),
            message,
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

/// Names the field of a violated unique index, which is called `<module>.<field>.unique`.
fn unique(cause: &Cause<'_>) -> Error {
    // SQLite, for plain columns: "UNIQUE constraint failed: contacts.tenant_id, contacts.phone".
    let column = || cause.message.rsplit_once('.').map(|(_, column)| column);
    let field = match cause.constraint {
        Some(name) => name
            .strip_suffix(".unique")
            .and_then(|name| name.split('.').nth(1)),
        None => column(),
    };
    match field {
        Some(field) => Error::conflict(
            "already_exists",
            format!("another record has the same {field} already"),
        ),
        None => Error::conflict(
            "already_exists",
            "another record has the same value already",
        ),
    }
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
