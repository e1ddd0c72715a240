//! One expression type for conditions on records, with the same meaning in SQL and in memory.
//!
//! The logic has two values: a comparison with null is false, `ne` is the negation of `eq`, and
//! `not` negates what was decided. Text compares by code points, e-mail addresses and texts that
//! ignore it without ASCII case; `contains` and `starts` ignore ASCII case.

use super::moment::{self, Moment, Relation};
use super::through::alone;
use crate::clock::Clock;
use crate::error::{FieldError, Result};
use crate::module::input::{operand_entry, operand_text, parse_text};
use crate::module::{Bounds, CompiledModule, FieldSpec, FieldType, OnDelete, Refusal};
use crate::record::{Record, Through};
use crate::scope::Scope;
use crate::value::Value;

/// The longest list after `in` and `nin`.
pub(super) const MAX_LIST: usize = 100;

/// A column that conditions and orders may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// The record's id.
    Id,
    /// The owning user.
    OwnerId,
    /// When it was made.
    CreatedAt,
    /// When it last changed.
    UpdatedAt,
    /// A declared field, by its position.
    Declared(usize),
}

impl Field {
    /// The field called `name` in this module, unless it is not shown.
    pub fn named(module: &CompiledModule, name: &str) -> Option<Self> {
        match name {
            "id" => Some(Self::Id),
            "owner_id" => module.shows_owner().then_some(Self::OwnerId),
            "created_at" => Some(Self::CreatedAt),
            "updated_at" => Some(Self::UpdatedAt),
            _ => {
                let position = module.position(name);
                let shown = position.filter(|position| module.is_readable(*position));
                shown.map(Self::Declared)
            }
        }
    }

    /// Its name on the wire and in the table.
    pub fn name(self, module: &CompiledModule) -> &str {
        match self {
            Self::Id => "id",
            Self::OwnerId => "owner_id",
            Self::CreatedAt => "created_at",
            Self::UpdatedAt => "updated_at",
            Self::Declared(position) => module
                .fields()
                .get(position)
                .map_or("", |field| field.name.as_str()),
        }
    }

    /// Its type; ids count as references.
    pub(crate) fn kind(self, module: &CompiledModule) -> FieldType {
        match self {
            Self::Id | Self::OwnerId => FieldType::Reference {
                module: module.name().clone(),
                on_delete: OnDelete::default(),
            },
            Self::CreatedAt | Self::UpdatedAt => FieldType::Instant(Bounds::NONE),
            Self::Declared(position) => match module.fields().get(position) {
                Some(field) => field.kind.clone(),
                None => FieldType::Bool,
            },
        }
    }

    /// Whether its values compare without ASCII case.
    pub(crate) fn folds(self, module: &CompiledModule) -> bool {
        match self {
            Self::Declared(position) => module.fields().get(position).is_some_and(FieldSpec::folds),
            _ => false,
        }
    }

    pub(super) fn of(self, record: &Record) -> Value {
        match self {
            Self::Id => record.id.into(),
            Self::OwnerId => record.owner_id.into(),
            Self::CreatedAt => record.created_at.into(),
            Self::UpdatedAt => record.updated_at.into(),
            Self::Declared(position) => record.values().get(position).cloned().unwrap_or_default(),
        }
    }
}

/// What a field is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Comparison {
    /// Equal.
    Eq(Value),
    /// Less than.
    Lt(Value),
    /// Less than or equal.
    Lte(Value),
    /// Greater than.
    Gt(Value),
    /// Greater than or equal.
    Gte(Value),
    /// Equal to one of these.
    In(Vec<Value>),
    /// Text that holds this one.
    Contains(String),
    /// Text that begins with this one.
    Starts(String),
    /// In this relation to a moment that the clock tells when it is asked.
    Clock(Relation, Moment),
    /// No value.
    IsNull,
    /// Tags that hold this one.
    Has(String),
    /// Tags that hold one of these; false when there are none to hold.
    HasAny(Vec<String>),
    /// Tags that hold all of these; true of any tags when there are none to hold.
    HasAll(Vec<String>),
}

/// A condition on a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// All hold; true when empty.
    And(Vec<Filter>),
    /// One holds; false when empty.
    Or(Vec<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
    /// The field compares so.
    Compare(Field, Comparison),
    /// One of the records that a reference points to meets a condition; decided by the database.
    Through(Box<Through>),
}

impl Filter {
    /// The condition that a parameter of a query string stands for: called `field` for equality, or
    /// `field[op]`; it may be on the records that references point to.
    ///
    /// # Errors
    /// Those of [`parse_for`](Self::parse_for).
    pub fn of_parameter(
        scope: &Scope,
        module: &CompiledModule,
        name: &str,
        text: &str,
    ) -> Result<Self, FieldError> {
        let (field, op) = match name.split_once('[') {
            None => (name, "eq"),
            Some((field, op)) => (field, op.strip_suffix(']').unwrap_or("")),
        };
        Self::parse_for(scope, module, field, op, text)
    }

