//! The versions of a plugin: uploaded next to the running one, consented to by the hash of their
//! bytes, activated at once for all processes, tried on some of the events first, and rolled back.
//!
//! A version runs only when somebody consented to all that it asks for: to the version itself, or
//! to one that asks for no less.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::signature::Signer;
use super::{
    Manifest, OBJECT, Plugin, PluginStatus, Plugins, audit, in_hex, settings, store, timer, wait,
};
use crate::db::{ColumnType, Db, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{EventId, PluginId, TenantId, UserId};
use crate::journal;
use crate::scope::{Delete, Permit, Read, Scope, Update};

/// Most versions of a plugin.
const MAX_VERSIONS: usize = 20;

/// Why a version does not run.
pub(super) const UNSIGNED: &str = "this tenant runs signed plugins only, and no key that it trusts signed \
    this version; upload it with the signature of a trusted key";

/// One component of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Version {
    /// SHA-256 of the component.
    #[serde(serialize_with = "in_hex")]
    pub sha256: [u8; 32],
    /// What it says about itself.
    pub manifest: Manifest,
    /// The key that signed it, by its name, as long as the tenant trusts that key.
    pub signed_by: Option<String>,
    /// Who uploaded it.
    pub uploaded_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// The user who consented to it, until the plugin is disabled; absent for the operator.
    pub consented_by: Option<UserId>,
    /// When somebody consented to it.
    pub consented_at: Option<DateTime<Utc>>,
}

/// A version that some of the events go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Canary {
    /// SHA-256 of its component.
    #[serde(serialize_with = "in_hex")]
    pub sha256: [u8; 32],
    /// Of 100 events, how many.
    pub percent: u8,
}

/// What came of an upload.
#[derive(Debug, Clone, PartialEq)]
pub struct Uploaded {
    /// The plugin, as it runs.
    pub plugin: Plugin,
    /// The uploaded version.
    pub version: Version,
}

const COLUMNS: &[ColumnType] = &[
    ColumnType::Bytes,
    ColumnType::Json,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Instant,
    ColumnType::Uuid,
    ColumnType::Instant,
];

