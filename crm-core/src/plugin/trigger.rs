//! What wakes a plugin, as its manifest says it: one table for each, or the short form
//! `"contact.created"` for an event.
//!
//! ```toml
//! [[triggers]]
//! on = "contact.updated"            # an event, here only where the e-mail address changed
//! fields = ["email"]
//! filter = { score = { gt = 10 } }
//! [[triggers]]
//! before = ["contact.create"]       # a change that is not yet made; `fields` and `filter` as above
//! [[triggers]]
//! cron = "nightly"                  # a time
//! schedule = "0 3 * * *"
//! timezone = "Europe/Berlin"
//! [[triggers]]
//! webhook = "payments"              # another system; it signs unless `auth = "api_key"`
//! [[triggers]]
//! action = "rescore"                # somebody who asks for it
//! module = "contacts"
//! label = "Score again"
//! ```

use std::fmt;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value as Json};

use super::schedule::Schedule;
use crate::error::Result;
use crate::event::ChangeKind;
use crate::module::Ident;

/// What wakes a plugin.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// Something happened to a record.
    Event(EventTrigger),
    /// A plugin told an event of its own.
    Custom(CustomTrigger),
    /// Somebody is about to change a record.
    Before(BeforeTrigger),
    /// A time has come.
    Cron(CronTrigger),
    /// Another system sent something.
    Webhook(WebhookTrigger),
    /// Somebody asks for it by hand.
    Action(ActionTrigger),
}

/// Wakes a plugin behind the changes of records.
#[derive(Debug, Clone, PartialEq)]
pub struct EventTrigger {
    /// The module's singular name.
    pub subject: Ident,
    /// What happened to the record.
    pub change: ChangeKind,
    /// Only where one of these fields has another value than before.
    pub fields: Vec<Ident>,
    /// Only for records that match: as they are behind the change, or were before they went.
    pub filter: Option<Map<String, Json>>,
}

/// Wakes a plugin behind what another one, or it itself, told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomTrigger {
    /// The telling plugin's name.
    pub plugin: Ident,
    /// The event's name.
    pub name: Ident,
}

/// Asks a plugin before records change.
#[derive(Debug, Clone, PartialEq)]
pub struct BeforeTrigger {
    /// Which changes: a module's singular name, and what is about to be done.
    pub changes: Vec<(Ident, PlannedChange)>,
    /// Only where one of these fields is to have another value than before, or a new record has one.
    pub fields: Vec<Ident>,
    /// Only for records that match: as they would be behind the change, or are before they go.
    pub filter: Option<Map<String, Json>>,
}

/// A change that a plugin is asked about before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlannedChange {
    /// A new record.
    Create,
    /// New values.
    Update,
    /// The record goes.
    Delete,
}

impl PlannedChange {
    /// `create`, `update`, `delete`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// Wakes a plugin by the clock.
#[derive(Debug, Clone, PartialEq)]
pub struct CronTrigger {
    /// Its name, which the plugin is given.
    pub name: Ident,
    /// When.
    pub schedule: Schedule,
}

/// Lets another system wake a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookTrigger {
    /// Its name, which the plugin is given.
    pub name: Ident,
    /// How senders say who they are.
    pub auth: WebhookAuth,
}

/// How those who send to a webhook say who they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookAuth {
    /// They sign each message with a secret of this webhook, as Standard Webhooks has it.
    #[default]
    Signature,
    /// They send a credential of the tenant, such as an API key.
    ApiKey,
}

/// Lets somebody wake a plugin by hand.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionTrigger {
    /// Its name, which the plugin is given.
    pub name: Ident,
    /// The module on whose records it is offered; none for one that is about no record.
    pub module: Option<Ident>,
    /// What a button says.
    pub label: String,
    /// What it does, in a sentence; may be empty.
    pub description: String,
    /// The JSON Schema of what the caller gives along: an object of texts, numbers and booleans; without
    /// one, nothing.
    pub input: Option<Map<String, Json>>,
}

