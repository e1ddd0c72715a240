//! `GET /{module}/aggregate`: figures about the records that a list with the same conditions shows.
//! With `max_age`, or by the module's `aggregate_ttl`, they may be some seconds old; `X-Cache` then
//! tells whether they were kept.

use std::sync::Arc;

use crm_core::module::CompiledModule;
use crm_core::record::{Aggregate, Figures, Filter, GroupKey, Groups, MaxAge, Metric};
use crm_core::{Error, FieldError, Permit, Read, Scope};
use poem::http::{HeaderName, HeaderValue, StatusCode};
use poem::{Request, Response};

use super::{Handler, body};
use crate::problem::Problem;
use crate::resource::unreadable_query;

/// The path segment.
pub(super) const AGGREGATE: &str = "aggregate";

impl Handler<'_> {
    pub(super) async fn aggregate(&self, request: &Request) -> Result<Response, Problem> {
        let permit = self.scope.permit::<Read>(self.name())?;
        let (ask, age) = parse(&self.scope, &self.module, request)?;
        let (groups, cache) = self.figures(&permit, &ask, age).await?;
        let answer = groups.to_json(&self.module, &ask)?;
        Ok(cache.told(body(StatusCode::OK, &answer)?))
    }

    /// The figures, as old as the request lets them be.
    pub(super) async fn figures(
        &self,
        permit: &Permit<Read>,
        ask: &Aggregate,
        age: Option<MaxAge>,
    ) -> Result<(Arc<Groups>, XCache), Error> {
        let records = self.exchange.app.crm.records();
        let Some(age) = MaxAge::of(&self.module, age) else {
            let groups = records.aggregate(permit, ask).await?;
            return Ok((Arc::new(groups), XCache(None)));
        };
        let Figures { groups, kept } = records.figures(permit, ask, age).await?;
        Ok((groups, XCache(Some(if kept { "HIT" } else { "MISS" }))))
    }
}

/// Whether an answer was kept; nothing where none may be.
pub(super) struct XCache(Option<&'static str>);

impl XCache {
    pub(super) fn told(self, mut response: Response) -> Response {
        const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
        if let Some(word) = self.0 {
            let headers = response.headers_mut();
            headers.insert(X_CACHE, HeaderValue::from_static(word));
        }
        response
    }
}

/// Parameters, each given once: name and text.
type Parameters = Vec<(String, String)>;

/// The parameters, and the refusals of those that are given again.
pub(super) fn parameters(request: &Request) -> Result<(Parameters, Vec<FieldError>), Problem> {
    let given: Parameters = match request.uri().query() {
        None | Some("") => Vec::new(),
        Some(_) => request.params().map_err(|_| unreadable_query())?,
    };
    let (mut once, mut refused) = (Vec::with_capacity(given.len()), Vec::new());
    for (name, text) in given {
        if once.iter().any(|(known, _)| *known == name) {
            let message = "Give this parameter once.";
            refused.push(FieldError::new(&name, "repeated", message));
        } else {
            once.push((name, text));
        }
    }
    Ok((once, refused))
}

/// Reads `max_age`.
pub(super) fn max_age(text: &str) -> Result<MaxAge, FieldError> {
    let refuse = || {
        let message = format!(
            "This must be a number of seconds from 0 to {}.",
            MaxAge::MOST
        );
        FieldError::new("max_age", "out_of_range", message)
    };
    let seconds = text.parse().map_err(|_| refuse())?;
    MaxAge::seconds(seconds).map_err(|_| refuse())
}

/// Reads the query string.
///
/// # Errors
/// 422 naming every parameter that is unknown, repeated or does not fit.
fn parse(
    scope: &Scope,
    module: &CompiledModule,
    request: &Request,
) -> Result<(Aggregate, Option<MaxAge>), Problem> {
    let (parameters, mut refused) = parameters(request)?;
    let (mut ask, mut conditions, mut age) = (Aggregate::default(), Vec::new(), None);
    for (name, text) in &parameters {
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
                "max_age" => max_age(text).map(|seconds| age = Some(seconds)),
                _ => Filter::of_parameter(scope, module, name, text)
                    .map(|filter| conditions.push(filter)),
            };
        refused.extend(outcome.err());
    }
    if !parameters.iter().any(|(name, _)| name == "metrics") {
        let message = "Name the figures, such as metrics=count.";
        refused.push(FieldError::new("metrics", "required", message));
    }
    match Filter::all(conditions) {
        Ok(filter) => ask.filter = filter,
        Err(error) => refused.push(error),
    }
    match refused.is_empty() {
        true => Ok((ask, age)),
        false => Err(Error::Invalid(refused).into()),
    }
}

fn parts<T>(
    text: &str,
    read: impl Fn(&str) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    text.split(',').map(read).collect()
}
