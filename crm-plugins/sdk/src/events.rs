//! Events of the plugin's own.

use serde::Serialize;

use crate::Error;
use crate::bindings::imports::crm::automation::events as host;

/// Tells `<plugin>.<name>` with a JSON object; plugins with a trigger for it wake.
///
/// # Errors
///
/// [`Error::Denied`] for a name that the manifest does not list; [`Error::Invalid`] for data that
/// is no object, has more than 32 KiB, or a NUL in a text; [`Error::Json`] for what is no JSON.
pub fn emit(name: &str, data: &impl Serialize) -> Result<(), Error> {
    Ok(host::emit(name, &serde_json::to_string(data)?)?)
}
