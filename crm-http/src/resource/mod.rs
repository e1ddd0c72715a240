//! The fixed resources: each file holds one resource with its requests, replies, words and handlers.
//!
//! This file owns what they share: the routing table made from their declarations, with `Allow` on
//! wrong methods and a refusal of query parameters that no operation declares.

mod api_key;
mod audit;
mod auth;
mod health;
mod member;
mod role;

use std::collections::HashMap;
use std::sync::Arc;

use crm_core::{Crm, Error, FieldError};
use poem::endpoint::{BoxEndpoint, Endpoint};
use poem::http::{HeaderValue, Method};
use poem::{Request, Response, Route};
use poem_openapi::__private::UrlQuery;
use poem_openapi::registry::{MetaOperation, MetaParamIn};
use poem_openapi::OpenApi;

use crate::edge::{Exchange, Template};
use crate::problem::Problem;

/// All fixed resources.
pub(crate) fn api(crm: &Crm) -> impl OpenApi + use<> {
    (
        auth::Auth { crm: crm.clone() },
        member::Members { crm: crm.clone() },
        role::Roles { crm: crm.clone() },
        api_key::ApiKeys { crm: crm.clone() },
        audit::Audit { crm: crm.clone() },
        health::Health { crm: crm.clone() },
    )
}

/// The routing table of `api`.
///
/// poem-openapi's own would turn errors into text answers before the edge sees them.
pub(crate) fn routes<T: OpenApi>(api: T) -> Route {
    let mut declared: HashMap<String, (Arc<str>, Vec<MetaOperation>)> = HashMap::new();
    for path in T::meta().into_iter().flat_map(|api| api.paths) {
        declared.insert(pattern(&path.path), (path.path.into(), path.operations));
    }
    let mut table = HashMap::new();
    api.add_routes(&mut table);
    table
        .into_iter()
        .fold(Route::new(), |route, (path, methods)| {
            let (template, operations) = declared.remove(&path).unwrap_or_default();
            let methods = methods.into_iter().map(|(method, endpoint)| {
                let operation = operations
                    .iter()
                    .find(|operation| operation.method == method);
                let query = operation.map(query_names).unwrap_or_default();
                (method, Operation { endpoint, query })
            });
            route.at(
                path,
                Resource {
                    template,
                    methods: methods.collect(),
                },
            )
        })
}

/// `/a/{b}/{c}` as the framework's router writes it: `/a/:param0/:param1`.
fn pattern(template: &str) -> String {
    let mut count = 0;
    let segments = template.split('/').map(|segment| {
        if segment.starts_with('{') {
            count += 1;
            format!(":param{}", count - 1)
        } else {
            segment.to_owned()
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

fn query_names(operation: &MetaOperation) -> Vec<String> {
    let in_query = operation
        .params
        .iter()
        .filter(|param| param.in_type == MetaParamIn::Query);
    in_query.map(|param| param.name.clone()).collect()
}

struct Resource {
    template: Arc<str>,
    methods: HashMap<Method, Operation>,
}

struct Operation {
    endpoint: BoxEndpoint<'static>,
    query: Vec<String>,
}

impl Endpoint for Resource {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        Exchange::of(&request)?.note_template(Template::Fixed(self.template.clone()));
        let Some(operation) = self.methods.get(request.method()) else {
            return Err(Problem::method_not_allowed(allow(self.methods.keys())).into());
        };
        let query: Vec<(String, String)> = request.params().map_err(|_| unreadable_query())?;
        refuse_unknown(&query, &operation.query)?;
        request.extensions_mut().insert(UrlQuery(query));
        operation.endpoint.call(request).await
    }
}

/// The value of `Allow`, in a fixed order.
pub(crate) fn allow<'a>(methods: impl Iterator<Item = &'a Method>) -> HeaderValue {
    let mut names: Vec<&str> = methods.map(Method::as_str).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.sort_unstable();
    HeaderValue::try_from(names.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// A query string that is not `application/x-www-form-urlencoded`.
pub(crate) fn unreadable_query() -> Problem {
    Error::invalid("", "malformed", "The query string cannot be read.").into()
}

fn refuse_unknown(query: &[(String, String)], known: &[String]) -> Result<(), Problem> {
    let unknown = query
        .iter()
        .filter(|(name, _)| !known.contains(name))
        .map(|(name, _)| {
            FieldError::new(
                name,
                "unknown_parameter",
                "This operation has no such parameter.",
            )
        });
    let unknown: Vec<FieldError> = unknown.collect();
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(Error::Invalid(unknown).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_become_router_patterns() {
        assert_eq!(pattern("/api/v1/roles"), "/api/v1/roles");
        assert_eq!(pattern("/a/{id}/b/{other}"), "/a/:param0/b/:param1");
    }

    #[test]
    fn xc_17_allow_lists_the_methods_in_order() {
        assert_eq!(allow([Method::POST, Method::GET].iter()), "GET, HEAD, POST");
    }
}
