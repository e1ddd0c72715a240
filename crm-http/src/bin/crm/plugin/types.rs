//! `crm plugin types`

use std::path::Path;

use clap::Args;
use crm_core::read_module;

use super::new::Lang;
use crate::Outcome;
use crate::settings::Settings;
use crate::stdout::say;

/// Print the type of a module's records, in the language of a plugin
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  crm plugin types contacts > src/contact.rs
  crm plugin types modules/tickets.toml --lang ts > ticket.ts")]
pub(crate) struct Types {
    /// A module's name, or the file that declares it
    module: String,

    /// The language
    #[arg(long, value_enum, default_value_t = Lang::Rust)]
    lang: Lang,
}

impl Types {
    pub(crate) fn run(self, settings: &Settings) -> Outcome {
        let known = settings.specs()?;
        let known = known
            .into_iter()
            .find(|spec| spec.name.as_str() == self.module);
        let spec = match known {
            Some(spec) => spec,
            None if self.module.ends_with(".toml") => read_module(Path::new(&self.module))?,
            None => {
                let module = &self.module;
                let line = format!(
                    "there is no module {module:?}: give the file that declares it, or its \
                     folder with --modules"
                );
                return Err(line.into());
            }
        };
        say!("{}", crm_plugins::types(&spec, self.lang.into()).trim_end());
        Ok(())
    }
}
