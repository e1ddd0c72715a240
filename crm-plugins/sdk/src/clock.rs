//! The time at which the run began: the same at every call, and at every replay.

use crate::bindings::imports::crm::automation::clock as host;

/// RFC 3339 in UTC, with six digits of a second where it is not a whole one.
pub fn now() -> String {
    host::now()
}

/// Milliseconds since 1970-01-01T00:00:00Z.
pub fn now_millis() -> i64 {
    host::now_millis()
}
