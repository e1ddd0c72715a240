//! The stored form of what a run was given and what it exchanged: exact, so that a replay gives a
//! guest the very same bytes.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::event::{ChangeKind, Event};
use crate::hook::{
    ActionCall, Change, Fields, Input, Mask, Outcome, Output, Report, Tick, Verdict, Webhook,
    WokenBy,
};
use crate::id::RecordId;
use crate::value::Value;

/// A value with its type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeptValue {
    Null,
    Boolean(bool),
    Integer(i64),
    Decimal(Decimal),
    Text(String),
    Instant(DateTime<Utc>),
    Date(NaiveDate),
    Time(NaiveTime),
    Id(Uuid),
    Texts(Vec<String>),
    Vector(Vec<f32>),
    Json(Json),
    Bytes(Base64),
}

pub(super) type KeptFields = Vec<(String, KeptValue)>;

/// Bytes, as Base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Base64(pub(super) Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

impl From<Value> for KeptValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Boolean(value),
            Value::Int(value) => Self::Integer(value),
            Value::Decimal(value) => Self::Decimal(value),
            Value::Text(value) => Self::Text(value),
            Value::Instant(value) => Self::Instant(value),
            Value::Date(value) => Self::Date(value),
            Value::Time(value) => Self::Time(value),
            Value::Uuid(value) => Self::Id(value),
            Value::Tags(value) => Self::Texts(value),
            Value::Vector(value) => Self::Vector(value),
            Value::Json(value) => Self::Json(value),
            Value::Bytes(value) => Self::Bytes(Base64(value)),
        }
    }
}

impl From<KeptValue> for Value {
    fn from(value: KeptValue) -> Self {
        match value {
            KeptValue::Null => Self::Null,
            KeptValue::Boolean(value) => Self::Bool(value),
            KeptValue::Integer(value) => Self::Int(value),
            KeptValue::Decimal(value) => Self::Decimal(value),
            KeptValue::Text(value) => Self::Text(value),
            KeptValue::Instant(value) => Self::Instant(value),
            KeptValue::Date(value) => Self::Date(value),
            KeptValue::Time(value) => Self::Time(value),
            KeptValue::Id(value) => Self::Uuid(value),
            KeptValue::Texts(value) => Self::Tags(value),
            KeptValue::Vector(value) => Self::Vector(value),
            KeptValue::Json(value) => Self::Json(value),
            KeptValue::Bytes(value) => Self::Bytes(value.0),
        }
    }
}

pub(super) fn keep(fields: Fields) -> KeptFields {
    let fields = fields.into_iter();
    fields.map(|(name, value)| (name, value.into())).collect()
}

pub(super) fn give(fields: KeptFields) -> Fields {
    let fields = fields.into_iter();
    fields.map(|(name, value)| (name, value.into())).collect()
}

/// Fields as an object of plain values.
fn plain(fields: KeptFields) -> Json {
    let fields = give(fields).into_iter();
    let fields =
        fields.map(|(name, value)| (name, serde_json::to_value(value).unwrap_or_default()));
    Json::Object(fields.collect())
}

/// Most bytes of an answer that is kept, as JSON.
const MOST_ANSWERED: usize = 64 * 1024;

/// How a run ended on the host, as stored: what follows from its answer comes later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KeptEnd {
    pub(super) outcome: Outcome,
    pub(super) error: Option<String>,
    pub(super) answer: Option<KeptAnswer>,
}

/// What a run answered, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum KeptAnswer {
    Accept,
    Amend {
        fields: KeptFields,
    },
    Reject {
        code: String,
        message: String,
        field: Option<String>,
    },
    Action {
        text: Option<String>,
    },
    /// An answer of so many bytes, which is not kept.
    TooLarge {
        bytes: usize,
    },
}

impl KeptEnd {
    /// The end of a run that was stopped, and so answered nothing.
    pub(super) fn stopped(report: &Report) -> Self {
        Self {
            outcome: report.outcome,
            error: report.error.clone(),
            answer: None,
        }
    }

    /// The end of a run whose report holds no secret; what it answers may.
    pub(super) fn of(report: &Report, mask: &Mask) -> Self {
        let answer = report.output.clone().and_then(KeptAnswer::of);
        Self {
            outcome: report.outcome,
            error: report.error.clone(),
            answer: answer.map(|answer| answer.bounded(mask)),
        }
    }
}

impl KeptAnswer {
    fn of(output: Output) -> Option<Self> {
        Some(match output {
            Output::Description { .. } => return None,
            Output::Verdict(Verdict::Accept) => Self::Accept,
            Output::Verdict(Verdict::Amend(fields)) => Self::Amend {
                fields: keep(fields),
            },
            Output::Verdict(Verdict::Reject {
                code,
                message,
                field,
            }) => Self::Reject {
                code,
                message,
                field,
            },
            Output::Action(text) => Self::Action { text },
        })
    }

    /// The same without secrets, if it is not too large.
    fn bounded(self, mask: &Mask) -> Self {
        let masked = || {
            let mut json = serde_json::to_value(&self)?;
            mask.hide_texts(&mut json);
            serde_json::from_value(json)
        };
        match serde_json::to_vec(&self).map_or(usize::MAX, |text| text.len()) {
            bytes if bytes > MOST_ANSWERED => Self::TooLarge { bytes },
            bytes => masked().unwrap_or(Self::TooLarge { bytes }),
        }
    }

