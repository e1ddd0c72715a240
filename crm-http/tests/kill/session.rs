//! What a killed server has said of sessions holds after it: an end stays an end, and a login that
//! waits for a device goes on.

#[path = "../api/authenticator.rs"]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod authenticator;

use anyhow::{Context, ensure};
use authenticator::{Key, Manner, ORIGIN, PRESENT, VERIFIED};
use crm_core::on_both_databases;
use crm_core::testing::Backend;
use reqwest::Client;
use serde_json::{Value as Json, json};

use crate::{KNOWN, Server};

on_both_databases!(
    the_end_of_a_session_holds_after_kill_9,
    a_login_with_a_passkey_goes_on_after_kill_9,
);

const PASSWORD: &str = "correct horse battery";

/// A server with Ada registered, and her session.
async fn start(backend: &Backend) -> anyhow::Result<(Server, Json)> {
    let server = serve(backend)?;
    let body = json!({
        "setup_token": server.setup_token, "tenant": "Acme", "name": "Ada",
        "email": "ada@acme.example", "password": PASSWORD,
    });
    let session = post(&server, "register", None, body).await?;
    KNOWN
        .lock()
        .expect("not poisoned")
        .push(backend.url().to_owned());
    Ok((server, session))
}

fn serve(backend: &Backend) -> anyhow::Result<Server> {
    Server::start_with(backend.url(), &["--app-url", ORIGIN])
}

async fn post(
    server: &Server,
    path: &str,
    token: Option<&str>,
    body: Json,
) -> anyhow::Result<Json> {
    let url = format!("{}/api/v1/auth/{path}", server.address);
    let mut request = Client::new().post(url).json(&body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status.is_success(), "{path}: {status} {text}");
    Ok(match text.is_empty() {
        true => Json::Null,
        false => serde_json::from_str(&text)?,
    })
}

fn text<'a>(session: &'a Json, member: &str) -> anyhow::Result<&'a str> {
    session[member].as_str().context("a token")
}

async fn me(server: &Server, session: &Json) -> anyhow::Result<u16> {
    let url = format!("{}/api/v1/auth/me", server.address);
    let request = Client::new().get(url);
    let answer = request.bearer_auth(text(session, "access_token")?).send();
    Ok(answer.await?.status().as_u16())
}

async fn the_end_of_a_session_holds_after_kill_9(backend: Backend) -> anyhow::Result<()> {
    let (mut server, kept) = start(&backend).await?;
    let login = json!({"email": "ada@acme.example", "password": PASSWORD});
    for path in ["logout", "refresh"] {
        let ended = post(&server, "login", None, login.clone()).await?;
        let token = json!({"refresh_token": ended["refresh_token"]});
        ensure!(me(&server, &ended).await? == 200, "the session opens");
        post(&server, path, None, token.clone()).await?;
        if path == "refresh" {
            // The second use of its successor's parent betrays a thief, and ends the session.
            let next = post(&server, "refresh", None, token.clone()).await?;
            let next = json!({"refresh_token": next["refresh_token"]});
            post(&server, "refresh", None, next).await?;
            ensure!(post(&server, "refresh", None, token.clone()).await.is_err());
        }
        server.kill()?;
        server = serve(&backend)?;
        ensure!(
            me(&server, &ended).await? == 401,
            "{path}: the access token"
        );
        ensure!(
            post(&server, "refresh", None, token).await.is_err(),
            "{path}"
        );
        ensure!(me(&server, &kept).await? == 200, "{path}: another session");
    }
    let access = text(&kept, "access_token")?;
    post(&server, "logout-everywhere", Some(access), Json::Null).await?;
    server.kill()?;
    let server = serve(&backend)?;
    ensure!(me(&server, &kept).await? == 401, "everywhere");
    server.kill()
}

async fn a_login_with_a_passkey_goes_on_after_kill_9(backend: Backend) -> anyhow::Result<()> {
    let (server, session) = start(&backend).await?;
    let access = text(&session, "access_token")?.to_owned();
    let proof = json!({"password": PASSWORD});
    let begun = post(&server, "passkeys/options", Some(&access), proof).await?;
    server.kill()?;
    let server = serve(&backend)?;
    let honest = Manner {
        flags: PRESENT | VERIFIED,
        ..Manner::default()
    };
    let (mut key, credential) = Key::create(&begun["public_key"], &honest);
    let body = json!({"passkey_token": begun["passkey_token"], "name": "Phone",
        "credential": credential});
    post(&server, "passkeys", Some(&access), body).await?;
    let asked = post(&server, "passkeys/login/options", None, Json::Null).await?;
    server.kill()?;
    let server = serve(&backend)?;
    let credential = key.sign(&asked["public_key"], &honest);
    let body = json!({"passkey_token": asked["passkey_token"], "credential": credential});
    let opened = post(&server, "passkeys/login", None, body.clone()).await?;
    ensure!(me(&server, &opened).await? == 200);
    server.kill()?;
    let server = serve(&backend)?;
    ensure!(
        post(&server, "passkeys/login", None, body).await.is_err(),
        "it is used up"
    );
    server.kill()
}
