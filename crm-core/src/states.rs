//! What a scope sees of the states of records that audit entries and events hold. It is never more
//! than the record itself would show: without the right to read the module they show nothing.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::module::{CompiledModule, is_module_name};
use crate::scope::{Read, Scope};

/// The one kind of thing in the audit log that is neither an object of permissions nor a table.
const SESSIONS: &str = "sessions";

/// How much of such a state is seen.
pub(crate) enum States {
    /// All of it.
    Whole,
    /// The fields that may be read in every record.
    Part(Arc<CompiledModule>),
    /// Nothing.
    Hidden,
}

impl Scope {
    /// What is seen of the states of an entity: a module, or a thing of the administration.
    ///
    /// What a module that is gone hid from whom nobody knows any more: its states are for those who
    /// read all of every module.
    pub(crate) fn states(&self, entity: &str) -> States {
        if self.module(entity).is_some() {
            let read = self.permit::<Read>(entity);
            return match read.as_ref().map(|permit| permit.module()) {
                Ok(Ok(module)) if module.is_masked() => States::Part(module.clone()),
                Ok(Ok(_)) => States::Whole,
                _ => States::Hidden,
            };
        }
        let administration = !is_module_name(entity) || entity == SESSIONS;
        match administration || self.reads_everything() {
            true => States::Whole,
            false => States::Hidden,
        }
    }

    fn reads_everything(&self) -> bool {
        self.modules().all(|module| {
            let read = self.permit::<Read>(module.name().as_str());
            read.is_ok_and(|permit| permit.rows().is_all())
        })
    }
}

impl States {
    /// Leaves out of a state what is not seen.
    pub(crate) fn cut(&self, state: &mut Option<Json>) {
        match self {
            Self::Whole => {}
            Self::Part(module) => state.iter_mut().for_each(|state| module.cut(state)),
            Self::Hidden => *state = None,
        }
    }
}
