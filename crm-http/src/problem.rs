//! Errors on the wire: RFC 9457 `application/problem+json` with a stable `code`.
//!
//! Whatever goes wrong behind this edge, a library error or one of the framework, becomes one
//! [`Problem`]. It refuses to carry causes to a client: they go to the log, once.

use std::borrow::Cow;
use std::error::Error as _;
use std::fmt::Write as _;

use crm_core::error::RefusalKind;
use crm_core::{Error, FieldError};
use poem::Response;
use poem::error::ResponseError;
use poem::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use poem::http::{HeaderName, HeaderValue, StatusCode};
use poem_openapi::error::{ContentTypeError, ParseParamError, ParsePathError};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use uuid::Uuid;

use crate::guard;

/// The media type of every error body.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// A failed request, ready to be rendered.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Problem(Box<Inner>);

#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
struct Inner {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    header: Option<(HeaderName, HeaderValue)>,
    /// The run of a plugin that it is about.
    run: Option<Uuid>,
    #[source]
    source: Option<Error>,
}

impl Problem {
    /// A problem of this edge itself, without a library error behind it.
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Inner {
            status,
            code,
            detail: detail.into(),
            errors: Vec::new(),
            header: None,
            run: None,
            source: None,
        }))
    }

    /// The body is not JSON.
    pub(crate) fn malformed_json(detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed_json", detail)
    }

    /// An object of the body names a member twice.
    pub(crate) fn duplicate_key(key: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "duplicate_key",
            format!("the JSON body names \"{key}\" twice in one object"),
        )
    }

    /// The body has a media type or coding that this operation does not read.
    pub(crate) fn unsupported_media_type(expected: &'static str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            format!("send the body as {expected}, without a Content-Encoding"),
        )
    }

    /// The path exists, with other methods.
    pub(crate) fn method_not_allowed(allow: HeaderValue) -> Self {
        let mut problem = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this resource does not know the method; see the Allow header",
        );
        problem.0.header = Some((ALLOW, allow));
        problem
    }

    /// The request took longer than it may.
    pub(crate) fn deadline() -> Self {
        Error::unavailable("the request took too long; try again").into()
    }

    /// The same problem, of this run of a plugin.
    pub(crate) fn of_run(mut self, run: Uuid) -> Self {
        self.0.run = Some(run);
        self
    }

    /// The same problem, told of a part of what was sent.
    pub(crate) fn about(mut self, part: &str) -> Self {
        self.0.detail = format!("{part}: {}", self.0.detail).into();
        self
    }

    /// The same problem, with its place among the `errors`, where it is the caller's and they name none.
    pub(crate) fn at(mut self, pointer: String) -> Self {
        if self.0.errors.is_empty() && self.0.status.is_client_error() {
            self.0.errors.push(FieldError {
                pointer,
                code: self.0.code,
                message: self.0.detail.to_string(),
            });
        }
        self
    }

    /// The problem as the outcome of one operation among others.
    pub(crate) fn result(&self) -> serde_json::Value {
        let mut result = serde_json::json!({
            "status": self.0.status.as_u16(),
            "code": self.0.code,
            "detail": self.0.detail,
        });
        if !self.0.errors.is_empty() {
            let errors = self.0.errors.iter().map(|field| {
                serde_json::json!({
                    "pointer": field.pointer, "code": field.code, "detail": field.message,
                })
            });
            result["errors"] = errors.collect();
        }
        result
    }

    /// The code, for the access log.
    pub(crate) fn code(&self) -> &'static str {
        self.0.code
    }

    /// The permission that lacks, for the access log.
    pub(crate) fn permission(&self) -> Option<&str> {
        match &self.0.source {
            Some(Error::Forbidden { permission }) => Some(permission),
            _ => None,
        }
    }

    /// The refused fields.
    #[cfg(test)]
    pub(crate) fn into_fields(self) -> Vec<FieldError> {
        self.0.errors
    }

    /// Writes what a client may not see to the log.
    pub(crate) fn log(&self, request_id: &str) {
        if !self.0.status.is_server_error() {
            return;
        }
        let Some(error) = &self.0.source else { return };
        let mut causes = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            // Writing to a string cannot fail.
            let _ = write!(causes, ": {cause}");
            next = cause.source();
        }
        if matches!(error, Error::Unavailable { source: None, .. }) {
            // Nothing failed here: a queue is full, or something outside is away and was told of.
            tracing::warn!(
                request_id,
                code = self.0.code,
                error = causes,
                "a request was put off"
            );
            return;
        }
        tracing::error!(
            request_id,
            code = self.0.code,
            error = causes,
            "a request failed"
        );
    }

    /// The answer, naming the request.
    pub(crate) fn response(&self, request_id: &str) -> Response {
        let (mut mfa_token, mut mfa_enrolled, mut mfa_passkey) = (None, None, None);
        let mut score = None;
        if let Some(Error::SecondFactor {
            token,
            enrolled,
            passkey,
            password_score,
        }) = &self.0.source
        {
            mfa_token = Some(token.expose_secret());
            (mfa_enrolled, mfa_passkey) = (Some(*enrolled), Some(*passkey));
            score = *password_score;
        }
        let body = Body {
            kind: "about:blank",
            title: self.0.status.canonical_reason().unwrap_or("Error"),
            status: self.0.status.as_u16(),
            detail: &self.0.detail,
            code: self.0.code,
            request_id,
            errors: self.0.errors.iter().map(Field::from).collect(),
            run_id: self.0.run,
            mfa_token,
            mfa_enrolled,
            mfa_passkey,
            password_score: score,
        };
        let mut response = Response::builder()
            .status(self.0.status)
            .header(CONTENT_TYPE, MEDIA_TYPE)
            // Text, numbers and lists only: serialising them cannot fail.
            .body(serde_json::to_vec(&body).unwrap_or_default());
        let headers = response.headers_mut();
        if let Some((name, value)) = &self.0.header {
            headers.insert(name, value.clone());
        }
        if let Some(Error::TooMany {
            limit: Some(limit), ..
        }) = &self.0.source
        {
            guard::tell(limit, headers);
        }
        response
    }
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Field<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mfa_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mfa_enrolled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mfa_passkey: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_score: Option<u8>,
}

