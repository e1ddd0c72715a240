//! The rights that a manifest asks for on one module.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::module::Ident;

/// Rights asked for on one module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The module's plural name.
    pub module: Ident,
    /// What to do with its records.
    pub actions: Vec<GrantAction>,
    /// The only fields that it reads and writes; all of them without this line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<Ident>>,
}

/// What a plugin may ask to do with the records of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantAction {
    /// Get, list and aggregate.
    Read,
    /// Create.
    Create,
    /// Update.
    Update,
    /// Delete.
    Delete,
}

impl GrantAction {
    /// The action's name in a permission: `read`, `create`, `update`, `delete`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for GrantAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Grant {
    /// What is wrong with it, in words.
    pub(super) fn problem(&self) -> Option<String> {
        let Self {
            module,
            actions,
            fields,
        } = self;
        if actions.is_empty() {
            return Some(format!("the grant on {module} names no action"));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = actions.iter().find(|action| !seen.insert(**action)) {
            return Some(format!("{module}.{twice} is granted twice"));
        }
        let fields = fields.as_deref()?;
        let mut seen = HashSet::new();
        if fields.is_empty() {
            return Some(format!("the grant on {module} names no field in `fields`"));
        }
        if actions.as_slice() == [GrantAction::Delete] {
            return Some(format!(
                "the grant on {module} names fields, and a record is deleted as a whole"
            ));
        }
        let twice = fields.iter().find(|field| !seen.insert(*field))?;
        Some(format!("the grant on {module} names {twice} twice"))
    }
}