const CHANGES: [ChangeKind; 6] = [
    ChangeKind::Created,
    ChangeKind::Updated,
    ChangeKind::Deleted,
    ChangeKind::Restored,
    ChangeKind::Purged,
    ChangeKind::Merged,
];

/// What happened to a record, by the last segment of an event's kind.
pub(super) fn change(word: &str) -> Option<ChangeKind> {
    CHANGES.into_iter().find(|kind| kind.as_str() == word)
}

/// Why a text is not a [`Trigger`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTrigger {
    /// No event is called so.
    #[error(
        "{0:?} is not a trigger: write a module's singular name and created, updated, deleted, \
         restored, purged or merged, such as contact.created, or a plugin's name and that of an \
         event it emits"
    )]
    Event(String),
    /// No change is called so.
    #[error(
        "{0:?} is no change to be asked about: write a module's singular name and create, update \
         or delete, such as contact.create"
    )]
    Change(String),
    /// The table says too little, too much, or contradicts itself.
    #[error("{0}")]
    Table(String),
}

impl FromStr for Trigger {
    type Err = InvalidTrigger;

    fn from_str(text: &str) -> Result<Self, InvalidTrigger> {
        let refused = || InvalidTrigger::Event(text.to_owned());
        let (subject, word) = text.split_once('.').ok_or_else(refused)?;
        let subject: Ident = subject.parse().map_err(|_| refused())?;
        Ok(match change(word) {
            Some(change) => Self::Event(EventTrigger {
                subject,
                change,
                fields: Vec::new(),
                filter: None,
            }),
            None => Self::Custom(CustomTrigger {
                plugin: subject,
                name: word.parse().map_err(|_| refused())?,
            }),
        })
    }
}

fn before(text: &str) -> Result<(Ident, PlannedChange), InvalidTrigger> {
    let known = [
        PlannedChange::Create,
        PlannedChange::Update,
        PlannedChange::Delete,
    ];
    let parsed = || {
        let (subject, word) = text.split_once('.')?;
        let change = known.into_iter().find(|known| known.as_str() == word)?;
        Some((subject.parse().ok()?, change))
    };
    parsed().ok_or_else(|| InvalidTrigger::Change(text.to_owned()))
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(event) => {
                write!(f, "{}.{}", event.subject, event.change)?;
                only_of(f, &event.fields, event.filter.as_ref())
            }
            Self::Custom(custom) => write!(f, "{}.{}", custom.plugin, custom.name),
            Self::Before(before) => {
                let changes = before.changes.iter();
                let changes =
                    changes.map(|(subject, change)| format!("{subject}.{}", change.as_str()));
                write!(f, "before {}", changes.collect::<Vec<_>>().join(", "))?;
                only_of(f, &before.fields, before.filter.as_ref())
            }
            Self::Cron(cron) => write!(f, "cron {}: {}", cron.name, cron.schedule),
            Self::Webhook(webhook) => match webhook.auth {
                WebhookAuth::Signature => write!(f, "webhook {}", webhook.name),
                WebhookAuth::ApiKey => write!(f, "webhook {} with an API key", webhook.name),
            },
            Self::Action(action) => match &action.module {
                Some(module) => write!(f, "action {} on {module}", action.name),
                None => write!(f, "action {}", action.name),
            },
        }
    }
}

/// What a trigger is limited to, behind its name.
fn only_of(
    f: &mut fmt::Formatter<'_>,
    fields: &[Ident],
    filter: Option<&Map<String, Json>>,
) -> fmt::Result {
    if !fields.is_empty() {
        write!(f, " of {}", listed(fields))?;
    }
    match filter {
        Some(filter) => write!(f, " where {}", Json::Object(filter.clone())),
        None => Ok(()),
    }
}

