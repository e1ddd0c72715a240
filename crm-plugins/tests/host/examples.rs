//! The example plugins, compiled from their source, in a whole library on both databases: woken by its
//! outbox, its clock and signed messages, and heard by a receiver of requests.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use crm_core::clock::Clock;
use crm_core::egress::{Egress, Resolve};
use crm_core::hook::Outcome;
use crm_core::plugin::{Message, Signed};
use crm_core::record::Query;
use crm_core::testing::Backend;
use crm_core::{on_both_databases, read_module};
use crm_plugins::Limits;
use futures::future::BoxFuture;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::end_to_end::{Office, request};
use super::guests_wanted;

on_both_databases!(
    the_lead_scoring_plugin_scores_a_new_contact,
    the_duplicate_guard_tidies_names_and_refuses_a_second_contact,
    the_deal_notifier_tells_the_chat_and_hears_its_replies,
    the_follow_ups_plugin_makes_a_task_at_three_in_berlin,
);

pub(super) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/plugins")
}

pub(super) async fn built(folder: PathBuf) -> Vec<u8> {
    tokio::task::spawn_blocking(move || crm_plugins::build(&folder))
        .await
        .unwrap()
        .unwrap()
}

/// The component of an example, which all tests share.
pub(super) async fn example(name: &'static str) -> Vec<u8> {
    type Cells = HashMap<&'static str, Arc<OnceCell<Vec<u8>>>>;
    static BUILT: LazyLock<Mutex<Cells>> = LazyLock::new(Mutex::default);
    let cell = BUILT.lock().unwrap().entry(name).or_default().clone();
    cell.get_or_init(|| built(examples().join(name)))
        .await
        .clone()
}

async fn the_lead_scoring_plugin_scores_a_new_contact(backend: Backend) -> Result<()> {
    if !guests_wanted() {
        return Ok(());
    }
    let component = example("lead-scoring").await;
    let office = Office::open(backend, Limits::default()).await?;
    let plugin = office.install(component).await?;
    let id = office
        .create(json!({
            "name": "Ada", "email": "ada@engines.example", "company": "Engines",
            "job_title": "Owner", "tags": ["vip"],
        }))
        .await?;
    office.crm.dispatch_once().await?;
    let runs = office.runs(plugin).await?;
    assert_eq!(runs[0].outcome, Outcome::Succeeded, "{:?}", runs[0]);
    // 30 an address of their own, 15 a company, 20 an owner, 15 a VIP.
    assert_eq!(office.contact(id).await?["score"], 80);
    office.crm.close().await;
    Ok(())
}

async fn the_duplicate_guard_tidies_names_and_refuses_a_second_contact(
    backend: Backend,
) -> Result<()> {
    if !guests_wanted() {
        return Ok(());
    }
    let component = example("duplicate-guard").await;
    let office = Office::open(backend, Limits::default()).await?;
    let plugin = office.install(component).await?;
    let ada = json!({ "name": "Ada", "company": "Engines" });
    let id = office.create(ada.clone()).await?;
    let refused = office.create(ada).await.unwrap_err();
    let refused = refused.downcast::<crm_core::Error>()?;
    assert_eq!(refused.code(), "rejected_by_plugin", "{refused:?}");
    let blanks = json!({ "name": " Ada   King", "company": "Engines" });
    let king = office.create(blanks).await?;
    assert_eq!(office.contact(king).await?["name"], "Ada King");
    let runs = office.runs(plugin).await?;
    let outcomes = runs.iter().map(|run| run.outcome);
    assert_eq!(
        outcomes.collect::<Vec<_>>(),
        [Outcome::Succeeded; 3],
        "{runs:?}"
    );
    assert_eq!(office.contact(id).await?["version"], 1);
    office.crm.close().await;
    Ok(())
}

/// A chat on this machine: it takes in what its host is sent, and refuses what names a `Secret mill`.
struct Chat {
    port: u16,
    heard: Arc<Mutex<Vec<(String, Value)>>>,
}

