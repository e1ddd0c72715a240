//! One permission as written in a role: `contacts.update`, `deals.*`, `contacts.update:own`,
//! `!contacts.delete`, or one of these with a condition on the rows. Owns that spelling; whether
//! the names exist is the catalogue's question.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value as Json};

use super::fields::Fields;
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
    /// Own rows, rows that a group of the user is in charge of, and rows whose parent is one of
    /// these: the record that the module's `parent` field refers to.
    Parent,
    /// Rows whose owner is the acting user or shares a group with them.
    Team,
    /// Every row of the tenant.
    All,
}

impl RowScope {
    /// Those that a permission may name behind a colon.
    const NAMED: [Self; 3] = [Self::Own, Self::Parent, Self::Team];
    /// All of them.
    pub(crate) const WIDEST_FIRST: [Self; 4] = [Self::All, Self::Team, Self::Parent, Self::Own];

    /// The stored form: `own`, `parent`, `team` or `all`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Parent => "parent",
            Self::Team => "team",
            Self::All => "all",
        }
    }

    fn named(name: &str) -> Option<Self> {
        let mut named = Self::NAMED.into_iter();
        named.find(|scope| scope.as_str() == name)
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
/// of the tenant. A trailing `:own`, `:parent` or `:team` limits it to the rows of that
/// [`RowScope`]; a leading `!` denies.
///
/// It may have a condition: a JSON filter over the module's fields that rows must match. As JSON it
/// is a text, or with a condition `{"permission": "deals.read:team", "where": {"state": "open"}}`.
///
/// Reading, creating and updating may be limited to some [`Fields`]: `{"permission":
/// "contacts.read", "fields": ["name", "email"]}`, or `{"permission": "contacts.update", "except":
/// ["owner_id"]}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    effect: Effect,
    module: Box<str>,
    action: Box<str>,
    rows: RowScope,
    condition: Option<Box<str>>,
    fields: Fields,
}

/// A [`Permission`] as somebody writes it, not yet checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PermissionInput {
    /// `module.action` with what may stand before and behind it.
    pub permission: String,
    /// The filter that rows must match.
    pub condition: Option<Map<String, Json>>,
    /// The only fields that it reaches.
    pub fields: Option<Vec<String>>,
    /// Those that it does not reach, of all fields.
    pub except: Option<Vec<String>>,
}

impl From<String> for PermissionInput {
    fn from(permission: String) -> Self {
        Self {
            permission,
            ..Self::default()
        }
    }
}

impl From<&str> for PermissionInput {
    fn from(permission: &str) -> Self {
        permission.to_owned().into()
    }
}

/// Why a text is not a [`Permission`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a permission: write module.action, such as contacts.read, deals.* or \
     contacts.update:own, :parent or :team, and !contacts.delete to deny"
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

    /// The filter that rows must match, as JSON in one spelling.
    pub fn condition(&self) -> Option<&str> {
        self.condition.as_deref()
    }

    /// The fields that it reaches.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Whether its condition is about this field.
    pub(crate) fn asks_of(&self, field: &str) -> bool {
        let condition = self.condition().map(serde_json::from_str::<Json>);
        condition.is_some_and(|condition| condition.is_ok_and(|json| asks_of(&json, field)))
    }

    /// Whether its list of fields names this one.
    pub(crate) fn lists(&self, field: &str) -> bool {
        let mut listed = self.fields.listed().into_iter().flatten();
        let mut left_out = self.fields.left_out().into_iter().flatten();
        listed.any(|name| name == field) || left_out.any(|name| name == field)
    }

    /// The same permission for these fields only. Whether the module has them is for the caller to
    /// check.
    #[must_use]
    pub fn limited(self, fields: Fields) -> Self {
        Self { fields, ..self }
    }

    /// The same permission for rows that match a JSON filter only. Whether the filter fits the
    /// module is for the caller to check.
    #[must_use]
    pub fn under(self, condition: &Map<String, Json>) -> Self {
        let condition = sorted(&Json::Object(condition.clone())).to_string();
        Self {
            condition: Some(condition.into()),
            ..self
        }
    }

    /// A permission from the columns of `policy_rules`.
    ///
    /// # Errors
    /// [`Error::Inconsistent`] when a column holds something no permission can say.
    pub(crate) fn stored(
        module: &str,
        action: &str,
        rows: &str,
        effect: &str,
        condition: &str,
        fields: &str,
    ) -> Result<Self> {
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
            (Effect::Allow, name) => RowScope::named(name).ok_or_else(|| broken("row_scope"))?,
        };
        Ok(Self {
            effect,
            module: segment(module).ok_or_else(|| broken("module"))?,
            action: segment(action).ok_or_else(|| broken("action"))?,
            rows,
            condition: Some(condition)
                .filter(|text| !text.is_empty())
                .map(Into::into),
            fields: Fields::read(fields),
        })
    }
}