    /// The condition `name[op]=text` of a query string, on the record itself.
    ///
    /// # Errors
    /// A [`FieldError`] naming what is not declared or does not fit.
    pub fn parse(
        module: &CompiledModule,
        name: &str,
        op: &str,
        text: &str,
    ) -> Result<Self, FieldError> {
        let parameter = if op == "eq" {
            name.to_owned()
        } else {
            format!("{name}[{op}]")
        };
        let refuse = |code, message: String| FieldError::new(&parameter, code, message);
        if name.contains('.') {
            let (code, message) = alone(module, name);
            return Err(refuse(code, message));
        }
        if let Some(condition) = module.condition(name) {
            let condition = computed(name, condition, op, text.parse().ok());
            return condition.map_err(|(code, message)| refuse(code, message));
        }
        let field = Field::named(module, name)
            .ok_or_else(|| refuse("unknown_field", module.lacks(name)))?;
        let kind = field.kind(module);
        if !fits(&kind, op) {
            return Err(refuse(
                "unknown_operator",
                format!("{name} can be compared by: {}", operator_list(&kind)),
            ));
        }
        let condition = Self::compared(field, &kind, op, text);
        condition.map_err(|refusal| refusal.of(&parameter))
    }

    /// The condition `op=text` on a field that the operator fits.
    fn compared(field: Field, kind: &FieldType, op: &str, text: &str) -> Result<Self, Refusal> {
        let compare = |comparison| Self::Compare(field, comparison);
        if let Some(read) = clock(kind, op, text) {
            let (comparison, holds) = read?;
            return Ok(compare(comparison).holding(holds));
        }
        let value =
            |text: &str| parse_text(kind, text).map_err(|refusal| moment::told(kind, refusal));
        Ok(match op {
            "eq" => compare(Comparison::Eq(value(text)?)),
            "ne" => compare(Comparison::Eq(value(text)?)).holding(false),
            "lt" => compare(Comparison::Lt(value(text)?)),
            "lte" => compare(Comparison::Lte(value(text)?)),
            "gt" => compare(Comparison::Gt(value(text)?)),
            "gte" => compare(Comparison::Gte(value(text)?)),
            "in" | "nin" => {
                let values = listed(text, value)?;
                compare(Comparison::In(values)).holding(op == "in")
            }
            "contains" => compare(Comparison::Contains(operand_text(text)?)),
            "starts" => compare(Comparison::Starts(operand_text(text)?)),
            "has" => compare(Comparison::Has(operand_entry(kind, text)?)),
            "has_any" | "has_all" => {
                let tags = listed(text, |text| operand_entry(kind, text))?;
                compare(match op {
                    "has_any" => Comparison::HasAny(tags),
                    _ => Comparison::HasAll(tags),
                })
            }
            _ => match text {
                "true" => compare(Comparison::IsNull),
                "false" => compare(Comparison::IsNull).holding(false),
                _ => {
                    return Err(Refusal {
                        code: "invalid",
                        message: "must be true or false".to_owned(),
                    });
                }
            },
        })
    }

    /// Whether the record meets the condition. No record meets one [on others](Self::Through) here:
    /// what those are, only the database knows.
    pub fn matches(&self, record: &Record) -> bool {
        self.meets(record.module(), &|field| field.of(record))
    }

    /// Whether the values, one for each field, meet the condition.
    pub(crate) fn meets(&self, module: &CompiledModule, value: &dyn Fn(Field) -> Value) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.meets(module, value)),
            Self::Or(parts) => parts.iter().any(|part| part.meets(module, value)),
            Self::Not(part) => !part.meets(module, value),
            Self::Through(_) => false,
            Self::Compare(field, comparison) => {
                let folds = field.folds(module);
                compare(&value(*field), comparison, folds, module.clock())
            }
        }
    }

    /// The condition, or that it does not hold.
    pub(super) fn holding(self, holds: bool) -> Self {
        match holds {
            true => self,
            false => Self::Not(Box::new(self)),
        }
    }
}

/// The operands of a list, as far as there may be so many.
fn listed<T>(text: &str, read: impl Fn(&str) -> Result<T, Refusal>) -> Result<Vec<T>, Refusal> {
    let operands = text.split(',').map(read).collect::<Result<Vec<_>, _>>()?;
    if operands.len() > MAX_LIST {
        return Err(Refusal {
            code: "too_many",
            message: format!("at most {MAX_LIST} values"),
        });
    }
    Ok(operands)
}

/// The comparison with a moment that `text` stands for, and whether it is to hold; `None` for what
/// is no such word.
pub(super) fn clock(
    kind: &FieldType,
    op: &str,
    text: &str,
) -> Option<Result<(Comparison, bool), Refusal>> {
    let (relation, holds) = Relation::of(op)?;
    let moment = Moment::read(kind, text)?;
    Some(moment.map(|moment| (Comparison::Clock(relation, moment), holds)))
}

