//! The SQL text of a module's table, for both databases.
//!
//! Every name in it is an [`Ident`] between double quotes, every literal is escaped here and
//! nowhere else. The rules of a field stand in the table too: a CHECK refuses what the input rules
//! refuse, whoever writes. Text orders by code points on both databases (`COLLATE "C"` on
//! PostgreSQL), so that lists, cursors and filters mean the same everywhere.

pub(crate) mod custom;
mod link;
mod loss;
mod obstacle;
mod plan;
mod search;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::Dialect;
use super::record::ignores_case;
use crate::module::{DELETED_AT, FieldSpec, FieldType, Ident, ModuleSpec};
use crate::value::Value;

pub(crate) use loss::losing;
pub(crate) use obstacle::{Obstacle, obstacles};
pub use plan::Step;
pub(crate) use plan::plan;
use plan::{find, same_type};

/// PostgreSQL cuts longer names, silently.
const MAX_NAME: usize = 63;

/// The statements that create the module's table and its indexes, in order.
pub(crate) fn create_table(spec: &ModuleSpec, dialect: Dialect) -> Vec<String> {
    let mut statements = vec![table(spec, dialect)];
    statements.extend(indexes(spec).into_values());
    statements.extend(search::create(spec, dialect));
    statements
}

fn table(spec: &ModuleSpec, dialect: Dialect) -> String {
    let (uuid, instant, strict) = match dialect {
        Dialect::Sqlite => ("BLOB", "INTEGER", " STRICT"),
        Dialect::Postgres => ("uuid", "timestamptz", ""),
    };
    let bigint = sql_type(
        &FieldType::Integer {
            min: i64::MIN,
            max: i64::MAX,
        },
        dialect,
    );
    let named = |field: &str, rule: String| constraint(&spec.name, field, "check", &rule);
    let is_uuid = |field: &str| match dialect {
        Dialect::Sqlite => named(field, format!("CHECK (length({}) = 16)", quoted(field))),
        Dialect::Postgres => String::new(),
    };
    let mut lines = vec![
        format!("\"tenant_id\" {uuid} NOT NULL REFERENCES \"tenants\" (\"id\") ON DELETE RESTRICT"),
        format!("\"id\" {uuid} NOT NULL{}", is_uuid("id")),
        format!(
            "\"version\" {bigint} NOT NULL{}",
            named("version", "CHECK (\"version\" >= 1)".to_owned())
        ),
        format!("\"owner_id\" {uuid}{}", is_uuid("owner_id")),
        format!("\"created_at\" {instant} NOT NULL"),
        format!("\"updated_at\" {instant} NOT NULL"),
        custom::column(&spec.name, dialect),
    ];
    lines.extend(spec.soft_delete.then(|| deleted_at(dialect)));
    lines.extend(
        stored(spec)
            .iter()
            .map(|field| column(&spec.name, field, dialect)),
    );
    lines.push("PRIMARY KEY (\"tenant_id\", \"id\")".to_owned());
    lines.extend(
        spec.fields
            .iter()
            .filter_map(|field| reference(&spec.name, field))
            .map(|constraint| constraint.trim_start().to_owned()),
    );
    format!(
        "CREATE TABLE {} (\n    {}\n){strict}",
        quoted(&spec.name),
        lines.join(",\n    ")
    )
}

/// The fields that have a column.
fn stored(spec: &ModuleSpec) -> Vec<&FieldSpec> {
    let fields = spec.fields.iter();
    fields.filter(|field| !field.kind.is_linked()).collect()
}

/// The column of modules with a trash.
fn deleted_at(dialect: Dialect) -> String {
    let instant = match dialect {
        Dialect::Sqlite => "INTEGER",
        Dialect::Postgres => "timestamptz",
    };
    format!("\"{DELETED_AT}\" {instant}")
}

/// The column of a field with its type, NOT NULL and CHECK.
fn column(module: &Ident, field: &FieldSpec, dialect: Dialect) -> String {
    let mut text = format!("{} {}", quoted(&field.name), sql_type(&field.kind, dialect));
    if field.required {
        text.push_str(" NOT NULL");
    }
    text.push_str(&rule(module, field, dialect).unwrap_or_default());
    text
}

/// The foreign key of a reference: within the tenant, and never cut by a delete.
fn reference(module: &Ident, field: &FieldSpec) -> Option<String> {
    let FieldType::Reference { module: target, .. } = &field.kind else {
        return None;
    };
    let key = format!(
        "FOREIGN KEY (\"tenant_id\", {}) REFERENCES {} (\"tenant_id\", \"id\") ON DELETE RESTRICT",
        quoted(&field.name),
        quoted(target),
    );
    Some(constraint(module, field.name.as_str(), "reference", &key))
}

