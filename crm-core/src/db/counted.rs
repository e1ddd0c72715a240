//! Counts the reading statements of a piece of work, for tests that promise how many there are.
//!
//! Reads run in the caller's future, so that a count that goes with the task sees them all, and
//! none of what others read meanwhile.

use std::cell::Cell;

tokio::task_local! {
    static READS: Cell<u64>;
}

/// Counts one, where anybody asks.
pub(super) fn read() {
    // Outside of counted work there is nothing to count.
    let _ = READS.try_with(|reads| reads.set(reads.get() + 1));
}

/// What the work answers, and how many statements it has read by, outside of transactions.
pub(crate) async fn reads<T>(work: impl Future<Output = T>) -> (T, u64) {
    let counted = async {
        let answer = work.await;
        (answer, READS.with(Cell::get))
    };
    READS.scope(Cell::new(0), counted).await
}
