//! Which way a search takes: by the index, or record by record.

use super::Records;
use crate::db::record::{BEHIND, Probe, SearchPath, few};
use crate::error::Result;
use crate::id::TenantId;
use crate::module::CompiledModule;
use crate::upkeep::Task;

/// The ways of one search.
#[derive(Debug, Clone, Copy)]
pub(super) struct SearchWay {
    /// To a page of the matches in order.
    pub(super) page: SearchPath,
    /// To all of them.
    pub(super) all: SearchPath,
}

impl SearchWay {
    fn of(path: SearchPath) -> Self {
        Self {
            page: path,
            all: path,
        }
    }
}

impl Records {
    /// The way of a search for this text; asks for an index where there had better be one.
    pub(super) async fn search_way(
        &self,
        module: &CompiledModule,
        tenant: TenantId,
        text: Option<&str>,
    ) -> Result<SearchWay> {
        let by_index = SearchWay::of(SearchPath::Index);
        let Some(text) = text else {
            return Ok(by_index);
        };
        let (core, upkeep) = (&self.core, &self.core.upkeep);
        let statements = core.statements(module);
        let Some(probe) = statements.search_probe(tenant, text, upkeep.large()) else {
            let sample = match statements.goes_by_sample(text) {
                true => upkeep.sample(module.index(), core.clock.now()),
                false => None,
            };
            let part = sample.and_then(|sample| sample.way(text));
            return Ok(part.map_or(by_index, SearchWay::of));
        };
        let Some(row) = core.db.fetch_optional(probe).await? else {
            return Ok(by_index);
        };
        let probe = Probe::read(row)?;
        if !probe.indexed {
            if probe.behind > u64::from(upkeep.large()) {
                upkeep.ask(Task::Search(tenant, module.index()));
            }
            return Ok(SearchWay::of(SearchPath::Scan));
        }
        if probe.behind > BEHIND {
            upkeep.ask(Task::Search(tenant, module.index()));
        }
        // Rare trigrams find less than it costs to walk along a common one beside them.
        if let Some(path) = probe.rare() {
            return Ok(SearchWay::of(path));
        }
        let matches = core
            .db
            .fetch_optional(statements.search_matches(tenant, text));
        let matches = match matches.await? {
            Some(mut row) => row.int::<i64>()?.unsigned_abs(),
            None => 0,
        };
        Ok(match few(matches + probe.behind) {
            true => by_index,
            false => SearchWay {
                page: SearchPath::Scan,
                ..by_index
            },
        })
    }
}
