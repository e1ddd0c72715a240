//! The outermost endpoint: everything that holds for every request, whichever resource answers it.
//!
//! Request id, deadline, panics, problems, security headers, cross-origin access and the access log
//! live here and nowhere else.

use std::fmt;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crm_core::id::TenantId;
use crm_core::module::CompiledModule;
use crm_core::{Actor, Crm, Error, RateLimit, Scope};
use futures::FutureExt as _;
use poem::http::header::AUTHORIZATION;
use poem::http::{Method, StatusCode};
use poem::{Endpoint, Request, Response, Route};

use crate::cors::Cors;
use crate::guard::{self, Guard, Outcome};
use crate::openapi::OpenApi;
use crate::problem::Problem;
use crate::proxy::TrustedProxies;
use crate::resource::{allow, check_query};
use crate::{credential, docs, modules, problem, request_id, security_headers};

/// Where sessions are opened and refreshed.
const SESSIONS: &str = "/api/v1/auth/";
/// What login pages ask before anybody has logged in.
const LOGIN_PROVIDERS: &str = "/api/v1/auth/oidc";

/// What the front end allows a request.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Most bytes of a JSON body.
    pub body_limit: usize,
    /// Most bytes of an uploaded plugin.
    pub upload_limit: usize,
    /// Most bytes of a file to import.
    pub import_limit: u64,
    /// How long a request may take before it is answered with 503.
    pub deadline: Duration,
    /// The same, for uploads and rehearsals of plugins, where that is longer: they wait for the compiler
    /// and for its work.
    pub upload_deadline: Duration,
    /// Origins whose pages may call the API from a browser; `*` allows every origin.
    pub cors_origins: Vec<String>,
    /// Whether answers tell browsers to insist on HTTPS; set it behind a TLS proxy.
    pub hsts: bool,
    /// The URL prefix that clients see, when a proxy or a host application adds one.
    pub public_url: String,
    /// The proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: TrustedProxies,
    /// How many requests a minute an address may send to open or refresh sessions; 0 for no limit.
    pub sign_in_limit: u32,
    /// How many requests a minute a user or API key may send, or an address whose credentials do not
    /// hold; 0 for no limit.
    pub rate_limit: u32,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            body_limit: 1024 * 1024,
            upload_limit: 32 * 1024 * 1024,
            import_limit: 256 * 1024 * 1024,
            deadline: Duration::from_secs(30),
            // A minute for its turn, one for the compiler, two for its work, and one for the rest.
            upload_deadline: Duration::from_secs(5 * 60),
            cors_origins: Vec::new(),
            hsts: false,
            public_url: String::new(),
            trusted_proxies: TrustedProxies::default(),
            sign_in_limit: 300,
            rate_limit: 0,
        }
    }
}

/// What all requests share.
pub(crate) struct App {
    pub(crate) crm: Crm,
    pub(crate) options: HttpOptions,
    pub(crate) openapi: OpenApi,
    pub(crate) fixed: Route,
    pub(crate) cors: Cors,
    pub(crate) guard: Guard,
}

/// One request on its way: its id, and what is learned about it for the access log.
pub(crate) struct Exchange {
    pub(crate) app: Arc<App>,
    pub(crate) request_id: Arc<str>,
    /// Who asks, who acts in their name if somebody does, and in which tenant.
    caller: OnceLock<(Actor, Option<Actor>, TenantId)>,
    template: OnceLock<Template>,
    left: OnceLock<RateLimit>,
    /// How long it may take, where its operation says that this is longer than usual.
    longer: OnceLock<Duration>,
}

/// A path with its variables unfilled, which groups log lines.
pub(crate) enum Template {
    /// Of a fixed resource.
    Fixed(Arc<str>),
    /// Of a module: its collection, or what lies below it.
    Module {
        /// Which module.
        module: Arc<CompiledModule>,
        /// The rest of the path; empty for the collection.
        below: &'static str,
    },
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(path) => f.write_str(path),
            Self::Module { module, below } => modules::write_template(f, module, below),
        }
    }
}

