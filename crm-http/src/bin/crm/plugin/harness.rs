//! `crm plugin harness`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use crm_core::Error;
use crm_core::hook::Outcome as Ended;
use crm_core::id::RecordId;
use crm_core::plugin::Acted;
use crm_plugins::testing::Harness as Tenant;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Outcome;
use crate::settings::Settings;
use crate::stdout::say;

/// Be the CRM of a plugin's test: an order a line on standard input, an answer a line on standard output
///
/// Orders and answers are JSON. One tenant in a temporary database, with the built-in modules and those
/// of --modules; gone with the end of the input. The Rust SDK's tests use it; so can any language's.
#[derive(Args)]
#[command(after_long_help = "\
Orders:
  {\"do\": \"install\", \"file\": \"lead-scoring.wasm\"}
  {\"do\": \"secret\", \"name\": \"token\", \"value\": \"…\"}
  {\"do\": \"create\", \"module\": \"contacts\", \"values\": {\"name\": \"Ada\"}}
  {\"do\": \"update\", \"module\": \"contacts\", \"id\": \"…\", \"values\": {\"score\": 7}}
  {\"do\": \"delete\", \"module\": \"contacts\", \"id\": \"…\"}
  {\"do\": \"get\", \"module\": \"contacts\", \"id\": \"…\"}
  {\"do\": \"list\", \"module\": \"contacts\"}
  {\"do\": \"receive\", \"webhook\": \"payments\", \"body\": {\"paid\": true}}
  {\"do\": \"act\", \"action\": \"rescore\", \"module\": \"contacts\", \"records\": [\"…\"], \"input\": {}}
  {\"do\": \"advance\", \"seconds\": 86400}
  {\"do\": \"runs\"}

Answers: {\"ok\": …} or {\"error\": {\"code\": …, \"message\": …}}")]
pub(crate) struct Harness {}

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Order {
    Install {
        file: PathBuf,
    },
    Secret {
        name: String,
        value: String,
    },
    Create {
        module: String,
        values: Value,
    },
    Update {
        module: String,
        id: RecordId,
        values: Value,
    },
    Delete {
        module: String,
        id: RecordId,
    },
    Get {
        module: String,
        id: RecordId,
    },
    List {
        module: String,
    },
    /// The body is sent as JSON, and a text as it is.
    Receive {
        webhook: String,
        content_type: Option<String>,
        #[serde(default)]
        body: Value,
    },
    Act {
        action: String,
        module: String,
        records: Vec<RecordId>,
        #[serde(default = "nothing")]
        input: Value,
    },
    Advance {
        seconds: u64,
    },
    Runs,
}

fn nothing() -> Value {
    json!({})
}

impl Harness {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let tenant = Tenant::new(settings.specs()?).await?;
        // Nothing else is to be done while the next order is awaited.
        for line in std::io::stdin().lines() {
            let answer = match serde_json::from_str(&line?) {
                Ok(order) => follow(&tenant, order).await.unwrap_or_else(refusal),
                Err(error) => failure("not_an_order", &error.to_string()),
            };
            say!("{answer}");
        }
        tenant.close().await;
        Ok(())
    }
}

async fn follow(tenant: &Tenant, order: Order) -> Result<Value, Error> {
    let ok = match order {
        Order::Install { file } => {
            let component = super::read(&file).map_err(|line| Error::Configuration(line.into()))?;
            json!(tenant.install(component).await?)
        }
        Order::Secret { name, value } => {
            json!(tenant.secret(&name, &SecretString::from(value)).await?)
        }
        Order::Create { module, values } => tenant.create(&module, values).await?,
        Order::Update { module, id, values } => tenant.update(&module, id, values).await?,
        Order::Delete { module, id } => json!(tenant.delete(&module, id).await?),
        Order::Get { module, id } => tenant.get(&module, id).await?,
        Order::List { module } => json!(tenant.list(&module).await?),
        Order::Receive {
            webhook,
            content_type,
            body,
        } => {
            let (kind, body) = match body {
                Value::String(text) => ("text/plain", text),
                json => ("application/json", json.to_string()),
            };
            let kind = content_type.as_deref().unwrap_or(kind);
            json!(tenant.receive(&webhook, Some(kind), body).await?)
        }
        Order::Act {
            action,
            module,
            records,
            input,
        } => return Ok(answer(tenant.act(&action, &module, records, input).await?)),
        Order::Advance { seconds } => json!(tenant.advance(Duration::from_secs(seconds)).await?),
        Order::Runs => json!(tenant.runs().await?),
    };
    Ok(json!({ "ok": ok }))
}

/// The answer to an action, with the codes that it has over HTTP.
fn answer(acted: Acted) -> Value {
    let why = acted.error.unwrap_or_else(|| acted.outcome.to_string());
    match acted.outcome {
        Ended::Succeeded => json!({ "ok": acted.answer }),
        Ended::Failed => failure("action_refused", &why),
        Ended::Refused => failure("action_not_run", &why),
        _ => failure("action_failed", &why),
    }
}

/// The answer to an order that was refused, with every field at fault.
fn refusal(error: Error) -> Value {
    let message = match &error {
        Error::Invalid(fields) => {
            let fields = fields.iter();
            let lines = fields.map(|field| format!("{}: {}", field.pointer, field.message));
            lines.collect::<Vec<_>>().join("; ")
        }
        error => error.to_string(),
    };
    failure(error.code(), &message)
}

fn failure(code: &str, message: &str) -> Value {
    json!({ "error": { "code": code, "message": message } })
}
