//! `crm plugin check`

use std::path::PathBuf;

use clap::Args;
use crm_core::plugin::Manifest;

use crate::Outcome;

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
        print(&manifest);
        Ok(())
    }
}

/// Prints what an administrator has to know before consenting.
pub(super) fn print(manifest: &Manifest) {
    println!("{} {}", manifest.name, manifest.version);
    if !manifest.description.is_empty() {
        println!("  {}", manifest.description);
    }
    for trigger in &manifest.triggers {
        println!("  runs on {trigger}");
    }
    for grant in &manifest.grants {
        let actions: Vec<&str> = grant.actions.iter().map(|action| action.as_str()).collect();
        println!("  may {} {}", actions.join(", "), grant.module);
    }
    if manifest.grants.is_empty() {
        println!("  may touch no records");
    }
}
