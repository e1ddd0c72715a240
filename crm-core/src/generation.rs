//! Counters by which caches forget: an entry states the generation of its id as it was before its
//! reading began, and holds in that one only. What was read while it changed is worthless from the
//! start.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// How many there are; ids that share one only lose what is cached more often.
const COUNTERS: usize = 4_096;

/// The generations of ids.
pub(crate) struct Generations(Box<[AtomicU64]>);

impl Generations {
    pub(crate) fn new() -> Self {
        Self((0..COUNTERS).map(|_| AtomicU64::new(0)).collect())
    }

    /// The generation of an id.
    pub(crate) fn of(&self, id: Uuid) -> u64 {
        self.counter(id).load(Ordering::Acquire)
    }

    /// Ends the generation of an id.
    pub(crate) fn end(&self, id: Uuid) {
        self.counter(id).fetch_add(1, Ordering::AcqRel);
    }

    /// Ends the generations of all ids.
    pub(crate) fn end_all(&self) {
        for counter in &self.0 {
            counter.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn counter(&self, id: Uuid) -> &AtomicU64 {
        // The last bytes of a UUID of version 7 are random.
        let [.., high, low] = *id.as_bytes();
        &self.0[usize::from(u16::from_be_bytes([high, low])) % COUNTERS]
    }
}
