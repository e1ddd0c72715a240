//! `crm plugin install`

use std::path::PathBuf;

use clap::Args;
use crm_core::{Create, Update};

use super::check::print;
use crate::Outcome;
use crate::settings::{Settings, request, tenant};

/// Install a component in a tenant and enable it
///
/// Installing is consenting: the plugin gets the rights that it asks for. Installing a newer
/// version replaces the one of the same name.
#[derive(Args)]
#[command(after_long_help = "Example:\n  crm plugin install lead-scoring.wasm --tenant acme")]
pub(crate) struct Install {
    /// The component
    file: PathBuf,

    /// The tenant's name
    #[arg(long)]
    tenant: String,
}

impl Install {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let component = super::read(&self.file)?;
        let (crm, plugins) = super::open(&settings).await?;
        let tenant = tenant(&crm, &self.tenant).await?;
        let scope = crm.operator(tenant, request(&crm));
        let plugin = plugins
            .upload(&scope.permit::<Create>("plugins")?, component)
            .await?;
        let permit = scope.permit::<Update>("plugins")?;
        let plugin = plugins.enable(&permit, plugin.id, None).await?;
        print(&plugin.manifest);
        println!("  enabled in {} as {}", self.tenant, plugin.id);
        crm.close().await;
        Ok(())
    }
}
