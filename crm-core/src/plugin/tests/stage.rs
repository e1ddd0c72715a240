//! A host that plays plugins in Rust.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::sync::Notify;

use super::*;
use crate::hook::{
    Call, Door, DoorQuery, DoorRequest, Fields, Input, LogLevel, LogLine, Output, Report,
};
use crate::value::Value;

#[derive(Default)]
pub(super) struct Stage {
    pub(super) runs: AtomicUsize,
    /// How many components it judged.
    pub(super) judged: AtomicUsize,
    /// Whether those who are moody do something else.
    pub(super) moody: AtomicBool,
    /// Told when somebody begins to wait.
    pub(super) waiting: Notify,
    /// Tells one who lingers to go on.
    pub(super) proceed: Notify,
}

impl PluginHost for Stage {
    fn inspect(&self, component: Bytes) -> BoxFuture<'_, Result<Manifest>> {
        async move {
            self.judged.fetch_add(1, Ordering::SeqCst);
            let manifest = self.manifest(component).await?;
            if manifest.description == "ponder" {
                self.waiting.notify_one();
                self.proceed.notified().await;
            }
            Ok(manifest)
        }
        .boxed()
    }

    fn manifest(&self, component: Bytes) -> BoxFuture<'_, Result<Manifest>> {
        async move { Manifest::parse(std::str::from_utf8(&component).map_err(Error::internal)?) }
            .boxed()
    }

    fn run(&self, call: Call) -> BoxFuture<'_, Result<Report>> {
        async move {
            self.runs.fetch_add(1, Ordering::SeqCst);
            let component = (call.component)().await.unwrap().component;
            assert_eq!(<[u8; 32]>::from(Sha256::digest(&component)), call.sha256);
            let manifest = self.manifest(component).await.unwrap();
            let mut report = Report::refused("");
            report.usage.fuel = 1_000;
            let script = manifest.description.as_str();
            if script == "wait" {
                self.waiting.notify_one();
                call.cancel.cancelled().await;
                report.outcome = Outcome::Cancelled;
                return Ok(report);
            }
            if script == "linger" {
                self.waiting.notify_one();
                tokio::select! {
                    () = self.proceed.notified() => {
                        (report.outcome, report.error) = (Outcome::Succeeded, None);
                    }
                    () = call.cancel.cancelled() => report.outcome = Outcome::Cancelled,
                }
                return Ok(report);
            }
            if script == "unable" {
                report.error = Some("it could not be made ready".into());
                return Ok(report);
            }
            if script == "thirsty" {
                (report.outcome, report.error) = (Outcome::Succeeded, None);
                report.usage.fuel = call.fuel.unwrap_or(u64::MAX);
                return Ok(report);
            }
            if script == "crash" && !self.moody.load(Ordering::SeqCst) {
                (report.outcome, report.error) = (Outcome::Trapped, Some("it crashed".into()));
                return Ok(report);
            }
            if let Input::Before(change) = &call.input {
                return Ok(judges::report(script, &*call.door, change).await);
            }
            let script = match (script, self.moody.load(Ordering::SeqCst)) {
                ("moody", true) => "list",
                ("crash", _) => "read",
                ("moody", false) => "read",
                (script, _) => script,
            };
            match play(script, &*call.door, &call.input).await {
                Ok(message) => {
                    (report.outcome, report.error) = (Outcome::Succeeded, None);
                    if matches!(call.input, Input::Action(_)) {
                        let answer = match script {
                            "sway" => json!({"moody": self.moody.load(Ordering::SeqCst)}),
                            _ => json!({"said": message}),
                        };
                        report.output = Some(Output::Action(Some(answer.to_string())));
                    }
                    report.logs.push(LogLine {
                        level: LogLevel::Info,
                        message,
                    });
                }
                Err(error) => {
                    (report.outcome, report.error) = (Outcome::Failed, Some(error.to_string()));
                }
            }
            Ok(report)
        }
        .boxed()
    }
}

/// Fields as JSON.
pub(super) fn text(fields: Fields) -> String {
    let fields = fields.into_iter();
    let fields = fields.map(|(name, value)| (name, serde_json::to_value(value).unwrap()));
    serde_json::Value::Object(fields.collect()).to_string()
}

fn title(title: &str) -> Fields {
    vec![("title".to_owned(), Value::Text(title.to_owned()))]
}

