//! The front end from outside: callers that speak HTTP to a real socket, on both databases.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in what its scenarios share"
)]

mod access;
mod access_log;
mod account;
mod actions;
mod aggregate;
mod app;
mod attacks;
mod attacks_factor;
mod audit;
mod audit_auth;
mod authenticator;
mod bad_input;
mod bad_token;
mod body_examples;
mod bulk;
mod command;
mod command_access;
mod command_audit;
mod command_author;
mod command_key;
mod command_module;
mod command_operator;
mod command_plugin;
mod command_user;
mod contract;
mod custom;
mod custom_machine;
mod examples;
mod explain;
mod extremes;
mod field_lists;
mod flags;
mod front;
mod funnel;
mod further;
mod groups;
mod guard;
#[path = "../guest/mod.rs"]
mod guest;
mod guide;
mod hooks;
mod impersonation;
mod impersonation_end;
mod impersonation_log;
mod impersonation_operator;
mod local_provider;
mod mail;
mod mass_assignment;
mod merge;
mod nested;
mod oidc;
mod oidc_attacks;
mod oidc_declared;
mod oidc_tenancy;
mod open_session;
mod page;
mod passkey;
mod passkey_attacks;
mod platform;
mod platform_use;
mod plugin;
mod plugin_versions;
mod query;
mod rank;
mod records;
mod refusals;
mod register;
mod relations;
mod second_factor;
mod service_account;
mod session;
mod shutdown;
mod step_up;
mod strict;
mod tenant_security;
mod through;
mod transfer;
mod trash;
mod types;
mod webhooks;
mod write;

/// Runs each scenario once per database, as `sqlite::…` and `postgres::…`.
macro_rules! on_both_databases {
    ($($scenario:ident)*) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(crate::app::Database::Sqlite).await;
            })*
        }

        mod postgres {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(crate::app::Database::Postgres).await;
            })*
        }
    };
}

pub(crate) use on_both_databases;