impl Plugins {
    /// The versions of a plugin, newest first.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn versions(&self, permit: &Permit<Read>, id: PluginId) -> Result<Vec<Version>> {
        let plugin = self.get(permit, id).await?;
        list(&self.0.core.db, plugin.tenant_id, id).await
    }

    /// Consents to what a version asks for, and activates it: it runs from now on, within the
    /// rights of the user who enabled it.
    ///
    /// `sha256`, in hexadecimal, is the component that the consent is meant for: nobody consents to
    /// what they did not see.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] `user_required` for an API key, also of a service
    /// account, which has no rights of a person to lend, `unknown_version` where there is no such version, and
    /// `signature_required` for one that no trusted key signed where the tenant insists.
    pub async fn enable(
        &self,
        permit: &Permit<Update>,
        id: PluginId,
        sha256: &str,
    ) -> Result<Plugin> {
        let scope = permit.on(OBJECT)?;
        if !scope.is_person() {
            return Err(Error::conflict(
                "user_required",
                "a plugin works with the rights of the user who enables it; log in as a user",
            ));
        }
        let (user, now) = (scope.actor().user(), scope.clock().now());
        let meant = sha256.to_ascii_lowercase();
        self.choose((permit, "plugins.enable"), id, move |plugin, choice| {
            let version = choice.of(&meant)?;
            choice.consent = Some((version.sha256, user, now));
            activate(plugin, version);
            // What others consented to is not within this user's consent.
            plugin.canary = None;
            plugin.previous = plugin.previous.filter(|_| plugin.installed_by == user);
            plugin.status = PluginStatus::Enabled;
            plugin.parked = None;
            (plugin.crashes, plugin.rests_until) = (0, None);
            plugin.installed_by = user;
            plugin.enabled_at = Some(now);
            Ok(())
        })
        .await
    }

    /// Activates a version that asks for nothing beyond what the user who enabled the plugin
    /// consented to before.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] `unknown_version`, and `consent_required` naming what
    /// the user whose rights it has did not consent to: then [`enable`](Self::enable) it.
    pub async fn activate(
        &self,
        permit: &Permit<Update>,
        id: PluginId,
        sha256: &str,
    ) -> Result<Plugin> {
        let meant = sha256.to_ascii_lowercase();
        self.choose((permit, "plugins.activate"), id, move |plugin, choice| {
            activate(plugin, choice.consented(&meant, plugin.installed_by)?);
            Ok(())
        })
        .await
    }

    /// Activates the version again that ran before this one.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] `unknown_version` when none did, or it is gone, and
    /// `consent_required` as for [`activate`](Self::activate): also after the plugin was disabled, which
    /// took back what was consented to.
    pub async fn roll_back(&self, permit: &Permit<Update>, id: PluginId) -> Result<Plugin> {
        self.choose((permit, "plugins.roll_back"), id, move |plugin, choice| {
            let Some(previous) = plugin.previous else {
                let message =
                    "no other version ran before this one, or it was deleted; activate one";
                return Err(Error::conflict("unknown_version", message));
            };
            let version = choice.consented(&hex::encode(previous), plugin.installed_by)?;
            activate(plugin, version);
            Ok(())
        })
        .await
    }

    /// Sends so many of 100 events to this version instead of the active one; 0 ends the trial.
    ///
    /// # Errors
    /// As for [`activate`](Self::activate); [`Error::Invalid`] for more than 100.
    pub async fn canary(
        &self,
        permit: &Permit<Update>,
        id: PluginId,
        sha256: &str,
        percent: u8,
    ) -> Result<Plugin> {
        if percent > 100 {
            return Err(Error::invalid(
                "percent",
                "out_of_range",
                "must be 0 to 100",
            ));
        }
        let meant = sha256.to_ascii_lowercase();
        self.choose((permit, "plugins.canary"), id, move |plugin, choice| {
            if percent == 0 {
                // To end a trial takes neither consent nor signature.
                let ended = chosen(&choice.versions, &meant)?.sha256;
                plugin.canary = plugin.canary.filter(|canary| canary.sha256 != ended);
                return Ok(());
            }
            let sha256 = choice.consented(&meant, plugin.installed_by)?.sha256;
            if sha256 == plugin.sha256 {
                let message = "this version is the active one; try another one beside it";
                return Err(Error::conflict("version_in_use", message));
            }
            plugin.canary = Some(Canary { sha256, percent });
            Ok(())
        })
        .await
    }

    /// Removes a version that does not run.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] `unknown_version`, and `version_in_use` for the active
    /// one and the canary.
    pub async fn delete_version(
        &self,
        permit: &Permit<Delete>,
        id: PluginId,
        sha256: &str,
    ) -> Result<()> {
        let scope = permit.on(OBJECT)?.clone();
        let (tenant, meant) = (scope.tenant(), sha256.to_ascii_lowercase());
        let job = self.0.core.db.write(move |tx| {
            Box::pin(async move {
                let mut plugin = store::lock(tx, tenant, id).await?.ok_or(Error::NotFound)?;
                let before = plugin.clone();
                let versions = list_in(tx, tenant, id).await?;
                let version = chosen(&versions, &meant)?;
                let canary = plugin.canary.map(|canary| canary.sha256);
                if version.sha256 == plugin.sha256 || Some(version.sha256) == canary {
                    let message = "this version runs; activate another one first";
                    return Err(Error::conflict("version_in_use", message));
                }
                plugin.previous = plugin.previous.filter(|sha256| *sha256 != version.sha256);
                store::put(tx, &plugin).await?;
                let delete = Sql::new(
                    "DELETE FROM plugin_versions WHERE tenant_id = $1 AND plugin_id = $2 \
                     AND sha256 = $3",
                )
                .bind(tenant, ColumnType::Uuid)
                .bind(id, ColumnType::Uuid)
                .bind(version.sha256.to_vec(), ColumnType::Bytes);
                tx.execute(delete).await?;
                store::drop_unused(tx, &version.sha256).await?;
                let json = |plugin: &Plugin| serde_json::to_value(plugin).map_err(Error::internal);
                let (mut before, after) = (json(&before)?, json(&plugin)?);
                before["deleted"] = serde_json::to_value(version).map_err(Error::internal)?;
                let (action, entity) = ("plugins.delete_version", (OBJECT, Some(id.to_string())));
                let states = (Some(before), Some(after));
                journal::audit_as::<Delete>(tx, &scope, action, entity, states).await
            })
        });
        job.await
    }

    /// Changes which versions run, in one transaction with the audit row, and forgets what this
    /// process knows of them.
    async fn choose(
        &self,
        (permit, action): (&Permit<Update>, &'static str),
        id: PluginId,
        change: impl FnOnce(&mut Plugin, &mut Choice) -> Result<()> + Send + 'static,
    ) -> Result<Plugin> {
        let scope = permit.on(OBJECT)?.clone();
        let tenant = scope.tenant();
        let job = self.0.core.db.write(move |tx| {
            Box::pin(async move {
                let before = store::lock(tx, tenant, id).await?.ok_or(Error::NotFound)?;
                let mut choice = Choice {
                    versions: list_in(tx, tenant, id).await?.into(),
                    signed: settings::get_in(tx, tenant).await?.require_signature,
                    consent: None,
                };
                let mut after = before.clone();
                change(&mut after, &mut choice)?;
                if let Some(consent) = choice.consent {
                    tx.execute(consented(tenant, id, consent)).await?;
                }
                store::put(tx, &after).await?;
                let now = scope.clock().now();
                timer::settle(tx, &after, now, Some(&before)).await?;
                if after.status == PluginStatus::Enabled {
                    wait::resume(tx, &after, now).await?;
                }
                audit::<Update>(tx, &scope, action, (Some(&before), Some(&after))).await?;
                Ok(after)
            })
        });
        let plugin = job.await?;
        self.forget(tenant).await;
        self.0.arrived.notify_one();
        self.0.resumed.notify_one();
        Ok(plugin)
    }
}