async fn play(script: &str, door: &dyn Door, input: &Input) -> Result<String> {
    let woken = match input {
        Input::Event(woken) => woken,
        Input::Tick(tick) => {
            if script == "again" {
                let delay = Duration::from_secs(60);
                door.schedule("later", delay, None).await?;
            }
            if script == "make" {
                door.create("deals", title("made")).await?;
            }
            return Ok(format!("{} {:?}", tick.name, tick.payload));
        }
        other => {
            match script {
                "make" => drop(door.create("deals", title("made")).await?),
                "refuse" => return Err(Error::conflict("refused", "not today")),
                _ => {}
            }
            return Ok(format!("{other:?}"));
        }
    };
    let (module, id) = (woken.event.module.as_str(), woken.event.record_id);
    match script {
        "read" => door.get(module, id).await.map(text),
        "look" => {
            let record = text(door.get(module, id).await?);
            Ok(format!("{record} {:?}", woken.after))
        }
        "show" => Ok(format!("{:?} {:?}", woken.before, woken.after)),
        "list" => {
            let query = DoorQuery {
                filter: Some(r#"{"title": "one"}"#.to_owned()),
                limit: 10,
                ..DoorQuery::default()
            };
            let page = door.list(module, query).await?;
            let records: Vec<_> = page.records.into_iter().map(text).collect();
            Ok(records.join("\n"))
        }
        "count" => door.aggregate(module, r#"{"metrics": ["count"]}"#).await,
        "count all" => {
            door.aggregate(module, r#"{"metrics": ["everything"]}"#)
                .await
        }
        "create" => door.create("deals", title("made")).await.map(text),
        "write" => door
            .update(module, id, None, title("changed"))
            .await
            .map(text),
        "write old" => door
            .update(module, id, Some(7), title("changed"))
            .await
            .map(text),
        "write sequence" => {
            let values = title(&woken.event.sequence.to_string());
            door.update(module, id, None, values).await.map(text)
        }
        "write nothing" => door.update(module, id, None, Vec::new()).await.map(text),
        "write nonsense" => {
            let values = vec![("colour".to_owned(), Value::Bool(true))];
            door.update(module, id, None, values).await.map(text)
        }
        "delete" => door.delete(module, id, None).await.map(|()| String::new()),
        "members" => door.get("members", id).await.map(text),
        "defer" => {
            let delay = Duration::from_secs(60);
            let payload = Some(id.to_string());
            door.schedule("later", delay, payload)
                .await
                .map(|()| String::new())
        }
        "pass on" => {
            let (delay, data) = (Duration::from_secs(60), json!(woken.data).to_string());
            door.schedule("later", delay, Some(data))
                .await
                .map(|()| String::new())
        }
        "defer other" => {
            let delay = Duration::from_secs(60);
            door.schedule("other", delay, None)
                .await
                .map(|()| String::new())
        }
        "defer nothing" => door
            .schedule("later", Duration::ZERO, None)
            .await
            .map(|()| String::new()),
        "tell" => {
            let data = json!({"about": id}).to_string();
            door.emit("told", &data).await.map(|()| String::new())
        }
        "tell other" => door.emit("other", "{}").await.map(|()| String::new()),
        "tell list" => door.emit("told", "[]").await.map(|()| String::new()),
        "hear" => Ok(format!("{} {} {:?}", woken.event.kind, module, woken.data)),
        "keep" => remember(door).await,
        "recall" => {
            let value = door.kv_get("copy").await?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&value).into_owned())
        }
        "keep much" => door
            .kv_set("key", vec![0; 64 * 1024 + 1])
            .await
            .map(|()| String::new()),
        "confide" => {
            let secret = door.secret("token").await?;
            door.kv_set("copy", secret.expose_secret().into()).await?;
            Ok(format!("it is {}", secret.expose_secret()))
        }
        "send" => {
            let request = DoorRequest {
                method: "POST".to_owned(),
                url: "https://localhost/hook".to_owned(),
                headers: vec![("x-test".to_owned(), "1".to_owned())],
                body: Bytes::from_static(b"hello"),
            };
            door.fetch(request)
                .await
                .map(|answer| answer.status.to_string())
        }
        script if script.starts_with("fetch ") => fetch(door, &script[6..]).await,
        "everything else" => Ok(everything_else(door).await),
        "nul" => Ok("a\0b".to_owned()),
        _ => Err(Error::conflict("fails", "it\0fails")),
    }
}

/// Uses the plugin's own store.
async fn remember(door: &dyn Door) -> Result<String> {
    let before = door.kv_get("a/1").await?;
    for key in ["a/1", "a/2", "b/1"] {
        door.kv_set(key, key.as_bytes().to_vec()).await?;
    }
    let after = door.kv_get("a/1").await?;
    let keys = door.kv_keys("a/", None).await?;
    let rest = door.kv_keys("a/", Some("a/1")).await?;
    let gone = [door.kv_delete("b/1").await?, door.kv_delete("b/1").await?];
    let refused = door.kv_set("", Vec::new()).await.is_err();
    Ok(format!(
        "{before:?} {after:?} {keys:?} {rest:?} {gone:?} {refused}"
    ))
}

/// What a server answers, with the values of its header `x-seen`.
async fn fetch(door: &dyn Door, url: &str) -> Result<String> {
    let request = DoorRequest {
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: Bytes::new(),
    };
    let answer = door.fetch(request).await?;
    let seen = answer.headers.iter().filter(|(name, _)| name == "x-seen");
    let seen: Vec<_> = seen.map(|(_, value)| value.as_str()).collect();
    let body = String::from_utf8_lossy(&answer.body);
    Ok(format!("{} {body} {seen:?}", answer.status))
}

/// What a plugin is told that asks for what its manifest does not name.
async fn everything_else(door: &dyn Door) -> String {
    let request = DoorRequest {
        method: "GET".to_owned(),
        url: "https://example.com/".to_owned(),
        headers: Vec::new(),
        body: Bytes::new(),
    };
    let answers = [
        door.emit("scored", "{}").await.err(),
        door.kv_get("key").await.err(),
        door.kv_set("key", Vec::new()).await.err(),
        door.kv_delete("key").await.err(),
        door.kv_keys("", None).await.err(),
        door.fetch(request).await.err(),
        door.secret("token").await.err(),
        door.schedule("job", Duration::from_secs(1), None)
            .await
            .err(),
    ];
    let answers = answers.map(|error| match error {
        Some(Error::Forbidden { permission }) => json!(permission),
        other => json!(format!("{other:?}")),
    });
    json!(answers).to_string()
}