impl Exchange {
    fn new(app: &Arc<App>, request: &Request) -> Arc<Self> {
        Arc::new(Self {
            request_id: request_id::of(request.headers(), app.crm.clock()).into(),
            app: app.clone(),
            caller: OnceLock::new(),
            template: OnceLock::new(),
            left: OnceLock::new(),
            longer: OnceLock::new(),
        })
    }

    /// The exchange of a request that came through the edge.
    ///
    /// # Errors
    /// When a host mounted a resource without the edge.
    pub(crate) fn of(request: &Request) -> Result<&Arc<Self>, Problem> {
        let missing = || Error::internal("the request did not come through the edge").into();
        request.extensions().get::<Arc<Self>>().ok_or_else(missing)
    }

    /// Notes who asks, and whose data the request is about.
    pub(crate) fn note_caller(&self, scope: &Scope) {
        // A second credential in one request cannot happen; the first would stand.
        let caller = (scope.actor(), scope.impersonator(), scope.tenant());
        let _ = self.caller.set(caller);
    }

    /// Lets the request pass or not, and keeps what is left of the limit for the answer.
    ///
    /// # Errors
    /// [`Error::TooMany`] when nothing is left.
    pub(crate) fn pass(&self, (left, outcome): Outcome) -> Result<(), Error> {
        outcome?;
        if let Some(left) = left {
            // The first limit that a request meets is the one it is told of.
            let _ = self.left.set(left);
        }
        Ok(())
    }

    /// The limit that an answer of this status tells of: a refusal brings the one that refused. The
    /// waits of an account or of registrations are no limits: they have `Retry-After` alone.
    fn told(&self, status: StatusCode) -> Option<&RateLimit> {
        let refused = status == StatusCode::TOO_MANY_REQUESTS;
        self.left.get().filter(|_| !refused)
    }

    /// Lets the request take as long as an upload may.
    pub(crate) fn allow_upload(&self) {
        let _ = self.longer.set(self.app.options.upload_deadline);
    }

    /// Notes which resource the request is about.
    pub(crate) fn note_template(&self, template: Template) {
        let _ = self.template.set(template);
    }
}

/// The front end as one endpoint.
pub(crate) struct Edge {
    pub(crate) app: Arc<App>,
}

impl Endpoint for Edge {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let started = Instant::now();
        let exchange = Exchange::new(&self.app, &request);
        let origin = self.app.cors.allowed(request.headers());
        let method = request.method().clone();
        let address = credential::address(&exchange, &request);
        if method == Method::HEAD {
            // RFC 9110 §9.3.2: as GET; the connection leaves the body out.
            request.set_method(Method::GET);
        }

        let outcome = match origin.as_ref().and_then(|_| Cors::preflight(&request)) {
            Some(answer) => Ok(answer),
            None => run(&exchange, request).await,
        };
        let (mut response, problem) = match outcome {
            Ok(response) => (response, None),
            Err(problem) => {
                problem.log(&exchange.request_id);
                (problem.response(&exchange.request_id), Some(problem))
            }
        };

        let told = exchange.told(response.status());
        let headers = response.headers_mut();
        headers.insert(request_id::HEADER, request_id::header(&exchange.request_id));
        if let Some(left) = told {
            guard::tell(left, headers);
        }
        security_headers::apply(headers, self.app.options.hsts);
        if let Some(origin) = origin {
            Cors::expose(headers, origin);
        }
        let told = (response.status(), problem.as_ref());
        log(&exchange, &method, told, address, started.elapsed());
        Ok(response)
    }
}