/// Whether a JSON filter is about this field.
fn asks_of(filter: &Json, field: &str) -> bool {
    match filter {
        Json::Object(members) => members.iter().any(|(name, json)| match name.as_str() {
            "and" | "or" | "not" => asks_of(json, field),
            name => name == field,
        }),
        Json::Array(parts) => parts.iter().any(|part| asks_of(part, field)),
        _ => false,
    }
}

/// The same JSON with the members of objects in the order of their names.
fn sorted(json: &Json) -> Json {
    match json {
        Json::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            let members = members.into_iter();
            Json::Object(
                members
                    .map(|(name, json)| (name.clone(), sorted(json)))
                    .collect(),
            )
        }
        Json::Array(entries) => Json::Array(entries.iter().map(sorted).collect()),
        other => other.clone(),
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
            let (name, rows) = match rest.split_once(':') {
                // A denial always holds for all rows.
                Some(_) if effect == Effect::Deny => return None,
                Some((name, scope)) => (name, RowScope::named(scope)?),
                None => (rest, RowScope::All),
            };
            let (module, action) = name.split_once('.')?;
            Some(Self {
                effect,
                module: segment(module)?,
                action: segment(action)?,
                rows,
                condition: None,
                fields: Fields::ALL,
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
        match self.rows {
            RowScope::All => Ok(()),
            rows => write!(f, ":{}", rows.as_str()),
        }
    }
}

impl Serialize for Permission {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{Error as _, SerializeMap as _};

        if self.condition.is_none() && self.fields.is_all() {
            return serializer.collect_str(self);
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("permission", &self.to_string())?;
        if let Some(condition) = &self.condition {
            let condition: Json = serde_json::from_str(condition).map_err(S::Error::custom)?;
            map.serialize_entry("where", &condition)?;
        }
        if let Some(names) = self.fields.listed() {
            map.serialize_entry("fields", &names.collect::<Vec<_>>())?;
        }
        if let Some(names) = self.fields.left_out() {
            map.serialize_entry("except", &names.collect::<Vec<_>>())?;
        }
        map.end()
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
            "deals.read:parent",
            "deals.*:team",
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
                "",
                "",
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
        let column = |module, action, rows, effect| match Permission::stored(
            module, action, rows, effect, "", "",
        ) {
            Err(Error::Inconsistent { column, .. }) => column,
            other => panic!("{other:?}"),
        };
        assert_eq!(column("con tacts", "read", "all", "allow"), "module");
        assert_eq!(column("contacts", "re*d", "all", "allow"), "action");
        assert_eq!(column("contacts", "read", "some", "allow"), "row_scope");
        assert_eq!(column("contacts", "read", "all", "perhaps"), "effect");
    }

    #[test]
    fn a_condition_has_one_spelling_and_makes_the_json_an_object() {
        let read = |text: &str| {
            let condition = serde_json::from_str(text).unwrap();
            "deals.read:team"
                .parse::<Permission>()
                .unwrap()
                .under(&condition)
        };
        let one = read(r#"{"title": "x", "amount": {"gt": 1}}"#);
        assert_eq!(one, read(r#"{"amount":{"gt":1},"title":"x"}"#));
        assert_eq!(
            serde_json::to_string(&one).unwrap(),
            r#"{"permission":"deals.read:team","where":{"amount":{"gt":1},"title":"x"}}"#
        );
        let some = one.limited(Fields::except(["owner_id"]));
        assert_eq!(
            serde_json::to_string(&some).unwrap(),
            r#"{"permission":"deals.read:team","where":{"amount":{"gt":1},"title":"x"},"except":["owner_id"]}"#
        );
        let plain: Permission = "deals.read".parse().unwrap();
        assert_eq!(serde_json::to_string(&plain).unwrap(), r#""deals.read""#);
    }

    #[test]
    fn a_permission_knows_the_fields_that_it_names() {
        let plain: Permission = "deals.read".parse().unwrap();
        assert!(!plain.asks_of("title") && !plain.lists("title"));
        let condition = r#"{"title": {"in": ["stage"]}, "or": [{"not": {"amount": {"gt": 1}}}]}"#;
        let under = plain
            .clone()
            .under(&serde_json::from_str(condition).unwrap());
        assert!(under.asks_of("title") && under.asks_of("amount"));
        assert!(
            !["stage", "in", "gt", "or"]
                .iter()
                .any(|name| under.asks_of(name))
        );
        for fields in [Fields::only(["title"]), Fields::except(["title"])] {
            let some = plain.clone().limited(fields);
            assert!(some.lists("title") && !some.lists("amount") && !some.asks_of("title"));
        }
    }
}
