//! All modules of an application, checked together.
//!
//! It refuses references to modules that are not there, and circles of references: a table must be
//! there before another can refer to it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::clock::Clock;
use crate::error::{Error, FieldError, Result};
use crate::module::{CompiledModule, FieldType, Ident, ModuleSpec, OnDelete};

/// Most modules of one application.
const MAX_MODULES: usize = 1_000;

/// The modules of an application. It never changes: a new declaration makes a new registry.
#[derive(Debug)]
pub struct Registry {
    modules: Vec<Arc<CompiledModule>>,
    positions: HashMap<Ident, usize>,
    dependency_order: Vec<usize>,
    dependents: HashMap<Ident, Vec<Dependent>>,
    version: String,
    clock: Clock,
}

/// A field by which records of a module refer to those of another.
#[derive(Debug, Clone)]
pub(crate) struct Dependent {
    pub(crate) module: Arc<CompiledModule>,
    /// The field's position.
    pub(crate) field: usize,
    pub(crate) on_delete: OnDelete,
    /// Whether a foreign key of the database refuses what the rule forbids.
    pub(crate) has_key: bool,
}

impl Dependent {
    /// Whether it refers to one record of one module: nothing but the record's own row tells.
    pub(crate) fn is_single(&self) -> bool {
        let kind = &self.module.fields()[self.field].kind;
        matches!(kind, FieldType::Reference { .. })
    }
}

impl Registry {
    /// Checks each declaration and all of them together.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every problem, each pointing at its module first
    /// (`/contacts/fields/3/max`).
    pub fn new(specs: Vec<ModuleSpec>) -> Result<Self> {
        Self::told_by(specs, &Clock::system())
    }

    /// As [`new`](Self::new), with this clock to tell `now` and `today` in conditions.
    pub(crate) fn told_by(specs: Vec<ModuleSpec>, clock: &Clock) -> Result<Self> {
        let mut problems = names(&specs);
        for spec in &specs {
            match crate::module::check(spec) {
                Err(Error::Invalid(found)) => {
                    let module = format!("/{}", spec.name);
                    problems.extend(found.into_iter().map(|problem| problem.under(&module)));
                }
                result => result?,
            }
            problems.extend(unknown_targets(spec, &specs));
            problems.extend(crate::module::machine::log_problems(spec, &specs));
            problems.extend(crate::module::copied_problems(spec, &specs));
            problems.extend(crate::module::on_delete::problems(spec, &specs));
        }
        if !problems.is_empty() {
            return Err(Error::Invalid(problems));
        }
        let dependency_order = dependency_order(&specs)?;
        let version = version(&specs)?;
        let compile = |(index, spec)| {
            let module = CompiledModule::new(spec, index)?;
            Ok(Arc::new(module.told_by(clock)))
        };
        let modules: Vec<_> = (0_u16..).zip(specs).map(compile).collect::<Result<_>>()?;
        let positions = modules
            .iter()
            .enumerate()
            .map(|(at, module)| (module.name().clone(), at))
            .collect();
        Ok(Self {
            positions,
            dependency_order,
            dependents: dependents(&modules),
            modules,
            version,
            clock: clock.clone(),
        })
    }

    /// What tells `now` and `today`.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The module called `name` (plural).
    pub fn get(&self, name: &str) -> Option<&Arc<CompiledModule>> {
        self.positions
            .get(name)
            .map(|position| &self.modules[*position])
    }

    /// The module at `index`.
    pub fn at(&self, index: u16) -> Option<&Arc<CompiledModule>> {
        self.modules.get(usize::from(index))
    }

