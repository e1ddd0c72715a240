//! The one client for requests that leave this process: to identity providers, webhooks, and for
//! plugins.
//!
//! Where such a request goes is somebody else's word, so it reaches the public internet only. A
//! host is resolved once, **all** its addresses are checked, and the connection goes to one of
//! those that were: a name that changes its answer gains nothing. No redirect is followed, no proxy
//! of the environment used, no connection kept, no cookie. Time and bytes are bounded in both
//! directions, and so are the requests under way, and each tenant's look-ups of names.
//!
//! Networks that the operator [allows](EgressBuilder::allow) are reached too, also by plain HTTP,
//! and certificates of an authority of the operator's own are [believed](EgressBuilder::trust).
//! Plugins gain nothing by what is allowed to others: theirs are [networks of their
//! own](EgressBuilder::allow_plugins).

mod address;
mod resolve;
mod target;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Body as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use tokio_util::task::AbortOnDropHandle;
use url::Host;

use crate::error::{Error, Result};
use crate::id::TenantId;
use resolve::Lookups;
use target::Target;

pub use resolve::Resolve;

/// How long a request may take from the look-up to the last byte, unless set.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a request's body, unless set.
const REQUEST_BYTES: usize = 1024 * 1024;
/// Most bytes of a response's body, unless set.
const RESPONSE_BYTES: usize = 1024 * 1024;
/// Most bytes of a response's head.
const HEAD_BYTES: usize = 16 * 1024;
/// Most lines of it.
const HEAD_LINES: usize = 64;
/// Requests under way at a time; one more is refused.
const SLOTS: usize = 256;
/// Most addresses of a host.
const MOST_ADDRESSES: usize = 32;
/// Addresses that are tried, and how long each of them.
const TRIES: usize = 3;
const CONNECT: Duration = Duration::from_secs(3);

