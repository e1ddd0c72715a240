//! Numbers from a seed of the run: the same at every replay, another in every run. Not for keys.

use crate::bindings::imports::crm::automation::random as host;

/// So many bytes. More than the host lends in one call, 4 MiB unless the operator says otherwise,
/// stop the run.
pub fn bytes(count: u32) -> Vec<u8> {
    host::bytes(count)
}

/// Any number.
pub fn number() -> u64 {
    host::number()
}
