//! The way from one declaration of a module to the next, as statements to read before they run.
//!
//! What would guess at data is refused: another type, another scale, another target of a reference.
//! What existing rows break is counted [beforehand](super::obstacles). Dropping data is planned,
//! and marked.

use super::{
    column, create_table, indexes, link, literal, quoted, reference, rule, search, sql_type,
    stored, table,
};
use crate::db::Dialect;
use crate::error::{Error, FieldError, Result};
use crate::module::{DELETED_AT, FieldSpec, FieldType, ModuleSpec};
use crate::value::Value;

/// One change of the schema. The steps of a plan run in order, in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// One statement, or several that belong together, separated by `;`.
    pub sql: String,
    /// What it does, for the operator.
    pub summary: String,
    /// Whether it drops stored values.
    pub destructive: bool,
    /// How many records of the module lose something in this and its other destructive steps, where
    /// that was counted.
    pub records: Option<u64>,
}

impl Step {
    pub(super) fn new(sql: impl Into<String>, summary: impl Into<String>) -> Self {
        Self {
            sql: sql.into(),
            summary: summary.into(),
            destructive: false,
            records: None,
        }
    }

    pub(super) fn dropping(sql: impl Into<String>, summary: impl Into<String>) -> Self {
        Self {
            destructive: true,
            ..Self::new(sql, summary)
        }
    }
}

/// The steps from the declaration `old` of a module to `new`; `None` stands for no table.
///
/// Existing rows get a new field's default, and a newly required field's default where they have no
/// value; their versions stay. Rows that break a rule make the step fail, and with it the
/// transaction: [`obstacles`](super::obstacles) are looked for first.
///
/// # Errors
/// [`Error::Invalid`] with every change that is not possible, and what to do instead.
pub(crate) fn plan(
    old: Option<&ModuleSpec>,
    new: Option<&ModuleSpec>,
    dialect: Dialect,
) -> Result<Vec<Step>> {
    match (old, new) {
        (None, None) => Ok(vec![]),
        (None, Some(new)) => {
            let summaries = std::iter::once(format!("{}: new table", new.name)).chain(
                indexes(new)
                    .into_keys()
                    .map(|name| format!("{}: new index {name}", new.name)),
            );
            let statements = create_table(new, dialect).into_iter();
            let search = search_index(new, dialect).map(|step| step.summary);
            Ok(statements
                .zip(summaries.chain(search))
                .map(|(sql, summary)| Step::new(sql, summary))
                .chain(link::create_all(new, dialect))
                .collect())
        }
        (Some(old), None) => {
            let summary = format!("{}: drop the table with all its records", old.name);
            let table = format!("DROP TABLE {}", quoted(&old.name));
            let index = search_index(old, dialect).map(|_| no_search_index(old, dialect));
            let links = link::drop_all(old).into_iter();
            let steps = index.into_iter().chain([Step::dropping(table, summary)]);
            Ok(links.chain(steps).collect())
        }
        (Some(old), Some(new)) => {
            let change = Change { old, new, dialect };
            change.refuse_impossible()?;
            let (gone, made) = link::difference(old, new, dialect);
            let steps = gone.into_iter().chain(change.with_search());
            Ok(steps.chain(made).collect())
        }
    }
}

fn search_index(spec: &ModuleSpec, dialect: Dialect) -> Option<Step> {
    let summary = format!("{}: new search index", spec.name);
    search::create(spec, dialect).map(|sql| Step::new(sql, summary))
}

fn no_search_index(spec: &ModuleSpec, dialect: Dialect) -> Step {
    let summary = format!("{}: drop search index", spec.name);
    Step::new(search::drop(spec, dialect), summary)
}

struct Change<'a> {
    old: &'a ModuleSpec,
    new: &'a ModuleSpec,
    dialect: Dialect,
}

