//! What a plugin says about itself: its name, what wakes it, and which rights it asks for.
//!
//! A manifest asks; it gives nothing. The administrator who enables the plugin grants it, and every
//! call is still bounded by that administrator's own rights.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::event::ChangeKind;
use crate::module::Ident;

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
    /// The events that wake it.
    pub triggers: Vec<Trigger>,
    /// The rights it asks for; none without a line.
    #[serde(default)]
    pub grants: Vec<Grant>,
}

impl Manifest {
    /// The largest manifest, in bytes of TOML.
    pub const MAX_BYTES: usize = 64 * 1024;
    const MAX_DESCRIPTION: usize = 500;
    const MAX_LINES: usize = 50;

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

    /// Whether an event of this kind (`contact.created`) wakes the plugin.
    pub fn wakes_on(&self, kind: &str) -> bool {
        self.triggers.iter().any(|trigger| trigger.matches(kind))
    }

    /// Whether any module is asked for with this action.
    pub fn asks(&self, action: GrantAction) -> bool {
        self.grants
            .iter()
            .any(|grant| grant.actions.contains(&action))
    }

    fn check(&self) -> Result<()> {
        if semver::Version::parse(&self.version).is_err() {
            return Err(invalid(format!(
                "{:?} is not a version such as 1.0.0",
                self.version
            )));
        }
        if self.description.chars().count() > Self::MAX_DESCRIPTION {
            let most = Self::MAX_DESCRIPTION;
            return Err(invalid(format!(
                "the description has more than {most} characters"
            )));
        }
        if self.triggers.is_empty() {
            return Err(invalid(
                "it names no trigger, so the plugin would never run",
            ));
        }
        if self.triggers.len().max(self.grants.len()) > Self::MAX_LINES {
            return Err(invalid(format!(
                "more than {} triggers or grants",
                Self::MAX_LINES
            )));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = self.triggers.iter().find(|trigger| !seen.insert(*trigger)) {
            return Err(invalid(format!("the trigger {twice} stands there twice")));
        }
        let mut modules = HashSet::new();
        for grant in &self.grants {
            if !modules.insert(&grant.module) {
                return Err(invalid(format!(
                    "the module {} has two grants",
                    grant.module
                )));
            }
            if grant.actions.is_empty() {
                return Err(invalid(format!(
                    "the grant on {} names no action",
                    grant.module
                )));
            }
            let mut actions = HashSet::new();
            if let Some(twice) = grant
                .actions
                .iter()
                .find(|action| !actions.insert(**action))
            {
                return Err(invalid(format!(
                    "{}.{twice} is granted twice",
                    grant.module
                )));
            }
        }
        Ok(())
    }
}

fn invalid(reason: impl fmt::Display) -> Error {
    Error::invalid(
        "manifest",
        "invalid_manifest",
        format!("The plugin's manifest is refused: {reason}."),
    )
}

/// An event that wakes a plugin, written `contact.created`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Trigger {
    /// The module's singular name.
    pub subject: Ident,
    /// What happened to the record.
    pub change: ChangeKind,
}

impl Trigger {
    /// Whether an event of this kind is meant.
    pub fn matches(&self, kind: &str) -> bool {
        kind.split_once('.').is_some_and(|(subject, change)| {
            self.subject == *subject && self.change.as_str() == change
        })
    }
}

/// Why a text is not a [`Trigger`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a trigger: write a module's singular name and created, updated, deleted, \
         restored, purged or merged, \
         such as contact.created"
)]
pub struct InvalidTrigger(String);

impl FromStr for Trigger {
    type Err = InvalidTrigger;

    fn from_str(text: &str) -> Result<Self, InvalidTrigger> {
        let refused = || InvalidTrigger(text.to_owned());
        let (subject, change) = text.split_once('.').ok_or_else(refused)?;
        let kinds = [
            ChangeKind::Created,
            ChangeKind::Updated,
            ChangeKind::Deleted,
            ChangeKind::Restored,
            ChangeKind::Purged,
            ChangeKind::Merged,
        ];
        Ok(Self {
            subject: subject.parse().map_err(|_| refused())?,
            change: kinds
                .into_iter()
                .find(|kind| kind.as_str() == change)
                .ok_or_else(refused)?,
        })
    }
}

