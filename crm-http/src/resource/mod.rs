//! The fixed resources: each file holds one resource with its requests, replies, words and handlers.

mod api_key;
mod audit;
mod auth;
mod health;
mod member;
mod role;
mod route;

use crm_core::Crm;
use poem_openapi::OpenApi;

pub(crate) use route::{allow, routes, unreadable_query};

/// All fixed resources.
pub(crate) fn api(crm: &Crm) -> impl OpenApi + use<> {
    (
        auth::Auth { crm: crm.clone() },
        member::Members { crm: crm.clone() },
        role::Roles { crm: crm.clone() },
        api_key::ApiKeys { crm: crm.clone() },
        audit::Audit { crm: crm.clone() },
        health::Health { crm: crm.clone() },
    )
}
