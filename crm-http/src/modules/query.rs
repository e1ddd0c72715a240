//! The query string of a list, as the library's query: page, order, search, and conditions written
//! `field=value` or `field[op]=value`. A parameter that nothing declares is refused by name.

use std::collections::HashSet;
use std::str::FromStr;

use crm_core::module::CompiledModule;
use crm_core::record::{Count, Filter, Query, Sort, View};
use crm_core::{Error, FieldError, Scope};
use poem::Request;

use crate::problem::Problem;
use crate::resource::unreadable_query;

/// Reads the query string of a list of `module`.
///
/// # Errors
/// 422 naming every parameter that is unknown, repeated or does not fit.
pub(crate) fn parse(
    scope: &Scope,
    module: &CompiledModule,
    request: &Request,
) -> Result<(Query, View), Problem> {
    parse_among(scope, module, request, Vec::new())
}

/// Reads the query string of a list among the records of `module` that meet these conditions.
///
/// # Errors
/// 422 naming every parameter that is unknown, repeated or does not fit.
pub(super) fn parse_among(
    scope: &Scope,
    module: &CompiledModule,
    request: &Request,
    mut conditions: Vec<Filter>,
) -> Result<(Query, View), Problem> {
    let (mut query, mut view) = (Query::default(), View::default());
    let parameters: Vec<(String, String)> = match request.uri().query() {
        None | Some("") => Vec::new(),
        Some(_) => request.params().map_err(|_| unreadable_query())?,
    };
    let (mut refused, mut seen) = (Vec::new(), HashSet::new());
    for (name, text) in &parameters {
        let outcome = if seen.insert(name) {
            match show(scope, module, &mut view, name, text) {
                Some(outcome) => outcome,
                None => apply(scope, module, &mut query, &mut conditions, name, text),
            }
        } else {
            Err(FieldError::new(
                name,
                "repeated",
                "Give this parameter once.",
            ))
        };
        refused.extend(outcome.err());
    }
    refused.extend(misplaced(|name| seen.iter().any(|given| *given == name)));
    match Filter::all(conditions) {
        Ok(filter) => query.filter = filter,
        Err(error) => refused.push(error),
    }
    match refused.is_empty() {
        true => Ok((query, view)),
        false => Err(Error::Invalid(refused).into()),
    }
}

/// The parameters of a list that an export of all pages has not.
pub(crate) const OF_PAGES: [&str; 7] = [
    "limit", "cursor", "page", "per_page", "count", "fields", "expand",
];

/// What `per_page` says wrongly beside what else is given.
pub(super) fn misplaced(given: impl Fn(&str) -> bool) -> Option<FieldError> {
    let message = match (given("per_page"), given("page"), given("limit")) {
        (true, false, _) => "This goes with page; with a cursor, give limit.",
        (true, true, true) => "This says what limit says; give one of the two.",
        _ => return None,
    };
    Some(FieldError::new("per_page", "not_allowed", message))
}

/// Reads the query string of one record: what of it is shown.
///
/// # Errors
/// 422 naming every parameter that is unknown, repeated or does not fit.
pub(crate) fn view(
    scope: &Scope,
    module: &CompiledModule,
    request: &Request,
) -> Result<View, Problem> {
    let mut view = View::default();
    if request.uri().query().is_none_or(str::is_empty) {
        return Ok(view);
    }
    let parameters: Vec<(String, String)> = request.params().map_err(|_| unreadable_query())?;
    let (mut refused, mut seen) = (Vec::new(), HashSet::new());
    for (name, text) in &parameters {
        let outcome = if seen.insert(name) {
            show(scope, module, &mut view, name, text).unwrap_or_else(|| Err(unknown(name)))
        } else {
            Err(FieldError::new(
                name,
                "repeated",
                "Give this parameter once.",
            ))
        };
        refused.extend(outcome.err());
    }
    if refused.is_empty() {
        Ok(view)
    } else {
        Err(Error::Invalid(refused).into())
    }
}

