//! Cross-origin access for the origins the operator names; by default none.
//!
//! Preflight requests are answered before authentication, as the Fetch standard wants. Credentials
//! mode stays off: this API reads no cookies.

use poem::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
    VARY,
};
use poem::http::{HeaderMap, HeaderValue, Method, StatusCode};
use poem::{Request, Response};

/// The origins that may read answers; `*` stands for every origin.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cors {
    origins: Vec<String>,
}

impl Cors {
    pub(crate) fn new(origins: Vec<String>) -> Self {
        Self { origins }
    }

    /// What to answer with in `Access-Control-Allow-Origin`, when the request's origin may read.
    pub(crate) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        if self.origins.iter().any(|known| known == "*") {
            return Some(const { HeaderValue::from_static("*") });
        }
        self.origins
            .iter()
            .any(|known| known.as_bytes() == origin.as_bytes())
            .then(|| origin.clone())
    }

    /// The answer to a preflight request of an allowed origin.
    pub(crate) fn preflight(request: &Request) -> Option<Response> {
        let asks = request.method() == Method::OPTIONS
            && request
                .headers()
                .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        asks.then(|| {
            Response::builder()
                .status(StatusCode::NO_CONTENT)
                .header(
                    ACCESS_CONTROL_ALLOW_METHODS,
                    "GET, POST, PUT, PATCH, DELETE",
                )
                .header(
                    ACCESS_CONTROL_ALLOW_HEADERS,
                    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Request-Id",
                )
                .header(ACCESS_CONTROL_MAX_AGE, "7200")
                .finish()
        })
    }

    /// Lets the browser hand the answer to the page it came from.
    pub(crate) fn expose(headers: &mut HeaderMap, origin: HeaderValue) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            const {
                HeaderValue::from_static(
                    "ETag, Idempotency-Replayed, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id",
                )
            },
        );
        headers.append(VARY, const { HeaderValue::from_static("Origin") });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(value))])
    }

    #[test]
    fn only_named_origins_may_read() {
        let cors = Cors::new(vec!["https://app.example".into()]);
        assert!(cors.allowed(&origin("https://app.example")).is_some());
        assert!(cors.allowed(&origin("https://app.example.evil")).is_none());
        assert!(cors.allowed(&HeaderMap::new()).is_none());
        assert!(
            Cors::default()
                .allowed(&origin("https://app.example"))
                .is_none()
        );
    }

    #[test]
    fn a_star_stands_for_every_origin() {
        let cors = Cors::new(vec!["*".into()]);
        assert_eq!(cors.allowed(&origin("https://any.example")).unwrap(), "*");
    }

    #[test]
    fn xc_22_only_a_preflight_is_answered_as_one() {
        let plain = Request::builder().method(Method::OPTIONS).finish();
        assert!(Cors::preflight(&plain).is_none());
        let asking = Request::builder()
            .method(Method::OPTIONS)
            .header(ACCESS_CONTROL_REQUEST_METHOD, "PATCH")
            .finish();
        assert_eq!(
            Cors::preflight(&asking).unwrap().status(),
            StatusCode::NO_CONTENT
        );
    }
}
