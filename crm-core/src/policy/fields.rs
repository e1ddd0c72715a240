//! The fields of a record that a right reaches: all of them, some, or all but some. Owns the
//! algebra of such lists; whether the names exist is the module's question.

use std::fmt;
use std::sync::Arc;

/// A set of a record's fields, by name.
///
/// A record's `id`, `version` and times belong to every record that is seen; lists are about the
/// declared fields, the computed ones and `owner_id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Fields(Option<Arc<List>>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct List {
    /// Whether the names are those left out.
    except: bool,
    /// Ordered and distinct; never none of those left out.
    names: Vec<Box<str>>,
}

impl Fields {
    /// Every field, also those that are declared later.
    pub const ALL: Self = Self(None);

    /// These fields and no others.
    pub fn only<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        Self::list(false, names)
    }

    /// Every field but these, also those that are declared later.
    pub fn except<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        Self::list(true, names)
    }

    fn list<S: AsRef<str>>(except: bool, names: impl IntoIterator<Item = S>) -> Self {
        let names = names.into_iter().map(|name| Box::from(name.as_ref()));
        let mut names: Vec<Box<str>> = names.collect();
        names.sort_unstable();
        names.dedup();
        if except && names.is_empty() {
            return Self::ALL;
        }
        Self(Some(Arc::new(List { except, names })))
    }

    /// Whether these are all fields.
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the field called `name` is one of these.
    pub fn include(&self, name: &str) -> bool {
        match self.0.as_deref() {
            None => true,
            Some(list) => list.has(name) != list.except,
        }
    }

    /// The names of a list of the only fields.
    pub fn listed(&self) -> Option<impl Iterator<Item = &str>> {
        let list = self.0.as_deref().filter(|list| !list.except)?;
        Some(list.names.iter().map(AsRef::as_ref))
    }

    /// The names of a list of those left out.
    pub fn left_out(&self) -> Option<impl Iterator<Item = &str>> {
        let list = self.0.as_deref().filter(|list| list.except)?;
        Some(list.names.iter().map(AsRef::as_ref))
    }

    /// The fields of both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let (Some(one), Some(two)) = (self.0.as_deref(), other.0.as_deref()) else {
            return if self.is_all() { other } else { self }.clone();
        };
        match (one.except, two.except) {
            (false, _) => Self::only(one.names.iter().filter(|name| other.include(name))),
            (_, false) => Self::only(two.names.iter().filter(|name| self.include(name))),
            (true, true) => Self::except(one.names.iter().chain(&two.names)),
        }
    }

    /// The fields of either.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let (Some(one), Some(two)) = (self.0.as_deref(), other.0.as_deref()) else {
            return Self::ALL;
        };
        match (one.except, two.except) {
            (true, _) => Self::except(one.names.iter().filter(|name| !other.include(name))),
            (_, true) => Self::except(two.names.iter().filter(|name| !self.include(name))),
            (false, false) => Self::only(one.names.iter().chain(&two.names)),
        }
    }

    /// Whether each of these is one of the others, whatever fields there are.
    pub fn within(&self, other: &Self) -> bool {
        match (self.0.as_deref(), other.0.as_deref()) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(one), Some(two)) => match (one.except, two.except) {
                (false, _) => one.names.iter().all(|name| other.include(name)),
                (true, true) => two.names.iter().all(|name| one.has(name)),
                (true, false) => false,
            },
        }
    }

    /// The form in the database: names separated by commas, behind a `!` those left out.
    pub(crate) fn stored(&self) -> String {
        match self.0.as_deref() {
            None => String::new(),
            Some(list) => {
                let mark = if list.except { "!" } else { "" };
                format!("{mark}{}", list.names.join(","))
            }
        }
    }

    /// The list that this form stands for.
    pub(super) fn read(text: &str) -> Self {
        match (text, text.strip_prefix('!')) {
            ("", _) => Self::ALL,
            (_, Some(names)) => Self::except(names.split(',')),
            (names, None) => Self::only(names.split(',')),
        }
    }
}

impl List {
    fn has(&self, name: &str) -> bool {
        let found = self.names.binary_search_by(|one| (**one).cmp(name));
        found.is_ok()
    }
}

/// As it stands behind a permission: ` fields email,name` or ` except owner_id`.
impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_deref() {
            None => Ok(()),
            Some(list) => {
                let word = if list.except { "except" } else { "fields" };
                write!(f, " {word} {}", list.names.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 4] = ["a", "b", "c", "d"];

    fn lists() -> impl Strategy<Value = Fields> {
        let names = prop::sample::subsequence(NAMES.to_vec(), 0..NAMES.len());
        (any::<bool>(), names).prop_map(|(except, names)| match except {
            true => Fields::except(names),
            false => Fields::only(names),
        })
    }

    proptest! {
        #[test]
        fn lists_unite_intersect_and_compare_as_sets(one in lists(), two in lists()) {
            let (both, either) = (one.and(&two), one.or(&two));
            // `z` stands for every field that no list names.
            for name in NAMES.into_iter().chain(["z"]) {
                let (first, second) = (one.include(name), two.include(name));
                prop_assert_eq!(both.include(name), first && second);
                prop_assert_eq!(either.include(name), first || second);
            }
            let all = NAMES.into_iter().chain(["z"]);
            let within = all.into_iter().all(|name| !one.include(name) || two.include(name));
            // Names of all fields that there are still leave out those to come.
            prop_assert_eq!(one.within(&two), within);
            prop_assert!(both.within(&one) && one.within(&either));
        }

        #[test]
        fn a_list_that_names_a_field_is_stored_and_read_back(list in lists()) {
            prop_assume!(list != Fields::only([""; 0]));
            prop_assert_eq!(Fields::read(&list.stored()), list);
        }
    }

    #[test]
    fn a_list_says_what_it_is() {
        assert_eq!(
            Fields::only(["name", "email"]).to_string(),
            " fields email,name"
        );
        assert_eq!(Fields::except(["owner_id"]).to_string(), " except owner_id");
        assert_eq!(Fields::except([""; 0]), Fields::ALL);
        assert_eq!(Fields::ALL.to_string(), "");
    }
}
