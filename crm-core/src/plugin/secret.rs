//! Secrets that administrators entrust to a plugin: sealed in the database, given to the plugin
//! alone, never shown again.

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::json;

use super::{OBJECT, Plugin, Plugins, named, store};
use crate::crm::Core;
use crate::db::{ColumnType, Row, Sql};
use crate::error::{Error, Result};
use crate::hook::Mask;
use crate::id::{PluginId, TenantId};
use crate::identity::Sealed;
use crate::journal;
use crate::module::{Ident, InvalidIdent};
use crate::scope::{Permit, Read, Update};

/// Fewest bytes of a secret: a shorter one would be found everywhere in what is kept of runs.
const MIN_BYTES: usize = 8;
/// Most bytes of a secret.
const MAX_BYTES: usize = 8 * 1024;
/// Most secrets of a plugin.
const MAX_SECRETS: usize = 50;

/// That there is a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretEntry {
    /// Its name.
    pub name: String,
    /// Who set it.
    pub set_by: String,
    /// When.
    pub set_at: DateTime<Utc>,
}

impl Plugins {
    /// The secrets that a plugin was entrusted with, by name; not what they are.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn secrets(&self, permit: &Permit<Read>, id: PluginId) -> Result<Vec<SecretEntry>> {
        let plugin = self.get(permit, id).await?;
        let rows = self
            .0
            .core
            .db
            .fetch_all(select(plugin.tenant_id, id))
            .await?;
        rows.into_iter().map(entry).collect()
    }

    /// Entrusts a secret to a plugin, in place of the one of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] for a name that is none, and for fewer than 8 bytes or more
    /// than 8 KiB; [`Error::Conflict`] `too_many_secrets`.
    pub async fn set_secret(
        &self,
        permit: &Permit<Update>,
        id: PluginId,
        name: &str,
        secret: &SecretString,
    ) -> Result<SecretEntry> {
        let scope = permit.on(OBJECT)?.clone();
        let tenant = scope.tenant();
        let known = store::find(&self.0.core.db, tenant, id).await?;
        known.ok_or(Error::NotFound)?;
        let name: Ident = name.parse().map_err(|error: InvalidIdent| {
            Error::invalid("name", "invalid_name", error.to_string())
        })?;
        let bytes = secret.expose_secret().as_bytes();
        if !(MIN_BYTES..=MAX_BYTES).contains(&bytes.len()) {
            let message = format!("must have {MIN_BYTES} to {MAX_BYTES} bytes");
            return Err(Error::invalid("value", "out_of_range", message));
        }
        let seal = &self.0.core.identity.seal;
        let sealed = seal.seal(&label(tenant, id, name.as_str()), bytes)?;
        let entry = SecretEntry {
            name: name.into(),
            set_by: scope.actor().to_string(),
            set_at: scope.clock().now(),
        };
        let job = self.0.core.db.write(move |tx| {
            Box::pin(async move {
                let plugin = store::lock(tx, tenant, id).await?.ok_or(Error::NotFound)?;
                let known = tx.fetch_all(select(tenant, id)).await?;
                let known: Vec<_> = known.into_iter().map(self::entry).collect::<Result<_>>()?;
                let again = known.iter().any(|known| known.name == entry.name);
                if !again && known.len() >= MAX_SECRETS {
                    let message = format!("a plugin has at most {MAX_SECRETS} secrets; delete one first");
                    return Err(Error::conflict("too_many_secrets", message));
                }
                let put = Sql::new(
                    "INSERT INTO plugin_secrets (tenant_id, plugin_id, name, sealed, set_by, set_at) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id, plugin_id, name) \
                     DO UPDATE SET sealed = excluded.sealed, set_by = excluded.set_by, \
                     set_at = excluded.set_at",
                )
                .bind(tenant, ColumnType::Uuid)
                .bind(id, ColumnType::Uuid)
                .bind(&entry.name, ColumnType::Text)
                .bind(sealed, ColumnType::Bytes)
                .bind(&entry.set_by, ColumnType::Text)
                .bind(entry.set_at, ColumnType::Instant);
                tx.execute(put).await?;
                let mut after = named(&plugin);
                after["secret"] = json!(entry.name);
                let entity = (OBJECT, Some(id.to_string()));
                journal::audit(tx, &scope, "plugins.set_secret", entity, None, Some(after)).await?;
                Ok(entry)
            })
        });
        job.await
    }

    /// Takes a secret back.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such plugin or secret.
    pub async fn delete_secret(
        &self,
        permit: &Permit<Update>,
        id: PluginId,
        name: &str,
    ) -> Result<()> {
        let scope = permit.on(OBJECT)?.clone();
        let (tenant, name) = (scope.tenant(), name.to_owned());
        if name.contains('\0') {
            return Err(Error::NotFound);
        }
        let job = self.0.core.db.write(move |tx| {
            Box::pin(async move {
                let plugin = store::lock(tx, tenant, id).await?.ok_or(Error::NotFound)?;
                let delete = Sql::new(
                    "DELETE FROM plugin_secrets WHERE tenant_id = $1 AND plugin_id = $2 AND name = $3",
                )
                .bind(tenant, ColumnType::Uuid)
                .bind(id, ColumnType::Uuid)
                .bind(&name, ColumnType::Text);
                if tx.execute(delete).await? == 0 {
                    return Err(Error::NotFound);
                }
                let mut before = named(&plugin);
                before["secret"] = json!(name);
                let entity = (OBJECT, Some(id.to_string()));
                journal::audit(tx, &scope, "plugins.delete_secret", entity, Some(before), None).await
            })
        });
        job.await
    }
}

