//! The plugins a tenant has installed.

mod manifest;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::id::{PluginId, TenantId, UserId};

pub use manifest::{Grant, GrantAction, InvalidTrigger, Manifest, Trigger};

/// A plugin installed in one tenant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plugin {
    /// Its id.
    pub id: PluginId,
    /// The tenant that installed it.
    #[serde(skip)]
    pub tenant_id: TenantId,
    /// What it says about itself.
    pub manifest: Manifest,
    /// SHA-256 of the component.
    #[serde(serialize_with = "hex")]
    pub sha256: [u8; 32],
    /// Whether it may run.
    pub status: PluginStatus,
    /// The user whose rights bound the plugin's; absent when an operator installed it.
    pub installed_by: Option<UserId>,
    /// When this version was uploaded.
    pub created_at: DateTime<Utc>,
    /// When an administrator last enabled it.
    pub enabled_at: Option<DateTime<Utc>>,
}

/// Whether a plugin may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PluginStatus {
    /// Uploaded, and nobody has consented yet.
    Uploaded,
    /// An administrator has consented: it runs.
    Enabled,
    /// Switched off.
    Disabled,
}

impl PluginStatus {
    /// The stored form: `uploaded`, `enabled`, `disabled`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }
}

fn hex<S: serde::Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Hex(bytes))
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
