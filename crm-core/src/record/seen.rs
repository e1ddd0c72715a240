//! What of its records a reader sees, where not every rule of theirs reaches the same fields.

use std::collections::HashSet;

use super::{Comparison, Field, Filter, Record, Records};
use crate::db::record::Statements;
use crate::error::Result;
use crate::id::RecordId;
use crate::policy::Fields;
use crate::scope::{Permit, Read};

impl Records {
    /// The records with the fields of all rules that cover them: one statement more for each rule
    /// whose rows only the database can tell.
    pub(super) async fn seen(
        &self,
        statements: &Statements,
        permit: &Permit<Read>,
        records: Vec<Record>,
    ) -> Result<Vec<Record>> {
        let Some(lists) = permit.lists() else {
            return Ok(records);
        };
        let mut seen = vec![lists.everywhere().clone(); records.len()];
        for (reach, fields) in lists.wider() {
            let told: Vec<_> = records.iter().map(|record| reach.covers(record)).collect();
            let open = records.iter().zip(&told);
            let open = open.filter(|(_, told)| told.is_none());
            let open: Vec<_> = open.map(|(record, _)| record.id.into()).collect();
            let mut covered = HashSet::new();
            if !open.is_empty() {
                let among = Filter::Compare(Field::Id, Comparison::In(open));
                let sql = statements.matching(permit.tenant(), reach, &among);
                for mut row in self.core.db.fetch_all(sql).await? {
                    covered.insert(row.uuid::<RecordId>()?);
                }
            }
            for ((record, told), seen) in records.iter().zip(told).zip(&mut seen) {
                if told.unwrap_or_else(|| covered.contains(&record.id)) {
                    *seen = seen.or(fields);
                }
            }
        }
        let shown = records.into_iter().zip(seen);
        Ok(shown
            .map(|(record, fields)| self.core.masked(record, &fields))
            .collect())
    }
}

impl Record {
    /// The record as its writer sees it: with the fields of the rules that it tells by itself to be
    /// covered by.
    pub(super) fn seen_by_writer(&self, permit: &Permit<Read>) -> Self {
        let fields = match permit.lists() {
            None => Fields::ALL,
            Some(lists) => lists
                .wider()
                .filter(|(reach, _)| reach.covers(self) == Some(true))
                .fold(lists.everywhere().clone(), |all, (_, one)| all.or(one)),
        };
        permit.scope().core().masked(self.clone(), &fields)
    }
}
