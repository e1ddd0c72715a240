//! Guides, each a page: what to declare, what to send, and what comes back. Their examples are
//! taken from these pages by the tests.

pub mod audit {
    #![doc = include_str!("audit.md")]
}
pub mod import {
    #![doc = include_str!("import.md")]
}
pub mod oidc {
    #![doc = include_str!("oidc.md")]
}
pub mod query {
    #![doc = include_str!("query.md")]
}
pub mod replicate {
    #![doc = include_str!("replicate.md")]
}
