//! For whom the server makes passkeys, as its options say.

use clap::Args;
use crm_core::identity::RelyingParty;
use http::Uri;

#[derive(Args)]
pub(crate) struct Passkeys {
    /// The domain that passkeys are made for, of which the application's host is a part; that host
    /// when left out. Passkeys made for another one stop working
    #[arg(
        long = "passkey-domain",
        env = "CRM_PASSKEY_DOMAIN",
        value_name = "DOMAIN"
    )]
    domain: Option<String>,

    /// One more origin whose pages may use passkeys, beside the application's; repeatable
    #[arg(
        long = "passkey-origin",
        env = "CRM_PASSKEY_ORIGINS",
        value_delimiter = ',',
        value_parser = super::serve::origin,
        value_name = "ORIGIN"
    )]
    origins: Vec<String>,
}

impl Passkeys {
    /// The relying party of the application at this URL; none where browsers offer no passkeys: at no
    /// known URL, at an IP address, or without TLS.
    ///
    /// # Errors
    /// When options are given and there can be none.
    pub(crate) fn relying_party(self, app_url: &str) -> Result<Option<RelyingParty>, String> {
        if !offers_passkeys(app_url) {
            return match self.domain.is_none() && self.origins.is_empty() {
                true => Ok(None),
                false => Err(
                    "passkeys need --app-url, or --public-url, with https and a host that is \
                     no IP address"
                        .to_owned(),
                ),
            };
        }
        let mut party = RelyingParty::new(app_url);
        if let Some(domain) = self.domain {
            party = party.domain(domain);
        }
        for origin in self.origins {
            party = party.origin(origin);
        }
        Ok(Some(party))
    }
}

/// Whether browsers let pages at this URL use passkeys.
fn offers_passkeys(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default();
    let is_name =
        !host.is_empty() && host.parse::<std::net::Ipv4Addr>().is_err() && !host.starts_with('[');
    let local = host == "localhost" || host.ends_with(".localhost");
    is_name && (uri.scheme_str() == Some("https") || local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passkeys_are_offered_where_browsers_do() {
        for url in ["https://crm.example/app", "http://localhost:8080"] {
            assert!(offers_passkeys(url), "{url}");
        }
        let none = [
            "",
            "http://crm.example",
            "https://192.0.2.1",
            "https://[::1]:8080",
        ];
        for url in none {
            assert!(!offers_passkeys(url), "{url}");
        }
    }
}
