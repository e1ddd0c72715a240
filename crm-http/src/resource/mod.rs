//! The fixed resources: each file holds one resource with its requests, replies, words and handlers.

mod access;
mod account;
mod api_key;
mod audit;
mod auth;
mod group;
mod health;
mod hook;
mod identity;
mod identity_provider;
mod impersonation;
mod invitation;
mod job;
mod member;
mod module;
mod module_machine;
mod operator;
#[cfg(feature = "passkeys")]
mod passkey;
mod platform;
mod plugin;
mod plugin_rehearsal;
mod plugin_run;
mod plugin_secret;
mod plugin_settings;
mod plugin_version;
mod role;
mod route;
mod second_factor;
mod security;
mod service_account;
mod session;

use crm_core::{Crm, plugin::Plugins};
use poem_openapi::OpenApi;

pub(crate) use job::job_reply;
pub(crate) use module::{is_declared, is_field_change};
pub(crate) use module_machine::{MACHINE, unknown_of_machine};
pub(crate) use route::{allow, check_query, routes, unreadable_query};

/// The fixed resources of an application with plugins.
pub(crate) fn api_with_plugins(crm: &Crm, plugins: &Plugins) -> impl OpenApi + use<> {
    (
        api(crm),
        plugin::Plugins {
            plugins: plugins.clone(),
        },
        plugin_version::Versions {
            plugins: plugins.clone(),
        },
        plugin_rehearsal::Rehearsals {
            plugins: plugins.clone(),
        },
        plugin_run::Runs {
            plugins: plugins.clone(),
        },
        plugin_secret::Secrets {
            plugins: plugins.clone(),
        },
        plugin_settings::Settings {
            plugins: plugins.clone(),
        },
        hook::Hooks {
            plugins: plugins.clone(),
        },
        hook::Inbound {
            plugins: plugins.clone(),
        },
    )
}

/// The fixed resources.
pub(crate) fn api(crm: &Crm) -> impl OpenApi + use<> {
    (
        (
            auth::Auth { crm: crm.clone() },
            session::Sessions { crm: crm.clone() },
            session::Keys { crm: crm.clone() },
            account::Account { crm: crm.clone() },
            invitation::Invited { crm: crm.clone() },
            second_factor::SecondFactor { crm: crm.clone() },
            security::Security { crm: crm.clone() },
            impersonation::Own { crm: crm.clone() },
            passkeys(crm),
            identity::Identities { crm: crm.clone() },
        ),
        (
            member::Members { crm: crm.clone() },
            invitation::Invitations { crm: crm.clone() },
            service_account::ServiceAccounts { crm: crm.clone() },
            impersonation::Impersonations { crm: crm.clone() },
        ),
        (platform::Tenants, operator::Operators),
        role::Roles { crm: crm.clone() },
        group::Groups { crm: crm.clone() },
        access::Access { crm: crm.clone() },
        api_key::ApiKeys { crm: crm.clone() },
        identity_provider::IdentityProviders { crm: crm.clone() },
        audit::Audit { crm: crm.clone() },
        job::Jobs { crm: crm.clone() },
        module::Modules { crm: crm.clone() },
        health::Health { crm: crm.clone() },
    )
}

#[cfg(feature = "passkeys")]
fn passkeys(crm: &Crm) -> impl OpenApi + use<> {
    passkey::Passkeys { crm: crm.clone() }
}

/// Without the feature there are none.
#[cfg(not(feature = "passkeys"))]
fn passkeys(_: &Crm) {}
