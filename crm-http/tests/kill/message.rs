//! A message to a plugin that was answered is there after the server is killed, and is handled
//! once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use crm_core::on_both_databases;
use crm_core::testing::Backend;
use serde_json::{Value as Json, json};

use crate::Server;
use crate::import::numbers;

on_both_databases!(an_answered_message_survives_kill_9_and_is_handled_once);

const ROUNDS: usize = 4;
const SENDERS: usize = 4;

async fn an_answered_message_survives_kill_9_and_is_handled_once(
    backend: Backend,
) -> anyhow::Result<()> {
    let url = backend.url();
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(60))
        .build()?;
    let server = Server::start(url)?;
    let address = format!("{}/api/v1", server.address);
    let register = client
        .post(format!("{address}/auth/register"))
        .json(&json!({
            "setup_token": server.setup_token, "tenant": "Acme", "name": "Ada",
            "email": "ada@acme.example", "password": "correct horse battery",
        }));
    let session: Json = register.send().await?.error_for_status()?.json().await?;
    let token = session["access_token"].as_str().context("a token")?;
    crate::KNOWN
        .lock()
        .expect("not poisoned")
        .push(url.to_owned());
    let upload = client
        .post(format!("{address}/plugins"))
        .bearer_auth(token)
        .header("Content-Type", "application/wasm")
        .body(crate::guest::listener());
    let plugin: Json = upload.send().await?.error_for_status()?.json().await?;
    let id = plugin["id"].as_str().context("an id")?;
    let sha256 = plugin["sha256"].as_str().context("a hash")?;
    let enable = client.post(format!("{address}/plugins/{id}/enable?sha256={sha256}"));
    enable.bearer_auth(token).send().await?.error_for_status()?;
    server.kill()?;

    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let server = Server::start(url)?;
        let enough = Arc::new(AtomicUsize::new(0));
        let mut senders = tokio::task::JoinSet::new();
        for sender in 0..SENDERS {
            let (client, enough) = (client.clone(), enough.clone());
            let (token, address) = (token.to_owned(), server.address.clone());
            senders.spawn(async move {
                let mut taken = 0;
                for n in 0.. {
                    let key = format!("{round}-{sender}-{n}");
                    let request = client
                        .post(format!("{address}/api/v1/hooks/listener/orders"))
                        .bearer_auth(&token)
                        .header("Idempotency-Key", key)
                        .body(format!("message {n}"));
                    // The kill ends this loop: a refused connection, or an answer cut short.
                    let Ok(answer) = request.send().await else {
                        break;
                    };
                    if answer.status() != reqwest::StatusCode::ACCEPTED
                        || answer.text().await.is_err()
                    {
                        break;
                    }
                    taken += 1;
                    enough.fetch_add(1, Ordering::SeqCst);
                }
                taken
            });
        }
        while enough.load(Ordering::SeqCst) < 10 + round * 10 && !senders.is_empty() {
            tokio::task::yield_now().await;
        }
        server.kill()?;
        while let Some(taken) = senders.join_next().await {
            acknowledged += taken?;
        }
    }
    ensure!(acknowledged >= ROUNDS as i64 * 10, "only {acknowledged}");

    const STORED: &str = "SELECT count(*) FROM plugin_messages";
    let stored = numbers(url, STORED).await?[0];
    // Of some the answer was lost, of none that was answered the message.
    ensure!(stored >= acknowledged, "{stored} of {acknowledged}");
    // What the killed process had taken is nobody's now; to wait for that takes a minute.
    crate::import::execute(
        url,
        "UPDATE plugin_messages SET due_at = received_at WHERE due_at IS NOT NULL",
    )
    .await?;
    let server = Server::start(url)?;
    const WAITING: &str = "SELECT count(*) FROM plugin_messages WHERE due_at IS NOT NULL";
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    while numbers(url, WAITING).await?[0] > 0 {
        ensure!(
            tokio::time::Instant::now() < until,
            "some are never handled"
        );
        tokio::task::yield_now().await;
    }
    server.kill()?;
    const RUNS: &str = "SELECT (SELECT count(*) FROM plugin_runs WHERE outcome = 'succeeded'), \
        (SELECT count(*) FROM plugin_messages m JOIN plugin_runs r ON r.tenant_id = m.tenant_id \
         AND r.event_id = m.id)";
    assert_eq!(numbers(url, RUNS).await?, [stored, stored]);
    Ok(())
}
