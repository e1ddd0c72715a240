//! The tables of links: for each field of type `references` one row for each record that a record
//! refers to, with its place in the list.

use super::{Dialect, FieldSpec, FieldType, ModuleSpec, Step, constraint, name, quoted};

/// The fields whose values stand in tables of their own.
fn linked(spec: &ModuleSpec) -> impl Iterator<Item = &FieldSpec> {
    spec.fields.iter().filter(|field| field.kind.is_linked())
}

/// The tables of a module that is new.
pub(super) fn create_all(spec: &ModuleSpec, dialect: Dialect) -> Vec<Step> {
    let fields = linked(spec);
    fields.map(|field| create(spec, field, dialect)).collect()
}

/// The end of the tables of a module that goes.
pub(super) fn drop_all(spec: &ModuleSpec) -> Vec<Step> {
    linked(spec).map(|field| drop(spec, field)).collect()
}

/// The tables of fields that a declaration has no more, and those of new ones.
pub(super) fn difference(
    old: &ModuleSpec,
    new: &ModuleSpec,
    dialect: Dialect,
) -> (Vec<Step>, Vec<Step>) {
    let lacks =
        |spec: &ModuleSpec, field: &FieldSpec| linked(spec).all(|other| other.name != field.name);
    let gone = linked(old).filter(|field| lacks(new, field));
    let made = linked(new).filter(|field| lacks(old, field));
    (
        gone.map(|field| drop(old, field)).collect(),
        made.map(|field| create(new, field, dialect)).collect(),
    )
}

fn drop(spec: &ModuleSpec, field: &FieldSpec) -> Step {
    let table = name(&[spec.name.as_str(), field.name.as_str()]);
    let summary = format!("{}: drop field {} with its links", spec.name, field.name);
    Step::dropping(format!("DROP TABLE {}", quoted(table)), summary)
}

fn create(spec: &ModuleSpec, field: &FieldSpec, dialect: Dialect) -> Step {
    let (uuid, bigint, strict) = match dialect {
        Dialect::Sqlite => ("BLOB", "INTEGER", " STRICT"),
        Dialect::Postgres => ("uuid", "bigint", ""),
    };
    let (module, own) = (spec.name.as_str(), field.name.as_str());
    let table = quoted(name(&[module, own]));
    let key = |column: &str, target: &str| {
        let rule = format!(
            "FOREIGN KEY (\"tenant_id\", \"{column}\") REFERENCES {} (\"tenant_id\", \"id\") \
             ON DELETE RESTRICT",
            quoted(target)
        );
        let constraint = constraint(&spec.name, own, column, &rule);
        constraint.trim_start().to_owned()
    };
    let mut lines = vec![
        format!("\"tenant_id\" {uuid} NOT NULL"),
        format!("\"from_id\" {uuid} NOT NULL"),
        format!("\"to_id\" {uuid} NOT NULL"),
        format!("\"position\" {bigint} NOT NULL"),
        "PRIMARY KEY (\"tenant_id\", \"from_id\", \"to_id\")".to_owned(),
        key("from_id", module),
    ];
    if let FieldType::References { module: target, .. } = &field.kind {
        lines.push(key("to_id", target.as_str()));
    }
    let index = quoted(name(&[module, own, "to_id", "index"]));
    let sql = format!(
        "CREATE TABLE {table} (\n    {}\n){strict};\n\
         CREATE INDEX {index} ON {table} (\"tenant_id\", \"to_id\")",
        lines.join(",\n    ")
    );
    Step::new(
        sql,
        format!("{module}: new field {own} with a table of links"),
    )
}
