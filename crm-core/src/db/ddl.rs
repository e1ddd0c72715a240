//! Tables of modules.
use super::Dialect;
use crate::error::{Error, Result};
use crate::module::ModuleSpec;

/// One statement of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The statement.
    pub sql: String,
    /// What it does.
    pub summary: String,
    /// Whether it destroys data.
    pub destructive: bool,
}

pub(crate) fn plan(
    _old: Option<&ModuleSpec>,
    _new: Option<&ModuleSpec>,
    _dialect: Dialect,
) -> Result<Vec<Step>> {
    Err(Error::internal("not there yet"))
}
