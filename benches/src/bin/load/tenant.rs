//! The tenants under load: one administrator of all, an access token and the contacts of each.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::future::try_join_all;
use serde_json::json;

use crate::client::{Connection, Request};
use crate::contact;
use crate::server::Server;

const EMAIL: &str = "load@example.com";
const MEMBER: &str = "member@example.com";
const PASSWORD: &str = "correct horse battery staple";
/// Connections that seed.
const SEEDERS: usize = 32;
/// Half of what a token holds; a measurement lasts no longer than the other half.
const RENEW: Duration = Duration::from_secs(240);

/// A tenant as its client sees it.
pub(crate) struct Tenant {
    name: String,
    pub(crate) token: String,
    /// Of somebody who sees contacts of their own only: every other one.
    pub(crate) member_token: String,
    /// Where all contacts but the last hundred have been listed.
    pub(crate) deep_cursor: String,
    member: String,
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
            let arguments = [
                "user", "create", "--tenant", &name, "--email", MEMBER, "--role", "member",
            ];
            server.command(&arguments, PASSWORD).await?;
            let member_token = token(server, &name, MEMBER).await?;
            let mut request = Request::default();
            request.set("GET", "/api/v1/auth/me", &member_token, "");
            let mut connection = Connection::open(server.address).await?;
            let me = connection.exchange(&request).await?.json()?;
            let member = me["user"]["id"].as_str().context("a member has no id")?;
            all.push(Tenant {
                token: token(server, &name, EMAIL).await?,
                member: member.to_owned(),
                name,
                member_token,
                deep_cursor: String::new(),
                contacts: Vec::new(),
            });
        }
        Ok(Self {
            all,
            tokens_made: Instant::now(),
        })
    }

    /// The body of a login of the first tenant's administrator.
    pub(crate) fn login(&self) -> String {
        let tenant = self.all.first().map_or("", |tenant| tenant.name.as_str());
        json!({"email": EMAIL, "password": PASSWORD, "tenant": tenant}).to_string()
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
                let member = Some(all[tenant].member.as_str());
                let member = member.filter(|_| (serial / all.len()).is_multiple_of(2));
                let body = contact::body(serial as u64, member);
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
        for tenant in &mut self.all {
            tenant.deep_cursor = deep_cursor(address, tenant).await?;
        }
        Ok(())
    }

    /// Takes new tokens before the present ones run out.
    pub(crate) async fn renew_tokens(&mut self, server: &Server) -> Result<()> {
        if self.tokens_made.elapsed() < RENEW {
            return Ok(());
        }
        for tenant in &mut self.all {
            tenant.token = token(server, &tenant.name, EMAIL).await?;
            tenant.member_token = token(server, &tenant.name, MEMBER).await?;
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

/// Pages through a tenant's contacts as far as the last hundred.
async fn deep_cursor(address: SocketAddr, tenant: &Tenant) -> Result<String> {
    let mut connection = Connection::open(address).await?;
    let (mut request, mut cursor) = (Request::default(), String::new());
    for _ in 1..tenant.contacts.len() / 100 {
        let after = match cursor.as_str() {
            "" => String::new(),
            cursor => format!("&cursor={cursor}"),
        };
        let path = format!("/api/v1/contacts?limit=100{after}");
        request.set("GET", &path, &tenant.token, "");
        let page = connection.exchange(&request).await?.json()?;
        page["next_cursor"]
            .as_str()
            .context("the list ends too soon")?
            .clone_into(&mut cursor);
    }
    if cursor.is_empty() {
        bail!("every tenant needs 200 contacts");
    }
    Ok(cursor)
}

async fn token(server: &Server, tenant: &str, email: &str) -> Result<String> {
    server
        .command(&["token", "--tenant", tenant, "--email", email], "")
        .await
}
