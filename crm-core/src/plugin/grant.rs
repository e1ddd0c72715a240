//! The rights that a manifest asks for on one module, and which manifests name a module or a field,
//! in a grant or in a trigger.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{Manifest, Trigger};
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::module::{CompiledModule, Ident};

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

impl Manifest {
    /// Whether it names the module: asks for rights on it, is woken by its records, judges them, or
    /// offers an action on them. Triggers need no grant.
    pub(crate) fn names(&self, module: &CompiledModule) -> bool {
        let (name, singular) = (module.name(), module.singular());
        let mut grants = self.grants.iter();
        let mut triggers = self.triggers.iter();
        grants.any(|grant| grant.module == *name)
            || triggers.any(|trigger| match trigger {
                Trigger::Action(action) => action.module.as_ref() == Some(name),
                trigger => trigger.looks_at(singular).is_some(),
            })
    }

    /// Whether it names the field of the module in a grant, or in what a trigger looks at.
    pub(crate) fn names_field(&self, module: &CompiledModule, field: &Ident) -> bool {
        let mut grants = self.grants.iter();
        let mut looks = self
            .triggers
            .iter()
            .filter_map(|trigger| trigger.looks_at(module.singular()));
        grants.any(|grant| {
            let fields = grant.fields.as_deref().unwrap_or_default();
            grant.module == *module.name() && fields.contains(field)
        }) || looks.any(|(fields, filter)| {
            fields.contains(field) || filter.is_some_and(|filter| compares(filter, field))
        })
    }
}

/// The fields that a trigger is about, and its filter.
type Looks<'t> = (&'t [Ident], Option<&'t Map<String, Json>>);

impl Trigger {
    /// What it looks at, where it is about records that are called so.
    fn looks_at(&self, singular: &Ident) -> Option<Looks<'_>> {
        match self {
            Self::Event(event) if event.subject == *singular => {
                Some((event.fields.as_slice(), event.filter.as_ref()))
            }
            Self::Before(before) => {
                let mut changes = before.changes.iter();
                let found = changes.any(|(subject, _)| subject == singular);
                found.then_some((before.fields.as_slice(), before.filter.as_ref()))
            }
            _ => None,
        }
    }
}

/// Whether a condition is on the field. It is read by its names alone: the module may lack them.
fn compares(filter: &Map<String, Json>, field: &Ident) -> bool {
    filter
        .iter()
        .any(|(name, json)| match (name.as_str(), json) {
            ("and" | "or", Json::Array(parts)) => {
                let mut parts = parts.iter().filter_map(Json::as_object);
                parts.any(|part| compares(part, field))
            }
            ("not", Json::Object(part)) => compares(part, field),
            (name, _) => name == field.as_str(),
        })
}

/// The names of the plugins that are switched on, or parked, and of which such a manifest is that
/// of any version: one may run by a consent that was given to another.
pub(crate) async fn granted(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    such: impl Fn(&Manifest) -> bool,
) -> Result<Vec<String>> {
    let manifests = Sql::new(
        "SELECT manifest FROM plugin_versions WHERE tenant_id = $1 AND plugin_id IN (SELECT id \
         FROM plugins WHERE tenant_id = $1 AND (status = 'enabled' OR parked IS NOT NULL))",
    )
    .bind(tenant, ColumnType::Uuid)
    .returns(&[ColumnType::Json]);
    let mut names = Vec::new();
    for mut row in tx.fetch_all(manifests).await? {
        let manifest: Manifest =
            serde_json::from_value(row.json()?).map_err(|_| Error::Inconsistent {
                table: "plugin_versions".into(),
                column: "manifest".into(),
            })?;
        if such(&manifest) {
            names.push(manifest.name.to_string());
        }
    }
    Ok(names)
}
