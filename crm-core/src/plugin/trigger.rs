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

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::schedule::Schedule;
use crate::event::ChangeKind;
use crate::module::Ident;

mod table;

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
    /// Only where one of these fields is to have another value than before, or a new record has
    /// one.
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
    /// The module on whose records it is asked for. Without one nobody can ask for it:
    /// [`Plugins::act`](super::Plugins::act), which is always about records of a module, does not
    /// find it, and no document offers it.
    pub module: Option<Ident>,
    /// What a button says.
    pub label: String,
    /// What it does, in a sentence; may be empty.
    pub description: String,
    /// The JSON Schema of what the caller gives along: an object of texts, numbers and booleans;
    /// without one, nothing.
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

/// The change that a text such as `contact.create` means.
fn planned(text: &str) -> Result<(Ident, PlannedChange), InvalidTrigger> {
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
