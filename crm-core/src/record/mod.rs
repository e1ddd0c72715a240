//! Records: the rows of modules, read and written through permits only.

mod activity;
mod aggregate;
mod aggregate_json;
pub(crate) mod bulk;
mod copy;
mod cursor;
mod duplicates;
mod filter;
mod filter_json;
mod fresh;
mod funnel;
mod hearing;
mod hook;
mod many;
mod merge;
mod moment;
mod money;
mod nearest;
mod on_delete;
pub(crate) mod once;
mod page;
mod perform;
mod query;
mod reach;
mod records;
mod reference;
mod rehearse;
mod search;
mod seen;
mod serial;
mod state;
mod through;
mod trash;
mod typed;
mod upsert;
mod view;
mod word;
mod write;

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::ser::{Error as _, SerializeMap};
use serde::{Serialize, Serializer};

pub use aggregate::{Aggregate, Bucket, Function, Group, GroupKey, Groups, Metric};
pub use duplicates::{Duplicates, DuplicatesPage, SharedKey};
pub use filter::{Comparison, Field, Filter, operators};
pub use filter_json::{MAX_CONDITIONS, MAX_DEPTH};
pub use fresh::{Figures, MaxAge};
pub use funnel::{Funnel, Stage};
pub use hook::{HookContext, Next, When};
pub use many::{MAX_MATCHES, Many, Matched};
pub use merge::{MAX_MERGED, Merge};
pub use moment::{Moment, Relation};
pub use nearest::{Nearest, Scored};
pub use once::Once;
pub use page::{Page, PageNumber, Total};
pub use perform::{Answered, MAX_WRITES, Refused, Reply, Work};
pub use query::{Count, Direction, Query, Sort};
pub(crate) use reach::covered;
pub use records::Records;
pub use through::{MAX_THROUGH, Through};
pub use trash::Purged;
pub use typed::Typed;
pub use upsert::Key;
pub use view::{MAX_EXPAND, MAX_EXPAND_DEPTH, View, Viewed, expanded_name};
pub use write::{Expected, Write, Written};

pub(crate) use cursor::Position;
pub(crate) use filter::compare;
pub(crate) use filter_json::comparisons;
pub(crate) use fresh::KeptFigures;
pub(crate) use hearing::{Hearing, Interest, Judge, Judgement, Proposal, Proposed};
pub(crate) use hook::Hooks;
pub(crate) use query::Order;
pub(crate) use word::{MAX_WORDS, words};

use crate::db::Row;
use crate::error::Result;
use crate::id::{RecordId, UserId};
use crate::module::CompiledModule;
use crate::scope::{Read, Scope};
use crate::value::{Value, instant};

/// One row of a module.
///
/// Serialises flat: `id`, `version`, `owner_id`, `created_at`, `updated_at`, in the trash
/// `deleted_at`, then the declared fields in their order, but for the write-only ones, then the
/// computed ones.
#[derive(Clone)]
pub struct Record {
    module: Arc<CompiledModule>,
    /// Its id.
    pub id: RecordId,
    /// Counted up by every change, from 1.
    pub version: i64,
    /// The user whose row it is.
    pub owner_id: Option<UserId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Since when it is in the trash.
    pub deleted_at: Option<DateTime<Utc>>,
    values: Vec<Value>,
}

impl Record {
    /// Reads the columns `id, version, owner_id, created_at, updated_at`, `deleted_at` where the
    /// module has a trash, and the declared ones.
    pub(crate) fn from_row(module: &Arc<CompiledModule>, mut row: Row) -> Result<Self> {
        Ok(Self {
            module: module.clone(),
            id: row.uuid()?,
            version: row.int()?,
            owner_id: row.opt_uuid()?,
            created_at: row.instant()?,
            updated_at: row.instant()?,
            deleted_at: match module.spec().soft_delete {
                true => row.opt_instant()?,
                false => None,
            },
            values: module.unpacked(row.rest())?,
        })
    }

    /// The record with its fields as this form of its module shows them.
    pub(crate) fn of(self, module: Arc<CompiledModule>) -> Self {
        Self { module, ..self }
    }

    /// The module it belongs to, as whoever read it sees it.
    pub fn module(&self) -> &Arc<CompiledModule> {
        &self.module
    }

    /// The declared fields' values, aligned with the module's fields.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Gives the declared field at this position another value.
    pub(crate) fn put(&mut self, position: usize, value: Value) {
        if let Some(old) = self.values.get_mut(position) {
            *old = value;
        }
    }

    /// The value of the declared field called `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(self.module.position(name)?)
    }

    /// The record as far as this scope may read it: whoever may write but not read it learns no
    /// more than its id and version.
    pub fn shown(&self, scope: &Scope) -> Shown<'_> {
        match scope.permit::<Read>(self.module.name().as_str()) {
            Ok(permit) if reach::shows(&permit, self) => match permit.lists() {
                None => Shown::Whole(self),
                Some(_) => Shown::Part(self.seen_by_writer(&permit)),
            },
            _ => Shown::Receipt {
                id: self.id,
                version: self.version,
            },
        }
    }

    /// Writes id, version, the system fields that are wanted, and the declared ones at `positions`,
    /// the computed ones counted on behind the stored ones.
    fn write<M: SerializeMap>(
        &self,
        map: &mut M,
        wants: impl Fn(Field) -> bool,
        positions: impl Iterator<Item = usize>,
    ) -> Result<(), M::Error> {
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("version", &self.version)?;
        if wants(Field::OwnerId) && self.module.shows_owner() {
            map.serialize_entry("owner_id", &self.owner_id)?;
        }
        if wants(Field::CreatedAt) {
            map.serialize_entry("created_at", &instant(&self.created_at))?;
        }
        if wants(Field::UpdatedAt) {
            map.serialize_entry("updated_at", &instant(&self.updated_at))?;
        }
        if let Some(deleted_at) = &self.deleted_at {
            map.serialize_entry("deleted_at", &instant(deleted_at))?;
        }
        let fields = self.module.fields();
        for position in positions {
            if let (Some(field), Some(value)) = (fields.get(position), self.values.get(position)) {
                match value {
                    _ if field.write_only => {}
                    Value::Null if field.kind.is_linked() => {
                        map.serialize_entry(field.name.as_str(), &[(); 0])?;
                    }
                    value => map.serialize_entry(field.name.as_str(), value)?,
                }
            } else if let Some((field, value)) = self.module.compute(position, &self.values) {
                map.serialize_entry(field.name.as_str(), &value)?;
            }
        }
        Ok(())
    }

    /// The wire form as JSON text.
    pub fn to_json(&self) -> String {
        // Every value has a JSON form and every key is text: serialising cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.values.len() != self.module.fields().len() {
            return Err(S::Error::custom(
                "a record's values do not match its module",
            ));
        }
        let mut map = serializer.serialize_map(None)?;
        self.write(&mut map, |_| true, 0..self.module.width())?;
        map.end()
    }
}

/// What a writer is answered.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Shown<'a> {
    /// The whole record.
    Whole(&'a Record),
    /// The record with the fields that the writer may read.
    Part(Record),
    /// What is left without the right to read it.
    Receipt {
        /// Its id.
        id: RecordId,
        /// Its version.
        version: i64,
    },
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_json())
    }
}