/// What the secret is, for the plugin itself.
pub(super) async fn open(core: &Core, plugin: &Plugin, name: &str) -> Result<SecretString> {
    let select = Sql::new(
        "SELECT sealed FROM plugin_secrets WHERE tenant_id = $1 AND plugin_id = $2 AND name = $3",
    )
    .bind(plugin.tenant_id, ColumnType::Uuid)
    .bind(plugin.id, ColumnType::Uuid)
    .bind(name, ColumnType::Text)
    .returns(&[ColumnType::Bytes])
    .point_read();
    let mut row = core
        .db
        .fetch_optional(select)
        .await?
        .ok_or(Error::NotFound)?;
    let sealed: Vec<u8> = row.bytes()?;
    let label = label(plugin.tenant_id, plugin.id, name);
    // Sealed under a secret key that is gone: as good as never set.
    let opened = core
        .identity
        .seal
        .open(&label, &sealed)
        .ok_or(Error::NotFound)?;
    let text = String::from_utf8(opened).map_err(|_| Error::Inconsistent {
        table: "plugin_secrets".into(),
        column: "sealed".into(),
    })?;
    Ok(text.into())
}

/// Hides all that the plugin was entrusted with, whatever its version asks for: an earlier one may
/// have left it in the plugin's store.
pub(super) async fn mask(core: &Core, plugin: &Plugin) -> Result<Mask> {
    let mut mask = Mask::default();
    let select =
        Sql::new("SELECT name, sealed FROM plugin_secrets WHERE tenant_id = $1 AND plugin_id = $2")
            .bind(plugin.tenant_id, ColumnType::Uuid)
            .bind(plugin.id, ColumnType::Uuid)
            .returns(&[ColumnType::Text, ColumnType::Bytes]);
    for mut row in core.db.fetch_all(select).await? {
        let (name, sealed): (String, Vec<u8>) = (row.text()?, row.bytes()?);
        let label = label(plugin.tenant_id, plugin.id, &name);
        let opened = core.identity.seal.open(&label, &sealed);
        if let Some(Ok(text)) = opened.map(String::from_utf8) {
            mask.learn(&name, &text.into());
        }
    }
    Ok(mask)
}

/// Where the secrets of plugins lie.
pub(crate) const SEALED: Sealed = Sealed {
    words: ("secret of a plugin", "secrets of plugins"),
    table: "plugin_secrets",
    column: "sealed",
    optional: false,
    key: &[
        ("tenant_id", ColumnType::Uuid),
        ("plugin_id", ColumnType::Uuid),
        ("name", ColumnType::Text),
    ],
    label: |mut row| {
        let (tenant, plugin) = (row.uuid()?, row.uuid()?);
        Ok(label(tenant, plugin, &row.text::<String>()?))
    },
};

fn label(tenant: TenantId, plugin: PluginId, name: &str) -> String {
    format!("plugin:{tenant}:{plugin}:{name}")
}

fn select(tenant: TenantId, plugin: PluginId) -> Sql {
    Sql::new(
        "SELECT name, set_by, set_at FROM plugin_secrets WHERE tenant_id = $1 AND plugin_id = $2 \
         ORDER BY name",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(plugin, ColumnType::Uuid)
    .returns(&[ColumnType::Text, ColumnType::Text, ColumnType::Instant])
}

fn entry(mut row: Row) -> Result<SecretEntry> {
    Ok(SecretEntry {
        name: row.text()?,
        set_by: row.text()?,
        set_at: row.instant()?,
    })
}
