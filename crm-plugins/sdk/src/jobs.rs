//! Work for later.

use crate::bindings::imports::crm::automation::jobs as host;
use crate::{Error, Value};

/// Calls the plugin's `cron` with this name and payload after so many seconds, 1 to those of 366
/// days. A job of the same name that still waits is replaced.
///
/// # Errors
///
/// [`Error::Denied`] for a name that the manifest does not list, [`Error::Invalid`] for another
/// delay and for a payload of more than 32 KiB.
pub fn schedule(name: &str, delay_seconds: u64, payload: Option<&Value>) -> Result<(), Error> {
    let payload = payload.map(ToString::to_string);
    Ok(host::schedule(name, delay_seconds, payload.as_deref())?)
}
