//! The routing table of the fixed resources, made from their declarations.
//!
//! What an operation declares is enforced before its handler runs: the credential, the permission,
//! the query parameters. An operation that takes a credential and declares no permission does not
//! start.

use std::collections::HashMap;
use std::sync::Arc;

use crm_core::platform::{Platform, PlatformPermission};
use crm_core::policy::{self, Catalogue};
use crm_core::{Error, FieldError, Scope};
use poem::endpoint::{BoxEndpoint, Endpoint};
use poem::http::header::AUTHORIZATION;
use poem::http::{HeaderValue, Method, StatusCode};
use poem::{Request, Response, Route};
use poem_openapi::__private::UrlQuery;
use poem_openapi::OpenApi;
use poem_openapi::registry::{MetaOperation, MetaParamIn};

use crate::credential;
use crate::edge::{Exchange, Template};
use crate::openapi::{SIGNED, permission_in, platform_permission_in};
use crate::problem::Problem;

/// What the words of an operation say that needs a credential and no permission.
const ANY_CALLER: &str = "Permission: none.";

/// The routing table of `api`.
///
/// poem-openapi's own would turn errors into text answers before the edge sees them.
///
/// # Errors
/// [`Error::Configuration`] for an operation whose permission is missing or unknown.
pub(crate) fn routes<T: OpenApi>(api: T, catalogue: &Catalogue) -> Result<Route, Error> {
    let mut declared: HashMap<String, (Arc<str>, Vec<MetaOperation>)> = HashMap::new();
    for path in T::meta().into_iter().flat_map(|api| api.paths) {
        declared.insert(pattern(&path.path), (path.path.into(), path.operations));
    }
    let mut table = HashMap::new();
    api.add_routes(&mut table);
    let mut route = Route::new();
    for (path, endpoints) in table {
        let (template, operations) = declared.remove(&path).unwrap_or_default();
        let mut methods = HashMap::new();
        for (method, endpoint) in endpoints {
            let meta = operations
                .iter()
                .find(|operation| operation.method == method);
            let meta = meta.ok_or_else(|| {
                Error::Configuration(format!("{method} {path} is served and not declared").into())
            })?;
            let guard = Guard::declared(meta, &template, catalogue)?;
            let query = query_names(meta);
            methods.insert(
                method,
                Operation {
                    endpoint,
                    guard,
                    query,
                },
            );
        }
        route = route.at(path, Resource { template, methods });
    }
    Ok(route)
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

/// Whether signed messages are taken beside credentials.
fn is_signed(operation: &MetaOperation) -> bool {
    let mut schemes = operation.security.iter().flat_map(|scheme| scheme.keys());
    schemes.any(|scheme| *scheme == SIGNED)
}

fn query_names(operation: &MetaOperation) -> Vec<String> {
    let in_query = operation
        .params
        .iter()
        .filter(|param| param.in_type == MetaParamIn::Query);
    in_query.map(|param| param.name.clone()).collect()
}

/// Who may call an operation.
enum Guard {
    /// Everybody.
    Open,
    /// Whoever holds a credential.
    Caller,
    /// Whoever holds this permission.
    Permission(policy::Operation),
    /// Whoever holds this permission, or signs the message, which the operation itself looks into.
    Sender(policy::Operation),
    /// Operators who hold this permission of the platform; there is nothing for others.
    Platform(PlatformPermission),
}

/// Who is let pass.
#[derive(Default)]
struct Admitted {
    scope: Option<Scope>,
    platform: Option<Platform>,
}

impl Guard {
    fn declared(
        operation: &MetaOperation,
        template: &str,
        catalogue: &Catalogue,
    ) -> Result<Self, Error> {
        if operation.security.is_empty() {
            return Ok(Self::Open);
        }
        let words = operation.description.unwrap_or_default();
        if let Some(permission) = platform_permission_in(words) {
            return permission.parse().map(Self::Platform);
        }
        let Some(permission) = permission_in(words) else {
            if words.contains(ANY_CALLER) {
                return Ok(Self::Caller);
            }
            let method = &operation.method;
            let line = format!("{method} {template} declares no permission");
            return Err(Error::Configuration(line.into()));
        };
        let known = permission.split_once('.');
        match known.and_then(|(object, action)| catalogue.operation(object, action)) {
            Some(known) if is_signed(operation) => Ok(Self::Sender(known)),
            Some(known) => Ok(Self::Permission(known)),
            None => Err(Error::Configuration(
                format!("{template} declares the unknown permission {permission}").into(),
            )),
        }
    }

    /// The caller's scope, once the guard lets them pass.
    async fn admit(&self, request: &Request) -> Result<Admitted, Problem> {
        let sender = matches!(self, Self::Sender(_));
        if matches!(self, Self::Open) || (sender && credential::is_signed(request)) {
            return Ok(Admitted::default());
        }
        let exchange = Exchange::of(request)?;
        if sender && !request.headers().contains_key(AUTHORIZATION) {
            return Err(credential::unsigned(exchange, request));
        }
        let scope = credential::scope(exchange, request).await?;
        let mut platform = None;
        if let Self::Platform(permission) = self {
            let found = exchange.app.crm.platform(&scope).await?;
            found.check(*permission)?;
            platform = Some(found);
        }
        if let Self::Permission(operation) | Self::Sender(operation) = self
            && scope.grants().decide(*operation).is_none()
        {
            return Err(scope.lacks(*operation).into());
        }
        Ok(Admitted {
            scope: Some(scope),
            platform,
        })
    }
}

struct Resource {
    template: Arc<str>,
    methods: HashMap<Method, Operation>,
}

struct Operation {
    endpoint: BoxEndpoint<'static>,
    guard: Guard,
    query: Vec<String>,
}

impl Endpoint for Resource {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        Exchange::of(&request)?.note_template(Template::Fixed(self.template.clone()));
        let Some(operation) = self.methods.get(request.method()) else {
            return Err(Problem::method_not_allowed(allow(self.methods.keys())).into());
        };
        let admitted = operation.guard.admit(&request).await?;
        if let Some(scope) = admitted.scope {
            request.extensions_mut().insert(scope);
        }
        if let Some(platform) = admitted.platform {
            request.extensions_mut().insert(platform);
        }
        let query: Vec<(String, String)> = request.params().map_err(|_| unreadable_query())?;
        check_names(&query, &operation.query)?;
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

/// Refuses a query string that is not UTF-8 once its escapes are read: whoever decodes it would take
/// other text for it.
pub(crate) fn check_query(request: &Request) -> Result<(), Problem> {
    let query = request.uri().query().unwrap_or_default();
    let mut parts = query.split('%');
    let mut read = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let part = part.as_bytes();
        let mut byte = [0];
        match part.split_at_checked(2) {
            Some((digits, behind)) if hex::decode_to_slice(digits, &mut byte).is_ok() => {
                read.extend(byte);
                read.extend(behind);
            }
            _ => read.extend(part),
        }
    }
    std::str::from_utf8(&read).map_err(|_| unreadable_query())?;
    Ok(())
}

/// A query string that is not `application/x-www-form-urlencoded`.
pub(crate) fn unreadable_query() -> Problem {
    let detail = "the query string is not percent-encoded UTF-8";
    Problem::new(StatusCode::BAD_REQUEST, "malformed_query", detail)
}

/// Refuses parameters that the operation does not know, and those that are given again.
fn check_names(query: &[(String, String)], known: &[String]) -> Result<(), Problem> {
    let (mut seen, mut refused) = (Vec::new(), Vec::new());
    for (name, _) in query {
        if !known.contains(name) {
            let message = "This operation has no such parameter.";
            refused.push(FieldError::new(name, "unknown_parameter", message));
        } else if seen.contains(&name) {
            refused.push(FieldError::new(
                name,
                "repeated",
                "Give this parameter once.",
            ));
        } else {
            seen.push(name);
        }
    }
    match refused.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid(refused).into()),
    }
}

#[cfg(test)]
mod tests {
    use poem_openapi::payload::PlainText;

    use super::*;
    use crate::credential::Caller;

    struct Careless;

    #[OpenApi]
    impl Careless {
        /// Words without a declaration
        #[oai(path = "/careless", method = "get")]
        async fn get(&self, _caller: Caller) -> PlainText<&'static str> {
            PlainText("")
        }
    }

    struct Unknown;

    #[OpenApi]
    impl Unknown {
        /// A permission that nobody can hold
        ///
        /// Permission: `moons.read`.
        #[oai(path = "/unknown", method = "get")]
        async fn get(&self, _caller: Caller) -> PlainText<&'static str> {
            PlainText("")
        }
    }

    #[test]
    fn an_operation_without_a_known_permission_does_not_start() {
        let catalogue = Catalogue::new(["contacts"]).unwrap();
        let refusal = |route: Result<Route, Error>| route.err().unwrap().to_string();
        let line = refusal(routes(Careless, &catalogue));
        assert_eq!(line, "GET /careless declares no permission");
        let line = refusal(routes(Unknown, &catalogue));
        assert_eq!(line, "/unknown declares the unknown permission moons.read");
    }

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
