//! Rust guests: compiles the crate, whose own macro embeds the manifest, and encodes its core
//! module.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crm_core::Result;

use super::{broken, componentize};

const TARGET: &str = "wasm32-unknown-unknown";
/// Debian's own compiler, which has its standard library as source.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_LINKER: &str = "/usr/bin/wasm-ld-19";
const DEBIAN_STD: &str = "/usr/lib/rustlib/src/rust/library";

/// Compiles the Rust guest in `dir` and answers its component. Blocks while cargo runs; cargo's own
/// messages go to standard error.
///
/// # Errors
///
/// [`Error::Configuration`](crm_core::Error::Configuration) when no compiler for WebAssembly is
/// installed, with what to install, and when the guest does not compile;
/// [`Error::Invalid`](crm_core::Error::Invalid) when what it compiles to is no guest.
pub(super) fn build(dir: &Path) -> Result<Vec<u8>> {
    let mut cargo = toolchain(dir)?;
    let output = cargo
        .current_dir(dir)
        .args(["build", "--release", "--target", TARGET])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| broken(format!("cargo does not start: {error}")))?;
    if !output.status.success() {
        return Err(broken(format!(
            "the guest in {} does not compile; see above",
            dir.display()
        )));
    }
    let module = artifact(&output.stdout)
        .ok_or_else(|| broken("the guest's crate needs [lib] crate-type = [\"cdylib\"]"))?;
    let module = std::fs::read(&module)
        .map_err(|error| broken(format!("{} cannot be read: {error}", module.display())))?;
    componentize(&module)
}

/// The cargo that can build for WebAssembly here: the ordinary one, else Debian's.
fn toolchain(dir: &Path) -> Result<Command> {
    if target_installed(dir) {
        return Ok(clean("cargo"));
    }
    let debian = [DEBIAN_RUSTC, DEBIAN_CARGO, DEBIAN_LINKER, DEBIAN_STD];
    if debian.iter().all(|path| Path::new(path).exists()) {
        let mut cargo = clean(DEBIAN_CARGO);
        cargo
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTC", DEBIAN_RUSTC)
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", DEBIAN_LINKER)
            .arg("-Zbuild-std=std,panic_abort");
        return Ok(cargo);
    }
    Err(broken(
        "no Rust compiler for WebAssembly is installed; run `rustup target add \
         wasm32-unknown-unknown`, or on Debian `apt-get install rustc-web cargo-web rust-web-src \
         lld-19`",
    ))
}

/// Whether the compiler that cargo would use in this folder has the target's standard library.
fn target_installed(dir: &Path) -> bool {
    let output = clean("rustc")
        .current_dir(dir)
        .args(["--print", "target-libdir", "--target", TARGET])
        .stderr(Stdio::null())
        .output();
    output.is_ok_and(|output| {
        output.status.success()
            && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    })
}

/// A command without the settings of a host build around it, which would break a guest's.
fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "RUSTC_WRAPPER",
    ] {
        command.env_remove(name);
    }
    command
}

/// The WebAssembly file among the messages of a cargo build.
fn artifact(messages: &[u8]) -> Option<PathBuf> {
    let mut lines = messages.split(|byte| *byte == b'\n').rev();
    lines.find_map(|line| {
        let message: serde_json::Value = serde_json::from_slice(line).ok()?;
        let mut files = message
            .get("filenames")?
            .as_array()?
            .iter()
            .filter_map(|file| file.as_str());
        files
            .find(|file| file.ends_with(".wasm"))
            .map(PathBuf::from)
    })
}
