//! `crm migrate`

use clap::Subcommand;
use crm_core::clock::Clock;
use crm_core::count::told;
use crm_core::{DataLoss, DatabaseOptions, Hidden, Registry, Schema, Step};

use crate::Outcome;
use crate::settings::Settings;
use crate::stdout::say;

/// Look after the tables: the library's own and those of the modules
///
/// The server applies what is pending when it starts, and no other command does; these are for looking
/// first.
#[derive(Subcommand)]
pub(crate) enum Migrate {
    /// Print what `up` would do, and do nothing
    ///
    /// Fails when `up` would, and says how many records are in the way of what.
    Plan,
    /// Apply the pending migrations, and make or widen the modules' tables
    Up {
        /// Consent to losing what dropped fields hold; without it nothing is done in that case
        #[arg(long)]
        destroy_data: bool,
    },
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
        let (url, clock) = (&settings.database, Clock::system());
        let schema = match self {
            Self::Up { .. } => {
                if !Schema::exists(url)? {
                    // The key of a new database is made before it.
                    settings.secret()?;
                }
                Schema::open(url, &options, clock).await?
            }
            _ => Schema::open_present(url, &options, clock).await?,
        };
        match self {
            Self::Plan => plan(&schema, &registry).await?,
            Self::Up { destroy_data } => up(&schema, &registry, consent(destroy_data)).await?,
            Self::Down { destroy_data } => match schema.revert(consent(destroy_data)).await? {
                Some(migration) => say!("reverted {}", migration.name),
                None => say!("nothing to revert"),
            },
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
        say!("{}", line(step));
    }
    let review = schema.review(registry).await?;
    for hidden in &review.hidden {
        say!("{}", hides(hidden));
    }
    for refusal in &review.refusals {
        say!("IN THE WAY: {}", refusal.message);
    }
    if !review.refusals.is_empty() {
        return Err("`crm migrate up` would refuse this and change no table".into());
    }
    if pending.is_empty() && steps.is_empty() {
        say!("nothing to do");
    }
    Ok(())
}

/// What of tenants' own is hidden, and whose it is.
fn hides(
    Hidden {
        module,
        field,
        tenants,
        ..
    }: &Hidden,
) -> String {
    let what = match field {
        Some(field) => format!("own field {field} of {module}"),
        None => format!("own module {module}"),
    };
    format!(
        "HIDES the {what} of tenants, whose values stay and are not shown: {}",
        tenants.join(", ")
    )
}

/// What a step does, and to how many records.
fn line(step: &Step) -> String {
    let summary = &step.summary;
    match (step.destructive, step.records) {
        (false, _) => summary.clone(),
        (true, None) => format!("DESTROYS DATA: {summary}"),
        (true, Some(records)) => {
            let records = told(records, "record", "records");
            format!("DESTROYS DATA of {records}: {summary}")
        }
    }
}

pub(crate) fn consent(destroy_data: bool) -> DataLoss {
    match destroy_data {
        true => DataLoss::Accepted,
        false => DataLoss::Refused,
    }
}

async fn up(schema: &Schema, registry: &Registry, loss: DataLoss) -> Outcome {
    let migrations = schema.migrate().await?;
    for migration in &migrations {
        say!("applied {}", migration.name);
    }
    let steps = schema.apply_with(registry, loss).await?;
    for step in &steps {
        say!("{}", line(step));
    }
    if migrations.is_empty() && steps.is_empty() {
        say!("nothing to do");
    }
    Ok(())
}
