//! `crm migrate`

use clap::Subcommand;
use crm_core::clock::Clock;
use crm_core::{DatabaseOptions, Registry, Schema};

use crate::Outcome;
use crate::settings::Settings;

/// Look after the tables: the library's own and those of the modules
///
/// The server applies what is pending when it starts; these commands are for looking first.
#[derive(Subcommand)]
pub(crate) enum Migrate {
    /// Print what `up` would do, and do nothing
    Plan,
    /// Apply the pending migrations, and make or widen the modules' tables
    Up,
    /// Revert the newest migration
    Down,
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
            Self::Down => match schema.revert().await? {
                Some(migration) => println!("reverted {}", migration.name),
                None => println!("nothing to revert"),
            },
            Self::Status => {
                for migration in schema.status().await? {
                    match migration.applied_at {
                        Some(at) => println!("{} applied {at}", migration.name),
                        None => println!("{} pending", migration.name),
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
        println!("apply {}", migration.name);
    }
    let steps = schema.plan(registry).await?;
    for step in &steps {
        println!(
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
        println!("nothing to do");
    }
    Ok(())
}

async fn up(schema: &Schema, registry: &Registry) -> Outcome {
    let migrations = schema.migrate().await?;
    for migration in &migrations {
        println!("applied {}", migration.name);
    }
    let steps = schema.apply(registry).await?;
    for step in &steps {
        println!("{}", step.summary);
    }
    if migrations.is_empty() && steps.is_empty() {
        println!("nothing to do");
    }
    Ok(())
}