/// The CHECK that holds the field's values to its declared rules.
fn rule(module: &Ident, field: &FieldSpec, dialect: Dialect) -> Option<String> {
    let condition = condition(field, dialect)?;
    Some(constraint(
        module,
        field.name.as_str(),
        "check",
        &format!("CHECK ({condition})"),
    ))
}

fn constraint(module: &Ident, field: &str, kind: &str, rule: &str) -> String {
    format!(
        " CONSTRAINT {} {rule}",
        quoted(name(&[module.as_str(), field, kind]))
    )
}

fn sql_type(kind: &FieldType, dialect: Dialect) -> String {
    use FieldType as F;
    let fixed = match (dialect, kind) {
        (
            Dialect::Sqlite,
            F::Integer { .. } | F::Decimal { .. } | F::Money { .. } | F::Bool | F::Instant(_),
        ) => "INTEGER",
        (Dialect::Sqlite, F::Uuid | F::Vector { .. } | F::Reference { .. }) => "BLOB",
        (Dialect::Sqlite, _) => "TEXT",
        (
            Dialect::Postgres,
            F::Text { .. }
            | F::LongText { .. }
            | F::Email
            | F::Phone
            | F::Url
            | F::Currency
            | F::Zoned
            | F::Enum { .. }
            | F::AnyReference { .. },
        ) => "text COLLATE \"C\"",
        (Dialect::Postgres, F::Integer { .. }) => "bigint",
        (
            Dialect::Postgres,
            F::Decimal {
                precision, scale, ..
            }
            | F::Money {
                precision, scale, ..
            },
        ) => {
            return format!("numeric({precision}, {scale})");
        }
        (Dialect::Postgres, F::Bool) => "boolean",
        (Dialect::Postgres, F::Instant(_)) => "timestamptz",
        (Dialect::Postgres, F::Date(_)) => "date",
        (Dialect::Postgres, F::Time(_)) => "time",
        (Dialect::Postgres, F::Tags { .. } | F::References { .. }) => "text[] COLLATE \"C\"",
        (Dialect::Postgres, F::Json { .. }) => "jsonb",
        (Dialect::Postgres, F::Vector { .. }) => "real[]",
        (Dialect::Postgres, F::Uuid | F::Reference { .. }) => "uuid",
    };
    fixed.to_owned()
}

/// What a value obeys: the form of its type, and its bounds.
fn condition(field: &FieldSpec, dialect: Dialect) -> Option<String> {
    let parts = [form(field, dialect), range(field, dialect)];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" AND "))
}

fn range(field: &FieldSpec, dialect: Dialect) -> Option<String> {
    let column = quoted(&field.name);
    let literal = |value: Value| literal(&value, dialect);
    Some(match field.kind.limits() {
        (None, None) => return None,
        (None, Some(max)) => format!("{column} <= {}", literal(max)),
        (Some(min), None) => format!("{column} >= {}", literal(min)),
        (Some(min), Some(max)) => {
            format!("{column} BETWEEN {} AND {}", literal(min), literal(max))
        }
    })
}

