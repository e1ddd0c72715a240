//! Messages that other systems send to plugins: stored before anybody is told that they came, each
//! once, and no more of them than a tenant may have waiting. The inbox hands them over.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};

use super::signed::{Signed, invalid};
use super::{Plugin, PluginStatus, Plugins, WebhookAuth, hook_secret, store};
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Refusal, Result};
use crate::id::{EventId, PluginId, TenantId};
use crate::module::Ident;
use crate::record::once;
use crate::scope::{Create, Permit, RequestContext};

/// The object of the permission to cause runs.
pub(super) const RUNS: &str = "plugin_runs";
/// Most messages of a tenant that wait, and most of one plugin: one that cannot run keeps no other
/// from its messages.
const MOST_WAITING: i64 = 500;
const MOST_OF_PLUGIN: i64 = 200;
/// When to try again where so many wait.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// The longest media type that is handed on.
const MAX_TYPE: usize = 255;
/// How long a message that was handled is known by its id.
const KNOWN: TimeDelta = TimeDelta::hours(24);

/// A message to a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The plugin's name.
    pub plugin: String,
    /// The webhook's name.
    pub hook: String,
    /// The media type of the body; of all headers the only one that the plugin is given.
    pub content_type: Option<String>,
    /// The body, at most [`Plugins::MAX_MESSAGE`] bytes.
    pub body: Bytes,
}

impl Message {
    /// Refuses names that no plugin and no webhook has.
    fn check_names(&self) -> Result<()> {
        let names = [&self.plugin, &self.hook];
        let all = names.iter().all(|name| name.parse::<Ident>().is_ok());
        all.then_some(()).ok_or(Error::NotFound)
    }
}

/// Who sent a message, and what they call it.
struct Sender {
    /// Whose ids are meant; empty for whoever holds the signing secret.
    name: String,
    /// What the sender calls it; without a name, it is taken each time.
    id: Option<String>,
    /// Whose rights bound the run.
    principal: Option<String>,
    request_id: String,
}

impl Plugins {
    /// Most bytes of a message's body.
    pub const MAX_MESSAGE: usize = 256 * 1024;

    /// Takes in a message from a caller of the tenant. It is stored when this answers, and runs the
    /// plugin soon, within the rights of whoever enabled it and of the caller; the answer is the
    /// `event_id` of that run. With a `key`, the same message is taken once in 24 hours.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such plugin or webhook; [`Error::Conflict`]
    /// `plugin_disabled`, `signed_only` for a webhook whose messages are signed; [`Error::Refused`]
    /// `idempotency_key_reused` for a key that another message has; [`Error::Invalid`] for a key that
    /// is none; [`Error::LimitExceeded`] `body_too_large`; [`Error::TooMany`] when too many wait.
    pub async fn receive(
        &self,
        permit: &Permit<Create>,
        key: Option<&str>,
        message: Message,
    ) -> Result<EventId> {
        let scope = permit.on(RUNS)?;
        key.map_or(Ok(()), once::check_key)?;
        message.check_names()?;
        let plugin = store::find_named(&self.0.core.db, scope.tenant(), &message.plugin).await?;
        let plugin = plugin.ok_or(Error::NotFound)?;
        if auth(&plugin, &message.hook)? != WebhookAuth::ApiKey {
            let message =
                "messages to this webhook are signed; send them without another credential";
            return Err(Error::conflict("signed_only", message));
        }
        let sender = Sender {
            name: once::whose(scope),
            id: key.map(str::to_owned),
            principal: scope.principal().map(|principal| principal.to_string()),
            request_id: scope.request().id.to_string(),
        };
        self.store(&plugin, sender, message).await
    }

