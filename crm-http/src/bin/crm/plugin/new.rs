//! `crm plugin new`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use crm_core::module::Ident;
use crm_plugins::Language;

use crate::Outcome;
use crate::stdout::say;

/// Begin a plugin: a folder with a manifest, a function and what it needs to build
#[derive(Args)]
#[command(after_long_help = "Example:\n  crm plugin new --lang js deal_watch")]
pub(crate) struct New {
    /// The plugin's name, such as deal_watch
    name: Ident,

    /// The language to write it in
    #[arg(long, value_enum, default_value_t = Lang::Rust)]
    lang: Lang,

    /// The folder to make; when left out, here, under the plugin's name
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Lang {
    Rust,
    Js,
    Ts,
    Python,
}

impl From<Lang> for Language {
    fn from(lang: Lang) -> Self {
        match lang {
            Lang::Rust => Self::Rust,
            Lang::Js => Self::JavaScript,
            Lang::Ts => Self::TypeScript,
            Lang::Python => Self::Python,
        }
    }
}

impl New {
    pub(crate) fn run(self) -> Outcome {
        let folder = self
            .dir
            .unwrap_or_else(|| self.name.as_str().replace('_', "-").into());
        let language = Language::from(self.lang);
        let first = match self.lang {
            Lang::Rust => None,
            Lang::Js | Lang::Ts => Some("npm install"),
            Lang::Python => {
                Some("python3 -m venv .venv && .venv/bin/pip install -r requirements.txt")
            }
        };
        crm_plugins::create(&folder, language, &self.name)?;
        let folder = folder.display();
        say!("made {folder}; next:");
        if let Some(first) = first {
            say!("  (cd {folder} && {first})");
        }
        say!("  crm plugin build {folder} --out plugin.wasm");
        say!("  crm plugin run plugin.wasm --event {folder}/event.json");
        Ok(())
    }
}
