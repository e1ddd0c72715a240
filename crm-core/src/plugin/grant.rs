//! The rights that a manifest asks for on one module, and who has such.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Manifest;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::TenantId;
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

/// The names of the plugins that are switched on, or parked, and ask for such a grant in any of their
/// versions: one may run by a consent that was given to another.
pub(crate) async fn granted(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    such: impl Fn(&Grant) -> bool,
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
        if manifest.grants.iter().any(&such) {
            names.push(manifest.name.to_string());
        }
    }
    Ok(names)
}
