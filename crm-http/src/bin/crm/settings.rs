//! What all commands share: which database, which modules, which secret.

use std::path::{Path, PathBuf};

use clap::Args;
use crm_core::clock::Clock;
use crm_core::id::TenantId;
use crm_core::module::{ModuleSpec, default_modules};
use crm_core::{Builder, Crm, DatabaseOptions, Error, RequestContext, Schema, read_module};
use secrecy::SecretString;

use crate::secret::{self, Missing};

#[derive(Args)]
pub(crate) struct Settings {
    /// The database: sqlite://FILE, which serve and migrate make when missing, or
    /// postgres://USER:PASSWORD@HOST/NAME
    #[arg(
        long,
        global = true,
        env = "CRM_DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite://crm.db",
        value_name = "URL"
    )]
    pub(crate) database: String,

    /// A folder whose *.toml files declare modules, beside the built-in contacts, companies and
    /// deals; a file that declares one of these names replaces it
    #[arg(long, global = true, env = "CRM_MODULES", value_name = "DIR")]
    pub(crate) modules: Option<PathBuf>,
}

/// Refuses what is no URL of one of the two databases, before anything is made for it.
fn check_url(url: &str) -> Result<(), Error> {
    let known = ["sqlite://", "postgres://", "postgresql://"];
    let rest = known.iter().find_map(|scheme| url.strip_prefix(scheme));
    if rest.is_some_and(|rest| !rest.is_empty()) {
        return Ok(());
    }
    let form = "sqlite://FILE or postgres://USER:PASSWORD@HOST/NAME";
    Err(Error::Configuration(
        format!("the database is named by a URL: {form}").into(),
    ))
}

/// Refuses an SQLite database that is not there, as one whose name is mistyped, before anything is
/// made for it.
fn check_present(url: &str) -> Result<(), Error> {
    check_url(url)?;
    if Schema::exists(url)? {
        return Ok(());
    }
    let message = format!(
        "there is no database {url}; name another one, or make it with: crm --database {url} migrate up"
    );
    Err(Error::Configuration(message.into()))
}

impl Settings {
    /// The declared modules: the built-in ones, replaced and joined by those of the folder.
    ///
    /// # Errors
    /// When the folder or a declaration cannot be read.
    pub(crate) fn specs(&self) -> Result<Vec<ModuleSpec>, Error> {
        let mut specs = default_modules();
        for file in self
            .modules
            .iter()
            .map(|folder| declarations(folder))
            .collect::<Result<Vec<_>, _>>()?
            .concat()
        {
            let spec = read_module(&file)?;
            match specs.iter_mut().find(|known| known.name == spec.name) {
                Some(known) => *known = spec,
                None => specs.push(spec),
            }
        }
        Ok(specs)
    }

    /// The secret that all keys are derived from.
    ///
    /// # Errors
    /// When it is missing or cannot be read.
    pub(crate) fn secret(&self) -> Result<SecretString, Error> {
        self.secret_or(Missing::Refused)
    }

    fn secret_or(&self, missing: Missing) -> Result<SecretString, Error> {
        secret::find(&self.database, missing).map_err(|line| Error::Configuration(line.into()))
    }

    /// A library handle to be built, with database, modules and secret. Building it makes an SQLite
    /// database that is missing.
    ///
    /// # Errors
    /// When the secret or a declaration is missing or unfit.
    pub(crate) fn builder(&self) -> Result<Builder, Error> {
        self.builder_of(self.specs()?)
    }

    /// As [`builder`](Self::builder), for a database that is there, whose tables stay as they are:
    /// a command changes none under the servers that run.
    ///
    /// # Errors
    /// Those of [`builder`](Self::builder), and when there is no such database.
    pub(crate) fn builder_of_present(&self) -> Result<Builder, Error> {
        check_present(&self.database)?;
        Ok(self.builder()?.keep_tables())
    }

    /// As [`builder_of_present`](Self::builder_of_present), with a secret that becomes the
    /// database's: a new one where there is none.
    ///
    /// # Errors
    /// Those of [`builder_of_present`](Self::builder_of_present).
    pub(crate) fn builder_of_resealed(&self) -> Result<Builder, Error> {
        check_present(&self.database)?;
        let builder = self.builder_with(self.specs()?, Missing::Made)?;
        Ok(builder.keep_tables().foreign_secret())
    }

    fn builder_of(&self, specs: Vec<ModuleSpec>) -> Result<Builder, Error> {
        self.builder_with(specs, Missing::Refused)
    }

    fn builder_with(&self, specs: Vec<ModuleSpec>, missing: Missing) -> Result<Builder, Error> {
        check_url(&self.database)?;
        let secret = self.secret_or(missing)?;
        let builder = Crm::builder().database(&self.database).secret(secret);
        let previous = secret::previous().map_err(|line| Error::Configuration(line.into()))?;
        let builder = match previous {
            Some(previous) => builder.previous_secret(previous),
            None => builder,
        };
        Ok(builder.modules(specs))
    }

    /// The library handle of a command that does one thing and ends.
    ///
    /// # Errors
    /// Those of [`builder_of_present`](Self::builder_of_present) and of opening the database.
    pub(crate) async fn open(&self) -> Result<Crm, Error> {
        self.builder_of_present()?.build().await
    }

    /// The library handle with the modules that the database has, as they were declared last, so
    /// that no table changes; those of [`open`](Self::open) when it has none yet.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub(crate) async fn open_as_it_is(&self) -> Result<Crm, Error> {
        check_present(&self.database)?;
        let options = DatabaseOptions::default();
        let schema = Schema::open(&self.database, &options, Clock::system()).await?;
        let specs = schema.declared().await?;
        schema.close().await;
        match specs.is_empty() {
            true => self.open().await,
            false => self.builder_of(specs)?.build().await,
        }
    }
}

/// The folder's declarations, in the order of their names.
fn declarations(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let refuse = |error: std::io::Error| {
        Error::Configuration(format!("{} cannot be read: {error}", folder.display()).into())
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(refuse)? {
        let path = entry.map_err(refuse)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// What audit rows say of a command's work.
pub(crate) fn request(crm: &Crm) -> RequestContext {
    RequestContext {
        id: format!("cli-{}", crm.clock().new_id().simple()).into(),
        address: None,
    }
}

/// The tenant called `name`.
///
/// # Errors
/// When there is none.
pub(crate) async fn tenant(
    crm: &Crm,
    name: &str,
) -> Result<TenantId, Box<dyn std::error::Error + Send + Sync>> {
    match crm.tenants().find_by_name(name).await? {
        Some(tenant) => Ok(tenant.id),
        None => Err(format!(
            "there is no tenant {name:?}; make one with: crm tenant create {name}"
        )
        .into()),
    }
}
