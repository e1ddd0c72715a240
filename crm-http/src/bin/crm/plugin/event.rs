//! The file that `crm plugin run` wakes a plugin with: an event, or what somebody asks, sends or waits for.

use std::path::Path;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use crm_core::event::Event;
use crm_core::hook::{ActionCall, Fields, Input, Tick, Webhook, WokenBy};
use crm_core::id::RecordId;
use crm_core::value::Value;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

/// What wakes the plugin, and the records that it finds.
pub(super) struct Woken {
    pub(super) input: Input,
    pub(super) records: Vec<(String, RecordId, Fields)>,
}

/// `{"webhook": …}`: what another system sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    webhook: String,
    #[serde(default)]
    id: String,
    content_type: Option<String>,
    #[serde(default)]
    body: Json,
}

/// `{"action": …}`: what somebody asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    action: String,
    module: Option<String>,
    /// Ids, or records with their ids, which the plugin then finds.
    #[serde(default)]
    records: Vec<Json>,
    input: Option<Map<String, Json>>,
}

/// `{"cron": …}`: a time that has come.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Due {
    cron: String,
    payload: Option<String>,
}

/// Reads the file.
///
/// # Errors
/// When it cannot be read, or is nothing that wakes plugins.
pub(super) fn read(file: &Path, now: DateTime<Utc>) -> Result<Woken, String> {
    let name = file.display();
    let text = std::fs::read(file).map_err(|error| format!("{name} cannot be read: {error}"))?;
    let json: Json =
        serde_json::from_slice(&text).map_err(|error| format!("{name} is not JSON: {error}"))?;
    let read = if json.get("webhook").is_some() {
        serde_json::from_value(json).map(|sent| Ok(of_webhook(sent, now)))
    } else if json.get("action").is_some() {
        serde_json::from_value(json).map(of_action)
    } else if json.get("cron").is_some() {
        serde_json::from_value(json).map(|due| Ok(of_cron(due, now)))
    } else {
        serde_json::from_value(json).map(|event| Ok(of_event(event)))
    };
    read.map_err(|error| format!("{name} is not an event: {error}"))?
}

fn of_webhook(sent: Sent, now: DateTime<Utc>) -> Woken {
    let webhook = Webhook {
        name: sent.webhook,
        id: sent.id,
        content_type: sent.content_type,
        body: match sent.body {
            Json::String(text) => Bytes::from(text),
            Json::Null => Bytes::new(),
            json => Bytes::from(json.to_string()),
        },
        received_at: now,
    };
    alone(Input::Webhook(webhook.into()))
}

fn of_cron(due: Due, now: DateTime<Utc>) -> Woken {
    let tick = Tick {
        name: due.cron,
        due_at: now,
        payload: due.payload,
    };
    alone(Input::Tick(tick.into()))
}

fn of_action(asked: Asked) -> Result<Woken, String> {
    let (mut ids, mut records) = (Vec::new(), Vec::new());
    for record in asked.records {
        let id = record.get("id").unwrap_or(&record).as_str();
        let id = id.and_then(|id| id.parse().ok());
        let id: RecordId = id.ok_or("a record of the action has no id that is a UUID")?;
        ids.push(id);
        if let (Some(module), Some(fields)) = (&asked.module, fields(Some(record))) {
            records.push((module.clone(), id, fields));
        }
    }
    let call = ActionCall {
        name: asked.action,
        module: asked.module,
        records: ids,
        input: asked.input.map(|input| Json::Object(input).to_string()),
        actor: "operator".to_owned(),
        request_id: "run".to_owned(),
    };
    let input = Input::Action(call.into());
    Ok(Woken { input, records })
}

fn alone(input: Input) -> Woken {
    Woken {
        input,
        records: Vec::new(),
    }
}

/// The event with its states as fields, whose types nobody here knows.
fn of_event(mut event: Event) -> Woken {
    let (before, after) = (event.before.take(), event.after.take());
    let told = event.told_by().is_some();
    let data = after.as_ref().filter(|_| told).map(ToString::to_string);
    let after = fields(after.filter(|_| !told));
    let record = after
        .clone()
        .map(|record| (event.module.clone(), event.record_id, record));
    let woken = WokenBy {
        data,
        before: fields(before),
        after,
        event,
    };
    Woken {
        input: Input::Event(woken.into()),
        records: record.into_iter().collect(),
    }
}

fn fields(state: Option<Json>) -> Option<Fields> {
    let Some(Json::Object(state)) = state else {
        return None;
    };
    let fields = state.into_iter().map(|(name, json)| {
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(value),
            Json::String(text) => Value::Text(text),
            Json::Number(ref number) => match number.as_i64() {
                Some(number) => Value::Int(number),
                None => Value::Json(json),
            },
            json => Value::Json(json),
        };
        (name, value)
    });
    Some(fields.collect())
}