impl TryFrom<String> for Trigger {
    type Error = InvalidTrigger;

    fn try_from(text: String) -> Result<Self, InvalidTrigger> {
        text.parse()
    }
}

impl From<Trigger> for String {
    fn from(trigger: Trigger) -> Self {
        trigger.to_string()
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.subject, self.change)
    }
}

/// Rights asked for on one module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The module's plural name.
    pub module: Ident,
    /// What to do with its records.
    pub actions: Vec<GrantAction>,
}

/// What a plugin may ask to do with the records of a module. Plugins delete nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantAction {
    /// Get and list.
    Read,
    /// Create.
    Create,
    /// Update.
    Update,
}

impl GrantAction {
    /// The action's name in a permission: `read`, `create`, `update`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Create => "create",
            Self::Update => "update",
        }
    }
}

impl fmt::Display for GrantAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
        name = "lead_scoring"
        version = "1.2.0"
        description = "Scores new contacts."
        triggers = ["contact.created"]
        [[grants]]
        module = "contacts"
        actions = ["read", "update"]
    "#;

    fn refusal(text: &str) -> String {
        match Manifest::parse(text) {
            Err(Error::Invalid(fields)) => {
                assert_eq!(fields[0].code, "invalid_manifest");
                fields[0].message.clone()
            }
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn a_whole_manifest_is_read() {
        let manifest = Manifest::parse(WHOLE).unwrap();
        assert_eq!(manifest.name.as_str(), "lead_scoring");
        assert!(manifest.wakes_on("contact.created"));
        assert!(!manifest.wakes_on("contact.updated"));
        assert!(!manifest.wakes_on("company.created"));
        assert!(manifest.asks(GrantAction::Update));
        assert!(!manifest.asks(GrantAction::Create));
    }

    #[test]
    fn json_and_toml_carry_the_same_manifest() {
        let manifest = Manifest::parse(WHOLE).unwrap();
        let json = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
    }

    #[test]
    fn an_unknown_field_is_named() {
        assert!(refusal(&format!("colour = \"red\"\n{WHOLE}")).contains("colour"));
        assert!(refusal(&format!("{WHOLE}\nfields = [\"email\"]")).contains("fields"));
    }

    #[test]
    fn a_manifest_that_could_never_run_is_refused() {
        assert!(refusal(&WHOLE.replace("[\"contact.created\"]", "[]")).contains("never run"));
        assert!(
            refusal(&WHOLE.replace("contact.created", "contact.eaten")).contains("contact.eaten")
        );
        assert!(refusal(&WHOLE.replace("contact.created", "contact")).contains("not a trigger"));
    }

    #[test]
    fn wild_and_doubled_grants_are_refused() {
        assert!(refusal(&WHOLE.replace("\"contacts\"", "\"*\"")).contains("not a name"));
        assert!(refusal(&WHOLE.replace("\"update\"]", "\"delete\"]")).contains("delete"));
        assert!(refusal(&WHOLE.replace("\"update\"]", "\"read\"]")).contains("contacts.read"));
        assert!(refusal(&WHOLE.replace("[\"read\", \"update\"]", "[]")).contains("no action"));
        let twice = format!("{WHOLE}\n[[grants]]\nmodule = \"contacts\"\nactions = [\"create\"]");
        assert!(refusal(&twice).contains("two grants"));
    }

    #[test]
    fn a_version_is_a_semantic_version() {
        assert!(refusal(&WHOLE.replace("1.2.0", "v1")).contains("\"v1\""));
        assert!(Manifest::parse(&WHOLE.replace("1.2.0", "1.2.0-rc.1")).is_ok());
    }

    #[test]
    fn an_oversized_manifest_is_refused_unread() {
        let text = format!("#{}\n{WHOLE}", "x".repeat(Manifest::MAX_BYTES));
        assert!(refusal(&text).contains("65536"));
    }
}
