//! `crm token`

use chrono::TimeDelta;
use clap::Args;
use crm_core::Error;
use secrecy::ExposeSecret as _;

use crate::Outcome;
use crate::purge::age;
use crate::settings::{Settings, request};
use crate::stdout::say;

// No doc comment: it would be the description of the commands that take this in.
#[derive(Args)]
pub(crate) struct AccessTokens {
    /// How long an access token of the server holds
    #[arg(long, env = "CRM_ACCESS_LIFETIME", default_value = "10m", value_parser = age, value_name = "TIME")]
    pub(crate) access_lifetime: TimeDelta,
}

/// Print an access token of a member, without their password
///
/// The token holds for ten minutes; the audit log says that the operator took it.
#[derive(Args)]
#[command(after_long_help = "\
Example:
  curl -H \"Authorization: Bearer $(crm token --tenant acme --email ada@acme.example)\" \\
      http://127.0.0.1:8080/api/v1/contacts")]
pub(crate) struct Token {
    /// The tenant's name
    #[arg(long)]
    tenant: String,
    /// The member's e-mail address
    #[arg(long)]
    email: String,
}

impl Token {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let crm = settings.open().await?;
        let token = crm
            .accounts()
            .operator_token(&self.tenant, &self.email, request(&crm))
            .await;
        let token = token.map_err(|error| match error {
            Error::NotFound => format!("{} is no active member of {:?}", self.email, self.tenant),
            error => error.to_string(),
        })?;
        say!("{}", token.expose_secret());
        crm.close().await;
        Ok(())
    }
}
