//! The front end from outside: callers that speak HTTP to a real socket, on both databases.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in what its scenarios share"
)]

mod access;
mod account;
mod aggregate;
mod app;
mod attacks;
mod attacks_factor;
mod audit;
mod authenticator;
mod bad_input;
mod bad_token;
mod bulk;
mod command;
mod command_access;
mod command_audit;
mod command_module;
mod command_operator;
mod command_user;
mod contract;
mod custom;
mod examples;
mod explain;
mod extremes;
mod field_lists;
mod flags;
mod front;
mod funnel;
mod groups;
mod guard;
mod guide;
mod hooks;
mod impersonation;
mod local_provider;
mod mail;
mod merge;
mod oidc;
mod oidc_attacks;
mod oidc_tenancy;
mod open_session;
mod page;
mod passkey;
mod passkey_attacks;
mod platform;
mod plugin;
mod query;
mod records;
mod refusals;
mod relations;
mod second_factor;
mod service_account;
mod session;
mod shutdown;
mod tenant_security;
mod through;
mod transfer;
mod trash;
mod types;
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
