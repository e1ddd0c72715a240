//! What the replies of fixed resources are made of: instants in the one form of the wire, and the
//! two answers that are not 200; and how long their lists are.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use poem::http::StatusCode;
use poem::{IntoResponse, Response};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{
    MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type};
use poem_openapi::{ApiResponse, Tags};
use serde_json::Value;

/// The sections of the reference that fixed resources stand in.
#[derive(Tags)]
#[oai(rename_all = "snake_case")]
pub(crate) enum Tag {
    /// Logging in and out.
    Auth,
    /// The people of the tenant.
    Members,
    /// What they may do.
    Roles,
    /// Teams of people, with what they may do together.
    Groups,
    /// Credentials for programs.
    ApiKeys,
    /// The tenant's own WebAssembly automation.
    Plugins,
    /// Who did what, when.
    Audit,
    /// Background work, such as imports.
    Jobs,
    /// What records there are, and the fields and modules of the tenant's own.
    Modules,
    /// Looking after tenants, for operators.
    Platform,
    /// Whether the server works.
    Health,
}

/// How many entries a page has where nobody says.
pub(crate) fn page_size() -> u32 {
    20
}

/// An instant in UTC, written as everywhere: RFC 3339 with `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instant(pub(crate) DateTime<Utc>);

impl Type for Instant {
    const IS_REQUIRED: bool = true;

    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "instant".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", "date-time")))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(self.as_raw_value().into_iter())
    }
}

impl ParseFromJSON for Instant {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        let text = value
            .as_ref()
            .and_then(Value::as_str)
            .ok_or_else(ParseError::expected_input)?;
        let instant = DateTime::parse_from_rfc3339(text)?;
        Ok(Self(instant.to_utc()))
    }
}

impl ToJSON for Instant {
    fn to_json(&self) -> Option<Value> {
        Some(crm_core::value::instant(&self.0).into())
    }
}

impl From<DateTime<Utc>> for Instant {
    fn from(instant: DateTime<Utc>) -> Self {
        Self(instant)
    }
}

/// 201 with the new thing.
pub(crate) struct Created<T>(pub(crate) T);

impl<T: ToJSON> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        Json(self.0)
            .with_status(StatusCode::CREATED)
            .into_response()
    }
}

impl<T: ToJSON> ApiResponse for Created<T> {
    fn meta() -> MetaResponses {
        let content = MetaMediaType {
            content_type: <Json<T> as Payload>::CONTENT_TYPE,
            schema: T::schema_ref(),
        };
        answers("The new resource.", StatusCode::CREATED, vec![content])
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// 202: taken in, to be done soon.
pub(crate) struct Accepted<T>(pub(crate) T);

impl<T: ToJSON> IntoResponse for Accepted<T> {
    fn into_response(self) -> Response {
        Json(self.0)
            .with_status(StatusCode::ACCEPTED)
            .into_response()
    }
}

impl<T: ToJSON> ApiResponse for Accepted<T> {
    fn meta() -> MetaResponses {
        let content = MetaMediaType {
            content_type: <Json<T> as Payload>::CONTENT_TYPE,
            schema: T::schema_ref(),
        };
        answers(
            "Taken in, and done soon.",
            StatusCode::ACCEPTED,
            vec![content],
        )
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// 204: done, and nothing to say.
pub(crate) struct NoContent;

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl ApiResponse for NoContent {
    fn meta() -> MetaResponses {
        answers("Done.", StatusCode::NO_CONTENT, Vec::new())
    }

    fn register(_registry: &mut Registry) {}
}

fn answers(
    description: &'static str,
    status: StatusCode,
    content: Vec<MetaMediaType>,
) -> MetaResponses {
    let response = MetaResponse {
        description,
        status: Some(status.as_u16()),
        status_range: None,
        content,
        headers: Vec::new(),
    };
    MetaResponses {
        responses: vec![response],
    }
}
