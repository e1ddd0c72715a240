//! `crm plugin install`

use std::path::PathBuf;

use clap::Args;
use crm_core::{Create, Update};

use super::check::print;
use crate::Outcome;
use crate::settings::{Settings, request, tenant};
use crate::stdout::say;

/// Install a component in a tenant and enable it
///
/// Installing is consenting: the plugin gets the rights that it asks for. A newer version runs in
/// place of the one of the same name, which stays to be rolled back to.
#[derive(Args)]
#[command(after_long_help = "Example:\n  crm plugin install lead-scoring.wasm --tenant acme")]
pub(crate) struct Install {
    /// The component
    file: PathBuf,

    /// The tenant's name
    #[arg(long)]
    tenant: String,

    /// The Ed25519 signature of the component by a key that the tenant trusts, in Base64
    #[arg(long, value_name = "BASE64")]
    signature: Option<String>,
}

impl Install {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let component = super::read(&self.file)?;
        let (crm, plugins) = super::open(&settings).await?;
        let tenant = tenant(&crm, &self.tenant).await?;
        let scope = crm.operator_in(tenant, request(&crm)).await?;
        let create = scope.permit::<Create>("plugins")?;
        let uploaded = plugins.upload(&create, component, self.signature.as_deref());
        let uploaded = uploaded.await?;
        let sha256 = hex::encode(uploaded.version.sha256);
        let permit = scope.permit::<Update>("plugins")?;
        let enabled = plugins.enable(&permit, uploaded.plugin.id, &sha256);
        let plugin = enabled.await?;
        print(&plugin.manifest)?;
        say!("  consented to {sha256}");
        say!("  enabled in {} as {}", self.tenant, plugin.id);
        crm.close().await;
        Ok(())
    }
}
