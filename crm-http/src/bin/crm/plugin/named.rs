//! A plugin as commands name it: by its name, in a tenant.

use clap::Args;
use crm_core::plugin::{Plugin, Plugins};
use crm_core::{Crm, Read, Scope};

use crate::Outcome;
use crate::settings::{Settings, request, tenant};

#[derive(Args)]
pub(super) struct Named {
    /// The plugin's name
    plugin: String,

    /// The tenant's name
    #[arg(long)]
    tenant: String,
}

/// A plugin, and what it takes to look after it as an operator.
pub(super) struct Found {
    pub(super) crm: Crm,
    pub(super) plugins: Plugins,
    pub(super) scope: Scope,
    pub(super) plugin: Plugin,
}

impl Named {
    /// # Errors
    /// Those of [`find`].
    pub(super) async fn find(&self, settings: &Settings) -> Outcome<Found> {
        find(settings, &self.tenant, &self.plugin).await
    }
}

/// Opens the database, and finds the plugin in it.
///
/// # Errors
/// Those of opening; when there is no such tenant or plugin.
pub(super) async fn find(settings: &Settings, tenant_name: &str, name: &str) -> Outcome<Found> {
    let (crm, plugins) = super::open(settings).await?;
    let tenant = tenant(&crm, tenant_name).await?;
    let scope = crm.operator_in(tenant, request(&crm)).await?;
    let listed = plugins.list(&scope.permit::<Read>("plugins")?).await?;
    let mut listed = listed.into_iter();
    let plugin = listed.find(|one| one.manifest.name.as_str() == name);
    let plugin = plugin.ok_or_else(|| {
        format!(
            "there is no plugin {name:?}; list them with: crm plugin list --tenant {tenant_name}"
        )
    })?;
    Ok(Found {
        crm,
        plugins,
        scope,
        plugin,
    })
}
