//! The secrets that senders sign their messages to a plugin's webhook with: made here, shown once,
//! sealed in the database, and replaced with some time in which both are good.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::signed::Signed;
use super::{OBJECT, Plugin, Plugins, WebhookAuth, named, store};
use crate::crm::Core;
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{PluginId, TenantId};
use crate::identity::Sealed;
use crate::journal;
use crate::module::Ident;
use crate::scope::{Permit, Read, Scope, Update};

/// What stands before the Base64 of a secret, as Standard Webhooks has it.
const PREFIX: &str = "whsec_";
/// Most secrets of a webhook that are good at once.
pub(super) const MOST: usize = 5;
/// How long the secret before may stay good at most.
const MOST_OVERLAP: TimeDelta = TimeDelta::days(7);

/// A webhook of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PluginHook {
    /// Its name.
    pub name: Ident,
    /// The name of its plugin.
    pub plugin: Ident,
    /// How senders say who they are.
    pub auth: WebhookAuth,
    /// The secrets that are good now, the newest first; not what they are.
    pub secrets: Vec<HookSecret>,
}

/// That there is a signing secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HookSecret {
    /// Who had it made.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When it ends, once there is a newer one.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A new signing secret.
#[derive(Debug, Clone)]
pub struct NewHookSecret {
    /// The name of the plugin, as the URL of the webhook has it.
    pub plugin: Ident,
    /// `whsec_` and Base64; nobody is shown it again.
    pub secret: SecretString,
    /// Until when the one before is good too, where there was one.
    pub previous_until: Option<DateTime<Utc>>,
}

impl NewHookSecret {
    /// The `webhook-signature` of a message with this id, time and body, as its sender makes it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a secret that is not `whsec_` and Base64.
    pub fn sign(&self, id: &str, sent_at: DateTime<Utc>, body: &[u8]) -> Result<String> {
        let timestamp = sent_at.timestamp().to_string();
        let message = Signed {
            id,
            timestamp: &timestamp,
            signatures: "",
        };
        let key = decoded(self.secret.expose_secret().as_bytes()).ok_or_else(|| {
            Error::invalid("secret", "invalid_format", "must be whsec_ and Base64")
        })?;
        Ok(format!("v1,{}", STANDARD.encode(message.sign(&key, body))))
    }
}

impl Plugins {
    /// The webhooks of a plugin's active version.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn hooks(&self, permit: &Permit<Read>, id: PluginId) -> Result<Vec<PluginHook>> {
        let plugin = self.get(permit, id).await?;
        let (db, now) = (&self.0.core.db, self.0.core.clock.now());
        let mut hooks = Vec::new();
        for webhook in plugin.manifest.webhooks() {
            let known = known(plugin.tenant_id, id, webhook.name.as_str(), now);
            let secrets = db.fetch_all(known).await?.into_iter();
            hooks.push(PluginHook {
                name: webhook.name.clone(),
                plugin: plugin.manifest.name.clone(),
                auth: webhook.auth,
                secrets: secrets.map(secret).collect::<Result<_>>()?,
            });
        }
        Ok(hooks)
    }

    /// Makes the secret that senders to a webhook sign with. The one before stays good for
    /// `overlap`, so that they can be told of the new one.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a plugin or webhook that there is not; [`Error::Invalid`] for an overlap
    /// of more than seven days; [`Error::Conflict`] `not_signed` for a webhook whose senders use an API
    /// key, and `too_many_secrets`.
    pub async fn renew_hook_secret(
        &self,
        permit: &Permit<Update>,
        id: PluginId,
        hook: &str,
        overlap: TimeDelta,
    ) -> Result<NewHookSecret> {
        let scope = permit.on(OBJECT)?.clone();
        scope.refuse_impersonator()?;
        if overlap < TimeDelta::zero() || overlap > MOST_OVERLAP {
            let message = format!("must be 0 to {} seconds", MOST_OVERLAP.num_seconds());
            return Err(Error::invalid("overlap", "out_of_range", message));
        }
        let (tenant, hook) = (scope.tenant(), hook.to_owned());
        let job = self.0.core.db.write(move |tx| {
            Box::pin(async move {
                let plugin = store::lock(tx, tenant, id).await?.ok_or(Error::NotFound)?;
                check_signed(&plugin, &hook)?;
                let now = scope.clock().now();
                let until = now + overlap;
                for sql in ended(tenant, id, &hook, (now, until)) {
                    tx.execute(sql).await?;
                }
                let good = tx.fetch_all(known(tenant, id, &hook, now)).await?.len();
                check_room(good)?;
                let secret: SecretString =
                    format!("{PREFIX}{}", STANDARD.encode(scope.clock().random::<32>())).into();
                insert(tx, &scope, (id, &hook), (&secret, now)).await?;
                let mut after = named(&plugin);
                (after["hook"], after["good"]) = (json!(hook), json!(good + 1));
                let entity = (OBJECT, Some(id.to_string()));
                let action = "plugins.renew_hook_secret";
                journal::audit(tx, &scope, action, entity, None, Some(after)).await?;
                Ok(NewHookSecret {
                    plugin: plugin.manifest.name.clone(),
                    secret,
                    previous_until: (good > 0).then_some(until),
                })
            })
        });
        job.await
    }
}

