//! Where a URL leads: its host, port and path, as WHATWG's URL standard reads it.
//!
//! That reading makes the odd forms of addresses (`0x7f.1`, `2130706433`, `[::ffff:7f00:1]`) plain
//! ones, which are then looked at like any other. Refused is what people could read in two ways.

use tokio_rustls::rustls::pki_types::ServerName;
use url::{Host, Position, Url};

use super::EgressError;

const MOST_BYTES: usize = 2_048;

/// Ports from 1024 up by which services are known that speak no HTTP or should not be spoken to:
/// databases, caches, remote control, chat and phones (after fetch's "bad ports").
const SERVICES: [u16; 27] = [
    1433, 1521, 1719, 1720, 1723, 2049, 2375, 2376, 2379, 3306, 3389, 3659, 4045, 4190, 5060, 5061,
    5432, 5900, 6000, 6379, 6566, 6667, 6697, 9042, 10080, 11211, 27017,
];

/// The other end of a request.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) is_https: bool,
    pub(super) host: Host<String>,
    pub(super) port: u16,
    /// Host and port as the header `Host` has them.
    pub(super) authority: String,
    /// Path and query.
    pub(super) path: String,
}

impl Target {
    /// Where `text` leads.
    ///
    /// # Errors
    /// [`EgressError::Url`], [`EgressError::Port`].
    pub(super) fn of(text: &str) -> Result<Self, EgressError> {
        if text.len() > MOST_BYTES {
            return Err(EgressError::Url("it has more than 2,048 bytes"));
        }
        // Browsers read past these; others do not.
        if text
            .bytes()
            .any(|byte| byte <= b' ' || byte == 0x7f || byte == b'\\')
        {
            return Err(EgressError::Url(
                "it has spaces, control characters or backslashes",
            ));
        }
        let url = Url::parse(text).map_err(|_| EgressError::Url("it is no absolute URL"))?;
        let is_https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(EgressError::Url("use https")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EgressError::Url("it names a user"));
        }
        let host = url.host().ok_or(EgressError::Url("it has no host"))?;
        if let Host::Domain(name) = host
            && (name.is_empty() || name.len() > 253 || name.ends_with('.'))
        {
            return Err(EgressError::Url("its host is no name of a host"));
        }
        let port = url.port_or_known_default().unwrap_or(443);
        if !is_fit(port, is_https) {
            return Err(EgressError::Port(port));
        }
        Ok(Self {
            is_https,
            host: host.to_owned(),
            port,
            authority: url[Position::BeforeHost..Position::AfterPort].to_owned(),
            path: url[Position::BeforePath..Position::AfterQuery].to_owned(),
        })
    }

    /// Whom the other side has to prove to be; none without TLS.
    ///
    /// # Errors
    /// [`EgressError::Url`] for a host that no certificate can name.
    pub(super) fn server_name(&self) -> Result<Option<ServerName<'static>>, EgressError> {
        if !self.is_https {
            return Ok(None);
        }
        Ok(Some(match &self.host {
            Host::Ipv4(address) => ServerName::IpAddress((*address).into()),
            Host::Ipv6(address) => ServerName::IpAddress((*address).into()),
            Host::Domain(name) => ServerName::try_from(name.clone())
                .map_err(|_| EgressError::Url("its host is no name of a host"))?,
        }))
    }
}

fn is_fit(port: u16, is_https: bool) -> bool {
    match port {
        443 => true,
        80 => !is_https,
        ..1024 => false,
        _ => !SERVICES.contains(&port),
    }
}
