//! Python guests: `componentize-py`, with the module `app`.

use std::process::Command;

use crm_core::Result;

use super::{Source, broken};

const FOLDERS: &[&str] = &[".venv/bin", "venv/bin"];

/// Builds the guest.
///
/// # Errors
///
/// [`Error::Configuration`](crm_core::Error::Configuration) when the tool is missing or fails.
pub(super) fn build(source: &Source) -> Result<Vec<u8>> {
    let Some(tool) = source.program(FOLDERS, "componentize-py") else {
        return Err(broken(
            "componentize-py, which compiles Python guests, is not installed; run `python3 -m \
             venv .venv` and `.venv/bin/pip install componentize-py` in the plugin's folder",
        ));
    };
    let mut command = Command::new(tool);
    command
        .arg("-d")
        .arg(&source.wit)
        .args(["-w", "plugin", "componentize", "--stub-wasi", "app", "-o"])
        .arg(&source.out);
    source.run(&mut command, "componentize-py")?;
    source.component()
}
