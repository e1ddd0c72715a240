//! A query as a JSON body: `{filter, search, sort, limit, cursor, count, fields, expand}`.
//!
//! It says what the query string of a list says, with conditions nested by and, or and not. Each
//! refusal points at its place in the body; a member that nothing declares is refused by name.

use crm_core::module::CompiledModule;
use crm_core::record::{Count, Filter, Query, Sort, View};
use crm_core::{Error, FieldError, Scope};
use serde_json::{Map, Value};

use super::query::misplaced;
use crate::problem::Problem;

/// Reads the body of a query on `module`.
///
/// # Errors
/// 422 pointing at everything that is unknown or does not fit.
pub(super) fn parse(
    scope: &Scope,
    module: &CompiledModule,
    sent: Map<String, Value>,
) -> Result<(Query, View), Problem> {
    let (mut query, mut view, mut refused) = (Query::default(), View::default(), Vec::new());
    for (name, value) in &sent {
        if name == "filter" {
            match condition(scope, module, value) {
                Ok(filter) => query.filter = Some(filter),
                Err(errors) => refused.extend(errors),
            }
        } else if let Err(error) = member(scope, module, &mut query, &mut view, name, value) {
            refused.push(error);
        }
    }
    refused.extend(misplaced(|name| sent.contains_key(name)));
    if refused.is_empty() {
        Ok((query, view))
    } else {
        Err(Error::Invalid(refused).into())
    }
}

fn condition(
    scope: &Scope,
    module: &CompiledModule,
    value: &Value,
) -> Result<Filter, Vec<FieldError>> {
    let object = value
        .as_object()
        .ok_or_else(|| vec![wrong_type("filter", "an object")])?;
    Filter::from_member_for(scope, module, object)
}

fn member(
    scope: &Scope,
    module: &CompiledModule,
    query: &mut Query,
    view: &mut View,
    name: &str,
    value: &Value,
) -> Result<(), FieldError> {
    match name {
        "page" => {
            let page = value.as_u64();
            let page = page.ok_or_else(|| wrong_type(name, "a whole number from 1"))?;
            query.page = Some(u32::try_from(page).unwrap_or(u32::MAX));
        }
        "limit" | "per_page" => {
            let limit = value
                .as_u64()
                .ok_or_else(|| wrong_type(name, "a whole number from 1 to 100"))?;
            // What does not fit is too large in any case, and refused as such by the library.
            query.limit = u32::try_from(limit).unwrap_or(u32::MAX);
        }
        "count" => {
            query.count = match (value.as_bool(), value.as_str()) {
                (Some(false), _) => Count::No,
                (Some(true), _) => Count::Capped,
                (_, Some("exact")) => Count::Exact,
                _ => return Err(wrong_type(name, "true, false or \"exact\"")),
            }
        }
        // The last page says null; sent back, it asks for the first one.
        "cursor" if value.is_null() => query.cursor = None,
        "cursor" => query.cursor = Some(text(name, value)?.to_owned()),
        "search" => query.search = Some(text(name, value)?.to_owned()),
        "sort" => {
            let keys = texts(name, value)?;
            if !keys.is_empty() {
                query.sort = Sort::parse_list(module, &keys.join(","))?;
            }
        }
        "fields" => view.show(module, texts(name, value)?)?,
        "expand" => view.expand(scope, module, texts(name, value)?)?,
        _ => {
            let message = "A query has no such member.";
            return Err(FieldError::new(name, "unknown_field", message));
        }
    }
    Ok(())
}

fn text<'v>(name: &str, value: &'v Value) -> Result<&'v str, FieldError> {
    value.as_str().ok_or_else(|| wrong_type(name, "a text"))
}

fn texts<'v>(name: &str, value: &'v Value) -> Result<Vec<&'v str>, FieldError> {
    let items = value.as_array().map(|items| items.iter());
    items
        .and_then(|items| items.map(Value::as_str).collect())
        .ok_or_else(|| wrong_type(name, "a list of texts"))
}

fn wrong_type(name: &str, expected: &str) -> FieldError {
    FieldError::new(name, "wrong_type", format!("This must be {expected}."))
}
