//! The plugin host of this program: uploads are compiled by this program, started again.

use std::path::PathBuf;

use crm_core::Error;
use crm_plugins::{CacheFolder, Host, Limits, Worker};

use crate::settings::Settings;

/// What this program is told when it is started as a compile worker; nothing for people to type.
const COMPILE_WORKER: &str = "plugin-compile-worker";

/// Whether this process is a compile worker.
pub(crate) fn is_compile_worker() -> bool {
    std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == COMPILE_WORKER)
}

/// A host that keeps compiled code in this folder, or in none.
///
/// # Errors
/// When the secret is missing, or the folder cannot be used.
pub(crate) fn host(settings: &Settings, cache: Option<PathBuf>) -> Result<Host, Error> {
    let program = std::env::current_exe().map_err(Error::internal)?;
    let mut worker = Worker::new(program, [COMPILE_WORKER]);
    if let Some(path) = cache {
        worker.cache = Some(CacheFolder::new(path, &settings.secret()?));
    }
    Host::new(Limits::default(), worker)
}