/// The condition that a computed field holds, or does not, as `op` and `wanted` say.
pub(super) fn computed(
    name: &str,
    condition: &Filter,
    op: &str,
    wanted: Option<bool>,
) -> Result<Filter, (&'static str, String)> {
    let equal = match op {
        "eq" => true,
        "ne" => false,
        _ => {
            return Err((
                "unknown_operator",
                format!("{name} can be compared by: eq, ne"),
            ));
        }
    };
    match wanted {
        Some(wanted) => Ok(condition.clone().holding(wanted == equal)),
        None => Err(("wrong_type", "must be true or false".to_owned())),
    }
}

/// The operators, and which kinds of fields they fit; `fits` reads the second part.
const OPERATORS: &[(&str, Fits)] = &[
    ("eq", Fits::Scalar),
    ("ne", Fits::Scalar),
    ("lt", Fits::Ordered),
    ("lte", Fits::Ordered),
    ("gt", Fits::Ordered),
    ("gte", Fits::Ordered),
    ("in", Fits::Scalar),
    ("nin", Fits::Scalar),
    ("contains", Fits::Textual),
    ("starts", Fits::Textual),
    ("has", Fits::Tags),
    ("has_any", Fits::Tags),
    ("has_all", Fits::Tags),
    ("is_null", Fits::Any),
];

#[derive(Clone, Copy)]
enum Fits {
    Any,
    Scalar,
    Ordered,
    Textual,
    Tags,
}

/// The operators that a field of this kind may be compared by.
pub fn operators(kind: &FieldType) -> impl Iterator<Item = &'static str> {
    OPERATORS
        .iter()
        .filter(|(op, _)| fits(kind, op))
        .map(|(op, _)| *op)
}

/// The operators that fit a field of this kind, for a refusal.
pub(super) fn operator_list(kind: &FieldType) -> String {
    operators(kind).collect::<Vec<_>>().join(", ")
}

pub(super) fn fits(kind: &FieldType, op: &str) -> bool {
    let Some((_, fits)) = OPERATORS.iter().find(|(name, _)| *name == op) else {
        return false;
    };
    match (fits, kind) {
        (Fits::Any, _) => true,
        (Fits::Scalar, kind) => kind.is_comparable(),
        (Fits::Ordered, _) => matches!(
            kind,
            FieldType::Integer { .. }
                | FieldType::Decimal { .. }
                | FieldType::Money { .. }
                | FieldType::Instant(_)
                | FieldType::Date(_)
                | FieldType::Time(_)
                | FieldType::Text { .. }
        ),
        (Fits::Textual, FieldType::AnyReference { .. }) => op == "starts",
        (Fits::Textual, kind) => kind.is_text(),
        (Fits::Tags, kind) => {
            matches!(kind, FieldType::Tags { .. } | FieldType::References { .. })
        }
    }
}

/// Whether the value compares so, where `folds` without ASCII case.
pub(crate) fn compare(value: &Value, comparison: &Comparison, folds: bool, clock: &Clock) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};

    let order = |operand: &Value| {
        if folds {
            fold(value).order(&fold(operand))
        } else {
            value.order(operand)
        }
    };
    let text = || value.as_text().unwrap_or_default().to_ascii_lowercase();
    let tags = || match value {
        Value::Tags(tags) => tags.as_slice(),
        _ => &[],
    };
    match comparison {
        Comparison::IsNull => value.is_null(),
        _ if value.is_null() => false,
        Comparison::Clock(relation, moment) => {
            let told = moment.compared(*relation, clock.now());
            compare(value, &told, folds, clock)
        }
        Comparison::Eq(operand) => order(operand) == Some(Equal),
        Comparison::Lt(operand) => order(operand) == Some(Less),
        Comparison::Lte(operand) => matches!(order(operand), Some(Less | Equal)),
        Comparison::Gt(operand) => order(operand) == Some(Greater),
        Comparison::Gte(operand) => matches!(order(operand), Some(Greater | Equal)),
        Comparison::In(operands) => operands.iter().any(|operand| order(operand) == Some(Equal)),
        Comparison::Contains(part) => text().contains(&part.to_ascii_lowercase()),
        Comparison::Starts(part) => text().starts_with(&part.to_ascii_lowercase()),
        Comparison::Has(tag) => tags().contains(tag),
        Comparison::HasAny(wanted) => wanted.iter().any(|tag| tags().contains(tag)),
        Comparison::HasAll(wanted) => wanted.iter().all(|tag| tags().contains(tag)),
    }
}

fn fold(value: &Value) -> Value {
    value.as_text().map_or_else(
        || value.clone(),
        |text| Value::Text(text.to_ascii_lowercase()),
    )
}