/// The versions to choose from.
struct Choice {
    versions: Arc<[Version]>,
    /// Whether the tenant insists on signatures.
    signed: bool,
    /// The version that somebody consents to, who, and when.
    consent: Option<Consent>,
}

type Consent = ([u8; 32], Option<UserId>, DateTime<Utc>);

impl Choice {
    /// The version with this hash, if it may run at all.
    fn of(&self, sha256: &str) -> Result<Version> {
        let version = chosen(&self.versions, sha256)?;
        if self.signed && version.signed_by.is_none() {
            return Err(Error::conflict("signature_required", UNSIGNED));
        }
        Ok(version.clone())
    }

    /// As [`of`](Self::of), if the user whose rights it would have consented to all that it asks
    /// for: nobody lends another one's rights.
    fn consented(&self, sha256: &str, installer: Option<UserId>) -> Result<Version> {
        let version = self.of(sha256)?;
        let consented = self.versions.iter();
        let consented = consented
            .filter(|known| known.consented_at.is_some() && known.consented_by == installer);
        let beyond = consented.map(|known| version.manifest.beyond(&known.manifest));
        let beyond = beyond.min_by_key(Vec::len);
        let message = match beyond {
            Some(lines) if lines.is_empty() => return Ok(version),
            Some(lines) => format!(
                "whoever enabled it has not consented that it may {}; look at it, then enable it",
                lines.join("; ")
            ),
            None => {
                "nobody's consent to it holds, which switching it off takes back; look at it, then \
                     enable it"
                    .to_owned()
            }
        };
        Err(Error::conflict("consent_required", message))
    }
}

fn chosen<'v>(versions: &'v [Version], sha256: &str) -> Result<&'v Version> {
    if !matches!(hex::decode(sha256), Ok(hash) if hash.len() == 32) {
        let message = "must be the SHA-256 of a version, as 64 hexadecimal digits";
        return Err(Error::invalid("sha256", "malformed", message));
    }
    let mut versions = versions.iter();
    let chosen = versions.find(|version| hex::encode(version.sha256) == sha256);
    chosen.ok_or_else(|| {
        let message = "there is no such version of this plugin; look at its versions again";
        Error::conflict("unknown_version", message)
    })
}

