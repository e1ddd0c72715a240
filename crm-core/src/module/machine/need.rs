//! What a state needs of a record's fields: a value, or one that compares so.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::possible;
use crate::error::FieldError;
use crate::module::{CompiledModule, FieldSpec, Ident};
use crate::record::{Comparison, compare, comparisons};
use crate::value::Value;

/// What a state needs of a field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "name a field, or write an object of a field and its operators"
)]
pub enum Need {
    /// A value: `"amount"`.
    Present(Ident),
    /// A value that compares so, by the operators of the query language, all of them:
    /// `{ field = "amount", gt = 0 }`.
    Compared {
        /// The field.
        field: Ident,
        /// Its operators with their operands.
        #[serde(flatten)]
        operators: Map<String, Json>,
    },
}

impl From<Ident> for Need {
    fn from(field: Ident) -> Self {
        Self::Present(field)
    }
}

impl Need {
    /// The field that it is about.
    pub fn field(&self) -> &Ident {
        match self {
            Self::Present(field) | Self::Compared { field, .. } => field,
        }
    }

    /// The need in words: `amount (gt 0)`.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Present(field) => field.to_string(),
            Self::Compared { field, operators } => format!("{field} ({})", told(operators)),
        }
    }

    /// What does not fit the field.
    pub(super) fn problem(&self, field: &FieldSpec) -> Option<(&'static str, String)> {
        let Self::Compared { operators, .. } = self else {
            return None;
        };
        let name = &field.name;
        match comparisons(name.as_str(), &field.kind, operators) {
            Ok(by) if possible::is_never(field, &by) => {
                let message = format!("no value of `{name}` is ever {}", told(operators));
                Some(("never_met", message))
            }
            Ok(_) => None,
            Err(unfit) => Some((unfit.code, format!("`{name}`: {}", unfit.message))),
        }
    }

    pub(super) fn compile(&self, at: usize, field: &FieldSpec) -> Option<Needed> {
        let compared = match self {
            Self::Present(_) => None,
            Self::Compared { operators, .. } => Some(Compared {
                words: told(operators),
                by: comparisons(field.name.as_str(), &field.kind, operators).ok()?,
            }),
        };
        Some(Needed { at, compared })
    }
}

/// The operators in words: `gt 0 and lt 9`.
fn told(operators: &Map<String, Json>) -> String {
    let words = operators.iter().map(|(op, operand)| match operand {
        Json::String(text) => format!("{op} {text}"),
        operand => format!("{op} {operand}"),
    });
    words.collect::<Vec<_>>().join(" and ")
}

/// A need with its field turned into a position.
#[derive(Debug, Clone)]
pub(super) struct Needed {
    at: usize,
    compared: Option<Compared>,
}

#[derive(Debug, Clone)]
struct Compared {
    words: String,
    /// Each with whether it is to hold.
    by: Vec<(Comparison, bool)>,
}

impl Needed {
    /// Why these values do not meet it.
    pub(super) fn unmet(
        &self,
        module: &CompiledModule,
        state: &str,
        values: &[Value],
    ) -> Option<FieldError> {
        let (field, value) = (&module.fields()[self.at], &values[self.at]);
        let met = match &self.compared {
            None => !value.is_null(),
            Some(Compared { by, .. }) => by.iter().all(|(comparison, holds)| {
                compare(value, comparison, field.folds(), module.clock()) == *holds
            }),
        };
        if met {
            return None;
        }
        let (code, message) = match &self.compared {
            Some(Compared { words, .. }) if !value.is_null() => (
                "needed_by_state",
                format!("must be {words} in the state {state}"),
            ),
            _ => ("required", format!("is required in the state {state}")),
        };
        Some(FieldError::new(field.name.as_str(), code, message))
    }
}