    /// The modules in the order of their declaration, which is that of their indexes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<CompiledModule>> {
        self.modules.iter()
    }

    /// The modules in an order in which each comes after those it refers to.
    pub fn by_dependency(
        &self,
    ) -> impl ExactSizeIterator<Item = &Arc<CompiledModule>> + DoubleEndedIterator {
        self.dependency_order
            .iter()
            .map(|position| &self.modules[*position])
    }

    /// The fields that refer to the module called `name`.
    pub(crate) fn dependents(&self, name: &Ident) -> &[Dependent] {
        self.dependents.get(name).map_or(&[], Vec::as_slice)
    }

    /// How many modules there are.
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// A digest of all declarations: equal declarations, equal version.
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// Who refers to whom, by the name of the module referred to.
fn dependents(modules: &[Arc<CompiledModule>]) -> HashMap<Ident, Vec<Dependent>> {
    let mut dependents: HashMap<Ident, Vec<Dependent>> = HashMap::new();
    for module in modules {
        for (field, spec) in module.fields().iter().enumerate() {
            let Some(on_delete) = spec.kind.on_delete() else {
                continue;
            };
            for target in spec.kind.targets() {
                dependents
                    .entry(target.clone())
                    .or_default()
                    .push(Dependent {
                        module: module.clone(),
                        field,
                        on_delete,
                        has_key: spec.kind.has_key(),
                    });
            }
        }
    }
    dependents
}

/// Names that two modules share.
fn names(specs: &[ModuleSpec]) -> Vec<FieldError> {
    let mut problems = vec![];
    if specs.len() > MAX_MODULES {
        let message = format!("an application has at most {MAX_MODULES} modules");
        problems.push(FieldError {
            pointer: String::new(),
            code: "too_many",
            message,
        });
    }
    let (mut plurals, mut singulars) = (HashSet::new(), HashSet::new());
    for spec in specs {
        if !plurals.insert(&spec.name) {
            let message = "two modules have this name; rename or remove one";
            problems.push(FieldError::new(spec.name.as_str(), "duplicate", message));
        }
        if !singulars.insert(&spec.singular) {
            let pointer = format!("/{}/singular", spec.name);
            let message = format!(
                "`{}` is the singular of another module; events need it distinct",
                spec.singular
            );
            problems.push(FieldError {
                pointer,
                code: "duplicate",
                message,
            });
        }
    }
    problems
}

/// The modules whose tables that of `spec` refers to, itself left out.
fn targets(spec: &ModuleSpec) -> impl Iterator<Item = &Ident> {
    let keyed = spec.fields.iter().filter(|field| field.kind.has_key());
    let targets = keyed.flat_map(|field| field.kind.targets());
    targets.filter(|target| **target != spec.name)
}

fn unknown_targets(spec: &ModuleSpec, specs: &[ModuleSpec]) -> Vec<FieldError> {
    let mut problems = Vec::new();
    for (position, field) in spec.fields.iter().enumerate() {
        for (at, target) in field.kind.targets().iter().enumerate() {
            if *target == spec.name || specs.iter().any(|other| other.name == *target) {
                continue;
            }
            let place = match field.kind {
                FieldType::AnyReference { .. } => format!("modules/{at}"),
                _ => "module".to_owned(),
            };
            problems.push(FieldError {
                pointer: format!("/{}/fields/{position}/{place}", spec.name),
                code: "unknown_module",
                message: format!("there is no module `{target}`; declare it or correct the name"),
            });
        }
    }
    problems
}

/// Positions such that each module comes after those it refers to, otherwise as declared.
fn dependency_order(specs: &[ModuleSpec]) -> Result<Vec<usize>> {
    let mut order = Vec::with_capacity(specs.len());
    let mut placed: HashSet<&Ident> = HashSet::new();
    while order.len() < specs.len() {
        let next = specs.iter().position(|spec| {
            !placed.contains(&spec.name) && targets(spec).all(|target| placed.contains(target))
        });
        let Some(next) = next else {
            return Err(circle(specs, &placed));
        };
        placed.insert(&specs[next].name);
        order.push(next);
    }
    Ok(order)
}