/// Applies a parameter that says what is shown, if it is one.
fn show(
    scope: &Scope,
    module: &CompiledModule,
    view: &mut View,
    name: &str,
    text: &str,
) -> Option<Result<(), FieldError>> {
    let names = text.split(',');
    match name {
        "fields" | "expand" if names.clone().any(str::is_empty) => {
            let message = "Give names with commas between them, or leave this parameter out.";
            Some(Err(FieldError::new(name, "unknown_field", message)))
        }
        "fields" => Some(view.show(module, names)),
        "expand" => Some(view.expand(scope, module, names)),
        _ => None,
    }
}

fn unknown(name: &str) -> FieldError {
    FieldError::new(
        name,
        "unknown_parameter",
        "This operation has no such parameter.",
    )
}

fn apply(
    scope: &Scope,
    module: &CompiledModule,
    query: &mut Query,
    conditions: &mut Vec<Filter>,
    name: &str,
    text: &str,
) -> Result<(), FieldError> {
    match name {
        "limit" | "per_page" => query.limit = value(name, text, "a whole number from 1 to 100")?,
        "page" => query.page = Some(value(name, text, "a whole number from 1")?),
        "count" => {
            query.count = match text {
                "true" => Count::Capped,
                "false" => Count::No,
                "exact" => Count::Exact,
                _ => {
                    let message = "This must be true, false or exact.";
                    return Err(FieldError::new(name, "invalid", message));
                }
            }
        }
        "cursor" => query.cursor = Some(text.to_owned()),
        "search" => query.search = Some(text.to_owned()),
        "sort" => query.sort = Sort::parse_list(module, text)?,
        _ => conditions.push(Filter::of_parameter(scope, module, name, text)?),
    }
    Ok(())
}

fn value<T: FromStr>(name: &str, text: &str, expected: &str) -> Result<T, FieldError> {
    text.parse().map_err(|_| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        // A whole number still: there are smaller and larger ones than are read here.
        let whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let code = match whole {
            true => "out_of_range",
            false => "invalid",
        };
        FieldError::new(name, code, format!("This must be {expected}."))
    })
}

/// The page that an operation without other parameters is asked for.
///
/// # Errors
/// 422 naming every parameter that is unknown, repeated or does not fit.
pub(crate) fn page(request: &Request, limit: u32) -> Result<(u32, Option<String>), Problem> {
    let parameters: Vec<(String, String)> = request.params().map_err(|_| unreadable_query())?;
    let (mut limit, mut cursor) = (limit, None);
    let (mut refused, mut seen) = (Vec::new(), HashSet::new());
    for (name, text) in &parameters {
        if !seen.insert(name) {
            let message = "Give this parameter once.";
            refused.push(FieldError::new(name, "repeated", message));
            continue;
        }
        match name.as_str() {
            "limit" => match value(name, text, "a whole number from 1 to 100") {
                Ok(number) => limit = number,
                Err(error) => refused.push(error),
            },
            "cursor" => cursor = Some(text.clone()),
            name => refused.push(unknown(name)),
        }
    }
    match refused.is_empty() {
        true => Ok((limit, cursor)),
        false => Err(Error::Invalid(refused).into()),
    }
}

/// The one parameter that an operation takes, and needs.
///
/// # Errors
/// 422 naming it when it is absent or given twice, and every other one.
pub(crate) fn only(request: &Request, wanted: &str) -> Result<String, Problem> {
    let parameters: Vec<(String, String)> = request.params().map_err(|_| unreadable_query())?;
    let (mut found, mut refused) = (None, Vec::new());
    for (name, text) in parameters {
        if name != wanted {
            refused.push(unknown(&name));
        } else if found.replace(text).is_some() {
            refused.push(FieldError::new(wanted, "invalid", "Give this once."));
        }
    }
    match found {
        Some(text) if refused.is_empty() => Ok(text),
        Some(_) => Err(Error::Invalid(refused).into()),
        None => {
            refused.push(FieldError::new(wanted, "required", "Give this parameter."));
            Err(Error::Invalid(refused).into())
        }
    }
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
    let refused: Vec<_> = parameters.iter().map(|(name, _)| unknown(name)).collect();
    match refused.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid(refused).into()),
    }
}
