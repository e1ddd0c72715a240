//! Which trigrams many records of a module share, told by a sample, for searches on PostgreSQL.
//!
//! Its index walks along the list of every trigram of a text, of all tenants and however long: the
//! lists of trigrams that many records hold cost far more than they narrow down. So a search asks
//! the index for the part of each of its words that few records hold, where there is one, and
//! compares the whole words with what that finds.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::Statements;
use super::search::{Parts, SearchPath, TRIGRAM};
use crate::db::{ColumnType, Dialect, Row, Sql};
use crate::error::Result;
use crate::record::words;

/// Records of a sample.
const RECORDS: u64 = 2_000;
/// Characters of each that are looked at.
const LETTERS: u64 = 500;
/// Most trigrams of a sample; those that come late are rare.
const TRIGRAMS: usize = 100_000;
/// One in so many records makes a trigram common.
const COMMON: u32 = 20;
/// Most trigrams that the index is asked for together.
const TOGETHER: usize = 4;

/// In how many records of a sample each trigram is, case folded.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    records: u32,
    holders: HashMap<[char; TRIGRAM], u32>,
}

impl Sample {
    pub(crate) fn read(rows: Vec<Row>) -> Result<Self> {
        let mut sample = Self::default();
        for mut row in rows {
            sample.take(&row.text::<String>()?);
        }
        // What only one record holds is as rare as what none holds.
        sample.holders.retain(|_, holders| *holders > 1);
        Ok(sample)
    }

    fn take(&mut self, text: &str) {
        let text: Vec<char> = text.to_lowercase().chars().collect();
        let words = text.split(|letter| !letter.is_alphanumeric());
        let trigrams: HashSet<[char; TRIGRAM]> = words
            .flat_map(|word| word.windows(TRIGRAM))
            .filter_map(|trigram| trigram.try_into().ok())
            .collect();
        for trigram in trigrams {
            if let Some(holders) = self.holders.get_mut(&trigram) {
                *holders += 1;
            } else if self.holders.len() < TRIGRAMS {
                self.holders.insert(trigram, 1);
            }
        }
        self.records += 1;
    }

    /// The way by the rarest parts of the words; none where the whole words do as well.
    pub(crate) fn way(&self, text: &str) -> Option<SearchPath> {
        let (mut parts, mut rare, mut whole) = (Parts::default(), false, true);
        for (place, word) in parts.0.iter_mut().zip(words(text)) {
            let letters: Vec<char> = word.chars().collect();
            let part = self.rarest(&letters);
            whole &= letters.len() < TRIGRAM || part == Some(0..letters.len());
            if let Some(part) = part {
                *place = (part.start.try_into().ok()?, part.end.try_into().ok()?);
                rare = true;
            }
        }
        (rare && !whole).then_some(SearchPath::Parts(parts))
    }

    /// The letters of a word whose trigrams are rarest, none of them common.
    fn rarest(&self, letters: &[char]) -> Option<Range<usize>> {
        let rarities: Vec<Option<f64>> = letters
            .windows(TRIGRAM)
            .map(|window| self.rarity(window))
            .collect();
        let mut best: Option<(f64, Range<usize>)> = None;
        for from in 0..rarities.len() {
            let run = rarities[from..].iter().take(TOGETHER);
            let run: Vec<f64> = run.map_while(|rarity| *rarity).collect();
            let total: f64 = run.iter().sum();
            if !run.is_empty() && best.as_ref().is_none_or(|(most, _)| total > *most) {
                best = Some((total, from..from + run.len() + TRIGRAM - 1));
            }
        }
        best.map(|(_, part)| part)
    }

    /// How much a trigram narrows a search down (the logarithm of its inverse frequency); none
    /// where it is common or not in one word.
    fn rarity(&self, window: &[char]) -> Option<f64> {
        let mut folded = window.iter().flat_map(|letter| letter.to_lowercase());
        let trigram = [folded.next()?, folded.next()?, folded.next()?];
        if folded.next().is_some() || !trigram.iter().all(|letter| letter.is_alphanumeric()) {
            return None;
        }
        let holders = self.holders.get(&trigram).copied().unwrap_or(0);
        (holders * COMMON <= self.records)
            .then(|| (f64::from(self.records) / (f64::from(holders) + 0.5)).ln())
    }
}

impl Statements {
    /// Whether a sample tells how to search for this text.
    pub(crate) fn goes_by_sample(&self, text: &str) -> bool {
        self.dialect == Dialect::Postgres && self.indexes(text)
    }

    /// The searched texts of some records of all tenants.
    pub(crate) fn sample(&self) -> Sql {
        let table = self.module.table();
        let mut sql = Sql::new("SELECT left(");
        self.searched(&mut sql);
        sql.push(", ").number(LETTERS).push(") FROM ").ident(table);
        sql.push(" TABLESAMPLE SYSTEM (least(100, ")
            .number(100 * RECORDS)
            .push(" / greatest(1, (SELECT reltuples FROM pg_class WHERE oid = '")
            .ident(table)
            .push("'::regclass)))) LIMIT ")
            .number(RECORDS);
        sql.returns(&[ColumnType::Text])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(sample: &Sample, text: &str) -> Option<String> {
        let letters: Vec<char> = text.chars().collect();
        let part = sample.rarest(&letters)?;
        Some(letters[part].iter().collect())
    }

    #[test]
    fn a_search_goes_by_the_rarest_part_of_its_text() {
        let mut sample = Sample::default();
        for n in 0..200 {
            sample.take(&format!("Works{n:03}\n+41 44\nn{n}@example.com"));
        }
        assert_eq!(part(&sample, "ORKS123").as_deref(), Some("S123"));
        assert_eq!(part(&sample, "works"), None, "all records hold it");
        assert_eq!(part(&sample, "mple.com"), None);
        assert_eq!(part(&sample, "Works Zürich").as_deref(), Some("Zürich"));
        assert_eq!(part(&sample, "41 4"), None, "no trigram is in one word");
        assert_eq!(part(&sample, "zu").as_deref(), None);
    }

    #[test]
    fn words_without_common_parts_are_asked_for_as_a_whole() {
        let mut sample = Sample::default();
        let parts = |of: &[(u8, u8)]| {
            let mut parts = Parts::default();
            parts.0[..of.len()].copy_from_slice(of);
            Some(SearchPath::Parts(parts))
        };
        for text in ["meier", "meier ag", "meier x huber", "ag"] {
            assert_eq!(sample.way(text), None, "{text}");
        }
        assert_eq!(sample.way("\"meier ag\""), parts(&[(0, 5)]));
        for n in 0..200 {
            sample.take(&format!("Works{n:03}"));
        }
        assert_eq!(sample.way("works"), None, "all records hold it");
        assert_eq!(sample.way("works meier"), parts(&[(0, 0), (0, 5)]));
        assert_eq!(sample.way("ag works123"), parts(&[(0, 0), (4, 8)]));
    }
}
