//! The beginnings of a plugin, in the language of its author.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use crm_core::module::Ident;
use crm_core::{Error, Result};

/// A language to write plugins in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Rust, with the SDK.
    Rust,
    /// JavaScript, in QuickJS.
    JavaScript,
    /// TypeScript, compiled to JavaScript, in QuickJS.
    TypeScript,
    /// Python.
    Python,
}

/// Files by their place in the new folder; `{{name}}` and `{{folder}}` are filled in.
type Files = &'static [(&'static str, &'static str)];

/// Files below one folder here that go to the same places below another one there.
macro_rules! files {
    ($from:literal => $to:literal: $($file:literal)+) => {
        &[$((concat!($to, $file), include_str!(concat!("../", $from, $file)))),+]
    };
}

const EVERY: Files = files! { "templates/" => "": "plugin.toml" "event.json" };

const RUST: Files = files! { "templates/rust/" => "":
"Cargo.toml" "README.md" "gitignore" "src/lib.rs" "tests/plugin.rs" };

/// The SDK travels along, so that a plugin builds anywhere.
const SDK: Files = files! { "sdk/" => "sdk/":
"Cargo.toml" "src/bindings.rs" "src/clock.rs" "src/error.rs" "src/events.rs" "src/fields.rs"
"src/heap.rs" "src/http.rs" "src/jobs.rs" "src/kv.rs" "src/lib.rs" "src/log.rs"
"src/plugin.rs" "src/random.rs" "src/reader.rs" "src/record.rs" "src/records.rs"
"src/secrets.rs" "src/testing.rs" "src/verdict.rs" };
const WIT: Files = files! { "wit/" => "wit/": "automation.wit" };

const SCRIPT: Files = files! { "templates/js/" => "": "crm.js" "gitignore" };
const JAVASCRIPT: Files = files! { "templates/js/" => "": "package.json" "plugin.js" };
const TYPESCRIPT: Files = files! { "templates/ts/" => "":
"package.json" "plugin.ts" "tsconfig.json" };

const PYTHON: Files = files! { "templates/python/" => "":
"app.py" "crm.py" "requirements.txt" "gitignore" };

impl Language {
    /// Every language there is.
    pub const ALL: [Self; 4] = [Self::Rust, Self::JavaScript, Self::TypeScript, Self::Python];

    fn files(self) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        let own: [Files; 3] = match self {
            Self::Rust => [RUST, SDK, WIT],
            Self::JavaScript => [JAVASCRIPT, SCRIPT, &[]],
            Self::TypeScript => [TYPESCRIPT, SCRIPT, &[]],
            Self::Python => [PYTHON, &[], &[]],
        };
        EVERY.iter().chain(own.into_iter().flatten())
    }
}

/// Where a file goes: one that would hide files here has its dot only there.
fn place(file: &str) -> &str {
    match file {
        "gitignore" => ".gitignore",
        file => file,
    }
}

/// Makes the folder of a new plugin, which builds as it is.
///
/// # Errors
///
/// [`Error::Configuration`] when the folder exists already or cannot be written.
pub fn create(folder: &Path, language: Language, name: &Ident) -> Result<()> {
    if let Some(above) = folder.parent() {
        fs::create_dir_all(above).map_err(|error| failed(folder, &error))?;
    }
    fs::create_dir(folder).map_err(|error| failed(folder, &error))?;
    let hyphens = name.as_str().replace('_', "-");
    for (file, text) in language.files() {
        let text = text
            .replace("{{name}}", name.as_str())
            .replace("{{folder}}", &hyphens);
        write(&folder.join(place(file)), &text).map_err(|error| failed(folder, &error))?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::File::create_new(file)?.write_all(text.as_bytes())
}

fn failed(folder: &Path, error: &std::io::Error) -> Error {
    let folder = folder.display();
    let reason = match error.kind() {
        ErrorKind::AlreadyExists => format!("{folder} exists already; choose another folder"),
        _ => format!("{folder} cannot be made: {error}"),
    };
    Error::Configuration(reason.into())
}

#[cfg(test)]
mod tests {
    use crm_core::plugin::Manifest;

    use super::*;

    const ROOT: &str = env!("CARGO_MANIFEST_DIR");

    #[test]
    fn a_new_plugin_has_a_manifest_under_its_name() {
        let dir = tempfile::tempdir().unwrap();
        for language in Language::ALL {
            let folder = dir.path().join(format!("{language:?}"));
            let name = "deal_watch".parse().unwrap();
            create(&folder, language, &name).unwrap();
            let manifest = fs::read_to_string(folder.join("plugin.toml")).unwrap();
            assert_eq!(Manifest::parse(&manifest).unwrap().name, name);
            assert!(folder.join(".gitignore").is_file());
            assert!(
                create(&folder, language, &name).is_err(),
                "never over another"
            );
        }
    }

    #[test]
    fn the_whole_sdk_travels_along() {
        let sources = fs::read_dir(format!("{ROOT}/sdk/src")).unwrap();
        for source in sources {
            let name = source.unwrap().file_name().into_string().unwrap();
            let place = format!("sdk/src/{name}");
            assert!(SDK.iter().any(|(file, _)| **file == place), "{place}");
        }
    }

    #[test]
    fn examples_use_the_templates_as_they_are() {
        for (template, example) in [
            ("js/crm.js", "deal-notifier/crm.js"),
            ("python/crm.py", "follow-ups/crm.py"),
            ("python/requirements.txt", "follow-ups/requirements.txt"),
        ] {
            let template = fs::read_to_string(format!("{ROOT}/templates/{template}")).unwrap();
            let example = format!("{ROOT}/../examples/plugins/{example}");
            assert_eq!(fs::read_to_string(example).unwrap(), template);
        }
    }
}