/// Headers that are the connection's own business.
const OWN_HEADERS: [HeaderName; 7] = [
    CONNECTION,
    CONTENT_LENGTH,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Headers of requests that do not set them.
const USUAL_HEADERS: [(HeaderName, &str); 2] = [
    (USER_AGENT, concat!("crm/", env!("CARGO_PKG_VERSION"))),
    (ACCEPT_ENCODING, "identity"),
];

/// Sends requests to the public internet, and nowhere else.
///
/// Cheap to clone; all clones share one bound on the requests under way.
#[derive(Clone)]
pub struct Egress(Arc<Inner>);

struct Inner {
    allowed: Vec<IpNet>,
    allowed_plugins: Vec<IpNet>,
    lookups: Lookups,
    timeout: Duration,
    request_bytes: usize,
    response_bytes: usize,
    slots: Semaphore,
    tls: TlsConnector,
}

/// The options of an [`Egress`].
#[must_use]
pub struct EgressBuilder {
    allowed: Vec<IpNet>,
    allowed_plugins: Vec<IpNet>,
    resolver: Option<Arc<dyn Resolve>>,
    timeout: Duration,
    request_bytes: usize,
    response_bytes: usize,
    authorities: RootCertStore,
}

/// A request that leaves.
#[derive(Debug, Clone)]
pub struct EgressRequest {
    method: Method,
    url: String,
    headers: Vec<(String, String)>,
    body: Bytes,
    response_bytes: Option<usize>,
    cause: Cause,
}

/// Who has a request sent.
#[derive(Debug, Clone, Copy)]
enum Cause {
    /// The program itself.
    Own,
    /// A tenant's settings.
    Tenant(TenantId),
    /// A tenant's plugin.
    Plugin(TenantId),
}

impl Cause {
    fn tenant(self) -> Option<TenantId> {
        match self {
            Self::Own => None,
            Self::Tenant(tenant) | Self::Plugin(tenant) => Some(tenant),
        }
    }
}

/// What came back, whatever its status.
#[derive(Debug, Clone)]
pub struct EgressResponse {
    /// The HTTP status; a redirect is one like any other.
    pub status: u16,
    /// The whole body.
    pub body: Bytes,
    headers: HeaderMap,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EgressError {
    /// The URL is not one to send requests to.
    #[error("the URL is refused: {0}")]
    Url(&'static str),
    /// The port is that of another kind of service.
    #[error("port {0} is refused: use 443, or one from 1024 up that no other service is known by")]
    Port(u16),
    /// A header cannot be sent, or is not the caller's to set.
    #[error("the header {0:?} is refused")]
    Header(String),
    /// The request's body is too large.
    #[error("the request has more than {0} bytes")]
    RequestTooLarge(usize),
    /// Too many requests are under way.
    #[error("too many requests are under way; try again")]
    Busy,
    /// The host has no address.
    #[error("the host cannot be resolved")]
    Unresolvable(#[source] Option<std::io::Error>),
    /// One of the host's addresses is neither public nor allowed by the operator.
    #[error("the host is not on the public internet")]
    Address(IpAddr),
    /// Plain HTTP to a host that the operator has not allowed.
    #[error("use https: plain http is for networks that the operator allows")]
    PlainHttp,
    /// No connection to any of the addresses.
    #[error("no connection could be made")]
    Unreachable(#[source] std::io::Error),
    /// The other side could not prove who it is, or speaks no TLS.
    #[error("the TLS handshake failed")]
    Tls(#[source] std::io::Error),
    /// The other side does not speak HTTP as it should, or its head is too long.
    #[error("the answer is no HTTP this program reads")]
    Protocol(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The response's body is too large.
    #[error("the response has more than {0} bytes")]
    ResponseTooLarge(usize),
    /// It took too long.
    #[error("the answer took too long")]
    Timeout,
}

impl EgressError {
    /// The stable machine code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Url(_) => "url_refused",
            Self::Port(_) => "port_refused",
            Self::Header(_) => "header_refused",
            Self::RequestTooLarge(_) => "request_too_large",
            Self::Busy => "busy",
            Self::Unresolvable(_) => "unresolvable",
            Self::Address(_) => "address_refused",
            Self::PlainHttp => "plain_http_refused",
            Self::Unreachable(_) => "unreachable",
            Self::Tls(_) => "tls_failed",
            Self::Protocol(_) => "protocol_error",
            Self::ResponseTooLarge(_) => "response_too_large",
            Self::Timeout => "timeout",
        }
    }
}

impl EgressRequest {
    /// A `GET` of an absolute URL.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::GET, url.into())
    }

    /// A `POST` to an absolute URL.
    pub fn post(url: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            ..Self::new(Method::POST, url.into())
        }
    }

    /// A request of any method to an absolute URL.
    pub fn of(method: Method, url: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            ..Self::new(method, url.into())
        }
    }

    fn new(method: Method, url: String) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            body: Bytes::new(),
            response_bytes: None,
            cause: Cause::Own,
        }
    }

    /// Adds a header; one of the same name stays beside it.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Counts the request as the tenant's, whose slow names then hold up its own requests alone;
    /// for every URL that is a tenant's word.
    #[must_use]
    pub fn on_behalf_of(mut self, tenant: TenantId) -> Self {
        self.cause = Cause::Tenant(tenant);
        self
    }

    /// As [`on_behalf_of`](Self::on_behalf_of), by a plugin of the tenant: only what is allowed to
    /// [plugins](EgressBuilder::allow_plugins) is reached beside the public internet.
    #[must_use]
    pub fn by_plugin_of(mut self, tenant: TenantId) -> Self {
        self.cause = Cause::Plugin(tenant);
        self
    }

    /// Lowers the most bytes of the response's body, for this request.
    #[must_use]
    pub fn at_most(mut self, bytes: usize) -> Self {
        self.response_bytes = Some(bytes);
        self
    }
}

impl EgressResponse {
    /// The names and values of all headers, as far as they are text.
    pub fn headers(&self) -> impl Iterator<Item = (String, String)> {
        let headers = self.headers.iter();
        headers
            .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
    }

    /// The first value of a header, as far as it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl EgressBuilder {
    /// Reaches a network too that is not public, such as `10.1.0.0/16`, or one address; also by
    /// plain HTTP. It is nothing to plugins.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a text that is neither.
    pub fn allow(mut self, network: &str) -> Result<Self> {
        self.allowed.push(parse_network(network)?);
        Ok(self)
    }

