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
    /// The first page of 20 contacts, with the total of all up to its cap
    Total,
    /// A page of 20 contacts behind all but the last hundred
    Deep,
    /// A page of 20 of one's own contacts that a JSON filter matches
    Own,
    /// The contacts of a company, by a part of its name
    Search,
    /// Another job title for a contact
    Update,
    /// A new contact
    Create,
    /// The health of the server, asked by one while all connections log in without a pause
    Health,
}

impl Work {
    /// All but the health under logins. Reads come first, so that all of them see the seeded
    /// contacts only.
    pub(crate) const ALL: [Self; 8] = [
        Self::Get,
        Self::List,
        Self::Total,
        Self::Deep,
        Self::Own,
        Self::Search,
        Self::Update,
        Self::Create,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list 20",
            Self::Total => "total",
            Self::Deep => "deep",
            Self::Own => "own",
            Self::Search => "search",
            Self::Update => "update",
            Self::Create => "create",
            Self::Health => "health",
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
            Self::Total => {
                request.set("GET", &format!("{CONTACTS}?limit=20&count=true"), token, "")
            }
            Self::Deep => {
                let path = format!("{CONTACTS}?limit=20&cursor={}", tenant.deep_cursor);
                request.set("GET", &path, token, "");
            }
            Self::Own => {
                let query = r#"{"filter":{"and":[{"name":{"contains":"a"}},{"tags":{"has":"load"}}]},"limit":20}"#;
                let path = format!("{CONTACTS}/query");
                request.set("POST", &path, &tenant.member_token, query);
            }
            Self::Search => {
                let path = format!("{CONTACTS}?limit=20&search={}", contact::search(random));
                request.set("GET", &path, token, "");
            }
            Self::Update => {
                let body = format!(r#"{{"job_title":"Engineer {serial}"}}"#);
                request.set("PATCH", &record(), token, &body);
            }
            Self::Create => request.set("POST", CONTACTS, token, &contact::body(serial, None)),
            Self::Health => request.set("GET", "/health", "", ""),
        }
    }
}
