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
    let limit = match sent.get("limit") {
        None => Some(Nearest::DEFAULT_LIMIT),
        Some(limit) => limit
            .as_u64()
            .map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)),
    };
    if limit.is_none() {
        refuse(
            "limit",
            "wrong_type",
            "This must be a whole number from 1 to 100.",
        );
    }
    let min_score = sent.get("min_score").filter(|score| !score.is_null());
    let score = min_score.and_then(Value::as_f64);
    if score.is_none() && min_score.is_some() {
        refuse(
            "min_score",
            "wrong_type",
            "This must be a number from -1 to 1.",
        );
    }
    let filter = match sent.get("filter") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(filter)) => Filter::from_member_for(scope, module, filter).map(Some),
        Some(_) => {
            refuse("filter", "wrong_type", "This must be an object.");
            Ok(None)
        }
    };
    let filter = filter.unwrap_or_else(|errors| {
        refused.extend(errors);
        None
    });
    let ask = match (field, vector) {
        (Some(field), Some(vector)) => match Nearest::new(module, field, vector) {
            Ok(ask) => Some(ask),
            Err(error) => {
                refused.push(error);
                None
            }
        },
        _ => None,
    };
    match (ask, limit) {
        (Some(mut ask), Some(limit)) if refused.is_empty() => {
            (ask.filter, ask.limit, ask.min_score) = (filter, limit, score);
            Ok(ask)
        }
        _ => Err(refused),
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
