//! What providers publish: their discovery documents (OpenID Connect Discovery 1.0) and their keys.
//!
//! Both are fetched when they are needed, through the one [way out](crate::egress), and kept for an
//! hour. One request at a time asks for those of a provider, eight for all of a tenant (and its
//! names are looked up [two at a time](crate::egress)), and one that fails is not repeated for some
//! seconds. A key that is not among those known makes them be fetched anew, at most once a minute,
//! however many tokens name unknown keys.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use moka::sync::Cache;
use serde::Deserialize;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::enter::Provider;
use super::id_token::{IdToken, Keys};
use crate::crm::Core;
use crate::egress::{EgressRequest, EgressResponse};
use crate::error::{Error, Result};
use crate::id::{ProviderId, TenantId};

/// How long documents and keys are kept.
const KEPT: TimeDelta = TimeDelta::hours(1);
/// How soon keys are fetched again for one that is unknown.
const KEYS_PAUSE: TimeDelta = TimeDelta::minutes(1);
/// How soon a fetch is tried again after one that failed.
const FAILURE_PAUSE: TimeDelta = TimeDelta::seconds(10);
pub(super) const DOCUMENT_BYTES: usize = 64 * 1024;
const KEYS_BYTES: usize = 256 * 1024;
/// Providers whose documents are kept.
const MOST: u64 = 10_000;
/// Requests to providers of one tenant at a time, and how long one more waits.
const LANES: usize = 8;
const LANE_WAIT: Duration = Duration::from_secs(5);

/// What a provider says of itself.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) authorization_endpoint: Url,
    pub(super) token_endpoint: String,
    jwks_uri: String,
    /// Whether its answers name the issuer (RFC 9207 §3).
    pub(super) names_issuer: bool,
    /// Whether a client's secret is sent in the header, not in the body.
    pub(super) basic: bool,
}

/// The document as it travels.
#[derive(Deserialize)]
struct Published {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// What is known of providers.
pub(super) struct Directory {
    known: Cache<(TenantId, ProviderId), Arc<Mutex<Known>>>,
    lanes: Cache<TenantId, Arc<Semaphore>>,
}

#[derive(Default)]
struct Known {
    document: Option<(DateTime<Utc>, Arc<Document>)>,
    keys: Option<(DateTime<Utc>, Arc<Keys>)>,
    failed_at: Option<DateTime<Utc>>,
}

impl Directory {
    pub(super) fn new() -> Self {
        Self {
            known: Cache::new(MOST),
            lanes: Cache::new(MOST),
        }
    }

    fn of(&self, provider: &Provider) -> Arc<Mutex<Known>> {
        self.known
            .get_with((provider.tenant, provider.id), Arc::default)
    }

    /// A place among the requests to the tenant's providers.
    pub(super) async fn lane(&self, tenant: TenantId) -> Result<OwnedSemaphorePermit> {
        let lanes = self
            .lanes
            .get_with(tenant, || Arc::new(Semaphore::new(LANES)));
        match tokio::time::timeout(LANE_WAIT, lanes.acquire_owned()).await {
            Ok(Ok(lane)) => Ok(lane),
            _ => Err(unreachable()),
        }
    }
}

/// Whether what was fetched at `then` is of this age at most; a clock that was put back makes
/// nothing older.
fn within(age: TimeDelta, then: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (now - then).abs() < age
}

/// The provider's discovery document.
///
/// # Errors
/// [`Error::Unavailable`] when it cannot be had, or is not one.
pub(super) async fn document(core: &Core, provider: &Provider) -> Result<Arc<Document>> {
    let known = core.identity.federation.directory.of(provider);
    let mut known = known.lock().await;
    known.document(core, provider).await
}

/// The key that a token is signed with, as the token says; none when the provider has none such.
///
/// # Errors
/// [`Error::Unavailable`] when the provider's keys cannot be had.
pub(super) async fn keys(
    core: &Core,
    provider: &Provider,
    token: &IdToken<'_>,
) -> Result<Arc<Keys>> {
    let known = core.identity.federation.directory.of(provider);
    let mut known = known.lock().await;
    let now = core.clock.now();
    if let Some((then, keys)) = &known.keys
        && within(KEPT, *then, now)
        && (keys.find(token).is_some() || within(KEYS_PAUSE, *then, now))
    {
        return Ok(keys.clone());
    }
    let document = known.document(core, provider).await?;
    known.refuse_too_soon(now)?;
    let fetched = get(core, provider, &document.jwks_uri, KEYS_BYTES).await;
    let parse = |body: bytes::Bytes| Keys::parse(&body);
    let keys = fetched.and_then(|body| parse(body).ok_or_else(|| wrong(provider, "no JWK Set")));
    let keys = known.note(keys, now)?;
    let keys = Arc::new(keys);
    known.keys = Some((now, keys.clone()));
    Ok(keys)
}

impl Known {
    async fn document(&mut self, core: &Core, provider: &Provider) -> Result<Arc<Document>> {
        let now = core.clock.now();
        if let Some((then, document)) = &self.document
            && within(KEPT, *then, now)
        {
            return Ok(document.clone());
        }
        self.refuse_too_soon(now)?;
        let fetched = get(core, provider, &place_of(&provider.issuer), DOCUMENT_BYTES).await;
        let plain = core.egress.allows_plain_http();
        let document = fetched.and_then(|body| {
            let document = read(&body, &provider.issuer, plain);
            document.map_err(|what| wrong(provider, what))
        });
        let document = Arc::new(self.note(document, now)?);
        self.document = Some((now, document.clone()));
        Ok(document)
    }

