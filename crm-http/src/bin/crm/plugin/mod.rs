//! Plugins: from a guest's source to a component, and from a component into a tenant.

mod build;
mod check;
mod run;

use clap::Subcommand;

use crate::Outcome;
use crate::settings::Settings;

/// Build, check, try and install WebAssembly plugins
#[derive(Subcommand)]
pub(crate) enum Plugin {
    Build(build::Build),
    Check(check::Check),
    Run(run::Run),
}

impl Plugin {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        match self {
            Self::Build(command) => command.run().await,
            Self::Check(command) => command.run(),
            Self::Run(command) => command.run().await,
        }
    }
}

/// Reads a component's file.
///
/// # Errors
/// When it cannot be read.
fn read(file: &std::path::Path) -> Result<bytes::Bytes, String> {
    match std::fs::read(file) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(format!("{} cannot be read: {error}", file.display())),
    }
}