fn form(field: &FieldSpec, dialect: Dialect) -> Option<String> {
    let column = quoted(&field.name);
    Some(match (&field.kind, dialect) {
        (FieldType::Text { min, max } | FieldType::LongText { min, max }, _) => {
            format!("length({column}) BETWEEN {min} AND {max}")
        }
        (FieldType::Url, _) => {
            format!("length({column}) <= 2048 AND lower({column}) LIKE 'http%://_%'")
        }
        (FieldType::Email, _) => {
            format!("length({column}) BETWEEN 3 AND 254 AND {column} LIKE '_%@_%'")
        }
        (FieldType::Phone, Dialect::Sqlite) => {
            format!("length({column}) BETWEEN 1 AND 40 AND {column} NOT GLOB '*[^-0-9 +().x/]*'")
        }
        (FieldType::Phone, Dialect::Postgres) => {
            format!("length({column}) BETWEEN 1 AND 40 AND {column} ~ '^[-0-9 +().x/]+$'")
        }
        (FieldType::Currency, Dialect::Sqlite) => format!("{column} GLOB '[A-Z][A-Z][A-Z]'"),
        (FieldType::Currency, Dialect::Postgres) => format!("{column} ~ '^[A-Z]{{3}}$'"),
        (
            FieldType::Decimal { precision, .. } | FieldType::Money { precision, .. },
            Dialect::Sqlite,
        ) => {
            let nines = "9".repeat(usize::try_from(*precision).unwrap_or_default());
            format!("{column} BETWEEN -{nines} AND {nines}")
        }
        (FieldType::Bool, Dialect::Sqlite) => format!("{column} IN (0, 1)"),
        // A date that is not one of the calendar comes back as another one.
        (FieldType::Date(_), Dialect::Sqlite) => format!("date({column}) IS {column}"),
        (FieldType::Time(_), Dialect::Sqlite) => {
            let (seconds, digits) = ("[0-2][0-9]:[0-5][0-9]:[0-5][0-9]", "[0-9]".repeat(6));
            format!(
                "({column} GLOB '{seconds}' OR {column} GLOB '{seconds}.{digits}') \
                 AND {column} < '24'"
            )
        }
        (FieldType::Enum { values }, _) => {
            let values: Vec<_> = values
                .iter()
                .map(|value| text_literal(value, dialect))
                .collect();
            format!("{column} IN ({})", values.join(", "))
        }
        (FieldType::Tags { max_items, .. }, Dialect::Sqlite) => format!(
            "json_valid({column}) AND json_type({column}) = 'array' \
             AND json_array_length({column}) <= {max_items}"
        ),
        (FieldType::Tags { max_items, .. }, Dialect::Postgres) => format!(
            "cardinality({column}) <= {max_items} AND array_position({column}, NULL) IS NULL"
        ),
        (FieldType::Zoned, _) => {
            format!("{column} LIKE '____-__-__T__:__:__%[_%]' AND length({column}) <= 80")
        }
        (FieldType::Vector { dimensions }, Dialect::Sqlite) => {
            format!("length({column}) = {}", dimensions.saturating_mul(4))
        }
        (FieldType::Vector { dimensions }, Dialect::Postgres) => {
            format!(
                "cardinality({column}) = {dimensions} AND array_position({column}, NULL) IS NULL"
            )
        }
        (FieldType::Json { .. }, Dialect::Sqlite) => format!("json_valid({column})"),
        (FieldType::Uuid | FieldType::Reference { .. }, Dialect::Sqlite) => {
            format!("length({column}) = 16")
        }
        (FieldType::AnyReference { .. }, _) => {
            format!("length({column}) BETWEEN 38 AND 85 AND {column} LIKE '%_/%'")
        }
        (FieldType::Integer { .. } | FieldType::Instant(_) | FieldType::References { .. }, _)
        | (
            FieldType::Decimal { .. }
            | FieldType::Money { .. }
            | FieldType::Bool
            | FieldType::Date(_)
            | FieldType::Time(_)
            | FieldType::Uuid
            | FieldType::Json { .. }
            | FieldType::Reference { .. },
            Dialect::Postgres,
        ) => return None,
    })
}

/// The statements of all indexes by the index's name; the same on both databases.
///
/// Every index costs every write, so there is none that another one makes up for: creation time
/// orders as ids do, a unique field by its unique index, and what is mostly absent is left out.
///
/// `<module>.<field>.unique`, `.absent` or `<module>.<field>[.<field>…].index`: the dot is in no
/// [`Ident`], so two modules never share an index name and a violated one names its field.
fn indexes(spec: &ModuleSpec) -> BTreeMap<String, String> {
    let mut indexes = Indexes {
        module: &spec.name,
        statements: BTreeMap::new(),
    };
    indexes.add(&["owner_id", "index"], "INDEX", "\"owner_id\", \"id\"", "");
    indexes.add(
        &["updated_at", "index"],
        "INDEX",
        "\"updated_at\", \"id\"",
        "",
    );
    // What is in the trash holds no unique value.
    let live = match spec.soft_delete {
        true => {
            let parts = [DELETED_AT, "index"];
            indexes.add(
                &parts,
                "INDEX",
                "\"id\"",
                " WHERE \"deleted_at\" IS NOT NULL",
            );
            " WHERE \"deleted_at\" IS NULL"
        }
        false => "",
    };
    for field in &spec.fields {
        indexes.of_field(field, live);
    }
    for fields in &spec.indexes {
        let mut parts: Vec<_> = fields.iter().map(Ident::as_str).collect();
        let columns: Vec<_> = parts.iter().map(quoted).collect();
        parts.push("index");
        let columns = format!("{}, \"id\"", columns.join(", "));
        indexes.add(&parts, "INDEX", &columns, "");
    }
    for key in &spec.duplicates {
        indexes.of_duplicates(&spec.fields, key, live);
    }
    indexes.statements
}

struct Indexes<'a> {
    module: &'a Ident,
    statements: BTreeMap<String, String>,
}