/// Makes it the version that runs.
fn activate(plugin: &mut Plugin, version: Version) {
    if plugin.sha256 != version.sha256 {
        plugin.previous = Some(plugin.sha256);
        // What another version did is no reason for this one to rest.
        (plugin.crashes, plugin.rests_until) = (0, None);
    }
    plugin.canary = plugin
        .canary
        .filter(|canary| canary.sha256 != version.sha256);
    plugin.sha256 = version.sha256;
    plugin.manifest = version.manifest;
}

impl Plugin {
    /// Whether this is the plugin in the version that only some events go to.
    pub(super) fn is_canary(&self) -> bool {
        self.canary
            .is_some_and(|canary| canary.sha256 == self.sha256)
    }
}

/// A plugin that runs, and the version of it that some events go to.
pub(super) struct Installed {
    pub(super) plugin: Arc<Plugin>,
    canary: Option<(u8, Arc<Plugin>)>,
}

impl Installed {
    /// With what a canary runs as, read where there is one.
    pub(super) async fn new(db: &Db, plugin: Plugin) -> Result<Self> {
        let canary = match plugin.canary {
            None => None,
            Some(canary) => {
                let versions = list(db, plugin.tenant_id, plugin.id).await?;
                let version = versions.into_iter().find(|one| one.sha256 == canary.sha256);
                version.map(|version| {
                    let plugin = Plugin {
                        sha256: version.sha256,
                        manifest: version.manifest,
                        // It never rests: it is ended.
                        crashes: 0,
                        rests_until: None,
                        ..plugin.clone()
                    };
                    (canary.percent, Arc::new(plugin))
                })
            }
        };
        Ok(Self {
            plugin: Arc::new(plugin),
            canary,
        })
    }

    /// The plugin in the version that the event goes to: the same one at every delivery.
    pub(super) fn version_for(&self, event: EventId) -> &Arc<Plugin> {
        match &self.canary {
            Some((percent, canary)) if place(self.plugin.id, event) < *percent => canary,
            _ => &self.plugin,
        }
    }
}

/// Where an event stands among 100 for this plugin.
fn place(plugin: PluginId, event: EventId) -> u8 {
    let digest = Sha256::new()
        .chain_update(plugin.0.as_bytes())
        .chain_update(event.0.as_bytes())
        .finalize();
    let number = u16::from_be_bytes([digest[0], digest[1]]);
    u8::try_from(u32::from(number) * 100 / 65_536).unwrap_or(0)
}

