//! What one subject may do: two bit sets over the catalogue's operations, and the rules of those
//! few that reach neither all rows nor just own ones. Owns the comparison, intersection and union
//! of such rights; knows nothing of roles.

use std::sync::Arc;

use smallvec::SmallVec;

use super::catalogue::{Catalogue, Operation};
use super::fields::Fields;
use super::permission::{RowScope, WILDCARD};
use super::rows::{RowRule, Rows, reached, reduced};

/// Most permissions that one refusal names.
const MOST_NAMED: usize = 5;

/// A set of operations; in place for the usual number of modules, so that a check fetches no more
/// memory than the rights themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bits(SmallVec<[u64; 2]>);

impl Bits {
    pub(super) fn none(catalogue: &Catalogue) -> Self {
        Self(SmallVec::from_elem(0, catalogue.len().div_ceil(64)))
    }

    pub(super) fn insert(&mut self, operation: Operation) {
        // An operation always stems from the catalogue that sized the set.
        if let Some(word) = self.0.get_mut(operation.index() / 64) {
            *word |= 1 << (operation.index() % 64);
        }
    }

    pub(super) fn contains(&self, operation: Operation) -> bool {
        let word = self.0.get(operation.index() / 64).copied().unwrap_or(0);
        word >> (operation.index() % 64) & 1 == 1
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Combines both sets word by word.
    fn zip(&mut self, other: &Self, combine: fn(u64, u64) -> u64) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word = combine(*word, *other);
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.zip(other, |a, b| a | b);
    }

    pub(super) fn remove(&mut self, other: &Self) {
        self.zip(other, |a, b| a & !b);
    }

    fn keep(&mut self, other: &Self) {
        self.zip(other, |a, b| a & b);
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        match self.0.spilled() {
            true => size_of_val(&*self.0),
            false => 0,
        }
    }
}

/// An operation on the rows of a rule.
pub(super) type Partial = (Operation, RowRule);

/// The rights of one subject in one tenant; asking them costs two bit tests, and a search where a
/// role reaches rows beside own ones, but not all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    /// Operations on every field of every row.
    all: Bits,
    /// Operations on own rows at least, without a condition or a field list: always a superset of
    /// `all`.
    own: Bits,
    /// Rules of operations that are not in `all`, beside those of own rows; ordered, each needed.
    some: Option<Arc<[Partial]>>,
}

impl Grants {
    /// No rights at all.
    pub fn none(catalogue: &Catalogue) -> Self {
        Self {
            all: Bits::none(catalogue),
            own: Bits::none(catalogue),
            some: None,
        }
    }

    /// Every right: the operator's.
    pub fn everything(catalogue: &Catalogue) -> Self {
        Self::of(catalogue, [(WILDCARD, WILDCARD)])
    }

