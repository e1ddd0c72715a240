//! A server that is killed loses nothing it has acknowledged, and leaves nothing half-written.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in what its scenarios share"
)]

#[path = "guest/mod.rs"]
mod guest;
#[path = "kill/import.rs"]
mod import;
#[path = "kill/message.rs"]
mod message;
#[path = "kill/session.rs"]
mod session;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use crm_core::on_both_databases;
use crm_core::testing::Backend;
use serde_json::{Value as Json, json};

on_both_databases!(acknowledged_writes_survive_kill_9_with_their_audit_and_outbox_rows);

const ROUNDS: usize = 20;
const WRITERS: usize = 8;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A `crm serve` of its own, killed when dropped.
struct Server {
    child: Child,
    address: String,
    setup_token: Option<String>,
}

impl Server {
    fn start(database: &str) -> anyhow::Result<Self> {
        Self::start_with(database, &[])
    }

    fn start_with(database: &str, options: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_crm"))
            .args(["serve", "--database", database, "--listen", "127.0.0.1:0"])
            .args(options)
            .env("CRM_SECRET_KEY", SECRET)
            .env("LOG_LEVEL", "warn")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
        let (mut address, mut setup_token) = (None, None);
        for line in lines.by_ref() {
            let line = line?;
            if let Some((_, url)) = line.split_once("listening on ") {
                address = Some(url.trim().to_owned());
            } else if let Some((_, token)) = line.split_once("setup token") {
                setup_token = Some(token.trim_start_matches(':').trim().to_owned());
            } else if line.starts_with("reference") && address.is_some() {
                // The setup token, if there is one, follows at once: only the first start has it.
                if database_is_known(database) {
                    break;
                }
            }
            if setup_token.is_some() {
                break;
            }
        }
        // Keep reading, so that the server never blocks on its output.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self {
            child,
            address: address.context("no address printed")?,
            setup_token,
        })
    }

    fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone, or gone now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Databases that a server of this process has registered a user in.
static KNOWN: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

fn database_is_known(url: &str) -> bool {
    KNOWN
        .lock()
        .expect("not poisoned")
        .iter()
        .any(|known| known == url)
}

async fn acknowledged_writes_survive_kill_9_with_their_audit_and_outbox_rows(
    backend: Backend,
) -> anyhow::Result<()> {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(20))
        .build()?;
    let server = Server::start(backend.url())?;
    let registered = client
        .post(format!("{}/api/v1/auth/register", server.address))
        .json(&json!({
            "setup_token": server.setup_token, "tenant": "Acme", "name": "Ada",
            "email": "ada@acme.example", "password": "correct horse battery",
        }))
        .send()
        .await?;
    ensure!(registered.status().is_success(), registered.text().await?);
    let session: Json = registered.json().await?;
    let token = session["access_token"]
        .as_str()
        .context("a token")?
        .to_owned();
    KNOWN
        .lock()
        .expect("not poisoned")
        .push(backend.url().to_owned());
    server.kill()?;

    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let server = Server::start(backend.url())?;
        let enough = Arc::new(AtomicUsize::new(0));
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let (client, token, enough) = (client.clone(), token.clone(), enough.clone());
            let url = format!("{}/api/v1/contacts", server.address);
            writers.spawn(async move {
                let mut made = Vec::new();
                for n in 0.. {
                    let name = format!("Round {round} writer {writer} number {n}");
                    let request = client
                        .post(&url)
                        .bearer_auth(&token)
                        .json(&json!({"name": name}));
                    // The kill ends this loop: a refused connection, or an answer cut short.
                    let Ok(answer) = request.send().await else {
                        break;
                    };
                    if answer.status() != reqwest::StatusCode::CREATED {
                        break;
                    }
                    let Ok(record) = answer.json::<Json>().await else {
                        break;
                    };
                    made.push(record["id"].as_str().unwrap_or_default().to_owned());
                    enough.fetch_add(1, Ordering::SeqCst);
                }
                made
            });
        }
        // Killed in the middle of traffic, at another point each round.
        while enough.load(Ordering::SeqCst) < 10 + round * 5 && !writers.is_empty() {
            tokio::task::yield_now().await;
        }
        server.kill()?;
        while let Some(made) = writers.join_next().await {
            acknowledged.extend(made?);
        }
    }
    ensure!(
        acknowledged.len() >= ROUNDS * 10,
        "only {} writes",
        acknowledged.len()
    );

    let server = Server::start(backend.url())?;
    for id in &acknowledged {
        let url = format!("{}/api/v1/contacts/{id}", server.address);
        let found = client.get(url).bearer_auth(&token).send().await?;
        ensure!(found.status().is_success(), "{id} is lost");
    }
    server.kill()?;
    no_half_rows(backend.url(), acknowledged.len()).await
}

/// Every contact has its audit and its outbox row, and neither stands alone.
async fn no_half_rows(url: &str, least: usize) -> anyhow::Result<()> {
    const COUNTS: &str = "SELECT \
        (SELECT count(*) FROM contacts), \
        (SELECT count(*) FROM contacts c JOIN outbox o ON o.tenant_id = c.tenant_id \
         AND o.record_id = c.id AND o.kind = 'contact.created'), \
        (SELECT count(*) FROM outbox), \
        (SELECT count(*) FROM audit_log WHERE action = 'contacts.create')";
    let (contacts, with_event, events, audits): (i64, i64, i64, i64) = if url.starts_with("sqlite")
    {
        use sqlx::Connection;
        let mut connection = sqlx::SqliteConnection::connect(url).await?;
        sqlx::query_as(COUNTS).fetch_one(&mut connection).await?
    } else {
        use sqlx::Connection;
        let mut connection = sqlx::PgConnection::connect(url).await?;
        sqlx::query_as(COUNTS).fetch_one(&mut connection).await?
    };
    assert!(contacts as usize >= least);
    assert_eq!([with_event, events, audits], [contacts; 3]);
    Ok(())
}
