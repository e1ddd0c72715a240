//! The query string of a list, as the library's query: page, order, search, and conditions written
//! `field=value` or `field[op]=value`. A parameter that nothing declares is refused by name.

use std::collections::HashSet;
use std::str::FromStr;

use crm_core::module::CompiledModule;
use crm_core::record::{Filter, Query, Sort};
use crm_core::{Error, FieldError};
use poem::Request;

use crate::problem::Problem;
use crate::resource::unreadable_query;

/// Reads the query string of a list of `module`.
///
/// # Errors
/// 422 naming every parameter that is unknown, repeated or does not fit.
pub(crate) fn parse(module: &CompiledModule, request: &Request) -> Result<Query, Problem> {
    let mut query = Query::default();
    if request.uri().query().is_none_or(str::is_empty) {
        return Ok(query);
    }
    let parameters: Vec<(String, String)> = request.params().map_err(|_| unreadable_query())?;
    let (mut conditions, mut refused, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for (name, text) in &parameters {
        let outcome = if seen.insert(name) {
            apply(module, &mut query, &mut conditions, name, text)
        } else {
            Err(FieldError::new(
                name,
                "repeated",
                "Give this parameter once.",
            ))
        };
        refused.extend(outcome.err());
    }
    if !refused.is_empty() {
        return Err(Error::Invalid(refused).into());
    }
    query.filter = (!conditions.is_empty()).then_some(Filter::And(conditions));
    Ok(query)
}

fn apply(
    module: &CompiledModule,
    query: &mut Query,
    conditions: &mut Vec<Filter>,
    name: &str,
    text: &str,
) -> Result<(), FieldError> {
    match name {
        "limit" => query.limit = value(name, text, "a whole number from 1 to 100")?,
        "count" => query.count = value(name, text, "true or false")?,
        "cursor" => query.cursor = Some(text.to_owned()),
        "search" => query.search = Some(text.to_owned()),
        "sort" => query.sort = Sort::parse(module, text)?,
        _ => {
            let (field, op) = match name.split_once('[') {
                None => (name, "eq"),
                Some((field, op)) => (field, op.strip_suffix(']').unwrap_or("")),
            };
            conditions.push(Filter::parse(module, field, op, text)?);
        }
    }
    Ok(())
}

fn value<T: FromStr>(name: &str, text: &str, expected: &str) -> Result<T, FieldError> {
    text.parse()
        .map_err(|_| FieldError::new(name, "invalid", format!("This must be {expected}.")))
}

/// Refuses every parameter, for operations that declare none.
///
/// # Errors
/// 422 naming them.
pub(crate) fn refuse_any(request: &Request) -> Result<(), Problem> {
    if request.uri().query().is_none_or(str::is_empty) {
        return Ok(());
    }
    let parameters: Vec<(String, String)> = request.params().map_err(|_| unreadable_query())?;
    let refused = parameters.iter().map(|(name, _)| {
        FieldError::new(
            name,
            "unknown_parameter",
            "This operation has no such parameter.",
        )
    });
    Err(Error::Invalid(refused.collect()).into())
}