    /// As [`allow`](Self::allow), for the requests of plugins alone: those of every tenant that
    /// name a host in it reach it.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a text that is no network.
    pub fn allow_plugins(mut self, network: &str) -> Result<Self> {
        self.allowed_plugins.push(parse_network(network)?);
        Ok(self)
    }

    /// Believes certificates of an authority of one's own too, beside those of the public web: a
    /// text in PEM with one certificate or several.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a text without any, or with one that is none.
    pub fn trust(mut self, pem: &[u8]) -> Result<Self> {
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| not_pem())?;
            self.authorities.add(certificate).map_err(|_| not_pem())?;
            count += 1;
        }
        match count {
            0 => Err(not_pem()),
            _ => Ok(self),
        }
    }

    /// Resolves hosts by something else than the operating system.
    pub fn resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// How long a request may take in all; 10 seconds unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Most bytes of the bodies of requests; 1 MiB unless set.
    pub fn request_bytes(mut self, bytes: usize) -> Self {
        self.request_bytes = bytes;
        self
    }

    /// Most bytes of the bodies of responses; 1 MiB unless set.
    pub fn response_bytes(mut self, bytes: usize) -> Self {
        self.response_bytes = bytes;
        self
    }

    /// The client.
    ///
    /// # Errors
    /// [`Error::Configuration`] when this build has no TLS.
    pub fn build(self) -> Result<Egress> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = self.authorities;
        roots
            .roots
            .extend_from_slice(webpki_roots::TLS_SERVER_ROOTS);
        let tls =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls
            .map_err(|error| Error::Configuration(format!("no TLS: {error}").into()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let resolver = self.resolver.unwrap_or_else(|| Arc::new(resolve::System));
        Ok(Egress(Arc::new(Inner {
            allowed: self.allowed,
            allowed_plugins: self.allowed_plugins,
            lookups: Lookups::new(resolver),
            timeout: self.timeout,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            slots: Semaphore::new(SLOTS),
            tls: TlsConnector::from(Arc::new(tls)),
        })))
    }
}

impl Egress {
    /// Begins a client.
    pub fn builder() -> EgressBuilder {
        EgressBuilder {
            allowed: Vec::new(),
            allowed_plugins: Vec::new(),
            resolver: None,
            timeout: TIMEOUT,
            request_bytes: REQUEST_BYTES,
            response_bytes: RESPONSE_BYTES,
            authorities: RootCertStore::empty(),
        }
    }

    /// Whether any network is allowed that is not public: only then plain HTTP leads anywhere, for
    /// others than plugins.
    pub(crate) fn allows_plain_http(&self) -> bool {
        !self.0.allowed.is_empty()
    }

    /// Sends a request and reads the response.
    ///
    /// # Errors
    /// [`EgressError`], each kind with a stable [code](EgressError::code).
    pub async fn send(&self, request: EgressRequest) -> Result<EgressResponse, EgressError> {
        let inner = &self.0;
        if request.body.len() > inner.request_bytes {
            return Err(EgressError::RequestTooLarge(inner.request_bytes));
        }
        let target = Target::of(&request.url)?;
        let own = request.response_bytes.unwrap_or(inner.response_bytes);
        let most = own.min(inner.response_bytes);
        let cause = request.cause;
        let message = message(&target, request)?;
        let _slot = inner.slots.try_acquire().map_err(|_| EgressError::Busy)?;
        let exchange = inner.exchange((&target, cause), message, most);
        match tokio::time::timeout(inner.timeout, exchange).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(EgressError::Timeout),
        }
    }
}

impl Inner {
    async fn exchange(
        &self,
        (target, cause): (&Target, Cause),
        message: http::Request<Full<Bytes>>,
        most: usize,
    ) -> Result<EgressResponse, EgressError> {
        let addresses = self.addresses(target, cause).await?;
        let stream = connect(&addresses, target.port).await?;
        match target.server_name()? {
            None => speak(stream, message, most).await,
            Some(name) => {
                let stream = self.tls.connect(name, stream).await;
                speak(stream.map_err(EgressError::Tls)?, message, most).await
            }
        }
    }