    /// Takes in a signed message from anybody who holds the secret. It is stored when this answers,
    /// once for its id, and runs the plugin soon, within the rights of whoever enabled it; the
    /// answer is the `event_id` of that run.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] `message_out_of_time`, and `signature_invalid` alike for a tenant,
    /// plugin or webhook that there is not and a signature that is not right; else as for
    /// [`receive`](Self::receive).
    pub async fn receive_signed(
        &self,
        tenant: Option<TenantId>,
        signed: Signed<'_>,
        message: Message,
        request: &RequestContext,
    ) -> Result<EventId> {
        let core = &self.0.core;
        signed.check(core.clock.now())?;
        let tenant = tenant.ok_or_else(invalid)?;
        message.check_names().map_err(|_| invalid())?;
        let (plugin, mut keys) =
            hook_secret::keys(core, tenant, &message.plugin, &message.hook).await?;
        let known = plugin.filter(|_| !keys.is_empty());
        // As much is computed however many keys there are.
        keys.resize_with(keys.len().max(hook_secret::MOST), || {
            core.clock.random::<32>().to_vec()
        });
        let holds = signed.holds(&keys, &message.body);
        let plugin = known.filter(|_| holds).ok_or_else(invalid)?;
        if !core.policy.is_active(tenant).await? {
            return Err(invalid());
        }
        let plugin = store::find(&core.db, tenant, plugin).await?;
        let plugin = plugin.ok_or_else(invalid)?;
        if auth(&plugin, &message.hook).ok() != Some(WebhookAuth::Signature) {
            return Err(invalid());
        }
        let sender = Sender {
            name: String::new(),
            id: Some(signed.id.to_owned()),
            principal: None,
            request_id: request.id.to_string(),
        };
        self.store(&plugin, sender, message).await
    }

    async fn store(&self, plugin: &Plugin, sender: Sender, message: Message) -> Result<EventId> {
        check_deliverable(plugin, &message)?;
        let (clock, tenant, plugin) = (self.0.core.clock.clone(), plugin.tenant_id, plugin.id);
        let job = self.0.core.db.write(move |tx| {
            Box::pin(async move {
                let (id, now) = (EventId(clock.new_id()), clock.now());
                let content_type = message.content_type.filter(|text| text.len() <= MAX_TYPE);
                let key = Key {
                    tenant,
                    plugin,
                    hook: message.hook,
                    message_id: sender.id.unwrap_or_else(|| id.to_string()),
                    sender: sender.name,
                    fingerprint: fingerprint(content_type.as_deref(), &message.body),
                };
                let insert = key
                    .bound(Sql::new(
                        "INSERT INTO plugin_messages (tenant_id, plugin_id, hook, sender, message_id, id, \
                         fingerprint, content_type, body, principal, request_id, received_at, due_at) \
                         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
                         ON CONFLICT (tenant_id, plugin_id, hook, sender, message_id) DO NOTHING",
                    ))
                    .bind(id, ColumnType::Uuid)
                    .bind(key.fingerprint.clone(), ColumnType::Bytes)
                    .bind(content_type, ColumnType::Text)
                    .bind(message.body.to_vec(), ColumnType::Bytes)
                    .bind(sender.principal, ColumnType::Text)
                    .bind(sender.request_id, ColumnType::Text)
                    .bind(now, ColumnType::Instant)
                    .bind(now, ColumnType::Instant);
                if tx.execute(insert).await? == 0 {
                    return key.known(tx).await;
                }
                refuse_too_many(tx, tenant, plugin).await?;
                tx.execute(forget(tenant, now - KNOWN)).await?;
                Ok(id)
            })
        });
        let id = job.await?;
        self.0.arrived.notify_one();
        Ok(id)
    }
}

/// What a message is known by.
struct Key {
    tenant: TenantId,
    plugin: PluginId,
    hook: String,
    sender: String,
    message_id: String,
    /// What another message with its id differs in.
    fingerprint: Vec<u8>,
}

impl Key {
    fn bound(&self, sql: Sql) -> Sql {
        sql.bind(self.tenant, ColumnType::Uuid)
            .bind(self.plugin, ColumnType::Uuid)
            .bind(&self.hook, ColumnType::Text)
            .bind(&self.sender, ColumnType::Text)
            .bind(&self.message_id, ColumnType::Text)
    }