fn listed(names: &[Ident]) -> String {
    names
        .iter()
        .map(Ident::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Every key that a table may have; which of them go together is a matter of its kind.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fields: Option<Vec<Ident>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filter: Option<Map<String, Json>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cron: Option<Ident>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    webhook: Option<Ident>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auth: Option<WebhookAuth>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    action: Option<Ident>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    module: Option<Ident>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<Map<String, Json>>,
}

fn wrong(message: impl Into<String>) -> Result<Trigger, InvalidTrigger> {
    Err(InvalidTrigger::Table(message.into()))
}

impl Table {
    const MAX_LABEL: usize = 100;
    const MAX_DESCRIPTION: usize = 500;

    /// The keys that are there, beside those of one kind.
    fn beside(&self, kind: &[&str]) -> Option<&'static str> {
        let there = [
            ("on", self.on.is_some()),
            ("fields", self.fields.is_some()),
            ("filter", self.filter.is_some()),
            ("before", self.before.is_some()),
            ("cron", self.cron.is_some()),
            ("schedule", self.schedule.is_some()),
            ("timezone", self.timezone.is_some()),
            ("webhook", self.webhook.is_some()),
            ("auth", self.auth.is_some()),
            ("action", self.action.is_some()),
            ("module", self.module.is_some()),
            ("label", self.label.is_some()),
            ("description", self.description.is_some()),
            ("input", self.input.is_some()),
        ];
        let mut foreign = there
            .into_iter()
            .filter(|(name, there)| *there && !kind.contains(name));
        foreign.next().map(|(name, _)| name)
    }

    fn only(&self, kind: &[&'static str]) -> Result<(), InvalidTrigger> {
        match self.beside(kind) {
            None => Ok(()),
            Some(key) => Err(InvalidTrigger::Table(format!(
                "`{key}` does not belong into a trigger with `{}`",
                kind.first().unwrap_or(&"on")
            ))),
        }
    }

    fn read(self) -> Result<Trigger, InvalidTrigger> {
        if let Some(on) = self.on.clone() {
            self.only(&["on", "fields", "filter"])?;
            return self.event(&on);
        }
        if let Some(changes) = &self.before {
            self.only(&["before", "fields", "filter"])?;
            let changes = changes.iter().map(|text| before(text));
            let changes = changes.collect::<Result<_, _>>()?;
            return self.before(changes);
        }
        if let Some(name) = self.cron.clone() {
            self.only(&["cron", "schedule", "timezone"])?;
            return self.cron(name);
        }
        if let Some(name) = &self.webhook {
            self.only(&["webhook", "auth"])?;
            return Ok(Trigger::Webhook(WebhookTrigger {
                name: name.clone(),
                auth: self.auth.unwrap_or_default(),
            }));
        }
        if let Some(name) = self.action.clone() {
            self.only(&["action", "module", "label", "description", "input"])?;
            return self.action(name);
        }
        wrong("a trigger has one of `on`, `before`, `cron`, `webhook` and `action`")
    }

    fn event(self, on: &str) -> Result<Trigger, InvalidTrigger> {
        let event = match on.parse()? {
            Trigger::Event(event) => event,
            custom if self.fields.is_some() || self.filter.is_some() => {
                return wrong(format!(
                    "`fields` and `filter` are about records; {custom} tells of none"
                ));
            }
            custom => return Ok(custom),
        };
        let of_change = matches!(event.change, ChangeKind::Updated | ChangeKind::Merged);
        match self.fields {
            Some(fields) if fields.is_empty() => {
                wrong(format!("the trigger on {on} names no field in `fields`"))
            }
            Some(_) if !of_change => wrong(format!(
                "`fields` are those that an update changes; {on} is none"
            )),
            fields => Ok(Trigger::Event(EventTrigger {
                fields: fields.unwrap_or_default(),
                filter: self.filter,
                ..event
            })),
        }
    }

    fn before(self, changes: Vec<(Ident, PlannedChange)>) -> Result<Trigger, InvalidTrigger> {
        if changes.is_empty() {
            return wrong("`before` names no change");
        }
        let mut deleted = changes.iter();
        let deleted = deleted.find(|(_, change)| *change == PlannedChange::Delete);
        match (self.fields, deleted) {
            (Some(fields), _) if fields.is_empty() => {
                wrong("the trigger with `before` names no field in `fields`")
            }
            (Some(_), Some((subject, _))) => wrong(format!(
                "`fields` are those that a change sets; {subject}.delete sets none"
            )),
            (fields, _) => Ok(Trigger::Before(BeforeTrigger {
                changes,
                fields: fields.unwrap_or_default(),
                filter: self.filter,
            })),
        }
    }

    fn cron(self, name: Ident) -> Result<Trigger, InvalidTrigger> {
        let Some(schedule) = &self.schedule else {
            return wrong(format!("the cron trigger {name} needs a `schedule`"));
        };
        let zone = self.timezone.as_deref().unwrap_or("UTC");
        let schedule = Schedule::parse(schedule, zone).map_err(InvalidTrigger::Table)?;
        Ok(Trigger::Cron(CronTrigger { name, schedule }))
    }

    fn action(self, name: Ident) -> Result<Trigger, InvalidTrigger> {
        let description = self.description.unwrap_or_default();
        if description.chars().count() > Self::MAX_DESCRIPTION {
            let most = Self::MAX_DESCRIPTION;
            return wrong(format!(
                "the description of {name} has at most {most} characters"
            ));
        }
        let label = self.label.unwrap_or_else(|| name.to_string());
        if label.trim().is_empty() || label.chars().count() > Self::MAX_LABEL {
            let most = Self::MAX_LABEL;
            return wrong(format!("the label of {name} has 1 to {most} characters"));
        }
        Ok(Trigger::Action(ActionTrigger {
            name,
            module: self.module,
            label,
            description,
            input: self.input,
        }))
    }

    fn of(trigger: &Trigger) -> Self {
        let empty = Self::default();
        match trigger.clone() {
            Trigger::Event(event) => Self {
                on: Some(format!("{}.{}", event.subject, event.change)),
                fields: (!event.fields.is_empty()).then_some(event.fields),
                filter: event.filter,
                ..empty
            },
            Trigger::Custom(custom) => Self {
                on: Some(format!("{}.{}", custom.plugin, custom.name)),
                ..empty
            },
            Trigger::Before(before) => {
                let changes = before.changes.iter();
                let changes =
                    changes.map(|(subject, change)| format!("{subject}.{}", change.as_str()));
                Self {
                    before: Some(changes.collect()),
                    fields: (!before.fields.is_empty()).then_some(before.fields),
                    filter: before.filter,
                    ..empty
                }
            }
            Trigger::Cron(cron) => Self {
                cron: Some(cron.name),
                schedule: Some(cron.schedule.pattern().to_owned()),
                timezone: Some(cron.schedule.zone().to_owned()),
                ..empty
            },
            Trigger::Webhook(webhook) => Self {
                webhook: Some(webhook.name),
                auth: (webhook.auth != WebhookAuth::default()).then_some(webhook.auth),
                ..empty
            },
            Trigger::Action(action) => Self {
                action: Some(action.name),
                module: action.module,
                label: Some(action.label),
                description: Some(action.description).filter(|text| !text.is_empty()),
                input: action.input,
                ..empty
            },
        }
    }
}

impl Serialize for Trigger {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Event(event) if event.fields.is_empty() && event.filter.is_none() => {
                serializer.collect_str(self)
            }
            Self::Custom(_) => serializer.collect_str(self),
            _ => Table::of(self).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Trigger {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;

        impl<'de> Visitor<'de> for Form {
            type Value = Trigger;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event such as \"contact.created\", or a table")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Trigger, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Trigger, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                table.read().map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(Form)
    }
}
