//! What the records that are there have against a change of their module's declaration, as
//! statements that count them: an operator learns which field and how many, not that a step failed.

use std::sync::Arc;

use super::{condition, find, quoted, same_type, stored};
use crate::count::told;
use crate::db::{ColumnType, Dialect, Sql};
use crate::error::FieldError;
use crate::module::{DELETED_AT, FieldSpec, FieldType, Ident, ModuleSpec};

/// A new rule that records of before may break.
#[derive(Debug)]
pub(crate) struct Obstacle {
    module: Ident,
    field: Ident,
    rule: Rule,
    /// Counts the records that break it.
    pub(crate) count: Sql,
}

#[derive(Debug, Clone, Copy)]
enum Rule {
    Required,
    Unique,
    Values,
}

impl Obstacle {
    /// The refusal, when so many records break the rule; none for no records.
    pub(crate) fn refusal(&self, records: i64) -> Option<FieldError> {
        let Self { module, field, .. } = self;
        let (code, what) = match self.rule {
            Rule::Required => (
                "default_missing",
                format!(
                    "no value of `{field}`, which becomes required: give it a default, or add it \
                     as optional, fill it in, then require it"
                ),
            ),
            Rule::Unique => (
                "already_exists",
                format!(
                    "a value of `{field}` that another record of the tenant has too, and it \
                     becomes unique: change them first"
                ),
            ),
            Rule::Values => (
                "rule_violation",
                format!(
                    "a value of `{field}` that its new rules refuse: change them first, or keep \
                     the rules"
                ),
            ),
        };
        let having = match records {
            0 => return None,
            records => {
                let one = format!("record of {module} has");
                told(records, &one, &format!("records of {module} have"))
            }
        };
        Some(FieldError {
            pointer: format!("/{module}/{field}"),
            code,
            message: format!("{having} {what}"),
        })
    }
}

/// The rules of `new` that records of `old` may break.
pub(crate) fn obstacles(old: &ModuleSpec, new: &ModuleSpec, dialect: Dialect) -> Vec<Obstacle> {
    let change = Change { old, new, dialect };
    stored(new)
        .into_iter()
        .flat_map(|field| change.of(field))
        .collect()
}

struct Change<'a> {
    old: &'a ModuleSpec,
    new: &'a ModuleSpec,
    dialect: Dialect,
}

impl Change<'_> {
    fn of(&self, field: &FieldSpec) -> Vec<Obstacle> {
        let old = find(self.old, field);
        if old.is_some_and(|old| !same_type(&old.kind, &field.kind)) {
            return Vec::new();
        }
        let column = quoted(&field.name);
        let filled = !field.default_value().is_null();
        let mut found = Vec::new();
        let mut add = |rule, count| {
            found.push(Obstacle {
                module: self.new.name.clone(),
                field: field.name.clone(),
                rule,
                count: Sql::shared(&Arc::from(count)).returns(&[ColumnType::Int]),
            });
        };
        match old {
            None if field.required && !filled => add(Rule::Required, self.counting("1 = 1")),
            Some(old) if field.required && !old.required && !filled => {
                add(Rule::Required, self.counting(&format!("{column} IS NULL")));
            }
            _ => {}
        }
        if old.is_some_and(|old| self.rule(old) != self.rule(field))
            && let Some(rule) = self.rule(field)
        {
            add(Rule::Values, self.counting(&format!("NOT ({rule})")));
        }
        let key = match old {
            // All records get the default.
            None => filled.then(String::new),
            Some(old) if old.unique && old.folds() == field.folds() => None,
            Some(_) if field.folds() => Some(format!(", lower({column})")),
            Some(_) => Some(format!(", {column}")),
        };
        if let Some(key) = key.filter(|_| field.unique) {
            add(Rule::Unique, self.repeated(&column, &key, old.is_some()));
        }
        found
    }

    /// What a value obeys, also where the column's type says it alone.
    fn rule(&self, field: &FieldSpec) -> Option<String> {
        let condition = condition(field, self.dialect);
        let digits = match (&field.kind, self.dialect) {
            (
                FieldType::Decimal {
                    precision, scale, ..
                }
                | FieldType::Money {
                    precision, scale, ..
                },
                Dialect::Postgres,
            ) => {
                let zeros = usize::try_from(precision.saturating_sub(*scale)).unwrap_or_default();
                let column = quoted(&field.name);
                Some(format!("abs({column}) < 1{}", "0".repeat(zeros)))
            }
            _ => None,
        };
        let parts: Vec<_> = condition.into_iter().chain(digits).collect();
        (!parts.is_empty()).then(|| parts.join(" AND "))
    }

    fn counting(&self, condition: &str) -> String {
        let table = quoted(&self.old.name);
        // What goes with a trash that is closed obeys nothing any more.
        let live = match self.old.soft_delete && !self.new.soft_delete {
            true => format!(" AND {} IS NULL", quoted(DELETED_AT)),
            false => String::new(),
        };
        format!("SELECT count(*) FROM {table} WHERE {condition}{live}")
    }

    fn repeated(&self, column: &str, key: &str, is_there: bool) -> String {
        let table = quoted(&self.old.name);
        let live = self.old.soft_delete.then(|| quoted(DELETED_AT));
        let present = live.map(|deleted_at| format!("{deleted_at} IS NULL"));
        let valued = is_there.then(|| format!("{column} IS NOT NULL"));
        let conditions: Vec<_> = present.into_iter().chain(valued).collect();
        let condition = match conditions.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", conditions.join(" AND ")),
        };
        format!(
            "SELECT CAST(coalesce(sum(held.many), 0) AS bigint) FROM (SELECT count(*) AS many \
             FROM {table}{condition} GROUP BY tenant_id{key} HAVING count(*) > 1) AS held"
        )
    }
}
