//! A plugin's requests: to the hosts that its manifest names, through the one client for requests
//! that leave this process.

use url::Url;

use super::{Manifest, Plugin};
use crate::crm::Core;
use crate::egress::{EgressError, EgressRequest};
use crate::error::{Error, Result};
use crate::hook::{DoorRequest, DoorResponse};

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

pub(super) async fn fetch(
    core: &Core,
    plugin: &Plugin,
    request: DoorRequest,
) -> Result<DoorResponse> {
    plugin.manifest.allows(&request)?;
    let method = method(&request.method)?;
    let mut message = EgressRequest::of(method, request.url, request.body);
    for (name, value) in request.headers {
        message = message.header(name, value);
    }
    let message = message.by_plugin_of(plugin.tenant_id);
    let response = core.egress.send(message).await.map_err(failed)?;
    Ok(DoorResponse {
        status: response.status,
        headers: response.headers().collect(),
        body: response.body,
    })
}

impl Manifest {
    /// Judges the method and the host of a request before it is sent.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a method that plugins do not send, and for no absolute URL;
    /// [`Error::Forbidden`] for a host that the manifest does not name.
    pub fn allows(&self, request: &DoorRequest) -> Result<()> {
        method(&request.method)?;
        let refused = || Error::invalid("url", "url_refused", "must be an absolute URL");
        let url = Url::parse(&request.url).map_err(|_| refused())?;
        let host = host(&url).ok_or_else(refused)?;
        match self.hosts.contains(&host) {
            true => Ok(()),
            false => Err(Error::Forbidden {
                permission: format!("http.{host}"),
            }),
        }
    }
}

fn method(name: &str) -> Result<http::Method> {
    let known = METHODS.into_iter().find(|known| *known == name);
    let method = known.and_then(|name| http::Method::from_bytes(name.as_bytes()).ok());
    method.ok_or_else(|| {
        let message = format!("must be one of {}", METHODS.join(", "));
        Error::invalid("method", "unknown_method", message)
    })
}

/// The host as manifests name it: with its port, unless that is the scheme's own.
fn host(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

fn failed(error: EgressError) -> Error {
    let message = error.to_string();
    match error {
        EgressError::Url(_)
        | EgressError::Port(_)
        | EgressError::Address(_)
        | EgressError::PlainHttp => Error::invalid("url", error.code(), message),
        EgressError::Header(_) => Error::invalid("headers", error.code(), message),
        EgressError::RequestTooLarge(_) => Error::invalid("body", error.code(), message),
        EgressError::ResponseTooLarge(_) => Error::LimitExceeded {
            code: error.code(),
            message: message.into(),
        },
        error => Error::Unavailable {
            message: message.into(),
            source: Some(error.into()),
        },
    }
}