/// Answers within the deadline, whatever a handler does; within a longer one, where it says so before
/// the usual one is over.
async fn run(exchange: &Arc<Exchange>, request: Request) -> Result<Response, Problem> {
    let begun = tokio::time::Instant::now();
    let deadline = modules::deadline(&exchange.app.options, &request);
    let answer = AssertUnwindSafe(dispatch(exchange, request)).catch_unwind();
    let mut answer = std::pin::pin!(answer);
    let mut answered = tokio::time::timeout(deadline, &mut answer).await;
    if answered.is_err()
        && let Some(longer) = exchange.longer.get()
    {
        answered = tokio::time::timeout_at(begun + *longer, answer).await;
    }
    match answered {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_panic)) => Err(Error::internal("a handler panicked").into()),
        Err(_elapsed) => Err(Problem::deadline()),
    }
}

async fn dispatch(exchange: &Arc<Exchange>, mut request: Request) -> Result<Response, Problem> {
    check_query(&request)?;
    let app = &exchange.app;
    if let Some(call) = modules::Call::of(app, &request) {
        return call.answer(exchange, request).await;
    }
    let page = match request.uri().path() {
        "/openapi.json" => {
            let scope = match request.headers().contains_key(AUTHORIZATION) {
                true => Some(credential::scope(exchange, &request).await?),
                false => None,
            };
            Some(app.openapi.answer(&app.crm, scope.as_ref()).await?)
        }
        path => docs::page(path),
    };
    if let Some(page) = page {
        let get = request.method() == Method::GET;
        return if get {
            Ok(page)
        } else {
            Err(Problem::method_not_allowed(allow([Method::GET].iter())))
        };
    }
    let path = request.uri().path();
    if request.method() == Method::POST && path.starts_with(SESSIONS) || path == LOGIN_PROVIDERS {
        let address = credential::address(exchange, &request);
        exchange.pass(app.guard.sign_in(address))?;
    }
    request.extensions_mut().insert(exchange.clone());
    app.fixed.call(request).await.map_err(problem::from_poem)
}

/// The line of the access log. Of a refusal it tells the code, the permission that lacks and the client's
/// address, which no other line has.
fn log(
    exchange: &Exchange,
    method: &Method,
    (status, problem): (StatusCode, Option<&Problem>),
    address: Option<IpAddr>,
    took: Duration,
) {
    let caller = exchange.caller.get();
    tracing::info!(
        target: "crm::access",
        method = method.as_str(),
        path = exchange.template.get().map(tracing::field::display),
        status = status.as_u16(),
        code = problem.map_or("", Problem::code),
        permission = problem.and_then(Problem::permission),
        address = address.filter(|_| problem.is_some()).map(tracing::field::display),
        duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        actor = caller.map(|(actor, ..)| tracing::field::display(actor)),
        impersonator = caller.and_then(|(_, by, _)| by.map(tracing::field::display)),
        tenant = caller.map(|(.., tenant)| tracing::field::display(tenant)),
        request_id = &*exchange.request_id,
    );
}

#[cfg(test)]
mod tests {
    use crm_core::module::default_modules;
    use poem::endpoint::make;

    use super::*;

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_with_500_and_the_server_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let crm = Crm::builder()
            .database(format!(
                "sqlite://{}",
                folder.path().join("crm.db").display()
            ))
            .secret("a secret of the tests, long enough for any of them".into())
            .modules(default_modules());
        let crm = crm.build().await.unwrap();
        let fixed = Route::new().at(
            "/panic",
            make(|_| async { panic!("on purpose") as Response }),
        );
        let app = App {
            crm: crm.clone(),
            options: HttpOptions::default(),
            openapi: OpenApi::new("{}", "").unwrap(),
            fixed,
            cors: Cors::default(),
            guard: Guard::new(0, 0, crm.clock()),
        };
        let edge = Edge { app: Arc::new(app) };
        for _ in 0..2 {
            let response = edge
                .get_response(Request::builder().uri_str("/panic").finish())
                .await;
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let body = response.into_body().into_string().await.unwrap();
            assert!(
                body.contains("internal") && !body.contains("purpose"),
                "{body}"
            );
        }
        crm.close().await;
    }
}
