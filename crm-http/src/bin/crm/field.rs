//! `crm field`

use clap::{Args, Subcommand};
use crm_core::count::told;
use crm_core::custom::CustomField;
use crm_core::module::FieldSpec;
use crm_core::{Delete, Read, Update};

use crate::Outcome;
use crate::settings::{Settings, request, tenant};
use crate::stdout::say;

/// Look after the fields that a tenant adds to the modules
#[derive(Subcommand)]
pub(crate) enum Field {
    /// List the custom fields of a module, removed ones too
    List(Of),
    /// Add a field
    #[command(after_long_help = "\
Example:
  crm field add --tenant acme contacts '{\"name\": \"plan\", \"type\": \"text\", \"sort\": true}'")]
    Add {
        #[command(flatten)]
        of: Of,
        /// The declaration in JSON
        declaration: String,
    },
    /// Take a field out of use; its values stay until they are purged
    Remove {
        #[command(flatten)]
        of: Of,
        /// The field's name
        name: String,
    },
    /// Remove the values of a removed field for good
    Purge {
        #[command(flatten)]
        of: Of,
        /// The field's name
        name: String,
    },
}

/// Of which module, in which tenant.
#[derive(Args)]
pub(crate) struct Of {
    /// The tenant, by its name
    #[arg(long)]
    tenant: String,
    /// The module
    module: String,
}

impl Field {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let crm = settings.open().await?;
        let (Self::List(of)
        | Self::Add { of, .. }
        | Self::Remove { of, .. }
        | Self::Purge { of, .. }) = &self;
        let tenant = tenant(&crm, &of.tenant).await?;
        let scope = crm.operator_in(tenant, request(&crm)).await?;
        let (fields, module) = (crm.custom_fields(), of.module.as_str());
        match &self {
            Self::List(_) => {
                let permit = scope.permit::<Read>("modules")?;
                for field in fields.list(&permit, module).await? {
                    say!("{}", line(&field)?);
                }
            }
            Self::Add { declaration, .. } => {
                let spec = FieldSpec::of_tenant(serde_json::from_str(declaration)?)?;
                let permit = scope.permit::<Update>("modules")?;
                let field = fields.declare(&permit, module, spec).await?;
                say!("{}", line(&field)?);
            }
            Self::Remove { name, .. } => {
                let permit = scope.permit::<Update>("modules")?;
                fields.remove(&permit, module, name).await?;
            }
            Self::Purge { name, .. } => {
                let permit = scope.permit::<Delete>("modules")?;
                let purged = fields.purge(&permit, module, name).await?;
                say!("{} had a value", told(purged, "record", "records"));
            }
        }
        crm.close().await;
        Ok(())
    }
}

fn line(field: &CustomField) -> Result<String, serde_json::Error> {
    let state = match (field.removed_at, field.indexed) {
        (Some(at), _) => format!(" removed {at}"),
        (None, true) => " indexed".to_owned(),
        (None, false) => String::new(),
    };
    Ok(format!("{}{state}", serde_json::to_string(&field.spec)?))
}