impl<'a> Change<'a> {
    fn added(&self) -> impl Iterator<Item = &'a FieldSpec> {
        let fields = stored(self.new).into_iter();
        fields.filter(|field| find(self.old, field).is_none())
    }

    fn removed(&self) -> impl Iterator<Item = &'a FieldSpec> {
        let fields = stored(self.old).into_iter();
        fields.filter(|field| find(self.new, field).is_none())
    }

    /// Fields of both declarations whose columns differ.
    fn altered(&self) -> impl Iterator<Item = (&'a FieldSpec, &'a FieldSpec)> {
        let text = |field| column(&self.new.name, field, self.dialect);
        let pairs = stored(self.new)
            .into_iter()
            .filter_map(|new| Some((find(self.old, new)?, new)));
        pairs.filter(move |(old, new)| text(old) != text(new))
    }

    fn refuse_impossible(&self) -> Result<()> {
        let mut problems = vec![];
        let mut refuse = |name: &str, code, message: String| {
            let pointer = format!("/{}/{name}", self.new.name);
            problems.push(FieldError {
                pointer,
                code,
                message,
            });
        };
        if self.old.name != self.new.name {
            let message = format!("`{}` cannot become `{}`", self.old.name, self.new.name);
            refuse("name", "not_supported", message);
        }
        for new in &self.new.fields {
            let name = &new.name;
            match find(self.old, new) {
                Some(old) if !same_type(&old.kind, &new.kind) => refuse(
                    name.as_str(),
                    "type_changed",
                    format!(
                        "`{name}` cannot change its type, scale or target; declare a field with \
                         another name, move the values, then remove `{name}`"
                    ),
                ),
                _ => {}
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Error::Invalid(problems))
        }
    }

    /// The steps, between the end of the old search index and the making of the new one where the
    /// two differ, or the table under them is made anew.
    fn with_search(&self) -> Vec<Step> {
        let (old, new) = (
            search_index(self.old, self.dialect),
            search_index(self.new, self.dialect),
        );
        let steps = self.steps();
        if old == new && !(new.is_some() && self.rebuilds()) {
            return steps;
        }
        let before = old.map(|_| no_search_index(self.old, self.dialect));
        before.into_iter().chain(steps).chain(new).collect()
    }

    /// SQLite alters neither a CHECK nor a NOT NULL nor a key of the table, and takes no new column
    /// that is NOT NULL without a default.
    fn rebuilds(&self) -> bool {
        let is_reference = |field: &FieldSpec| matches!(field.kind, FieldType::Reference { .. });
        let is_unfilled = |field: &FieldSpec| field.required && field.default_value().is_null();
        self.dialect == Dialect::Sqlite
            && (self.altered().next().is_some()
                || self.added().chain(self.removed()).any(is_reference)
                || self.added().any(is_unfilled))
    }

    fn steps(&self) -> Vec<Step> {
        if self.rebuilds() {
            return vec![self.rebuild()];
        }
        let (old, new) = (indexes(self.old), indexes(self.new));
        let module = &self.new.name;
        let mut steps = vec![];
        for name in old.keys().filter(|name| old.get(*name) != new.get(*name)) {
            let sql = format!("DROP INDEX {}", quoted(name));
            steps.push(Step::new(sql, format!("{module}: drop index {name}")));
        }
        steps.extend(self.trash());
        steps.extend(self.removed().map(|field| self.drop_column(field)));
        steps.extend(self.added().map(|field| self.add_column(field)));
        steps.extend(self.altered().map(|(old, new)| self.alter_column(old, new)));
        for (name, sql) in new
            .iter()
            .filter(|(name, sql)| old.get(*name) != Some(*sql))
        {
            steps.push(Step::new(sql, format!("{module}: new index {name}")));
        }
        steps
    }

    /// The trash, opened or emptied and closed.
    fn trash(&self) -> Option<Step> {
        let (module, table) = (&self.new.name, quoted(&self.new.name));
        match (self.old.soft_delete, self.new.soft_delete) {
            (false, true) => Some(Step::new(
                format!(
                    "ALTER TABLE {table} ADD COLUMN {}",
                    super::deleted_at(self.dialect)
                ),
                format!("{module}: deleted records go to the trash"),
            )),
            (true, false) => Some(Step::dropping(
                format!(
                    "DELETE FROM {table} WHERE \"{DELETED_AT}\" IS NOT NULL;\n\
                     ALTER TABLE {table} DROP COLUMN \"{DELETED_AT}\""
                ),
                format!("{module}: drop the trash with its records"),
            )),
            _ => None,
        }
    }

    fn drop_column(&self, field: &FieldSpec) -> Step {
        let (table, name) = (quoted(&self.new.name), quoted(&field.name));
        let sql = format!("ALTER TABLE {table} DROP COLUMN {name}");
        let summary = format!(
            "{}: drop field {} with its values",
            self.new.name, field.name
        );
        Step::dropping(sql, summary)
    }

    fn add_column(&self, field: &FieldSpec) -> Step {
        let (table, name) = (quoted(&self.new.name), quoted(&field.name));
        let mut sql = format!(
            "ALTER TABLE {table} ADD COLUMN {}",
            column(&self.new.name, field, self.dialect)
        );
        if let Some(default) = self.default_literal(field) {
            sql = format!("{sql} DEFAULT {default}");
            if self.dialect == Dialect::Postgres {
                sql = format!("{sql};\nALTER TABLE {table} ALTER COLUMN {name} DROP DEFAULT");
            }
        }
        if let Some(constraint) = reference(&self.new.name, field) {
            sql = format!("{sql};\nALTER TABLE {table} ADD{constraint}");
        }
        Step::new(sql, format!("{}: new field {}", self.new.name, field.name))
    }

    /// PostgreSQL only; SQLite rebuilds the table.
    fn alter_column(&self, old: &FieldSpec, new: &FieldSpec) -> Step {
        let (module, name) = (&self.new.name, quoted(&new.name));
        let table = quoted(module);
        let mut statements = vec![];
        let mut alter = |what: String| statements.push(format!("ALTER TABLE {table} {what}"));
        let (old_rule, new_rule) = (
            rule(module, old, self.dialect),
            rule(module, new, self.dialect),
        );
        if old_rule != new_rule && old_rule.is_some() {
            let constraint = super::name(&[module.as_str(), new.name.as_str(), "check"]);
            alter(format!("DROP CONSTRAINT {}", quoted(&constraint)));
        }
        let kind = sql_type(&new.kind, self.dialect);
        if sql_type(&old.kind, self.dialect) != kind {
            alter(format!("ALTER COLUMN {name} TYPE {kind}"));
        }
        if let Some(rule) = new_rule.as_ref().filter(|_| old_rule != new_rule) {
            alter(format!("ADD{rule}"));
        }
        match (old.required, new.required) {
            (true, false) => alter(format!("ALTER COLUMN {name} DROP NOT NULL")),
            (false, true) => alter(format!("ALTER COLUMN {name} SET NOT NULL")),
            _ => {}
        }
        if let Some(default) = self
            .default_literal(new)
            .filter(|_| new.required && !old.required)
        {
            let fill = format!("UPDATE {table} SET {name} = {default} WHERE {name} IS NULL");
            statements.insert(0, fill);
        }
        Step::new(
            statements.join(";\n"),
            format!("{module}: other rules for field {}", new.name),
        )
    }

    /// SQLite: the rows go into a plain copy and back into the new table.
    ///
    /// The usual order (new table, copy, drop, rename) fails while another table refers to this
    /// one, because dropping it counts a violation for each referring row. With the check deferred
    /// to the commit, inserting the rows under the table's own name counts them off again
    /// (<https://sqlite.org/foreignkeys.html>, §4.2).
    fn rebuild(&self) -> Step {
        let module = &self.new.name;
        let (name, copy) = (quoted(module), quoted(format!("{module}.copy")));
        let system = crate::module::SYSTEM_FIELDS
            .into_iter()
            .chain([crate::module::CUSTOM])
            .map(|name| (quoted(name), quoted(name)));
        let (was, is) = (self.old.soft_delete, self.new.soft_delete);
        let trash = (was && is).then(|| (quoted(DELETED_AT), quoted(DELETED_AT)));
        let live = match was && !is {
            true => format!(" WHERE {} IS NULL", quoted(DELETED_AT)),
            false => String::new(),
        };
        let declared = stored(self.new).into_iter().map(|new| {
            let column = quoted(&new.name);
            let default = self.default_literal(new);
            let source = match (find(self.old, new), default) {
                (Some(old), Some(default)) if new.required && !old.required => {
                    format!("coalesce({column}, {default})")
                }
                (Some(_), _) => column.clone(),
                (None, default) => default.unwrap_or_else(|| "NULL".to_owned()),
            };
            (column, source)
        });
        let (columns, sources): (Vec<_>, Vec<_>) = system.chain(trash).chain(declared).unzip();
        let (columns, sources) = (columns.join(", "), sources.join(", "));
        let mut statements = vec![
            "PRAGMA defer_foreign_keys = ON".to_owned(),
            format!("CREATE TABLE {copy} AS SELECT * FROM {name}"),
            format!("DROP TABLE {name}"),
            table(self.new, self.dialect),
            format!("INSERT INTO {name} ({columns}) SELECT {sources} FROM {copy}{live}"),
            format!("DROP TABLE {copy}"),
        ];
        statements.extend(indexes(self.new).into_values());
        statements.push("PRAGMA defer_foreign_keys = OFF".to_owned());
        let mut changes: Vec<_> = self
            .added()
            .map(|field| format!("new field {}", field.name))
            .collect();
        changes.extend(
            self.altered()
                .map(|(_, field)| format!("other rules for field {}", field.name)),
        );
        changes.extend(
            self.removed()
                .map(|field| format!("drop field {} with its values", field.name)),
        );
        match (was, is) {
            (false, true) => changes.push("deleted records go to the trash".to_owned()),
            (true, false) => changes.push("drop the trash with its records".to_owned()),
            _ => {}
        }
        Step {
            sql: statements.join(";\n"),
            summary: format!("{module}: {}", changes.join(", ")),
            destructive: self.removed().next().is_some() || (was && !is),
            records: None,
        }
    }

    /// The default of `field` as a literal, when it has one.
    fn default_literal(&self, field: &FieldSpec) -> Option<String> {
        match field.default_value() {
            Value::Null => None,
            value => Some(literal(&value, self.dialect)),
        }
    }
}

