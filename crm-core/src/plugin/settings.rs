//! What a tenant settles for all its plugins.

use serde::Serialize;

use super::{OBJECT, Plugins};
use crate::db::{ColumnType, Db, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::journal;
use crate::scope::{Permit, Read, Update};

/// What a tenant settles for all its plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct PluginSettings {
    /// Whether versions run only that a key signed which the tenant trusts, also then.
    pub require_signature: bool,
    /// The fuel that all plugins together use on one day, in UTC; without it as much as the
    /// operator allows.
    pub daily_fuel: Option<i64>,
}

const COLUMNS: &[ColumnType] = &[ColumnType::Bool, ColumnType::Int];

impl Plugins {
    /// What the tenant settled.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn settings(&self, permit: &Permit<Read>) -> Result<PluginSettings> {
        get(&self.0.core.db, permit.on(OBJECT)?.tenant()).await
    }

    /// Settles it anew.
    ///
    /// # Errors
    /// [`Error::Invalid`] for less than no fuel, and more than the operator allows.
    pub async fn settle(
        &self,
        permit: &Permit<Update>,
        settings: PluginSettings,
    ) -> Result<PluginSettings> {
        let scope = permit.on(OBJECT)?.clone();
        if settings.daily_fuel.is_some_and(|fuel| fuel < 0) {
            return Err(Error::invalid(
                "daily_fuel",
                "out_of_range",
                "must be 0 or more",
            ));
        }
        let most = self.0.limits.daily_fuel;
        if let (Some(most), Some(fuel)) = (most, settings.daily_fuel)
            && fuel > most
        {
            let message = format!("must be at most {most}, which the operator allows");
            return Err(Error::invalid("daily_fuel", "out_of_range", message));
        }
        let job = self.0.core.db.write(move |tx| {
            Box::pin(async move {
                let tenant = scope.tenant();
                let before = get_in(tx, tenant).await?;
                let put = Sql::new(
                    "INSERT INTO plugin_settings (tenant_id, require_signature, daily_fuel) \
                     VALUES ($1, $2, $3) ON CONFLICT (tenant_id) DO UPDATE SET \
                     require_signature = excluded.require_signature, \
                     daily_fuel = excluded.daily_fuel",
                )
                .bind(tenant, ColumnType::Uuid)
                .bind(settings.require_signature, ColumnType::Bool)
                .bind(settings.daily_fuel, ColumnType::Int);
                tx.execute(put).await?;
                let json = |settings| serde_json::to_value(settings).map_err(Error::internal);
                let (before, after) = (Some(json(before)?), Some(json(settings)?));
                let entity = ("plugin_settings", None);
                journal::audit(tx, &scope, "plugins.settle", entity, before, after).await?;
                Ok(settings)
            })
        });
        let settings = job.await?;
        self.forget(permit.tenant()).await;
        Ok(settings)
    }
}

fn select(tenant: TenantId) -> Sql {
    Sql::new("SELECT require_signature, daily_fuel FROM plugin_settings WHERE tenant_id = $1")
        .bind(tenant, ColumnType::Uuid)
        .returns(COLUMNS)
}

pub(super) async fn get(db: &Db, tenant: TenantId) -> Result<PluginSettings> {
    read(db.fetch_optional(select(tenant).point_read()).await?)
}

pub(super) async fn get_in(tx: &mut Tx<'_>, tenant: TenantId) -> Result<PluginSettings> {
    read(tx.fetch_optional(select(tenant)).await?)
}

fn read(row: Option<Row>) -> Result<PluginSettings> {
    let Some(mut row) = row else {
        return Ok(PluginSettings::default());
    };
    Ok(PluginSettings {
        require_signature: row.bool()?,
        daily_fuel: row.opt_int()?,
    })
}
