//! Who changes a state, and who may go against an order.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::module::{CompiledModule, Ident};
use crate::policy::{ACTIONS, RowScope};
use crate::scope::{Permit, Scope, Update};

/// Who may go against the order of an ordered machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Back {
    /// Nobody.
    #[default]
    Never,
    /// Whoever may change all records of the module, not only own ones.
    AllRows,
    /// Whoever may change the record.
    Anyone,
    /// Whoever may do this, too, with all records of the module, such as
    /// `back = { permission = "purge" }`; others are forbidden to.
    Permission(Ident),
}

impl Back {
    pub(super) fn is_never(&self) -> bool {
        *self == Self::Never
    }

    /// What is wrong with it.
    pub(super) fn problem(&self) -> Option<String> {
        match self {
            Self::Permission(action) if !ACTIONS.contains(&action.as_str()) => Some(format!(
                "`{action}` is no action of a module; those are {}",
                ACTIONS.join(", ")
            )),
            _ => None,
        }
    }

    pub(super) fn words(&self) -> String {
        let forward = "Goes forward in the order of its values";
        match self {
            Self::Never => format!("{forward}."),
            Self::AllRows => format!("{forward}; back, for whoever may change all records."),
            Self::Anyone => "Its values are in order.".to_owned(),
            Self::Permission(action) => {
                format!("{forward}; back, for whoever has the permission to {action} all records.")
            }
        }
    }
}

/// Who changes a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer<'s> {
    /// Which records they may change.
    pub(crate) rows: RowScope,
    /// What else they may do.
    pub(crate) scope: Option<&'s Scope>,
}

impl<'s> Writer<'s> {
    pub(crate) fn of(permit: &'s Permit<Update>) -> Self {
        Self {
            rows: permit.rows().scope(),
            scope: Some(permit.scope()),
        }
    }

    /// Whether they may go against the order.
    ///
    /// # Errors
    /// [`Error::Forbidden`] where a permission is asked for that they lack.
    pub(super) fn goes_back(self, module: &CompiledModule, back: &Back) -> Result<bool> {
        match back {
            Back::Never => Ok(false),
            Back::AllRows => Ok(self.rows == RowScope::All),
            Back::Anyone => Ok(true),
            Back::Permission(action) => {
                let Some(scope) = self.scope else {
                    return Ok(false);
                };
                let operation = scope
                    .catalogue()
                    .operation(module.name().as_str(), action.as_str());
                let operation = operation.ok_or(Error::NotFound)?;
                let rows = scope.grants().rows(operation);
                match rows.is_some_and(|rows| rows.is_all()) {
                    true => Ok(true),
                    false => Err(scope.lacks(operation)),
                }
            }
        }
    }
}
