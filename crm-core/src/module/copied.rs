//! Copied fields: values taken from the record that a reference names, at the time when the
//! reference gets its value.

use super::{CompiledModule, FieldSpec, FieldType, Ident, ModuleSpec};
use crate::error::FieldError;
use crate::value::Value;

/// A copied field: where it gets its value from.
#[derive(Debug, Clone)]
pub(crate) struct Copied {
    /// The field that gets the value.
    pub(crate) position: usize,
    /// The reference.
    pub(crate) reference: usize,
    /// The module referred to.
    pub(crate) target: Ident,
    /// The name of the field there.
    pub(crate) source: String,
}

fn parts<'s>(spec: &'s ModuleSpec, copied: &'s str) -> Option<(usize, &'s Ident, &'s str)> {
    let (reference, source) = copied.split_once('.')?;
    let mut fields = spec.fields.iter();
    let at = fields.position(|field| field.name == *reference)?;
    match &spec.fields.get(at)?.kind {
        FieldType::Reference { module, .. } => Some((at, module, source)),
        _ => None,
    }
}

/// The copies of a declaration that was checked, its computed fields taken out.
pub(super) fn compile(spec: &ModuleSpec) -> Vec<Copied> {
    let fields = spec.fields.iter().enumerate();
    let copies = fields.filter_map(|(position, field)| {
        let (reference, target, source) = parts(spec, field.copied.as_deref()?)?;
        Some(Copied {
            position,
            reference,
            target: target.clone(),
            source: source.to_owned(),
        })
    });
    copies.collect()
}

/// What is wrong with the copied fields of a declaration by itself.
pub(super) fn check(spec: &ModuleSpec) -> Vec<FieldError> {
    let mut problems = Vec::new();
    for (position, field) in spec.fields.iter().enumerate() {
        let Some(copied) = &field.copied else {
            continue;
        };
        let mut refuse = |code, message: String| {
            problems.push(FieldError {
                pointer: format!("/fields/{position}/copied"),
                code,
                message,
            });
        };
        if parts(spec, copied).is_none() {
            let message = format!(
                "{copied:?} names no reference of this module and a field there: `company_id.region`"
            );
            refuse("unknown_field", message);
        }
        let flags = [
            ("required", field.required),
            ("unique", field.unique),
            ("default", field.default.is_some()),
            ("immutable", field.immutable),
            ("max_items", field.kind.is_linked()),
        ];
        if let Some((flag, _)) = flags.into_iter().find(|(_, set)| *set) {
            let message = format!("`{}` is copied; leave out `{flag}`", field.name);
            refuse("not_supported", message);
        }
    }
    problems
}

/// What is wrong with the copied fields of a declaration among others.
pub(crate) fn problems(spec: &ModuleSpec, specs: &[ModuleSpec]) -> Vec<FieldError> {
    let mut problems = Vec::new();
    for (position, field) in spec.fields.iter().enumerate() {
        let copied = field.copied.as_deref();
        let Some((_, target, source)) = copied.and_then(|copied| parts(spec, copied)) else {
            continue;
        };
        let Some(target) = specs.iter().find(|other| other.name == *target) else {
            continue;
        };
        let found = target.fields.iter().find(|other| other.name == *source);
        let reason = match found {
            None => format!("{} has no field `{source}`", target.name),
            Some(found) if found.write_only || found.computed.is_some() => {
                format!("`{source}` of {} has no value to copy", target.name)
            }
            Some(found) if !takes(field, found) => format!(
                "`{source}` of {} is declared otherwise: give `{}` the same type and rules",
                target.name, field.name
            ),
            Some(_) => continue,
        };
        problems.push(FieldError {
            pointer: format!("/{}/fields/{position}/copied", spec.name),
            code: "invalid",
            message: reason,
        });
    }
    problems
}

/// Whether every value of `source` is one of `field`.
fn takes(field: &FieldSpec, source: &FieldSpec) -> bool {
    match (&field.kind, &source.kind) {
        (
            FieldType::Text { min, max },
            FieldType::Text {
                min: from,
                max: upto,
            },
        ) => min <= from && upto <= max,
        (kind, other) => kind == other,
    }
}

impl CompiledModule {
    /// Its copied fields.
    pub(crate) fn copies(&self) -> &[Copied] {
        &self.copies
    }

    /// The copied fields whose reference is another one than before.
    pub(crate) fn to_copy<'m>(
        &'m self,
        before: Option<&'m [Value]>,
        after: &'m [Value],
    ) -> impl Iterator<Item = &'m Copied> {
        self.copies.iter().filter(move |copied| {
            let old = before.and_then(|before| before.get(copied.reference));
            old != after.get(copied.reference)
        })
    }
}
