//! Everything a permission can name: the business modules and the administration of the tenant,
//! each with its actions. Owns the numbering that compiled policies index by.

use std::collections::HashMap;

use super::permission::{Permission, WILDCARD};
use crate::error::{Error, Result};

/// The objects of a tenant's administration; no module may take one of their names.
const ADMINISTRATION: [&str; 12] = [
    "members",
    "roles",
    "groups",
    "access",
    "api_keys",
    "plugins",
    "plugin_runs",
    "audit",
    "jobs",
    "modules",
    "impersonations",
    "identity_providers",
];

/// Stands in a rule for all business modules; no module may be called so.
pub(super) const RECORDS: &str = "records";

/// The actions of every object.
pub(crate) const ACTIONS: [&str; 5] = ["read", "create", "update", "delete", "purge"];

/// An action on an object, as a number that only its [`Catalogue`] understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Operation(u16);

impl Operation {
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The closed list of objects and actions that permissions are about.
#[derive(Debug, Clone)]
pub struct Catalogue {
    /// Administration first, then the modules in the order given.
    objects: Vec<Box<str>>,
    index: HashMap<Box<str>, u16>,
    actions: &'static [&'static str],
}

impl Catalogue {
    /// The catalogue of an application with these business modules.
    ///
    /// # Errors
    /// [`Error::Configuration`] when a module takes a reserved name or the name of another.
    pub fn new<S: AsRef<str>>(modules: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut catalogue = Self {
            objects: Vec::new(),
            index: HashMap::new(),
            actions: &ACTIONS,
        };
        for name in ADMINISTRATION {
            catalogue.add(name)?;
        }
        for module in modules {
            let name = module.as_ref();
            if name == RECORDS || name == WILDCARD || ADMINISTRATION.contains(&name) {
                return Err(Error::Configuration(
                    format!("no module may be called {name:?}; permissions reserve that name")
                        .into(),
                ));
            }
            catalogue.add(name)?;
        }
        Ok(catalogue)
    }

