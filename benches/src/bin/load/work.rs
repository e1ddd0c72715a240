//! The kinds of request that are measured.

use clap::ValueEnum;

use crate::client::Request;
use crate::contact::{self, Random};
use crate::tenant::Tenant;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// One contact by its id
    Get,
    /// The first page of 20 contacts
    List,
    /// The contacts of a company, by a part of its name
    Search,
    /// Another job title for a contact
    Update,
    /// A new contact
    Create,
}

impl Work {
    /// Reads come first, so that all of them see the seeded contacts only.
    pub(crate) const ALL: [Self; 5] = [
        Self::Get,
        Self::List,
        Self::Search,
        Self::Update,
        Self::Create,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list 20",
            Self::Search => "search",
            Self::Update => "update",
            Self::Create => "create",
        }
    }

    /// Makes `request` the next one of this kind; `serial` was never given before.
    pub(crate) fn next(
        self,
        request: &mut Request,
        tenant: &Tenant,
        random: &mut Random,
        serial: u64,
    ) {
        const CONTACTS: &str = "/api/v1/contacts";
        let token = &tenant.token;
        let mut record = || format!("{CONTACTS}/{}", random.pick(&tenant.contacts));
        match self {
            Self::Get => request.set("GET", &record(), token, ""),
            Self::List => request.set("GET", &format!("{CONTACTS}?limit=20"), token, ""),
            Self::Search => {
                let path = format!("{CONTACTS}?limit=20&search={}", contact::search(random));
                request.set("GET", &path, token, "");
            }
            Self::Update => {
                let body = format!(r#"{{"job_title":"Engineer {serial}"}}"#);
                request.set("PATCH", &record(), token, &body);
            }
            Self::Create => request.set("POST", CONTACTS, token, &contact::body(serial)),
        }
    }
}
