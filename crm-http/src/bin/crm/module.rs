//! `crm module`

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use clap::Subcommand;
use crm_core::module::{Ident, is_module_name};
use crm_core::{Error, Registry, read_module};

use crate::Outcome;
use crate::settings::Settings;
use crate::stdout::say;

/// Begin and check declarations of modules
#[derive(Subcommand)]
pub(crate) enum Module {
    /// Write a commented declaration, valid as it stands, to NAME.toml
    ///
    /// The file goes to the folder of --modules, or to the current one.
    #[command(after_long_help = "\
Example:
  crm module new tickets && crm module check tickets.toml && crm serve --modules .")]
    New {
        /// The module's name in the plural, such as tickets
        name: String,
        /// The name of one record; made of the plural when left out
        #[arg(long)]
        singular: Option<String>,
    },
    /// Check declarations, together with each other and the built-in modules
    Check {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

impl Module {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        match self {
            Self::New { name, singular } => new(&settings, &name, singular),
            Self::Check { files } => check(&settings, &files),
        }
    }
}

fn new(settings: &Settings, name: &str, singular: Option<String>) -> Outcome {
    if !is_module_name(name) {
        let line = format!(
            "{name:?} cannot name a module: use up to 48 of a-z, 0-9 and _, beginning with a \
             letter, and no name of the library's own"
        );
        return Err(line.into());
    }
    let singular = singular.unwrap_or_else(|| one_of(name));
    singular.parse::<Ident>()?;
    let folder = settings.modules.clone().unwrap_or_default();
    let path = folder.join(format!("{name}.toml"));
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    let mut file = file.map_err(|error| format!("{}: {error}", path.display()))?;
    let text = TEMPLATE
        .replace("{name}", name)
        .replace("{singular}", &singular);
    file.write_all(text.as_bytes())?;
    say!("{}", path.display());
    Ok(())
}

fn check(settings: &Settings, files: &[PathBuf]) -> Outcome {
    let mut specs = settings.specs()?;
    for path in files {
        let spec = read_module(path)?;
        specs.retain(|known| known.name != spec.name);
        specs.push(spec);
    }
    match Registry::new(specs) {
        Ok(registry) => {
            for module in registry.iter() {
                say!("{}: {} fields", module.name(), module.fields().len());
            }
            Ok(())
        }
        Err(Error::Invalid(problems)) => {
            for problem in &problems {
                say!("{}: {}", problem.pointer, problem.message);
            }
            Err(format!("{} problems", problems.len()).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// The singular of an English plural, mostly.
fn one_of(plural: &str) -> String {
    if let Some(stem) = plural.strip_suffix("ies") {
        return format!("{stem}y");
    }
    match plural.strip_suffix('s') {
        Some(stem) if !stem.is_empty() => stem.to_owned(),
        _ => format!("{plural}_record"),
    }
}

const TEMPLATE: &str = r##"# The module {name}. Put this file into the folder that `crm serve --modules` reads: the table, the
# rules, the permissions ({name}.read, {name}.create, …), the events ({singular}.created, …) and the
# documented endpoints at /api/v1/{name} follow from it.

name = "{name}"
singular = "{singular}"
description = "What {name} are."

# Every record has id, version, owner_id, created_at and updated_at already.
#
# type        further keys (all but those of decimal, enum and reference may be left out)
# text        max = 255
# email
# phone
# integer     min, max
# decimal     precision = 12, scale = 2
# bool
# instant     a moment in UTC
# date
# enum        values = ["new", "done"]
# tags        max_items = 50, max_length = 50
# json        max_bytes = 32768
# reference   module = "contacts"
#
# required    never null; a create that leaves it out needs a default
# default     the value of what is left out
# unique      in its tenant
# search      the substring search looks at it
# sort        lists may be ordered by it, by an index
# description one sentence for the documentation

[[fields]]
name = "title"
type = "text"
max = 200
required = true
search = true
sort = true
description = "What it is called."

[[fields]]
name = "status"
type = "enum"
values = ["new", "in_progress", "done"]
default = "new"
required = true

[[fields]]
name = "due"
type = "date"
sort = true

# [[fields]]
# name = "contact_id"
# type = "reference"
# module = "contacts"

# A state machine of an enum field: what may follow what.
#
# [[machines]]
# field = "status"
# initial = ["new"]
# edges = { new = ["in_progress"], in_progress = ["done"] }
"##;

#[cfg(test)]
mod tests {
    use super::*;
    use crm_core::module::{ModuleSpec, default_modules};

    #[test]
    fn what_is_written_is_valid_also_with_its_comments_taken_away() {
        let text = TEMPLATE
            .replace("{name}", "tickets")
            .replace("{singular}", "ticket");
        let open: Vec<&str> = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(code) if code.starts_with("[[") || code.contains(" = ") => code,
                _ => line,
            })
            .filter(|line| !line.contains("  ") || line.starts_with('#'))
            .collect();
        for text in [text.clone(), open.join("\n")] {
            let spec = ModuleSpec::from_toml(&text).unwrap();
            let specs = default_modules().into_iter().chain([spec]);
            Registry::new(specs.collect()).unwrap();
        }
    }

    #[test]
    fn a_plural_has_a_singular() {
        for (plural, singular) in [
            ("tickets", "ticket"),
            ("companies", "company"),
            ("staff", "staff_record"),
        ] {
            assert_eq!(one_of(plural), singular);
        }
    }
}