    /// This catalogue with further modules behind its own, whose operations keep their numbers.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub(crate) fn with<S: AsRef<str>>(&self, modules: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut catalogue = self.clone();
        for name in modules {
            catalogue.add(name.as_ref())?;
        }
        Ok(catalogue)
    }

    fn add(&mut self, name: &str) -> Result<()> {
        let full = (self.objects.len() + 1) * self.actions.len() > usize::from(u16::MAX);
        let number = u16::try_from(self.objects.len())
            .ok()
            .filter(|_| !full)
            .ok_or_else(|| {
                Error::Configuration(
                    "there are too many modules to number their permissions".into(),
                )
            })?;
        if self.index.insert(name.into(), number).is_some() {
            return Err(Error::Configuration(
                format!("two modules are called {name:?}; rename one").into(),
            ));
        }
        self.objects.push(name.into());
        Ok(())
    }

    /// The operation `module.action`, unless there is none of that name.
    pub fn operation(&self, module: &str, action: &str) -> Option<Operation> {
        let object = self.index.get(module)?;
        let action = self.actions.iter().position(|name| *name == action)?;
        Some(self.number(usize::from(*object), action))
    }

    /// The name of an operation: `contacts.update`.
    pub fn name(&self, operation: Operation) -> String {
        let (object, action) = self.parts(operation);
        format!("{object}.{action}")
    }

    /// Every operation with its object and action.
    pub fn operations(&self) -> impl Iterator<Item = (Operation, &str, &str)> {
        (0..self.len()).map(|index| {
            let operation = self.number(index / self.actions.len(), index % self.actions.len());
            let (object, action) = self.parts(operation);
            (operation, object, action)
        })
    }

    /// The names of the business modules, in the order given.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.objects[ADMINISTRATION.len()..]
            .iter()
            .map(AsRef::as_ref)
    }

    /// The operations that a pair of segments stands for; none when a name is unknown.
    pub(super) fn expand(&self, module: &str, action: &str) -> impl Iterator<Item = Operation> {
        let objects = match module {
            WILDCARD => 0..self.objects.len(),
            RECORDS => ADMINISTRATION.len()..self.objects.len(),
            name => match self.index.get(name) {
                Some(object) => usize::from(*object)..usize::from(*object) + 1,
                None => 0..0,
            },
        };
        let actions = match self.actions.iter().position(|name| *name == action) {
            Some(index) => index..index + 1,
            None if action == WILDCARD => 0..self.actions.len(),
            None => 0..0,
        };
        objects.flat_map(move |object| {
            actions
                .clone()
                .map(move |action| self.number(object, action))
        })
    }

    /// Whether the permission speaks of the operation `module.action`.
    pub(crate) fn includes(&self, permission: &Permission, module: &str, action: &str) -> bool {
        let operation = self.operation(module, action);
        let mut all = self.expand(permission.module(), permission.action());
        operation.is_some_and(|operation| all.any(|one| one == operation))
    }

    /// Whether the permission names things that exist.
    ///
    /// A stored rule may outlive its module and then means nothing; a new one is refused.
    pub fn knows(&self, permission: &Permission) -> bool {
        let module = permission.module();
        let action = permission.action();
        (module == WILDCARD || module == RECORDS || self.index.contains_key(module))
            && (action == WILDCARD || self.actions.contains(&action))
    }

    /// Whether this names an object of the tenant's administration.
    pub(crate) fn administers(&self, name: &str) -> bool {
        ADMINISTRATION.contains(&name)
    }

    /// How many operations there are.
    pub(super) fn len(&self) -> usize {
        self.objects.len() * self.actions.len()
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "`add` bounds the product by u16::MAX"
    )]
    fn number(&self, object: usize, action: usize) -> Operation {
        Operation((object * self.actions.len() + action) as u16)
    }

    fn parts(&self, operation: Operation) -> (&str, &str) {
        let (object, action) = (
            operation.index() / self.actions.len(),
            operation.index() % self.actions.len(),
        );
        (&self.objects[object], self.actions[action])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_found_by_its_name_again() {
        let catalogue = Catalogue::new(["contacts", "deals"]).unwrap();
        let all: Vec<_> = catalogue.operations().collect();
        assert_eq!(all.len(), (ADMINISTRATION.len() + 2) * ACTIONS.len());
        for (operation, object, action) in all {
            assert_eq!(catalogue.operation(object, action), Some(operation));
            assert_eq!(catalogue.name(operation), format!("{object}.{action}"));
        }
        assert_eq!(catalogue.operation("contacts", "approve"), None);
        assert_eq!(catalogue.operation("contact", "read"), None);
        assert_eq!(catalogue.operation("records", "read"), None);
        assert_eq!(catalogue.operation("*", "*"), None);
    }

    #[test]
    fn a_module_may_not_take_a_reserved_name_or_anothers() {
        for name in [
            "records", "members", "roles", "api_keys", "plugins", "audit", "*",
        ] {
            let refused = Catalogue::new([name]).unwrap_err();
            assert!(matches!(refused, Error::Configuration(_)), "{name}");
        }
        assert!(Catalogue::new(["deals", "deals"]).is_err());
    }

    #[test]
    fn records_stands_for_the_business_modules_and_the_star_for_everything() {
        let catalogue = Catalogue::new(["contacts", "deals"]).unwrap();
        let names = |module, action| -> Vec<String> {
            catalogue
                .expand(module, action)
                .map(|operation| catalogue.name(operation))
                .collect()
        };
        assert_eq!(names("records", "read"), ["contacts.read", "deals.read"]);
        assert_eq!(names("*", "read").len(), ADMINISTRATION.len() + 2);
        assert_eq!(names("*", "*").len(), catalogue.len());
        assert_eq!(names("deals", "*").len(), ACTIONS.len());
        assert!(names("gone", "*").is_empty());
        assert!(names("*", "approve").is_empty());
    }
}
