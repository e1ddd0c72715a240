//! The column of every module's table that holds the values of tenants' own fields.

use super::{Step, constraint, quoted};
use crate::db::{ColumnType, Dialect, Sql};
use crate::module::{CUSTOM, Ident, ModuleSpec};

/// The column with its type and CHECK; null until a tenant declares a field.
pub(super) fn column(module: &Ident, dialect: Dialect) -> String {
    let column = quoted(CUSTOM);
    match dialect {
        Dialect::Postgres => format!("{column} jsonb"),
        Dialect::Sqlite => {
            let rule = format!("CHECK (json_valid({column}))");
            format!(
                "{column} TEXT{}",
                constraint(module, CUSTOM, "check", &rule)
            )
        }
    }
}

/// Gives a table of an earlier version its column.
pub(crate) fn add_column(spec: &ModuleSpec, dialect: Dialect) -> Step {
    let table = quoted(&spec.name);
    let column = column(&spec.name, dialect);
    let sql = format!("ALTER TABLE {table} ADD COLUMN {column}");
    Step::new(sql, format!("{}: room for tenants' own fields", spec.name))
}

/// The names of the tables that have the column.
pub(crate) fn tables(dialect: Dialect) -> Sql {
    let sql = match dialect {
        Dialect::Sqlite => Sql::new(
            "SELECT t.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c \
             WHERE t.type = 'table' AND c.name = 'custom'",
        ),
        Dialect::Postgres => Sql::new(
            "SELECT table_name::text FROM information_schema.columns \
             WHERE table_schema = current_schema() AND column_name = 'custom'",
        ),
    };
    sql.returns(&[ColumnType::Text])
}
