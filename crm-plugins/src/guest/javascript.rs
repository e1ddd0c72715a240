//! JavaScript and TypeScript guests: `jco componentize` with QuickJS.

use std::path::{Path, PathBuf};
use std::process::Command;

use crm_core::Result;

use super::{Source, TARGET_DIR, broken};

const FOLDERS: &[&str] = &["node_modules/.bin"];
const ENTRIES: [&str; 3] = ["plugin.ts", "plugin.js", "plugin.mjs"];

/// Builds the guest.
///
/// # Errors
///
/// [`Error::Configuration`](crm_core::Error::Configuration) when a tool is missing or fails.
pub(super) fn build(source: &Source) -> Result<Vec<u8>> {
    let Some(jco) = source.program(FOLDERS, "jco") else {
        return Err(broken(
            "jco, which compiles JavaScript guests, is not installed; run `npm install` in the \
             plugin's folder, or `npm install -g @bytecodealliance/jco`",
        ));
    };
    let entry = script(source)?;
    let mut command = Command::new(jco);
    command
        .arg("componentize")
        // In full: the tool looks for it from its own folder.
        .arg(source.dir.join(entry))
        .arg("--wit")
        .arg(&source.wit)
        .args(["-n", "plugin", "--backend", "qjs"])
        .args(["--backend-qjs-stub-wasi", "--backend-qjs-disable-async"])
        .arg("-o")
        .arg(&source.out);
    source.run(&mut command, "jco")?;
    source.component()
}

/// The JavaScript to compile; TypeScript is translated first.
fn script(source: &Source) -> Result<PathBuf> {
    let found = ENTRIES
        .iter()
        .map(Path::new)
        .find(|entry| source.dir.join(entry).is_file());
    match found {
        Some(entry) if entry.extension().is_some_and(|ending| ending == "ts") => translated(source),
        Some(entry) => Ok(entry.to_owned()),
        None => Err(broken(format!(
            "{} holds no {}",
            source.dir.display(),
            ENTRIES.join(", ")
        ))),
    }
}

/// The JavaScript that TypeScript's compiler makes, as the folder's `tsconfig.json` tells it. It
/// knows the types of what the manifest asks for, and of nothing else.
fn translated(source: &Source) -> Result<PathBuf> {
    let Some(tsc) = source.program(FOLDERS, "tsc") else {
        return Err(broken(
            "tsc, which translates TypeScript, is not installed; run `npm install typescript` in \
             the plugin's folder",
        ));
    };
    if !source.dir.join("tsconfig.json").is_file() {
        return Err(broken(format!(
            "{} holds no tsconfig.json; take the one that `crm plugin new --lang ts` makes",
            source.dir.display()
        )));
    }
    source.declare()?;
    let out = Path::new(TARGET_DIR).join("js");
    let mut command = Command::new(tsc);
    command
        .args(["--project", "tsconfig.json", "--outDir"])
        .arg(&out);
    source.run(&mut command, "tsc")?;
    Ok(out.join("plugin.js"))
}
