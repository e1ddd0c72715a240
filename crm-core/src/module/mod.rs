//! Modules: their declaration, its checks, and where it comes from.

mod field_type;
mod ident;
mod spec;

pub use ident::{Ident, InvalidIdent};
pub use spec::{FieldSpec, FieldType, ModuleSpec};
