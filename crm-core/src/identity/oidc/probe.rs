//! Whether an issuer can be logged in at, asked when a provider is declared or switched on: what
//! could never work is refused then, to whoever can mend it, and not to everybody who logs in.

use super::metadata::{self, DOCUMENT_BYTES};
use crate::crm::Core;
use crate::egress::{EgressError, EgressRequest};
use crate::error::{Error, Result};
use crate::id::TenantId;

/// Fetches the issuer's discovery document once. Nothing of it is kept.
///
/// # Errors
/// [`Error::Invalid`] on `issuer`: `address_refused`, `unreachable`, `no_discovery`;
/// [`Error::Unavailable`] while too many requests are under way.
pub(super) async fn check(core: &Core, tenant: TenantId, issuer: &str) -> Result<()> {
    let url = metadata::place_of(issuer);
    let request = EgressRequest::get(url.as_str())
        .header("accept", "application/json")
        .at_most(DOCUMENT_BYTES)
        .on_behalf_of(tenant);
    let _lane = core.identity.federation.directory.lane(tenant).await?;
    let response = match core.egress.send(request).await {
        Ok(response) => response,
        Err(EgressError::Busy) => {
            let message = "too many requests are under way; try again";
            return Err(Error::unavailable(message));
        }
        Err(error) => {
            tracing::warn!(
                %tenant,
                code = error.code(),
                error = &error as &dyn std::error::Error,
                "an identity provider was refused that cannot be reached"
            );
            return Err(away(&url, &error));
        }
    };
    if response.status != 200 {
        let status = response.status;
        return Err(no_discovery(&url, &format!("it answers {status}")));
    }
    let plain = core.egress.allows_plain_http();
    match metadata::read(&response.body, issuer, plain) {
        Ok(_) => Ok(()),
        Err(what) => Err(no_discovery(&url, what)),
    }
}

/// Nothing is told of a network but that it is not public: what else failed is the same there and
/// here.
fn away(url: &str, error: &EgressError) -> Error {
    match error {
        EgressError::Address(_)
        | EgressError::PlainHttp
        | EgressError::Url(_)
        | EgressError::Port(_) => {
            let message = format!(
                "{error}: {url}. The operator can allow a network inside (--egress-allow)."
            );
            Error::invalid("issuer", "address_refused", message)
        }
        error => {
            let message = format!("{url} cannot be fetched: {error}.");
            Error::invalid("issuer", "unreachable", message)
        }
    }
}

fn no_discovery(url: &str, what: &str) -> Error {
    let message = format!("There is no discovery document of this issuer at {url}: {what}.");
    Error::invalid("issuer", "no_discovery", message)
}
