//! What a list asks for: condition, search, order, page.

use super::{Field, Filter, MAX_WORDS, words};
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

/// One key of a list's order; absent values come last, whichever way it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// A field declared sortable, or a system field. Creation times order as ids do, which hold
    /// them: further keys behind one of the two change nothing.
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
    /// Most keys of an order.
    pub const MAX_KEYS: usize = 3;

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
            None if module.has_field(name) && !module.masks(name) => {
                return Err(FieldError::new("sort", "unknown_field", module.lacks(name)));
            }
            _ => {
                let declared = module
                    .sortable()
                    .iter()
                    .filter(|at| module.is_readable(**at))
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

    /// Reads keys separated by commas, the first one weighing most: `-score,name`.
    ///
    /// # Errors
    /// A [`FieldError`] on `sort` for a key that the module does not declare, or more than three.
    pub fn parse_list(module: &CompiledModule, text: &str) -> Result<Vec<Self>, FieldError> {
        let mut keys: Vec<Self> = Vec::new();
        for part in text.split(',') {
            let key = Self::parse(module, part)?;
            if keys.len() == Self::MAX_KEYS {
                let message = format!("a list is sorted by at most {} fields", Self::MAX_KEYS);
                return Err(FieldError::new("sort", "too_many", message));
            }
            keys.push(key);
        }
        // Named again, a field has no ties left to break.
        let fields: Vec<Field> = keys.iter().map(|key| key.field).collect();
        let mut position = 0;
        keys.retain(|key| {
            position += 1;
            !fields[..position - 1].contains(&key.field)
        });
        Ok(keys)
    }
}

impl From<Sort> for Vec<Sort> {
    fn from(sort: Sort) -> Self {
        vec![sort]
    }
}

/// An order as it takes effect: keys behind one that leaves no ties are gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'q> {
    pub(crate) keys: &'q [Sort],
    /// Which way ids break ties: the way of the last key.
    pub(crate) ids: Direction,
}

/// Whether all matches are counted, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Count {
    /// Not at all.
    #[default]
    No,
    /// Up to 10,000: as cheap for a large tenant as for a small one.
    Capped,
    /// All of them, which takes as long as it takes.
    Exact,
}

/// A list request.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Which records.
    pub filter: Option<Filter>,
    /// Words that the searchable fields must hold, each in any one of them: at most 16, of 200
    /// characters together. Words in double quotes are one phrase.
    pub search: Option<String>,
    /// In which order: at most three keys, the first one weighing most; newest first when empty.
    pub sort: Vec<Sort>,
    /// Most records of the page, 1 to 100.
    pub limit: u32,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// Which page of `limit` records, from 1, for those who count pages; all matches are counted
    /// then. Pages reach [`MAX_DEPTH`](Self::MAX_DEPTH) records deep, cursors any number.
    pub page: Option<u32>,
    /// Whether to count all matches.
    pub count: Count,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            filter: None,
            search: None,
            sort: Vec::new(),
            limit: Self::DEFAULT_LIMIT,
            cursor: None,
            page: None,
            count: Count::No,
        }
    }
}

impl Query {
    /// Records of a page when none is asked for.
    pub const DEFAULT_LIMIT: u32 = 20;
    /// Most records of a page.
    pub const MAX_LIMIT: u32 = 100;
    /// How many records deep numbered pages reach.
    pub const MAX_DEPTH: u32 = 10_000;

    /// The order as it takes effect: ids, and with them creation times, leave no ties.
    pub(crate) fn order(&self) -> Order<'_> {
        let last = self
            .sort
            .iter()
            .position(|key| matches!(key.field, Field::Id | Field::CreatedAt));
        let deciding = match last {
            Some(position) => self.sort.get(position),
            None => self.sort.last(),
        };
        Order {
            keys: &self.sort[..last.unwrap_or(self.sort.len())],
            ids: deciding.copied().unwrap_or_default().direction,
        }
    }

    /// The fields that records are chosen and ordered by.
    pub(super) fn fields(&self) -> impl Iterator<Item = Field> {
        let compared = self.filter.iter().flat_map(Filter::fields);
        compared.chain(self.sort.iter().map(|key| key.field))
    }

    /// Refuses what is out of bounds (XC-18, XC-21).
    pub(crate) fn check(&self) -> Result<()> {
        if self.limit == 0 || self.limit > Self::MAX_LIMIT {
            let message = format!("must be between 1 and {}", Self::MAX_LIMIT);
            return Err(Error::invalid("limit", "out_of_range", message));
        }
        self.check_page()?;
        if self.sort.len() > Sort::MAX_KEYS {
            let message = format!("a list is sorted by at most {} fields", Sort::MAX_KEYS);
            return Err(Error::invalid("sort", "too_many", message));
        }
        check_search(self.search.as_deref())
    }
}

impl Query {
    fn check_page(&self) -> Result<()> {
        let Some(page) = self.page else { return Ok(()) };
        if self.cursor.is_some() {
            let message = "a list is read by page numbers or by cursors; give one of the two";
            return Err(Error::invalid("page", "not_allowed", message));
        }
        if page == 0 {
            return Err(Error::invalid("page", "out_of_range", "pages count from 1"));
        }
        if u64::from(page) * u64::from(self.limit) > u64::from(Self::MAX_DEPTH) {
            let message = format!(
                "pages reach {} records deep; go on with the next_cursor of the last one",
                Self::MAX_DEPTH
            );
            return Err(Error::invalid("page", "out_of_range", message));
        }
        Ok(())
    }

    /// How many records stand before the page.
    pub(super) fn skipped(&self) -> u32 {
        self.page.map_or(0, |page| (page - 1) * self.limit)
    }
}

/// Refuses a search text that is too long, has too many words, or holds what no text of a record
/// can (XC-21).
pub(super) fn check_search(text: Option<&str>) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    if text.chars().count() > MAX_SEARCH {
        let message = format!("must be at most {MAX_SEARCH} characters");
        return Err(Error::invalid("search", "too_long", message));
    }
    if words(text).len() > MAX_WORDS {
        let message = format!("must be at most {MAX_WORDS} words; put a phrase into double quotes");
        return Err(Error::invalid("search", "too_many", message));
    }
    if text.contains('\0') {
        return Err(Error::invalid("search", "invalid", "must not contain NUL"));
    }
    Ok(())
}
