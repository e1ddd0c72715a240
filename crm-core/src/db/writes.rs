//! Counts the committed writes of this process, so that what was computed before one is not
//! answered after it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::id::TenantId;
use crate::module::Ident;

/// Counters of all tenants and modules. Some share one: then a write of the one counts for the
/// other as well, which forgets more than needed and never less.
const COUNTERS: usize = 4_096;

/// A tenant's records of one module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Touched(usize);

impl Touched {
    pub(crate) fn new(tenant: TenantId, module: &Ident) -> Self {
        let mut hasher = DefaultHasher::new();
        (tenant, module.as_str()).hash(&mut hasher);
        // The remainder fits.
        Self((hasher.finish() % COUNTERS as u64) as usize)
    }
}

/// The counters.
#[derive(Debug)]
pub(crate) struct Writes(Box<[AtomicU64]>);

impl Writes {
    pub(super) fn new() -> Self {
        Self((0..COUNTERS).map(|_| AtomicU64::new(0)).collect())
    }

    /// How many transactions have written to these records. Equal before a read and later on means
    /// that no transaction of this process has been acknowledged in between.
    pub(crate) fn count(&self, touched: Touched) -> u64 {
        self.0[touched.0].load(Ordering::SeqCst)
    }

    /// Counts a transaction that was committed.
    pub(super) fn committed(&self, touched: &[Touched]) {
        for Touched(at) in touched {
            self.0[*at].fetch_add(1, Ordering::SeqCst);
        }
    }
}
