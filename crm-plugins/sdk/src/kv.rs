//! A small store that belongs to this plugin in this tenant. The manifest says `kv = true`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::bindings::imports::crm::automation::kv as host;

/// A value.
///
/// # Errors
///
/// [`Error::Denied`]; [`Error::Invalid`] for a key that has not 1 to 200 characters, or a NUL.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    Ok(host::get(key)?)
}

/// A value that [`set_json`] set.
///
/// # Errors
///
/// As [`get`]; [`Error::Json`] when it does not fit `T`.
pub fn get_json<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    match host::get(key)? {
        Some(value) => Ok(Some(serde_json::from_slice(&value)?)),
        None => Ok(None),
    }
}

/// Sets a value of at most 64 KiB.
///
/// # Errors
///
/// [`Error::Denied`]; [`Error::Invalid`] for a longer value, and for a key that has not 1 to 200
/// characters, or a NUL; [`Error::LimitExceeded`] beyond 1,000 keys of the plugin, or 16 MiB in the
/// values of all plugins of the tenant.
pub fn set(key: &str, value: &[u8]) -> Result<(), Error> {
    Ok(host::set(key, value)?)
}

/// Sets a value as JSON.
///
/// # Errors
///
/// As [`set`]; [`Error::Json`] for what is no JSON.
pub fn set_json(key: &str, value: &impl Serialize) -> Result<(), Error> {
    set(key, &serde_json::to_vec(value)?)
}

/// Removes a value; answers whether there was one.
///
/// # Errors
///
/// As [`get`].
pub fn delete(key: &str) -> Result<bool, Error> {
    Ok(host::delete(key)?)
}

/// Keys that begin with the prefix, in order, after the one given, at most 100.
///
/// # Errors
///
/// [`Error::Denied`]; [`Error::Invalid`] for a text with a NUL.
pub fn keys(prefix: &str, after: Option<&str>) -> Result<Vec<String>, Error> {
    Ok(host::keys(prefix, after)?)
}
