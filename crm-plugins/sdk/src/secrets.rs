//! What an administrator entrusted to the plugin. The host keeps it out of the run's log.

use crate::Error;
use crate::bindings::imports::crm::automation::secrets as host;

/// A secret that the manifest names.
///
/// # Errors
///
/// [`Error::NotFound`] while nobody has set it, [`Error::Denied`].
pub fn get(name: &str) -> Result<String, Error> {
    Ok(host::get(name)?)
}