    /// The message that came before under this key, where it is the same one.
    async fn known(&self, tx: &mut Tx<'_>) -> Result<EventId> {
        let known = self.bound(Sql::new(
            "SELECT id, fingerprint FROM plugin_messages WHERE tenant_id = $1 \
             AND plugin_id = $2 AND hook = $3 AND sender = $4 AND message_id = $5",
        ));
        let known = known.returns(&[ColumnType::Uuid, ColumnType::Bytes]);
        let gone = || Error::unavailable("the message was just forgotten; send it again");
        let mut row = tx.fetch_optional(known).await?.ok_or_else(gone)?;
        let (id, fingerprint) = (row.uuid()?, row.bytes::<Vec<u8>>()?);
        match fingerprint == self.fingerprint {
            true => Ok(id),
            false => Err(Refusal::invalid(
                "idempotency_key_reused",
                "another message with this id came before; give each one of its own",
            )
            .into()),
        }
    }
}

/// The refusal to wake a plugin that is switched off.
pub(super) fn switched_off() -> Error {
    let message = "the plugin is switched off; have an administrator enable it, and try again";
    Error::conflict("plugin_disabled", message)
}

fn check_deliverable(plugin: &Plugin, message: &Message) -> Result<()> {
    if plugin.status != PluginStatus::Enabled {
        return Err(switched_off());
    }
    let most = Plugins::MAX_MESSAGE;
    if message.body.len() > most {
        return Err(Error::LimitExceeded {
            code: "body_too_large",
            message: format!("the body may have at most {most} bytes").into(),
        });
    }
    Ok(())
}

/// Refuses a message, which is stored by now, when too many wait.
async fn refuse_too_many(tx: &mut Tx<'_>, tenant: TenantId, plugin: PluginId) -> Result<()> {
    let waiting = Sql::new(
        "SELECT count(*), coalesce(sum(CASE WHEN plugin_id = $3 THEN 1 ELSE 0 END), 0) \
         FROM (SELECT plugin_id FROM plugin_messages WHERE tenant_id = $1 \
         AND due_at IS NOT NULL LIMIT $2) AS waiting",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(MOST_WAITING + 1, ColumnType::Int)
    .bind(plugin, ColumnType::Uuid)
    .returns(&[ColumnType::Int, ColumnType::Int]);
    let (all, own): (i64, i64) = match tx.fetch_optional(waiting).await? {
        Some(mut row) => (row.int()?, row.int()?),
        None => (0, 0),
    };
    match all > MOST_WAITING || own > MOST_OF_PLUGIN {
        true => Err(Error::too_soon(TRY_AGAIN)),
        false => Ok(()),
    }
}

/// How senders to a webhook say who they are.
fn auth(plugin: &Plugin, hook: &str) -> Result<WebhookAuth> {
    let mut webhooks = plugin.manifest.webhooks();
    let webhook = webhooks.find(|webhook| *webhook.name.as_str() == *hook);
    Ok(webhook.ok_or(Error::NotFound)?.auth)
}

fn fingerprint(content_type: Option<&str>, body: &[u8]) -> Vec<u8> {
    let content_type = content_type.unwrap_or_default();
    Sha256::new()
        .chain_update((content_type.len() as u64).to_be_bytes())
        .chain_update(content_type)
        .chain_update(body)
        .finalize()
        .to_vec()
}

/// Each new message drops up to 16 old ones that were handled, so that they never pile up.
fn forget(tenant: TenantId, before: DateTime<Utc>) -> Sql {
    Sql::new(
        "DELETE FROM plugin_messages WHERE tenant_id = $1 AND id IN (SELECT id FROM plugin_messages \
         WHERE tenant_id = $2 AND due_at IS NULL AND received_at <= $3 ORDER BY id LIMIT 16)",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(tenant, ColumnType::Uuid)
    .bind(before, ColumnType::Instant)
}
