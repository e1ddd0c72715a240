//! `crm plugin runs` and `crm plugin follow`

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use crm_core::Read;
use crm_core::hook::Outcome as Ended;
use crm_core::id::{RecordId, RunId};
use crm_core::plugin::{self, Plugins, RunQuery};
use uuid::Uuid;

use super::named::{Found, Named};
use crate::Outcome;
use crate::audit::moment;
use crate::settings::Settings;
use crate::stdout::{plain, say};

/// How long to wait for a run before asking once more.
const WAIT: Duration = Duration::from_secs(25);

/// List the last runs of a plugin, the newest first
///
/// Each with its id, when it began, what woke it, how it ended, the fuel it used, what went wrong, and
/// the lines that it logged.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  crm plugin runs lead_scoring --tenant acme
  crm plugin runs lead_scoring --tenant acme --outcome failed --since 2026-01-31")]
pub(crate) struct Runs {
    #[command(flatten)]
    named: Named,

    /// How many runs, 1 to 100
    #[arg(long, default_value_t = 20, value_name = "NUMBER")]
    last: u32,

    /// Only runs before this one, by its id
    #[arg(long, value_name = "RUN")]
    before: Option<Uuid>,

    /// Only runs that ended so, such as failed or out_of_fuel
    #[arg(long, value_parser = outcome)]
    outcome: Option<Ended>,

    /// Only runs of this trigger, such as contact.created
    #[arg(long)]
    trigger: Option<String>,

    /// Only runs that ended on this day, or at this instant, or later
    #[arg(long, value_parser = moment, value_name = "TIME")]
    since: Option<DateTime<Utc>>,

    /// Only runs about records of this module, such as contacts
    #[arg(long)]
    module: Option<String>,

    /// Only runs about this record
    #[arg(long, value_name = "ID")]
    record: Option<Uuid>,
}

/// Print the runs of a plugin as they end, until interrupted
#[derive(Args)]
#[command(after_long_help = "Example:\n  crm plugin follow lead_scoring --tenant acme")]
pub(crate) struct Follow {
    #[command(flatten)]
    named: Named,

    /// First those that ended behind this one, by its id; when left out, runs from now on
    #[arg(long, value_name = "RUN")]
    after: Option<Uuid>,
}

fn outcome(text: &str) -> Result<Ended, String> {
    Ended::parse(text).ok_or_else(|| {
        let names = Ended::ALL.map(Ended::as_str).join(", ");
        format!("a run ends as one of {names}")
    })
}

impl Runs {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let Found {
            crm,
            plugins,
            scope,
            plugin,
        } = self.named.find(&settings).await?;
        let query = RunQuery {
            before: self.before.map(RunId),
            limit: self.last,
            outcome: self.outcome,
            trigger: self.trigger,
            since: self.since,
            module: self.module,
            record_id: self.record.map(RecordId),
        };
        let permit = scope.permit::<Read>("plugins")?;
        for run in plugins.runs(&permit, plugin.id, &query).await?.data {
            print(&run)?;
        }
        crm.close().await;
        Ok(())
    }
}

impl Follow {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let Found {
            crm: _crm,
            plugins,
            scope,
            plugin,
        } = self.named.find(&settings).await?;
        let permit = scope.permit::<Read>("plugins")?;
        let newest = RunQuery {
            limit: 1,
            ..RunQuery::default()
        };
        let mut after = match self.after {
            Some(after) => RunId(after),
            None => {
                let newest = plugins.runs(&permit, plugin.id, &newest).await?.data;
                newest.first().map_or(RunId(Uuid::nil()), |run| run.id)
            }
        };
        loop {
            let bounds = (Plugins::MAX_RUNS, WAIT);
            let runs = plugins.follow(&permit, plugin.id, Some(after), bounds);
            for run in runs.await? {
                print(&run)?;
                after = run.id;
            }
        }
    }
}

fn print(run: &plugin::Run) -> Outcome {
    let at = run.started_at.format("%FT%TZ");
    let error = match &run.error {
        Some(error) => format!(": {}", plain(error)),
        None => String::new(),
    };
    let (trigger, outcome, fuel) = (&run.trigger, run.outcome, run.fuel);
    say!(
        "{} {at} {trigger} {outcome} with {fuel} fuel{error}",
        run.id
    );
    for line in &run.logs {
        say!("  log   {:?}: {}", line.level, plain(&line.message));
    }
    Ok(())
}
