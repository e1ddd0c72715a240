//! `crm plugin versions`, and which of them runs: `enable`, `activate`, `canary`, `rollback` and
//! `disable`

use clap::Args;
use crm_core::plugin::{Plugin, Version};
use crm_core::{Read, Update};

use super::check::print;
use super::named::{Found, Named};
use crate::Outcome;
use crate::settings::Settings;
use crate::stdout::say;

/// List the versions of a plugin, the newest first, with everything that each asks for
///
/// Each by the SHA-256 of its component, which enable and activate take.
#[derive(Args)]
#[command(after_long_help = "Example:\n  crm plugin versions lead_scoring --tenant acme")]
pub(crate) struct Versions {
    #[command(flatten)]
    named: Named,
}

/// Consent to what a version of a plugin asks for, and let it run
///
/// Also what switches a plugin on again that was disabled or parked.
#[derive(Args)]
#[command(
    after_long_help = "Example:\n  crm plugin enable lead_scoring --tenant acme --sha256 HASH"
)]
pub(crate) struct Enable {
    #[command(flatten)]
    named: Named,

    /// The version that the consent is meant for, as `crm plugin versions` prints it
    #[arg(long, value_name = "HASH")]
    sha256: String,
}

/// Let another version of a plugin run that asks for nothing beyond what was consented to
#[derive(Args)]
#[command(
    after_long_help = "Example:\n  crm plugin activate lead_scoring --tenant acme --sha256 HASH"
)]
pub(crate) struct Activate {
    #[command(flatten)]
    named: Named,

    /// The version, as `crm plugin versions` prints it
    #[arg(long, value_name = "HASH")]
    sha256: String,
}

/// Send some of 100 events to another version of a plugin instead of the active one
///
/// One that asks for nothing beyond what was consented to. An event always goes to the same one.
#[derive(Args)]
#[command(
    after_long_help = "Example:\n  crm plugin canary lead_scoring --tenant acme --sha256 HASH --percent 10"
)]
pub(crate) struct Canary {
    #[command(flatten)]
    named: Named,

    /// The version, as `crm plugin versions` prints it
    #[arg(long, value_name = "HASH")]
    sha256: String,

    /// Of 100 events, how many go to it; 0 ends the trial
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..=100))]
    percent: u8,
}

/// Let the version of a plugin run again that ran before this one
#[derive(Args)]
#[command(after_long_help = "Example:\n  crm plugin rollback lead_scoring --tenant acme")]
pub(crate) struct Rollback {
    #[command(flatten)]
    named: Named,
}

/// Stop a plugin, runs under way too, and take back what was consented to
#[derive(Args)]
#[command(after_long_help = "Example:\n  crm plugin disable lead_scoring --tenant acme")]
pub(crate) struct Disable {
    #[command(flatten)]
    named: Named,
}

impl Versions {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let found = self.named.find(&settings).await?;
        let permit = found.scope.permit::<Read>("plugins")?;
        for version in found.plugins.versions(&permit, found.plugin.id).await? {
            say!("{}", line(&version, &found.plugin));
            for line in version.manifest.receipt() {
                say!("  may {line}");
            }
        }
        found.crm.close().await;
        Ok(())
    }
}

impl Enable {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let found = self.named.find(&settings).await?;
        let permit = found.scope.permit::<Update>("plugins")?;
        let enabled = found
            .plugins
            .enable(&permit, found.plugin.id, &self.sha256)
            .await?;
        print(&enabled.manifest)?;
        say!("  consented to {}", hex::encode(enabled.sha256));
        told(found, &enabled).await
    }
}

impl Activate {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let found = self.named.find(&settings).await?;
        let permit = found.scope.permit::<Update>("plugins")?;
        let active = found
            .plugins
            .activate(&permit, found.plugin.id, &self.sha256)
            .await?;
        told(found, &active).await
    }
}

impl Canary {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let found = self.named.find(&settings).await?;
        let permit = found.scope.permit::<Update>("plugins")?;
        let tried = found
            .plugins
            .canary(&permit, found.plugin.id, &self.sha256, self.percent)
            .await?;
        let permit = found.scope.permit::<Read>("plugins")?;
        for version in found.plugins.versions(&permit, tried.id).await? {
            say!("{}", line(&version, &tried));
        }
        found.crm.close().await;
        Ok(())
    }
}

impl Rollback {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let found = self.named.find(&settings).await?;
        let permit = found.scope.permit::<Update>("plugins")?;
        let active = found.plugins.roll_back(&permit, found.plugin.id).await?;
        told(found, &active).await
    }
}

impl Disable {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let found = self.named.find(&settings).await?;
        let permit = found.scope.permit::<Update>("plugins")?;
        let disabled = found.plugins.disable(&permit, found.plugin.id).await?;
        told(found, &disabled).await
    }
}

/// Says what the plugin is now, and closes the database.
async fn told(found: Found, plugin: &Plugin) -> Outcome {
    let manifest = &plugin.manifest;
    let status = plugin.status.as_str();
    say!("{} {} {status}", manifest.name, manifest.version);
    found.crm.close().await;
    Ok(())
}

/// The version, when it was uploaded, and what it is to the plugin.
fn line(version: &Version, plugin: &Plugin) -> String {
    let at = version.created_at.format("%FT%TZ");
    let mut line = format!(
        "{} {} uploaded {at}",
        hex::encode(version.sha256),
        version.manifest.version
    );
    let canary = plugin
        .canary
        .filter(|canary| canary.sha256 == version.sha256);
    if let Some(canary) = canary {
        line.push_str(&format!(", tried on {} of 100 events", canary.percent));
    }
    if version.sha256 == plugin.sha256 {
        line.push_str(&format!(", {}", plugin.status.as_str()));
    }
    if version.consented_at.is_some() {
        line.push_str(", consented to");
    }
    if let Some(key) = &version.signed_by {
        line.push_str(&format!(", signed by {key}"));
    }
    line
}