impl Indexes<'_> {
    fn of_field(&mut self, field: &FieldSpec, live: &str) {
        let (name, column) = (field.name.as_str(), quoted(&field.name));
        let key = match field.folds() {
            true => format!("lower({column})"),
            false => column.clone(),
        };
        if field.unique {
            self.add(&[name, "unique"], "UNIQUE INDEX", &key, live);
        }
        if field.sort && field.unique && !field.required {
            let absent = format!(" WHERE {column} IS NULL");
            self.add(&[name, "absent"], "INDEX", "\"id\"", &absent);
        }
        if field.sort && !field.unique {
            self.add(&[name, "index"], "INDEX", &format!("{key}, \"id\""), "");
        } else if !field.kind.is_linked() && field.kind.is_reference() && !field.unique {
            let present = format!(" WHERE {column} IS NOT NULL");
            self.add(
                &[name, "index"],
                "INDEX",
                &format!("{column}, \"id\""),
                &present,
            );
        }
    }

    fn of_duplicates(&mut self, fields: &[FieldSpec], key: &[Ident], live: &str) {
        let mut parts: Vec<_> = key.iter().map(Ident::as_str).collect();
        let columns = key.iter().map(|name| {
            let field = fields.iter().find(|field| field.name == *name);
            match field.is_some_and(|field| ignores_case(&field.kind)) {
                true => format!("lower({})", quoted(name)),
                false => quoted(name),
            }
        });
        let columns: Vec<_> = columns.collect();
        parts.push("duplicates");
        let columns = format!("{}, \"id\"", columns.join(", "));
        self.add(&parts, "INDEX", &columns, live);
    }

    fn add(&mut self, parts: &[&str], kind: &str, columns: &str, condition: &str) {
        let name = name(&[&[self.module.as_str()], parts].concat());
        let sql = format!(
            "CREATE {kind} {} ON {} (\"tenant_id\", {columns}){condition}",
            quoted(&name),
            quoted(self.module)
        );
        self.statements.insert(name, sql);
    }
}

/// The parts joined by dots; a name that would be cut ends in a digest of the whole instead.
pub(super) fn name(parts: &[&str]) -> String {
    let name = parts.join(".");
    if name.len() <= MAX_NAME {
        return name;
    }
    let digest = hex::encode(&Sha256::digest(&name)[..16]);
    format!("{}.~{digest}", &name[..MAX_NAME - 34])
}

/// A name of our own alphabet (letters, digits, `_`, `.`, `~`) as an identifier.
fn quoted(name: impl AsRef<str>) -> String {
    format!("\"{}\"", name.as_ref())
}

/// The value as a literal for a column that holds it.
fn literal(value: &Value, dialect: Dialect) -> String {
    match (value, dialect) {
        // A vector has no default, and so no literal.
        (Value::Null | Value::Vector(_) | Value::Bytes(_), _) => "NULL".to_owned(),
        (Value::Uuid(value), Dialect::Sqlite) => format!("x'{}'", value.simple()),
        (Value::Uuid(value), Dialect::Postgres) => format!("'{value}'"),
        (Value::Bool(value), Dialect::Sqlite) => i32::from(*value).to_string(),
        (Value::Bool(value), Dialect::Postgres) => value.to_string(),
        (Value::Int(value), _) => value.to_string(),
        (Value::Decimal(value), Dialect::Sqlite) => value.mantissa().to_string(),
        (Value::Decimal(value), Dialect::Postgres) => value.to_string(),
        (Value::Text(value), _) => text_literal(value, dialect),
        (Value::Instant(value), Dialect::Sqlite) => value.timestamp_micros().to_string(),
        (Value::Instant(value), Dialect::Postgres) => {
            text_literal(&crate::value::instant(value), dialect)
        }
        (Value::Date(value), _) => text_literal(&value.to_string(), dialect),
        (Value::Time(value), _) => text_literal(&crate::value::time(value), dialect),
        (Value::Tags(value), Dialect::Sqlite) => {
            text_literal(&serde_json::json!(value).to_string(), dialect)
        }
        (Value::Tags(value), Dialect::Postgres) => {
            let entries: Vec<_> = value
                .iter()
                .map(|entry| text_literal(entry, dialect))
                .collect();
            format!("ARRAY[{}]::text[]", entries.join(", "))
        }
        (Value::Json(value), _) => text_literal(&value.to_string(), dialect),
    }
}

/// A text between single quotes (SQL-92 §5.3). On PostgreSQL a backslash takes the E form, which
/// reads the same whatever `standard_conforming_strings` says.
fn text_literal(text: &str, dialect: Dialect) -> String {
    let doubled = text.replace('\'', "''");
    match dialect {
        Dialect::Postgres if text.contains('\\') => format!("E'{}'", doubled.replace('\\', r"\\")),
        Dialect::Postgres | Dialect::Sqlite => format!("'{doubled}'"),
    }
}
