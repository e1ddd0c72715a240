//! The records whose vectors point most nearly the same way, by cosine similarity: exact, and with
//! bounded memory whatever the number of records.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};

use serde_json::Value as Json;
use uuid::Uuid;

use super::{Comparison, Field, Filter, Record, Records};
use crate::error::{Error, FieldError, Result};
use crate::id::RecordId;
use crate::module::{CompiledModule, FieldType, vector};
use crate::scope::{Permit, Read};
use crate::value::Value;

/// How many numbers of vectors are in memory at a time: a mebibyte or so.
const MOST_NUMBERS: u32 = 1 << 18;

/// What to look for: the records that resemble a vector most.
#[derive(Debug, Clone, PartialEq)]
pub struct Nearest {
    field: usize,
    vector: Vec<f32>,
    /// Among which records.
    pub filter: Option<Filter>,
    /// Most records of the answer, 1 to 100.
    pub limit: u32,
    /// The least similarity of an answer, from -1 to 1.
    pub min_score: Option<f64>,
}

/// A record and how much it resembles what was looked for.
#[derive(Debug, Clone)]
pub struct Scored {
    /// The cosine of the angle between the two vectors: 1 the same way, -1 the opposite one.
    pub score: f64,
    /// The record.
    pub record: Record,
}

impl Nearest {
    /// Records of an answer when none is asked for.
    pub const DEFAULT_LIMIT: u32 = 10;
    /// Most records of an answer.
    pub const MAX_LIMIT: u32 = 100;

    /// Looks at the vectors in the field called `field`.
    ///
    /// # Errors
    /// A [`FieldError`] on `field` when it is no vector of the module, on `vector` when that is
    /// none of the field's.
    pub fn new(module: &CompiledModule, field: &str, vector: &[Json]) -> Result<Self, FieldError> {
        let position = module.position(field).filter(|at| module.is_readable(*at));
        let kind = position.and_then(|at| module.fields().get(at).map(|field| &field.kind));
        let (Some(position), Some(FieldType::Vector { dimensions })) = (position, kind) else {
            let message = format!("{} has no vector field {field}", module.name());
            return Err(FieldError::new("field", "unknown_field", message));
        };
        let vector = vector::read(vector, *dimensions).map_err(|refusal| refusal.of("vector"))?;
        Ok(Self {
            field: position,
            vector,
            filter: None,
            limit: Self::DEFAULT_LIMIT,
            min_score: None,
        })
    }

    fn check(&self) -> Result<()> {
        if self.limit == 0 || self.limit > Self::MAX_LIMIT {
            let message = format!("must be between 1 and {}", Self::MAX_LIMIT);
            return Err(Error::invalid("limit", "out_of_range", message));
        }
        if self
            .min_score
            .is_some_and(|score| !(-1.0..=1.0).contains(&score))
        {
            let message = "must be a number from -1 to 1";
            return Err(Error::invalid("min_score", "out_of_range", message));
        }
        Ok(())
    }
}

impl Records {
    /// The records that the permit covers and whose vectors resemble the one asked for most, the
    /// most alike first; of equal ones the older first.
    ///
    /// Reads the ids and vectors of all records that match, page by page.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit or score out of bounds.
    pub async fn nearest(&self, permit: &Permit<Read>, ask: &Nearest) -> Result<Vec<Scored>> {
        ask.check()?;
        let compared = ask.filter.iter().flat_map(Filter::fields);
        let permit = permit.to_ask(compared.chain([Field::Declared(ask.field)]))?;
        let best = self.best(&permit, ask).await?;
        let ids = best.iter().map(|one| Value::Uuid(one.id)).collect();
        let named = Filter::Compare(Field::Id, Comparison::In(ids));
        // Once more: a record may have changed since.
        let filter = Filter::And(ask.filter.iter().cloned().chain([named]).collect());
        let module = permit.module()?;
        let statements = self.core.statements(module);
        let sql = statements.matching(permit.tenant(), permit.reach(), &filter);
        let rows = self.core.db.fetch_all(sql).await?.into_iter();
        let records = rows.map(|row| Record::from_row(module, row));
        let records = records.collect::<Result<_>>()?;
        let records = self.seen(statements, &permit, records).await?.into_iter();
        let mut records: HashMap<_, _> = records.map(|record| (record.id, record)).collect();
        let scored = best.into_iter().filter_map(|one| {
            let record = records.remove(&RecordId(one.id))?;
            let score = one.score;
            Some(Scored { score, record })
        });
        Ok(scored.collect())
    }

    /// The best ids, the most alike first.
    async fn best(&self, permit: &Permit<Read>, ask: &Nearest) -> Result<Vec<Candidate>> {
        let statements = self.core.statements(permit.module()?);
        let (tenant, reach) = (permit.tenant(), permit.reach());
        let dimensions = u32::try_from(ask.vector.len()).unwrap_or(u32::MAX).max(1);
        let page = (MOST_NUMBERS / dimensions).clamp(16, 4_096);
        let length = norm(&ask.vector);
        let most = usize::try_from(ask.limit).unwrap_or(usize::MAX);
        let mut best: BinaryHeap<Reverse<Candidate>> = BinaryHeap::new();
        let mut after = None;
        loop {
            let filter = ask.filter.as_ref();
            let sql = statements.vectors(tenant, reach, filter, ask.field, after, page);
            let rows = self.core.db.fetch_all(sql).await?;
            let last = rows.len() < usize::try_from(page).unwrap_or(usize::MAX);
            for mut row in rows {
                let id: Uuid = row.uuid()?;
                after = Some(id);
                let Value::Vector(vector) = row.next() else {
                    continue;
                };
                let score = cosine(&ask.vector, length, &vector);
                if ask.min_score.is_none_or(|least| score >= least) {
                    best.push(Reverse(Candidate { score, id }));
                }
                if best.len() > most {
                    best.pop();
                }
            }
            if last {
                let best = best.into_sorted_vec().into_iter();
                return Ok(best.map(|Reverse(one)| one).collect());
            }
        }
    }
}

/// A record's score; greater is better, and of equal ones the older is.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    score: f64,
    id: Uuid,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let score = self.score.total_cmp(&other.score);
        score.then_with(|| other.id.cmp(&self.id))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

/// In doubles, where the squares of 32-bit numbers neither overflow nor vanish.
fn norm(vector: &[f32]) -> f64 {
    let squares = vector.iter().map(|number| f64::from(*number).powi(2));
    squares.sum::<f64>().sqrt()
}

fn cosine(asked: &[f32], length: f64, vector: &[f32]) -> f64 {
    let products = asked.iter().zip(vector);
    let dot: f64 = products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    let cosine = dot / (length * norm(vector));
    if cosine.is_nan() {
        0.0
    } else {
        cosine.clamp(-1.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_knows_direction_and_not_length() {
        let of = |a: &[f32], b: &[f32]| cosine(a, norm(a), b);
        assert_eq!(of(&[1.0, 0.0], &[5.0, 0.0]), 1.0);
        assert_eq!(of(&[1.0, 0.0], &[0.0, 2.0]), 0.0);
        assert_eq!(of(&[1.0, 0.0], &[-0.25, 0.0]), -1.0);
        assert!((of(&[3.0, 4.0], &[4.0, 3.0]) - 0.96).abs() < 1e-12);
        assert!((of(&[1e-38, 1e-38], &[3e38, 3e38]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn of_equal_candidates_the_older_is_better() {
        let one = |score, id| Candidate {
            score,
            id: Uuid::from_u128(id),
        };
        assert!(one(0.5, 1) > one(0.4, 0));
        assert!(one(0.5, 1) > one(0.5, 2));
    }
}
