//! The form in which a trigger stands in a manifest: a table, or the short form of an event.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value as Json};

use super::super::schedule::Schedule;
use super::{
    ActionTrigger, BeforeTrigger, CronTrigger, EventTrigger, InvalidTrigger, PlannedChange,
    Trigger, WebhookAuth, WebhookTrigger, planned,
};
use crate::event::ChangeKind;
use crate::module::Ident;

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
            let changes = changes.iter().map(|text| planned(text));
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
