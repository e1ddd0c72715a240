//! `crm tenant`

use clap::Subcommand;

use crate::Outcome;
use crate::settings::{Settings, request};
use crate::stdout::say;

/// Make and list tenants
#[derive(Subcommand)]
pub(crate) enum Tenant {
    /// Make a tenant with the built-in roles admin, manager, member and viewer
    #[command(after_long_help = "Example:\n  crm tenant create acme")]
    Create {
        /// The tenant's name, unique in this installation
        name: String,
    },
    /// List the tenants
    List,
}

impl Tenant {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let crm = settings.open().await?;
        match self {
            Self::Create { name } => {
                let tenant = crm.tenants().create(&name, request(&crm)).await?;
                say!("{} {}", tenant.id, tenant.name);
            }
            Self::List => {
                for tenant in crm.tenants().list().await? {
                    let state = if tenant.is_active {
                        "active"
                    } else {
                        "suspended"
                    };
                    say!("{} {} {state}", tenant.id, tenant.name);
                }
            }
        }
        crm.close().await;
        Ok(())
    }
}