static CHAT: LazyLock<Chat> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::<Mutex<Vec<_>>>::default();
    let keeper = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // One that sends something else is not heard.
            let _ = stream.map(|stream| hear(stream, &keeper));
        }
    });
    Chat { port, heard }
});

/// Keeps the head and the body of a request, and answers it.
fn hear(mut stream: TcpStream, heard: &Mutex<Vec<(String, Value)>>) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = reader.read_line(&mut head)?;
        anyhow::ensure!(read > 0, "the head of a request does not end");
    }
    head.make_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    let mut body = vec![0; length.parse()?];
    reader.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body)?;
    let status = match body["text"].as_str() {
        Some(text) if text.contains("Secret mill") => "503 Service Unavailable",
        _ => "204 No Content",
    };
    heard.lock().unwrap().push((head, body));
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )?;
    Ok(())
}

/// Finds every host on this machine.
pub(super) struct Here;

impl Resolve for Here {
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, std::io::Result<Vec<std::net::IpAddr>>> {
        Box::pin(async { Ok(vec![[127, 0, 0, 1].into()]) })
    }
}

/// The deal notifier with the chat where the tests have it; nothing else of it is changed.
async fn deal_notifier() -> Vec<u8> {
    static BUILT: OnceCell<Vec<u8>> = OnceCell::const_new();
    let build = || async {
        // Below the examples, so that what they compile with is there.
        let target = examples().join("target-guest");
        std::fs::create_dir_all(&target).unwrap();
        let folder = tempfile::tempdir_in(target).unwrap();
        let host = format!("hooks.example.com:{}", CHAT.port);
        for file in ["crm.js", "package.json", "plugin.js", "plugin.toml"] {
            let text =
                std::fs::read_to_string(examples().join("deal-notifier").join(file)).unwrap();
            let text = text.replace("https://hooks", "http://hooks");
            let text = text.replace("hooks.example.com", &host);
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        built(folder.path().to_owned()).await
    };
    BUILT.get_or_init(build).await.clone()
}

async fn the_deal_notifier_tells_the_chat_and_hears_its_replies(backend: Backend) -> Result<()> {
    if !guests_wanted() {
        return Ok(());
    }
    let component = deal_notifier().await;
    let egress = Egress::builder().allow_plugins("127.0.0.1")?;
    let egress = egress.resolver(Arc::new(Here)).build()?;
    let office = Office::open_with(backend, Limits::default(), |library| library.egress(egress));
    let office = office.await?;
    let plugin = office.install(component).await?;
    let manage = office.scope.permit("plugins")?;
    let token = SecretString::from("a token of the chat");
    office
        .plugins()
        .set_secret(&manage, plugin, "webhook_token", &token)
        .await?;

    let mut told = Vec::new();
    for (title, amount) in [("Mill", json!("1200.50")), ("Secret mill", Value::Null)] {
        let deal = json!({ "title": title, "amount": amount, "currency": "EUR" });
        let id = office.create_in("deals", deal).await?;
        let won = json!({ "stage": "won" }).as_object().cloned().unwrap();
        let permit = office.scope.permit("deals")?;
        office
            .crm
            .records()
            .update(&permit, id, Some(1), won)
            .await?;
        office.crm.dispatch_once().await?;
        let heard = CHAT.heard.lock().unwrap().clone();
        let mine = heard
            .into_iter()
            .filter(|(_, body)| body["deal"] == json!(id));
        told.push((id, mine.collect::<Vec<_>>()));
    }
    let (mill, heard) = told.remove(0);
    let (head, body) = &heard[0];
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(body["text"], "Won: Mill for 1200.50 EUR");
    assert!(head.starts_with("post /deals "), "{head}");
    assert!(
        head.contains("authorization: bearer a token of the chat\r\n"),
        "{head}"
    );
    let runs = office.runs(plugin).await?;
    let ends = runs.iter().map(|run| (run.outcome, run.error.as_deref()));
    assert_eq!(
        ends.collect::<Vec<_>>(),
        [
            (Outcome::Failed, Some("the chat answered 503")),
            (Outcome::Succeeded, None)
        ],
        "{runs:?}"
    );
    assert_eq!(runs[1].logs[0].message, "told the chat of Mill");

    let renewed = office
        .plugins()
        .renew_hook_secret(&manage, plugin, "replies", TimeDelta::zero())
        .await?;
    let reply = json!({ "deal": mill, "stage": "negotiation" }).to_string();
    let now = office.crm.clock().now();
    let (timestamp, signature) = (
        now.timestamp().to_string(),
        renewed.sign("msg_1", now, reply.as_bytes())?,
    );
    let signed = |signatures| Signed {
        id: "msg_1",
        timestamp: &timestamp,
        signatures,
    };
    let message = || Message {
        plugin: "deal_notifier".into(),
        hook: "replies".into(),
        content_type: Some("application/json".into()),
        body: reply.clone().into(),
    };
    let (tenant, from) = (Some(office.scope.tenant()), request());
    let receive = |signatures| {
        office
            .plugins()
            .receive_signed(tenant, signed(signatures), message(), &from)
    };
    let refused = receive("v1,AAAA").await.unwrap_err();
    assert_eq!(refused.code(), "signature_invalid", "{refused:?}");
    let first = receive(&signature).await?;
    assert_eq!(receive(&signature).await?, first, "the same message");
    assert_eq!(office.crm.run_due_plugins_once().await?, 1);
    assert_eq!(office.get("deals", mill).await?["stage"], "negotiation");
    office.crm.close().await;
    Ok(())
}

async fn the_follow_ups_plugin_makes_a_task_at_three_in_berlin(backend: Backend) -> Result<()> {
    if !guests_wanted() {
        return Ok(());
    }
    let component = example("follow-ups").await;
    let start: DateTime<Utc> = "2030-01-31T12:00:00Z".parse()?;
    let (clock, hand) = Clock::fixed(start, 1);
    let office = Office::open_with(backend, Limits::default(), |library| library.clock(clock));
    let mut office = office.await?;
    let tasks = read_module(&examples().join("follow-ups/tasks.toml"))?;
    let declare = office.scope.permit("modules")?;
    office.crm.custom_modules().create(&declare, tasks).await?;
    let tenant = office.scope.tenant();
    office.scope = office.crm.operator_in(tenant, request()).await?;
    let plugin = office.install(component).await?;
    let deal = |title: &str, stage: &str, close: &str| json!({ "title": title, "stage": stage, "expected_close": close });
    let late = deal("Mill", "proposal", "2030-01-31");
    let late = office.create_in("deals", late).await?;
    office
        .create_in("deals", deal("Dam", "won", "2030-01-15"))
        .await?;
    office
        .create_in("deals", deal("Pump", "proposal", "2030-03-01"))
        .await?;

    // Three in the morning in Berlin is two in UTC, in winter.
    for (hours, ran) in [(13, 0), (1, 1), (0, 0), (24, 1)] {
        hand.advance(TimeDelta::hours(hours));
        let at = office.crm.clock().now();
        assert_eq!(office.crm.run_due_plugins_once().await?, ran, "at {at}");
    }
    let runs = office.runs(plugin).await?;
    let said = runs.iter().map(|run| &*run.logs[0].message);
    assert_eq!(
        said.collect::<Vec<_>>(),
        ["made 0 tasks", "made 1 tasks"],
        "{runs:?}"
    );
    let permit = office.scope.permit("tasks")?;
    let page = office
        .crm
        .records()
        .list(&permit, &Query::default())
        .await?;
    let tasks = serde_json::to_value(page.data)?;
    assert_eq!(tasks.as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&tasks[0]["title"], &tasks[0]["deal_id"], &tasks[0]["due"]),
        (
            &json!("Follow up: Mill"),
            &json!(late),
            &json!("2030-02-01")
        )
    );
    office.crm.close().await;
    Ok(())
}