    fn refuse_too_soon(&self, now: DateTime<Utc>) -> Result<()> {
        match self.failed_at {
            Some(then) if within(FAILURE_PAUSE, then, now) => Err(unreachable()),
            _ => Ok(()),
        }
    }

    fn note<T>(&mut self, outcome: Result<T>, now: DateTime<Utc>) -> Result<T> {
        self.failed_at = outcome.is_err().then_some(now);
        outcome
    }
}

/// Where an issuer's discovery document is.
pub(super) fn place_of(issuer: &str) -> String {
    let base = issuer.trim_end_matches('/');
    format!("{base}/.well-known/openid-configuration")
}

/// Reads a discovery document, which must be the issuer's own, to the letter; or says what it is
/// not.
pub(super) fn read(body: &[u8], issuer: &str, plain: bool) -> Result<Document, &'static str> {
    let published: Published =
        serde_json::from_slice(body).map_err(|_| "it is no discovery document")?;
    if published.issuer != issuer {
        return Err("it names another issuer");
    }
    let endpoint = |text: &str| {
        let url = Url::parse(text).ok();
        let fits = |url: &Url| url.scheme() == "https" || plain && url.scheme() == "http";
        url.filter(|url| fits(url) && url.fragment().is_none() && url.host().is_some())
            .ok_or("an endpoint in it is no https URL")
    };
    endpoint(&published.token_endpoint)?;
    endpoint(&published.jwks_uri)?;
    let methods = published.token_endpoint_auth_methods_supported;
    Ok(Document {
        authorization_endpoint: endpoint(&published.authorization_endpoint)?,
        token_endpoint: published.token_endpoint,
        jwks_uri: published.jwks_uri,
        names_issuer: published.authorization_response_iss_parameter_supported,
        basic: methods.is_none_or(|all| all.iter().any(|method| method == "client_secret_basic")),
    })
}

async fn get(core: &Core, provider: &Provider, url: &str, most: usize) -> Result<bytes::Bytes> {
    let request = EgressRequest::get(url)
        .header("accept", "application/json")
        .at_most(most);
    let response = send(core, provider, request).await?;
    match response.status {
        200 => Ok(response.body),
        _ => Err(wrong(provider, "another status than 200")),
    }
}

/// Sends a request to a provider.
///
/// # Errors
/// [`Error::Unavailable`] without a response; the reason is logged, since it tells of networks.
pub(super) async fn send(
    core: &Core,
    provider: &Provider,
    request: EgressRequest,
) -> Result<EgressResponse> {
    let _lane = core
        .identity
        .federation
        .directory
        .lane(provider.tenant)
        .await?;
    let request = request.on_behalf_of(provider.tenant);
    core.egress.send(request).await.map_err(|error| {
        tracing::warn!(
            tenant = %provider.tenant,
            provider = %provider.id,
            code = error.code(),
            error = &error as &dyn std::error::Error,
            "an identity provider cannot be reached"
        );
        unreachable()
    })
}

/// A provider that answers something else than it should. What it is goes to the log here: it is
/// the provider that fails, and no request of ours.
pub(super) fn wrong(provider: &Provider, what: &'static str) -> Error {
    tracing::warn!(
        tenant = %provider.tenant,
        provider = %provider.id,
        what,
        "an identity provider does not answer as it should"
    );
    unreachable()
}

const UNREACHABLE: &str =
    "the identity provider cannot be reached, or does not answer as it should; try again later";

fn unreachable() -> Error {
    Error::unavailable(UNREACHABLE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(change: impl FnOnce(&mut serde_json::Value)) -> Result<Document, &'static str> {
        let mut document = json!({
            "issuer": "https://id.example",
            "authorization_endpoint": "https://id.example/authorize?x=1",
            "token_endpoint": "https://id.example/token",
            "jwks_uri": "https://keys.example/jwks",
        });
        change(&mut document);
        read(document.to_string().as_bytes(), "https://id.example", false)
    }

    #[test]
    fn a_discovery_document_is_its_issuers_to_the_letter() {
        let read = document(|_| {}).unwrap();
        assert!(read.basic && !read.names_issuer);
        for other in [
            "https://id.example/",
            "https://ID.example",
            "http://id.example",
            "https://id.example.evil.example",
            "",
        ] {
            let refused = document(|document| document["issuer"] = json!(other));
            assert_eq!(refused.unwrap_err(), "it names another issuer", "{other}");
        }
    }

    #[test]
    fn endpoints_are_https_urls() {
        for name in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
            for bad in [
                json!("http://id.example/x"),
                json!("javascript:alert(1)"),
                json!("data:text/html,x"),
                json!("https://id.example/x#y"),
                json!("/relative"),
                json!(1),
                json!(null),
            ] {
                assert!(document(|document| document[name] = bad).is_err(), "{name}");
            }
        }
    }

    #[test]
    fn the_secret_goes_where_the_provider_takes_it() {
        let methods = |methods: serde_json::Value| {
            let set = |document: &mut serde_json::Value| {
                document["token_endpoint_auth_methods_supported"] = methods;
            };
            document(set).unwrap().basic
        };
        assert!(methods(json!([
            "client_secret_post",
            "client_secret_basic"
        ])));
        assert!(!methods(json!(["client_secret_post"])));
    }
}
