//! Guides, each a page: what to declare, what to send, and what comes back. Their examples are
//! taken from these pages by the tests.

pub mod asvs {
    #![doc = include_str!("asvs.md")]
}
#[cfg(test)]
mod asvs_test;
pub mod audit {
    #![doc = include_str!("audit.md")]
}
pub mod automation {
    #![doc = include_str!("automation.md")]
}
pub mod import {
    #![doc = include_str!("import.md")]
}
pub mod oidc {
    #![doc = include_str!("oidc.md")]
}
pub mod plugin {
    #![doc = include_str!("plugin.md")]
}
#[cfg(test)]
mod proof;
pub mod query {
    #![doc = include_str!("query.md")]
}
pub mod replicate {
    #![doc = include_str!("replicate.md")]
}
pub mod sandbox {
    #![doc = include_str!("sandbox.md")]
}
#[cfg(test)]
mod sandbox_test;
