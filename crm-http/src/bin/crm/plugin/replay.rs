//! `crm plugin replay`

use clap::Args;
use crm_core::Update;
use crm_core::id::RunId;
use uuid::Uuid;

use super::named::{Found, find};
use crate::Outcome;
use crate::settings::Settings;
use crate::stdout::{plain, say};

/// Play a run of a plugin again, and compare it with what is kept
///
/// The same component, input, clock and randomness, and the answers of then: nothing is written. Fails
/// where the replay goes another way.
#[derive(Args)]
#[command(
    after_long_help = "Example:\n  crm plugin replay 01890a5d-ac96-774b-bcce-b302099a8057 --plugin lead_scoring --tenant acme"
)]
pub(crate) struct Replay {
    /// The id of the run, as `crm plugin runs` prints it
    run: Uuid,

    /// The plugin's name
    #[arg(long)]
    plugin: String,

    /// The tenant's name
    #[arg(long)]
    tenant: String,
}

impl Replay {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let Found {
            crm,
            plugins,
            scope,
            plugin,
        } = find(&settings, &self.tenant, &self.plugin).await?;
        let permit = scope.permit::<Update>("plugins")?;
        let replay = plugins.replay(&permit, plugin.id, RunId(self.run)).await?;
        for line in &replay.logs {
            say!("log   {:?}: {}", line.level, plain(&line.message));
        }
        say!("{} with {} fuel", replay.outcome, replay.fuel);
        crm.close().await;
        match (replay.identical, replay.divergence) {
            (true, _) => {
                say!("identical to what is kept of the run");
                Ok(())
            }
            (false, Some(divergence)) => {
                let shown = |call: Option<serde_json::Value>| {
                    call.map_or_else(|| "nothing".to_owned(), |call| call.to_string())
                };
                Err(format!(
                    "call {} differs: the run asked {}, the replay {}",
                    divergence.at,
                    shown(divergence.recorded),
                    shown(divergence.replayed)
                )
                .into())
            }
            (false, None) => {
                let why = replay.error.map(|error| format!(": {}", plain(&error)));
                let why = why.unwrap_or_default();
                Err(format!("it ended, logged or used other than its run{why}").into())
            }
        }
    }
}