pub(super) fn find<'a>(spec: &'a ModuleSpec, field: &FieldSpec) -> Option<&'a FieldSpec> {
    spec.fields
        .iter()
        .find(|candidate| candidate.name == field.name)
}

/// Whether values of one type are values of the other as they are stored, rules aside.
pub(super) fn same_type(old: &FieldType, new: &FieldType) -> bool {
    match (old, new) {
        (
            FieldType::Decimal { scale: old, .. } | FieldType::Money { scale: old, .. },
            FieldType::Decimal { scale: new, .. } | FieldType::Money { scale: new, .. },
        ) => old == new,
        (FieldType::References { module: old, .. }, FieldType::References { module: new, .. })
        | (FieldType::Reference { module: old, .. }, FieldType::Reference { module: new, .. }) => {
            old == new
        }
        // What is stored already must stay a value.
        (
            FieldType::AnyReference { modules: old, .. },
            FieldType::AnyReference { modules: new, .. },
        ) => old.iter().all(|module| new.contains(module)),
        (FieldType::Vector { dimensions: old }, FieldType::Vector { dimensions: new }) => {
            old == new
        }
        (
            FieldType::Text { .. } | FieldType::LongText { .. },
            FieldType::Text { .. } | FieldType::LongText { .. },
        ) => true,
        (old, new) => std::mem::discriminant(old) == std::mem::discriminant(new),
    }
}