    /// As it is told: the values in it only where they may be `shown`.
    pub(super) fn shown(self, shown: bool) -> Json {
        match self {
            Self::Accept => json!({"kind": "accept"}),
            Self::Amend { .. } if !shown => json!({"kind": "amend"}),
            Self::Action { .. } if !shown => json!({"kind": "action"}),
            Self::Amend { fields } => json!({"kind": "amend", "fields": plain(fields)}),
            Self::Reject {
                code,
                message,
                field,
            } => json!({"kind": "reject", "code": code, "message": message, "field": field}),
            Self::Action { text } => {
                let answer = text.map(|text| serde_json::from_str(&text).unwrap_or(json!(text)));
                json!({"kind": "action", "answer": answer})
            }
            Self::TooLarge { bytes } => json!({"kind": "too_large", "bytes": bytes}),
        }
    }
}

/// What woke a plugin, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum KeptInput {
    Describe,
    Event {
        event: Box<Event>,
        before: Option<KeptFields>,
        after: Option<KeptFields>,
        data: Option<String>,
    },
    Before {
        module: String,
        change: ChangeKind,
        record_id: Option<RecordId>,
        before: Option<KeptFields>,
        after: Option<KeptFields>,
        actor: String,
        request_id: String,
    },
    Action {
        name: String,
        module: Option<String>,
        records: Vec<RecordId>,
        input: Option<String>,
        actor: String,
        request_id: String,
    },
    Tick {
        name: String,
        due_at: DateTime<Utc>,
        payload: Option<String>,
    },
    Webhook {
        name: String,
        id: String,
        content_type: Option<String>,
        body: Base64,
        received_at: DateTime<Utc>,
    },
}

impl KeptInput {
    /// As it is shown: the states of records as objects of plain values.
    pub(super) fn shown(self) -> Result<Json> {
        let mut shown = serde_json::to_value(&self).map_err(Error::internal)?;
        if let Self::Event { before, after, .. } | Self::Before { before, after, .. } = self {
            shown["before"] = before.map_or(Json::Null, plain);
            shown["after"] = after.map_or(Json::Null, plain);
        }
        Ok(shown)
    }
}

impl From<&Input> for KeptInput {
    fn from(input: &Input) -> Self {
        match input.clone() {
            Input::Describe => Self::Describe,
            Input::Event(woken) => {
                let woken = Arc::unwrap_or_clone(woken);
                Self::Event {
                    event: Box::new(woken.event),
                    before: woken.before.map(keep),
                    after: woken.after.map(keep),
                    data: woken.data,
                }
            }
            Input::Before(change) => {
                let change = Arc::unwrap_or_clone(change);
                Self::Before {
                    module: change.module,
                    change: change.kind,
                    record_id: change.record_id,
                    before: change.before.map(keep),
                    after: change.after.map(keep),
                    actor: change.actor,
                    request_id: change.request_id,
                }
            }
            Input::Action(action) => {
                let action = Arc::unwrap_or_clone(action);
                Self::Action {
                    name: action.name,
                    module: action.module,
                    records: action.records,
                    input: action.input,
                    actor: action.actor,
                    request_id: action.request_id,
                }
            }
            Input::Tick(tick) => {
                let tick = Arc::unwrap_or_clone(tick);
                Self::Tick {
                    name: tick.name,
                    due_at: tick.due_at,
                    payload: tick.payload,
                }
            }
            Input::Webhook(webhook) => {
                let webhook = Arc::unwrap_or_clone(webhook);
                Self::Webhook {
                    name: webhook.name,
                    id: webhook.id,
                    content_type: webhook.content_type,
                    body: Base64(webhook.body.into()),
                    received_at: webhook.received_at,
                }
            }
        }
    }
}

impl From<KeptInput> for Input {
    fn from(input: KeptInput) -> Self {
        match input {
            KeptInput::Describe => Self::Describe,
            KeptInput::Event {
                event,
                before,
                after,
                data,
            } => Self::Event(Arc::new(WokenBy {
                event: *event,
                before: before.map(give),
                after: after.map(give),
                data,
            })),
            KeptInput::Before {
                module,
                change,
                record_id,
                before,
                after,
                actor,
                request_id,
            } => Self::Before(Arc::new(Change {
                module,
                kind: change,
                record_id,
                before: before.map(give),
                after: after.map(give),
                actor,
                request_id,
            })),
            KeptInput::Action {
                name,
                module,
                records,
                input,
                actor,
                request_id,
            } => Self::Action(Arc::new(ActionCall {
                name,
                module,
                records,
                input,
                actor,
                request_id,
            })),
            KeptInput::Tick {
                name,
                due_at,
                payload,
            } => Self::Tick(Arc::new(Tick {
                name,
                due_at,
                payload,
            })),
            KeptInput::Webhook {
                name,
                id,
                content_type,
                body,
                received_at,
            } => Self::Webhook(Arc::new(Webhook {
                name,
                id,
                content_type,
                body: Bytes::from(body.0),
                received_at,
            })),
        }
    }
}
