//! What plugins have of their own: versions, values, secrets.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};

use super::{component, plugins};
use crate::crm::Crm;
use crate::db::{ColumnType, Sql};
use crate::error::{Error, Result};
use crate::id::PluginId;
use crate::record::Once;
use crate::scope::{Create, Scope, Update};

/// The version that could run next.
pub(in super::super) const NEXT: &str = "1.0.2";
/// The bytes of the value that the plugin of both tenants keeps, and how many more it may.
pub(in super::super) const VALUE: usize = 100;
const ROOM: i64 = 50;

/// Another version, and a value that leaves little room for more.
pub(super) async fn stock(crm: &Crm, scope: &Scope, plugin: PluginId) -> Result<()> {
    let permit = scope.permit::<Create>("plugins")?;
    let next = component(crm, "isolation_probe", NEXT)?;
    plugins(crm).upload(&permit, next.into(), None).await?;
    let value = Sql::new(
        "INSERT INTO plugin_kv (tenant_id, plugin_id, key, value) VALUES ($1, $2, $3, $4)",
    )
    .bind(scope.tenant(), ColumnType::Uuid)
    .bind(plugin, ColumnType::Uuid)
    .bind("isolation", ColumnType::Text)
    .bind(vec![1_u8; VALUE], ColumnType::Bytes);
    let bytes = Sql::new("UPDATE plugins SET kv_bytes = $1 WHERE tenant_id = $2 AND id = $3")
        .bind(16 * 1024 * 1024_i64 - ROOM, ColumnType::Int)
        .bind(scope.tenant(), ColumnType::Uuid)
        .bind(plugin, ColumnType::Uuid);
    let write = crm.core.db.write(move |tx| {
        Box::pin(async move {
            tx.execute(value).await?;
            tx.execute(bytes).await
        })
    });
    write.await.map(drop)
}

/// Secrets, one more key that is trusted, and an action under way by the same name.
pub(super) async fn more(crm: &Crm, scope: &Scope, plugin: PluginId) -> Result<()> {
    let (permit, plugins) = (scope.permit::<Update>("plugins")?, plugins(crm));
    for name in ["isolation", "isolation_other"] {
        let secret = SecretString::from("the other tenant's");
        plugins.set_secret(&permit, plugin, name, &secret).await?;
    }
    let key = trusted(9)?;
    plugins.trust(&permit, "isolation_other", &key).await?;
    let once = Once::new(scope, "isolation_probe", [b"", b"", b"", b""])?;
    let now = crm.clock().now();
    let begin = crm
        .core
        .db
        .write(move |tx| Box::pin(async move { once.begin(tx, now).await }));
    begin.await.map(drop)
}

/// A public key, another one for each number.
pub(in super::super) fn trusted(number: u8) -> Result<String> {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[number; 32]).map_err(Error::internal)?;
    Ok(STANDARD.encode(pair.public_key().as_ref()))
}

/// The hash of a component in hexadecimal.
pub(in super::super) fn sha256(component: &str) -> String {
    hex::encode(Sha256::digest(component))
}
