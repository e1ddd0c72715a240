//! `crm plugin rehearse`

use std::path::PathBuf;

use clap::Args;
use crm_core::Create;
use crm_core::count::told;
use crm_core::plugin::{RehearsedChange, RehearsedRun};
use serde_json::Value as Json;

use crate::Outcome;
use crate::settings::{Settings, request, tenant};
use crate::stdout::{plain, say};

/// Run a component over a tenant's last events, and print what would be different
///
/// A plugin that judges changes is asked about those of the past. Times, messages and actions are not
/// rehearsed, and named.
///
/// Nothing of it stays: its writes are taken back, and it sends nothing. It has the rights that it asks
/// for.
#[derive(Args)]
#[command(
    after_long_help = "Example:\n  crm plugin rehearse lead-scoring.wasm --tenant acme --last 1000"
)]
pub(crate) struct Rehearse {
    /// The component
    file: PathBuf,

    /// The tenant's name
    #[arg(long)]
    tenant: String,

    /// How many events, 1 to 1,000
    #[arg(long, default_value_t = 100)]
    last: u32,
}

impl Rehearse {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let component = super::read(&self.file)?;
        let (crm, plugins) = super::open(&settings).await?;
        let tenant = tenant(&crm, &self.tenant).await?;
        let scope = crm.operator_in(tenant, request(&crm)).await?;
        let permit = scope.permit::<Create>("plugins")?;
        let rehearsal = plugins.rehearse(&permit, component, self.last).await?;
        for run in &rehearsal.runs {
            print(run)?;
        }
        let changes = rehearsal.runs.iter().map(|run| run.changes.len());
        say!(
            "{}, {}, {}",
            told(rehearsal.events, "event", "events"),
            told(rehearsal.runs.len(), "run", "runs"),
            told(changes.sum::<usize>(), "change", "changes")
        );
        for trigger in &rehearsal.not_rehearsed {
            say!("not rehearsed: {trigger}");
        }
        if rehearsal.cut_off {
            say!("ended before the last event; rehearse fewer of them");
        }
        crm.close().await;
        Ok(())
    }
}

fn print(run: &RehearsedRun) -> Outcome {
    let error = plain(run.error.as_deref().unwrap_or_default());
    say!("{} {}: {} {error}", run.trigger, run.record_id, run.outcome);
    if let Some(verdict) = run.verdict {
        let reason = plain(run.reason.as_deref().unwrap_or_default());
        say!("  {} {reason}", verdict.as_str());
    }
    for line in &run.logs {
        say!("  log   {:?}: {}", line.level, plain(&line.message));
    }
    for change in &run.changes {
        say!("  {} {}/{}", change.kind, change.module, change.record_id);
        for line in difference(change) {
            say!("    {}", plain(&line));
        }
    }
    for line in &run.withheld {
        say!("  withheld: {}", plain(line));
    }
    Ok(())
}

/// A line for each field that would have another value.
fn difference(change: &RehearsedChange) -> Vec<String> {
    let (before, after) = (state(&change.before), state(&change.after));
    let names = before.keys().chain(after.keys());
    let mut names: Vec<_> = names.filter(|name| *name != "updated_at").collect();
    names.sort_unstable();
    names.dedup();
    let of = |state: &serde_json::Map<String, Json>, name: &str| {
        state.get(name).cloned().unwrap_or_default()
    };
    let lines = names.into_iter().filter_map(|name| {
        let (was, is) = (of(&before, name), of(&after, name));
        (was != is).then(|| format!("{name}: {was} -> {is}"))
    });
    lines.collect()
}

fn state(json: &Option<Json>) -> serde_json::Map<String, Json> {
    match json {
        Some(Json::Object(state)) => state.clone(),
        _ => serde_json::Map::new(),
    }
}
