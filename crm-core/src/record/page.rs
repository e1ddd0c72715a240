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
    /// Where the page stands, when it was asked for by its number.
    #[serde(skip)]
    pub number: Option<PageNumber>,
}

/// Where a numbered page stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PageNumber {
    /// Its number, from 1.
    pub page: u32,
    /// Records of a full page.
    pub per_page: u32,
    /// How many pages the counted matches fill.
    pub pages: u64,
}
