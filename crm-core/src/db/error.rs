//! What a database's refusal means to the caller: never its text, always one of our kinds.

use crate::error::{Error, Result};

/// Turns a failure of the driver into ours, keeping it as the source.
pub(super) fn translate(error: sqlx::Error) -> Error {
    use sqlx::error::ErrorKind;

    match &error {
        sqlx::Error::Database(cause) => match cause.kind() {
            ErrorKind::UniqueViolation => unique(cause.as_ref()),
            ErrorKind::ForeignKeyViolation => referred(),
            ErrorKind::CheckViolation | ErrorKind::NotNullViolation => Error::conflict(
                "rule_violation",
                "a value breaks a rule of its column; nothing was written",
            ),
            // SQLite's own word for a row that ON DELETE RESTRICT protects.
            _ if cause.code().as_deref() == Some("1811") => referred(),
            _ if is_transient(cause.code().as_deref()) => Error::Unavailable {
                message: "the database is busy or out of reach; try again".into(),
                source: Some(Box::new(error)),
            },
            _ => Error::internal(error),
        },
        sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::WorkerCrashed => Error::Unavailable {
            message: "the database is busy or out of reach; try again".into(),
            source: Some(Box::new(error)),
        },
        _ => Error::internal(error),
    }
}

fn referred() -> Error {
    Error::conflict(
        "reference_violation",
        "another record refers to this one, or a record it refers to is gone",
    )
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
fn unique(cause: &dyn sqlx::error::DatabaseError) -> Error {
    let message = cause.message();
    // SQLite: "UNIQUE constraint failed: index 'contacts.email.unique'", or for plain columns
    // "UNIQUE constraint failed: contacts.tenant_id, contacts.phone".
    let index = cause.constraint().or_else(|| message.split('\'').nth(1));
    let column = || message.rsplit_once('.').map(|(_, column)| column);
    let field = match index {
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

impl<T> Translate<T> for std::result::Result<T, sqlx::Error> {
    fn translate(self) -> Result<T> {
        self.map_err(translate)
    }
}
