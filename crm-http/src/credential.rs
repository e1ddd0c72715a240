//! From a request's `Authorization` header to the scope of whoever holds the credential.
//!
//! Access tokens and API keys travel the same way; no other place of a request is looked at, and
//! cookies least of all.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;

use crm_core::identity::{Accounts, bearer};
use crm_core::platform::Platform;
use crm_core::{Crm, Error, RequestContext, Scope};
use poem::http::header::{AUTHORIZATION, USER_AGENT};
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use uuid::Uuid;

use crate::edge::Exchange;
use crate::openapi::{BEARER, SIGNED};
use crate::problem::Problem;

/// Names the tenant of a request.
pub(crate) const TENANT: &str = "x-tenant";

/// The scope of the request's credential.
///
/// # Errors
/// 401 when there is none, or it does not hold; 422 when it does, and the tenant is not named by an id.
pub(crate) async fn scope(exchange: &Exchange, request: &Request) -> Result<Scope, Problem> {
    let mut headers = request.headers().get_all(AUTHORIZATION).iter();
    // Of two credentials another part of the way may have looked at the other one.
    let header = match (headers.next(), headers.next()) {
        (first, None) => first.map(|value| value.to_str().unwrap_or("")),
        (_, Some(_)) => Some(""),
    };
    let app = &exchange.app;
    let named = named_tenant(request);
    let is_id = named
        .as_deref()
        .is_none_or(|named| named.parse::<Uuid>().is_ok());
    let found = match bearer(header) {
        Ok(credential) => {
            let context = context(exchange, request);
            let named = named.as_deref().filter(|_| is_id);
            app.crm.authenticate_in(credential, named, context).await
        }
        Err(error) => Err(error),
    };
    match found {
        Ok(scope) => {
            exchange.note_caller(&scope);
            exchange.pass(app.guard.caller(&scope))?;
            match is_id {
                true => Ok(scope),
                false => Err(no_id().into()),
            }
        }
        Err(error) => {
            exchange.pass(app.guard.stranger(address(exchange, request)))?;
            Err(error.into())
        }
    }
}

/// What audit rows say of the request.
pub(crate) fn context(exchange: &Exchange, request: &Request) -> RequestContext {
    RequestContext {
        id: exchange.request_id.clone(),
        address: address(exchange, request),
    }
}

/// The tenant that a request names; what cannot be read is no id.
fn named_tenant(request: &Request) -> Option<String> {
    let mut headers = request.headers().get_all(TENANT).iter();
    let first = headers.next()?.to_str().unwrap_or("");
    let only = headers.next().is_none();
    Some(if only {
        first.to_owned()
    } else {
        String::new()
    })
}

/// The refusal of a header that is no id, whether or not a tenant is called so.
fn no_id() -> Error {
    let message = "Send X-Tenant once, with a tenant's id, such as the one of `tenant` in GET \
                   /api/v1/auth/me; a name is none.";
    Error::invalid("X-Tenant", "invalid", message)
}

/// The client's address.
pub(crate) fn address(exchange: &Exchange, request: &Request) -> Option<IpAddr> {
    let peer = request.remote_addr().as_socket_addr().map(SocketAddr::ip);
    let proxies = &exchange.app.options.trusted_proxies;
    proxies.client(peer, request.headers())
}

/// What an operator may do, as an argument of an operation of the platform.
pub(crate) struct PlatformCaller(Platform);

impl Deref for PlatformCaller {
    type Target = Platform;

    fn deref(&self) -> &Platform {
        &self.0
    }
}

impl<'a> ApiExtractor<'a> for PlatformCaller {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        Caller::register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![BEARER]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        // The guard of the operation has put it there.
        let missing = || Problem::from(Error::internal("an operation without its guard"));
        let platform = request.extensions().get::<Platform>().cloned();
        Ok(Self(platform.ok_or_else(missing)?))
    }
}

/// The scope of the caller, as an argument of a fixed resource's operation.
pub(crate) struct Caller(Scope);

impl Deref for Caller {
    type Target = Scope;

    fn deref(&self) -> &Scope {
        &self.0
    }
}

impl<'a> ApiExtractor<'a> for Caller {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        let scheme = MetaSecurityScheme {
            ty: "http",
            description: Some("An access token from a login, or an API key (`crm_ak_…`)."),
            name: None,
            key_in: None,
            scheme: Some("bearer"),
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        };
        registry.create_security_scheme(BEARER, scheme);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![BEARER]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        // The guard of the operation has put it there.
        let missing = || Problem::from(Error::internal("an operation without its guard"));
        Ok(Self(
            request
                .extensions()
                .get::<Scope>()
                .cloned()
                .ok_or_else(missing)?,
        ))
    }
}

/// The header that a signed message is known by.
pub(crate) const SIGNATURE: &str = "webhook-signature";

/// Whether a request is a signed message, and so needs no other credential.
pub(crate) fn is_signed(request: &Request) -> bool {
    let headers = request.headers();
    headers.contains_key(SIGNATURE) && !headers.contains_key(AUTHORIZATION)
}

/// The refusal of a message with neither a signature nor a credential.
pub(crate) fn unsigned(exchange: &Exchange, request: &Request) -> Problem {
    let counted = exchange.pass(exchange.app.guard.stranger(address(exchange, request)));
    let refusal = Error::unauthenticated(
        "token_missing",
        "the header webhook-signature is missing: sign the message, or send an API key in the header \
         Authorization: Bearer",
    );
    counted.err().unwrap_or(refusal).into()
}

/// The scope of whoever sends a message to a plugin; none for a signed one.
pub(crate) struct Sender(pub(crate) Option<Scope>);

impl<'a> ApiExtractor<'a> for Sender {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        Caller::register(registry);
        let scheme = MetaSecurityScheme {
            ty: "apiKey",
            description: Some(
                "`v1,` and the Base64 of HMAC-SHA-256 over `{webhook-id}.{webhook-timestamp}.{body}`, \
                 as Standard Webhooks has it.",
            ),
            name: Some(SIGNATURE),
            key_in: Some("header"),
            scheme: None,
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        };
        registry.create_security_scheme(SIGNED, scheme);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![BEARER, SIGNED]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self(request.extensions().get::<Scope>().cloned()))
    }
}

/// What is known of a request that needs no credential, as an argument of such an operation.
pub(crate) struct Origin(pub(crate) RequestContext, Option<String>);

impl Origin {
    /// The accounts, for sessions opened by the device that asks.
    pub(crate) fn accounts(&self, crm: &Crm) -> Accounts {
        crm.accounts().on_device(self.1.as_deref())
    }
}

impl<'a> poem::FromRequest<'a> for Origin {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        let user_agent = request.headers().get(USER_AGENT);
        let user_agent = user_agent.and_then(|value| value.to_str().ok());
        Ok(Self(
            context(Exchange::of(request)?, request),
            user_agent.map(str::to_owned),
        ))
    }
}
