//! `crm plugin check`

use std::path::PathBuf;

use clap::Args;
use crm_core::plugin::Manifest;
use crm_core::{Error, Registry};

use crate::Outcome;
use crate::settings::Settings;
use crate::stdout::say;

/// Judge a component without running it, and print what it asks for
///
/// It is refused as a tenant would refuse it that has the built-in modules and those of --modules; what
/// tenants declare at run time is not known here.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  crm plugin check lead-scoring.wasm
  crm plugin check follow-ups.wasm --modules modules")]
pub(crate) struct Check {
    /// The component
    file: PathBuf,
}

impl Check {
    pub(crate) fn run(self, settings: &Settings) -> Outcome {
        let component = super::read(&self.file)?;
        let manifest = crm_plugins::check(&component, &crm_plugins::Limits::default())?;
        against(settings, &manifest)?;
        print(&manifest)
    }
}

/// Refuses a manifest that the declared modules cannot satisfy.
///
/// # Errors
/// Those of reading the modules, and of [`Manifest::check_against`].
pub(super) fn against(settings: &Settings, manifest: &Manifest) -> Result<(), Error> {
    manifest.check_against(&Registry::new(settings.specs()?)?)
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
