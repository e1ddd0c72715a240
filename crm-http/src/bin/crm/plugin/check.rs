//! `crm plugin check`

use std::path::PathBuf;

use clap::Args;
use crm_core::plugin::Manifest;

use crate::Outcome;
use crate::stdout::say;

/// Judge a component without running it, and print what it asks for
#[derive(Args)]
#[command(after_long_help = "Example:\n  crm plugin check lead-scoring.wasm")]
pub(crate) struct Check {
    /// The component
    file: PathBuf,
}

impl Check {
    pub(crate) fn run(self) -> Outcome {
        let component = super::read(&self.file)?;
        let manifest = crm_plugins::check(&component, &crm_plugins::Limits::default())?;
        print(&manifest)
    }
}

/// Prints what an administrator has to know before consenting.
pub(super) fn print(manifest: &Manifest) -> Outcome {
    say!("{} {}", manifest.name, manifest.version);
    if !manifest.description.is_empty() {
        say!("  {}", manifest.description);
    }
    for line in manifest.receipt() {
        say!("  may {line}");
    }
    if manifest.grants.is_empty() {
        say!("  may touch no records");
    }
    Ok(())
}
