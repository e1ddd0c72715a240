//! What a list asks for: condition, search, order, page.

use super::{Field, Filter};
use crate::error::{Error, FieldError, Result};
use crate::module::CompiledModule;

/// The longest search text, in characters (XC-21).
pub(crate) const MAX_SEARCH: usize = 200;

/// Ascending or descending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Smallest first.
    Ascending,
    /// Largest first.
    #[default]
    Descending,
}

/// The order of a list; ties are broken by id in the same direction, absent values come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// A field declared sortable, or a system field.
    pub field: Field,
    /// Which way.
    pub direction: Direction,
}

impl Default for Sort {
    /// Newest first: ids of version 7 grow with the milliseconds.
    fn default() -> Self {
        Self {
            field: Field::Id,
            direction: Direction::Descending,
        }
    }
}

impl Sort {
    /// Reads `name` (ascending) or `-name` (descending).
    ///
    /// # Errors
    /// A [`FieldError`] on `sort` when the module declares no such order.
    pub fn parse(module: &CompiledModule, text: &str) -> Result<Self, FieldError> {
        let (name, direction) = match text.strip_prefix('-') {
            Some(name) => (name, Direction::Descending),
            None => (text, Direction::Ascending),
        };
        let field = match Field::named(module, name) {
            Some(Field::Declared(position)) if module.sortable().contains(&position) => {
                Field::Declared(position)
            }
            Some(field @ (Field::Id | Field::CreatedAt | Field::UpdatedAt)) => field,
            _ => {
                let declared = module
                    .sortable()
                    .iter()
                    .map(|&at| Field::Declared(at).name(module));
                let names = ["id", "created_at", "updated_at"]
                    .into_iter()
                    .chain(declared);
                let list = names.collect::<Vec<_>>().join(", ");
                return Err(FieldError::new(
                    "sort",
                    "unknown_field",
                    format!("{} can be sorted by: {list}", module.name()),
                ));
            }
        };
        Ok(Self { field, direction })
    }
}

/// A list request.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Which records.
    pub filter: Option<Filter>,
    /// Text that one of the searchable fields must hold, at most 200 characters.
    pub search: Option<String>,
    /// In which order.
    pub sort: Sort,
    /// Most records of the page, 1 to 100.
    pub limit: u32,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// Whether to count all matches, up to a cap.
    pub count: bool,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            filter: None,
            search: None,
            sort: Sort::default(),
            limit: Self::DEFAULT_LIMIT,
            cursor: None,
            count: false,
        }
    }
}

impl Query {
    /// Records of a page when none is asked for.
    pub const DEFAULT_LIMIT: u32 = 20;
    /// Most records of a page.
    pub const MAX_LIMIT: u32 = 100;

    /// Refuses what is out of bounds (XC-18, XC-21).
    pub(crate) fn check(&self) -> Result<()> {
        if self.limit == 0 || self.limit > Self::MAX_LIMIT {
            let message = format!("must be between 1 and {}", Self::MAX_LIMIT);
            return Err(Error::invalid("limit", "out_of_range", message));
        }
        check_search(self.search.as_deref())
    }
}

/// Refuses a search text that is too long or holds what no text of a record can (XC-21).
pub(super) fn check_search(text: Option<&str>) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    if text.chars().count() > MAX_SEARCH {
        let message = format!("must be at most {MAX_SEARCH} characters");
        return Err(Error::invalid("search", "too_long", message));
    }
    if text.contains('\0') {
        return Err(Error::invalid("search", "invalid", "must not contain NUL"));
    }
    Ok(())
}