    /// The rights on all rows that `(module, action)` pairs name, as a plugin's manifest does.
    ///
    /// Either may be `*`, and the module `records`; an unknown name gives nothing.
    pub fn of<'a>(
        catalogue: &Catalogue,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut all = Bits::none(catalogue);
        for (module, action) in pairs {
            catalogue
                .expand(module, action)
                .for_each(|operation| all.insert(operation));
        }
        Self {
            own: all.clone(),
            all,
            some: None,
        }
    }

    /// Adds a right on these fields of all rows.
    pub(crate) fn allow(&mut self, operation: Operation, fields: Fields) {
        if fields.is_all() {
            self.all.insert(operation);
            self.own.insert(operation);
        }
        let mut some = self.some.as_deref().unwrap_or_default().to_vec();
        some.push((operation, RowRule::new(RowScope::All, None).limited(fields)));
        self.set_some(some);
    }

    /// Whether any rule asks about the groups of the subject.
    pub(crate) fn need_groups(&self) -> bool {
        let mut some = self.some.iter().flat_map(|some| some.iter());
        some.any(|(_, rule)| rule.needs_team() || rule.needs_parent())
    }

    /// Whether nothing is allowed.
    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.some.is_none()
    }

    pub(super) fn new(all: Bits, own: Bits, some: Vec<Partial>) -> Self {
        let mut grants = Self {
            all,
            own,
            some: None,
        };
        grants.own.add(&grants.all);
        grants.set_some(some);
        grants
    }

    /// Takes over rules beside the bit sets, as far as these do not say it already.
    fn set_some(&mut self, some: Vec<Partial>) {
        let mut kept = Vec::<Partial>::new();
        let mut some = some;
        some.sort_unstable();
        for rules in some.chunk_by(|(a, _), (b, _)| a == b) {
            let operation = rules[0].0;
            let of = || rules.iter().map(|(_, rule)| rule);
            if of().any(RowRule::is_for_all) {
                self.all.insert(operation);
            }
            if of().any(RowRule::includes_own) {
                self.own.insert(operation);
            }
            if self.all.contains(operation) {
                continue;
            }
            let own = RowRule::new(RowScope::Own, None);
            let owns = self.own.contains(operation);
            let rules = reduced(of().cloned().collect()).into_iter();
            let rules = rules.filter(|rule| !owns || !rule.within(&own));
            kept.extend(rules.map(|rule| (operation, rule)));
        }
        self.some = (!kept.is_empty()).then(|| kept.into());
    }

    /// The rows that the operation may touch, by the widest scope that reaches them; rows under a
    /// condition count as the narrowest. `None` when it is not allowed at all.
    #[inline]
    pub fn decide(&self, operation: Operation) -> Option<RowScope> {
        if self.all.contains(operation) {
            Some(RowScope::All)
        } else if self.some.is_some() {
            self.rows(operation).map(|rows| rows.scope())
        } else if self.own.contains(operation) {
            Some(RowScope::Own)
        } else {
            None
        }
    }

    /// The rows that the operation may touch; `None` when it is not allowed at all.
    pub fn rows(&self, operation: Operation) -> Option<Rows> {
        if self.all.contains(operation) {
            return Some(Rows::All);
        }
        let mut rules: Vec<RowRule> = self.some_of(operation).cloned().collect();
        let wider = rules.iter().any(RowRule::includes_own);
        if self.own.contains(operation) && !wider {
            rules.push(RowRule::new(RowScope::Own, None));
        }
        (!rules.is_empty()).then_some(Rows::Of(rules))
    }

    /// The rules of an operation beside the bit sets.
    fn some_of(&self, operation: Operation) -> impl Iterator<Item = &RowRule> {
        let some = self.some.as_deref().unwrap_or_default();
        let from = some.partition_point(|(other, _)| *other < operation);
        let of = some[from..].iter();
        of.take_while(move |(other, _)| *other == operation)
            .map(|(_, rule)| rule)
    }

    /// All rules of an operation, those that the bit sets stand for too.
    fn rules_of(&self, operation: Operation) -> Vec<RowRule> {
        match self.rows(operation) {
            None => Vec::new(),
            Some(Rows::All) => vec![RowRule::new(RowScope::All, None)],
            Some(Rows::Of(rules)) => rules,
        }
    }

    /// The operations that have rules beside the bit sets, here or there.
    fn partial(&self, other: &Self) -> Vec<Operation> {
        let both = [&self.some, &other.some].into_iter().flatten();
        let mut operations: Vec<_> = both
            .flat_map(|some| some.iter().map(|(operation, _)| *operation))
            .collect();
        operations.sort_unstable();
        operations.dedup();
        operations
    }

    /// What both may do, on the rows that both may touch.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.all.keep(&other.all);
        both.own.keep(&other.own);
        let mut some = Vec::new();
        for operation in self.partial(other) {
            let others = other.rules_of(operation);
            for rule in self.rules_of(operation) {
                some.extend(others.iter().map(|other| (operation, rule.and(other))));
            }
        }
        both.set_some(some);
        both
    }

    /// The same rights for an actor that is no user: it owns no rows, so that rights on own rows
    /// give it nothing.
    #[must_use]
    pub fn without_own(&self) -> Self {
        let some = self.some.as_deref().unwrap_or_default().iter();
        let some = some.filter(|(_, rule)| rule.is_impersonal());
        Self::new(self.all.clone(), self.all.clone(), some.cloned().collect())
    }

    /// The rights it would give to somebody who shared their groups with everybody: what those are
    /// given who join them.
    #[must_use]
    pub(crate) fn beyond_groups(&self) -> Self {
        let some = self.some.as_deref().unwrap_or_default().iter();
        let some = some.map(|(operation, rule)| (*operation, rule.beyond_groups()));
        Self::new(self.all.clone(), self.own.clone(), some.collect())
    }

    /// What `self` may do and `other` may not, or only on fewer rows or fields.
    #[must_use]
    pub(crate) fn beyond(&self, other: &Self) -> Self {
        let (mut all, mut own) = (self.all.clone(), self.own.clone());
        all.remove(&other.all);
        own.remove(&other.own);
        let some = self.some.as_deref().unwrap_or_default().iter();
        let some = some.filter(|(operation, rule)| {
            let held = other.rules_of(*operation);
            let rows = held.iter().any(|held| rule.has_rows_of(held));
            !rows || !rule.fields().within(&reached(rule, &held))
        });
        // A right on all rows where `other` holds own rows is beyond it as a whole.
        Self::new(all, own, some.cloned().collect())
    }

    /// The first operation that is allowed here on any row.
    pub(crate) fn first(&self, catalogue: &Catalogue) -> Option<Operation> {
        self.allowed(catalogue).next()
    }

    /// The operations that are allowed here on any row, for people: the first few by name, and how
    /// many more there are; `None` when nothing is allowed.
    pub(crate) fn named(&self, catalogue: &Catalogue) -> Option<String> {
        let mut allowed = self.allowed(catalogue);
        let first = allowed.by_ref().take(MOST_NAMED);
        let names: Vec<_> = first.map(|operation| catalogue.name(operation)).collect();
        let names = names.join(", ");
        match allowed.count() {
            0 => (!names.is_empty()).then_some(names),
            more => Some(format!("{names} and {more} more")),
        }
    }

    fn allowed<'a>(&'a self, catalogue: &'a Catalogue) -> impl Iterator<Item = Operation> + 'a {
        let operations = catalogue.operations().map(|(operation, ..)| operation);
        operations.filter(move |operation| {
            self.own.contains(*operation) || self.some_of(*operation).next().is_some()
        })
    }

    /// Adds what `other` may do.
    pub(super) fn add(&mut self, other: &Self) {
        self.all.add(&other.all);
        self.own.add(&other.own);
        if self.some.is_some() || other.some.is_some() {
            let both = [&self.some, &other.some].into_iter().flatten();
            let both = both.flat_map(|some| some.iter().cloned()).collect();
            self.set_some(both);
        }
    }

    /// Takes the operations away, for every row.
    pub(super) fn remove(&mut self, denied: &Bits) {
        self.all.remove(denied);
        self.own.remove(denied);
        if let Some(some) = &self.some {
            let left = some
                .iter()
                .filter(|(operation, _)| !denied.contains(*operation));
            let left: Vec<_> = left.cloned().collect();
            self.some = (!left.is_empty()).then(|| left.into());
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let some = self
            .some
            .as_deref()
            .map_or(0, |some| 16 + size_of_val(some));
        size_of::<Self>() + self.all.bytes() + self.own.bytes() + some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> Catalogue {
        // More than 64 operations, so that the sets have more than one word.
        Catalogue::new((0..20).map(|n| format!("module_{n}"))).unwrap()
    }

    fn grants(catalogue: &Catalogue, all: &[(&str, &str)], own: &[(&str, &str)]) -> Grants {
        let set = |pairs: &[(&str, &str)]| Grants::of(catalogue, pairs.iter().copied()).all;
        Grants::new(set(all), set(own), Vec::new())
    }

    #[test]
    fn of_two_row_scopes_the_weaker_survives_the_intersection() {
        let catalogue = catalogue();
        let op = |module, action| catalogue.operation(module, action).unwrap();
        let a = grants(
            &catalogue,
            &[("module_19", "read"), ("module_1", "*")],
            &[("module_2", "read")],
        );
        let b = grants(
            &catalogue,
            &[("module_2", "*")],
            &[("module_19", "*"), ("module_3", "read")],
        );
        for both in [a.intersect(&b), b.intersect(&a)] {
            assert_eq!(both.decide(op("module_19", "read")), Some(RowScope::Own));
            assert_eq!(both.decide(op("module_2", "read")), Some(RowScope::Own));
            assert_eq!(both.decide(op("module_2", "update")), None);
            assert_eq!(both.decide(op("module_1", "read")), None);
            assert_eq!(both.decide(op("module_3", "read")), None);
        }
        assert_eq!(a.intersect(&Grants::everything(&catalogue)), a);
        assert_eq!(
            a.intersect(&Grants::none(&catalogue)),
            Grants::none(&catalogue)
        );
    }

    #[test]
    fn everything_allows_every_operation_on_every_row_and_none_allows_nothing() {
        let catalogue = catalogue();
        let (everything, none) = (Grants::everything(&catalogue), Grants::none(&catalogue));
        for (operation, ..) in catalogue.operations() {
            assert_eq!(everything.decide(operation), Some(RowScope::All));
            assert_eq!(none.decide(operation), None);
        }
    }

    #[test]
    fn an_actor_that_is_no_user_gets_nothing_from_rights_on_own_rows() {
        let catalogue = catalogue();
        let key = grants(&catalogue, &[("module_1", "read")], &[("module_1", "*")]).without_own();
        assert_eq!(key, grants(&catalogue, &[("module_1", "read")], &[]));
    }

    #[test]
    fn what_goes_beyond_other_rights_is_found_by_operation_and_by_row_scope() {
        let catalogue = catalogue();
        let holder = grants(&catalogue, &[("module_1", "*")], &[("module_2", "update")]);
        let first = |wanted: Grants| {
            wanted
                .beyond(&holder)
                .first(&catalogue)
                .map(|operation| catalogue.name(operation))
        };
        assert_eq!(first(holder.clone()), None);
        assert_eq!(
            first(grants(&catalogue, &[], &[("module_1", "read")])),
            None
        );
        assert_eq!(
            first(grants(&catalogue, &[("module_2", "update")], &[])).unwrap(),
            "module_2.update"
        );
        assert_eq!(
            first(grants(&catalogue, &[], &[("module_3", "read")])).unwrap(),
            "module_3.read"
        );
    }

    #[test]
    fn an_operation_of_a_larger_catalogue_is_not_allowed() {
        let small = Grants::everything(&Catalogue::new(["contacts"]).unwrap());
        let last = catalogue().operation("module_19", "delete").unwrap();
        assert_eq!(small.decide(last), None);
    }

    #[test]
    fn rules_beside_the_bit_sets_unite_intersect_and_compare() {
        let catalogue = catalogue();
        let read = catalogue.operation("module_1", "read").unwrap();
        let with = |scope: RowScope, condition: Option<&str>| {
            let none = Bits::none(&catalogue);
            let some = vec![(read, RowRule::new(scope, condition))];
            Grants::new(none.clone(), none, some)
        };
        let team = with(RowScope::Team, None);
        let open = with(RowScope::All, Some(r#"{"state":"open"}"#));
        assert_eq!(team.decide(read), Some(RowScope::Team));
        assert_eq!(open.decide(read), Some(RowScope::Own));
        let mut union = team.clone();
        union.add(&open);
        let Some(Rows::Of(rules)) = union.rows(read) else {
            panic!("{union:?}")
        };
        assert_eq!(rules.len(), 2);
        let both = team.intersect(&open);
        assert_eq!(both.beyond(&team).first(&catalogue), None);
        assert_eq!(both.beyond(&open).first(&catalogue), None);
        assert_eq!(team.beyond(&open).first(&catalogue), Some(read));
        assert_eq!(open.beyond(&team).first(&catalogue), Some(read));
        assert_eq!(team.beyond(&union).first(&catalogue), None);
        let all = grants(&catalogue, &[("module_1", "read")], &[]);
        assert_eq!(union.beyond(&all).first(&catalogue), None);
        assert_eq!(team.intersect(&all), team);
        assert_eq!(team.beyond_groups(), all);
        assert_eq!(team.without_own(), Grants::none(&catalogue));
        assert_eq!(open.without_own(), open);
        let own = grants(&catalogue, &[], &[("module_1", "read")]);
        assert_eq!(own.beyond(&team).first(&catalogue), None);
        assert_eq!(team.intersect(&own), own);
    }
}
