//! The library in a program of one's own: one struct is the module, and the program serves it.
//!
//! `openssl rand -base64 48 > quickstart.key` makes the secret, once: the database belongs to it. Then
//! `QUICKSTART_SECRET=$(cat quickstart.key) cargo run -p quickstart`, and open
//! <http://127.0.0.1:8080/docs>.

use anyhow::Context;
use crm_core::{Crm, Module};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// A support ticket. This is all there is to write: table, rules, permissions, events, endpoints
/// and their documentation follow.
#[derive(Debug, Serialize, Deserialize, Module)]
#[module(name = "tickets", singular = "ticket")]
struct Ticket {
    #[field(max = 200, search, sort)]
    title: String,
    #[field(values = ["low", "high"], default = "low")]
    priority: String,
    #[field(sort)]
    due: Option<chrono::NaiveDate>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let secret = std::env::var("QUICKSTART_SECRET").context("set QUICKSTART_SECRET")?;
    let crm = Crm::builder()
        .database("sqlite://quickstart.db")
        .secret(SecretString::from(secret))
        .module::<Ticket>()
        .build()
        .await?;
    if let Some(token) = crm.ensure_setup_token().await? {
        println!("setup token  {}", token.expose_secret());
    }
    println!("serving      http://127.0.0.1:8080/docs");
    crm_http::serve(crm, "127.0.0.1:8080".parse()?).await?;
    Ok(())
}
