//! `crm migrate`

use clap::Subcommand;
use crm_core::clock::Clock;
use crm_core::{DataLoss, DatabaseOptions, Registry, Schema};

use crate::Outcome;
use crate::settings::Settings;
use crate::stdout::say;

/// Look after the tables: the library's own and those of the modules
///
/// The server applies what is pending when it starts; these commands are for looking first.
#[derive(Subcommand)]
pub(crate) enum Migrate {
    /// Print what `up` would do, and do nothing
    Plan,
    /// Apply the pending migrations, and make or widen the modules' tables
    Up,
    /// Revert the newest migration: its tables go, with all they hold
    ///
    /// The first migration takes the modules' tables with it, and so everything.
    Down {
        /// Consent to losing what the tables hold; without it nothing is done once there is a tenant
        #[arg(long)]
        destroy_data: bool,
    },
    /// List the migrations and when each was applied
    Status,
}

impl Migrate {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let registry = Registry::new(settings.specs()?)?;
        let options = DatabaseOptions::default();
        let schema = Schema::open(&settings.database, &options, Clock::system()).await?;
        match self {
            Self::Plan => plan(&schema, &registry).await?,
            Self::Up => up(&schema, &registry).await?,
            Self::Down { destroy_data } => {
                let consent = if destroy_data {
                    DataLoss::Accepted
                } else {
                    DataLoss::Refused
                };
                match schema.revert(consent).await? {
                    Some(migration) => say!("reverted {}", migration.name),
                    None => say!("nothing to revert"),
                }
            }
            Self::Status => {
                for migration in schema.status().await? {
                    match migration.applied_at {
                        Some(at) => say!("{} applied {at}", migration.name),
                        None => say!("{} pending", migration.name),
                    }
                }
            }
        }
        schema.close().await;
        Ok(())
    }
}

async fn plan(schema: &Schema, registry: &Registry) -> Outcome {
    let pending = schema
        .status()
        .await?
        .into_iter()
        .filter(|migration| migration.applied_at.is_none());
    let pending: Vec<_> = pending.collect();
    for migration in &pending {
        say!("apply {}", migration.name);
    }
    let steps = schema.plan(registry).await?;
    for step in &steps {
        say!(
            "{}{}",
            if step.destructive {
                "DESTROYS DATA: "
            } else {
                ""
            },
            step.summary
        );
    }
    if pending.is_empty() && steps.is_empty() {
        say!("nothing to do");
    }
    Ok(())
}

async fn up(schema: &Schema, registry: &Registry) -> Outcome {
    let migrations = schema.migrate().await?;
    for migration in &migrations {
        say!("applied {}", migration.name);
    }
    let steps = schema.apply(registry).await?;
    for step in &steps {
        say!("{}", step.summary);
    }
    if migrations.is_empty() && steps.is_empty() {
        say!("nothing to do");
    }
    Ok(())
}