/// Refuses a webhook whose senders sign nothing.
fn check_signed(plugin: &Plugin, hook: &str) -> Result<()> {
    let mut webhooks = plugin.manifest.webhooks();
    let webhook = webhooks.find(|webhook| *webhook.name.as_str() == *hook);
    match webhook.ok_or(Error::NotFound)?.auth {
        WebhookAuth::Signature => Ok(()),
        WebhookAuth::ApiKey => {
            let message = "senders to this webhook send an API key; they sign nothing";
            Err(Error::conflict("not_signed", message))
        }
    }
}

/// Refuses one more secret of a webhook that has so many good ones.
fn check_room(good: usize) -> Result<()> {
    if good < MOST {
        return Ok(());
    }
    let message = "five secrets of this webhook are good; wait until one ends, or renew it without \
                   an overlap";
    Err(Error::conflict("too_many_secrets", message))
}

/// Stores a secret of a plugin's webhook, sealed.
async fn insert(
    tx: &mut Tx<'_>,
    scope: &Scope,
    (plugin, hook): (PluginId, &str),
    (secret, now): (&SecretString, DateTime<Utc>),
) -> Result<()> {
    let (tenant, key) = (scope.tenant(), scope.clock().new_id());
    let label = label(tenant, plugin, hook, key);
    let seal = &scope.core().identity.seal;
    let sealed = seal.seal(&label, secret.expose_secret().as_bytes())?;
    let insert = Sql::new(
        "INSERT INTO plugin_hook_secrets (tenant_id, plugin_id, hook, id, sealed, \
         created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(plugin, ColumnType::Uuid)
    .bind(hook, ColumnType::Text)
    .bind(key, ColumnType::Uuid)
    .bind(sealed, ColumnType::Bytes)
    .bind(scope.actor().to_string(), ColumnType::Text)
    .bind(now, ColumnType::Instant);
    tx.execute(insert).await.map(drop)
}

/// The plugin of this name, with the keys of those who sign messages to its webhook: one statement,
/// whatever there is.
pub(super) async fn keys(
    core: &Core,
    tenant: TenantId,
    plugin: &str,
    hook: &str,
) -> Result<(Option<PluginId>, Vec<Vec<u8>>)> {
    let select = Sql::new(
        "SELECT p.id, s.id, s.sealed FROM plugins p JOIN plugin_hook_secrets s \
         ON s.tenant_id = p.tenant_id AND s.plugin_id = p.id \
         WHERE p.tenant_id = $1 AND p.name = $2 AND s.hook = $3 \
         AND (s.expires_at IS NULL OR s.expires_at > $4)",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(plugin, ColumnType::Text)
    .bind(hook, ColumnType::Text)
    .bind(core.clock.now(), ColumnType::Instant)
    .returns(&[ColumnType::Uuid, ColumnType::Uuid, ColumnType::Bytes]);
    let (mut found, mut keys) = (None, Vec::new());
    for mut row in core.db.fetch_all(select).await? {
        let (id, key): (PluginId, Uuid) = (row.uuid()?, row.uuid()?);
        let sealed: Vec<u8> = row.bytes()?;
        found = Some(id);
        // Sealed under a secret key that is gone: as good as never made.
        let opened = core
            .identity
            .seal
            .open(&label(tenant, id, hook, key), &sealed);
        keys.extend(opened.and_then(|text| decoded(&text)));
    }
    Ok((found, keys))
}

/// The key in a secret's text.
fn decoded(secret: &[u8]) -> Option<Vec<u8>> {
    STANDARD
        .decode(secret.strip_prefix(PREFIX.as_bytes())?)
        .ok()
}

/// Where the secrets of webhooks lie.
pub(crate) const SEALED: Sealed = Sealed {
    words: ("secret of a webhook", "secrets of webhooks"),
    table: "plugin_hook_secrets",
    column: "sealed",
    optional: false,
    key: &[
        ("tenant_id", ColumnType::Uuid),
        ("plugin_id", ColumnType::Uuid),
        ("hook", ColumnType::Text),
        ("id", ColumnType::Uuid),
    ],
    label: |mut row| {
        let (tenant, plugin) = (row.uuid()?, row.uuid()?);
        let hook: String = row.text()?;
        Ok(label(tenant, plugin, &hook, row.uuid()?))
    },
};

fn label(tenant: TenantId, plugin: PluginId, hook: &str, key: Uuid) -> String {
    format!("plugin-hook:{tenant}:{plugin}:{hook}:{key}")
}

/// The statements that have the secrets of a webhook end, and drop those that have.
fn ended(
    tenant: TenantId,
    plugin: PluginId,
    hook: &str,
    (now, until): (DateTime<Utc>, DateTime<Utc>),
) -> [Sql; 2] {
    let of = |sql: Sql| {
        sql.bind(tenant, ColumnType::Uuid)
            .bind(plugin, ColumnType::Uuid)
            .bind(hook, ColumnType::Text)
    };
    let end = Sql::new(
        "UPDATE plugin_hook_secrets SET expires_at = $4 WHERE tenant_id = $1 AND plugin_id = $2 \
         AND hook = $3 AND (expires_at IS NULL OR expires_at > $4)",
    );
    let drop = Sql::new(
        "DELETE FROM plugin_hook_secrets WHERE tenant_id = $1 AND plugin_id = $2 AND hook = $3 \
         AND expires_at <= $4",
    );
    [
        of(end).bind(until, ColumnType::Instant),
        of(drop).bind(now, ColumnType::Instant),
    ]
}

fn known(tenant: TenantId, plugin: PluginId, hook: &str, now: DateTime<Utc>) -> Sql {
    Sql::new(
        "SELECT created_by, created_at, expires_at FROM plugin_hook_secrets WHERE tenant_id = $1 \
         AND plugin_id = $2 AND hook = $3 AND (expires_at IS NULL OR expires_at > $4) \
         ORDER BY id DESC",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(plugin, ColumnType::Uuid)
    .bind(hook, ColumnType::Text)
    .bind(now, ColumnType::Instant)
    .returns(&[ColumnType::Text, ColumnType::Instant, ColumnType::Instant])
}

fn secret(mut row: Row) -> Result<HookSecret> {
    Ok(HookSecret {
        created_by: row.text()?,
        created_at: row.instant()?,
        expires_at: row.opt_instant()?,
    })
}
