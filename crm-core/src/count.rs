//! Counts as sentences tell them.

use std::fmt::Display;

/// The count with the words that go with it: those for one, or those for any other number.
///
/// ```
/// use crm_core::count::told;
///
/// assert_eq!(told(1, "entry waits", "entries wait"), "1 entry waits");
/// assert_eq!(told(0, "entry waits", "entries wait"), "0 entries wait");
/// ```
pub fn told<N: Display + PartialEq + From<u8>>(count: N, one: &str, many: &str) -> String {
    let words = if count == N::from(1) { one } else { many };
    format!("{count} {words}")
}
