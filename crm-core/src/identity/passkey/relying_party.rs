//! For whom passkeys are made: a domain, and the origins whose pages may use them. Both are the
//! operator's word; no part of a request is ever used for them.

use url::Url;
use webauthn_rs::{Webauthn, WebauthnBuilder};

use super::ceremony::LIFETIME;
use crate::error::{Error, Result};
use crate::identity::APPLICATION;

/// The application that passkeys are made for: the *relying party* of Web Authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelyingParty {
    domain: Option<String>,
    name: String,
    origins: Vec<String>,
}

impl RelyingParty {
    /// The application whose pages are at `origin`, such as `https://crm.example`; a path behind it
    /// is left out. Passkeys are made for its host, unless [`domain`](Self::domain) says otherwise.
    pub fn new(origin: impl Into<String>) -> Self {
        Self {
            domain: None,
            name: APPLICATION.to_owned(),
            origins: vec![origin.into()],
        }
    }

    /// Makes passkeys for this domain, of which the first origin's host is a part: those of
    /// `example.com` are good for `app.example.com` too. No passkey made for another domain works
    /// any more.
    #[must_use]
    pub fn domain(self, domain: impl Into<String>) -> Self {
        let domain = Some(domain.into());
        Self { domain, ..self }
    }

    /// Calls the application so on the screens of devices, for passkeys and time-based codes alike;
    /// `CRM` unless set.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        let name = name.into();
        Self { name, ..self }
    }

    /// What the application is called.
    pub(in crate::identity) fn shown_name(&self) -> &str {
        &self.name
    }

    /// Lets the pages of one more origin use them.
    #[must_use]
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }
}

/// A relying party whose words were checked.
pub(in crate::identity) struct Party(pub(super) Webauthn);

impl Party {
    /// # Errors
    /// [`Error::Configuration`] for an origin that is none, or that has no part in the domain.
    pub(in crate::identity) fn new(relying_party: &RelyingParty) -> Result<Self> {
        let mut origins = Vec::new();
        for text in &relying_party.origins {
            origins.push(read(text)?);
        }
        let refuse = |_| {
            Error::Configuration(
                "passkeys are made for a domain that the application's host is, or is part of: say \
                 crm.example or example for https://crm.example; an IP address is none"
                    .into(),
            )
        };
        let (first, more) = origins.split_first().ok_or_else(no_origin)?;
        let host = first.domain().unwrap_or_default();
        let domain = relying_party.domain.as_deref().unwrap_or(host);
        let mut builder = WebauthnBuilder::new(domain, first).map_err(refuse)?;
        for origin in more {
            builder = builder.append_allowed_origin(origin);
        }
        let timeout = LIFETIME.to_std().unwrap_or_default();
        let builder = builder.rp_name(&relying_party.name).timeout(timeout);
        Ok(Self(builder.build().map_err(refuse)?))
    }
}

/// The origin of a URL.
fn read(text: &str) -> Result<Url> {
    let url: Option<Url> = text.parse().ok();
    let web = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let origin = web.map(|url| url.origin().ascii_serialization());
    let origin = origin.and_then(|origin| origin.parse().ok());
    origin.ok_or_else(no_origin)
}

fn no_origin() -> Error {
    Error::Configuration("the origins of passkeys are written as https://crm.example".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_is_a_domain_and_the_origins_within_the_operators_word() {
        for (origin, domain) in [
            ("https://crm.example", None),
            ("https://app.crm.example/below/", Some("crm.example")),
            ("http://localhost:8080", None),
        ] {
            let party = RelyingParty::new(origin);
            let party = match domain {
                Some(domain) => party.domain(domain),
                None => party,
            };
            Party::new(&party).unwrap();
        }
        for (origin, domain) in [
            ("https://192.0.2.1", None),
            ("crm.example", None),
            ("ftp://crm.example", None),
            ("", None),
            ("https://crm.example", Some("rm.example")),
            ("https://crm.example", Some("other.example")),
        ] {
            let party = RelyingParty::new(origin);
            let party = match domain {
                Some(domain) => party.domain(domain),
                None => party,
            };
            let refused = Party::new(&party).err().map(|error| error.code());
            assert_eq!(refused, Some("configuration"), "{origin} {domain:?}");
        }
    }
}
