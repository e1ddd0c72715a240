//! What a reference does when the record that it refers to is deleted.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{FieldSpec, FieldType, Ident, ModuleSpec};
use crate::error::FieldError;

/// What becomes of a record when one that it refers to is deleted.
///
/// The rule is the module author's: records that the caller cannot see follow it too. Each record
/// that goes or changes by it leaves an audit row and an event of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    /// It stays, and so does the other one: the delete is refused.
    #[default]
    Restrict,
    /// It is deleted as well.
    Cascade,
    /// It stays and refers to nothing.
    SetNull,
}

impl fmt::Display for OnDelete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restrict => "restrict",
            Self::Cascade => "cascade",
            Self::SetNull => "set_null",
        })
    }
}

impl FieldType {
    /// What a field of this type does when a record is deleted that it refers to.
    pub(crate) fn on_delete(&self) -> Option<OnDelete> {
        match self {
            Self::Reference { on_delete, .. } => Some(*on_delete),
            _ => None,
        }
    }

    /// The modules that it may refer to.
    pub(crate) fn targets(&self) -> &[Ident] {
        match self {
            Self::Reference { module, .. } => std::slice::from_ref(module),
            _ => &[],
        }
    }
}

/// The refusal of a rule that the field cannot follow.
pub(super) fn problem(field: &FieldSpec) -> Option<String> {
    match field.kind.on_delete() {
        Some(OnDelete::SetNull) if field.required => Some(format!(
            "`{}` is required and cannot be nulled; make it optional, or say restrict or cascade",
            field.name
        )),
        _ => None,
    }
}

/// Cascades of a declaration that could not be done: a record in the trash cannot outlive the one
/// that it refers to.
pub(crate) fn problems(spec: &ModuleSpec, specs: &[ModuleSpec]) -> Vec<FieldError> {
    let fields = spec.fields.iter().enumerate();
    let cascades = fields.filter(|(_, field)| field.kind.on_delete() == Some(OnDelete::Cascade));
    let mut problems = Vec::new();
    for (position, field) in cascades.filter(|_| spec.soft_delete) {
        let goes = |name: &Ident| {
            let target = specs.iter().find(|other| other.name == *name);
            target.is_some_and(|target| !target.soft_delete)
        };
        if let Some(target) = field.kind.targets().iter().find(|name| goes(name)) {
            problems.push(FieldError {
                pointer: format!("/{}/fields/{position}/on_delete", spec.name),
                code: "not_supported",
                message: format!(
                    "{} has a trash and {target} has none: what goes to the trash cannot refer to \
                     what is gone; give {target} `soft_delete`, or say restrict or set_null",
                    spec.name
                ),
            });
        }
    }
    problems
}
