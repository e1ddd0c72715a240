//! `crm plugin list`

use clap::Args;
use crm_core::Read;

use crate::Outcome;
use crate::settings::{Settings, request, tenant};
use crate::stdout::say;

/// List the plugins of one tenant, or of all
#[derive(Args)]
pub(crate) struct List {
    /// The tenant's name; when left out, all tenants
    #[arg(long)]
    tenant: Option<String>,
}

impl List {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let (crm, plugins) = super::open(&settings).await?;
        let only = match &self.tenant {
            Some(name) => Some(tenant(&crm, name).await?),
            None => None,
        };
        for tenant in crm.tenants().list().await? {
            if only.is_some_and(|only| only != tenant.id) {
                continue;
            }
            let permit = crm
                .operator(tenant.id, request(&crm))
                .permit::<Read>("plugins")?;
            for plugin in plugins.list(&permit).await? {
                let manifest = &plugin.manifest;
                let status = plugin.status.as_str();
                say!(
                    "{} {} {} {} {status}",
                    tenant.name,
                    plugin.id,
                    manifest.name,
                    manifest.version
                );
            }
        }
        crm.close().await;
        Ok(())
    }
}
