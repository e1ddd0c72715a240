//! Makes components from guests: from Rust, JavaScript, TypeScript and Python.
//!
//! The folder of a guest holds its `plugin.toml`, and says its language by what else it holds:
//! `Cargo.toml`, `package.json` or `app.py`.

mod javascript;
mod python;
mod rust;
mod typescript;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crm_core::plugin::Manifest;
use crm_core::{Error, Result};
use wit_component::ComponentEncoder;

use crate::inspect::{MANIFEST_SECTION, refused};
use crate::world::world;

/// Where a guest's build leaves what it makes, in the guest's folder.
const TARGET_DIR: &str = "target-guest";

/// Encodes a guest's core module, as its compiler left it, as a component.
///
/// # Errors
///
/// [`Error::Invalid`] `not_a_guest` for anything but a core module built against the
/// `crm:automation` world.
pub fn componentize(core_module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default()
        .module(core_module)
        .and_then(|encoder| encoder.validate(true).encode())
        .map_err(|error| {
            refused(
                "not_a_guest",
                format!("The module cannot become a component: {error:#}."),
            )
        })
}

/// Builds the guest in `dir` and answers its component, with its manifest inside. Blocks while the
/// guest's own tools run; what they say goes to standard error.
///
/// # Errors
///
/// [`Error::Configuration`] when a tool is not installed, with what to install, and when the guest
/// does not build; [`Error::Invalid`] when its manifest is none, or what it builds to is no guest.
pub fn build(dir: &Path) -> Result<Vec<u8>> {
    // Tools run in the folder, and are told of files elsewhere.
    let dir = dir
        .canonicalize()
        .map_err(|error| broken(format!("{}: {error}", dir.display())))?;
    if dir.join("Cargo.toml").is_file() {
        return rust::build(&dir);
    }
    let source = Source::read(&dir)?;
    let mut component = if dir.join("package.json").is_file() {
        javascript::build(&source)?
    } else if dir.join("app.py").is_file() {
        python::build(&source)?
    } else {
        return Err(broken(format!(
            "{} is not the folder of a guest: it holds no Cargo.toml, package.json or app.py",
            dir.display()
        )));
    };
    embed_manifest(&mut component, &source.manifest);
    Ok(component)
}

/// Puts a manifest into a component that has none.
pub fn embed_manifest(component: &mut Vec<u8>, manifest: &str) {
    append_section(component, MANIFEST_SECTION, manifest.as_bytes());
}

/// A guest in a language whose tool wants a world.
struct Source {
    dir: PathBuf,
    manifest: String,
    /// The folder of the world that the manifest needs.
    wit: PathBuf,
    /// Where the tool leaves the component.
    out: PathBuf,
}

impl Source {
    fn read(dir: &Path) -> Result<Self> {
        let file = dir.join("plugin.toml");
        let manifest = fs::read_to_string(&file)
            .map_err(|error| broken(format!("{} cannot be read: {error}", file.display())))?;
        let target = dir.join(TARGET_DIR);
        let wit = target.join("wit");
        let text = world(&Manifest::parse(&manifest)?)?;
        fs::create_dir_all(&wit)
            .and_then(|()| fs::write(wit.join("automation.wit"), text))
            .map_err(|error| broken(format!("{} cannot be written: {error}", wit.display())))?;
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
            wit,
            out: target.join("plugin.wasm"),
        })
    }

    /// Tells TypeScript what the guest's world has.
    fn declare(&self) -> Result<()> {
        let types = self.dir.join(TARGET_DIR).join("types");
        let world = world(&Manifest::parse(&self.manifest)?)?;
        let text = typescript::declarations(&world);
        let text = text.ok_or_else(|| Error::internal("the world has no declarations"))?;
        fs::create_dir_all(&types)
            .and_then(|()| fs::write(types.join("crm.d.ts"), text))
            .map_err(|error| broken(format!("{} cannot be written: {error}", types.display())))
    }

    /// Runs a tool in the guest's folder; what it prints goes to standard error.
    fn run(&self, command: &mut Command, what: &str) -> Result<()> {
        let output = command
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| broken(format!("{what} does not start: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        eprint!("{}", String::from_utf8_lossy(&output.stdout));
        Err(broken(format!(
            "{what} does not build the guest in {}; see above",
            self.dir.display()
        )))
    }

    fn component(&self) -> Result<Vec<u8>> {
        fs::read(&self.out)
            .map_err(|error| broken(format!("{} cannot be read: {error}", self.out.display())))
    }

    /// A program in one of these folders of the guest's folder or of one above it, else in PATH.
    fn program(&self, folders: &[&str], name: &str) -> Option<PathBuf> {
        let near = self.dir.ancestors().flat_map(|dir| {
            let folders = folders.iter();
            folders.map(move |folder| dir.join(folder))
        });
        let path = std::env::var_os("PATH").unwrap_or_default();
        near.chain(std::env::split_paths(&path))
            .map(|folder| folder.join(name))
            .find(|program| program.is_file())
    }
}

fn broken(message: impl Into<String>) -> Error {
    Error::Configuration(message.into().into())
}

/// Appends a custom section (WebAssembly core specification, 5.5.3) to a module or component.
pub fn append_section(binary: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut section = Vec::new();
    leb128(&mut section, name.len());
    section.extend_from_slice(name.as_bytes());
    section.extend_from_slice(content);
    binary.push(0);
    leb128(binary, section.len());
    binary.extend(section);
}

/// An unsigned number in LEB128.
fn leb128(out: &mut Vec<u8>, mut value: usize) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