/// Every module left over refers to another one left over: following them ends in a circle.
fn circle(specs: &[ModuleSpec], placed: &HashSet<&Ident>) -> Error {
    let left = |name: &Ident| !placed.contains(name);
    let mut path: Vec<&Ident> = vec![];
    let mut at = specs.iter().find(|spec| left(&spec.name));
    while let Some(spec) = at {
        if let Some(start) = path.iter().position(|name| **name == spec.name) {
            path.drain(..start);
            path.push(&spec.name);
            break;
        }
        path.push(&spec.name);
        let next = targets(spec).find(|target| left(target));
        at = next.and_then(|target| specs.iter().find(|spec| spec.name == *target));
    }
    let path: Vec<_> = path.into_iter().map(Ident::as_str).collect();
    let message = format!(
        "modules refer to each other in a circle: {}; leave out one of these references",
        path.join(" → ")
    );
    Error::Invalid(vec![FieldError {
        pointer: String::new(),
        code: "circular_reference",
        message,
    }])
}

fn version(specs: &[ModuleSpec]) -> Result<String> {
    let text = serde_json::to_vec(specs).map_err(Error::internal)?;
    Ok(hex::encode(&Sha256::digest(text)[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, references: &[&str]) -> ModuleSpec {
        let mut toml = format!("name = '{name}'\nsingular = 'a_{name}'\n");
        toml += "[[fields]]\nname = 'title'\ntype = 'text'\n";
        for target in references {
            toml += &format!(
                "[[fields]]\nname = '{target}_id'\ntype = 'reference'\nmodule = '{target}'\n"
            );
        }
        ModuleSpec::from_toml(&toml).unwrap()
    }

    fn problems(specs: Vec<ModuleSpec>) -> Vec<FieldError> {
        match Registry::new(specs) {
            Err(Error::Invalid(problems)) => problems,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn modules_are_found_by_name_and_index_and_ordered_by_dependency() {
        let specs = vec![
            module("c", &["b", "c"]),
            module("b", &["a"]),
            module("a", &[]),
        ];
        let registry = Registry::new(specs).unwrap();
        assert_eq!(registry.get("b").unwrap().index(), 1);
        assert_eq!(registry.at(2).unwrap().name().as_str(), "a");
        assert!(registry.get("d").is_none() && registry.at(3).is_none());
        let order: Vec<_> = registry
            .by_dependency()
            .map(|m| m.name().as_str())
            .collect();
        assert_eq!(order, ["a", "b", "c"]);
        assert_eq!((registry.len(), registry.is_empty()), (3, false));
    }

    #[test]
    fn every_problem_is_reported_at_once_under_its_module() {
        let found = problems(vec![
            module("a", &["x"]),
            module("auth", &["y"]),
            module("a", &[]),
        ]);
        let pointers: Vec<_> = found
            .iter()
            .map(|problem| problem.pointer.as_str())
            .collect();
        assert_eq!(
            pointers,
            [
                "/a",
                "/a/singular",
                "/a/fields/1/module",
                "/auth/name",
                "/auth/fields/1/module"
            ]
        );
        assert_eq!(
            found[2].message,
            "there is no module `x`; declare it or correct the name"
        );
    }

    #[test]
    fn a_circle_of_references_is_refused_and_named() {
        let found = problems(vec![
            module("d", &["a"]),
            module("a", &["b"]),
            module("b", &["c"]),
            module("c", &["a"]),
        ]);
        assert!(
            found[0].message.contains("a → b → c → a;"),
            "{}",
            found[0].message
        );
    }

    #[test]
    fn the_version_is_that_of_the_declarations() {
        let version = |specs| Registry::new(specs).unwrap().version().to_owned();
        let one = version(vec![module("a", &[])]);
        assert_eq!(one.len(), 16);
        assert_eq!(one, version(vec![module("a", &[])]));
        assert_ne!(one, version(vec![module("a", &["a"])]));
    }
}
