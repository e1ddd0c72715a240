//! API keys: how programs get into one tenant, with the rights of one role.
//!
//! A key is shown once, when it is made; kept are its first characters, to recognise it, and its
//! hash. Refuses to bind a role that may do more than whoever makes the key.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::json;

use super::key_rights::{self, KeyHolder};
use super::name::check_name;
use super::opaque;
use super::service;
use crate::crm::Core;
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, FieldError, Result};
use crate::id::{ApiKeyId, RoleId, TenantId, UserId};
use crate::journal;
use crate::policy::{self, CompiledPolicy};
use crate::role;
use crate::scope::{Create, Delete, Permit, Read, Scope, Update};

/// The object of the permissions asked for here, and the entity of the audit rows.
const OBJECT: &str = "api_keys";
const PREFIX: &str = "crm_ak_";
/// Characters of a key that are kept: `crm_ak_` and eight that belong to it alone.
const SHOWN: usize = PREFIX.len() + 8;
/// Longest credential looked at; ours have 59 bytes.
const MAX_KEY_BYTES: usize = 100;
/// Most keys of a tenant that are kept, ended ones too.
const MOST_KEYS: i64 = 1_000;
/// How fresh `last_used_at` is kept.
const USE_PRECISION: TimeDelta = TimeDelta::minutes(1);

/// An API key as answered: everything but the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// What it is for, in the words of whoever made it.
    pub name: String,
    /// Its first characters, to recognise it by.
    pub prefix: String,
    /// The role whose rights it has.
    pub role_id: RoleId,
    /// What it may do of that; `None` for all of it.
    pub permissions: Option<Vec<String>>,
    /// The service account that it acts as, which owns what it makes.
    pub service_account_id: Option<UserId>,
    /// Who made it: `user:<id>`, `api_key:<id>` or `operator`.
    pub created_by: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// Its latest use, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// What a new API key needs.
#[derive(Debug, Clone, Default)]
pub struct NewApiKey {
    /// What it is for, 1 to 100 characters.
    pub name: String,
    /// The role whose rights it gets, by name or id.
    pub role: String,
    /// What it may do of what the role may, such as `contacts.read` or `deals.*`; `None` for all of
    /// it.
    pub permissions: Option<Vec<String>>,
    /// A service account of the tenant to act as: the key then has no right that the account lacks.
    pub service_account: Option<UserId>,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The API keys of the tenant that a permit is for.
#[derive(Clone)]
pub struct ApiKeys {
    core: Arc<Core>,
}

impl ApiKeys {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Makes a key; the text answered beside it is the only copy there will ever be. A tenant has at
    /// most 1,000: one more takes the place of the oldest that is revoked or has expired.
    ///
    /// # Errors
    /// [`Error::Invalid`] for values that break a rule or an unknown role; [`Error::Refused`]
    /// `forbidden` for a role that may do more than the actor; [`Error::Conflict`]
    /// `too_many_api_keys`.
    pub async fn create(
        &self,
        permit: &Permit<Create>,
        input: NewApiKey,
    ) -> Result<(ApiKey, SecretString)> {
        let scope = permit.on(OBJECT)?.clone();
        let name = check_name("name", &input.name)?;
        let permissions = input
            .permissions
            .map(|permissions| key_rights::check(scope.catalogue(), &permissions))
            .transpose()?;
        let now = scope.clock().now();
        if input.expires_at.is_some_and(|end| end <= now) {
            let message = "Give an instant in the future, or none.";
            return Err(Error::invalid("expires_at", "in_the_past", message));
        }
        let secret = generate(&self.core);
        let key = ApiKey {
            id: ApiKeyId(scope.clock().new_id()),
            name,
            prefix: secret.expose_secret().chars().take(SHOWN).collect(),
            // Replaced by the role's id once that is known.
            role_id: RoleId(uuid::Uuid::nil()),
            permissions,
            service_account_id: input.service_account,
            created_by: scope.actor().to_string(),
            created_at: now,
            expires_at: input.expires_at,
            last_used_at: None,
            revoked_at: None,
        };
        let hash = opaque::hash(&secret);
        let by = scope.clone();
        let made = by.write_policy(move |tx| Box::pin(insert(tx, scope, key, hash, input.role)));
        Ok((made.await?, secret))
    }

