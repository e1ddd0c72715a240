//! `crm plugin build`

use std::path::{Path, PathBuf};

use clap::Args;

use super::check::against;
use crate::Outcome;
use crate::settings::Settings;
use crate::stdout::say;

/// Build the plugin in a folder into a component
///
/// A folder with a Cargo.toml holds a Rust plugin, one with a package.json JavaScript or TypeScript,
/// one with an app.py Python. The component has the manifest inside, and imports no more than that
/// asks for. When a compiler is missing, the error says what to install. What a tenant without modules
/// of its own would refuse is told, and the component made all the same.
#[derive(Args)]
#[command(after_long_help = "\
Example:
  crm plugin build examples/plugins/lead-scoring --out lead-scoring.wasm")]
pub(crate) struct Build {
    /// The plugin's folder
    dir: PathBuf,

    /// Where the component goes; when left out, here, under the folder's name
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Build {
    pub(crate) async fn run(self, settings: &Settings) -> Outcome {
        let dir = self.dir.clone();
        let component = tokio::task::spawn_blocking(move || crm_plugins::build(&dir)).await??;
        let manifest = crm_plugins::check(&component, &crm_plugins::Limits::default())?;
        let out = match self.out {
            Some(out) => out,
            None => named_after(&self.dir)?,
        };
        std::fs::write(&out, &component)
            .map_err(|error| format!("{} cannot be written: {error}", out.display()))?;
        say!(
            "{} {} in {} ({} bytes)",
            manifest.name,
            manifest.version,
            out.display(),
            component.len()
        );
        if let Err(refusal) = against(settings, &manifest) {
            say!("  crm plugin check refuses it: {refusal}");
        }
        Ok(())
    }
}

fn named_after(dir: &Path) -> Result<PathBuf, String> {
    let whole = dir
        .canonicalize()
        .map_err(|error| format!("{}: {error}", dir.display()))?;
    match whole.file_name() {
        Some(name) => Ok(Path::new(name).with_extension("wasm")),
        None => Err("give the file to write with --out".to_owned()),
    }
}
