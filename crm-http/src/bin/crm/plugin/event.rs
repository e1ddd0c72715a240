//! The file that `crm plugin run` wakes a plugin with: an event, or what somebody asks, sends or waits for.

use std::path::Path;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use crm_core::event::{ChangeKind, Event};
use crm_core::hook::{ActionCall, Change, Fields, Input, Tick, Webhook, WokenBy};
use crm_core::id::RecordId;
use crm_core::plugin::{ActionTrigger, Manifest};
use crm_core::value::Value;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::Outcome;

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

/// `{"before": …}`: a change that is about to be made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Planned {
    /// Such as `contact.create`, as in the manifest.
    before: String,
    module: String,
    /// The record as it is.
    old: Option<Json>,
    /// The record as it is to be.
    new: Option<Json>,
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
    } else if json.get("kind").is_none() && json.get("before").is_some() {
        serde_json::from_value(json).map(of_planned)
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

fn of_planned(planned: Planned) -> Result<Woken, String> {
    let change = planned.before.split_once('.').map(|(_, change)| change);
    let kind = match change {
        Some("create") => ChangeKind::Created,
        Some("update") => ChangeKind::Updated,
        Some("delete") => ChangeKind::Deleted,
        _ => {
            let before = planned.before;
            return Err(format!(
                "before is {before:?}, and is such as contact.create, contact.update or contact.delete"
            ));
        }
    };
    let (old, new) = match kind {
        ChangeKind::Created => (
            None,
            Some(planned.new.ok_or("a new record is missing: new")?),
        ),
        ChangeKind::Updated => {
            let old = planned.old.ok_or("the record as it is is missing: old")?;
            let new = planned
                .new
                .ok_or("the record as it is to be is missing: new")?;
            (Some(old), Some(new))
        }
        _ => (
            Some(planned.old.ok_or("the record as it is is missing: old")?),
            None,
        ),
    };
    let id = old
        .as_ref()
        .and_then(|old| old.get("id")?.as_str()?.parse().ok());
    let before = fields(old);
    let records = id.zip(before.clone()).into_iter();
    let records = records
        .map(|(id, record)| (planned.module.clone(), id, record))
        .collect();
    let change = Change {
        module: planned.module.clone(),
        kind,
        record_id: id,
        before,
        after: fields(new),
        actor: "operator".to_owned(),
        request_id: "run".to_owned(),
    };
    let input = Input::Before(change.into());
    Ok(Woken { input, records })
}

/// Refuses what nothing of the manifest asks for, and an action's input that it does not take.
///
/// # Errors
/// That, with what it does ask for.
pub(super) fn check(manifest: &Manifest, input: &Input) -> Outcome {
    let none = |what: &str, name: &str, known: Vec<&str>| {
        let known = match known.is_empty() {
            true => "none at all".to_owned(),
            false => known.join(", "),
        };
        Err(format!("the plugin's manifest has no {what} {name:?}; it has {known}").into())
    };
    match input {
        Input::Action(asked) => {
            let named = manifest
                .actions()
                .filter(|one| *one.name.as_str() == asked.name);
            // One name may stand for an action of each of several modules.
            let elsewhere = |one: &&ActionTrigger| {
                one.module.as_ref().map(|module| module.as_str()) != asked.module.as_deref()
            };
            let nearest = named.min_by_key(elsewhere);
            let Some(action) = nearest else {
                let known = manifest.actions().map(|action| action.name.as_str());
                return none("action", &asked.name, known.collect());
            };
            let given = asked.input.as_deref().map(serde_json::from_str);
            Ok(action.check_input(&given.transpose()?.unwrap_or_default())?)
        }
        Input::Webhook(sent) => {
            let known: Vec<_> = manifest.webhooks().map(|hook| hook.name.as_str()).collect();
            match known.contains(&&*sent.name) {
                true => Ok(()),
                false => none("webhook", &sent.name, known),
            }
        }
        Input::Tick(tick) => {
            let known = manifest.crons().map(|cron| cron.name.as_str());
            let jobs = manifest.jobs.iter().map(|job| job.as_str());
            let known: Vec<_> = known.chain(jobs).collect();
            match known.contains(&&*tick.name) {
                true => Ok(()),
                false => none("cron trigger or job", &tick.name, known),
            }
        }
        Input::Event(woken) if manifest.triggers_for(&woken.event).next().is_none() => {
            let kind = &woken.event.kind;
            Err(format!("no trigger of the plugin's manifest wakes it on {kind}").into())
        }
        Input::Event(_) | Input::Before(_) | Input::Describe => Ok(()),
    }
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
