//! Modules: their declaration, its checks, and where it comes from.

#[cfg(test)]
pub(crate) mod arbitrary;
mod bounds;
mod check;
mod compiled;
mod computed;
mod copied;
mod currency;
mod defaults;
mod email;
mod field_type;
mod ident;
pub mod input;
pub(crate) mod machine;
mod money;
pub(crate) mod on_delete;
mod rule;
mod spec;
pub(crate) mod stored;
mod suggestion;
mod typed;
pub(crate) mod vector;
pub(crate) mod words;
mod zoned;

pub use bounds::Bounds;
#[doc(hidden)]
pub use bounds::with_bounds;
pub(crate) use check::{CUSTOM, DELETED_AT};
pub use check::{MAX_FIELDS, MAX_INDEXES, QUERY_WORDS, SYSTEM_FIELDS, check, is_module_name};
pub use compiled::CompiledModule;
pub(crate) use computed::condition_problems;
pub(crate) use copied::{Copied, misfit, problems as copied_problems, source as copied_from};
pub use defaults::default_modules;
pub use ident::{Ident, InvalidIdent};
pub use machine::{Back, LogSpec, MachineSpec, Need};
pub use money::MoneyCurrency;
pub use on_delete::OnDelete;
pub use rule::Refusal;
pub(crate) use rule::{has_nul, trim};
pub use spec::{FieldSpec, FieldType, Formula, ModuleSpec, SearchMode};
pub use typed::Module;
pub use vector::MAX_DIMENSIONS;
pub use words::{FIELD_FLAGS, FIELD_TYPES, FieldWord};
