//! `GET /{module}/funnel`: how far records come on the way through the values of an enum field.

use crm_core::module::{CompiledModule, FieldType};
use crm_core::record::{Filter, Funnel, MaxAge, Stage};
use crm_core::value::Value;
use crm_core::{Error, FieldError, Read, Scope};
use poem::http::StatusCode;
use poem::{Request, Response};
use serde::Serialize;

use super::aggregate::{max_age, parameters};
use super::{Handler, body};
use crate::problem::Problem;

/// The path segment.
pub(super) const FUNNEL: &str = "funnel";

/// Whether a module has a field that makes a funnel.
pub(crate) fn has_funnel(module: &CompiledModule) -> bool {
    let mut fields = module.fields().iter();
    fields.any(|field| matches!(field.kind, FieldType::Enum { .. }))
}

impl Handler<'_> {
    pub(super) async fn funnel(&self, request: &Request) -> Result<Response, Problem> {
        let permit = self.scope.permit::<Read>(self.name())?;
        let (funnel, age) = parse(&self.scope, &self.module, request)?;
        let figures = self.figures(&permit, funnel.aggregate(), age).await;
        let (groups, cache) = figures.map_err(at_sum)?;
        let data = funnel.stages(&groups).into_iter().map(Step::from).collect();
        Ok(cache.told(body(StatusCode::OK, &Answer { data })?))
    }
}

/// What figures refuse of their metrics, a funnel refuses of the one that it is asked for.
fn at_sum(error: Error) -> Error {
    match error {
        Error::Invalid(mut refused) => {
            for one in refused.iter_mut().filter(|one| one.pointer == "/metrics") {
                one.pointer = "/sum".to_owned();
            }
            Error::Invalid(refused)
        }
        other => other,
    }
}

/// Reads the query string.
///
/// # Errors
/// 422 naming every parameter that is unknown, repeated or does not fit.
fn parse(
    scope: &Scope,
    module: &CompiledModule,
    request: &Request,
) -> Result<(Funnel, Option<MaxAge>), Problem> {
    let (parameters, mut refused) = parameters(request)?;
    let (mut field, mut without, mut sum, mut search) = (None, Vec::new(), None, None);
    let (mut conditions, mut age) = (Vec::new(), None);
    for (name, text) in &parameters {
        match name.as_str() {
            "field" => field = Some(text.as_str()),
            "without" => without.extend(text.split(',')),
            "sum" => sum = Some(text.as_str()),
            "search" => search = Some(text.clone()),
            "max_age" => match max_age(text) {
                Ok(seconds) => age = Some(seconds),
                Err(error) => refused.push(error),
            },
            _ => match Filter::of_parameter(scope, module, name, text) {
                Ok(filter) => conditions.push(filter),
                Err(error) => refused.push(error),
            },
        }
    }
    let funnel = match field {
        Some(field) => Funnel::new(module, field, &without, sum),
        None => {
            let message = "Name the enum field whose values are the steps.";
            Err(FieldError::new("field", "required", message))
        }
    };
    match (funnel, Filter::all(conditions)) {
        (Ok(funnel), Ok(filter)) if refused.is_empty() => Ok((funnel.of(filter, search), age)),
        (funnel, filter) => {
            refused.extend(funnel.err());
            refused.extend(filter.err());
            Err(Error::Invalid(refused).into())
        }
    }
}

/// The funnel on the wire.
#[derive(Serialize)]
struct Answer {
    data: Vec<Step>,
}

#[derive(Serialize)]
struct Step {
    state: String,
    count: i64,
    reached: i64,
    conversion: Option<String>,
    conversion_to_next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sum: Option<Value>,
}

impl From<Stage> for Step {
    fn from(stage: Stage) -> Self {
        Self {
            state: stage.state,
            count: stage.count,
            reached: stage.reached,
            conversion: stage.conversion.map(|share| share.to_string()),
            conversion_to_next: stage.conversion_to_next.map(|share| share.to_string()),
            sum: stage.sum,
        }
    }
}