    /// The addresses of the host, once all of them are found to be fit.
    async fn addresses(&self, target: &Target, cause: Cause) -> Result<Vec<IpAddr>, EgressError> {
        let addresses = match &target.host {
            Host::Ipv4(address) => vec![(*address).into()],
            Host::Ipv6(address) => vec![(*address).into()],
            Host::Domain(name) => {
                let found = self.lookups.find(name, cause.tenant()).await;
                found.map_err(|error| EgressError::Unresolvable(Some(error)))?
            }
        };
        if addresses.is_empty() || addresses.len() > MOST_ADDRESSES {
            return Err(EgressError::Unresolvable(None));
        }
        let networks = match cause {
            Cause::Own | Cause::Tenant(_) => &self.allowed,
            Cause::Plugin(_) => &self.allowed_plugins,
        };
        for address in &addresses {
            let allowed = networks.iter().any(|network| network.contains(address));
            if !allowed && !address::is_public(*address) {
                return Err(EgressError::Address(*address));
            }
            if !allowed && !target.is_https {
                return Err(EgressError::PlainHttp);
            }
        }
        Ok(addresses)
    }
}

fn parse_network(text: &str) -> Result<IpNet> {
    let one = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(one).ok_or_else(|| {
        let line = format!("{text:?} is no network: write 10.1.0.0/16 or 192.0.2.1");
        Error::Configuration(line.into())
    })
}

fn not_pem() -> Error {
    let line = "the certificates of one's own authority cannot be read: give one or several in PEM, \
                -----BEGIN CERTIFICATE-----";
    Error::Configuration(line.into())
}

fn message(
    target: &Target,
    request: EgressRequest,
) -> Result<http::Request<Full<Bytes>>, EgressError> {
    let mut message = http::Request::builder()
        .method(request.method)
        .uri(target.path.as_str())
        .header(HOST, &target.authority)
        .header(CONNECTION, "close")
        .body(Full::new(request.body))
        .map_err(|_| EgressError::Url("it cannot be sent"))?;
    let headers = message.headers_mut();
    for (name, value) in USUAL_HEADERS {
        let mut given = request.headers.iter();
        if !given.any(|(given, _)| given.eq_ignore_ascii_case(name.as_str())) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    for (name, value) in request.headers {
        let parsed = HeaderName::try_from(name.as_str());
        let kept = match (parsed, HeaderValue::try_from(value)) {
            (Ok(known), Ok(value)) if !OWN_HEADERS.contains(&known) => {
                headers.try_append(known, value).is_ok()
            }
            _ => false,
        };
        if !kept {
            return Err(EgressError::Header(name));
        }
    }
    Ok(message)
}

/// A connection to the first of the checked addresses that answers.
async fn connect(addresses: &[IpAddr], port: u16) -> Result<TcpStream, EgressError> {
    let mut last = std::io::Error::from(std::io::ErrorKind::TimedOut);
    for address in addresses.iter().take(TRIES) {
        let attempt = TcpStream::connect(SocketAddr::new(*address, port));
        match tokio::time::timeout(CONNECT, attempt).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_elapsed) => {}
        }
    }
    Err(EgressError::Unreachable(last))
}

/// One request and its response; the connection ends with it.
async fn speak<I>(
    stream: I,
    message: http::Request<Full<Bytes>>,
    most: usize,
) -> Result<EgressResponse, EgressError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let protocol = |error: hyper::Error| EgressError::Protocol(error.into());
    let mut http = http1::Builder::new();
    http.max_headers(HEAD_LINES).max_buf_size(HEAD_BYTES);
    let (mut sender, connection) = http
        .handshake(TokioIo::new(stream))
        .await
        .map_err(protocol)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let (head, body) = sender
        .send_request(message)
        .await
        .map_err(protocol)?
        .into_parts();
    let too_large = EgressError::ResponseTooLarge(most);
    if body.size_hint().lower() > u64::try_from(most).unwrap_or(u64::MAX) {
        return Err(too_large);
    }
    let body = match Limited::new(body, most).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(too_large),
        Err(error) => return Err(EgressError::Protocol(error)),
    };
    Ok(EgressResponse {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    })
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress")
            .field("allowed", &self.0.allowed)
            .field("allowed_plugins", &self.0.allowed_plugins)
            .field("timeout", &self.0.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod own_authority;
#[cfg(test)]
pub(crate) mod tests;
