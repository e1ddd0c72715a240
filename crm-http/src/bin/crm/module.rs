//! `crm module`

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use clap::Subcommand;
use crm_core::count::told;
use crm_core::module::{FIELD_FLAGS, FIELD_TYPES, Ident, is_module_name};
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
    let mut file = file.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => format!(
            "{} is there already and stays as it is: edit it, or move it away first",
            path.display()
        ),
        _ => format!("{} cannot be written: {error}", path.display()),
    })?;
    file.write_all(template(name, &singular).as_bytes())?;
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
                let fields = module.fields().len() + module.computed().count();
                say!("{}: {}", module.name(), told(fields, "field", "fields"));
            }
            Ok(())
        }
        Err(Error::Invalid(problems)) => {
            for problem in &problems {
                say!("{}: {}", problem.pointer, problem.message);
            }
            if problems
                .iter()
                .any(|problem| problem.message.starts_with("there is no module"))
            {
                crate::stdout::note!(
                    "modules of other files are known where those are named too, or by --modules"
                );
            }
            Err(told(problems.len(), "problem", "problems").into())
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

/// The declaration to begin with, with all words that there are in its comments.
fn template(name: &str, singular: &str) -> String {
    let types = FIELD_TYPES.iter().map(|word| {
        let keys = word.keys.join(", ");
        format!("# {:<13}  {keys:<54}  {}", word.name, word.about)
    });
    let flags = FIELD_FLAGS
        .iter()
        .map(|(flag, about)| format!("# {flag:<13}  {about}"));
    let lines = |lines: Vec<String>| lines.join("\n");
    TEMPLATE
        .replace("{types}", &lines(types.collect()))
        .replace("{flags}", &lines(flags.collect()))
        .replace("{name}", name)
        .replace("{singular}", singular)
}

const TEMPLATE: &str = r##"# The module {name}. Put this file into the folder that `crm serve --modules` reads: the table, the
# rules, the permissions ({name}.read, {name}.create, …), the events ({singular}.created, …) and the
# documented endpoints at /api/v1/{name} follow from it.

name = "{name}"
singular = "{singular}"
description = "What {name} are."

# Switches of the module; they stand here, above the fields:
#
# soft_delete      deleted records go to a trash and can be restored
# require_version  changes and deletes of one record name the version that they are meant for
# key              the serial field whose number stands for the id in paths
# search           "indexed" gives the substring search an index; "scan" reads record by record
# indexes          further indexes, each a list of fields
# parent           the reference to the record that this one belongs to: permissions that end in
#                  :parent reach from there to here
# aggregate_ttl    seconds for which figures may be answered from memory
# duplicates       lists of fields: records that agree in all fields of one may be the same

# Every record has id, version, owner_id, created_at and updated_at already.
#
# The types of fields, each with the keys of its own:
#
{types}
#
# min and max hold for a text's characters. on_delete is restrict, cascade or set_null.
#
# Any field may have:
#
{flags}

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

# The machines of the module: a state machine says what may follow what in an enum field.
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
        let text = template("tickets", "ticket");
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
    fn what_is_written_names_every_word_of_a_declaration() {
        let text = template("tickets", "ticket");
        let unknown = ModuleSpec::from_toml("moon = 1").unwrap_err().to_string();
        let (_, options) = unknown.split_once("expected one of").unwrap();
        let options = options.split('`').skip(1).step_by(2);
        let types = FIELD_TYPES.iter().map(|word| word.name);
        let flags = FIELD_FLAGS.iter().map(|(flag, _)| *flag);
        for word in options.chain(types).chain(flags) {
            let begins = |line: &str| {
                let line = line.trim_start_matches(['#', ' ', '[']);
                let rest = line.strip_prefix(word);
                rest.is_some_and(|rest| rest.starts_with([' ', ']']))
            };
            assert!(text.lines().any(begins), "{word}");
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
