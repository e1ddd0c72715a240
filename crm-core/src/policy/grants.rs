//! What one subject may do: two bit sets over the catalogue's operations. Owns the comparison,
//! intersection and union of such rights; knows nothing of roles.

use super::catalogue::{Catalogue, Operation};
use super::permission::{RowScope, WILDCARD};

/// A set of operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bits(Box<[u64]>);

impl Bits {
    pub(super) fn none(catalogue: &Catalogue) -> Self {
        Self(vec![0; catalogue.len().div_ceil(64)].into())
    }

    pub(super) fn insert(&mut self, operation: Operation) {
        // An operation always stems from the catalogue that sized the set.
        if let Some(word) = self.0.get_mut(operation.index() / 64) {
            *word |= 1 << (operation.index() % 64);
        }
    }

    fn contains(&self, operation: Operation) -> bool {
        let word = self.0.get(operation.index() / 64).copied().unwrap_or(0);
        word >> (operation.index() % 64) & 1 == 1
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
        size_of_val(&*self.0)
    }
}

/// The rights of one subject in one tenant; asking them costs two bit tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    /// Operations on every row.
    all: Bits,
    /// Operations on own rows at least: always a superset of `all`.
    own: Bits,
}

impl Grants {
    /// No rights at all.
    pub fn none(catalogue: &Catalogue) -> Self {
        Self {
            all: Bits::none(catalogue),
            own: Bits::none(catalogue),
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
        }
    }

    pub(super) fn new(all: Bits, mut own: Bits) -> Self {
        own.add(&all);
        Self { all, own }
    }

    /// The rows that the operation may touch; `None` when it is not allowed at all.
    #[inline]
    pub fn decide(&self, operation: Operation) -> Option<RowScope> {
        if self.all.contains(operation) {
            Some(RowScope::All)
        } else if self.own.contains(operation) {
            Some(RowScope::Own)
        } else {
            None
        }
    }

    /// What both may do; of two row scopes the weaker.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.all.keep(&other.all);
        both.own.keep(&other.own);
        both
    }

    /// The same rights for an actor that is no user: it owns no rows, so that rights on own rows
    /// give it nothing.
    #[must_use]
    pub fn without_own(&self) -> Self {
        Self {
            all: self.all.clone(),
            own: self.all.clone(),
        }
    }

    /// What `self` may do and `other` may not, or only on its own rows.
    #[must_use]
    pub(crate) fn beyond(&self, other: &Self) -> Self {
        let mut rest = self.clone();
        rest.all.remove(&other.all);
        rest.own.remove(&other.own);
        // A right on all rows where `other` holds own rows is beyond it as a whole.
        rest.own.add(&rest.all);
        rest
    }

    /// The first operation that is allowed here on any row.
    pub(crate) fn first(&self, catalogue: &Catalogue) -> Option<Operation> {
        let mut operations = catalogue.operations().map(|(operation, ..)| operation);
        operations.find(|operation| self.own.contains(*operation))
    }

    /// Adds what `other` may do.
    pub(super) fn add(&mut self, other: &Self) {
        self.all.add(&other.all);
        self.own.add(&other.own);
    }

    /// Takes the operations away, for every row.
    pub(super) fn remove(&mut self, denied: &Bits) {
        self.all.remove(denied);
        self.own.remove(denied);
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.all.bytes() + self.own.bytes()
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
        Grants::new(set(all), set(own))
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
}
