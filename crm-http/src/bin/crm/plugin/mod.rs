//! Plugins: from a guest's source to a component, and from a component into a tenant.

mod build;
mod check;
mod event;
mod harness;
mod host;
mod install;
mod list;
mod named;
mod new;
mod rehearse;
mod replay;
mod run;
mod runs;
mod types;
mod version;

use std::sync::Arc;

use clap::Subcommand;
use crm_core::plugin::Plugins;
use crm_core::{Crm, Error};

use crate::Outcome;
use crate::settings::Settings;

pub(crate) use host::{host, is_compile_worker};

/// Build, check, try and install WebAssembly plugins
#[derive(Subcommand)]
pub(crate) enum Plugin {
    Activate(version::Activate),
    Build(build::Build),
    Canary(version::Canary),
    Check(check::Check),
    Disable(version::Disable),
    Enable(version::Enable),
    Follow(runs::Follow),
    Harness(harness::Harness),
    Install(install::Install),
    List(list::List),
    New(new::New),
    Rehearse(rehearse::Rehearse),
    Replay(replay::Replay),
    Rollback(version::Rollback),
    Run(run::Run),
    Runs(runs::Runs),
    Types(types::Types),
    Versions(version::Versions),
}

impl Plugin {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        match self {
            Self::Activate(command) => command.run(settings).await,
            Self::Build(command) => command.run(&settings).await,
            Self::Canary(command) => command.run(settings).await,
            Self::Check(command) => command.run(&settings),
            Self::Disable(command) => command.run(settings).await,
            Self::Enable(command) => command.run(settings).await,
            Self::Follow(command) => command.run(settings).await,
            Self::Harness(command) => command.run(settings).await,
            Self::Install(command) => command.run(settings).await,
            Self::List(command) => command.run(settings).await,
            Self::New(command) => command.run(),
            Self::Rehearse(command) => command.run(settings).await,
            Self::Replay(command) => command.run(settings).await,
            Self::Rollback(command) => command.run(settings).await,
            Self::Run(command) => command.run(settings).await,
            Self::Runs(command) => command.run(settings).await,
            Self::Types(command) => command.run(&settings),
            Self::Versions(command) => command.run(settings).await,
        }
    }
}

/// The library handle with a plugin host, and its plugins.
///
/// # Errors
/// Those of opening either.
pub(crate) async fn open(settings: &Settings) -> Result<(Crm, Plugins), Error> {
    let host = host(settings, None)?;
    let builder = settings.builder_of_present()?.plugins(Arc::new(host));
    let crm = builder.build().await?;
    let plugins = crm.plugins().cloned();
    Ok((
        crm,
        plugins.ok_or_else(|| Error::internal("the plugin host is missing"))?,
    ))
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