#[derive(Serialize)]
struct Field<'a> {
    pointer: &'a str,
    code: &'static str,
    detail: &'a str,
}

impl<'a> From<&'a FieldError> for Field<'a> {
    fn from(field: &'a FieldError) -> Self {
        Self {
            pointer: &field.pointer,
            code: field.code,
            detail: &field.message,
        }
    }
}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.0.status
    }

    // Reached only when a host mounts a single resource without the edge around it.
    fn as_response(&self) -> Response {
        self.response("")
    }
}

impl poem_openapi::ApiResponse for Problem {
    fn meta() -> poem_openapi::registry::MetaResponses {
        // The generator adds the error answers of every operation in one place.
        poem_openapi::registry::MetaResponses {
            responses: Vec::new(),
        }
    }

    fn register(_registry: &mut poem_openapi::registry::Registry) {}
}

/// Most errors that one answer names.
const MOST_ERRORS: usize = 100;

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let mut errors = Vec::new();
        let mut header = None;
        let mut detail = Cow::Owned(error.to_string());
        let status = match &error {
            Error::Invalid(fields) => {
                errors.extend(fields.iter().take(MOST_ERRORS).cloned());
                let all = fields.len();
                detail = match all > MOST_ERRORS {
                    true => Cow::Owned(format!(
                        "the input is not valid in {all} places; errors has the first {MOST_ERRORS}"
                    )),
                    false => Cow::Borrowed("the input is not valid; see errors"),
                };
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Error::Unauthenticated { .. } => {
                header = Some((WWW_AUTHENTICATE, challenge(error.code())));
                StatusCode::UNAUTHORIZED
            }
            Error::SecondFactor {
                enrolled, passkey, ..
            } => {
                detail = Cow::Borrowed(second_step(*enrolled, *passkey));
                header = Some((WWW_AUTHENTICATE, challenge(MISSING_CREDENTIAL)));
                StatusCode::UNAUTHORIZED
            }
            Error::Forbidden { .. } => StatusCode::FORBIDDEN,
            Error::NotFound => StatusCode::NOT_FOUND,
            Error::Conflict { .. } => StatusCode::CONFLICT,
            Error::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Error::PreconditionRequired => StatusCode::PRECONDITION_REQUIRED,
            Error::Refused(refusal) => {
                errors.extend(refusal.field());
                match refusal.kind() {
                    RefusalKind::BadRequest => StatusCode::BAD_REQUEST,
                    RefusalKind::Forbidden => StatusCode::FORBIDDEN,
                    RefusalKind::Conflict => StatusCode::CONFLICT,
                    RefusalKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
                }
            }
            Error::TooMany { retry_after, .. } => {
                let up = u64::from(retry_after.subsec_nanos() > 0);
                let seconds = (retry_after.as_secs() + up).max(1);
                header = Some((RETRY_AFTER, HeaderValue::from(seconds)));
                StatusCode::TOO_MANY_REQUESTS
            }
            Error::LimitExceeded { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Error::Unavailable { .. } => {
                header = Some((RETRY_AFTER, HeaderValue::from_static("1")));
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => {
                detail =
                    Cow::Borrowed("the server failed; quote the request id when you report it");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        let code = if status == StatusCode::INTERNAL_SERVER_ERROR {
            "internal"
        } else {
            error.code()
        };
        Self(Box::new(Inner {
            status,
            code,
            detail,
            errors,
            header,
            run: None,
            source: Some(error),
        }))
    }
}

/// Where a login goes on whose password was right.
fn second_step(enrolled: bool, passkey: bool) -> &'static str {
    match (enrolled, passkey) {
        (false, _) => {
            "this tenant asks for a second factor and you have none: set one up with the mfa_token \
             (POST /api/v1/auth/mfa/enroll), then finish the login with its first code \
             (POST /api/v1/auth/mfa)"
        }
        (true, false) => {
            "finish the login with a code of your second factor (POST /api/v1/auth/mfa)"
        }
        (true, true) => {
            "finish the login with a passkey (POST /api/v1/auth/mfa/passkey/options), or with a code \
             if you have one (POST /api/v1/auth/mfa)"
        }
    }
}

/// RFC 6750 §3.1: the challenge names an error only when a credential was sent.
fn challenge(code: &str) -> HeaderValue {
    if code == MISSING_CREDENTIAL {
        HeaderValue::from_static("Bearer realm=\"crm\"")
    } else {
        HeaderValue::from_static("Bearer realm=\"crm\", error=\"invalid_token\"")
    }
}

/// The code of a request without a credential.
const MISSING_CREDENTIAL: &str = "token_missing";

/// The code and the message of what is wrong with a parameter, by the framework's words for it.
fn unfit(reason: &str) -> (&'static str, &'static str) {
    if reason.contains("expects an input value.") {
        ("required", "This parameter is required.")
    } else if reason.contains("Expect a valid enumeration value.") {
        let message = "This parameter has none of the values that the API's document lists for it.";
        ("invalid", message)
    } else if reason.starts_with("verification failed") {
        let message = "This parameter is outside the bounds that the API's document gives for it.";
        ("invalid", message)
    } else {
        let message = "This parameter has not the form that the API's document gives for it.";
        ("invalid", message)
    }
}

/// An error of a handler or of the framework, as a problem.
pub(crate) fn from_poem(error: poem::Error) -> Problem {
    let error = match error.downcast::<Problem>() {
        Ok(problem) => return problem,
        Err(error) => error,
    };
    // A malformed id names nothing, like an absent one.
    if error.is::<ParsePathError>() {
        return Error::NotFound.into();
    }
    if let Some(refused) = error.downcast_ref::<ParseParamError>() {
        let (code, message) = unfit(&refused.reason);
        return Error::invalid(refused.name, code, message).into();
    }
    if error.is::<ContentTypeError>() {
        return Problem::unsupported_media_type("application/json");
    }
    match error.status() {
        StatusCode::NOT_FOUND => Error::NotFound.into(),
        status if status.is_client_error() => Problem::new(
            status,
            "bad_request",
            status
                .canonical_reason()
                .unwrap_or("the request cannot be understood"),
        ),
        _ => Error::internal(error.to_string()).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn rendered(problem: Problem) -> (StatusCode, String) {
        let response = problem.response("r-1");
        (
            response.status(),
            response.into_body().into_string().await.unwrap(),
        )
    }

    #[tokio::test]
    async fn every_kind_has_its_status() {
        let kinds = [
            (Error::invalid("email", "required", "Give an address."), 422),
            (Error::unauthenticated("token_expired", "log in again"), 401),
            (
                Error::Forbidden {
                    permission: "contacts.update".into(),
                },
                403,
            ),
            (Error::NotFound, 404),
            (Error::conflict("already_exists", "taken"), 409),
            (Error::PreconditionFailed, 412),
            (
                Error::LimitExceeded {
                    code: "body_too_large",
                    message: "1 MiB".into(),
                },
                413,
            ),
            (
                Error::TooMany {
                    retry_after: Duration::from_secs(7),
                    limit: None,
                },
                429,
            ),
            (Error::internal("boom"), 500),
            (Error::Configuration("set X".into()), 500),
            (Error::unavailable("the database does not answer"), 503),
        ];
        for (error, status) in kinds {
            let text = error.to_string();
            assert_eq!(
                Problem::from(error).response("r").status().as_u16(),
                status,
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn a_refused_field_is_named_by_pointer() {
        let error = Error::invalid("email", "required", "Give an address.");
        insta::assert_snapshot!(rendered(error.into()).await.1, @r#"{"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"the input is not valid; see errors","code":"validation_failed","request_id":"r-1","errors":[{"pointer":"/email","code":"required","detail":"Give an address."}]}"#);
    }

    #[tokio::test]
    async fn xc_25_an_internal_error_tells_the_client_nothing() {
        let (status, body) = rendered(Error::internal("secret path /etc").into()).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!body.contains("secret"), "{body}");
    }

    #[test]
    fn the_challenge_names_an_error_only_for_a_credential_that_was_sent() {
        let challenge = |error: Error| {
            let response = Problem::from(error).response("r");
            response.header(WWW_AUTHENTICATE).map(str::to_owned)
        };
        let missing = Error::unauthenticated(MISSING_CREDENTIAL, "send a token");
        assert_eq!(challenge(missing).as_deref(), Some("Bearer realm=\"crm\""));
        let expired = Error::unauthenticated("token_expired", "log in again");
        assert!(challenge(expired).is_some_and(|text| text.contains("invalid_token")));
    }

    #[test]
    fn waiting_times_are_told_in_seconds() {
        let error = Error::TooMany {
            retry_after: Duration::from_secs(7),
            limit: None,
        };
        assert_eq!(
            Problem::from(error).response("r").header(RETRY_AFTER),
            Some("7")
        );
    }
}
