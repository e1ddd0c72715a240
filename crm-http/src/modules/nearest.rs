//! `POST /{module}/nearest`: the records whose vectors resemble one most.

use crm_core::module::{CompiledModule, FieldType};
use crm_core::record::{Filter, Nearest, View, Viewed};
use crm_core::{Error, FieldError, Read, Scope};
use poem::http::StatusCode;
use poem::{Request, Response};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Handler, body, query};
use crate::problem::Problem;

/// The path segment.
pub(super) const NEAREST: &str = "nearest";

/// Whether the module has vectors to compare.
pub(crate) fn has_vectors(module: &CompiledModule) -> bool {
    let mut fields = module.fields().iter();
    fields.any(|field| matches!(field.kind, FieldType::Vector { .. }))
}

impl Handler<'_> {
    pub(super) async fn nearest(&self, request: Request) -> Result<Response, Problem> {
        let permit = self.scope.permit::<Read>(self.name())?;
        query::refuse_any(&request)?;
        let sent = self.values(request).await?;
        let ask = parse(&self.scope, &self.module, &sent).map_err(Error::Invalid)?;
        let records = self.exchange.app.crm.records();
        let found = records.nearest(&permit, &ask).await?;
        let (scores, found): (Vec<f64>, Vec<_>) =
            found.into_iter().map(|one| (one.score, one.record)).unzip();
        let viewed = records.view(&permit, found, &View::default()).await?;
        let data = scores.into_iter().zip(viewed);
        let data = data.map(|(score, record)| Scored { score, record });
        let data: Vec<_> = data.collect();
        body(StatusCode::OK, &Answer { data })
    }
}

/// Reads the body.
///
/// # Errors
/// Everything that is unknown, missing or does not fit.
fn parse(
    scope: &Scope,
    module: &CompiledModule,
    sent: &Map<String, Value>,
) -> Result<Nearest, Vec<FieldError>> {
    let mut refused = Vec::new();
    let mut refuse = |name: &str, code, message: &str| {
        refused.push(FieldError::new(name, code, message.to_owned()));
    };
    for name in sent.keys() {
        if !["field", "vector", "filter", "limit", "min_score"].contains(&name.as_str()) {
            refuse(name, "unknown_field", "This request has no such member.");
        }
    }
    let field = sent.get("field").and_then(Value::as_str);
    let vector = sent.get("vector").and_then(Value::as_array);
    if field.is_none() {
        refuse(
            "field",
            "required",
            "Name the field whose vectors are compared.",
        );
    }
    if vector.is_none() {
        refuse(
            "vector",
            "required",
            "Give the vector as a list of numbers.",
        );
    }
    let limit = limit(sent).map_err(|error| refused.push(error));
    let min_score = min_score(sent).map_err(|error| refused.push(error));
    let filter = filter(scope, module, sent).map_err(|errors| refused.extend(errors));
    let ask = match (field, vector) {
        (Some(field), Some(vector)) => Nearest::new(module, field, vector)
            .map_err(|error| refused.push(error))
            .ok(),
        _ => None,
    };
    match (ask, limit, min_score, filter) {
        (Some(mut ask), Ok(limit), Ok(min_score), Ok(filter)) if refused.is_empty() => {
            (ask.filter, ask.limit, ask.min_score) = (filter, limit, min_score);
            Ok(ask)
        }
        _ => Err(refused),
    }
}

fn limit(sent: &Map<String, Value>) -> Result<u32, FieldError> {
    let Some(limit) = sent.get("limit") else {
        return Ok(Nearest::DEFAULT_LIMIT);
    };
    let limit = limit.as_u64().ok_or_else(|| {
        let message = "This must be a whole number from 1 to 100.";
        FieldError::new("limit", "wrong_type", message)
    })?;
    Ok(u32::try_from(limit).unwrap_or(u32::MAX))
}

fn min_score(sent: &Map<String, Value>) -> Result<Option<f64>, FieldError> {
    match sent.get("min_score") {
        None | Some(Value::Null) => Ok(None),
        Some(score) => score.as_f64().map(Some).ok_or_else(|| {
            let message = "This must be a number from -1 to 1.";
            FieldError::new("min_score", "wrong_type", message)
        }),
    }
}

fn filter(
    scope: &Scope,
    module: &CompiledModule,
    sent: &Map<String, Value>,
) -> Result<Option<Filter>, Vec<FieldError>> {
    match sent.get("filter") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(filter)) => Filter::from_member_for(scope, module, filter).map(Some),
        Some(_) => {
            let message = "This must be an object.";
            Err(vec![FieldError::new("filter", "wrong_type", message)])
        }
    }
}

/// The answer on the wire.
#[derive(Serialize)]
struct Answer {
    data: Vec<Scored>,
}

#[derive(Serialize)]
struct Scored {
    score: f64,
    record: Viewed,
}
