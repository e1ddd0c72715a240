//! One permission as written in a role: `contacts.update`, `deals.*`, `contacts.update:own`,
//! `!contacts.delete`. Owns that spelling; whether the names exist is the catalogue's question.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::module::Ident;

/// A segment that stands for every module, or for every action.
pub(super) const WILDCARD: &str = "*";

/// Which rows a permission reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowScope {
    /// Rows whose owner is the acting user.
    Own,
    /// Every row of the tenant.
    All,
}

impl RowScope {
    /// The stored form: `own` or `all`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::All => "all",
        }
    }
}

/// Whether a permission gives or takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Gives.
    Allow,
    /// Takes, for every row, whatever any other permission of the subject gives.
    Deny,
}

impl Effect {
    /// The stored form and Casbin's: `allow` or `deny`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// A permission of a role: `module.action`, either of them `*`.
///
/// The module `records` stands for all business modules, `*` for these and for the administration
/// of the tenant. A trailing `:own` limits it to rows the acting user owns; a leading `!` denies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Permission {
    effect: Effect,
    module: Box<str>,
    action: Box<str>,
    rows: RowScope,
}

/// Why a text is not a [`Permission`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a permission: write module.action, such as contacts.read, deals.* or \
     contacts.update:own, and !contacts.delete to deny"
)]
pub struct InvalidPermission(String);

impl Permission {
    /// Whether it gives or takes.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// The module's name, `records` or `*`.
    pub fn module(&self) -> &str {
        &self.module
    }

    /// The action's name or `*`.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// The rows it reaches; all of them when it denies.
    pub fn rows(&self) -> RowScope {
        self.rows
    }

    /// A permission from the columns of `policy_rules`.
    ///
    /// # Errors
    /// [`Error::Inconsistent`] when a column holds something no permission can say.
    pub(crate) fn stored(module: &str, action: &str, rows: &str, effect: &str) -> Result<Self> {
        let broken = |column: &'static str| Error::Inconsistent {
            table: "policy_rules".into(),
            column: column.into(),
        };
        let effect = match effect {
            "allow" => Effect::Allow,
            "deny" => Effect::Deny,
            _ => return Err(broken("effect")),
        };
        let rows = match (effect, rows) {
            (Effect::Deny, _) | (Effect::Allow, "all") => RowScope::All,
            (Effect::Allow, "own") => RowScope::Own,
            _ => return Err(broken("row_scope")),
        };
        Ok(Self {
            effect,
            module: segment(module).ok_or_else(|| broken("module"))?,
            action: segment(action).ok_or_else(|| broken("action"))?,
            rows,
        })
    }
}

fn segment(text: &str) -> Option<Box<str>> {
    (text == WILDCARD || text.parse::<Ident>().is_ok()).then(|| text.into())
}

impl FromStr for Permission {
    type Err = InvalidPermission;

    fn from_str(text: &str) -> Result<Self, InvalidPermission> {
        let parse = || {
            let (effect, rest) = match text.strip_prefix('!') {
                Some(rest) => (Effect::Deny, rest),
                None => (Effect::Allow, text),
            };
            let (name, rows) = match rest.strip_suffix(":own") {
                // A denial always holds for all rows.
                Some(_) if effect == Effect::Deny => return None,
                Some(name) => (name, RowScope::Own),
                None => (rest, RowScope::All),
            };
            let (module, action) = name.split_once('.')?;
            Some(Self {
                effect,
                module: segment(module)?,
                action: segment(action)?,
                rows,
            })
        };
        parse().ok_or_else(|| InvalidPermission(text.chars().take(200).collect()))
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.effect == Effect::Deny {
            f.write_str("!")?;
        }
        write!(f, "{}.{}", self.module, self.action)?;
        if self.rows == RowScope::Own {
            f.write_str(":own")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Permission {
    type Error = InvalidPermission;

    fn try_from(text: String) -> Result<Self, InvalidPermission> {
        text.parse()
    }
}

impl From<Permission> for String {
    fn from(permission: Permission) -> Self {
        permission.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_is_written_as_it_was_read() {
        for text in [
            "contacts.read",
            "deals.*",
            "*.*",
            "*.read",
            "records.update:own",
            "!contacts.delete",
        ] {
            let permission: Permission = text.parse().unwrap();
            assert_eq!(permission.to_string(), text);
            let columns = (permission.rows().as_str(), permission.effect().as_str());
            let stored = Permission::stored(
                permission.module(),
                permission.action(),
                columns.0,
                columns.1,
            );
            assert_eq!(stored.unwrap(), permission);
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_right_spelling() {
        for text in [
            "",
            ".",
            "contacts",
            "contacts.",
            ".read",
            "contacts.read.own",
            "con*.read",
            "contacts.read:all",
            "contacts.read:own:own",
            "!!contacts.read",
            "!contacts.read:own",
            "Contacts.read",
            "contacts .read",
            "contacts.read\n",
            "**.read",
            "contacts.read:OWN",
        ] {
            let refused = text.parse::<Permission>().unwrap_err();
            assert!(refused.to_string().contains("module.action"), "{text:?}");
        }
    }

    #[test]
    fn a_column_no_permission_can_say_is_reported_with_its_name() {
        let column =
            |module, action, rows, effect| match Permission::stored(module, action, rows, effect) {
                Err(Error::Inconsistent { column, .. }) => column,
                other => panic!("{other:?}"),
            };
        assert_eq!(column("con tacts", "read", "all", "allow"), "module");
        assert_eq!(column("contacts", "re*d", "all", "allow"), "action");
        assert_eq!(column("contacts", "read", "some", "allow"), "row_scope");
        assert_eq!(column("contacts", "read", "all", "perhaps"), "effect");
    }
}
