//! Figures kept in memory for a while: asked for again, they are answered without the database
//! until they are older than the caller wants, or this process has written to the module's records.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use moka::sync::Cache;

use super::{Aggregate, Filter, Groups, Records};
use crate::clock::Clock;
use crate::db::{Touched, Writes};
use crate::error::{Error, Result};
use crate::id::{TenantId, UserId};
use crate::module::{CompiledModule, Ident};
use crate::reach::Reach;
use crate::scope::{Permit, Read};

/// Most groups that are kept, over all answers; an answer counts as one more than it has.
const MOST_GROUPS: u64 = 100_000;

/// Figures, and where they come from.
#[derive(Debug, Clone)]
pub struct Figures {
    /// The figures.
    pub groups: Arc<Groups>,
    /// Whether they were computed for an earlier request.
    pub kept: bool,
}

/// The oldest figures that a caller takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MaxAge(TimeDelta);

impl MaxAge {
    /// Most seconds.
    pub const MOST: u32 = 3_600;

    /// Figures of the last `seconds`; of now for none.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `max_age` for more than 3,600.
    pub fn seconds(seconds: u32) -> Result<Self> {
        if seconds <= Self::MOST {
            return Ok(Self(TimeDelta::seconds(i64::from(seconds))));
        }
        let message = format!("must be at most {} seconds", Self::MOST);
        Err(Error::invalid("max_age", "out_of_range", message))
    }

    /// What a request about the module's records takes: as old as it says, and no older than the
    /// declaration's `aggregate_ttl`; `None` where neither says anything.
    pub fn of(module: &CompiledModule, asked: Option<Self>) -> Option<Self> {
        let declared = module.spec().aggregate_ttl;
        let declared = declared.map(|seconds| Self(TimeDelta::seconds(i64::from(seconds))));
        match (asked, declared) {
            (Some(asked), Some(declared)) => Some(asked.min(declared)),
            (asked, declared) => asked.or(declared),
        }
    }
}

/// Who asked for which figures: what another row scope sees is another answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    tenant: TenantId,
    module: Ident,
    owner: Option<UserId>,
    /// The whole question, written out.
    question: String,
    /// The fields that it speaks of by their positions: a tenant's own ones come and go.
    fields: u64,
}

#[derive(Debug, Clone)]
struct CachedFigures {
    groups: Arc<Groups>,
    at: DateTime<Utc>,
    writes: u64,
}

/// The figures that are kept.
pub(crate) struct KeptFigures(Cache<Key, CachedFigures>);

impl KeptFigures {
    pub(crate) fn new() -> Self {
        let weight = |_: &Key, kept: &CachedFigures| u32::try_from(kept.groups.data.len() + 1);
        let cache = Cache::builder()
            .max_capacity(MOST_GROUPS)
            .weigher(move |key, kept| weight(key, kept).unwrap_or(u32::MAX))
            .build();
        Self(cache)
    }

    fn find(&self, key: &Key, age: MaxAge, clock: &Clock, writes: u64) -> Option<Arc<Groups>> {
        let kept = self.0.get(key)?;
        let young = age.0 > TimeDelta::zero() && clock.now() - kept.at <= age.0;
        let fresh = kept.writes == writes && young;
        fresh.then_some(kept.groups)
    }
}

fn fingerprint(module: &CompiledModule) -> u64 {
    let mut hasher = DefaultHasher::new();
    for field in module.fields() {
        (field.name.as_str(), format!("{:?}", field.kind)).hash(&mut hasher);
    }
    hasher.finish()
}

impl Records {
    /// The figures of [`aggregate`](Self::aggregate), computed now or at most `age` ago. Writes of
    /// this process make older ones be forgotten at once, writes of other processes do not.
    ///
    /// # Errors
    /// Those of [`aggregate`](Self::aggregate).
    pub async fn figures(
        &self,
        permit: &Permit<Read>,
        ask: &Aggregate,
        age: MaxAge,
    ) -> Result<Figures> {
        // Before what is kept: others may have asked who read more.
        let narrowed = permit.to_search(ask.fields(), ask.search.as_deref())?;
        let permit: &Permit<Read> = &narrowed;
        let heard = ask.filter.as_ref().is_none_or(Filter::hears_of_writes);
        let owner = match permit.reach() {
            Reach::All if heard => None,
            Reach::Own(user) if heard => Some(*user),
            // Groups and parents change without a write that this process would hear of.
            _ => {
                let groups = Arc::new(self.aggregate(permit, ask).await?);
                return Ok(Figures {
                    groups,
                    kept: false,
                });
            }
        };
        let core = &self.core;
        let fields = fingerprint(permit.module()?);
        let module = permit.module()?.name();
        let key = Key {
            fields,
            tenant: permit.tenant(),
            module: module.clone(),
            owner,
            // The positions of a tenant's own fields change when they come and go.
            question: format!("{ask:?}"),
        };
        let writes: &Writes = core.db.writes();
        let others = ask.filter.as_ref().map(Filter::others);
        let modules = others.iter().flatten().chain([module]);
        let touched = modules.map(|module| Touched::new(permit.tenant(), module));
        let before = touched.map(|touched| writes.count(touched)).sum();
        if let Some(groups) = core.figures.find(&key, age, &core.clock, before) {
            return Ok(Figures { groups, kept: true });
        }
        let at = core.clock.now();
        let groups = Arc::new(self.aggregate(permit, ask).await?);
        let kept = CachedFigures {
            groups: groups.clone(),
            at,
            writes: before,
        };
        core.figures.0.insert(key, kept);
        Ok(Figures {
            groups,
            kept: false,
        })
    }
}
