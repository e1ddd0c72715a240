//! Figures about many records: counts, exact sums and averages, extremes, by group.
//!
//! Everything goes through a read permit, as a list does, and names declared fields only.

use std::fmt;

use rust_decimal::Decimal;

use super::{Field, Filter, Records};
use crate::error::{Error, FieldError, Result};
use crate::module::{CompiledModule, FieldType};
use crate::scope::{Permit, Read};
use crate::value::Value;

/// Digits of an average behind those of its field.
const AVERAGE_DIGITS: u32 = 6;

/// What is asked about the records of a module.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Aggregate {
    /// Which records.
    pub filter: Option<Filter>,
    /// Words that the searchable fields must hold, as [a list](super::Query::search) takes them.
    pub search: Option<String>,
    /// What makes a group; all records are one when empty.
    pub group_by: Vec<GroupKey>,
    /// What is asked of each group.
    pub metrics: Vec<Metric>,
}

/// One key of a group: a field, or the part of the calendar its value lies in, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupKey {
    /// The field.
    pub field: Field,
    /// The part of the calendar; dates and instants only.
    pub bucket: Option<Bucket>,
}

/// A part of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// `2026-03-01`.
    Day,
    /// `2026-03`.
    Month,
    /// `2026`.
    Year,
}

/// One figure about a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// What is computed.
    pub function: Function,
    /// Over which field; only [`Function::Count`] does without, and counts records then.
    pub field: Option<Field>,
}

/// What is computed over the values of a field; absent ones do not take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// How many there are.
    Count,
    /// How many different ones there are.
    Distinct,
    /// Their sum, exact.
    Sum,
    /// Their mean, rounded half to even six digits behind those of the field.
    Avg,
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

const FUNCTIONS: &[(&str, Function)] = &[
    ("count", Function::Count),
    ("distinct", Function::Distinct),
    ("sum", Function::Sum),
    ("avg", Function::Avg),
    ("min", Function::Min),
    ("max", Function::Max),
];
const BUCKETS: &[(&str, Bucket)] = &[
    ("day", Bucket::Day),
    ("month", Bucket::Month),
    ("year", Bucket::Year),
];

/// The figures of one group.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The values of the keys, in the order asked for.
    pub keys: Vec<Value>,
    /// The figures, in the order asked for.
    pub metrics: Vec<Value>,
}

/// The groups in the order of their keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    /// At most [`Aggregate::MAX_GROUPS`].
    pub data: Vec<Group>,
    /// Whether there are more.
    pub truncated: bool,
}

impl Aggregate {
    /// The fields that it tells of.
    pub(super) fn fields(&self) -> impl Iterator<Item = Field> {
        let compared = self.filter.iter().flat_map(Filter::fields);
        let keys = self.group_by.iter().map(|key| key.field);
        let figures = self.metrics.iter().filter_map(|metric| metric.field);
        compared.chain(keys).chain(figures)
    }

    /// Most groups of an answer.
    pub const MAX_GROUPS: u32 = 1_000;
    /// Most keys of a group.
    pub const MAX_KEYS: usize = 3;
    /// Most figures about a group.
    pub const MAX_METRICS: usize = 10;
}

impl GroupKey {
    /// Reads `status`, or `created_at:month`.
    ///
    /// # Errors
    /// A [`FieldError`] on `group_by`.
    pub fn parse(module: &CompiledModule, text: &str) -> Result<Self, FieldError> {
        let refuse = |code, message: String| FieldError::new("group_by", code, message);
        let (name, bucket) = match text.split_once(':') {
            Some((name, word)) => (name, Some(word)),
            None => (text, None),
        };
        let field = named(module, "group_by", name)?;
        let calendar = matches!(
            field.kind(module),
            FieldType::Instant(_) | FieldType::Date(_)
        );
        let bucket = match bucket {
            None if matches!(field.kind(module), FieldType::Instant(_)) => {
                let message = format!("write {name}:day, {name}:month or {name}:year");
                return Err(refuse("bucket_required", message));
            }
            None => None,
            Some(word) => {
                let known = BUCKETS.iter().find(|(name, _)| *name == word);
                match known {
                    Some((_, bucket)) if calendar => Some(*bucket),
                    _ => {
                        let message = "day, month and year are parts of dates and instants";
                        return Err(refuse("unknown_bucket", message.to_owned()));
                    }
                }
            }
        };
        if !Self::fits(&field.kind(module)) {
            let message = format!("{name} is not of a type that makes groups");
            return Err(refuse("wrong_type", message));
        }
        Ok(Self { field, bucket })
    }

    /// Whether values of this type make groups.
    pub fn fits(kind: &FieldType) -> bool {
        kind.is_comparable()
    }

    /// Its name in answers, as it was asked for.
    pub fn name(self, module: &CompiledModule) -> String {
        let name = self.field.name(module);
        match BUCKETS
            .iter()
            .find(|(_, bucket)| Some(*bucket) == self.bucket)
        {
            Some((word, _)) => format!("{name}:{word}"),
            None => name.to_owned(),
        }
    }
}

