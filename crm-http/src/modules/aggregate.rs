//! `GET /{module}/aggregate`: figures about the records that a list with the same conditions shows.

use crm_core::module::CompiledModule;
use crm_core::record::{Aggregate, Filter, GroupKey, Groups, Metric};
use crm_core::{Error, FieldError};
use poem::Request;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::problem::Problem;
use crate::resource::unreadable_query;

/// Reads the query string.
///
/// # Errors
/// 422 naming every parameter that is unknown, repeated or does not fit.
pub(super) fn parse(module: &CompiledModule, request: &Request) -> Result<Aggregate, Problem> {
    let parameters: Vec<(String, String)> = match request.uri().query() {
        None | Some("") => Vec::new(),
        Some(_) => request.params().map_err(|_| unreadable_query())?,
    };
    let (mut ask, mut conditions, mut refused) = (Aggregate::default(), Vec::new(), Vec::new());
    for (position, (name, text)) in parameters.iter().enumerate() {
        if parameters[..position]
            .iter()
            .any(|(known, _)| known == name)
        {
            refused.push(FieldError::new(
                name,
                "repeated",
                "Give this parameter once.",
            ));
            continue;
        }
        let outcome =
            match name.as_str() {
                "group_by" => parts(text, |part| GroupKey::parse(module, part))
                    .map(|keys| ask.group_by = keys),
                "metrics" => parts(text, |part| Metric::parse(module, part))
                    .map(|metrics| ask.metrics = metrics),
                "search" => {
                    ask.search = Some(text.clone());
                    Ok(())
                }
                _ => condition(module, name, text).map(|filter| conditions.push(filter)),
            };
        refused.extend(outcome.err());
    }
    if !parameters.iter().any(|(name, _)| name == "metrics") {
        let message = "Name the figures, such as metrics=count.";
        refused.push(FieldError::new("metrics", "required", message));
    }
    if !refused.is_empty() {
        return Err(Error::Invalid(refused).into());
    }
    ask.filter = (!conditions.is_empty()).then_some(Filter::And(conditions));
    Ok(ask)
}

fn parts<T>(
    text: &str,
    read: impl Fn(&str) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    text.split(',').map(read).collect()
}

fn condition(module: &CompiledModule, name: &str, text: &str) -> Result<Filter, FieldError> {
    let (field, op) = match name.split_once('[') {
        None => (name, "eq"),
        Some((field, op)) => (field, op.strip_suffix(']').unwrap_or("")),
    };
    Filter::parse(module, field, op, text)
}

/// The groups on the wire.
#[derive(Serialize)]
pub(super) struct Answer {
    data: Vec<Group>,
    truncated: bool,
}

#[derive(Serialize)]
struct Group {
    group: Map<String, Value>,
    metrics: Map<String, Value>,
}

impl Answer {
    /// Names every value as it was asked for.
    ///
    /// # Errors
    /// None: every value has a JSON form.
    pub(super) fn new(
        module: &CompiledModule,
        ask: &Aggregate,
        groups: Groups,
    ) -> Result<Self, Error> {
        let keys: Vec<_> = ask.group_by.iter().map(|key| key.name(module)).collect();
        let names: Vec<_> = ask.metrics.iter().map(|one| one.name(module)).collect();
        let named = |names: &[String], values: Vec<crm_core::value::Value>| {
            names
                .iter()
                .zip(values)
                .map(|(name, value)| Ok((name.clone(), serde_json::to_value(value)?)))
                .collect::<Result<Map<_, _>, serde_json::Error>>()
                .map_err(Error::internal)
        };
        let data = groups.data.into_iter().map(|group| {
            Ok(Group {
                group: named(&keys, group.keys)?,
                metrics: named(&names, group.metrics)?,
            })
        });
        Ok(Self {
            data: data.collect::<Result<_, Error>>()?,
            truncated: groups.truncated,
        })
    }
}