fn select(tenant: TenantId, plugin: PluginId) -> Sql {
    Sql::new(
        "SELECT v.sha256, v.manifest, k.name, v.uploaded_by, v.created_at, v.consented_by, \
         v.consented_at FROM plugin_versions v LEFT JOIN plugin_keys k \
         ON k.tenant_id = v.tenant_id AND k.public_key = v.signed_key \
         WHERE v.tenant_id = $1 AND v.plugin_id = $2 ORDER BY v.created_at DESC, v.sha256",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(plugin, ColumnType::Uuid)
    .returns(COLUMNS)
}

pub(super) async fn list(db: &Db, tenant: TenantId, plugin: PluginId) -> Result<Vec<Version>> {
    let rows = db.fetch_all(select(tenant, plugin)).await?;
    rows.into_iter().map(version).collect()
}

pub(super) async fn list_in(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    plugin: PluginId,
) -> Result<Vec<Version>> {
    let rows = tx.fetch_all(select(tenant, plugin)).await?;
    rows.into_iter().map(version).collect()
}

/// Keeps a new version next to those there are.
pub(super) async fn insert(
    tx: &mut Tx<'_>,
    (tenant, plugin): (TenantId, PluginId),
    version: &Version,
    signed_key: Option<Vec<u8>>,
) -> Result<()> {
    let known = list_in(tx, tenant, plugin).await?;
    if known.len() >= MAX_VERSIONS {
        let message = format!("a plugin has at most {MAX_VERSIONS} versions; delete one first");
        return Err(Error::conflict("too_many_versions", message));
    }
    let manifest = serde_json::to_value(&version.manifest).map_err(Error::internal)?;
    let insert = Sql::new(
        "INSERT INTO plugin_versions (tenant_id, plugin_id, sha256, manifest, signed_key, \
         uploaded_by, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(plugin, ColumnType::Uuid)
    .bind(version.sha256.to_vec(), ColumnType::Bytes)
    .bind(manifest, ColumnType::Json)
    .bind(signed_key, ColumnType::Bytes)
    .bind(&version.uploaded_by, ColumnType::Text)
    .bind(version.created_at, ColumnType::Instant);
    tx.execute(insert).await?;
    Ok(())
}

/// The plugin with a version that is uploaded again, now perhaps with a signature.
pub(super) async fn signed(
    tx: &mut Tx<'_>,
    scope: &Scope,
    plugin: Plugin,
    (mut version, signer): (Version, Option<Signer>),
) -> Result<Uploaded> {
    let new = |signer: &Signer| version.signed_by.as_ref() != Some(&signer.name);
    if let Some(signer) = signer.filter(new) {
        scope.permit::<Update>(OBJECT)?;
        let before = serde_json::to_value(&version).map_err(Error::internal)?;
        version.signed_by = Some(signer.name);
        let update = Sql::new(
            "UPDATE plugin_versions SET signed_key = $1 \
             WHERE tenant_id = $2 AND plugin_id = $3 AND sha256 = $4",
        )
        .bind(signer.public_key, ColumnType::Bytes)
        .bind(plugin.tenant_id, ColumnType::Uuid)
        .bind(plugin.id, ColumnType::Uuid)
        .bind(version.sha256.to_vec(), ColumnType::Bytes);
        tx.execute(update).await?;
        let after = serde_json::to_value(&version).map_err(Error::internal)?;
        let (entity, states) = (Some(plugin.id.to_string()), (Some(before), Some(after)));
        journal::audit_as::<Update>(tx, scope, "plugins.sign", (OBJECT, entity), states).await?;
    }
    Ok(Uploaded { plugin, version })
}

/// The versions of a tenant's plugins that a key signed which it trusts now.
pub(super) async fn trusted(db: &Db, tenant: TenantId) -> Result<HashSet<(PluginId, [u8; 32])>> {
    let signed = Sql::new(
        "SELECT v.plugin_id, v.sha256 FROM plugin_versions v JOIN plugin_keys k \
         ON k.tenant_id = v.tenant_id AND k.public_key = v.signed_key WHERE v.tenant_id = $1",
    )
    .bind(tenant, ColumnType::Uuid)
    .returns(&[ColumnType::Uuid, ColumnType::Bytes]);
    let rows = db.fetch_all(signed).await?.into_iter();
    let rows = rows.map(|mut row| Ok((row.uuid()?, hash(row.bytes()?)?)));
    rows.collect()
}

fn hash(bytes: Vec<u8>) -> Result<[u8; 32]> {
    bytes.try_into().map_err(|_| broken("sha256"))
}

fn broken(column: &'static str) -> Error {
    Error::Inconsistent {
        table: "plugin_versions".into(),
        column: column.into(),
    }
}

fn consented(tenant: TenantId, plugin: PluginId, (sha256, user, now): Consent) -> Sql {
    Sql::new(
        "UPDATE plugin_versions SET consented_by = $1, consented_at = $2 \
         WHERE tenant_id = $3 AND plugin_id = $4 AND sha256 = $5",
    )
    .bind(user, ColumnType::Uuid)
    .bind(now, ColumnType::Instant)
    .bind(tenant, ColumnType::Uuid)
    .bind(plugin, ColumnType::Uuid)
    .bind(sha256.to_vec(), ColumnType::Bytes)
}

/// Takes back what was consented to.
pub(super) fn withdrawn(tenant: TenantId, plugin: PluginId) -> Sql {
    Sql::new(
        "UPDATE plugin_versions SET consented_by = NULL, consented_at = NULL \
         WHERE tenant_id = $1 AND plugin_id = $2",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(plugin, ColumnType::Uuid)
}

fn version(mut row: Row) -> Result<Version> {
    Ok(Version {
        sha256: hash(row.bytes()?)?,
        manifest: serde_json::from_value(row.json()?).map_err(|_| broken("manifest"))?,
        signed_by: row.opt_text()?,
        uploaded_by: row.text()?,
        created_at: row.instant()?,
        consented_by: row.opt_uuid()?,
        consented_at: row.opt_instant()?,
    })
}
