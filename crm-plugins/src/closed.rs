//! The door of a run that may touch nothing.

use crm_core::hook::Door;

/// Refuses everything.
pub(crate) struct Closed;

impl Door for Closed {}
