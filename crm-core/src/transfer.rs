//! Import and export of records: CSV, NDJSON, JSON and vCard, of any size in constant memory.
//!
//! An import is a background job ([`crate::job`]): its file is kept in the database until it is
//! read, its lines are written in batches, each with its audit and outbox rows and the checkpoint
//! in one transaction. Values pass the module's own rules; a line that breaks one is kept as an
//! error under its number and the rest goes on. An export is a stream of pages.
//!
//! In CSV, cells that a spreadsheet would run as a formula carry an apostrophe in front, as OWASP
//! advises ("CSV Injection"); an import takes it away again.

mod cell;
mod csv;
mod export;
mod frame;
mod import;
mod mapping;
mod options;
mod source;
mod vcard;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::crm::Core;
use crate::error::{Error, FieldError, Result};
use crate::job::{Jobs, Upload};
use crate::module::CompiledModule;
use crate::scope::{Create, Scope, Update};

pub use export::Export;
pub(crate) use import::Import;
pub use options::{Format, ImportMode, ImportOptions, MappingOption, OnError};

/// The door to import and export.
#[derive(Clone, Debug)]
pub struct Transfer {
    core: Arc<Core>,
    jobs: Jobs,
}

impl Transfer {
    pub(crate) fn new(core: Arc<Core>, jobs: Jobs) -> Self {
        Self { core, jobs }
    }

    /// Begins an import into a module; the caller sends the file to the answered upload.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown module; [`Error::Forbidden`] without the right to create,
    /// and for an upsert to update; [`Error::Invalid`] for options that do not fit the module.
    pub async fn import(
        &self,
        scope: &Scope,
        module: &str,
        options: ImportOptions,
    ) -> Result<Upload> {
        permits(scope, module, options.mode)?;
        let compiled = scope.readable(module).ok_or(Error::NotFound)?;
        let refused = options.check(&compiled);
        if !refused.is_empty() {
            return Err(Error::Invalid(refused));
        }
        let order = options::Order {
            module: module.to_owned(),
            options,
        };
        let input = serde_json::to_value(order).map_err(Error::internal)?;
        self.jobs.receive(scope, import::KIND, input).await
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

/// The rights an import needs.
fn permits(
    scope: &Scope,
    module: &str,
    mode: ImportMode,
) -> Result<(
    crate::scope::Permit<Create>,
    Option<crate::scope::Permit<Update>>,
)> {
    let create = scope.permit::<Create>(module)?;
    let update = match mode {
        ImportMode::Create => None,
        ImportMode::Upsert => Some(scope.permit::<Update>(module)?),
    };
    Ok((create, update))
}

/// Why an entry was refused: the whole of it.
fn fault(code: &'static str, message: impl Into<String>) -> FieldError {
    FieldError {
        pointer: String::new(),
        code,
        message: message.into(),
    }
}

/// The columns beside the declared fields that an export writes, and an import reads past, but for
/// the owner.
const SYSTEM_COLUMNS: [&str; 5] = ["id", "version", "owner_id", "created_at", "updated_at"];

fn is_target(module: &CompiledModule, name: &str) -> bool {
    module.has_field(name) || SYSTEM_COLUMNS.contains(&name)
}