    /// All keys, the oldest first, revoked and expired ones too.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a permit of another object.
    pub async fn list(&self, permit: &Permit<Read>) -> Result<Vec<ApiKey>> {
        let scope = permit.on(OBJECT)?;
        let all = Sql::new(
            "SELECT id, name, prefix, role_id, permissions, user_id, created_by, created_at, \
             expires_at, last_used_at, revoked_at FROM api_keys WHERE tenant_id = $1 ORDER BY id",
        )
        .bind(scope.tenant(), ColumnType::Uuid)
        .returns(&[
            ColumnType::Uuid,
            ColumnType::Text,
            ColumnType::Text,
            ColumnType::Uuid,
            ColumnType::Json,
            ColumnType::Uuid,
            ColumnType::Text,
            ColumnType::Instant,
            ColumnType::Instant,
            ColumnType::Instant,
            ColumnType::Instant,
        ]);
        self.core
            .db
            .fetch_all(all)
            .await?
            .into_iter()
            .map(read)
            .collect()
    }

    /// Revokes a key: the next request with it is refused. Revoking it again changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the tenant has no such key.
    pub async fn revoke(&self, permit: &Permit<Delete>, id: ApiKeyId) -> Result<()> {
        let scope = permit.on(OBJECT)?.clone();
        let by = scope.clone();
        let revoked = by.write_policy(move |tx| Box::pin(revoke(tx, scope, id)));
        revoked.await
    }
}

/// Whether a credential is meant as an API key.
pub(crate) fn is_api_key(credential: &str) -> bool {
    credential.starts_with(PREFIX)
}

/// Whose key this is; noting its use is left to a task of its own, at most once a minute.
///
/// # Errors
/// [`Error::Unauthenticated`]: `api_key_expired`, or `api_key_invalid` for one that is unknown or
/// revoked.
pub(crate) async fn authenticate(core: &Arc<Core>, credential: &str) -> Result<KeyHolder> {
    if credential.len() > MAX_KEY_BYTES {
        return Err(invalid());
    }
    let by_hash = Sql::new(
        "SELECT tenant_id, id, expires_at, role_id, user_id, permissions FROM api_keys \
         WHERE hash = $1 AND revoked_at IS NULL",
    )
    .bind(opaque::hash(&credential.into()), ColumnType::Bytes)
    .returns(&[
        ColumnType::Uuid,
        ColumnType::Uuid,
        ColumnType::Instant,
        ColumnType::Uuid,
        ColumnType::Uuid,
        ColumnType::Json,
    ]);
    let mut row = core.db.fetch_optional(by_hash).await?.ok_or_else(invalid)?;
    let (tenant, id): (TenantId, ApiKeyId) = (row.uuid()?, row.uuid()?);
    let (now, end) = (core.clock.now(), row.opt_instant::<DateTime<Utc>>()?);
    if end.is_some_and(|end| end <= now) {
        return Err(Error::unauthenticated(
            "api_key_expired",
            "this API key has expired",
        ));
    }
    let uses = &core.identity.key_uses;
    if uses
        .get(&(tenant, id))
        .is_none_or(|noted| now - noted >= USE_PRECISION)
    {
        uses.insert((tenant, id), now);
        let core_ = core.clone();
        core.identity
            .afterwards(async move { note_use(&core_, tenant, id, now).await });
    }
    Ok(KeyHolder {
        tenant,
        id,
        role: row.uuid()?,
        user: row.opt_uuid()?,
        permissions: row.opt_json()?.map(read_permissions).transpose()?,
    })
}

/// The key, unless it is revoked or has expired.
pub(super) async fn find(core: &Core, tenant: TenantId, id: ApiKeyId) -> Result<Option<KeyHolder>> {
    let by_id = Sql::new(
        "SELECT role_id, user_id, permissions FROM api_keys WHERE tenant_id = $1 AND id = $2 \
         AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3)",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(id, ColumnType::Uuid)
    .bind(core.clock.now(), ColumnType::Instant)
    .returns(&[ColumnType::Uuid, ColumnType::Uuid, ColumnType::Json])
    .point_read();
    let Some(mut row) = core.db.fetch_optional(by_id).await? else {
        return Ok(None);
    };
    Ok(Some(KeyHolder {
        tenant,
        id,
        role: row.uuid()?,
        user: row.opt_uuid()?,
        permissions: row.opt_json()?.map(read_permissions).transpose()?,
    }))
}

pub(super) fn read_permissions(stored: serde_json::Value) -> Result<Vec<String>> {
    serde_json::from_value(stored).map_err(|_| Error::Inconsistent {
        table: OBJECT.into(),
        column: "permissions".into(),
    })
}

/// `crm_ak_`, eight characters to recognise it by, `_`, and 256 random bits.
fn generate(core: &Core) -> SecretString {
    let shown = u32::from_be_bytes(core.clock.random());
    opaque::generate(&core.clock, &format!("{PREFIX}{shown:08x}_"))
}

async fn insert(
    tx: &mut Tx<'_>,
    scope: Scope,
    mut key: ApiKey,
    hash: Vec<u8>,
    role: String,
) -> Result<ApiKey> {
    let tenant = scope.tenant();
    key.role_id = find_role(tx, tenant, "role", role).await?;
    let rules = policy::rules(tx, tenant).await?;
    let given = CompiledPolicy::new(scope.catalogue(), &rules).grants(&[key.role_id]);
    let given = match key.service_account_id {
        // Rights on own rows are rights, for an account that owns rows.
        Some(account) => {
            service::check(tx, tenant, account).await?;
            // Whose rows it owns, the key reaches: to speak as somebody is to manage members.
            scope.permit::<Update>("members")?;
            policy::check_rank(tx, &scope, account).await?;
            given
        }
        None => Arc::new(given.without_own()),
    };
    if let Some(permissions) = &key.permissions {
        key_rights::check_within(scope.catalogue(), permissions, &given)?;
    }
    policy::check_held(&scope, &given)?;
    make_room(tx, tenant, key.created_at).await?;
    tx.execute(
        Sql::new(
            "INSERT INTO api_keys (tenant_id, id, name, prefix, hash, role_id, created_by, \
             created_at, expires_at, permissions, user_id) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(tenant, ColumnType::Uuid)
        .bind(key.id, ColumnType::Uuid)
        .bind(key.name.as_str(), ColumnType::Text)
        .bind(key.prefix.as_str(), ColumnType::Text)
        .bind(hash, ColumnType::Bytes)
        .bind(key.role_id, ColumnType::Uuid)
        .bind(key.created_by.as_str(), ColumnType::Text)
        .bind(key.created_at, ColumnType::Instant)
        .bind(key.expires_at, ColumnType::Instant)
        .bind(
            key.permissions.as_ref().map(|list| json!(list)),
            ColumnType::Json,
        )
        .bind(key.service_account_id, ColumnType::Uuid),
    )
    .await?;
    let after = serde_json::to_value(&key).map_err(Error::internal)?;
    let entity = (OBJECT, Some(key.id.to_string()));
    journal::audit(tx, &scope, "api_keys.create", entity, None, Some(after)).await?;
    Ok(key)
}

/// Forgets the oldest key that has ended where there are as many as there may be.
async fn make_room(tx: &mut Tx<'_>, tenant: TenantId, now: DateTime<Utc>) -> Result<()> {
    let kept = Sql::new("SELECT COUNT(*) FROM api_keys WHERE tenant_id = $1")
        .bind(tenant, ColumnType::Uuid);
    if tx.number(kept).await? < MOST_KEYS {
        return Ok(());
    }
    let ended = Sql::new(
        "SELECT id FROM api_keys WHERE tenant_id = $1 \
         AND (revoked_at IS NOT NULL OR expires_at <= $2) ORDER BY id LIMIT 1",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(now, ColumnType::Instant)
    .returns(&[ColumnType::Uuid]);
    let Some(mut row) = tx.fetch_optional(ended).await? else {
        return Err(Error::conflict(
            "too_many_api_keys",
            "this tenant has 1,000 API keys; revoke some first",
        ));
    };
    let forget = Sql::new("DELETE FROM api_keys WHERE tenant_id = $1 AND id = $2")
        .bind(tenant, ColumnType::Uuid)
        .bind(row.uuid::<ApiKeyId>()?, ColumnType::Uuid);
    tx.execute(forget).await.map(drop)
}

/// The one role of this name or id that `field` asks for.
pub(super) async fn find_role(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    field: &str,
    role: String,
) -> Result<RoleId> {
    let unknown = || {
        Error::invalid(
            field,
            "unknown_role",
            "There is no such role in this tenant.",
        )
    };
    match role::resolve(tx, tenant, field, &[role]).await {
        Ok(found) => found.first().copied().ok_or_else(unknown),
        // It points into a list, and here is none.
        Err(Error::Invalid(refused)) => {
            let pointer = || format!("/{field}");
            let about = |one: FieldError| FieldError {
                pointer: pointer(),
                ..one
            };
            Err(Error::Invalid(refused.into_iter().map(about).collect()))
        }
        Err(error) => Err(error),
    }
}

async fn revoke(tx: &mut Tx<'_>, scope: Scope, id: ApiKeyId) -> Result<()> {
    let (tenant, now) = (scope.tenant(), scope.clock().now());
    let found = Sql::new("SELECT revoked_at FROM api_keys WHERE tenant_id = $1 AND id = $2")
        .bind(tenant, ColumnType::Uuid)
        .bind(id, ColumnType::Uuid)
        .returns(&[ColumnType::Instant]);
    let mut row = tx.fetch_optional(found).await?.ok_or(Error::NotFound)?;
    if row.opt_instant::<DateTime<Utc>>()?.is_some() {
        return Ok(());
    }
    tx.execute(
        Sql::new("UPDATE api_keys SET revoked_at = $1 WHERE tenant_id = $2 AND id = $3")
            .bind(now, ColumnType::Instant)
            .bind(tenant, ColumnType::Uuid)
            .bind(id, ColumnType::Uuid),
    )
    .await?;
    let entity = (OBJECT, Some(id.to_string()));
    let before = Some(json!({ "revoked_at": null }));
    let after = json!({ "revoked_at": crate::value::instant(&now) });
    journal::audit(tx, &scope, "api_keys.delete", entity, before, Some(after)).await
}

async fn note_use(core: &Core, tenant: TenantId, id: ApiKeyId, now: DateTime<Utc>) -> Result<()> {
    let update = Sql::new(
        "UPDATE api_keys SET last_used_at = $1 WHERE tenant_id = $2 AND id = $3 \
         AND (last_used_at IS NULL OR last_used_at <= $4)",
    )
    .bind(now, ColumnType::Instant)
    .bind(tenant, ColumnType::Uuid)
    .bind(id, ColumnType::Uuid)
    .bind(now - USE_PRECISION, ColumnType::Instant);
    core.db.execute(update).await.map(drop)
}

fn read(mut row: Row) -> Result<ApiKey> {
    Ok(ApiKey {
        id: row.uuid()?,
        name: row.text()?,
        prefix: row.text()?,
        role_id: row.uuid()?,
        permissions: row.opt_json()?.map(read_permissions).transpose()?,
        service_account_id: row.opt_uuid()?,
        created_by: row.text()?,
        created_at: row.instant()?,
        expires_at: row.opt_instant()?,
        last_used_at: row.opt_instant()?,
        revoked_at: row.opt_instant()?,
    })
}

fn invalid() -> Error {
    Error::unauthenticated("api_key_invalid", "this API key is unknown or revoked")
}

#[cfg(test)]
mod tests;
