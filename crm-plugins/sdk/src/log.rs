//! Lines for the run's log, which the tenant's administrators read. Their number and size are
//! limited; past the limit the run is stopped.

use crate::bindings::imports::crm::automation::log::{Level, log};

/// For the plugin's author.
pub fn debug(message: impl AsRef<str>) {
    log(Level::Debug, message.as_ref());
}

/// What happened.
pub fn info(message: impl AsRef<str>) {
    log(Level::Info, message.as_ref());
}

/// Something to look at.
pub fn warn(message: impl AsRef<str>) {
    log(Level::Warn, message.as_ref());
}

/// Something went wrong.
pub fn error(message: impl AsRef<str>) {
    log(Level::Error, message.as_ref());
}

/// Logs a panic before it ends the run, so that its message is not lost.
#[doc(hidden)]
pub fn panics() {
    std::panic::set_hook(Box::new(|info| error(info.to_string())));
}
