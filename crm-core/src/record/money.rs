//! Figures about amounts are of one currency each: sums of several mean nothing.

use super::{Aggregate, Comparison, Field, Filter, Function};
use crate::error::{Error, FieldError, Result};
use crate::module::CompiledModule;
use crate::value::Value;

/// Refuses figures about amounts whose currencies neither the groups nor the filter keep apart.
///
/// # Errors
/// [`Error::Invalid`] on `metrics` with the code `mixed_currencies`.
pub(super) fn check_currencies(module: &CompiledModule, ask: &Aggregate) -> Result<()> {
    let mut refused = Vec::new();
    for metric in &ask.metrics {
        let (Function::Sum | Function::Avg | Function::Min | Function::Max, Some(field)) =
            (metric.function, metric.field)
        else {
            continue;
        };
        let Field::Declared(position) = field else {
            continue;
        };
        let Some(currency) = module.currency_of(position).map(Field::Declared) else {
            continue;
        };
        let grouped = ask.group_by.iter().any(|key| key.field == currency);
        let pinned = ask
            .filter
            .as_ref()
            .and_then(|filter| pinned(filter, currency));
        if !grouped && pinned.is_none() {
            let message = format!(
                "{} mixes currencies: group by {currency}, or filter by one value of it",
                metric.name(module),
                currency = currency.name(module),
            );
            refused.push(FieldError::new("metrics", "mixed_currencies", message));
        }
    }
    match refused.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid(refused)),
    }
}

/// The one value that the filter leaves for the field, if it is plain to see.
fn pinned(filter: &Filter, field: Field) -> Option<&Value> {
    match filter {
        Filter::And(parts) => parts.iter().find_map(|part| pinned(part, field)),
        Filter::Or(parts) => {
            let (first, others) = parts.split_first()?;
            let value = pinned(first, field)?;
            let same = |part| pinned(part, field) == Some(value);
            others.iter().all(same).then_some(value)
        }
        Filter::Compare(of, Comparison::Eq(value)) if *of == field => Some(value),
        Filter::Compare(of, Comparison::In(values)) if *of == field => match &values[..] {
            [value] => Some(value),
            _ => None,
        },
        Filter::Not(_) | Filter::Compare(..) | Filter::Through(_) => None,
    }
}
