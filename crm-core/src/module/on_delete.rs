//! What a reference does when the record that it refers to is deleted.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{FieldSpec, FieldType, Ident, ModuleSpec};
use crate::error::FieldError;

/// Most modules that one field may refer to.
const MAX_TARGETS: usize = 50;

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

impl OnDelete {
    /// The rule of a list of references that states none: what goes leaves the list, unless that
    /// must not be empty.
    pub(super) fn of_links(required: bool) -> Self {
        match required {
            true => Self::Restrict,
            false => Self::SetNull,
        }
    }
}

impl FieldType {
    /// Whether it refers to other records.
    pub fn is_reference(&self) -> bool {
        self.on_delete().is_some()
    }

    /// Whether its values stand in a table of their own.
    pub(crate) fn is_linked(&self) -> bool {
        matches!(self, Self::References { .. })
    }

    /// Whether it refers to other records by a foreign key.
    pub(crate) fn has_key(&self) -> bool {
        matches!(self, Self::Reference { .. } | Self::References { .. })
    }

    /// What a field of this type does when a record is deleted that it refers to.
    pub(crate) fn on_delete(&self) -> Option<OnDelete> {
        match self {
            Self::Reference { on_delete, .. }
            | Self::References { on_delete, .. }
            | Self::AnyReference { on_delete, .. } => Some(*on_delete),
            _ => None,
        }
    }

    /// The modules that it may refer to.
    pub fn targets(&self) -> &[Ident] {
        match self {
            Self::Reference { module, .. } | Self::References { module, .. } => {
                std::slice::from_ref(module)
            }
            Self::AnyReference { modules, .. } => modules,
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

/// What is wrong with the modules that a field may refer to.
pub(super) fn refused_targets(name: &Ident, modules: &[Ident]) -> Option<(&'static str, String)> {
    if modules.is_empty() || modules.len() > MAX_TARGETS {
        let message = format!("`{name}` names 1 to {MAX_TARGETS} modules");
        return Some(("out_of_range", message));
    }
    let mut seen = HashSet::new();
    let twice = modules.iter().find(|module| !seen.insert(*module))?;
    Some(("duplicate", format!("`{name}` names {twice} twice")))
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