impl Function {
    /// Whether values of this type take part in it.
    pub fn fits(self, kind: &FieldType) -> bool {
        let number = matches!(
            kind,
            FieldType::Integer { .. } | FieldType::Decimal { .. } | FieldType::Money { .. }
        );
        match self {
            Self::Count => true,
            Self::Sum | Self::Avg => number,
            Self::Distinct => GroupKey::fits(kind),
            Self::Min | Self::Max => {
                number
                    || matches!(
                        kind,
                        FieldType::Instant(_)
                            | FieldType::Date(_)
                            | FieldType::Time(_)
                            | FieldType::Text { .. }
                    )
            }
        }
    }

    /// All of them with the words they are asked for by.
    pub fn all() -> impl Iterator<Item = (&'static str, Self)> {
        FUNCTIONS.iter().copied()
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = FUNCTIONS.iter().find(|(_, function)| function == self);
        f.write_str(found.map_or("", |(name, _)| name))
    }
}

impl Metric {
    /// Reads `count`, or a function and its field: `sum:amount`.
    ///
    /// # Errors
    /// A [`FieldError`] on `metrics`.
    pub fn parse(module: &CompiledModule, text: &str) -> Result<Self, FieldError> {
        let refuse = |code, message: String| FieldError::new("metrics", code, message);
        let (word, name) = match text.split_once(':') {
            Some((word, name)) => (word, Some(name)),
            None => (text, None),
        };
        let Some((_, function)) = FUNCTIONS.iter().find(|(name, _)| *name == word) else {
            let words: Vec<_> = FUNCTIONS.iter().map(|(name, _)| *name).collect();
            let message = format!("the figures are {}", words.join(", "));
            return Err(refuse("unknown_function", message));
        };
        let (function, field) = match (function, name) {
            (Function::Count, None) => (Function::Count, None),
            (function, None) => {
                let message = format!("name the field: {function}:amount");
                return Err(refuse("field_required", message));
            }
            (function, Some(name)) => (*function, Some(named(module, "metrics", name)?)),
        };
        match field {
            Some(field) if !function.fits(&field.kind(module)) => {
                let message = format!("{} has no {function}", field.name(module));
                Err(refuse("wrong_type", message))
            }
            field => Ok(Self { function, field }),
        }
    }

    /// Its name in answers, as it was asked for.
    pub fn name(self, module: &CompiledModule) -> String {
        match self.field {
            Some(field) => format!("{}:{}", self.function, field.name(module)),
            None => self.function.to_string(),
        }
    }
}

fn named(module: &CompiledModule, parameter: &str, name: &str) -> Result<Field, FieldError> {
    Field::named(module, name)
        .ok_or_else(|| FieldError::new(parameter, "unknown_field", module.lacks(name)))
}

impl Records {
    /// Figures about the records that the permit covers, in one statement.
    ///
    /// # Errors
    /// [`Error::Invalid`] without a metric, and for too many of them or of keys.
    pub async fn aggregate(&self, permit: &Permit<Read>, ask: &Aggregate) -> Result<Groups> {
        if ask.metrics.is_empty() || ask.metrics.len() > Aggregate::MAX_METRICS {
            let message = format!("must be 1 to {} figures", Aggregate::MAX_METRICS);
            return Err(Error::invalid("metrics", "out_of_range", message));
        }
        if ask.group_by.len() > Aggregate::MAX_KEYS {
            let message = format!("must be at most {} keys", Aggregate::MAX_KEYS);
            return Err(Error::invalid("group_by", "out_of_range", message));
        }
        super::query::check_search(ask.search.as_deref())?;
        super::money::check_currencies(permit.module()?, ask)?;
        let permit = permit.to_search(ask.fields(), ask.search.as_deref())?;
        let core = &self.core;
        let module = permit.module()?;
        let statements = core.statements(module);
        let search = ask.search.as_deref();
        let way = self.search_way(module, permit.tenant(), search).await?;
        let limit = Aggregate::MAX_GROUPS + 1;
        let sql = statements.aggregate(permit.tenant(), permit.reach(), ask, way.all, limit);
        let mut data = Vec::new();
        for mut row in core.db.fetch_all(sql).await? {
            let keys = ask.group_by.iter().map(|_| row.next()).collect();
            let mut metrics = Vec::with_capacity(ask.metrics.len());
            for metric in &ask.metrics {
                metrics.push(match (metric.function, metric.field) {
                    (Function::Sum, Some(field)) => statements
                        .read_sum(&mut row, field)?
                        .map_or(Value::Null, |sum| total(sum.sum)),
                    (Function::Avg, Some(field)) => statements
                        .read_sum(&mut row, field)?
                        .map_or(Value::Null, |sum| mean(sum.sum, sum.count)),
                    _ => row.next(),
                });
            }
            data.push(Group { keys, metrics });
        }
        let most = usize::try_from(Aggregate::MAX_GROUPS).unwrap_or(usize::MAX);
        let truncated = data.len() > most;
        data.truncate(most);
        Ok(Groups { data, truncated })
    }
}

/// A decimal: a sum of whole numbers may exceed 64 bits.
fn total(sum: Decimal) -> Value {
    Value::Decimal(sum)
}

fn mean(sum: Decimal, count: i64) -> Value {
    match sum.checked_div(Decimal::from(count)) {
        Some(mean) => Value::Decimal(mean.round_dp(sum.scale() + AVERAGE_DIGITS).normalize()),
        None => Value::Null,
    }
}
