//! The statements of a database as this crate's own tests see them: which ones ran, and one of them
//! without one of its tenant conditions.
//!
//! A mutated statement must never reach a user, so this module exists under `cfg(test)` alone: no
//! feature, setting or environment brings it into a build that anybody links.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Sql;
use super::sql::Text;

tokio::task_local! {
    static WATCH: Watch;
}

/// Sees every statement of one database.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    seen: BTreeSet<String>,
    mutant: Option<Mutant>,
    struck: bool,
}

/// One tenant condition of the statements of one [`shape`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mutant {
    pub(crate) shape: Arc<str>,
    /// Which of its conditions, from 0.
    pub(crate) place: usize,
}

impl Watch {
    /// The shapes of the statements since the last call.
    pub(crate) fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.0.lock().seen)
    }

    /// From now on statements of this shape lack that condition.
    pub(crate) fn arm(&self, mutant: Mutant) {
        let mut state = self.0.lock();
        (state.mutant, state.struck) = (Some(mutant), false);
    }

    /// Statements are as they are written again; answers whether any has lacked its condition.
    pub(crate) fn disarm(&self) -> bool {
        let mut state = self.0.lock();
        state.mutant = None;
        state.struck
    }

    /// Sees the statements that the work runs inside a transaction.
    pub(super) fn within<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        WATCH.scope(self.clone(), work)
    }

    pub(super) fn see(&self, mut sql: Sql) -> Sql {
        let shape = shape(sql.text.as_str());
        let mut state = self.0.lock();
        let mutant = state.mutant.as_ref();
        if let Some(mutant) = mutant.filter(|mutant| *mutant.shape == *shape) {
            let mutated = without(sql.text.as_str(), mutant.place);
            sql.text = Text::Built(mutated);
            state.struck = true;
        }
        state.seen.insert(shape);
        sql
    }
}

/// As [`Watch::see`], for what runs inside a transaction.
pub(super) fn see(sql: Sql) -> Sql {
    match WATCH.try_with(Clone::clone) {
        Ok(watch) => watch.see(sql),
        Err(_) => sql,
    }
}

/// What statements have in common that differ in the number of their values only.
pub(crate) fn shape(text: &str) -> String {
    let mut shape = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let number = match character {
            '$' => characters.peek().is_some_and(char::is_ascii_digit),
            '0'..='9' => shape.ends_with(' '),
            _ => false,
        };
        if !number {
            shape.push(character);
            continue;
        }
        while characters.peek().is_some_and(char::is_ascii_digit) {
            characters.next();
        }
        let placeholder = character == '$';
        if placeholder && shape.ends_with("$, ") {
            shape.truncate(shape.len() - 2);
        } else {
            shape.push(if placeholder { '$' } else { '0' });
        }
    }
    while shape.contains("($), ($)") {
        shape = shape.replace("($), ($)", "($)");
    }
    shape
}

/// Where a statement compares a tenant: `tenant_id = $1`, `a.tenant_id = b.tenant_id`.
pub(crate) fn conditions(text: &str) -> Vec<Range<usize>> {
    const COLUMN: &str = "tenant_id";
    let is_path = |byte: u8| byte.is_ascii_alphanumeric() || b"_.~\"".contains(&byte);
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    for (at, _) in text.match_indices(COLUMN) {
        let mut start = at;
        while start > 0 && is_path(bytes[start - 1]) {
            start -= 1;
        }
        let mut end = at + COLUMN.len();
        if bytes.get(end) == Some(&b'"') {
            end += 1;
        }
        let Some(operand) = text[end..].strip_prefix(" = ") else {
            continue;
        };
        let assigned = text[..start].ends_with("SET ");
        if assigned
            || bytes
                .get(at + COLUMN.len())
                .is_some_and(|next| is_path(*next) && *next != b'"')
        {
            continue;
        }
        let length = operand
            .bytes()
            .take_while(|byte| is_path(*byte) || *byte == b'$')
            .count();
        found.push(start..end + 3 + length);
    }
    found
}

/// The statement without one of its tenant conditions; its values stay bound.
fn without(text: &str, place: usize) -> String {
    let Some(range) = conditions(text).into_iter().nth(place) else {
        return text.to_owned();
    };
    let (before, rest) = text.split_at(range.start);
    let (condition, after) = rest.split_at(range.len());
    format!("{before}({condition} OR 1 = 1){after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_condition_is_found_wherever_it_stands() {
        let text = "SELECT tenant_id FROM a m JOIN \"b.c\" ON \"b.c\".tenant_id = m.tenant_id \
                    WHERE \"tenant_id\" = $1 AND (tenant_id, id) IN (SELECT tenant_id, id FROM a)";
        let found: Vec<&str> = conditions(text).into_iter().map(|at| &text[at]).collect();
        assert_eq!(
            found,
            ["\"b.c\".tenant_id = m.tenant_id", "\"tenant_id\" = $1"]
        );
        assert!(conditions("UPDATE a SET tenant_id = $1").is_empty());
        assert_eq!(
            without("WHERE tenant_id = $2)", 0),
            "WHERE (tenant_id = $2 OR 1 = 1))"
        );
    }

    #[test]
    fn statements_of_more_values_have_the_same_shape() {
        let shape = |text| shape(text);
        assert_eq!(shape("IN ($1, $2, $13) LIMIT 21"), "IN ($) LIMIT 0");
        assert_eq!(shape("VALUES ($1, $2), ($3, $4)"), "VALUES ($)");
        assert_eq!(shape("f7.x = 'a$.f12'"), "f7.x = 'a$.f12'");
    }
}
