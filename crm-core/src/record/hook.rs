//! Hooks: the application's own code inside the transaction of a write.
//!
//! All hooks on one kind of change of one module are one chain around the write itself. Each gets
//! the open transaction in a [`HookContext`] and calls the [`Next`] one: what it does before that
//! call happens before references and unique values are checked and anything is written, what it
//! does after it happens after row, audit and event are written and before the commit. Every door
//! runs them: single writes, upserts, batches, bulk writes, imports, plugins. A refusal, an error
//! or a panic takes the whole transaction back.

mod context;
mod register;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;

pub use context::HookContext;
pub(super) use context::{Step, run};

use crate::error::{Error, Result};
use crate::event::ChangeKind;
use crate::module::CompiledModule;
use crate::registry::Registry;

/// Whether a hook runs before the row is written, or after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// It may change the record, or refuse the write.
    Before,
    /// It may write other records, or refuse the write still.
    After,
}

/// One hook: it does its part and calls the next.
type Link = Arc<
    dyn for<'a, 't> Fn(&'a mut HookContext<'t>, Next<'a>) -> BoxFuture<'a, Result<()>>
        + Send
        + Sync,
>;

/// The rest of the chain: the hooks behind this one, and the write itself.
pub struct Next<'a>(&'a [Link]);

impl<'a> Next<'a> {
    /// Runs the rest. A hook that returns without it must return an error.
    ///
    /// # Errors
    /// Those of the write, and refusals of the hooks behind this one.
    pub fn run(self, cx: &'a mut HookContext<'_>) -> BoxFuture<'a, Result<()>> {
        match self.0.split_first() {
            Some((first, rest)) => first(cx, Next(rest)),
            None => Box::pin(cx.write()),
        }
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Next({} hooks)", self.0.len())
    }
}

/// The hooks of an application, by module.
#[derive(Default, Clone)]
pub(crate) struct Hooks(HashMap<String, HashMap<ChangeKind, Vec<Link>>>);

impl Hooks {
    /// The chain around a change.
    pub(crate) fn of(&self, module: &CompiledModule, kind: ChangeKind) -> &[Link] {
        if self.0.is_empty() {
            return &[];
        }
        let chains = self.0.get(module.name().as_str());
        let chain = chains.and_then(|chains| chains.get(&kind));
        chain.map_or(&[], Vec::as_slice)
    }

    /// Whether any change of this module has hooks.
    pub(super) fn watch(&self, module: &CompiledModule) -> bool {
        self.0.contains_key(module.name().as_str())
    }

    /// Refuses hooks on modules that are not declared.
    pub(crate) fn check(&self, registry: &Registry) -> Result<()> {
        match self.0.keys().find(|name| registry.get(name).is_none()) {
            None => Ok(()),
            Some(name) => Err(Error::Configuration(
                format!("there is a hook on the module {name:?}, which is not declared").into(),
            )),
        }
    }

    fn chain(&mut self, module: &str, kind: ChangeKind) -> &mut Vec<Link> {
        let chains = self.0.entry(module.to_owned()).or_default();
        chains.entry(kind).or_default()
    }
}
