//! Who made a component: detached Ed25519 signatures (RFC 8032) over its bytes, by keys that the
//! tenant trusts. What no trusted key signed is an upload like any other, unless the tenant
//! insists.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;

use super::{OBJECT, Plugins};
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{TenantId, TrustedKeyId};
use crate::journal;
use crate::module::Ident;
use crate::scope::{Permit, Read, Update};

/// Bytes of a public key, and of a signature.
const KEY: usize = 32;
const SIGNATURE: usize = 64;
/// Most keys of a tenant.
const MAX_KEYS: i64 = 20;

/// A key whose signatures a tenant trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrustedKey {
    /// Its id.
    pub id: TrustedKeyId,
    /// Whose it is, in the tenant's words.
    pub name: String,
    /// The public key, in Base64.
    pub public_key: String,
    /// When it was added.
    pub created_at: DateTime<Utc>,
}

const COLUMNS: &[ColumnType] = &[
    ColumnType::Uuid,
    ColumnType::Text,
    ColumnType::Bytes,
    ColumnType::Instant,
];

impl Plugins {
    /// The keys that the tenant trusts, by name.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn trusted_keys(&self, permit: &Permit<Read>) -> Result<Vec<TrustedKey>> {
        let tenant = permit.on(OBJECT)?.tenant();
        let rows = self.0.core.db.fetch_all(select(tenant)).await?;
        rows.into_iter().map(key).collect()
    }

    /// Trusts a key: 32 bytes in Base64.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no key, [`Error::Conflict`] `already_exists` for a name or a key
    /// that there is, and `too_many_keys`.
    pub async fn trust(
        &self,
        permit: &Permit<Update>,
        name: &str,
        public_key: &str,
    ) -> Result<TrustedKey> {
        let scope = permit.on(OBJECT)?.clone();
        let name: Ident = name.parse().map_err(|error: crate::module::InvalidIdent| {
            Error::invalid("name", "invalid_name", error.to_string())
        })?;
        let bytes = decoded(public_key, KEY).ok_or_else(|| {
            let message = "must be an Ed25519 public key: 32 bytes in Base64";
            Error::invalid("public_key", "invalid_key", message)
        })?;
        let (id, created_at) = scope.clock().new_id_and_time();
        let key = TrustedKey {
            id: TrustedKeyId(id),
            name: name.into(),
            public_key: STANDARD.encode(&bytes),
            created_at,
        };
        let job = self.0.core.db.write(move |tx| {
            Box::pin(async move {
                let tenant = scope.tenant();
                let known = tx.fetch_all(select(tenant)).await?;
                if known.len() as i64 >= MAX_KEYS {
                    let message = format!("a tenant trusts at most {MAX_KEYS} keys; remove one");
                    return Err(Error::conflict("too_many_keys", message));
                }
                for known in known {
                    let known = self::key(known)?;
                    if known.name == key.name || known.public_key == key.public_key {
                        let message = "there is a trusted key with this name, or this very key";
                        return Err(Error::conflict("already_exists", message));
                    }
                }
                let insert = Sql::new(
                    "INSERT INTO plugin_keys (tenant_id, id, name, public_key, created_at) \
                     VALUES ($1, $2, $3, $4, $5)",
                )
                .bind(tenant, ColumnType::Uuid)
                .bind(key.id, ColumnType::Uuid)
                .bind(&key.name, ColumnType::Text)
                .bind(bytes, ColumnType::Bytes)
                .bind(key.created_at, ColumnType::Instant);
                tx.execute(insert).await?;
                let after = Some(json!({"name": key.name, "public_key": key.public_key}));
                let entity = ("plugin_keys", Some(key.id.to_string()));
                journal::audit(tx, &scope, "plugins.trust", entity, None, after).await?;
                Ok(key)
            })
        });
        let key = job.await?;
        self.forget(permit.tenant()).await;
        Ok(key)
    }

    /// Trusts a key no more; what it signed stays installed, and runs no more where the tenant
    /// insists on signatures.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn distrust(&self, permit: &Permit<Update>, id: TrustedKeyId) -> Result<()> {
        let scope = permit.on(OBJECT)?.clone();
        let job = self.0.core.db.write(move |tx| {
            Box::pin(async move {
                let delete = Sql::new(
                    "DELETE FROM plugin_keys WHERE tenant_id = $1 AND id = $2 RETURNING name",
                )
                .bind(scope.tenant(), ColumnType::Uuid)
                .bind(id, ColumnType::Uuid)
                .returns(&[ColumnType::Text]);
                let row = tx.fetch_optional(delete).await?;
                let name: String = row.ok_or(Error::NotFound)?.text()?;
                let entity = ("plugin_keys", Some(id.to_string()));
                let before = Some(json!({"name": name}));
                journal::audit(tx, &scope, "plugins.distrust", entity, before, None).await
            })
        });
        job.await?;
        self.forget(permit.tenant()).await;
        Ok(())
    }
}

/// A trusted key that signed a component.
pub(super) struct Signer {
    pub(super) name: String,
    pub(super) public_key: Vec<u8>,
}

/// The trusted key that signed the component.
///
/// # Errors
/// [`Error::Invalid`] `invalid_signature` for a signature that none of the tenant's keys made.
pub(super) async fn signer(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    component: &[u8],
    signature: &str,
) -> Result<Signer> {
    let signature = decoded(signature, SIGNATURE).ok_or_else(unsigned)?;
    for row in tx.fetch_all(select(tenant)).await? {
        let key = key(row)?;
        let public_key = decoded(&key.public_key, KEY).ok_or_else(unsigned)?;
        let public = UnparsedPublicKey::new(&ED25519, &public_key);
        if public.verify(component, &signature).is_ok() {
            let name = key.name;
            return Ok(Signer { name, public_key });
        }
    }
    Err(unsigned())
}

fn unsigned() -> Error {
    let message = "must be the Ed25519 signature of these very bytes, in Base64, by a key that the \
                   tenant trusts";
    Error::invalid("signature", "invalid_signature", message)
}

fn decoded(text: &str, length: usize) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text).ok()?;
    (bytes.len() == length).then_some(bytes)
}

fn select(tenant: TenantId) -> Sql {
    Sql::new(
        "SELECT id, name, public_key, created_at FROM plugin_keys WHERE tenant_id = $1 ORDER BY name",
    )
    .bind(tenant, ColumnType::Uuid)
    .returns(COLUMNS)
}

fn key(mut row: Row) -> Result<TrustedKey> {
    Ok(TrustedKey {
        id: row.uuid()?,
        name: row.text()?,
        public_key: STANDARD.encode(row.bytes::<Vec<u8>>()?),
        created_at: row.instant()?,
    })
}
