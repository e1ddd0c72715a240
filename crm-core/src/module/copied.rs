//! Copied fields: values taken from the record that a reference names, at the time when the
//! reference gets its value.

use serde_json::Value as Json;

use super::words::FIELD_TYPES;
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

fn parts<'s>(fields: &'s [FieldSpec], copied: &'s str) -> Option<(usize, &'s Ident, &'s str)> {
    let (reference, source) = copied.split_once('.')?;
    let at = fields.iter().position(|field| field.name == *reference)?;
    match &fields.get(at)?.kind {
        FieldType::Reference { module, .. } => Some((at, module, source)),
        _ => None,
    }
}

/// The module that a field of these copies from, and the name of the field there.
pub(crate) fn source<'s>(
    fields: &'s [FieldSpec],
    field: &'s FieldSpec,
) -> Option<(&'s Ident, &'s str)> {
    let (_, target, source) = parts(fields, field.copied.as_deref()?)?;
    Some((target, source))
}

/// The copies of a declaration that was checked, its computed fields taken out.
pub(super) fn compile(spec: &ModuleSpec) -> Vec<Copied> {
    let fields = spec.fields.iter().enumerate();
    let copies = fields.filter_map(|(position, field)| {
        let (reference, target, source) = parts(&spec.fields, field.copied.as_deref()?)?;
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
        if parts(&spec.fields, copied).is_none() {
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
        let Some((target, source)) = self::source(&spec.fields, field) else {
            continue;
        };
        let Some(target) = specs.iter().find(|other| other.name == *target) else {
            continue;
        };
        let found = target.fields.iter().find(|other| other.name == *source);
        if let Some(message) = misfit(field, (&target.name, source), found) {
            problems.push(FieldError {
                pointer: format!("/{}/fields/{position}/copied", spec.name),
                code: "invalid",
                message,
            });
        }
    }
    problems
}

/// Why a field cannot be a copy of the field `found` under this name in this module.
pub(crate) fn misfit(
    field: &FieldSpec,
    (target, source): (&Ident, &str),
    found: Option<&FieldSpec>,
) -> Option<String> {
    match found {
        None => Some(format!("{target} has no field `{source}`")),
        Some(found) if found.write_only || found.computed.is_some() => {
            Some(format!("`{source}` of {target} has no value to copy"))
        }
        Some(found) if !takes(field, found) => Some(format!(
            "`{source}` of {target} is declared otherwise, {}: give `{}` the same type and rules",
            difference(field, found),
            field.name
        )),
        Some(_) => None,
    }
}

/// What keeps a field from taking every value of `source`.
fn difference(field: &FieldSpec, source: &FieldSpec) -> String {
    let (here, there) = (field.kind.name(), source.kind.name());
    if here != there {
        return format!("as {there} and not {here}");
    }
    let [here, there] = [field, source].map(|spec| serde_json::to_value(spec).unwrap_or_default());
    let word = FIELD_TYPES
        .iter()
        .find(|word| word.name == field.kind.name());
    let mut keys: Vec<&str> = word.map_or_else(Vec::new, |word| word.keys.to_vec());
    keys.retain(|key| match (&field.kind, &source.kind) {
        (FieldType::Text { min, .. }, FieldType::Text { min: from, .. }) if *key == "min" => {
            min > from
        }
        (FieldType::Text { max, .. }, FieldType::Text { max: upto, .. }) if *key == "max" => {
            max < upto
        }
        _ => here.get(key) != there.get(key),
    });
    let said = |spec: &Json, key: &str| match spec.get(key) {
        Some(value) => format!("{key} = {value}"),
        None => format!("no {key}"),
    };
    let differ = keys.iter().map(|key| {
        let (there, here) = (said(&there, key), said(&here, key));
        format!("with {there} and not {here}")
    });
    differ.collect::<Vec<_>>().join(", ")
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
        (FieldType::Enum { values }, FieldType::Enum { values: others }) => {
            others.iter().all(|value| values.contains(value))
        }
        (kind, other) => kind == other,
    }
}

impl CompiledModule {
    /// Its copied fields.
    pub(crate) fn copies(&self) -> &[Copied] {
        &self.copies
    }

    /// The fields that are copies of this field of this module.
    pub(crate) fn copies_of(&self, module: &str, field: &str) -> impl Iterator<Item = &FieldSpec> {
        let of_it = move |one: &&Copied| one.target == *module && one.source == *field;
        let copies = self.copies.iter().filter(of_it);
        copies.map(|one| &self.fields()[one.position])
    }

    /// The fields of this module that could not be made without this one: those that are computed
    /// of it, and those that are copied by it.
    pub(crate) fn made_of(&self, name: &str) -> impl Iterator<Item = &FieldSpec> {
        let copied_by = move |one: &&Copied| self.fields()[one.reference].name == *name;
        let copies = self.copies.iter().filter(copied_by);
        let copies = copies.map(|one| &self.fields()[one.position]);
        self.computed_of(name).chain(copies)
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
