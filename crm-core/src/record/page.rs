//! A page of a list.

use serde::Serialize;

use super::Record;

/// How many records match, counted up to a cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    /// The number; when capped, there are more.
    pub count: u64,
    /// Whether counting stopped at the cap.
    pub capped: bool,
}

/// Some records and where the next ones begin.
#[derive(Debug, Clone, Serialize)]
pub struct Page {
    /// The records, in the order asked for.
    pub data: Vec<Record>,
    /// The cursor of the next page; `None` at the end.
    pub next_cursor: Option<String>,
    /// All matches, when asked for.
    #[serde(skip)]
    pub total: Option<Total>,
}
