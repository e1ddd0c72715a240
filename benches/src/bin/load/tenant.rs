//! The tenants under load: one administrator of all, an access token and the contacts of each.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use serde_json::json;

use crate::client::{Connection, Request};
use crate::contact;
use crate::server::Server;

const EMAIL: &str = "load@example.com";
const PASSWORD: &str = "correct horse battery staple";
/// Connections that seed.
const SEEDERS: usize = 32;
/// Half of what a token holds; a measurement lasts no longer than the other half.
const RENEW: Duration = Duration::from_secs(240);

/// A tenant as its client sees it.
pub(crate) struct Tenant {
    name: String,
    pub(crate) token: String,
    /// Its seeded contacts.
    pub(crate) contacts: Vec<String>,
}

/// All tenants.
pub(crate) struct Tenants {
    pub(crate) all: Vec<Tenant>,
    tokens_made: Instant,
}

impl Tenants {
    /// Registers the first one with the setup token, and makes the others as an operator does.
    pub(crate) async fn open(server: &Server, count: u32) -> Result<Self> {
        let mut all = Vec::new();
        for number in 1..=count {
            let name = format!("load-{number}");
            if number == 1 {
                register(server, &name).await.context("registering")?;
            } else {
                server.command(&["tenant", "create", &name], "").await?;
                let arguments = [
                    "user", "create", "--tenant", &name, "--email", EMAIL, "--role", "admin",
                ];
                server.command(&arguments, PASSWORD).await?;
            }
            let token = token(server, &name).await?;
            all.push(Tenant {
                name,
                token,
                contacts: Vec::new(),
            });
        }
        Ok(Self {
            all,
            tokens_made: Instant::now(),
        })
    }

    /// Makes the contacts, in turns over the tenants.
    pub(crate) async fn seed(&mut self, address: SocketAddr, contacts: usize) -> Result<()> {
        let all = &self.all;
        let seeders = (0..SEEDERS).map(|seeder| async move {
            let mut connection = Connection::open(address).await?;
            let mut request = Request::default();
            let mut made = Vec::new();
            for serial in (seeder..contacts).step_by(SEEDERS) {
                let tenant = serial % all.len();
                let body = contact::body(serial as u64);
                request.set("POST", "/api/v1/contacts", &all[tenant].token, &body);
                let created = connection.exchange(&request).await?.json()?;
                let id = created["id"].as_str().context("a contact has no id")?;
                made.push((tenant, id.to_owned()));
            }
            Ok::<_, anyhow::Error>(made)
        });
        for (tenant, id) in try_join_all(seeders)
            .await
            .context("seeding")?
            .into_iter()
            .flatten()
        {
            self.all[tenant].contacts.push(id);
        }
        Ok(())
    }

    /// Takes new tokens before the present ones run out.
    pub(crate) async fn renew_tokens(&mut self, server: &Server) -> Result<()> {
        if self.tokens_made.elapsed() < RENEW {
            return Ok(());
        }
        for tenant in &mut self.all {
            tenant.token = token(server, &tenant.name).await?;
        }
        self.tokens_made = Instant::now();
        Ok(())
    }
}

async fn register(server: &Server, tenant: &str) -> Result<()> {
    let body = json!({
        "setup_token": server.setup_token, "tenant": tenant, "name": "Load",
        "email": EMAIL, "password": PASSWORD,
    });
    let mut request = Request::default();
    request.set("POST", "/api/v1/auth/register", "", &body.to_string());
    let mut connection = Connection::open(server.address).await?;
    connection.exchange(&request).await?.json()?;
    Ok(())
}

async fn token(server: &Server, tenant: &str) -> Result<String> {
    server
        .command(&["token", "--tenant", tenant, "--email", EMAIL], "")
        .await
}
