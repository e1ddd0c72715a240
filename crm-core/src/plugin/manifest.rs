//! What a plugin says about itself: its name, what wakes it, and which rights it asks for.
//!
//! A manifest asks; it gives nothing. The administrator who enables the plugin grants it, and every
//! call is still bounded by that administrator's own rights.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::grant::{Grant, GrantAction};
use super::trigger::{
    self, ActionTrigger, BeforeTrigger, CronTrigger, PlannedChange, Trigger, WebhookTrigger,
};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::module::Ident;

#[cfg(test)]
mod tests;

/// The manifest a plugin's component carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The plugin's name, unique within a tenant.
    pub name: Ident,
    /// The plugin's version (semver.org 2.0.0).
    pub version: String,
    /// One sentence for the administrator who decides.
    #[serde(default)]
    pub description: String,
    /// What wakes it.
    pub triggers: Vec<Trigger>,
    /// The rights on records that it asks for; none without a line.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// The hosts that it sends requests to: `api.example.com`, or with a port other than 443
    /// `api.example.com:8443`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The names of the secrets that it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Ident>,
    /// Whether it keeps values of its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub kv: bool,
    /// The names of the events that it tells, as `<plugin>.<name>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emits: Vec<Ident>,
    /// The names of the jobs that it schedules for itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<Ident>,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Manifest {
    /// The largest manifest, in bytes of TOML.
    pub const MAX_BYTES: usize = 64 * 1024;
    const MAX_DESCRIPTION: usize = 500;
    const MAX_LINES: usize = 50;
    const MAX_FIELDS: usize = 200;

    /// Reads the TOML text of a manifest.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with the code `invalid_manifest` for anything else than a whole,
    /// consistent manifest; unknown fields are refused.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > Self::MAX_BYTES {
            return Err(invalid(format!(
                "it has more than {} bytes",
                Self::MAX_BYTES
            )));
        }
        let manifest: Self = toml::from_str(text).map_err(|error| invalid(error.message()))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The functions of the host that it may import, such as `records.get`, or whole interfaces,
    /// such as `http`. Types need no grant.
    pub fn imports(&self) -> BTreeSet<&'static str> {
        let mut imports = BTreeSet::from(["clock", "log", "random", "records.to-json"]);
        for action in self.grants.iter().flat_map(|grant| &grant.actions) {
            imports.extend(match action {
                GrantAction::Read => &["records.aggregate", "records.get", "records.list"][..],
                GrantAction::Create => &["records.create"],
                GrantAction::Update => &["records.update"],
                GrantAction::Delete => &["records.delete"],
            });
        }
        let others = [
            ("events", !self.emits.is_empty()),
            ("http", !self.hosts.is_empty()),
            ("jobs", !self.jobs.is_empty()),
            ("kv", self.kv),
            ("secrets", !self.secrets.is_empty()),
        ];
        imports.extend(
            others
                .iter()
                .filter(|(_, asked)| *asked)
                .map(|(name, _)| name),
        );
        imports
    }

    /// Whether it may import a function of an interface of the host's, such as `get` of `records`.
    pub fn may_import(&self, interface: &str, function: &str) -> bool {
        let imports = self.imports();
        imports.contains(interface) || imports.contains(&*format!("{interface}.{function}"))
    }

    /// The functions that it must export for its triggers, beside `describe`, which any may have.
    pub fn exports(&self) -> BTreeSet<&'static str> {
        let exports = self.triggers.iter().map(|trigger| match trigger {
            Trigger::Event(_) | Trigger::Custom(_) => "handle",
            Trigger::Before(_) => "before",
            Trigger::Cron(_) => "cron",
            Trigger::Webhook(_) => "inbound",
            Trigger::Action(_) => "run",
        });
        exports
            .chain((!self.jobs.is_empty()).then_some("cron"))
            .collect()
    }

    /// Whether it is told what other plugins tell.
    pub(crate) fn hears_plugins(&self) -> bool {
        let mut triggers = self.triggers.iter();
        triggers.any(|trigger| matches!(trigger, Trigger::Custom(_)))
    }

    /// The triggers for the event's kind, whatever else they ask for; a custom event has no trigger
    /// but its name.
    pub fn triggers_for<'m>(&'m self, event: &Event) -> impl Iterator<Item = &'m Trigger> {
        let told = event.told_by().is_some();
        let (subject, word) = event.kind.split_once('.').unwrap_or_default();
        let (subject, word) = (subject.to_owned(), word.to_owned());
        self.triggers.iter().filter(move |trigger| match trigger {
            Trigger::Event(on) => {
                !told && *on.subject.as_str() == subject && on.change.as_str() == word
            }
            Trigger::Custom(on) => {
                told && *on.plugin.as_str() == subject && *on.name.as_str() == word
            }
            _ => false,
        })
    }

    /// The changes of records that it judges before they are made.
    pub(crate) fn planned(&self) -> impl Iterator<Item = (&Ident, PlannedChange)> {
        let before = self.triggers.iter().filter_map(|trigger| match trigger {
            Trigger::Before(before) => Some(&before.changes),
            _ => None,
        });
        before
            .flatten()
            .map(|(subject, planned)| (subject, *planned))
    }

    /// The triggers for such a change before it is made, whatever else they ask for; `subject` is
    /// the module's singular name.
    pub(crate) fn judges<'m>(
        &'m self,
        subject: &str,
        planned: PlannedChange,
    ) -> impl Iterator<Item = &'m BeforeTrigger> {
        self.triggers
            .iter()
            .filter_map(move |trigger| match trigger {
                Trigger::Before(before) => {
                    let mut changes = before.changes.iter();
                    let judged = changes.any(|(of, one)| *of == *subject && *one == planned);
                    judged.then_some(before)
                }
                _ => None,
            })
    }

    /// The cron triggers.
    pub fn crons(&self) -> impl Iterator<Item = &CronTrigger> {
        self.triggers.iter().filter_map(|trigger| match trigger {
            Trigger::Cron(cron) => Some(cron),
            _ => None,
        })
    }

    /// The webhooks.
    pub fn webhooks(&self) -> impl Iterator<Item = &WebhookTrigger> {
        self.triggers.iter().filter_map(|trigger| match trigger {
            Trigger::Webhook(webhook) => Some(webhook),
            _ => None,
        })
    }

    /// The actions.
    pub fn actions(&self) -> impl Iterator<Item = &ActionTrigger> {
        self.triggers.iter().filter_map(|trigger| match trigger {
            Trigger::Action(action) => Some(action),
            _ => None,
        })
    }

    fn check(&self) -> Result<()> {
        match self.problem() {
            Some(problem) => Err(invalid(problem)),
            None => Ok(()),
        }
    }

    /// What is wrong with it, in words.
    fn problem(&self) -> Option<String> {
        if semver::Version::parse(&self.version).is_err() {
            let version = &self.version;
            return Some(format!("{version:?} is not a version such as 1.0.0"));
        }
        if self.description.chars().count() > Self::MAX_DESCRIPTION {
            let most = Self::MAX_DESCRIPTION;
            return Some(format!("the description has more than {most} characters"));
        }
        if self.triggers.is_empty() {
            return Some("it names no trigger, so the plugin would never run".to_owned());
        }
        let lines = [
            self.triggers.len(),
            self.grants.len(),
            self.hosts.len(),
            self.secrets.len(),
            self.emits.len(),
            self.jobs.len(),
        ];
        if lines.iter().any(|lines| *lines > Self::MAX_LINES) {
            let most = Self::MAX_LINES;
            return Some(format!(
                "more than {most} triggers, grants or names of a kind"
            ));
        }
        let named = self.grants.iter().flat_map(|grant| &grant.fields);
        if named.map(Vec::len).any(|fields| fields > Self::MAX_FIELDS) {
            let most = Self::MAX_FIELDS;
            return Some(format!("a grant names more than {most} fields"));
        }
        self.trigger_problem()
            .or_else(|| self.grant_problem())
            .or_else(|| self.name_problem())
    }

    fn trigger_problem(&self) -> Option<String> {
        let mut seen = HashSet::new();
        for trigger in &self.triggers {
            let key = match trigger {
                Trigger::Cron(cron) => format!("cron {}", cron.name),
                Trigger::Webhook(webhook) => format!("webhook {}", webhook.name),
                Trigger::Action(action) => format!("action {}", action.name),
                other => other.to_string(),
            };
            if !seen.insert(key) {
                return Some(format!("the trigger {trigger} stands there twice"));
            }
            if let Trigger::Before(before) = trigger {
                let mut changes = HashSet::new();
                if let Some((subject, change)) =
                    before.changes.iter().find(|one| !changes.insert(*one))
                {
                    let change = change.as_str();
                    return Some(format!("before {subject}.{change} stands there twice"));
                }
            }
        }
        let ticks = self.crons().map(|cron| &cron.name);
        let mut ticks = ticks.filter(|name| self.jobs.contains(name));
        let both = ticks.next()?;
        Some(format!("{both} is the name of a cron trigger and of a job"))
    }

    fn grant_problem(&self) -> Option<String> {
        let mut modules = HashSet::new();
        let twice = self
            .grants
            .iter()
            .find(|grant| !modules.insert(&grant.module));
        if let Some(Grant { module, .. }) = twice {
            return Some(format!("the module {module} has two grants"));
        }
        self.grants.iter().find_map(Grant::problem)
    }

    fn name_problem(&self) -> Option<String> {
        let reserved = self
            .emits
            .iter()
            .find(|name| trigger::change(name.as_str()).is_some());
        if let Some(name) = reserved {
            return Some(format!(
                "an event of its own cannot be called {name}, as changes are"
            ));
        }
        for (what, names) in [
            ("secret", &self.secrets),
            ("event", &self.emits),
            ("job", &self.jobs),
        ] {
            let mut seen = HashSet::new();
            if let Some(twice) = names.iter().find(|name| !seen.insert(*name)) {
                return Some(format!("the {what} {twice} stands there twice"));
            }
        }
        let mut seen = HashSet::new();
        for host in &self.hosts {
            if !is_host(host) {
                return Some(format!(
                    "{host:?} is no host: write api.example.com, or api.example.com:8443"
                ));
            }
            if !seen.insert(host) {
                return Some(format!("the host {host} stands there twice"));
            }
        }
        None
    }
}

/// Whether this is a host in the one form that URLs give it, with a port that is not that of https.
fn is_host(text: &str) -> bool {
    let url = format!("https://{text}/");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    // The parser's form is the only one: lower case, and no port where it is that of https.
    text.bytes().all(plain) && url::Url::parse(&url).is_ok_and(|parsed| parsed.as_str() == url)
}

pub(super) fn invalid(reason: impl fmt::Display) -> Error {
    Error::invalid(
        "manifest",
        "invalid_manifest",
        format!("The plugin's manifest is refused: {reason}."),
    )
}
